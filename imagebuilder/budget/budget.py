"""What an image takes of a board's flash and RAM, whether it fits, and what would help where it does not."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.budget.flash import (
    FlashFacts,
    Rootfs,
    at_most,
    flash_budget,
    is_disk,
    measured_rootfs,
    place_of,
    predict_rootfs,
)
from imagebuilder.budget.flash_known import compressed_files, known_bytes, known_key
from imagebuilder.budget.ram import ram_budget, ram_needs
from imagebuilder.called import typed
from imagebuilder.config.board import Board
from imagebuilder.config.model_config import MOST_PARTSIZE, Config
from imagebuilder.config.overlay import LoadedOverlay
from imagebuilder.config.releases import shipped_releases
from imagebuilder.errors import UserError
from imagebuilder.host.beneath import head_beneath, is_plain, real_folder
from imagebuilder.host.kept_sizes import kept_sizes
from imagebuilder.host.walk import walk
from imagebuilder.model.budget import Advice, Budgets, Fit, FlashBudget
from imagebuilder.model.package import Package
from imagebuilder.model.release import Release
from imagebuilder.model.size import human_size
from imagebuilder.packages.hardware import serving, uses
from imagebuilder.packages.manager import PackageManager
from imagebuilder.packages.supply import Offers
from imagebuilder.python.catalogue.variants import available_variants, catalogue_series, python_packages
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.tree.measure import MeasureError, check_kernel, image_facts, squashfs_options
from imagebuilder.tree.plan import Plan

if TYPE_CHECKING:
    from imagebuilder.budget.advice import Situation

ADVICE_SHOWN = 6
_PYTHON = ("python", "libpython", "micropython")
_OF_VARIANT = ("python.variant", "python.source")  # who asks for what a variant of Python is (wish.wish_of)
_BYTES_USED = 40  # where a squashfs's superblock says how long it is (Linux: fs/squashfs/squashfs_fs.h)


class BudgetError(UserError):
    """An image that does not fit its board, or leaves less free than the config wants."""


@dataclass(frozen=True)
class Budgeting:
    """What budgets of one plan are made from. board: as the tree's releases know it; contents: of packages
    whose files are known, by their names. cache: where what these take is kept, if it is."""

    plan: Plan
    config: Config
    board: Board
    overlays: tuple[LoadedOverlay, ...]
    said: FlashFacts
    contents: Mapping[str, FileTree] = field(default_factory=dict)
    cache: Path | None = None

    @cached_property
    def _known_bytes(self) -> dict[str, int]:
        planned = {each.name for each in self.plan.install}
        trees = {name: tree for name, tree in self.contents.items() if name in planned}
        how = self.said.squashfs
        if not trees:
            return {}
        return kept_sizes(self.cache, known_key(trees, how), lambda: known_bytes(trees, how))

    @cached_property
    def _files_bytes(self) -> int:
        contents = (path.read_bytes() for path in overlay_files(self.overlays).values())
        return compressed_files(contents, self.said.squashfs)

    @property
    def packages(self) -> tuple[Package, ...]:
        """All that the plan has."""
        return tuple(each.package for each in self.plan.install)

    def rootfs(self, packages: Iterable[Package]) -> Rootfs:
        """The squashfs with these packages, predicted."""
        return predict_rootfs(packages, self.said, self._files_bytes, self._known_bytes)

    def flash(self, rootfs: Rootfs) -> FlashBudget:
        """The flash with this squashfs. BudgetError where the config bakes an image without need."""
        size = self.config.image.rootfs_partsize
        baked = self.config.image.baked
        if baked and not place_of(self.board, self.said.images, None).jffs2:
            raise BudgetError(
                f"image.baked is for flash with JFFS2, and {self.board.id} keeps changes elsewhere",
                hint="leave it out",
            )
        return flash_budget(
            rootfs,
            self.said,
            self.board,
            wanted_free=self.config.budget.flash_free,
            baked=baked,
            rootfs_partsize=size << 20 if size else None,
            python=[each.name for each in rootfs.packages if each.name.startswith(_PYTHON)],
            apps=self.config.packages.add,
        )


def open_budgeting(
    plan: Plan,
    config: Config,
    board: Board,
    overlays: Sequence[LoadedOverlay],
    contents: Mapping[str, FileTree],
    *,
    cache: Path | None = None,
) -> Budgeting | str:
    """What is needed to budget a plan; or, in words, why the tree does not say how large its images are.
    contents: of packages whose files are known at plan time; cache: as Budgeting has it."""
    tree, places = Path(plan.tree.folder), plan.tree.places
    board = board.for_profile(plan.profile)
    try:
        images = image_facts(tree, places, plan.tree.target, plan.profile.name)
        check_kernel(tree, plan.profile.name, images)
        said = FlashFacts(squashfs_options(tree, places), plan.tree.arch, plan.tree.release, images)
    except MeasureError as error:
        return error.message
    return Budgeting(plan, config, board, tuple(overlays), said, contents, cache)


def budgets(
    plan: Plan,
    config: Config,
    board: Board,
    *,
    found: Budgeting | str,
    manager: PackageManager,
    offers: Offers,
) -> Budgets:
    """Flash and RAM before the image is made, and advice where it does not fit. found: of open_budgeting();
    offers: what else could be taken."""
    needs = ram_needs(plan.tree.release, plan.tree.arch, config.python.variant, apps=bool(config.python.apps))
    ram = ram_budget(board, needs, wanted_free=config.budget.ram_free)
    if isinstance(found, str):
        return Budgets(ram=ram, notes=(f"the flash cannot be predicted: {found}",))
    flash = found.flash(found.rootfs(found.packages))
    return Budgets(flash=flash, ram=ram, advice=_advice(found, flash, manager, offers))


def _advice(
    found: Budgeting, flash: FlashBudget, manager: PackageManager, offers: Offers
) -> tuple[Advice, ...]:
    if flash.verdict not in ("too big", "too little left"):
        return ()
    from imagebuilder.budget.advice import advise  # noqa: PLC0415 - most images fit

    return advise(
        situation(found),
        lambda wish: manager.foresee(wish, offers, found.plan.tree.release).selected,
        lambda selected: found.flash(found.rootfs(each.package for each in selected)),
    )


def fitted(
    found: Budgeting,
    manager: PackageManager,
    offers: Offers,
    *,
    text: str,
    file: str,
    board: str | None,
    any_interpreter: bool,
) -> Fit:
    """The least change to the config's text that makes the image fit, counting all of the uncertainty."""
    from imagebuilder.budget.fit import fit  # noqa: PLC0415 - for `--fit` alone

    return fit(
        situation(found),
        lambda wish: manager.foresee(wish, offers, found.plan.tree.release).selected,
        lambda selected: found.flash(at_most(found.rootfs(each.package for each in selected))),
        text=text,
        file=file,
        board=board,
        any_interpreter=any_interpreter,
    )


