"""Everything about one image that is decided before anything is built: tree, profile, packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType

from imagebuilder import __version__
from imagebuilder.budget.budget import Budgeting, budgets, open_budgeting, overlay_files, unchecked
from imagebuilder.called import typed
from imagebuilder.choose import ChosenPackages, choose_first, choose_packages
from imagebuilder.config.board import UNKNOWN, Board, Profile
from imagebuilder.config.config import LoadedConfig, load_config
from imagebuilder.config.lock import locked_board
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.overlay import LoadedOverlay, load_overlays
from imagebuilder.config.python_form import with_form
from imagebuilder.config.request import Request
from imagebuilder.config.toml import TomlFile
from imagebuilder.contradictions import check_partsize, check_release, check_starts
from imagebuilder.errors import Fault, FaultsError, UserError
from imagebuilder.find_tree import TreeSource, find_tree, tree_digest
from imagebuilder.host.fs import make_folder
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.sandbox import opening_view
from imagebuilder.log import Log
from imagebuilder.model.budget import Budgets
from imagebuilder.model.package import Package, Selected, Swap, Wish
from imagebuilder.names import (
    Names,
    check_scripts,
    init_scripts,
    package_faults,
    service_faults,
    unknown_overlays,
)
from imagebuilder.own.local import Local
from imagebuilder.own.own import FromOverlays, Own, needing, open_own
from imagebuilder.packages.at_hand import paths_at_hand
from imagebuilder.packages.check_contents import package_paths
from imagebuilder.packages.hardware import HARDWARE, drivers
from imagebuilder.packages.lock import check_same, differences, lock_entry, locked_parts
from imagebuilder.packages.managers import manager_of
from imagebuilder.packages.resolution import PlanError
from imagebuilder.packages.supply import Job, Offers, Supply
from imagebuilder.rootfs.overlay import check_processor, libraries_in
from imagebuilder.rootfs.tree import EMPTY, FileTree
from imagebuilder.seen import told_board
from imagebuilder.stage import locked_files
from imagebuilder.tree.make import hooks_text, make_arguments
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.tree import choose_profile, read_tree
from imagebuilder.wish import swapped, whole_wish, wish_of


@dataclass(frozen=True)
class Inputs:
    """What the user's files say, loaded and checked. files: all that were read for it."""

    loaded: LoadedConfig
    overlays: tuple[LoadedOverlay, ...]
    board: Board
    files: tuple[TomlFile, ...] = ()


@dataclass(frozen=True)
class Decided:
    """All that is known before anything is built. board: with what the tree knows of images whose format its
    file leaves open. budgeting: or why the tree does not say how large its images are. locked: what has to
    come out, if anything is said of it."""

    source: TreeSource
    board: Board
    job: Job
    supply: Supply
    offers: Offers
    local: Local
    plan: Plan
    budgeting: Budgeting | str
    budgets: Budgets
    locked: LockedBoard | None = None

    @cached_property
    def tree_sha256(self) -> str:
        """Of the tree, read once. As tree_digest()."""
        return tree_digest(self.source, self.job.cache)

    def check_libraries(self, going: Sequence[Selected], over: FileTree | None) -> None:
        """As own.libraries.check_libraries(). over: None where overlays are not rendered: what they bring is
        not missed then."""
        uses = self.local.own.libraries
        if uses:
            from imagebuilder.own.libraries import check_libraries  # noqa: PLC0415 - few wheels want any

            known = uses if over is not None else tuple(each for each in uses if each.package)
            check_libraries(self.job, self.supply, going, EMPTY if over is None else over, known)


_SUPPLIES_KEPT = 2
HOW_TO_TELL = "say it in the board's file, or --accept-unchecked"


def unknown_images(board: Board, profile: Profile) -> Iterator[str]:
    """The types of images of which nobody says what they are: neither the board's file nor the tree."""
    for name, image in board.for_profile(profile).images.items():
        if image.format == UNKNOWN:
            yield name


def not_known(board: Board, image: str) -> str:
    """What is wrong with an image of unknown format, in words, with the key of the board's file."""
    return f"nobody says what the {image} image of {board.id} is (boards/{board.id}.toml: {image}.format)"


def check_known(plan: Plan, board: Board, *, accepted: bool) -> None:
    """UserError, before anything is built, for images that could not be checked afterwards; accepted:
    somebody wants them all the same."""
    if plan.unchecked and not accepted:
        raise UserError(
            "\n".join(not_known(board, image) for image in plan.unchecked),
            hint=f"take a format that `{typed('formats')}` lists, or the image out of the board's file;"
            " build --accept-unchecked hands it over unchecked",
        )


