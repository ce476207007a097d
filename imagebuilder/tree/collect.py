"""What `make image` said and left: packages that did not go in, images that did not fit; in BIN_DIR the
images that a board knows and the manifest; in the tree the root file system.

make exits 0 when an image was too big, and buries the reason for a failure far above its last lines. The
texts are those of OpenWrt's tools, 17.01 to 24.10 (see the project's notes on the ImageBuilder).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from imagebuilder.config.board import TAKEN_APART, Board, Image
from imagebuilder.errors import UserError
from imagebuilder.host.beneath import BeneathError, read_beneath, real_folder
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.walk import listed, walk
from imagebuilder.model.result import ImageFile, InstalledPackage
from imagebuilder.model.size import human_size
from imagebuilder.model.tree import Places
from imagebuilder.tree.plan import Plan

T = TypeVar("T")

_STAGES = (
    ("Building package index", "building the package index"),
    ("Installing packages", "installing packages"),
    ("Copying extra files", "copying files"),
    ("Finalizing root filesystem", "finishing the root file system"),
    ("Cleaning up", "finishing the root file system"),
    ("Activating init scripts", "activating services"),
    ("Building images", "building images"),
    ("Calculating checksums", "calculating checksums"),
)
_INSTALLING = re.compile(r"^Installing (\S+) \(\S+\) to root")
# opkg's standard output and error meet in one line now and then, so nothing is anchored to its beginning
_UNKNOWN = re.compile(r"Unknown package '([^']+)'")
_CANNOT_INSTALL = re.compile(r"opkg_install_cmd: Cannot install package ([^\s]+?)\.?$")
_NOT_FETCHED = re.compile(r"opkg_install_pkg: Failed to download ([^\s]+?)\. ")
_UNSATISFIED = re.compile(r"Cannot satisfy the following dependencies for ([^\s:]+):$")
_DEPENDENCY = re.compile(r"^ \*\s(?!\S*:)\s*(\S.*)$")
_TOO_BIG_BY = re.compile(r"images are too big by (\d+) bytes")
_TOO_BIG_FILE = re.compile(r"WARNING: Image file (\S+) is too big: (\d+) > (\d+)")
# glibc's ld.so and bash, with the program before it, and both ld.so with it behind: a program that cannot run
# on this machine. make goes on where a recipe does not look at what it said
_NOT_STARTED = (
    ": error while loading shared libraries: ",
    ": cannot execute binary file",
    ": cannot execute: required file not found",
)
_NOT_LINKED = re.compile(r"(version [`'][^`']+' not found) \(required by ([^()]+)\)")
_NOT_LINKED_MUSL = re.compile(r"Error loading shared library ([^()]+) \(needed by ([^()]+)\)")
_NO_SPACE = re.compile(r"No space left on device")


@dataclass(frozen=True)
class TooBig:
    """An image that make left out. image: its name where make says it. excess, limit: bytes."""

    excess: int
    image: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Unsatisfied:
    """A dependency that no feed can fulfil, and the package that has it."""

    dependency: str
    package: str


@dataclass(frozen=True)
class MakeReport:
    """What went wrong in a run of make.

    unknown: packages that no feed has. not_fetched: those that could not be downloaded.
    not_installed: those that were asked for and did not go in. not_started: programs that this machine could
    not start, and why, `/tree/staging_dir/host/bin/sed: version `GLIBC_2.38' not found`.
    """

    too_big: tuple[TooBig, ...] = ()
    unknown: tuple[str, ...] = ()
    unsatisfied: tuple[Unsatisfied, ...] = ()
    not_fetched: tuple[str, ...] = ()
    not_installed: tuple[str, ...] = ()
    no_space: bool = False
    not_started: tuple[str, ...] = ()


def stage_of(line: str) -> str | None:
    """What make begins with this line, in words, if it begins anything."""
    installing = _INSTALLING.match(line)
    if installing:
        return f"installing {installing[1]}"
    return next((text for start, text in _STAGES if line.startswith(start)), None)


def read_output(lines: Iterable[str]) -> MakeReport:
    """All that the output complains of; the order is that of the output, each thing once."""
    text = list(lines)
    return MakeReport(
        too_big=_each_once(filter(None, map(_too_big, text))),
        unknown=_names(_UNKNOWN, text),
        unsatisfied=_each_once(_unsatisfied(text)),
        not_fetched=_names(_NOT_FETCHED, text),
        not_installed=_names(_CANNOT_INSTALL, text),
        not_started=_each_once(filter(None, map(_not_started, text))),
        no_space=any(_NO_SPACE.search(line) for line in text),
    )


def _each_once(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


def _names(pattern: re.Pattern[str], lines: Iterable[str]) -> tuple[str, ...]:
    return _each_once(match[1] for match in map(pattern.search, lines) if match)


def _not_started(line: str) -> str | None:
    for said in _NOT_STARTED:
        program, found, why = line.partition(said)
        if found and program.strip():
            return f"{program.split()[-1]}{said}{why}"
    match = _NOT_LINKED.search(line) or _NOT_LINKED_MUSL.search(line)
    return f"{match[2]}: {match[1]}" if match else None


def _too_big(line: str) -> TooBig | None:
    if match := _TOO_BIG_FILE.search(line):
        size, limit = int(match[2]), int(match[3])
        return TooBig(size - limit, match[1].rpartition("/")[2], limit)
    match = _TOO_BIG_BY.search(line)
    return TooBig(int(match[1])) if match else None


def _unsatisfied(lines: Iterable[str]) -> Iterator[Unsatisfied]:
    """opkg names the package in one line and its missing dependencies in the ones after it."""
    package = None
    for line in lines:
        if match := _UNSATISFIED.search(line):
            package = match[1]
        elif package and (item := _DEPENDENCY.match(line)):
            for name in re.sub(r"\([^)]*\)|\*", " ", item[1]).split():
                yield Unsatisfied(name, package)
        else:
            package = None


OVERLAY_FILES = "files from overlays"
_LISTS = "usr/lib/opkg/info"
MOST_LIST = 16 << 20  # bytes of a package's list of files
MOST_MANIFEST = 16 << 20  # bytes; ten thousand packages take half a MiB
_SHOWN_OF_LINE = 200  # characters
# bytes of an image that neither its type nor its board's flash limits: disks, which are as large as their
# partitions. More are added where a config asks for a root file system of a size of its own
MOST_OF_DISK = 4 << 30


def find_rootfs(tree: Path, places: Places) -> Path | None:
    """The folder of the root file system (TARGET_DIR), where make has made one.
    BeneathError where it, or a folder on the way, is a link."""
    return real_folder(tree, places.root) if places.root else None


def package_files(rootfs: Path, names: Collection[str]) -> set[str]:
    """The paths of these packages' files, by the package manager's lists in a root file system."""
    found: set[str] = set()
    for folder in (_LISTS, "lib/apk/packages"):
        for name in names:
            found.update(_listed_files(rootfs, f"{folder}/{name}.list"))
    return found


def _listed_files(rootfs: Path, listing: str) -> list[str]:
    """A package's files by its list; none where a package's script put something else in the list's place."""
    try:
        text = read_beneath(rootfs, listing, MOST_LIST)
    except (OSError, BeneathError):
        return []
    return [line.strip() for line in text.decode("utf-8", "replace").splitlines()]


