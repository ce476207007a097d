"""One image, from a config's name to files that are safe to hand over. Reads like a table of contents."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.budgeting import check_budget, open_budgeting, real_budget
from imagebuilder.decision import Decided, Inputs, decide, load_inputs
from imagebuilder.errors import UserError
from imagebuilder.flashable import check_flashable, rootfs_sizes
from imagebuilder.host.architecture import require_host_programs, require_x86_64
from imagebuilder.host.fs import ready_cache
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.host.tools import require
from imagebuilder.log import Event, Log, StepFinished, Warned
from imagebuilder.model.board import Board
from imagebuilder.model.budget import Budgets, FlashBudget
from imagebuilder.model.filespec import FilespecRecord, overlay_rules
from imagebuilder.model.plan import Plan
from imagebuilder.model.release import is_embedded
from imagebuilder.model.result import (
    ImageFile,
    InstalledPackage,
    LoadedBytecode,
    Result,
    Start,
    StepTime,
    TreeFacts,
)
from imagebuilder.openwrt.collect import check_images, check_manifest, find_images, read_manifest
from imagebuilder.openwrt.make import make_image
from imagebuilder.openwrt.output import MakeReport
from imagebuilder.openwrt.reproducible_check import BuildRecord, check_equal, record_build
from imagebuilder.openwrt.rootfs import find_rootfs, package_files, services, sizes_by_package
from imagebuilder.python.bytecode_check import uncompiled
from imagebuilder.report.files import write_result
from imagebuilder.request import Request
from imagebuilder.stage.filetree import read_tree, write_tree
from imagebuilder.stage.overlay import combined, overlay_tree
from imagebuilder.stage.trim import trim
from imagebuilder.supply.feeds import LOCAL
from imagebuilder.supply.packages import lay_packages
from imagebuilder.supply.tree import Source
from imagebuilder.trial.demo import ask_demo
from imagebuilder.trying import loaded, tried
from imagebuilder.workspace import Workspace, no_empty_folder_left, open_workspace

BUILD_LOG = "build.log"
RELEASED_FOR = "Linux-x86_64"  # in the names of OpenWrt's ImageBuilders


@dataclass
class _Record:
    """What goes into the result of what happened on the way."""

    steps: list[StepTime] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepFinished):
            self.steps.append(StepTime(step=event.step, seconds=round(event.seconds, 3)))
        elif isinstance(event, Warned):
            self.warnings.append(event.text)


def build_image(request: Request, log: Log) -> tuple[Path, Result]:
    """One image: the folder it was handed over in, and what is in it.

    UserError (and its kinds) for all that the user can put right; nothing is handed over then.
    """
    place, result, _ = _build(request, log)
    return place, result


def build_twice(request: Request, log: Log) -> tuple[Path, Result]:
    """As build_image(), after a first build elsewhere that has to give the same images.

    ReproducibilityError, naming what differs, if it does not; the second build is handed over all the same.
    """
    with no_empty_folder_left(request.output):
        request.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".first-", dir=request.output) as elsewhere:
            _, _, first = _build(replace(request, output=Path(elsewhere)), log)
            place, result, second = _build(request, log)
            with log.step("compare"):
                check_equal(first, second)
    return place, result


def _build(request: Request, log: Log) -> tuple[Path, Result, BuildRecord]:
    record = _Record()
    log = log.also(record)
    inputs = load_inputs(request)
    _check_machine(request, inputs)
    ready_cache(request.cache)
    with open_workspace(request.output, inputs.loaded.config.name, inputs.board.id) as workspace:
        decided = decide(request, inputs, workspace.work, log)
        require_host_programs(decided.source.folder)
        plan, view = decided.plan, decided.job.view
        check_budget(plan, decided.budgets)
        with log.step("fetch"):
            config = inputs.loaded.config
            filespecs = lay_packages(decided.job, decided.supply, plan, decided.local, config)
        with log.step("stage"):
            filespecs += _stage(request.library.root, inputs, workspace.work, log)
        with _log_kept_on_failure(workspace), log.step("build"):
            build_log = workspace.result / BUILD_LOG
            report = make_image(view, plan, workspace.work, build_log, log, cache=request.cache)
        with _log_kept_on_failure(workspace), log.step("verify"):
            images, packages = _verify(inputs.board, plan, view, report, workspace)
            checks = check_flashable(inputs.board, images, workspace.result, plan.tree.release, log)
            starts, bytecode = _tried(inputs, decided)
            flash = _check_flash(inputs, plan, view)
            for service in sorted(set(plan.disabled_services) - services(view.changed, plan.tree.places)):
                log.warn(f"services.disabled names '{service}', which this image does not have")
        with log.step("report"):
            result = Result(
                builder=importlib.metadata.version("openwrt-python-imagebuilder"),
                config=plan.config,
                board=plan.board,
                profile=plan.profile.name,
                python=plan.python,
                tree=_tree_facts(decided.source, plan),
                feeds=decided.supply.trust(),
                view=view.kind,
                sandboxed=view.sandboxed,
                make=plan.make,
                packages=packages,
                images=images,
                checks=checks,
                rootfs=rootfs_sizes(images, workspace.result),
                flash=flash,
                ram=decided.budgets.ram,
                overlays=plan.overlays,
                filespecs=filespecs,
                shaken=plan.shaken,
                starts=starts,
                bytecode=bytecode,
                uncompiled=_uncompiled(plan, view, log),
                secrets=tuple(name for each in inputs.overlays for name in each.secrets()),
                disabled_services=plan.disabled_services,
                warnings=tuple(record.warnings),
                steps=tuple(record.steps),
            )
            write_result(result, workspace.result)
        built = record_build(workspace.place, images, view.changed, plan.tree.places)
        workspace.hand_over()
        return workspace.place, result, built


def _check_machine(request: Request, inputs: Inputs) -> None:
    """HostError where what make would call does not run here, before anything is fetched or made. What an
    ImageBuilder that is given has inside is seen when it is unpacked."""
    config = inputs.loaded.config
    given = request.imagebuilder or config.imagebuilder
    if given is None and config.release is not None:
        require_x86_64("the embedded kit" if is_embedded(config.release) else "OpenWrt's ImageBuilder")
    elif given is not None and RELEASED_FOR in given.rsplit("/", 1)[-1]:
        require_x86_64(given)


def run_demo(request: Request, log: Log) -> tuple[Path, Result, dict[str, str | int | float]]:
    """Build the demo's image, boot it, and let its Python answer (see trial.demo)."""
    require_x86_64("the demo")
    require(["boot"])
    place, result = build_image(request, log)
    (image,) = (image for image in result.images if image.type == "combined-efi")
    with log.step("boot"):
        return place, result, ask_demo(place / image.file, log)


