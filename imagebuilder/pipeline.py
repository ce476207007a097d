"""One image, from a config's name to files that are safe to hand over. Reads like a table of contents."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.feeds.opkg import format_index, read_index
from imagebuilder.feeds.resolve import ResolutionError
from imagebuilder.host.fs import user_cache
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.host.tools import require
from imagebuilder.kit import prepare_kit
from imagebuilder.load.config import LoadedConfig, load_config
from imagebuilder.load.library import Library
from imagebuilder.load.overlay import LoadedOverlay, load_overlays
from imagebuilder.log import Event, Log, StepFinished, Warned
from imagebuilder.model.board import Board
from imagebuilder.model.config import Config
from imagebuilder.model.plan import Plan
from imagebuilder.model.release import EMBEDDED
from imagebuilder.model.result import ImageFile, InstalledPackage, Result, StepTime, TreeFacts
from imagebuilder.openwrt.collect import BuildError, check_images, find_images, read_manifest
from imagebuilder.openwrt.feed import (
    FEED,
    feeds_of,
    in_folder,
    lay_feed,
    lay_repositories,
    used_indexes,
)
from imagebuilder.openwrt.hermetic import base_packages, lay_own_index, own_index
from imagebuilder.openwrt.make import make_arguments, make_image
from imagebuilder.openwrt.output import MakeReport
from imagebuilder.openwrt.reproducible_check import BuildRecord, check_equal, record_build
from imagebuilder.openwrt.rootfs import services, sizes_by_package
from imagebuilder.openwrt.source import given_tree
from imagebuilder.openwrt.tree import TreeError, choose_profile, read_tree
from imagebuilder.planning.closure import from_feeds
from imagebuilder.planning.plan import make_plan
from imagebuilder.report.files import write_result
from imagebuilder.stage.filetree import write_tree
from imagebuilder.stage.ipk_index import index_of
from imagebuilder.stage.ipk_reader import read_control
from imagebuilder.stage.overlay import combined, overlay_tree
from imagebuilder.trial.demo import ask_demo
from imagebuilder.workspace import Workspace, open_workspace

BUILD_LOG = "build.log"


@dataclass(frozen=True)
class Request:
    """What somebody asked for. imagebuilder: a tree's folder or archive, in place of the config's. mirrors:
    asked before the config's. offline: nothing is fetched. sandbox: make is shut in."""

    library: Library
    config: str
    board: str
    output: Path
    cache: Path
    imagebuilder: str | None = None
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    sandbox: bool = True


@dataclass(frozen=True)
class _Source:
    """The ImageBuilder, where it is from, and why it is believed."""

    folder: Path
    given: str
    trust: str


@dataclass(frozen=True)
class _Inputs:
    """What the user's files say, loaded and checked."""

    loaded: LoadedConfig
    overlays: tuple[LoadedOverlay, ...]
    board: Board


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


def requests(
    project: Path,
    config: str,
    *,
    board: str | None = None,
    imagebuilder: str | None = None,
    output: Path = Path("out"),
    cache: Path | None = None,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    sandbox: bool = True,
) -> list[Request]:
    """One request for each board: the one that is named, or all that the config names. UserError for none."""
    library = Library(project)
    boards = (board,) if board else load_config(library, config).config.boards
    if not boards:
        hint = "name one with --board, or in its `boards`"
        raise UserError(f"config '{config}' names no boards", hint=hint)
    asked = Request(
        library,
        config,
        boards[0],
        output.absolute(),
        cache or user_cache(),
        imagebuilder,
        tuple(mirrors),
        offline,
        sandbox,
    )
    return [replace(asked, board=name) for name in boards]