def sizes_by_package(tree: Path, places: Places) -> list[tuple[str, int]]:
    """(package, bytes of its files before compression), the largest first, by opkg's lists of files.
    What no package owns came from overlays (or was made by package scripts)."""
    rootfs = find_rootfs(tree, places)
    if rootfs is None:
        return []
    owners: dict[str, str] = {}
    for item in () if real_folder(rootfs, _LISTS) is None else listed(rootfs, _LISTS):
        path = PurePosixPath(item.path)
        if item.is_file and path.suffix == ".list":
            owners |= dict.fromkeys(_listed_files(rootfs, item.path), path.stem)
    sizes: Counter[str] = Counter()
    for item in walk(rootfs, enter=lambda path: path != "usr/lib/opkg"):
        if item.is_file:
            sizes[owners.get(f"/{item.path}", OVERLAY_FILES)] += item.status.st_size
    return sizes.most_common()


def services(tree: Path, places: Places) -> set[str]:
    """The names of the root file system's init scripts."""
    rootfs = find_rootfs(tree, places)
    if rootfs is None or real_folder(rootfs, "etc/init.d") is None:
        return set()
    return {PurePosixPath(item.path).name for item in listed(rootfs, "etc/init.d")}


# squashfs first: a sysupgrade keeps its settings only there
_FILESYSTEMS = ("squashfs", "ubifs", "ext4", "jffs2-64k", "jffs2-128k", "initramfs")
LARGEST_SHOWN = 5
_MEBIBYTE = 1 << 20
_PASSED_OVER = re.compile(r"Package (\S+) version (\S+) has no valid architecture, ignoring\.")


class BuildError(UserError):
    """make did not build what was asked for."""


