"""A hermetic feed for opkg: a folder with exactly the packages of one image, each checked, and their index.

With it and with its own packages/ the tree needs no network. Nobody else's files are looked at: opkg's
download cache is an empty folder of the view (see tree.make).

The index of the tree's own packages/ is kept in the cache, so that make need not make it again each time. A
fresh or copied tree has an index that make calls out of date, whatever it holds: `find packages -cnewer
packages/Packages.gz` looks at the time of the last change of a file's status, which unpacking and copying
set (and mounting the view sets it too). On 17.01.7 making it takes 10 of a build's 15 seconds. An index that
was made from the very files is put in its place by a goal of ours, just before make looks.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path

from imagebuilder.host.beneath import write_beneath
from imagebuilder.host.files import read_plain, read_plain_text
from imagebuilder.host.fs import copy_file, disk_errors_explained, sha256_of
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.host.walk import walk
from imagebuilder.model.control import format_fields
from imagebuilder.model.package import Package, Selected
from imagebuilder.model.tree import Places, TreeError
from imagebuilder.packages.feed import FEED, NO_SHA256, Finder, first_right, lay_files
from imagebuilder.packages.index_cache import kept_index
from imagebuilder.packages.opkg.ipk import PackageFileError
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.packages.opkg.opkg import format_index
from imagebuilder.tree.make import GIVEN_HOOKS

FEED_NAME = "hermetic"
OWN_FEED = "src imagebuilder file:packages"
_SOURCE = re.compile(r"^\s*src(?:/gz)?\s+(\S+)\s+(\S+)")
_ARCHITECTURE = re.compile(r"^\s*arch\s+(\S+)\s+\d+")
ANY_ARCHITECTURE = "all"
_SIGNED = re.compile(r"^\s*option\s+check_signature\b")


def feeds_of(tree: Path) -> dict[str, str]:
    """The feeds that the tree's repositories.conf names besides folders, in their order: name to URL."""
    found = (_SOURCE.match(line) for line in _repositories(tree))
    return {match[1]: match[2] for match in found if match and not match[2].startswith("file:")}


def architectures_of(tree: Path, own: str) -> tuple[str, ...]:
    """The architectures of packages that the tree's opkg takes: `all` and its own, which the Makefile names
    (--add-arch), and those that repositories.conf adds."""
    found = (_ARCHITECTURE.match(line) for line in _repositories(tree))
    return tuple(dict.fromkeys((ANY_ARCHITECTURE, own, *(match[1] for match in found if match))))


def used_indexes(tree: Path) -> dict[str, Path]:
    """The indexes of these feeds, by name, that opkg left in the dl/ of a used tree."""
    places = {name: tree / "dl" / name for name in feeds_of(tree)}
    return {name: place for name, place in places.items() if place.is_file()}


def lay_feed(folder: Path, wanted: Sequence[Selected], finders: Sequence[Finder]) -> tuple[Path, ...]:
    """Lay the wanted packages and their index (Packages, Packages.gz) into `folder`, which is made; the
    package files, in the order of `wanted`.

    finders: asked in turn; a file that is not what the index says is as good as none. FeedError
    names every package that is missing or damaged, and what wants it.
    """
    with disk_errors_explained(folder):
        laid = lay_files(folder, wanted, finders, checked_file)
        text = format_index(laid)
        (folder / "Packages").write_text(text, "utf-8")
        (folder / "Packages.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    return tuple(folder / package.filename for package in laid)


def checked_file(package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
    """A file that is what the index says, or None and what is the matter."""
    if not package.sha256:
        return None, f"{NO_SHA256}, so that nobody can tell whether a file is the right one"
    return first_right(
        package,
        finders,
        lambda file: package.size in (0, file.stat().st_size) and sha256_of(file) == package.sha256.lower(),
    )


def lay_lists(work: Path) -> None:
    """Put the lists of the hermetic feed and of the tree's own packages where opkg looks: forks leave
    out `opkg update`, which would do that (GL.iNet's, seen in 19.07).

    work: of a build. What is not there is not laid.
    """
    (work / "dl").mkdir(exist_ok=True)
    for name, folder in ((FEED_NAME, FEED), (OWN_FEED.split()[1], "make")):
        index = work / folder / "Packages"
        if index.is_file():
            (work / "dl" / name).unlink(missing_ok=True)  # programs of the view can have put a link there
            copy_file(index, work / "dl" / name)


def lay_repositories(tree: Path, view: PrivateView) -> None:
    """Give the view a repositories.conf that names the hermetic feed and the tree's own packages, and no
    other. Signatures are not asked for: every file was checked against a verified index."""
    kept = [line for line in _repositories(tree) if not (_SIGNED.match(line) or _SOURCE.match(line)) and line]
    lines = [*kept, f"src {FEED_NAME} file:{view.work / FEED}", OWN_FEED]
    write_beneath(view.changed, "repositories.conf", "".join(f"{line}\n" for line in lines).encode())


def _repositories(tree: Path) -> list[str]:
    text = read_plain_text(tree / "repositories.conf", errors="replace")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


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
    folder = tree / "packages"
    items = walk(folder.resolve(), bounded=True) if folder.is_dir() else ()
    found = sorted(folder / item.path for item in items if item.path.endswith(".ipk") and not item.is_folder)
    return tuple(path for path in found if path.name.partition("_")[0] not in _NOT_LISTED)


def base_packages(tree: Path, places: Places) -> tuple[Path, ...]:
    """The files of libc and kernel, which no index lists, as make takes them: from 21.02 on beside the
    kernel's .config if they lie there, else in packages/. Source: package_install of the ImageBuilder's
    Makefile, which looks in these folders in turn and takes the first.

    TreeError where the Makefile installs one of them so and none of the folders has it: make would fail.
    Nothing is missed of a tree whose make does not say where the kernel's folder is.
    """
    makefile = read_plain(tree / "Makefile") if (tree / "Makefile").is_file() else b""
    beside = _BESIDE_KERNEL in makefile
    folders = [places.linux] if beside and places.linux else []
    folders += [places.packages, f"{places.packages}/base"]
    found = {
        name: next(
            (path for folder in folders for path in sorted((tree / folder).glob(f"{name}_*.ipk"))), None
        )
        for name in _NOT_LISTED
    }
    missing = [
        name for name, path in found.items() if path is None and b"/%b_*.ipk" % name.encode() in makefile
    ]
    if missing and not (beside and not places.linux):
        raise TreeError(
            f"{tree} has no package {' and no package '.join(missing)}, which make installs by its file:"
            f" there is none in {', '.join(folders[:-1])}",
            hint="the tree is not whole: unpack the ImageBuilder's archive again (git repositories of trees"
            " often lack such folders)",
        )
    return tuple(path for path in found.values() if path is not None)


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
    makefile = read_plain_text(tree / "Makefile", errors="replace")
    goal = "package_reload" if _LOOKS.search(makefile) else _LOOKS_INLINE
    return _INDEX_MK.format(goal=goal, folder=folder, index=INDEX)