def load_inputs(request: Request) -> Inputs:
    """Read and check what the user wrote, each file once. FaultsError with all that is wrong, UserError."""
    library = request.library.once()
    loaded = load_config(library, request.config, request.board)
    if request.release is not None:
        other = {"release": request.release, "imagebuilder": request.imagebuilder}
        loaded = replace(loaded, config=loaded.config.model_copy(update=other))
    if request.python is not None:
        loaded = replace(loaded, config=with_form(loaded.config, request.python))
    overlays = load_overlays(library, loaded.config)
    board = library.board(request.board)
    return Inputs(loaded, overlays, board, tuple((library.kept or {}).values()))


def decide(
    request: Request, inputs: Inputs, work: Path, log: Log, *, in_memory: Path | None = None
) -> Decided:
    """Find the tree and choose what goes in. work: a folder for what is temporary; in_memory: one for what
    make changes, else that is in `work`.

    UserError and its kinds: the tree cannot be had or does not fit the board, packages cannot be had, or make
    cannot be shut in here, which is found out while the rest is.
    """
    config = inputs.loaded.config
    locked = locked_board(request.library, config.name, inputs.board.id) if request.locked else None
    with ExitStack() as ended:
        with log.step("tree"):
            source, job = _open(request, inputs, work, log, locked, ended=ended, in_memory=in_memory)
        with log.step("plan"):
            decided = _decided(request, inputs, source, job, locked)
            job.opened()
            return decided


def _decided(
    request: Request, inputs: Inputs, source: TreeSource, job: Job, locked: LockedBoard | None
) -> Decided:
    config, log = inputs.loaded.config, job.log
    check_processor([(each.use.name, each.root) for each in inputs.overlays], job.tree.arch)
    known, profile = told_board(inputs.board, choose_profile(inputs.board, job.tree), job.tree)
    check_partsize(inputs.loaded, inputs.board, job.tree, log)
    supply = _supply(request, job)
    supply.note_unusable(log)
    own = open_own(job, supply, locked.requirements if locked else None, _laid(inputs))
    for warning in own.python.warnings:
        log.warn(warning)
    names = _names(inputs, job, supply, own, profile.name)
    services = partial(service_faults, names, _own_services(inputs, own), partial(_scripts, job, supply), log)
    wish = wish_of(inputs.loaded, [each.overlay for each in inputs.overlays], own)
    if locked is None:  # else the lock says what is new
        choice = partial(_first_choice, job, supply, own, profile.name)
        _check_packages(names, wish, choice, services, log)
    wish, swaps = swapped(wish, job, supply.offers, profile.name)
    wanted = whole_wish(wish, job.tree, profile.name)
    with _lock_blamed(locked, wish, config.name):
        chosen = choose_packages(job, wanted, supply, own, locked=locked)
    check_starts(wish, job.tree, chosen.found.selected)
    if faults := services(chosen.found.selected):
        raise FaultsError(faults)
    plan = _plan(inputs, job, known, profile, wish=wish, chosen=chosen, own=own, swaps=swaps)
    _warn(plan, known, own, log)
    _warn_of_overlays(inputs, plan, request.library.overlay_names(), log)
    for line in _lacking_data(job, plan, chosen, _laid(inputs)):
        log.warn(line)
    contents = chosen.local.known()
    budgeting = open_budgeting(plan, config, inputs.board, inputs.overlays, contents, cache=request.cache)
    found = budgets(plan, config, inputs.board, found=budgeting, manager=job.manager, offers=chosen.offers)
    for line in unchecked(config, inputs.board.id, found):
        log.warn(line)
    offers, local = chosen.offers, chosen.local
    decided = Decided(source, known, job, supply, offers, local, plan, budgeting, found, locked)
    check_locked(inputs, decided)
    return decided


def _laid(inputs: Inputs) -> FromOverlays:
    """What overlays say that matters to Python."""
    packages = tuple(name for each in inputs.overlays for name in each.overlay.packages)
    roots = tuple(each.root for each in inputs.overlays)
    return FromOverlays(packages, libraries_in(roots), roots)


def _names(inputs: Inputs, job: Job, supply: Supply, own: Own, profile: str) -> Names:
    universe = supply.offers.universe
    return Names(inputs.loaded, inputs.overlays, inputs.board.id, job.tree, profile, universe, own.declared)


def _scripts(job: Job, supply: Supply, package: Package) -> set[str] | None:
    """The init scripts of a package whose file is on this machine."""
    paths = paths_at_hand(job, supply, package)
    return None if paths is None else init_scripts(paths)


