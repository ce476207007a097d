"""One image, from a config's name to files that are safe to hand over. Reads like a table of contents."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.budget.budget import check_budget
from imagebuilder.choose import lay_packages
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
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.host.tools import require
from imagebuilder.log import Event, Log, StepFinished, Warned
from imagebuilder.model.package import Selected
from imagebuilder.model.release import is_embedded
from imagebuilder.model.result import Result, StepTime
from imagebuilder.packages.check_contents import check_contents, package_paths
from imagebuilder.report.files import write_result
from imagebuilder.rootfs.files import write_tree
from imagebuilder.stage import Staged, check_overlays, staged
from imagebuilder.tree.make import make_image
from imagebuilder.tree.reproducible import BuildRecord, check_equal, record_build
from imagebuilder.trial.machine import ask_demo
from imagebuilder.workspace import Workspace, no_empty_folder_left, open_workspace

if TYPE_CHECKING:
    from imagebuilder.firmware.verify import SeenRoot

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
    return _build(request, log)


def build_twice(request: Request, log: Log) -> tuple[Path, Result]:
    """As build_image(), after a first build elsewhere that has to give the same images.

    ReproducibilityError, naming what differs, if it does not; the second build is handed over all the same.
    """
    with no_empty_folder_left(request.output), temporary_folder("first", request.output) as elsewhere:
        builds: list[BuildRecord] = []
        _build(replace(request, output=elsewhere), log, builds)
        place, result = _build(request, log, builds)
        with log.step("compare"):
            check_equal(*builds)
    return place, result


def _build(request: Request, log: Log, builds: list[BuildRecord] | None = None) -> tuple[Path, Result]:
    """builds: where what the build is compared by goes, if it is to be compared."""
    record = _Record()
    log = log.also(record)
    inputs = load_inputs(request)
    _check_machine(request, inputs)
    ready_cache(request.cache)
    with open_workspace(request.output, inputs.loaded.config.name, inputs.board.id) as workspace:
        decided = decide(request, inputs, workspace.work, log)
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
        packs = plan.tree.places.kernel
        with _log_kept_on_failure(workspace), log.step("build"), _beside_make(view, packs) as ahead:
            build_log = workspace.result / BUILD_LOG
            report = make_image(view, plan, workspace.work, build_log, log, cache=request.cache)
        from imagebuilder import made  # noqa: PLC0415 (loaded while make ran)

        with _log_kept_on_failure(workspace), log.step("verify"):
            found = made.check_made(
                inputs, decided, report, workspace, secrets=overlays.secrets, ahead=ahead.result()
            )
        with log.step("report"):
            result = made.result_of(
                inputs,
                decided,
                found,
                filespecs=(*laid.records, *overlays.records),
                warnings=tuple(record.warnings),
                steps=tuple(record.steps),
            )
            write_result(result, workspace.result)
        if builds is not None:
            builds.append(record_build(workspace.place, result.images, view.changed, plan.tree.places))
        workspace.hand_over()
        return workspace.place, result


@contextmanager
def _beside_make(view: PrivateView, packs: str) -> Iterator[Future[Mapping[bytes, SeenRoot]]]:
    """What comes after make is loaded meanwhile, and the root file system that it packs is looked through
    while it goes on: see look_ahead(). packs: the folder of the view into which make packs it."""
    ended = threading.Event()

    def work() -> Mapping[bytes, SeenRoot]:
        importlib.import_module("imagebuilder.made")
        from imagebuilder.firmware.verify import look_ahead  # noqa: PLC0415 (it takes as long as made)

        return look_ahead(view.changed, packs, ended)

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(work)
        finally:
            ended.set()


def _check_machine(request: Request, inputs: Inputs) -> None:
    """HostError where what make would call does not run here, before anything is fetched or made. What an
    ImageBuilder that is given has inside is seen when it is unpacked."""
    config = inputs.loaded.config
    given = request.tree_given(config)
    if given is None and config.release is not None:
        require_x86_64("the embedded kit" if is_embedded(config.release) else "OpenWrt's ImageBuilder")
    elif given is not None and RELEASED_FOR in given.rsplit("/", 1)[-1]:
        require_x86_64(given)


def run_demo(request: Request, log: Log) -> tuple[Path, Result, dict[str, str | int | float]]:
    """Build the demo's image, boot it, and let its Python answer (see trial.machine)."""
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
