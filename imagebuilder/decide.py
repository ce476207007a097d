"""Everything about one image that is decided before anything is built: tree, profile, packages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.budget.budget import Budgeting, budgets, open_budgeting
from imagebuilder.choose import ChosenPackages, choose_packages
from imagebuilder.config.board import UNKNOWN, Board, Profile
from imagebuilder.config.config import LoadedConfig, load_config
from imagebuilder.config.lock import locked_board
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.overlay import LoadedOverlay, load_overlays
from imagebuilder.config.request import Request
from imagebuilder.errors import UserError
from imagebuilder.find_tree import TreeSource, find_tree, tree_digest
from imagebuilder.host.fs import ready_cache
from imagebuilder.host.sandbox import open_view
from imagebuilder.host.tools import require
from imagebuilder.log import Log
from imagebuilder.model.budget import Budgets
from imagebuilder.model.package import Wish
from imagebuilder.own.local import Local
from imagebuilder.own.own import Own, open_own
from imagebuilder.packages.lock import LockError, differences, lock_entry
from imagebuilder.packages.managers import manager_of
from imagebuilder.packages.resolution import PlanError
from imagebuilder.packages.supply import Job, Offers, Supply
from imagebuilder.seen import told_board
from imagebuilder.tree.make import make_arguments
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.tree import choose_profile, read_tree
from imagebuilder.wish import whole_wish, wish_of


@dataclass(frozen=True)
class Inputs:
    """What the user's files say, loaded and checked."""

    loaded: LoadedConfig
    overlays: tuple[LoadedOverlay, ...]
    board: Board


@dataclass(frozen=True)
class Decided:
    """All that is known before anything is built. board: with what the tree knows of images whose format its
    file leaves open. budgeting: or why the tree does not say how large its images are."""

    source: TreeSource
    board: Board
    job: Job
    supply: Supply
    offers: Offers
    local: Local
    plan: Plan
    budgeting: Budgeting | str
    budgets: Budgets


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
            hint="take the format from docs/formats.md, or the image out of the board's file;"
            " build --accept-unchecked hands it over unchecked",
        )


def load_inputs(request: Request) -> Inputs:
    """Read and check what the user wrote, each file once. FaultsError with all that is wrong, UserError."""
    library = request.library.once()
    loaded = load_config(library, request.config, request.board)
    if request.release is not None:
        other = {"release": request.release, "imagebuilder": None}
        loaded = replace(loaded, config=loaded.config.model_copy(update=other))
    overlays = load_overlays(library, loaded.config)
    return Inputs(loaded, overlays, library.board(request.board))


def decide(request: Request, inputs: Inputs, work: Path, log: Log) -> Decided:
    """Find the tree and choose what goes in. work: a folder for what is temporary.

    UserError and its kinds: the tree cannot be had or does not fit the board, packages cannot be had.
    """
    config = inputs.loaded.config
    locked = locked_board(request.library, config.name, inputs.board.id) if request.locked else None
    with log.step("tree"):
        source, job = _open(request, inputs, work, log, locked)
    with log.step("plan"):
        known, profile = told_board(inputs.board, choose_profile(inputs.board, job.tree), job.tree)
        supply = job.manager.open(job)
        supply.note_unusable(log)
        own = open_own(job, supply, locked.requirements if locked else None)
        for warning in own.python.warnings:
            log.warn(warning)
        wish = wish_of(inputs.loaded, [each.overlay for each in inputs.overlays], own)
        wanted = whole_wish(wish, job.tree, profile.name)
        with _lock_blamed(locked, wanted, config.name):
            chosen = choose_packages(job, wanted, supply, own, locked=locked)
        plan = _plan(inputs, job, known, profile, wish=wish, chosen=chosen, own=own)
        _warn(plan, known, log)
        budgeting = open_budgeting(plan, config, inputs.board, inputs.overlays, chosen.local.known())
        found = budgets(
            plan, config, inputs.board, found=budgeting, manager=job.manager, offers=chosen.offers
        )
        decided = Decided(source, known, job, supply, chosen.offers, chosen.local, plan, budgeting, found)
        if locked is not None:
            _check_locked(locked, entry_of(inputs, decided), config.name)
        return decided


