"""What a config says and its tree or its board contradict: a release beside an ImageBuilder of another one, a
partition where there is no disk, an image that could not start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from imagebuilder.budget.flash import is_disk
from imagebuilder.config.board import Board
from imagebuilder.config.config import LoadedConfig
from imagebuilder.config.releases import shipped_releases
from imagebuilder.config.toml import KeyPath, TomlFile
from imagebuilder.errors import FaultsError
from imagebuilder.log import Log
from imagebuilder.model.package import Selected, Wish
from imagebuilder.model.release import LATEST, SNAPSHOT, Release, is_embedded
from imagebuilder.model.size import human_size
from imagebuilder.model.tree import Tree, TreeError
from imagebuilder.packages.resolution import PlanError
from imagebuilder.tree.tree import settings_of

_MEBIBYTE = 1 << 20
# default packages of every release without which nothing starts, whatever else is there
_STARTING = {
    "busybox": "its shell runs what starts the device, and the scripts of packages while an image is made",
    "procd": "it is the first program that the device runs",
}


def check_release(loaded: LoadedConfig, tree: Tree, given: str, *, asked: str | None) -> None:
    """TreeError for an ImageBuilder that was given, and is not of the release that the config names, or that
    --release does (asked)."""
    wanted = loaded.config.release
    if wanted is None or is_of(tree, wanted):
        return
    follows = f", which follows {tree.series}" if tree.series else ""
    files = ", ".join(loaded.origins.get("release", ()))
    who = (
        f"--release {wanted}" if asked else f"config '{loaded.config.name}' is for release {wanted} ({files})"
    )
    another = f"give the ImageBuilder of {wanted}, or none, and it is fetched"
    raise TreeError(
        f"{who}, and the ImageBuilder {given} is {tree.distribution} {tree.version}{follows}",
        hint=another if asked else f"{another}; --release {_said_of(tree)} builds with this one",
    )


def is_of(tree: Tree, wanted: str) -> bool:
    """Whether a tree is of a release, as configs name it: `23.05.5`, a series, `latest`, `snapshot`, or an
    edition of the kit. The newest release is not older than the newest that this version knows."""
    if wanted == LATEST:
        newest = shipped_releases().newest(None)
        mine = Release(tree.version)
        return newest is None or (mine.numbered and not tree.series and mine >= Release(newest))
    if wanted == SNAPSHOT or is_embedded(wanted) or wanted != Release(wanted).series:
        return tree.version == wanted
    return Release(tree.release).series == wanted


def _said_of(tree: Tree) -> str:
    """What --release can say of a tree."""
    if tree.version == SNAPSHOT or is_embedded(tree.version):
        return tree.version
    exact = not tree.series and "SNAPSHOT" not in tree.version
    return tree.version if exact else Release(tree.release).series


def check_partsize(loaded: LoadedConfig, board: Board, tree: Tree, log: Log) -> None:
    """FaultsError for a size of the root file system's partition where no image has one, or that the board's
    flash does not hold. What is said for several boards is only told of where it does not count."""
    size = loaded.config.image.rootfs_partsize
    if size is None:
        return
    found = partsize_fault(size, board, tree)
    if found is None:
        return
    file, key = list(_places(loaded, board.id, ("image", "rootfs_partsize")))[-1]
    what, hint = found
    if not _has_partition(board, tree) and len(loaded.config.boards) > 1 and key[0] != "board":
        log.note(str(file.fault(key, f"does not count here: {what}")))
        return
    raise FaultsError([file.fault(key, what, hint)])


def partsize_fault(size: int, board: Board, tree: Tree) -> tuple[str, str] | None:
    """What is wrong with so many MiB for the root file system's partition, and what to do; None for a size
    that the board's images can have."""
    if not _has_partition(board, tree):
        what = f"the images of {board.id} are for no disk and no card, and have no partition of a size"
        return what, "leave it out"
    kernel = int(settings_of(Path(tree.folder)).get("TARGET_KERNEL_PARTSIZE") or 0)
    if isinstance(board.flash, int) and (size + kernel) * _MEBIBYTE > board.flash:
        beside = f", beside {kernel} MiB for the kernel" if kernel else ""
        what = f"{size} MiB{beside} are more than the {human_size(board.flash)} that {board.id} has"
        return what, f"less than {board.flash // _MEBIBYTE - kernel} can fit"
    return None


def _has_partition(board: Board, tree: Tree) -> bool:
    return is_disk(board) or "TARGET_ROOTFS_PARTSIZE" in settings_of(Path(tree.folder))


def _places(loaded: LoadedConfig, board: str, key: KeyPath) -> Iterator[tuple[TomlFile, KeyPath]]:
    """Where files say a key, as far as it counts for a board: the last one is it."""
    for prefix in ((), ("board", board)):
        for file in loaded.files:
            here: Any = file.values
            for part in (*prefix, *key):
                here = here.get(part) if isinstance(here, dict) else None
            if here is not None:
                yield file, (*prefix, *key)


def check_starts(wish: Wish, tree: Tree, selected: Sequence[Selected]) -> None:
    """PlanError for an image from which somebody took what every device starts with. Another package that
    provides it will do, and another busybox (`busybox-selinux`)."""
    there = {name for each in selected for name in (each.name, *each.package.provides)}
    there |= {"busybox" for name in there if name.startswith("busybox-")}
    for name, reason in _STARTING.items():
        if name in wish.remove and name in tree.default_packages and name not in there:
            raise PlanError(f"'{name}' cannot be removed: {reason}", hint="take it out of packages.remove")
