"""A wheel's files at their places on the target."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.elf import Elf, ElfError, is_elf, read_elf
from imagebuilder.python.apps.launcher import PROGRAMS, StartOptions, entry_point_program
from imagebuilder.python.bytecode.bytecode import head_of
from imagebuilder.python.wheels.target import WheelTarget, native_hint
from imagebuilder.python.wheels.wheels import UNRECORDED, Wheel, WheelError, WheelFile, metadata_head
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry, FileTree, file_of

MINIMAL = ("METADATA", "entry_points.txt")  # what importlib.metadata and pkg_resources read
_SCRIPT = re.compile(rb"\A#!\s*python[w]?([^\n]*)")
# importlib takes both names; which platform's name comes after the version depends on how CPython was built
_EXTENSION = re.compile(r"\.(?:cpython-\d+[a-z]*|cp\d+)[^./]*\.so$")


class NativeCodeError(UserError):
    """A package with native code that the target cannot run."""


@dataclass(frozen=True, slots=True)
class WheelTree:
    """A wheel as files. tree: with sources, not compiled; programs: what goes to /usr/bin, as it is; needs:
    packages with shared libraries that its native modules want."""

    tree: FileTree
    programs: FileTree
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NativeFiles:
    """What is native code of a wheel or an app's folder. distribution: for hints; where: it lies; elves: what
    these files say, by their names in it."""

    distribution: str
    where: Path
    elves: Mapping[str, Elf]


def natives_of(wheel: Wheel) -> NativeFiles:
    """A wheel's. WheelError for a damaged file."""
    return _natives({name: file.data for name, file in wheel.files.items()}, wheel.path, wheel.name)


def natives_in(app: Path, entries: Mapping[str, Entry], name: str) -> NativeFiles:
    """Those of an app's folder. name: the app's. WheelError for a damaged file."""
    native = {path: head_of(entry) for path, entry in entries.items() if entry.kind == "file"}
    return _natives(
        {path: content(entries[path]) for path, head in native.items() if is_elf(head)}, app, name
    )


def _natives(files: Mapping[str, bytes], where: Path, distribution: str) -> NativeFiles:
    found: dict[str, Elf] = {}
    for name, data in files.items():
        if is_elf(data):
            try:
                found[name] = read_elf(data)
            except ElfError as error:
                raise WheelError(f"{where}: {name}: {error.message}") from error
    return NativeFiles(distribution, where, found)


def wanted_libraries(native: NativeFiles, target: WheelTarget) -> dict[str, str]:
    """The shared libraries that native files want besides the C library's and their own, by their names
    (SONAME), each with the first file that wants it.

    NativeCodeError that names the file which does not fit the target, and why.
    """
    beside = own_libraries(native)
    found: dict[str, str] = {}
    for name, elf in native.elves.items():
        problem = target.problem(elf, beside)
        if problem is not None:
            raise NativeCodeError(
                f"{native.where.name}: {name} {problem}", hint=native_hint(native.distribution, target)
            )
        for library in elf.needed:
            if library not in beside and not target.has_in_libc(library):
                found.setdefault(library, name)
    return dict(sorted(found.items()))


def own_libraries(native: NativeFiles) -> frozenset[str]:
    """The names that native files can be wanted by: of auditwheel's copies (`NAME.libs/`), whose names have a
    hash in them, and of all others."""
    names = (name.rpartition("/")[2] for name in native.elves)
    return frozenset((*names, *(elf.soname for elf in native.elves.values() if elf.soname)))


def check_native(native: NativeFiles, target: WheelTarget) -> tuple[str, ...]:
    """Packages with shared libraries that native files want, sorted.

    NativeCodeError that names the file which does not fit, or the library that nothing brings.
    """
    wanted = wanted_libraries(native, target)
    for library, name in wanted.items():
        if library not in target.libraries:
            raise NativeCodeError(
                f"{native.where.name}: {name} wants the library {library}, which neither it nor the image"
                " brings",
                hint=native_hint(native.distribution, target),
            )
    return tuple(sorted({target.libraries[library] for library in wanted} - {""}))


def _placed(wheel: Wheel, target: WheelTarget, site_packages: str, name: str) -> tuple[str, bool]:
    """Where a file of a wheel goes, and whether it is a program."""
    if not name.startswith(wheel.data_folder):
        return f"{site_packages}/{name}", False
    scheme, _, rest = name[len(wheel.data_folder) :].partition("/")
    major, minor = target.version_pair
    places = {
        "purelib": site_packages,
        "platlib": site_packages,
        "scripts": PROGRAMS,
        "headers": f"/usr/include/python{major}.{minor}/{wheel.name}",
        "data": "/usr",
    }
    if scheme not in places or not rest:
        raise WheelError(f"{wheel.path}: {name} is for no place that wheels know")
    return f"{places[scheme]}/{rest}", scheme == "scripts"


def _script(file: WheelFile, start: StartOptions) -> Entry:
    """A wheel's script: a first line `#!python` names the interpreter of the target, its options kept out."""
    return file_of(_SCRIPT.sub(start.first_line().encode(), file.data, count=1), 0o755)


def _shortened(metadata: bytes) -> bytes:
    """METADATA without the long description behind its headers, and without Description itself."""
    lines: list[bytes] = []
    keep = True
    for line in metadata_head(metadata).splitlines():
        if not line.startswith((b" ", b"\t")):
            keep = not line.lower().startswith((b"description:", b"license-file:"))
        if keep:
            lines.append(line)
    return b"\n".join(lines) + b"\n"


def kept_info(wheel: Wheel) -> Iterator[tuple[str, bytes]]:
    """The files of dist-info that go onto the device. Not RECORD: the package manager there knows the files,
    and these are others than the wheel's."""
    for name, file in wheel.dist_info.items():
        if wheel.keeps_info and name not in UNRECORDED:
            yield name, file.data
        elif name in MINIMAL:
            yield name, _shortened(file.data) if name == "METADATA" else file.data


def _plain_extension(name: str, file: WheelFile) -> str:
    """`x.cpython-311-x86_64-linux-musl.so` as `x.so`, which every CPython finds."""
    return _EXTENSION.sub(".so", name) if is_elf(file.data) else name


def wheel_tree(
    wheel: Wheel,
    target: WheelTarget,
    start: StartOptions,
) -> WheelTree:
    """A wheel's files on the target, without C headers. start: how its programs are started.

    Raises WheelError, NativeCodeError for native files that do not fit the target, FileTreeError.
    """
    needs = check_native(natives_of(wheel), target)
    entries: dict[str, Entry] = {}
    programs: dict[str, Entry] = {}
    for name, file in wheel.files.items():
        place, is_program = _placed(wheel, target, start.site_packages, _plain_extension(name, file))
        if is_program:
            programs[place] = _script(file, start)
        elif not place.startswith("/usr/include/python"):
            if place in entries:
                raise WheelError(f"{wheel.path}: two of its files are {place} on the target")
            entries[place] = file_of(file.data, file.mode)
    folder = f"{start.site_packages}/{wheel.data_folder.removesuffix('.data/')}.dist-info"
    entries |= {f"{folder}/{name}": file_of(data) for name, data in kept_info(wheel)}
    for entry in wheel.entry_points:
        programs[f"{PROGRAMS}/{entry.program}"] = entry_point_program(entry, start)
    return WheelTree(FileTree(entries), FileTree(programs), needs)