@dataclass(frozen=True)
class MadeImage:
    """An image that make left, before it is read. size: bytes."""

    file: str
    type: str
    size: int
    required: bool


def made_files(bin_dir: Path) -> dict[str, int]:
    """The names of all files that make left, sorted, and their sizes in bytes; links are none."""
    return {item.path: item.status.st_size for item in listed(bin_dir) if item.is_file}


def find_images(
    made: Mapping[str, int], board: Board, profile: str, others: Iterable[str] = ()
) -> tuple[MadeImage, ...]:
    """Of the files that make left (made_files) the images of the types that the board's file names, in its
    order. They are not read: see check_images().

    board: as the tree's releases know it (Board.for_profile); others: all profiles of the tree.
    """
    longer = tuple(name for name in others if name.startswith(f"{profile}-"))
    names, found = list(made), []
    for image_type, image in board.images.items():
        name = named_image(names, profile, image_type, image, longer)
        if name is not None:
            found.append(MadeImage(name, image_type, made[name], image.required))
    return tuple(found)


def digested(bin_dir: Path, images: Iterable[MadeImage]) -> tuple[ImageFile, ...]:
    """Images whose size was checked (check_images), read once for their SHA-256."""
    return tuple(ImageFile(**asdict(image), sha256=sha256_of(bin_dir / image.file)) for image in images)


def named_image(
    names: Sequence[str], profile: str, image_type: str, image: Image, longer: Collection[str] = ()
) -> str | None:
    """The file of that type among names: `…-PROFILE-FILESYSTEM-TYPE.EXT`, or what the board's file says it
    ends in, with or without .gz. squashfs comes before other file systems.

    A fork may put its revision behind the profile (`…-k2p-2019-02-01-git-0231ad4b5-squashfs-sysupgrade.bin`):
    such a name counts where no plain one is there. longer: other profiles whose names begin as this one's.
    """
    shape = image.file or f"{profile}-{{fs}}-{image_type}"
    plain = [shape.replace("{fs}", filesystem) for filesystem in _FILESYSTEMS]
    for named in plain:
        ending = re.compile(rf"-{re.escape(named)}(\.[a-z0-9]+)?(\.gz)?$")
        found = next((name for name in names if ending.search(name)), None)
        if found is not None:
            return found
    if image.file is not None:
        return None
    mine = [name for name in names if not any(f"-{other}-" in name for other in longer)]
    for filesystem in _FILESYSTEMS:
        middle = rf"-{re.escape(profile)}-[A-Za-z0-9_.+-]+-{filesystem}-{re.escape(image_type)}"
        ending = re.compile(rf"{middle}(\.[a-z0-9]+)?(\.gz)?$")
        found = next((name for name in mine if ending.search(name)), None)
        if found is not None:
            return found
    return None


def read_manifest(bin_dir: Path) -> tuple[Path, tuple[InstalledPackage, ...]]:
    """The manifest and its `name - version` lines. BuildError if make wrote none, or more than one;
    BeneathError for more than MOST_MANIFEST bytes.

    opkg lists without the tree's repositories.conf (include/image.mk): of a package whose architecture that
    file adds it says in the manifest itself that it passes over it (libopkg/pkg_hash.c). The package is in
    the image.
    """
    manifests = [bin_dir / name for name in made_files(bin_dir) if name.endswith(".manifest")]
    if len(manifests) != 1:
        raise BuildError(f"make wrote {len(manifests)} manifests where one was expected")
    packages = []
    text = read_beneath(bin_dir, manifests[0].name, MOST_MANIFEST).decode("utf-8", "replace")
    for line in text.splitlines():
        if passed_over := _PASSED_OVER.fullmatch(line):
            packages.append(InstalledPackage(name=passed_over[1], version=passed_over[2]))
            continue
        name, separator, version = line.partition(" - ")
        if not separator:
            raise BuildError(
                f"{manifests[0].name} has a line that names no package: {line[:_SHOWN_OF_LINE]!r}"
            )
        packages.append(InstalledPackage(name=name, version=version))
    return manifests[0], tuple(packages)


def check_manifest(plan: Plan, installed: Sequence[InstalledPackage]) -> None:
    """BuildError unless the image holds exactly the packages of the plan, in these versions."""
    planned = {each.name: each.version for each in plan.install}
    there = {each.name: each.version for each in installed}
    lines = [f"{name} {planned[name]} was planned and is missing" for name in sorted(planned.keys() - there)]
    lines += [f"{name} {there[name]} is there and was not planned" for name in sorted(there.keys() - planned)]
    lines += [
        f"{name} {planned[name]} was planned, and {there[name]} is there"
        for name in sorted(planned.keys() & there)
        if planned[name] != there[name]
    ]
    if lines:
        raise BuildError(
            "the image does not hold the packages of its plan:\n" + "\n".join(lines),
            hint="this is a fault of the builder, or a package's script installs others; please report it",
        )


