"""What is handed over beside the images: what they were made of, what they hold, and how to use them.

Most of it is known before make has ended, and is made ready while make runs (see build.py): the lock, and the
bill of materials but for the images' sums. The rest is written last, the sums of all files at the very end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuilder import __version__
from imagebuilder.choose import Laid
from imagebuilder.config.lock import lock_text, read_lock_file
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.request import Request
from imagebuilder.decide import Decided, Inputs, entry_of
from imagebuilder.errors import FaultsError
from imagebuilder.host.fs import sha256_of
from imagebuilder.made import Made
from imagebuilder.model.result import Result
from imagebuilder.model.tree import TreeError
from imagebuilder.packages.feed import FEED, in_folder
from imagebuilder.packages.lock import differences
from imagebuilder.report.changes import Changes, changes
from imagebuilder.report.files import (
    LOCK,
    MANIFEST,
    REPORT,
    RESULT,
    SBOM,
    SUMS,
    ResultError,
    read_result,
    write_result,
)
from imagebuilder.report.html import environment
from imagebuilder.report.page import PageFacts, report_page
from imagebuilder.report.sbom import BillFacts, bill, bill_text
from imagebuilder.report.sums import write_sums
from imagebuilder.tree.reproducible import source_date_epoch
from imagebuilder.trust.signing_key import user_keys, user_pair
from imagebuilder.workspace import Workspace

_TEMPLATES = ("report.html", "base.html", "macros.html")  # the report's, and what it takes of others


@dataclass(frozen=True)
class Foreseen:
    """What is ready before the images are. locked: None where not all of the tree may be read, so that nobody
    can say what it is, which warnings tell; lock: its file's text; epoch: seconds since 1970 that everything
    in the images is dated."""

    inputs: Inputs
    decided: Decided
    locked: LockedBoard | None
    lock: str
    facts: BillFacts
    bill: dict[str, Any]
    epoch: int
    warnings: tuple[str, ...] = ()


def foresee(inputs: Inputs, decided: Decided, laid: Laid) -> Foreseen:
    """All that need not wait for make."""
    plan, config = decided.plan, inputs.loaded.config
    locked: LockedBoard | None = None
    warnings: tuple[str, ...] = ()
    try:
        locked = entry_of(inputs, decided, laid.made)
    except TreeError as error:
        warnings = (f"there is no {LOCK} in the result: {error.message}",)
    own = decided.local.own
    tree = plan.tree
    epoch = source_date_epoch(Path(tree.folder))
    facts = BillFacts(
        config=config.name,
        board=inputs.board.name,
        builder=__version__,
        distribution=tree.distribution,
        version=tree.version,
        arch=tree.arch,
        manager=tree.package_manager,
        packages=laid.packages,
        digests=_digests(decided, laid),
        pins=own.resolved.pins,
        packed={} if own.sources is None else own.sources.names,
        overlays=plan.overlays,
        digest="" if locked is None else locked.digest,
        epoch=epoch,
    )
    lock = "" if locked is None else lock_text(config.name, {inputs.board.id: locked})
    for template in _TEMPLATES:  # compiled by now
        environment().get_template(template)
    return Foreseen(inputs, decided, locked, lock, facts, bill(facts), epoch, warnings)


def _digests(decided: Decided, laid: Laid) -> dict[str, str]:
    """The SHA-256 of packages' files of which the index states none, as apk's."""
    supply = decided.supply
    places = [in_folder(decided.job.work / FEED), in_folder(supply.tree / "packages")]
    found = {}
    for each in laid.packages:
        if not each.package.sha256:
            files = (supply.base.get(each.package.filename), *(find(each.package) for find in places))
            file = next(filter(None, files), None)
            if file is not None:
                found[each.name] = sha256_of(file)
    return found


def write_papers(
    request: Request, foreseen: Foreseen, found: Made, result: Result, workspace: Workspace
) -> None:
    """Write all that lies beside the images, the sums of everything last. UserError where the result to
    compare with cannot be read; KeyFileError for a damaged signing key."""
    folder = workspace.result
    profile = foreseen.decided.plan.profile
    board = foreseen.decided.board.for_profile(profile)
    compared, earlier = _compared(request, foreseen, result, workspace.place)
    write_result(result, folder)
    (folder / SBOM).write_bytes(bill_text(foreseen.facts, foreseen.bill, result.images))
    if foreseen.lock:
        (folder / LOCK).write_text(foreseen.lock)
    papers = [RESULT, MANIFEST, SBOM, *([LOCK] if foreseen.lock else ()), SUMS]
    root = next((each.root for each in found.verified.values() if each.root is not None), None)
    facts = PageFacts(
        result=result,
        board=foreseen.inputs.board.name,
        formats={kind: image.format for kind, image in board.images.items()},
        note=profile.note,
        packages=foreseen.facts.packages,
        checks={file: verified.checks for file, verified in found.verified.items()},
        root=root,
        epoch=foreseen.epoch,
        project=str(request.library.root),
        compared=compared,
        earlier=earlier,
        papers=papers,
    )
    (folder / REPORT).write_text(report_page(facts))
    pair = user_pair(user_keys()) if request.library.settings().sign else None
    write_sums(folder, {image.file: image.sha256 for image in result.images}, pair)


def _compared(
    request: Request, foreseen: Foreseen, result: Result, place: Path
) -> tuple[Changes | None, str]:
    """What is other than in the result that somebody names, or in the one whose place this will take; and
    what that is called."""
    if request.against is not None:
        before = _result_in(request.against, result)
        return _changes(before, foreseen, result), f"{before}"
    if not (place / RESULT).is_file():
        return None, ""
    try:
        return _changes(place, foreseen, result), "the build that was here before"
    except (ResultError, FaultsError):
        return None, ""  # of another version of this program: there is nothing that both say


def _result_in(given: Path, result: Result) -> Path:
    """The folder of a result: as it was given, or for this config and board below it."""
    below = given / result.config / result.board
    return below if (below / RESULT).is_file() else given


def _changes(before: Path, foreseen: Foreseen, result: Result) -> Changes:
    lines: Sequence[str] = ()
    earlier = read_result(before)
    if foreseen.locked is not None and (before / LOCK).is_file():
        locked = read_lock_file(before / LOCK).board.get(earlier.board)
        lines = () if locked is None else _inputs(locked, foreseen.locked)
    return changes(earlier, result, tuple(lines))


def _inputs(before: LockedBoard, now: LockedBoard) -> tuple[str, ...]:
    """What differs of what both are made of, but for the packages, which have a table of their own."""
    same = {"package": now.parts.package}
    parts = before.parts.model_copy(update=same)
    updated = {"parts": parts, "original": now.original, "digest": now.digest}
    return differences(before.model_copy(update=updated), now)