def plan_image(request: Request, log: Log) -> Plan:
    """Everything decided before anything is built. Writes nothing that stays."""
    inputs = _load(request)
    request.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=request.cache) as folder:
        _, plan, _ = _plan(request, inputs, Path(folder), log)
    return plan


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
    inputs = _load(request)
    with open_workspace(request.output, inputs.loaded.config.name, inputs.board.id) as workspace:
        view, plan, source = _plan(request, inputs, workspace.work, log)
        with log.step("stage"):
            _stage(request.library.root, inputs.overlays, workspace.work, log)
            _lay_packages(request, plan, view, workspace.work, log)
        with _log_kept_on_failure(workspace), log.step("build"):
            report = make_image(view, plan, workspace.work, workspace.result / BUILD_LOG, log)
        with _log_kept_on_failure(workspace), log.step("verify"):
            images, packages = _verify(inputs.board, plan, view, report, workspace)
            for service in sorted(set(plan.disabled_services) - services(view.changed)):
                log.warn(f"services.disabled names '{service}', which this image does not have")
        with log.step("report"):
            facts = _tree_facts(source, plan)
            result = Result(
                builder=importlib.metadata.version("openwrt-python-imagebuilder"),
                config=plan.config,
                board=plan.board,
                profile=plan.profile.name,
                python=plan.python,
                tree=facts,
                view=view.kind,
                sandboxed=view.sandboxed,
                make=plan.make,
                packages=packages,
                images=images,
                overlays=plan.overlays,
                secrets=tuple(name for each in inputs.overlays for name in each.secrets()),
                disabled_services=plan.disabled_services,
                warnings=tuple(record.warnings),
                steps=tuple(record.steps),
            )
            write_result(result, workspace.result)
        built = record_build(workspace.place, images, view.changed)
        workspace.hand_over()
        return workspace.place, result, built


def run_demo(request: Request, log: Log) -> tuple[Path, Result, dict[str, str | int | float]]:
    """Build the demo's image, boot it, and let its Python answer (see trial.demo)."""
    require(["boot"])
    place, result = build_image(request, log)
    (image,) = (image for image in result.images if image.type == "combined-efi")
    with log.step("boot"):
        return place, result, ask_demo(place / image.file, log)


def _load(request: Request) -> _Inputs:
    loaded = load_config(request.library, request.config, request.board)
    overlays = load_overlays(request.library, loaded.config)
    return _Inputs(loaded, overlays, request.library.board(request.board))


def _plan(request: Request, inputs: _Inputs, work: Path, log: Log) -> tuple[PrivateView, Plan, _Source]:
    config = inputs.loaded.config
    with log.step("tree"):
        if request.sandbox:
            require(["sandbox"])
        source = _source(request, config, inputs.board, log)
        view = open_view(source.folder, work, log, sandbox=request.sandbox)
        tree = read_tree(source.folder, view, log)
    with log.step("plan"):
        profile = choose_profile(inputs.board, tree)
        plan = make_plan(
            config,
            inputs.board.id,
            tree,
            profile,
            overlays=[each.overlay for each in inputs.overlays],
            origins=inputs.loaded.origins,
        )
        arguments = make_arguments(
            profile.name,
            plan.packages,
            disabled_services=plan.disabled_services if tree.disables_services else (),
            extra_name=config.image.extra_name,
            rootfs_partsize=config.image.rootfs_partsize,
        )
        return view, plan.model_copy(update={"make": tuple(arguments)}), source


