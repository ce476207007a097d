"""One image, from a config's name to files that are safe to hand over. Reads like a table of contents."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.budget.budget import check_budget
from imagebuilder.choose import Laid, lay_packages
from imagebuilder.config.request import Request
from imagebuilder.decide import (
    Decided,
    Inputs,
    check_known,
    check_locked,
    check_services_laid,
    decide,
    load_inputs,
)
from imagebuilder.errors import UserError
from imagebuilder.host.architecture import require_host_programs, require_x86_64
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.host.tools import require
from imagebuilder.keep import Current, Keeping, standing_result
from imagebuilder.log import Event, Log, StepFinished, Warned
from imagebuilder.model.package import Selected
from imagebuilder.model.release import is_embedded
from imagebuilder.model.result import Result, StepTime
from imagebuilder.model.trial import TrialReport
from imagebuilder.packages.check_contents import check_contents, package_paths
from imagebuilder.report.files import BUILD_LOG
from imagebuilder.rootfs.files import write_tree
from imagebuilder.stage import Staged, check_overlays, staged
from imagebuilder.tree.make import make_image
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.reproducible import BuildRecord, check_equal, record_build
from imagebuilder.unchanged import Standings, asked_for
from imagebuilder.workspace import Workspace, no_empty_folder_left, open_workspace, remove_left_behind

if TYPE_CHECKING:
    from imagebuilder.config.model_config import Config
    from imagebuilder.firmware.verify import Ahead
    from imagebuilder.papers import Foreseen
    from imagebuilder.trial.twins import BootedBoard

_MOST_TOLD = 5  # reasons for building again
# what make changes in a tree at most, in flashes of the board: a root file system unpacked twice, packed, a
# kernel, images, and copies of them: 60 MiB for a router of 4 MiB, 120 for the kit's disk of 128
_FLASHES = 16
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
    """One image, built whatever is there already: the folder it was handed over in, and what is in it.

    UserError (and its kinds) for all that the user can put right; nothing is handed over then.
    """
    current = _build(request, log)
    return current.place, current.result


def bring_up_to_date(request: Request, log: Log) -> Current:
    """One image, built unless the result that is there, or one that the cache keeps, is what a build would
    give. Raises as build_image()."""
    standings = request.shared.get("standings", request.cache, lambda _: Standings(request.cache), log)
    found = standings.standing(asked_for(request))
    result = standing_result(found.asked.place) if found.up_to_date else None
    if result is not None:
        ready_cache(request.cache)
        with disk_errors_explained(request.output):
            remove_left_behind(request.output, request.config_name())
            found.asked.failure_log.unlink(missing_ok=True)
        return Current(found.asked.place, result, "up to date")
    return _build(request, log, rebuild=False)


def build_twice(request: Request, log: Log) -> tuple[Path, Result]:
    """As build_image(), after a first build elsewhere that has to give the same images.

    ReproducibilityError, naming what differs, if it does not; the second build is handed over all the same.
    """
    with no_empty_folder_left(request.output), temporary_folder("first", request.output) as elsewhere:
        builds: list[BuildRecord] = []
        _build(replace(request, output=elsewhere), log, builds)
        current = _build(request, log, builds)
        with log.step("compare"):
            check_equal(*builds)
    return current.place, current.result


def _build(
    request: Request, log: Log, builds: list[BuildRecord] | None = None, *, rebuild: bool = True
) -> Current:
    """builds: where what the build is compared by goes, if at all; rebuild: also where one is the same."""
    record = _Record()
    log = log.also(record)
    inputs = load_inputs(request)
    _check_machine(request, inputs)
    ready_cache(request.cache)
    keeping = Keeping(request, inputs)
    with _workspace(request, inputs) as workspace:
        decided = decide(request, inputs, workspace.work, log, in_memory=workspace.in_memory)
        require_host_programs(decided.source.folder)
        plan, view = decided.plan, decided.job.view
        check_known(plan, decided.board, accepted=request.accept_unchecked)
        check_budget(plan, decided.budgets)
        with log.step("fetch"):
            laid = lay_packages(decided.job, decided.supply, plan.install, decided.local)
        with log.step("stage"):
            overlays = _stage(request, inputs, decided, laid.packages, workspace.work)
            check_locked(inputs, decided, laid.made)
            check_contents(decided.job, decided.supply, laid.packages, overlays.tree, plan.wish)
            decided.check_libraries(laid.packages, overlays.tree)
            check_services_laid(inputs, decided, laid.packages, overlays.tree)
            keeping.decide(decided, overlays, laid.made)
        why = () if rebuild else keeping.why(workspace.place)
        current = None if rebuild else _kept(keeping, workspace, decided, why, log)
        if current is not None:
            return current
        _note(log, "rebuilt", why)
        beside = _beside_make(plan, view, lambda: _foresee(inputs, decided, laid))
        with _log_kept_on_failure(workspace), log.step("build"), beside as (begun, ahead, papers_ahead):
            folder, build_log = workspace.work, workspace.result / BUILD_LOG
            report = make_image(view, plan, folder, build_log, log, cache=request.cache, begun=begun)
        from imagebuilder import made, papers  # noqa: PLC0415 (loaded while make ran)

        with _log_kept_on_failure(workspace), log.step("verify"):
            found = made.check_made(
                inputs, decided, report, workspace, secrets=overlays.secrets, ahead=ahead.result()
            )
            keeping.look_again(log)
        with _log_kept_on_failure(workspace), log.step("trial"):
            found = made.try_made(request, inputs, decided, found)
        with log.step("report"):
            foreseen = _warned_of(papers_ahead.result(), log)
            result = made.result_of(
                inputs,
                decided,
                found,
                filespecs=(*laid.records, *overlays.records),
                warnings=tuple(record.warnings),
                steps=tuple(record.steps),
            )
            papers.write_papers(request, foreseen, found, result, workspace)
            keeping.write(workspace.result, result.images)
            keeping.keep(workspace.result, log)
        if builds is not None:
            builds.append(record_build(workspace.place, result.images, view.changed, plan.tree.places))
        workspace.hand_over()
        return Current(workspace.place, result, "built", why)


def _workspace(request: Request, inputs: Inputs) -> AbstractContextManager[Workspace]:
    """Of one image. What make changes is bounded by the flash; images of cards and disks have whatever size
    is asked for."""
    board = inputs.board
    most_changed = board.flash * _FLASHES if isinstance(board.flash, int) else None
    return open_workspace(request.output, inputs.loaded.config.name, board.id, most_changed)


def _kept(
    keeping: Keeping, workspace: Workspace, decided: Decided, why: tuple[str, ...], log: Log
) -> Current | None:
    """The result that is there, or that the cache keeps, where it is what a build would give. why: what is
    wrong with the former."""
    with log.step("compare"):
        standing = keeping.standing(workspace)
        if standing is not None:
            return Current(workspace.place, standing, "up to date")
        taken = keeping.take(workspace, decided, log)
    if taken is None:
        return None
    _note(log, "taken from the cache", why)
    workspace.hand_over()
    return Current(workspace.place, taken, "from the cache", why)


def _note(log: Log, what: str, why: Sequence[str]) -> None:
    """Say why something was done, in some lines at most."""
    more = len(why) - _MOST_TOLD
    for line in why[:_MOST_TOLD]:
        log.note(f"{what} because {line}")
    if more > 0:
        log.note(f"and because of {more} more: --json has all")


@contextmanager
def _beside_make(
    plan: Plan, view: PrivateView, foresee: Callable[[], Foreseen]
) -> Iterator[tuple[Callable[[], None], Future[Ahead], Future[Foreseen]]]:
    """What comes after make is loaded meanwhile, the kernel is unpacked that images get as it lies in the
    tree (KDIR of image.mk's recipes), the root file system that make packs is looked through while it goes on
    (see look_ahead()), and the papers are made ready. The first of what it gives is to be called once make
    runs: what was done before in another thread would hold up what it takes to start it."""
    begun, ended = threading.Event(), threading.Event()
    packs = plan.tree.places.kernel
    kernel = Path(plan.tree.folder) / packs / f"{plan.profile.name}-kernel.bin"

    def work() -> Ahead:
        begun.wait()
        importlib.import_module("imagebuilder.made")
        from imagebuilder.firmware import verify  # noqa: PLC0415 (it takes as long as made)

        kernels = verify.known_kernels([kernel])
        return verify.Ahead(verify.look_ahead(view.changed, packs, ended), kernels)

    def foreseen() -> Foreseen:
        begun.wait()
        return foresee()

    with ThreadPoolExecutor(2) as pool:
        try:
            yield begun.set, pool.submit(work), pool.submit(foreseen)
        finally:
            ended.set()
            begun.set()  # where make could not be started


def _foresee(inputs: Inputs, decided: Decided, laid: Laid) -> Foreseen:
    from imagebuilder.papers import foresee  # noqa: PLC0415 (what it takes is loaded while make runs)

    return foresee(inputs, decided, laid)


def _warned_of(foreseen: Foreseen, log: Log) -> Foreseen:
    for line in foreseen.warnings:
        log.warn(line)
    return foreseen


def _check_machine(request: Request, inputs: Inputs) -> None:
    """HostError where what make would call does not run here, before anything is fetched or made. What an
    ImageBuilder that is given has inside is seen when it is unpacked."""
    config = inputs.loaded.config
    given = request.tree_given(config)
    if given is None and config.release is not None:
        require_x86_64("the embedded kit" if is_embedded(config.release) else "OpenWrt's ImageBuilder")
    elif given is not None and RELEASED_FOR in given.rsplit("/", 1)[-1]:
        require_x86_64(given)


@dataclass(frozen=True)
class TriedConfig:
    """An image of a config that was tried. folder: of its result; image: its file; both None where the build
    handed nothing over because the image does not stand its trial."""

    folder: Path | None
    image: Path | None
    report: TrialReport


def try_config(request: Request, log: Log) -> TriedConfig:
    """One image, brought up to date and tried as it was handed over. Raises as bring_up_to_date()."""
    from imagebuilder.trial.image import try_image  # noqa: PLC0415 (takes as long to load as a short build)
    from imagebuilder.trial.trial import TrialFailedError  # noqa: PLC0415

    inputs = load_inputs(request)
    try:
        current = bring_up_to_date(request, log)
    except TrialFailedError as error:
        return TriedConfig(None, None, error.report)
    result, config = current.result, inputs.loaded.config
    profiles = [each for each in inputs.board.profile if each.name == result.profile]
    board = inputs.board.for_profile(profiles[0]) if len(profiles) == 1 else inputs.board
    image = current.place / (result.images[0].file if result.rootfs is None else result.rootfs.image)
    with log.step("trial"):
        found = try_image(
            image,
            board,
            log,
            trials=config.trial,
            traces=config.python.trace,
            made=None if result.trial is None else result.trial.made,
            disabled=result.disabled_services,
        )
    return TriedConfig(current.place, image, found.report)


@dataclass(frozen=True)
class ConfigToBoot:
    """A config's image that is booted. folder: of the result; booted: the board or its twin."""

    folder: Path
    image: Path
    booted: BootedBoard
    config: Config


def image_of_config(request: Request, log: Log) -> ConfigToBoot:
    """One image that QEMU starts, brought up to date: the request's, or that of its board's twin. Raises as
    booted_request(), bring_up_to_date() and image_to_boot() do."""
    from imagebuilder.trial.media import image_to_boot  # noqa: PLC0415 (as try_config)
    from imagebuilder.trial.twins import booted_request  # noqa: PLC0415

    config = load_inputs(request).loaded.config
    wanted, booted = booted_request(request, config, log)
    current = bring_up_to_date(wanted, log)
    image = image_to_boot([current.place / each.file for each in current.result.images])
    return ConfigToBoot(current.place, image, booted, config)


def run_demo(request: Request, log: Log) -> tuple[Path, Result, dict[str, str | int | float]]:
    """Build the demo's image, boot it, and let its Python answer (see trial.demo)."""
    from imagebuilder.trial.demo import ask_demo  # noqa: PLC0415 (as try_config)

    require_x86_64("the demo")
    require(["boot"])
    place, result = build_image(request, log)
    (image,) = (image for image in result.images if image.type == "combined-efi")
    with log.step("boot"):
        return place, result, ask_demo(place / image.file, log)


def _stage(
    request: Request, inputs: Inputs, decided: Decided, packages: Sequence[Selected], work: Path
) -> Staged:
    """The overlays, rendered with their variables and secrets, in `files`."""
    job, log = decided.job, decided.job.log
    there = package_paths(job, decided.supply, packages) if inputs.overlays else {}
    root, once = request.library.root, request.shared
    found = staged(inputs.loaded.config, inputs.overlays, root, there, once)
    for line in check_overlays(found, inputs.overlays, packages, there):
        log.warn(line)
    for each in inputs.overlays:
        for name in each.secrets_in_clear():
            better = f'{name} = {{ secret = "NAME" }} names one that stands elsewhere'
            log.warn(f"the secret {name} stands in a config file in clear: {better}")
    if inputs.overlays:
        write_tree(found.tree, work / "files")
        (work / "files").chmod(0o755)  # make gives the mode of this folder to /
    return found


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
