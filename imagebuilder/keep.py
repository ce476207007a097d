"""Results that need not be built: the one that is there, or one that the cache keeps, told by its key; and
what is written beside and kept of one that was built."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from imagebuilder.config.places import INPUTS
from imagebuilder.config.request import Request
from imagebuilder.decide import Decided, Inputs
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import write_whole
from imagebuilder.host.kept_builds import KeptBuilds, digest_key
from imagebuilder.host.stamps import Looks
from imagebuilder.host.tree_look import TreeLook, look_at_tree
from imagebuilder.log import Log
from imagebuilder.made_of import SIGN, BuildInputs, ResultFile, changes, made_of
from imagebuilder.model.package import Package
from imagebuilder.model.result import ImageFile, Result
from imagebuilder.report.files import RESULT, SIGNATURE, write_result
from imagebuilder.report.sums import write_sums
from imagebuilder.stage import Staged
from imagebuilder.stamped import Stamping
from imagebuilder.trust.signing_key import user_keys, user_pair
from imagebuilder.trust.tree_identity import changed_since
from imagebuilder.unchanged import State, damaged, no_inputs, read_inputs
from imagebuilder.workspace import Workspace


@dataclass(frozen=True)
class Current:
    """A result that is up to date now. state: what had to be done for it; rebuilt: why what was there did not
    do, a line each, none where nothing was there."""

    place: Path
    result: Result
    state: State
    rebuilt: tuple[str, ...] = ()


class Keeping:
    """What one build asks of the results that there are, and adds to them."""

    def __init__(self, request: Request, inputs: Inputs) -> None:
        """Before anything is decided. HostError where the cache cannot be written."""
        self._request, self._inputs = request, inputs
        self._looks = Looks(digest_key(request.cache), request.cache)
        self._stamping = Stamping(request, inputs, self._looks)
        self._builds = KeptBuilds(request.cache)
        self._record: BuildInputs | None = None
        self._tree, self._look = Path(), TreeLook("", (), 0)  # said by decide()

    def decide(self, decided: Decided, over: Staged, made: Mapping[str, Package]) -> None:
        """Say what the image will be made of, before make makes it. Raises as made_of()."""
        self._tree = Path(decided.plan.tree.folder)
        self._look = self._looks.tree(self._tree)
        found = made_of(
            self._inputs,
            decided,
            over,
            made,
            self._looks,
            options={
                "--no-sandbox": not self._request.sandbox,
                "--accept-unchecked": self._request.accept_unchecked,
                "--no-trial": not self._request.trial,
                SIGN: self._request.library.settings().sign,
            },
            programs=self._stamping.programs(),
            look=self._look,
        )
        direct = self._stamping.direct(decided)
        self._record = BuildInputs(
            key=found.key(),
            made_of=found,
            files={},
            direct=None if direct is None else dict(direct),
            indirect=self._stamping.indirect,
        )

    @property
    def record(self) -> BuildInputs:
        """What is known of the image. LookupError before decide()."""
        if self._record is None:
            raise LookupError("nothing was decided yet")
        return self._record

    def why(self, place: Path) -> tuple[str, ...]:
        """What keeps the result in a place from being the one that is wanted, a line each; nothing where it
        is that, or where there is none."""
        raw = read_inputs(place)
        if raw is None:
            return () if not (place / RESULT).exists() else (no_inputs(place),)
        try:
            before = BuildInputs.model_validate_json((place / INPUTS).read_bytes())
        except (OSError, ValidationError):
            return (f"its {INPUTS} is damaged",)
        if before.key != self.record.key:
            differs = tuple(changes(before.made_of, self.record.made_of))
            mixed = "" if before.key else before.indirect
            return differs or (mixed or "what it is made of changed",)
        return tuple(damaged(place, raw))

    def standing(self, workspace: Workspace) -> Result | None:
        """The result that is in its place, if it is what a build would give; its record is written anew, so
        that the next time less has to be looked at."""
        place = workspace.place
        if read_inputs(place) is None or self.why(place):
            return None
        before = BuildInputs.model_validate_json((place / INPUTS).read_bytes())
        result = standing_result(place)
        if result is not None:
            fresh = self.record.model_copy(update={"files": before.files})
            write_whole(place / INPUTS, _text(fresh))
            workspace.failure_log.unlink(missing_ok=True)
        return result

    def take(self, workspace: Workspace, decided: Decided, log: Log) -> Result | None:
        """The result that the cache keeps, in the workspace's folder, compared with its sums; what it says of
        where its tree and feeds are from is put right. None where there is none."""
        folder, key = workspace.result, self.record.key
        names = self._builds.take(key, folder)
        if names is None:
            return None
        record, wrong = _kept_record(folder, key, names)
        result = standing_result(folder)
        if record is None or result is None:
            log.warn(f"a result in the cache was damaged and is removed: {wrong or RESULT}")
            self._builds.drop(key)
            for file in folder.iterdir():
                file.unlink()
            return None
        for name, known in record.files.items():
            (folder / name).chmod(known.mode)
        from imagebuilder.made import tree_facts  # noqa: PLC0415 - it takes as long as all else here

        here = {"tree": tree_facts(decided.source, decided.plan), "feeds": decided.supply.trust()}
        if result.tree != here["tree"] or result.feeds != here["feeds"]:
            result = result.model_copy(update=here)
            write_result(result, folder)
            pair = user_pair(user_keys()) if (folder / SIGNATURE).exists() else None
            write_sums(folder, {image.file: image.sha256 for image in result.images}, pair)
        self.write(folder)
        return result

    def look_again(self, log: Log) -> None:
        """Once make has ended: where what the image was made of was changed since it was read, nobody can say
        what is in the image. It is said, the result is not kept, and it is never up to date."""
        changed = list(self._stamping.changed())
        if look_at_tree(self._tree).state != self._look.state:
            files = changed_since(self._tree, self._looks.now_ns)
            changed += [str(self._tree / name) for name in files[:1]] or [str(self._tree)]
        if changed:
            more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
            why = f"{changed[0]}{more} changed while it was built"
            log.warn(f"{why}: build it again, since nobody can say which of both is in the image")
            self._record = self.record.model_copy(update={"key": "", "direct": None, "indirect": why})

    def write(self, folder: Path, images: Iterable[ImageFile] = ()) -> None:
        """Write inputs.json beside a result, whose other files are all there. images: of it, whose sums are
        known already."""
        sums = {each.file: each.sha256 for each in images}
        there = (file for file in sorted(folder.iterdir()) if file.name != INPUTS)
        files = {file.name: _described(file, sums.get(file.name)) for file in there}
        self._record = self.record.model_copy(update={"files": files})
        (folder / INPUTS).write_bytes(_text(self.record))

    def keep(self, folder: Path, log: Log) -> None:
        """Have the cache keep a result that write() has described, unless look_again() found something.
        HostError where it cannot be written."""
        if not self.record.key:
            return
        private = self._request.private or bool(self.record.made_of.secrets)
        self._builds.keep(self.record.key, folder, log, private=private)


def _kept_record(folder: Path, key: str, names: Iterable[str]) -> tuple[BuildInputs | None, str]:
    """The record of a result that was kept under a key, or what is wrong with it. names: of all that was
    kept, of which files are in the folder."""
    try:
        record = BuildInputs.model_validate_json((folder / INPUTS).read_bytes())
    except (OSError, ValidationError):
        return None, f"its {INPUTS} is damaged"
    if record.key != key:
        return None, f"its {INPUTS} is another's"
    strange = sorted(set(names) - {INPUTS, *record.files})
    if strange:
        return None, f"{strange[0]} does not belong there"
    gone = sorted(record.files.keys() - set(names))
    if gone:
        return None, f"{gone[0]} is gone"
    wrong = next(damaged(folder, record.model_dump()), "")
    return (None if wrong else record), wrong


def _described(file: Path, sha256: str | None) -> ResultFile:
    status = file.stat()
    mode = stat.S_IMODE(status.st_mode)
    return ResultFile(size=status.st_size, sha256=sha256 or sha256_of(file), mode=mode)


def _text(record: BuildInputs) -> bytes:
    return record.model_dump_json(indent=1).encode() + b"\n"


def standing_result(folder: Path) -> Result | None:
    """What the result.json of a folder says; None where there is none that this version can read."""
    try:
        return Result.model_validate_json((folder / RESULT).read_bytes())
    except (OSError, ValidationError):
        return None
