"""What make has made: checked against plan and board, tried, measured, and what is said of it in the end.

A module of its own, so that it can be loaded while make runs (see build.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder import __version__
from imagebuilder.budget.budget import check_budget, real_budget
from imagebuilder.config.board import NOT_OPENED, UNKNOWN
from imagebuilder.config.request import Request
from imagebuilder.decide import Decided, Inputs
from imagebuilder.find_tree import TreeSource
from imagebuilder.firmware.sign import Signed, sign_images
from imagebuilder.firmware.verify import (
    Ahead,
    UnsafeImageError,
    Verified,
    check_flashable,
    passed,
    rootfs_sizes,
)
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.budget import Budgets, FlashBudget
from imagebuilder.model.filespec import FilespecRecord
from imagebuilder.model.result import (
    ImageFile,
    InstalledPackage,
    ProfileFacts,
    Result,
    StepTime,
    TreeFacts,
)
from imagebuilder.python.bytecode.bytecode import uncompiled
from imagebuilder.report.files import MANIFEST
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.modes import open_to_all
from imagebuilder.tree.collect import (
    MadeImage,
    MakeReport,
    check_images,
    check_manifest,
    digested,
    find_images,
    find_rootfs,
    made_files,
    package_files,
    read_manifest,
    services,
    sizes_by_package,
)
from imagebuilder.tree.measure import not_made
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.profiles_json import profile_facts
from imagebuilder.tree.tree import settings_of
from imagebuilder.trial.module_check import Owners
from imagebuilder.trial.trial import TrialAsked, TrialFailedError, TrialFound, not_tried, try_root
from imagebuilder.trust.signing_key import signs_images, user_keys, user_pair
from imagebuilder.workspace import Workspace


@dataclass(frozen=True)
class Made:
    """What was found of a build. verified: of each image, by its file; unchecked: files of those of which
    nothing but the size could be checked. uncompiled: paths of Python sources
    that the device would compile at each start. signed: files of images that the user's key signed, and its
    number. trial: None before it."""

    images: tuple[ImageFile, ...]
    packages: tuple[InstalledPackage, ...]
    verified: Mapping[str, Verified]
    unchecked: tuple[str, ...]
    flash: FlashBudget | None
    uncompiled: tuple[str, ...]
    signed: Mapping[str, str]
    device: ProfileFacts
    trial: TrialFound | None = None


def check_made(
    inputs: Inputs,
    decided: Decided,
    report: MakeReport,
    workspace: Workspace,
    *,
    secrets: Collection[str],
    ahead: Ahead,
) -> Made:
    """Everything that can be checked before images are handed over; they are moved to the result, and signed
    when all has passed. secrets: paths of overlays' files that not everybody on the device may read; ahead:
    what was looked at while make ran.

    BuildError, BudgetError and UnsafeImageError for what is missing, does not fit or must not be flashed;
    KeyFileError for a damaged signing key.
    """
    board, plan, view = decided.board, decided.plan, decided.job.view
    log = decided.job.log
    images, packages = _verify(inputs, decided, report, workspace)
    formats = {kind: image.format for kind, image in board.for_profile(plan.profile).images.items()}
    unread = {kind for kind, form in formats.items() if form in NOT_OPENED}
    verified = check_flashable(
        board, images, workspace.result, plan.tree.release, log, unread=unread, ahead=ahead
    )
    check_secrets(secrets, verified, find_rootfs(view.changed, plan.tree.places))
    unchecked = tuple(
        image.file
        for image in images
        if image.type in unread and (formats[image.type] == UNKNOWN or verified[image.file].root is None)
    )
    flash = _check_flash(decided)
    for service in sorted(set(plan.disabled_services) - services(view.changed, plan.tree.places)):
        log.warn(f"services.disabled names '{service}', which this image does not have")
    sources = _uncompiled(plan, view, log)
    signed = _sign(inputs, decided, images, report, workspace)
    return Made(
        signed.images,
        packages,
        verified,
        unchecked,
        flash,
        sources,
        dict(signed.keys),
        profile_facts(workspace.work / "bin", plan, inputs.board.name, log),
    )


def check_secrets(secrets: Collection[str], verified: Mapping[str, Verified], made: Path | None) -> None:
    """UnsafeImageError where everybody on the device could read a file that holds a secret. made: make's own
    root file system, for images whose own cannot be read."""
    roots = [each.root for each in verified.values() if each.root is not None]
    modes = [(file.path, file.mode) for root in roots for file in root.files if file.path in secrets]
    if not roots and made is not None:
        modes = [(path, item.mode) for path, item in read_tree(made).items() if path in secrets]
    open_files = sorted({path for path, mode in modes if open_to_all(mode)})
    if open_files:
        raise UnsafeImageError(
            f"everybody on the device could read what holds a secret: {', '.join(open_files)}",
            hint="a package's script or the tree's Makefile changed the mode that the overlay has: build.log",
        )


def result_of(
    inputs: Inputs,
    decided: Decided,
    made: Made,
    *,
    filespecs: tuple[FilespecRecord, ...],
    warnings: tuple[str, ...],
    steps: tuple[StepTime, ...],
) -> Result:
    """All that is known of a build."""
    plan, view = decided.plan, decided.job.view
    trial = made.trial or not_tried("the build left it out")
    return Result(
        builder=__version__,
        config=plan.config,
        board=plan.board,
        profile=plan.profile.name,
        python=plan.python,
        tree=tree_facts(decided.source, plan),
        feeds=decided.supply.trust(),
        view=view.kind,
        sandboxed=view.sandboxed,
        make=plan.make,
        packages=made.packages,
        images=made.images,
        checks={file: passed(verified) for file, verified in made.verified.items()},
        unchecked=made.unchecked,
        rootfs=rootfs_sizes(made.verified),
        flash=made.flash,
        ram=decided.budgets.ram,
        overlays=plan.overlays,
        filespecs=filespecs,
        trimmed=plan.trimmed,
        shaken=plan.shaken,
        starts=trial.starts,
        bytecode=trial.bytecode,
        trial=trial.report,
        uncompiled=made.uncompiled,
        signed=dict(made.signed),
        secrets=tuple(name for each in inputs.overlays for name in each.secrets()),
        disabled_services=plan.disabled_services,
        warnings=warnings,
        steps=steps,
        device=made.device,
    )


def _uncompiled(plan: Plan, view: PrivateView, log: Log) -> tuple[str, ...]:
    """The Python sources in the image that the device would compile at each start."""
    version = next((each.version for each in plan.install if each.name == "python3-base"), None)
    root = find_rootfs(view.changed, plan.tree.places)
    if version is None or root is None:
        return ()
    found = uncompiled(read_tree(root), ".".join(version.split(".")[:2]))
    modules = [each.path for each in found if each.why == "none"]
    if modules:
        log.warn(
            f"{len(modules)} Python modules have no bytecode and are compiled at each start: {modules[0]}"
        )
    return tuple(each.path for each in found)


def _verify(
    inputs: Inputs, decided: Decided, report: MakeReport, workspace: Workspace
) -> tuple[tuple[ImageFile, ...], tuple[InstalledPackage, ...]]:
    """The images that the board needs exist and fit, and the manifest can be read; both go to the result."""
    bin_dir = workspace.work / "bin"
    plan = decided.plan
    made = made_files(bin_dir)
    board = decided.board.for_profile(plan.profile)
    found = find_images(made, board, plan.profile.name, plan.tree.profiles)
    _check_sizes(inputs, decided, found, report, made)
    images = digested(bin_dir, found)
    manifest, packages = read_manifest(bin_dir)
    check_manifest(plan, packages)
    for image in images:
        (bin_dir / image.file).rename(workspace.result / image.file)
    manifest.rename(workspace.result / MANIFEST)
    return images, packages


def _check_sizes(
    inputs: Inputs,
    decided: Decided,
    images: Sequence[MadeImage],
    report: MakeReport,
    made: Collection[str] = (),
) -> None:
    plan, view = decided.plan, decided.job.view
    board, found = decided.board.for_profile(plan.profile), decided.budgeting
    left_out = frozenset[str]() if isinstance(found, str) else not_made(found.said.images, board)
    check_images(
        board,
        images,
        report,
        lambda: sizes_by_package(view.changed, plan.tree.places),
        made=made,
        not_made=left_out,
        rootfs_partsize=inputs.loaded.config.image.rootfs_partsize,
        python=plan.python not in ("none", "micropython"),
    )


def _sign(
    inputs: Inputs,
    decided: Decided,
    images: tuple[ImageFile, ...],
    report: MakeReport,
    workspace: Workspace,
) -> Signed:
    """The user's signature in place of that of the tree's key, which make could read. BuildError where an
    image is too large with it: make may have put something smaller there."""
    tree = Path(decided.plan.tree.folder)
    if not signs_images(tree, settings_of(tree)):
        return Signed(images, {})
    signed = sign_images(images, workspace.result, user_pair(user_keys()))
    sizes = [MadeImage(each.file, each.type, each.size, each.required) for each in signed.images]
    _check_sizes(inputs, decided, sizes, report)
    return signed


def try_made(request: Request, inputs: Inputs, decided: Decided, made: Made) -> Made:
    """The same, with what a trial of the root file system says that make has built: see trial.try_root().
    TrialFailedError where it does not stand it."""
    root = find_rootfs(decided.job.view.changed, decided.plan.tree.places)
    why = "--no-trial" if not request.trial else "make left no root file system" if root is None else ""
    if root is None or why:
        decided.job.log.note(f"the image was not tried: {why}")
        return replace(made, trial=not_tried(why))
    facts = next((each.root for each in made.verified.values() if each.root is not None), None)
    names = [each.name for each in decided.plan.install]
    owners = {path: name for name in names for path in package_files(root, [name])}
    config = inputs.loaded.config
    asked = TrialAsked(
        trials=config.trial,
        traces=config.python.trace,
        dropped=decided.local.remade.dropped,
        owners=Owners(facts.owners if facts is not None else owners, decided.local.own.declared),
        versions={each.name: each.version for each in decided.plan.install},
        disabled=decided.plan.disabled_services,
    )
    board = decided.board.for_profile(decided.plan.profile)
    found = try_root(root, board, asked, decided.job.work / "trying", decided.job.log)
    if found.report.failed:
        raise TrialFailedError(found.report)
    return replace(made, trial=found)


def _check_flash(decided: Decided) -> FlashBudget | None:
    """What the real root file system takes of the flash. BudgetError where it leaves too little free."""
    found = decided.budgeting
    flash = None if isinstance(found, str) else real_budget(found, decided.job.view.changed)
    if flash is not None:
        check_budget(decided.plan, Budgets(flash=flash))
    return flash


def tree_facts(source: TreeSource, plan: Plan) -> TreeFacts:
    """What a result says of the ImageBuilder."""
    tree = plan.tree
    return TreeFacts(
        source=source.told,
        distribution=tree.distribution,
        version=tree.version,
        target=tree.target,
        arch=tree.arch,
        package_manager=tree.package_manager,
        trust=source.trust,
    )