def _open(
    request: Request, inputs: Inputs, work: Path, log: Log, locked: LockedBoard | None
) -> tuple[TreeSource, Job]:
    """The tree, and what is needed to work with it."""
    config = inputs.loaded.config
    if request.sandbox:
        require(["sandbox"])
    if locked is not None and config.release:
        config = config.model_copy(update={"release": locked.tree.version})
    source = find_tree(request, config, inputs.board, log)
    view = open_view(source.folder, work, log, sandbox=request.sandbox)
    tree = read_tree(source.folder, view, request.cache, log, series=config.series)
    request.cache.mkdir(parents=True, exist_ok=True)
    job = Job(
        config=inputs.loaded.config,
        board=inputs.board,
        tree=tree,
        manager=manager_of(tree),
        root=request.library.root,
        cache=request.cache,
        view=view,
        work=work,
        log=log,
        offline=request.offline,
        mirrors=request.mirrors,
    )
    return source, job


def _plan(
    inputs: Inputs,
    job: Job,
    known: Board,
    profile: Profile,
    *,
    wish: Wish,
    chosen: ChosenPackages,
    own: Own,
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
        install=chosen.found.selected,
        shaken=chosen.local.remade.shaken,
        back=dict(chosen.found.back),
        disabled_services=disabled,
        overlays=tuple(each.overlay.name for each in inputs.overlays),
        make=tuple(make),
        unchecked=tuple(unknown_images(known, profile)),
    )


def _warn(plan: Plan, known: Board, log: Log) -> None:
    """What a plan does that its config did not mean."""
    for name, chain in plan.back.items():
        log.warn(f"'{name}' was removed, and stays, because it is needed: {' -> '.join(chain)}")
    for image in plan.unchecked:
        log.warn(f"{not_known(known, image)}: it cannot be checked, and build refuses it ({HOW_TO_TELL})")


def entry_of(inputs: Inputs, decided: Decided) -> LockedBoard:
    """What a lock says of this image."""
    return lock_entry(
        decided.plan,
        release=inputs.loaded.config.release or "",
        sha256=tree_digest(decided.source),
        feeds=decided.supply.indexes(),
        overlays={each.overlay.name: each.digest() for each in inputs.overlays},
        apps=decided.local.own.digests(decided.job.root),
        requirements=decided.local.own.resolved,
        originals=decided.local.taken,
    )


def _check_locked(locked: LockedBoard, fresh: LockedBoard, config: str) -> None:
    changed = differences(locked, fresh)
    if changed:
        raise _changed(config, changed)


def _changed(config: str, lines: Sequence[str]) -> LockError:
    return LockError(
        f"this is not what the lock of {config} says:\n" + "\n".join(lines),
        hint=f"take the change back, or accept it: python3 build.py lock {config}",
    )


@contextmanager
def _lock_blamed(locked: LockedBoard | None, wanted: Wish, config: str) -> Iterator[None]:
    """Only what is locked may be taken: what the config wants besides is found in no feed, and the reason is
    the lock."""
    try:
        yield
    except PlanError as error:
        new = sorted(set(wanted.add) - set(locked.wanted)) if locked is not None else []
        if new:
            raise _changed(config, [f"wanted: {name} is new" for name in new]) from error
        raise


@contextmanager
def decided(request: Request, log: Log) -> Iterator[tuple[Inputs, Decided]]:
    """The decision with a folder of its own for what is temporary, for those who only ask."""
    inputs = load_inputs(request)
    ready_cache(request.cache)
    with tempfile.TemporaryDirectory(prefix="asking-", dir=request.cache) as folder:
        yield inputs, decide(request, inputs, Path(folder), log)