def situation(found: Budgeting) -> Situation:
    """What the config asks for, and what else it could ask for."""
    from imagebuilder.budget.advice import Situation  # noqa: PLC0415 - most images fit

    plan, config = found.plan, found.config
    series = catalogue_series(plan.tree.release)
    python = config.python
    variants: dict[str, tuple[str, ...]] = {}
    if python.variant != "none":
        others = [name for name in available_variants(series) if name not in ("none", "auto")]
        variants = {name: python_packages(series, name).packages for name in others}
        variants[python.variant] = tuple(name for name in plan.wanted.add if name.startswith(_PYTHON))
    needed = {name for each in found.overlays for name in each.overlay.packages}
    for kind in sorted({kind for each in found.overlays for kind in each.overlay.hardware}):
        needed |= serving(kind, found.packages)
    # apps, requirements, recipes, pip: all that was asked for but by the variant, which has moves of its own
    needed |= {
        name
        for name, asker in plan.wish.add.items()
        if name not in config.packages.add and not asker.startswith(_OF_VARIANT)
    }
    return Situation(
        plan.wanted,
        added=frozenset(config.packages.add),
        keep=frozenset({*plan.imports.wanted, *needed}),
        variant=python.variant,
        variants=variants,
        sources=tuple(name for name in plan.wanted.add if name.startswith(_PYTHON) and name.endswith("-src")),
        files={path: file.stat().st_size for path, file in overlay_files(found.overlays).items()},
        older=_older(found.board, plan.tree.release),
        hardware=uses(found.packages),
        disk=_most_of_disk(found.board) if is_disk(found.board) else None,
    )


def _most_of_disk(board: Board) -> int:
    """Bytes that a partition of the board's disk can have: less than all of it, and of a card as much as a
    config can ask for."""
    return board.flash - (1 << 20) if isinstance(board.flash, int) else MOST_PARTSIZE << 20