def _stage(project: Path, inputs: Inputs, work: Path, log: Log) -> tuple[FilespecRecord, ...]:
    """The overlays, rendered with their variables and secrets, in `files`; what filespecs did to them."""
    rules = overlay_rules(inputs.loaded.config.filespec)
    trees, records = [], []
    for each in inputs.overlays:
        tree = overlay_tree(each.overlay, each.folder, each.values(project))
        if each.overlay.name in rules:
            trimmed = trim(tree, rules[each.overlay.name], f"overlay {each.overlay.name}")
            tree = trimmed.tree
            records.append(trimmed.record)
        trees.append((each.overlay, tree))
    for each in inputs.overlays:
        for name in each.secrets_in_clear():
            log.warn(f"the secret {name} stands in a config file in clear: give it by name, see the README")
    if trees:
        write_tree(combined(trees), work / "files")
        (work / "files").chmod(0o755)  # make gives the mode of this folder to /
    return tuple(records)


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
    board: Board, plan: Plan, view: PrivateView, report: MakeReport, workspace: Workspace
) -> tuple[tuple[ImageFile, ...], tuple[InstalledPackage, ...]]:
    """The images that the board needs exist and fit, and the manifest can be read; both go to the result."""
    bin_dir = workspace.work / "bin"
    board = board.for_profile(plan.profile)
    images = find_images(bin_dir, board, plan.profile.name, plan.tree.profiles)
    made = sorted(path.name for path in bin_dir.iterdir() if path.is_file())
    check_images(board, images, report, sizes_by_package(view.changed, plan.tree.places), made)
    manifest, packages = read_manifest(bin_dir)
    check_manifest(plan, packages)
    for image in images:
        (bin_dir / image.file).rename(workspace.result / image.file)
    manifest.rename(workspace.result / "manifest")
    return images, packages


def _tried(inputs: Inputs, decided: Decided) -> tuple[tuple[Start, ...], LoadedBytecode | None]:
    """The root file system that make has built: its bytecode loaded, its interpreter and the config's
    commands run."""
    job, root = decided.job, find_rootfs(decided.job.view.changed, decided.plan.tree.places)
    if root is None:
        return (), None
    work, made = job.work / "trying", [each.name for each in decided.plan.install if each.feed == LOCAL]
    bytecode = loaded(root, inputs.board, package_files(root, made), work, job.log)
    commands, dropped = inputs.loaded.config.python.trace, decided.local.dropped
    starts = tried(root, inputs.board, work, job.log, commands=commands, dropped=dropped)
    return starts, bytecode


def _check_flash(inputs: Inputs, plan: Plan, view: PrivateView) -> FlashBudget | None:
    """What the real root file system takes of the flash. BudgetError where it leaves too little free."""
    found = open_budgeting(plan, inputs.loaded.config, inputs.board, inputs.overlays)
    flash = None if isinstance(found, str) else real_budget(found, view.changed)
    if flash is not None:
        check_budget(plan, Budgets(flash=flash))
    return flash


def _tree_facts(source: Source, plan: Plan) -> TreeFacts:
    tree = plan.tree
    return TreeFacts(
        source=source.given,
        distribution=tree.distribution,
        version=tree.version,
        target=tree.target,
        arch=tree.arch,
        package_manager=tree.package_manager,
        trust=source.trust,
    )


@contextmanager
def _log_kept_on_failure(workspace: Workspace) -> Iterator[None]:
    """There is no result when a build fails, but its log is kept, and the error says where."""
    try:
        yield
    except UserError as error:
        kept = workspace.keep_failure_log()
        if kept is not None:
            error.add_note(f"the whole log: {kept}")
        raise