def check_packages(plan: Plan, report: MakeReport) -> None:
    """BuildError, naming every package that did not go in and who asked for it."""
    lines = [f"package '{name}' is in no feed; {_asked(plan, name)}" for name in report.unknown]
    lines += [
        f"package '{missing.dependency}' is in no feed; package '{missing.package}' depends on it,"
        f" and {_asked(plan, missing.package)}"
        for missing in report.unsatisfied
    ]
    for name in report.not_fetched:
        if name in plan.wanted.add:
            lines.append(f"package '{name}' could not be downloaded; {_asked(plan, name)}")
        else:
            dependents = [f"'{other}'" for other in report.not_installed if other != name]
            lines.append(
                f"package '{name}' could not be downloaded; it is a dependency of {' or '.join(dependents)}"
            )
    explained = {*report.unknown, *report.not_fetched, *(missing.package for missing in report.unsatisfied)}
    if not lines:
        lines += [
            f"package '{name}' cannot be installed; {_asked(plan, name)}"
            for name in report.not_installed
            if name not in explained
        ]
    if lines:
        hint = "take it out, correct its name, or use a tree whose feeds have it"
        if report.not_fetched:
            hint = "feeds must be in reach, or the packages in the tree's dl/ or packages/"
        raise BuildError("\n".join(lines), hint=hint)


def _asked(plan: Plan, name: str) -> str:
    return f"asked for by {plan.wanted.add.get(name, 'another package')}"


def check_images(
    board: Board,
    images: Sequence[MadeImage],
    report: MakeReport,
    largest: Callable[[], Sequence[tuple[str, int]]],
    *,
    made: Collection[str] = (),
    not_made: Collection[str] = (),
    rootfs_partsize: int | None = None,
    python: bool = True,
) -> None:
    """BuildError for a required image that is missing or larger than its partition, or than MOST_OF_DISK
    where nothing limits it. No image is read before.

    board: as the tree's releases know it (Board.for_profile). largest: asked only where there is an
    error, what fills the root file system, (name, bytes before compression), the largest first. made: the
    names of all files that make left; not_made: types that the tree does not make (measure.not_made).
    rootfs_partsize: MiB, what the config asks for; python: whether it asks for a Python, which could be a
    smaller one.
    """
    present = {image.type for image in images}
    there = {*present, *not_made}
    missing = [name for name, image in board.images.items() if image.required and name not in there]
    lines = [f"make left out the {name} image of {board.id}" for name in missing]
    if missing:
        lines.append(f"it made {', '.join(made)}" if made else "it made no file at all")
    if report.too_big and missing:
        lines.append(_worst(board, report))
    for image in images:
        stated = board.images[image.type]
        limit = stated.limit or (None if stated.format in TAKEN_APART else board.layout.firmware)
        if limit is not None and image.size > limit:
            excess = image.size - limit
            lines.append(
                f"the {image.type} image has {image.size} bytes, {excess} more than"
                f" the {limit} bytes that {board.id} has for firmware"
            )
        most = MOST_OF_DISK + 2 * (rootfs_partsize or 0) * _MEBIBYTE
        if limit is None and image.size > most:
            lines.append(
                f"the {image.type} image has {image.size} bytes, more than the {most} bytes that an image"
                " without a limit of its own may have here"
            )
    if not lines:
        return
    if sizes := largest()[:LARGEST_SHOWN]:
        shown = ", ".join(f"{name} {human_size(size)}" for name, size in sizes)
        lines.append(f"largest in the root file system, before compression: {shown}")
    fits = report.too_big or not missing
    smaller = "take something out, or choose a smaller Python" if python else "take something out"
    raise BuildError("\n".join(lines), hint=smaller if fits else "see build.log for why")


def _worst(board: Board, report: MakeReport) -> str:
    worst = max(report.too_big, key=lambda image: image.excess)
    limit = worst.limit if worst.limit is not None else board.layout.kernel_and_rootfs
    of_limit = f"the limit of {limit} bytes" if limit is not None else "the limit of the image tool"
    what = worst.image or "kernel and root file system together"
    return f"{what}: {worst.excess} bytes over {of_limit}"