def _older(board: Board, version: str) -> dict[str, int | None]:
    """The newest release of each older series that knows the board. How much smaller an image is there is not
    known before it is planned."""
    known = shipped_releases()
    series = [each for each in known.series() if Release(each) < Release(Release(version).series)]
    newest = [known.newest(each) for each in series]
    return {release: None for release in newest if release is not None and board.profiles_for(release)}


def overlay_files(overlays: Iterable[LoadedOverlay]) -> dict[str, Path]:
    """The overlays' files by their paths in the image, templates as they stand."""
    found: dict[str, Path] = {}
    for each in overlays:
        for item in () if real_folder(each.folder, each.files) is None else walk(each.root, bounded=True):
            if item.is_file and not each.overlay.ignores(item.path):
                place = f"/{item.path}"
                found[place.removesuffix(".j2") if each.declared else place] = each.root / item.path
    return found


def real_budget(found: Budgeting, changed: Path) -> FlashBudget | None:
    """The flash with the root file system that make has made. changed: where the view keeps what make wrote.
    None where no squashfs was made."""
    made = f"{found.plan.tree.places.kernel}/root.squashfs"
    if not is_plain(changed, made):
        return None
    head = head_beneath(changed, made, _BYTES_USED + 8)
    (size,) = struct.unpack_from("<Q", head, _BYTES_USED)
    return measured_budget(found, size)


def measured_budget(found: Budgeting, size: int) -> FlashBudget:
    """The flash with a root file system that was packed for measuring, size in bytes: each part has the share
    that the index's figures give it."""
    found = replace(found, contents={})
    return found.flash(measured_rootfs(found.rootfs(found.packages), size))


def unchecked(config: Config, board: str, found: Budgets) -> Iterator[str]:
    """What the config wants to stay free, and nobody can tell of this board whether it does."""
    flash, ram = found.flash, found.ram
    if config.budget.flash_free and (flash is None or flash.free is None) and not config.image.baked:
        yield f"budget.flash_free is not checked: what stays free of the flash of {board} is not known"
    if config.budget.ram_free and (ram is None or ram.free is None):
        yield f"budget.ram_free is not checked: what stays free of the RAM of {board} is not known"


def refusal(plan: Plan, budgets: Budgets) -> BudgetError | None:
    """Why a plan is not built: more than the prediction may be wrong by is too much. None if it may fit."""
    flash, lines = budgets.flash, []
    if flash is not None and flash.too_much:
        lines.append(_flash_words(plan, flash))
    ram = budgets.ram
    if ram is not None and ram.too_much:
        have = human_size(max(ram.free or 0, 0))
        lines.append(
            f"of {human_size(ram.ram or 0)} RAM about {have} stay free (±{human_size(ram.uncertainty)}),"
            f" and budget.ram_free wants {human_size(ram.wanted_free)}"
        )
    if not lines:
        return None
    fitting = [f"  {each.text}" for each in budgets.advice[:ADVICE_SHOWN]]
    if fitting:
        lines += ["what would help:", *fitting]
    return BudgetError("\n".join(lines), hint=_what_to_do(plan, budgets.advice))


def _what_to_do(plan: Plan, advice: Sequence[Advice]) -> str:
    """What a plan that is refused leaves to do. --fit takes nothing that somebody asked for."""
    if any(each.change is not None and each.kind != "drop" for each in advice):
        fit = typed(f"plan {plan.config} --board {plan.board} --fit")
        return f"`{fit}` looks for the least change that fits, and asks before it writes"
    return "do one of these" if advice else "take something out"


def _flash_words(plan: Plan, flash: FlashBudget) -> str:
    """What is too much, in numbers."""
    about = "" if flash.measured else f" (predicted, ±{human_size(flash.rootfs.uncertainty)})"
    if flash.verdict == "too little left":
        return (
            f"the image of {plan.config} for {plan.board} leaves {flash.for_settings} bytes free{about},"
            f" and {'image.baked' if flash.baked else 'budget.flash_free'} wants {flash.wanted_free}"
        )
    limits = [f"{image.type} takes at most {image.limit}" for image in flash.images if image.limit]
    said = f"; {', '.join(limits)}" if limits else ""
    return (
        f"the image of {plan.config} for {plan.board} is too big by {flash.excess} bytes{about}: kernel"
        f" {flash.kernel.bytes if flash.kernel else 'unknown'}, root file system {flash.rootfs.bytes}{said}"
    )


def check_budget(plan: Plan, budgets: Budgets) -> None:
    """BudgetError for a plan that cannot fit."""
    error = refusal(plan, budgets)
    if error is not None:
        raise error
