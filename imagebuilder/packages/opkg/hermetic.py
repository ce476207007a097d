"""Indexes of package files: that of a tree's own packages/ is kept in the cache, so that make need not make
it again each time.

A fresh or copied tree has an index that make calls out of date, whatever it holds: `find packages -cnewer
packages/Packages.gz` looks at the time of the last change of a file's status, which unpacking and copying
set (and mounting the view sets it too). On 17.01.7 making it takes 10 of a build's 15 seconds. An index that
was made from the very files is put in its place by a goal of ours, just before make looks.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path

from imagebuilder.host.fs import sha256_of
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.model.control import format_fields
from imagebuilder.model.tree import Places
from imagebuilder.packages.index_cache import kept_index
from imagebuilder.packages.opkg.ipk import PackageFileError
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.tree.make import GIVEN_HOOKS

_BESIDE_KERNEL = b"$(LINUX_DIR)/kernel_"
_NOT_LISTED = ("libc", "kernel")  # as ipkg-make-index.sh: make installs these two by their files, in order
INDEX = "Packages"
# reading a folder of an overlay can change its status, once: so it is read before the index's own is changed
_INDEX_MK = """\
{goal}: index_from_cache
.PHONY: index_from_cache
index_from_cache:
\t@mkdir -p packages && cp -f {folder}/{index} {folder}/{index}.gz packages/ && \\
\t\tls packages >/dev/null && touch packages/{index}.gz
"""
# where make looks whether the index is up to date: 17.01 and newer have a goal for it, some forks have not
_LOOKS = re.compile(r"(?m)^package_reload:")
_LOOKS_INLINE = "_call_image"


def own_packages(tree: Path) -> tuple[Path, ...]:
    """The package files in the tree's packages/, sorted, that its index lists."""
    found = sorted((tree / "packages").rglob("*.ipk"))
    return tuple(path for path in found if path.name.partition("_")[0] not in _NOT_LISTED)


def base_packages(tree: Path, places: Places) -> tuple[Path, ...]:
    """The files of libc and kernel, which no index lists, as make takes them: from 21.02 on beside the
    kernel's .config if they lie there, else in packages/. Source: package_install of the ImageBuilder's
    Makefile, which looks in these folders in turn and takes the first."""
    makefile = tree / "Makefile"
    beside = makefile.is_file() and _BESIDE_KERNEL in makefile.read_bytes()
    folders = [places.linux] if beside and places.linux else []
    folders += [places.packages, f"{places.packages}/base"]
    found = (
        next((path for folder in folders for path in sorted((tree / folder).glob(f"{name}_*.ipk"))), None)
        for name in _NOT_LISTED
    )
    return tuple(path for path in found if path is not None)


def own_index(tree: Path, cache: Path) -> Path:
    """`Packages` of the tree's own packages, made or found in the cache."""
    folder, files = tree / "packages", own_packages(tree)
    return kept_index(folder, files, cache, lambda: index_of(folder, files).encode())


def index_of(folder: Path, files: Sequence[Path]) -> str:
    """`Packages` of a folder's .ipk files, as ipkg-make-index.sh writes it: each file's control fields as
    they stand, with Filename (relative to the folder), Size and SHA256sum before the description. A file that
    is no package has a paragraph without a name, as in OpenWrt's own indexes: opkg passes over it, and who
    reads it is told which file it is."""
    paragraphs = []
    for file in files:
        fields = _control(file)
        described = {"Description": fields.pop("Description")} if "Description" in fields else {}
        fields |= {
            "Filename": str(file.relative_to(folder)),
            "Size": str(file.stat().st_size),
            "SHA256sum": sha256_of(file),
        }
        paragraphs.append(format_fields(fields | described))
    return "".join(f"{paragraph}\n" for paragraph in paragraphs)


def _control(file: Path) -> dict[str, str]:
    try:
        return dict(read_control(file).fields)
    except PackageFileError:
        return {}


def lay_own_index(index: Path, tree: Path, view: PrivateView, work: Path) -> None:
    """Have make take this index of packages/, in place of the one that it would make. work: the folder of the
    build, of which make reads `make`."""
    folder = work / "make"
    folder.mkdir(parents=True, exist_ok=True)
    text = index.read_bytes()
    (folder / INDEX).write_bytes(text)
    (folder / f"{INDEX}.gz").write_bytes(gzip.compress(text, mtime=0))
    (folder / GIVEN_HOOKS).write_text(_index_makefile(tree, view.work / folder.name), "utf-8")


def _index_makefile(tree: Path, folder: Path) -> str:
    """The makefile that puts the index from `folder`, as programs in the view see it, into packages/."""
    makefile = (tree / "Makefile").read_text("utf-8", "replace")
    goal = "package_reload" if _LOOKS.search(makefile) else _LOOKS_INLINE
    return _INDEX_MK.format(goal=goal, folder=folder, index=INDEX)