def _check_packages(
    names: Names,
    wish: Wish,
    choice: Callable[[Wish], Sequence[Selected]],
    services: Callable[[Sequence[Selected]], list[Fault]],
    log: Log,
) -> None:
    """FaultsError for names of packages that nothing has; with them the services that nothing is called in
    the image without those packages, as far as it can be told. choice: the packages for a wish."""
    faults = package_faults(names, log)
    if not faults:
        return
    with suppress(PlanError):  # told when the names are put right, and the services then too
        faults += services(choice(wish.without(names.unknown)))
    raise FaultsError(faults)


def _first_choice(job: Job, supply: Supply, own: Own, profile: str, wish: Wish) -> Sequence[Selected]:
    wish, _ = swapped(wish, job, supply.offers, profile)
    return choose_first(job, whole_wish(wish, job.tree, profile), supply, own)


def _own_services(inputs: Inputs, own: Own) -> set[str]:
    """The services of the apps and the overlays."""
    apps = own.sources.apps if own.sources is not None else ()
    files = overlay_files(inputs.overlays)
    return {
        *(each.service for each in apps),
        *(each.program for each in own.micropython),
        *init_scripts(files),
    }


def check_services_laid(
    inputs: Inputs, decided: Decided, packages: Sequence[Selected], over: FileTree = EMPTY
) -> None:
    """FaultsError for services that the config names and that neither packages, which are laid for make by
    now, nor overlays bring."""
    services = inputs.loaded.config.services
    if not (services.disabled or services.enabled):
        return
    job, supply, own = decided.job, decided.supply, decided.local.own
    scripts = init_scripts((*package_paths(job, supply, packages), *over, *overlay_files(inputs.overlays)))
    names = _names(inputs, job, supply, own, decided.plan.profile.name)
    check_scripts(names, packages, scripts)


def _open(
    request: Request,
    inputs: Inputs,
    work: Path,
    log: Log,
    locked: LockedBoard | None,
    *,
    ended: ExitStack,
    in_memory: Path | None,
) -> tuple[TreeSource, Job]:
    """The tree, and what is needed to work with it. ended: until when its view is being opened; in_memory: as
    decide() has it."""
    config = inputs.loaded.config
    if locked is not None and config.release:
        config = config.model_copy(update={"release": locked.parts.tree.version})
    source = find_tree(request, config, inputs.board, log)
    view = opening_view(source.folder, work, log, sandbox=request.sandbox, in_memory=in_memory)
    opened = ended.enter_context(view)
    tree = request.shared.get(
        "facts of a tree",
        (source.folder, config.series),
        lambda log: read_tree(source.folder, opened, request.cache, log, series=config.series),
        log,
    )
    if request.imagebuilder or config.imagebuilder:
        check_release(inputs.loaded, tree, source.given, asked=request.release)
    make_folder(request.cache)
    job = Job(
        config=inputs.loaded.config,
        board=inputs.board,
        tree=tree,
        manager=manager_of(tree),
        root=request.library.root,
        cache=request.cache,
        opened=opened,
        work=work,
        log=log,
        offline=request.offline,
        mirrors=request.mirror_places(config),
        given_up=None if request.once is None else request.once.given_up,
    )
    return source, job


def _supply(request: Request, job: Job) -> Supply:
    """What images of the tree can be made from: read once for all requests of a command that have the same
    feeds from the same places. Only the last few are kept, since one has ten thousand packages."""
    config = job.config
    key = (job.tree.folder, job.tree.series, config.feed, config.mirror, job.mirrors)

    def opened(log: Log) -> Supply:
        return job.manager.open(replace(job, log=log))

    return request.shared.get("supply", key, opened, job.log, most=_SUPPLIES_KEPT)


def _plan(
    inputs: Inputs,
    job: Job,
    known: Board,
    profile: Profile,
    *,
    wish: Wish,
    chosen: ChosenPackages,
    own: Own,
    swaps: tuple[Swap, ...],
) -> Plan:
    """All that was decided. wish: before packages became needless."""
    config, tree = inputs.loaded.config, job.tree
    wish = wish.without(chosen.local.remade.gone)
    disabled = config.services.disabled
    make = make_arguments(
        profile.name,
        wish.words,
        disabled_services=disabled if tree.disables_services else (),
        extra_name=config.image.extra_name,
        rootfs_partsize=config.image.rootfs_partsize,
        sizes_rootfs=tree.sizes_rootfs,
    )
    return Plan(
        config=config.name,
        board=inputs.board.id,
        tree=tree,
        profile=profile,
        python=config.python.variant,
        wish=wish,
        wanted=chosen.wanted,
        imports=own.python.imports,
        taken=own.taken,
        install=chosen.found.selected,
        trimmed=own.trimmed,
        shaken=chosen.local.remade.shaken,
        back=dict(chosen.found.back),
        swaps=swaps,
        disabled_services=disabled,
        overlays=tuple(each.overlay.name for each in inputs.overlays),
        make=tuple(make),
        unchecked=tuple(unknown_images(known, profile)),
    )


