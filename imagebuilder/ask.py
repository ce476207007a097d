"""What can be asked about an image without building it: its plan, its lock, why a package is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.budget.budget import BudgetError, fitted, measured_budget
from imagebuilder.budget.measured import measured_bytes
from imagebuilder.called import typed
from imagebuilder.choose import lay_packages, make_packages
from imagebuilder.config.lock import locked_board
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.request import Request
from imagebuilder.config.toml import TomlFile
from imagebuilder.decide import Decided, Inputs, check_locked, check_services_laid, decided, entry_of
from imagebuilder.errors import UserError
from imagebuilder.host.cache import cache_disk_errors
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone, temporary_folder, write_whole
from imagebuilder.host.once import Once
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.sandbox import opening_view
from imagebuilder.log import Log
from imagebuilder.model.budget import Budgets, Fit
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Tree
from imagebuilder.packages.at_hand import paths_at_hand
from imagebuilder.packages.check_contents import check_contents
from imagebuilder.packages.lock import differences
from imagebuilder.packages.resolution import Resolution, count_chains, every_chain
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.server.archive import given_tree
from imagebuilder.stage import foresee_overlays, staged
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.tree import check_tree, read_tree


class NotInImageError(UserError):
    """A package that was asked about is not in the image."""


@dataclass(frozen=True)
class Ways:
    """How a package comes into an image. chains: who asked, then names of packages down to this one, shortest
    first, the first hundred at most. count: how many there are in all; where packages need one another in a
    ring nobody counts them (exact is False), and it is how many were found."""

    chains: tuple[tuple[str, ...], ...]
    count: int
    exact: bool


@dataclass(frozen=True)
class Offered:
    """A package that an image could have. planned: the image's plan has it. files: paths in it, None where
    they are not asked for, or its file is not on this machine."""

    package: Package
    planned: bool
    files: tuple[str, ...] | None = None


def plan_and_budgets(request: Request, log: Log) -> tuple[Plan, Budgets]:
    """Everything decided before anything is built, and what the image takes of flash and RAM, whether it
    fits or not. Writes nothing that stays. OverlayError where the device would trip over what an overlay
    brings."""
    with decided(request, log) as (inputs, found):
        for line in foresee_overlays(inputs.loaded.config, inputs.overlays, found.plan.install):
            log.warn(line)
        return found.plan, found.budgets


def fit_config(request: Request, log: Log, *, any_interpreter: bool = False) -> tuple[TomlFile, Fit]:
    """The config's file, and the least change to it that makes its image fit; nothing is written.

    BudgetError where the tree does not say how large its images are; UserError for a config that comes with
    this program, of whose files none is changed.
    """
    name, path = request.config_name(), request.library.config_path(request.config)
    if request.library.comes_along(path):
        raise UserError(
            f"the config '{name}' comes with this program: {path} is not changed",
            hint=f'write configs/{name}.toml with the line: extends = "{name}"; --fit changes that',
        )
    with decided(request, log) as (inputs, found):
        config = inputs.loaded.config
        if isinstance(found.budgeting, str):
            raise BudgetError(f"nothing can be fitted: {found.budgeting}")
        file = inputs.loaded.files[-1]
        return file, fitted(
            found.budgeting,
            found.job.manager,
            found.offers,
            text=file.text,
            file=str(file.path),
            board=request.board if len(config.boards) > 1 else None,
            any_interpreter=any_interpreter,
        )


def write_fit(file: TomlFile, found: Fit) -> None:
    """Put the change that fit_config() found into the config's file. UserError where somebody has changed it
    since, HostError where it cannot be written."""
    with disk_errors_explained(file.path.parent), alone(file.path.parent):
        if not file.path.is_file() or file.path.read_bytes() != file.text.encode():
            raise UserError(f"{file.path} was changed meanwhile: nothing is written", hint="run it again")
        write_whole(file.path, found.text.encode())


def fetch_image(request: Request, log: Log) -> tuple[Plan, Budgets]:
    """Fill the cache with all that building this image takes, so that it can be built offline. The budgets
    are measured then: the packages are here. LockError as for a build."""
    with decided(request, log) as (inputs, found):
        with log.step("fetch"):
            laid = lay_packages(found.job, found.supply, found.plan.install, found.local)
            check_locked(inputs, found, laid.made)
            check_contents(found.job, found.supply, laid.packages, EMPTY, found.plan.wish)
            found.check_libraries(laid.packages, None)
            check_services_laid(inputs, found, laid.packages)
        with log.step("measure"):
            return found.plan, _measured(inputs, found, request.shared)


def _measured(inputs: Inputs, found: Decided, once: Once) -> Budgets:
    """The budgets with the root file system as the tree's own mksquashfs packs it, where that can be done."""
    budgeting, job = found.budgeting, found.job
    if isinstance(budgeting, str):
        return found.budgets
    over = staged(inputs.loaded.config, inputs.overlays, job.root, once=once).tree
    size = measured_bytes(job, found.supply, found.plan.install, over, budgeting.said.squashfs)
    if size is None:
        return found.budgets
    return found.budgets.model_copy(update={"flash": measured_budget(budgeting, size), "advice": ()})


