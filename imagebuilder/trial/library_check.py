"""Shared libraries of a root file system: whether each program finds all that it is linked with, in the
versions that it wants, and each symbol in one of them. Nothing is run.

The linker's own rules: musl's from ldso/dynlink.c of musl 1.1 and 1.2 (the libraries that are itself, folders
from /etc/ld-musl-ARCH.path, rpath of whoever wants a library, no versions), glibc's from ld.so(8), with
/etc/ld.so.conf in place of the cache. What nobody is linked with, a plugin, is loaded only by who asks for
it, and takes symbols from that one: it is looked at for its libraries alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

from imagebuilder.host.elf import ELF_MAGIC, MACHINES, ElfError, ElfHeader
from imagebuilder.host.elf_linking import Linking, NeededVersion, read_linking
from imagebuilder.host.processor import is_data
from imagebuilder.model.trial import TrialCheck, TrialLevel
from imagebuilder.python.bytecode.bytecode import head_of
from imagebuilder.python.wheels.libraries import package_names
from imagebuilder.rootfs.files import content, content_size
from imagebuilder.rootfs.tree import FileTree, parent_of
from imagebuilder.trial.judged import Question, counted, finding
from imagebuilder.trial.paths import real_path

LIBRARIES = Question(
    "shared-libraries",
    "programs find their shared libraries",
    "each library, version and symbol that a program is linked with",
)
_MOST_BYTES = 256 << 20
# ldso/dynlink.c, load_library(): names that begin so are musl itself
_MUSL_ITSELF = tuple(f"lib{name}." for name in ("c", "pthread", "rt", "m", "dl", "util", "xnet"))
_MUSL_FOLDERS = ("/lib", "/usr/local/lib", "/usr/lib")
_OTHER_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_MOST_CONF_LINES = 1000
_MOST_SCRIPT = 1 << 20
_SHOWN = 3
_PYTHON_LIBRARY = re.compile(r"libpython(3\.\d+)\.so.*")  # of packages.git, lang/python/python3


@dataclass(frozen=True, slots=True)
class LinkFault:
    """What is wrong with a file."""

    file: str
    text: str
    level: TrialLevel = "error"


@dataclass(frozen=True, slots=True)
class Lack:
    """A library that a file does not find. why: in words; elsewhere: it is in the image, where the linker
    does not look by itself."""

    file: str
    library: str
    why: str
    elsewhere: bool = False


def _same(one: ElfHeader, other: ElfHeader) -> bool:
    return (one.machine, one.bits, one.little_endian) == (other.machine, other.bits, other.little_endian)


def _called(header: ElfHeader) -> str:
    name = MACHINES.get(header.machine, f"ELF machine {header.machine}")
    return f"{name}, {header.bits} bits, {header.order}"


def elf_files(tree: FileTree) -> tuple[dict[str, Linking], list[LinkFault]]:
    """What all ELF files of a tree that are linked say, by path, and those that cannot be read."""
    found, faults = {}, []
    for path, entry in tree.items():
        if entry.kind != "file" or not head_of(entry).startswith(ELF_MAGIC):
            continue
        if content_size(entry) > _MOST_BYTES:
            faults.append(
                LinkFault(path, f"it has more than {_MOST_BYTES >> 20} MiB: not looked at", "warning")
            )
            continue
        try:
            linking = read_linking(content(entry))
        except ElfError as error:
            if not is_data(path):
                faults.append(LinkFault(path, f"this ELF file is damaged: {error.message}"))
            continue
        if linking.dynamic:
            found[path] = linking
    return found, faults


@dataclass
class Linker:
    """The dynamic linker of a root file system, as far as it looks for libraries. loader: as programs name
    it; named: all paths of the root by the last part of them."""

    tree: FileTree
    files: Mapping[str, Linking]
    loader: str
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def is_musl(self) -> bool:
        """Whether it is musl's."""
        return self.loader.rpartition("/")[2].startswith("ld-musl-")

    @cached_property
    def has_versions(self) -> bool:
        """Whether it refuses a library that lacks a version of symbols: glibc's does."""
        name = self.loader.rpartition("/")[2]
        return name.startswith(("ld-linux", "ld64.so", "ld.so."))

    @cached_property
    def place(self) -> str | None:
        """Where it is, links followed."""
        return real_path(self.tree, self.loader)

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Where it looks for libraries of whoever names no folder of its own."""
        if self.is_musl:
            arch = self.loader.rpartition("/")[2].removeprefix("ld-musl-").partition(".")[0]
            given = _text(self.tree, f"/etc/ld-musl-{arch}.path")
            if given is None:
                return _MUSL_FOLDERS
            return tuple(part for line in given.split("\n") for part in line.split(":") if part)
        beside = parent_of(self.place or self.loader)
        # Debian's glibc has folders by architecture built in
        debian = [path for above in ("/lib", "/usr/lib") for path in self.tree.children(above)]
        own = (beside, *(path for path in debian if fnmatchcase(path, "*/*-linux-gnu*")))
        return tuple(dict.fromkeys((*_configured(self.tree, "/etc/ld.so.conf"), *own, *_OTHER_FOLDERS)))

    def find(self, name: str, wanting: Sequence[str]) -> str | None:
        """The file of a library; None where there is none for this processor. wanting: the file that wants
        it, and before it who wants that, the program first."""
        if self.is_musl and (name.startswith(_MUSL_ITSELF) or name == self.loader.rpartition("/")[2]):
            return self.place
        own = self.files[wanting[-1]].header
        for place in [name] if "/" in name else [f"{each}/{name}" for each in self._searched(wanting)]:
            found = real_path(self.tree, place)
            if found is not None and found in self.files and _same(self.files[found].header, own):
                return found
        return None

    def _searched(self, wanting: Sequence[str]) -> Iterator[str]:
        for path in reversed(wanting):
            file = self.files[path]
            own = path == wanting[-1]
            # RUNPATH counts for the file's own libraries with glibc, and takes its RPATH away; musl makes no
            # difference between the two and asks whoever wanted the file, too
            given = file.rpath if self.is_musl or not file.runpath else ()
            given += file.runpath if self.is_musl or own else ()
            yield from (_expanded(each, path) for each in given)
        yield from self.folders


def _expanded(folder: str, path: str) -> str:
    return folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", parent_of(path))


def _text(tree: FileTree, path: str) -> str | None:
    place = real_path(tree, path)
    if place is None or tree[place].kind != "file" or content_size(tree[place]) > 1 << 20:
        return None
    return content(tree[place]).decode("utf-8", "replace")


def _configured(tree: FileTree, path: str, *, inner: bool = False) -> Iterator[str]:
    """The folders of /etc/ld.so.conf, and of the files that it includes, which include no others here."""
    for line in (_text(tree, path) or "").split("\n")[:_MOST_CONF_LINES]:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:] if not inner else ():
                place = pattern if pattern.startswith("/") else f"{parent_of(path)}/{pattern}"
                for each in tree.children(parent_of(place)):
                    if fnmatchcase(each, place):
                        yield from _configured(tree, each, inner=True)
        elif words and words[0].startswith("/"):
            yield words[0].rstrip("/") or "/"


@dataclass
class LoadedWith:
    """All that is loaded with a program. files: their paths, the program first; missing: libraries that are
    not found, by the files that want them."""

    files: dict[str, None]
    missing: list[tuple[str, str]] = field(default_factory=list)
    by_name: dict[tuple[str, str], str] = field(default_factory=dict)


def loaded_with(path: str, linker: Linker) -> LoadedWith:
    """What a program or a plugin takes with it, as its linker finds it."""
    closure, waiting = LoadedWith({path: None}), list[tuple[str, ...]]([(path,)])
    loader = linker.place
    if loader is not None and loader in linker.files:
        closure.files[loader] = None
    for wanting in waiting:  # which grows
        for name in linker.files[wanting[-1]].needed:
            found = linker.find(name, wanting)
            if found is None:
                closure.missing.append((wanting[-1], name))
                continue
            closure.by_name[wanting[-1], name] = found
            if found not in closure.files:
                closure.files[found] = None
                waiting.append((*wanting, found))
    return closure


def _likely_packages(name: str) -> str:
    """Which packages may have a library, in words; "" where its name does not tell."""
    python = _PYTHON_LIBRARY.fullmatch(name)
    if python is not None:
        return f"libpython3-{python[1]}"
    return " or ".join(each.name for each in package_names(name)[:2])


def _lack(file: str, name: str, tree: FileTree, linker: Linker) -> Lack:
    """Why a library is not found."""
    places = {path: real_path(tree, path) for path in linker.named.get(name.rpartition("/")[2], ())}
    if not places:
        likely = _likely_packages(name)
        perhaps = f"; its package is perhaps {likely}" if likely else ""
        return Lack(file, name, f"{name} is not in the image{perhaps}")
    own = linker.files[file].header
    for path, place in places.items():
        if place is not None and place in linker.files and _same(linker.files[place].header, own):
            return Lack(file, name, f"{name} is at {path}, where the linker does not look by itself", True)
    path, place = next(iter(places.items()))
    if place is None:
        return Lack(file, name, f"{name} is not there: {path} is a link to {tree[path].target}")
    if place in linker.files:
        return Lack(file, name, f"{path} is for another processor: {_called(linker.files[place].header)}")
    return Lack(file, name, f"{path} is no shared library")


def _version_faults(closure: LoadedWith, linker: Linker) -> Iterator[LinkFault]:
    for path in closure.files:
        for wanted in linker.files[path].needed_versions:
            library = closure.by_name.get((path, wanted.library))
            given = linker.files[library].versions if library is not None else frozenset()
            if given and wanted.version not in given:
                yield LinkFault(
                    path, f"{library} has no version {wanted.version}", _version_level(wanted, linker)
                )


def _version_level(wanted: NeededVersion, linker: Linker) -> TrialLevel:
    if not linker.has_versions:
        return "note"  # musl's linker does not ask: what counts is whether the symbol is there
    return "warning" if wanted.weak else "error"


def _symbol_faults(closure: LoadedWith, linker: Linker) -> Iterator[LinkFault]:
    gives = frozenset[str]().union(*(linker.files[path].gives for path in closure.files))
    for path in closure.files:
        file = linker.files[path]
        at_once = file.wants - gives - (frozenset() if linker.is_musl else file.calls)
        late = file.wants - gives - at_once
        if at_once:
            yield LinkFault(path, f"no library has {_listed(at_once)}")
        if late:
            yield LinkFault(path, f"no library has {_listed(late)}, which it may come to call", "warning")


def _listed(symbols: Collection[str]) -> str:
    first = ", ".join(sorted(symbols)[:_SHOWN])
    more = f" and {len(symbols) - _SHOWN} more" if len(symbols) > _SHOWN else ""
    return f"the symbol {first}" if len(symbols) == 1 else f"the symbols {first}{more}"


def _told_where(tree: FileTree) -> bool:
    """Whether a script of the image tells the linker where to look for libraries."""
    return any(
        b"LD_LIBRARY_PATH" in content(entry)
        for entry in tree.values()
        if entry.kind == "file" and head_of(entry).startswith(b"#!") and content_size(entry) < _MOST_SCRIPT
    )


class _Linked:
    """All that is linked in a root file system, and what is wrong with it."""

    def __init__(self, tree: FileTree) -> None:
        self._tree = tree
        files, self.damaged = elf_files(tree)
        common = Counter(_processor(each) for each in files.values()).most_common(1)
        own = common[0][0] if common else None
        # firmware of other chips, and what is handed to other machines
        self.files = {
            path: each for path, each in files.items() if _processor(each) == own or not is_data(path)
        }
        self.programs = [path for path, each in self.files.items() if each.loader and not each.soname]
        self._linkers: dict[str, Linker] = {}
        self._named: dict[str, list[str]] = {}
        for path in tree:
            self._named.setdefault(path.rpartition("/")[2], []).append(path)
        self._loaded: set[str] = set()

    @cached_property
    def _told_where(self) -> bool:
        return _told_where(self._tree)

    def program_faults(self, path: str) -> Iterator[LinkFault]:
        """Why a program does not start."""
        loader = self.files[path].loader
        linker = self._linkers.setdefault(loader, Linker(self._tree, self.files, loader, self._named))
        if linker.place is None:
            yield LinkFault(path, f"its loader {loader} is not in the image")
            return
        closure = loaded_with(path, linker)
        self._loaded.update(closure.files)
        for file, name in closure.missing:
            lack = _lack(file, name, self._tree, linker)
            told = lack.elsewhere and self._told_where
            yield LinkFault(file, lack.why, "warning" if told else "error")
        if not closure.missing:
            yield from _version_faults(closure, linker)
            yield from _symbol_faults(closure, linker)

    def plugin_faults(self) -> Iterator[LinkFault]:
        """What whoever loads a plugin would miss; what lies elsewhere in the image he may have loaded."""
        known = {
            _processor(self.files[each.place]): each
            for each in self._linkers.values()
            if each.place in self.files
        }
        for path in sorted(self.files.keys() - self._loaded - set(self.programs)):
            linker = known.get(_processor(self.files[path]))
            if linker is not None:
                for file, name in loaded_with(path, linker).missing:
                    lack = _lack(file, name, self._tree, linker)
                    level: TrialLevel = "note" if lack.elsewhere else "warning"
                    yield LinkFault(file, f"{lack.why}; no program is linked with this file", level)


def _processor(file: Linking) -> tuple[int, int, bool]:
    return file.header.machine, file.header.bits, file.header.little_endian


def library_check(tree: FileTree, owners: Mapping[str, str]) -> TrialCheck | None:
    """Whether the programs of a root file system find what they are linked with; None where none is linked
    with anything. owners: the packages of files, by their paths."""
    linked = _Linked(tree)
    if not linked.files and not linked.damaged:
        return None
    # one library that lacks another is told once, with how many programs that is
    hurt: dict[LinkFault, list[str]] = {}
    for path in linked.programs:
        for fault in linked.program_faults(path):
            hurt.setdefault(fault, []).append(path)
    findings = [
        finding(fault.file, owners, fault.text + _hurt(fault.file, programs), fault.level)
        for fault, programs in hurt.items()
    ]
    findings += [
        finding(fault.file, owners, fault.text, fault.level)
        for fault in dict.fromkeys((*linked.damaged, *linked.plugin_faults()))
    ]
    return LIBRARIES.answered(
        f"{counted(len(linked.programs), 'program')} and all libraries: {counted(len(linked.files), 'file')}",
        findings,
    )


def _hurt(file: str, programs: Sequence[str]) -> str:
    others = [each for each in programs if each != file]
    if not others:
        return ""
    more = (
        "" if len(others) == 1 else " and another" if len(others) == 2 else f" and {len(others) - 1} others"
    )
    return f" (loaded by {others[0]}{more})"
