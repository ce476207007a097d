"""The root file system that make left in the tree: what fills it, and which services it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from imagebuilder.model.tree import Places

OVERLAY_FILES = "files from overlays"


def find_rootfs(tree: Path, places: Places) -> Path | None:
    """The folder of the root file system (TARGET_DIR), where make has made one."""
    root = tree / places.root
    return root if places.root and root.is_dir() else None


def package_files(rootfs: Path, names: Collection[str]) -> set[str]:
    """The paths of these packages' files, by the package manager's lists in a root file system."""
    found: set[str] = set()
    for folder in ("usr/lib/opkg/info", "lib/apk/packages"):
        for name in names:
            listing = rootfs / folder / f"{name}.list"
            if listing.is_file() and not listing.is_symlink():
                found.update(line.strip() for line in listing.read_text("utf-8", "replace").splitlines())
    return found


def sizes_by_package(tree: Path, places: Places) -> list[tuple[str, int]]:
    """(package, bytes of its files before compression), the largest first, by opkg's lists of files.
    What no package owns came from overlays (or was made by package scripts)."""
    rootfs = find_rootfs(tree, places)
    if rootfs is None:
        return []
    owners: dict[str, str] = {}
    for listing in rootfs.glob("usr/lib/opkg/info/*.list"):
        if listing.is_symlink() or not listing.is_file():
            continue  # a package's script can make anything of that name
        for line in listing.read_text("utf-8", "replace").splitlines():
            owners[line.strip()] = listing.stem
    sizes: Counter[str] = Counter()
    for path in rootfs.rglob("*"):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(rootfs / "usr/lib/opkg"):
            sizes[owners.get(f"/{path.relative_to(rootfs)}", OVERLAY_FILES)] += path.stat().st_size
    return sizes.most_common()


def services(tree: Path, places: Places) -> set[str]:
    """The names of the root file system's init scripts."""
    rootfs = find_rootfs(tree, places)
    return set() if rootfs is None else {path.name for path in rootfs.glob("etc/init.d/*")}