def lock_image(request: Request, log: Log) -> LockedBoard:
    """What a lock says of this image, as things are now. What is made here is made for it: a lock says what
    it is. Raises what that does."""
    with decided(request, log) as (inputs, found):
        made = make_packages(found.job, found.supply, found.plan.install, found.local)
        return entry_of(inputs, found, made)


def compare_lock(request: Request, log: Log) -> tuple[str, ...]:
    """What a fresh lock of this image would change. NoLockError if it was never locked."""
    locked = locked_board(request.library, request.config_name(), request.board)
    return differences(locked, lock_image(request, log))


def why(request: Request, name: str, log: Log) -> Ways:
    """Every chain that brings a package into the image. NotInImageError if it is not in it."""
    with decided(request, log) as (_, found):
        selected = found.plan.install
    resolution = Resolution(selected)
    try:
        chains = every_chain(resolution, name)
    except KeyError:
        raise NotInImageError(
            f"'{name}' is not in the image of {found.plan.config} for {found.plan.board}",
            hint=f"{typed(f'packages show {found.plan.config} {name}')} says whether it could be",
        ) from None
    askers = {each.name: each.why[0] for each in selected if each.by is None}
    count = count_chains(resolution, name)
    return Ways(
        tuple((askers[chain[0]], *chain) for chain in chains),
        len(chains) if count is None else count,
        count is not None,
    )


def search_packages(request: Request, words: tuple[str, ...], log: Log) -> tuple[Offered, ...]:
    """The packages that an image could have in whose names or descriptions every word occurs, by name."""
    lowered = [word.lower() for word in words]
    with decided(request, log) as (_, found):
        return tuple(
            each
            for each in _offered(found)
            if all(word in f"{each.package.name} {each.package.description}".lower() for word in lowered)
        )


def describe_package(request: Request, name: str, log: Log) -> tuple[Offered, ...]:
    """All versions of a package that an image could have, or of those that provide the name, with their
    files. PackageFileError for a damaged one."""
    with decided(request, log) as (_, found):
        return tuple(
            replace(each, files=paths_at_hand(found.job, found.supply, each.package))
            for each in _offered(found)
            if name == each.package.name or name in each.package.provides
        )


def _offered(found: Decided) -> list[Offered]:
    planned = {each.package for each in found.plan.install}
    offered = [Offered(package, package in planned) for package in found.supply.offers.packages]
    return sorted(offered, key=lambda each: each.package.name)


def look_at_tree(given: str, cache: Path, log: Log) -> Tree:
    """What a tree says of itself, without building with it.

    given: a folder or an archive. Raises as given_tree(), open_view() and read_tree() do.
    """
    ready_cache(cache)
    folder = given_tree(given, cache, log)
    check_tree(folder)
    with (
        cache_disk_errors(cache),
        temporary_folder("look", cache) as work,
        opening_view(folder, work, log) as opened,
    ):
        return read_tree(folder, opened, cache, log)