def _source(request: Request, config: Config, board: Board, log: Log) -> _Source:
    """The ImageBuilder: given, the kit, or a release that is fetched and verified."""
    given = request.imagebuilder or config.imagebuilder
    if given is not None:
        folder = given_tree(given, request.cache, log)
        require(["build", "genuine"])
        return _Source(folder, given, "a local tree, as given")
    if config.release == EMBEDDED:
        require(["build", "kit"])
        return _Source(prepare_kit(request.cache, log), EMBEDDED, "made here from distribution packages")
    if config.release is None:
        raise TreeError(
            f"config '{config.name}' names no release, and no ImageBuilder was given",
            hint=f'give one with --imagebuilder PATH, or say release = "24.10", or "{EMBEDDED}" for the kit',
        )
    require(["build", "genuine"])
    # what speaks to servers is loaded only where one is spoken to: it takes a fifth of a second
    from imagebuilder.host.cache import Cache  # noqa: PLC0415
    from imagebuilder.openwrt.mirror import DOWNLOAD_SERVER, parse_mirrors  # noqa: PLC0415
    from imagebuilder.openwrt.obtain import obtain_tree  # noqa: PLC0415

    keys = config.mirror.keys
    obtained = obtain_tree(
        board,
        config.release,
        parse_mirrors((*request.mirrors, *config.mirror.urls) or (DOWNLOAD_SERVER,)),
        Cache(request.cache),
        offline=request.offline,
        trust=config.trust,
        user_keys=request.library.root / keys if keys else None,
        log=log,
    )
    return _Source(obtained.folder, f"{obtained.archive} from {obtained.source}", obtained.trust.text)


def _stage(project: Path, overlays: Sequence[LoadedOverlay], work: Path, log: Log) -> None:
    """The overlays, rendered with their variables and secrets, in `files`."""
    trees = [
        (each.overlay, overlay_tree(each.overlay, each.folder, each.values(project))) for each in overlays
    ]
    for each in overlays:
        for name in each.secrets_in_clear():
            log.warn(f"the secret {name} stands in a config file in clear: give it by name, see the README")
    if trees:
        write_tree(combined(trees), work / "files")
        (work / "files").chmod(0o755)  # make gives the mode of this folder to /


def _lay_packages(request: Request, plan: Plan, view: PrivateView, work: Path, log: Log) -> None:
    """What a genuine tree installs from: its own packages with an index that is made once, and in the
    sandbox, instead of its feeds, a folder with exactly the packages of this image, each checked."""
    tree = Path(plan.tree.folder)
    feeds, indexes = feeds_of(tree), used_indexes(tree)
    if not feeds:
        return
    own = own_index(tree, request.cache, index_of)
    lay_own_index(own, work / "make")
    if not view.sandboxed:
        return
    lacking = sorted(set(feeds) - set(indexes))
    if lacking:
        log.warn(
            f"the tree has no index of the feeds {', '.join(lacking)} in its dl/, and in the sandbox make has"
            " no network: only packages that lie in the tree can go in (--no-sandbox lets make download)"
        )
        return
    mine = [*read_index(own), *(read_control(path).control for path in base_packages(tree))]
    offered = [package for index in indexes.values() for package in read_index(index)]
    try:
        wanted = from_feeds(plan.wanted, mine, offered)
    except ResolutionError as error:
        reason = plan.reasons.get(error.chain[0], "the tree") if error.chain else "the tree"
        raise BuildError(f"{error.message} ({reason})", hint=error.hint) from error
    explained = [replace(each, why=_with_reason(plan, each.why)) for each in wanted]
    lay_feed(work / FEED, explained, [in_folder(tree / "dl")], format_index)
    lay_repositories(tree, view)


def _with_reason(plan: Plan, why: tuple[str, ...]) -> tuple[str, ...]:
    """The chain from what was asked for, beginning with who asked."""
    return (plan.reasons.get(why[0], "the tree"), *why) if why else why


def _verify(
    board: Board, plan: Plan, view: PrivateView, report: MakeReport, workspace: Workspace
) -> tuple[tuple[ImageFile, ...], tuple[InstalledPackage, ...]]:
    """The images that the board needs exist and fit, and the manifest can be read; both go to the result."""
    bin_dir = workspace.work / "bin"
    board = board.for_profile(plan.profile)
    images = find_images(bin_dir, board, plan.profile.name)
    check_images(board, images, report, sizes_by_package(view.changed))
    manifest, packages = read_manifest(bin_dir)
    for image in images:
        (bin_dir / image.file).rename(workspace.result / image.file)
    manifest.rename(workspace.result / "manifest")
    return images, packages


def _tree_facts(source: _Source, plan: Plan) -> TreeFacts:
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
