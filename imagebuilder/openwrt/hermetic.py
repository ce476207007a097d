"""The index of a tree's own packages/, kept in the cache, so that make need not make it again each time.

A fresh or copied tree has an index that make calls out of date, whatever it holds: `find packages -cnewer
packages/Packages.gz` looks at the time of the last change of a file's status, which unpacking and copying
set (and mounting the view sets it too). On 17.01.7 making it takes 10 of a build's 15 seconds. An index that
was made from the very files is put in its place by a goal of ours, just before make looks.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained, write_whole

_FORM = "1"  # of what is kept; another number makes all indexes anew
_NOT_LISTED = ("libc", "kernel")  # as ipkg-make-index.sh: make installs these two by their files, in order
INDEX = "Packages"
# reading a folder of an overlay can change its status, once: so it is read before the index's own is changed
_INDEX_MK = """\
package_reload: index_from_cache
.PHONY: index_from_cache
index_from_cache:
\t@cp -f {folder}/{index} {folder}/{index}.gz packages/ && ls packages >/dev/null && touch packages/{index}.gz
"""

IndexOf = Callable[[Path, Sequence[Path]], str]


def own_packages(tree: Path) -> tuple[Path, ...]:
    """The package files in the tree's packages/, sorted, that its index lists."""
    found = sorted((tree / "packages").rglob("*.ipk"))
    return tuple(path for path in found if path.name.partition("_")[0] not in _NOT_LISTED)


def base_packages(tree: Path) -> tuple[Path, ...]:
    """libc and kernel, which no index lists: in packages/, from 23.05 on beside the kernel's image."""
    folders = [tree / "packages", tree / "packages/base", *sorted(tree.glob("build_dir/target-*/linux-*"))]
    found = (sorted(folder.glob(f"{name}_*.ipk")) for name in _NOT_LISTED for folder in folders)
    return tuple(path for paths in found for path in paths)


def own_index(tree: Path, cache: Path, index_of: IndexOf) -> Path:
    """`Packages` of the tree's own packages, made by index_of(folder, files) or found in the cache."""
    folder, files = tree / "packages", own_packages(tree)
    return kept_index(folder, files, cache, lambda: index_of(folder, files).encode())


def kept_index(folder: Path, files: Sequence[Path], cache: Path, make: Callable[[], bytes]) -> Path:
    """The index of files in a folder, made or found in the cache, in which it is kept by the digest of the
    files' names, sizes and times."""
    digest = hashlib.sha256(_FORM.encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    place = cache / "indexes" / digest.hexdigest()
    if not place.is_file():
        with disk_errors_explained(cache):
            write_whole(place, make())
    os.utime(place)  # last used now
    return place


def lay_own_index(index: Path, folder: Path) -> None:
    """Lay the index and its gzipped twin into a folder that make can read, for index_makefile()."""
    folder.mkdir(parents=True, exist_ok=True)
    text = index.read_bytes()
    (folder / INDEX).write_bytes(text)
    (folder / f"{INDEX}.gz").write_bytes(gzip.compress(text, mtime=0))


def index_makefile(folder: Path) -> str:
    """The makefile that puts the index from `folder`, as programs in the view see it, into packages/."""
    return _INDEX_MK.format(folder=folder, index=INDEX)