def _warn(plan: Plan, known: Board, own: Own, log: Log) -> None:
    """What a plan does that its config did not mean."""
    for place, mine in own.instead.items():
        users = needing(place, plan.install)
        if users or place in plan.wish.add:
            who = f", wanted by {', '.join(users)}" if users else ""
            log.warn(f"{mine} {own.declared[mine].version} takes the place of the feeds' {place}{who}")
    for name, chain in plan.back.items():
        log.warn(f"'{name}' was removed, and stays, because it is needed: {' -> '.join(chain)}")
    for swap in plan.swaps:
        if not swap.done:
            log.warn(str(swap))
    for image in plan.unchecked:
        log.warn(f"{not_known(known, image)}: it cannot be checked, and build refuses it ({HOW_TO_TELL})")


def _lacking_data(job: Job, plan: Plan, chosen: ChosenPackages, laid: FromOverlays) -> Iterator[str]:
    """What apps look for in vain in the image: own.data.lacking_data()."""
    own = chosen.local.own
    if not own.uses:
        return
    from imagebuilder.own.data import data_sources, lacking_data, names_of  # noqa: PLC0415 - for few apps

    there = data_sources(
        job.config.python, names_of(each.package for each in plan.install), own.distributions, laid.folders
    )
    yield from lacking_data(own.uses, there, {each.name for each in chosen.offers.packages})


def _warn_of_overlays(inputs: Inputs, plan: Plan, there: Sequence[str], log: Log) -> None:
    """Which overlays have work that needs hardware, and nothing in the image drives it; and what they
    conflict with that is not there."""
    for fault in unknown_overlays(inputs.overlays, there):
        log.warn(str(fault))
    packages = [each.package for each in plan.install]
    for each in inputs.overlays:
        for kind in each.overlay.hardware:
            if not drivers(kind, packages):
                needs = f"the overlay '{each.overlay.name}' needs {HARDWARE[kind].words}"
                log.warn(f"{needs}, and nothing in this image drives it")


def entry_of(
    inputs: Inputs,
    decided: Decided,
    made: Mapping[str, Package] = MappingProxyType({}),
    *,
    tree_sha256: str | None = None,
) -> LockedBoard:
    """What a lock says of this image. made: the packages that are made here, once they are; without them it
    says of these what the plan does. tree_sha256: of the tree, by default as a lock has it. What
    locked_files() raises."""
    plan, config = decided.plan, inputs.loaded.config
    parts = locked_parts(
        plan,
        decided.board,
        builder=__version__,
        release=config.release or "",
        sha256=tree_sha256 or decided.tree_sha256,
        hooks=hooks_text(plan, Path("/work"), hermetic=True),  # where that is decides nothing
        overlays=locked_files(config, inputs.overlays),
        made=made,
    )
    return lock_entry(
        plan,
        parts,
        feeds=decided.supply.indexes(),
        requirements=decided.local.own.resolved,
        originals=decided.local.taken,
    )


def check_locked(
    inputs: Inputs, decided: Decided, made: Mapping[str, Package] = MappingProxyType({})
) -> None:
    """LockError, naming what changed, where the image is bound to a lock and is not what that says; made: as
    for entry_of()."""
    if decided.locked is not None:
        changes = differences(decided.locked, entry_of(inputs, decided, made))
        check_same(inputs.loaded.config.name, changes)


@contextmanager
def _lock_blamed(locked: LockedBoard | None, asked: Wish, config: str) -> Iterator[None]:
    """Only what is locked may be taken: what the config asks for besides is found in no feed, and the reason
    is the lock."""
    try:
        yield
    except PlanError:
        if locked is not None:
            there = set(locked.parts.make["PACKAGES"].split())
            new = [f"make's PACKAGES: {name} is new" for name in asked.add if name not in there]
            check_same(config, sorted(new))
        raise


@contextmanager
def decided(request: Request, log: Log) -> Iterator[tuple[Inputs, Decided]]:
    """The decision with a folder of its own for what is temporary, for those who only ask."""
    from imagebuilder.host.cache import cache_disk_errors  # noqa: PLC0415 - builds have their work elsewhere

    inputs = load_inputs(request)
    ready_cache(request.cache)
    with cache_disk_errors(request.cache), temporary_folder("asking", request.cache) as folder:
        yield inputs, decide(request, inputs, folder, log)
