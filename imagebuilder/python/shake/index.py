"""Which files are which module: of CPython's own packages, and of what else holds Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from imagebuilder.python.bytecode.bytecode import APPS_FOLDER, is_program
from imagebuilder.python.shake.read import Code
from imagebuilder.rootfs.tree import Entry, FileTree

_DYNAMIC = "lib-dynload"
_SYSCONFIG = re.compile(r"_sysconfigdata_[A-Za-z0-9_-]*\Z")  # imported by a name that is put together
_CODE = (".pyc", ".py")
_ENDINGS = (*_CODE, ".so")
_SITE = ("site-packages", "dist-packages")


@dataclass(slots=True)
class ModuleFiles:
    """A module's files: bytecode, its source from a -src package, or an extension. is_package: others can be
    in it; packages: names of those that have a file of it; code: the file to read, None for an extension."""

    name: str
    is_package: bool = False
    packages: set[str] = field(default_factory=set)
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class ModuleIndex:
    """modules: by name, those of the library first, then those in site-packages. programs: Python sources
    among programs, and the modules of flat apps, which nothing else imports, by their path, with the package;
    owners: module names by file."""

    library: str
    modules: Mapping[str, ModuleFiles]
    programs: Mapping[str, tuple[str, Code]]
    owners: Mapping[str, str]

    def code(self, name: str) -> Code | None:
        """What to read of a module, or of a program by its path; None for an extension."""
        if name in self.programs:
            return self.programs[name][1]
        return self.modules[name].code if name in self.modules else None

    def of_package(self, package: str) -> list[str]:
        """The modules that have a file in a package, sorted."""
        return sorted(name for name, module in self.modules.items() if package in module.packages)


def module_of(path: str, library: str) -> tuple[str, bool] | None:
    """The module that a file is, and whether it is a package's own; None for what is none. library: the
    standard library's folder, /usr/lib/python3.11."""
    if not path.startswith(f"{library}/") or not path.endswith(_ENDINGS):
        return None
    parts = list(PurePosixPath(path.removeprefix(f"{library}/")).parts)
    if parts[0] == _DYNAMIC or parts[0] in _SITE:
        del parts[0]
    if len(parts) > 1 and parts[-2] == "__pycache__":
        del parts[-2]
    if not parts or any(part in _SITE for part in parts):
        return None
    stem = parts[-1].partition(".")[0]
    is_package = stem == "__init__"
    names = [*parts[:-1], *([] if is_package else [stem])]
    if not names or not all(map(str.isidentifier, names[:-1])):
        return None
    if not names[-1].isidentifier() and not _SYSCONFIG.match(names[-1]):
        return None
    return ".".join(names), is_package


def _priority(path: str, library: str) -> tuple[bool, bool, bool]:
    """The order in which Python looks: the library before site-packages, and bytecode rather than source,
    which is read faster."""
    inner = path.removeprefix(f"{library}/")
    return inner.startswith(_SITE), inner.startswith(_DYNAMIC), not path.endswith(".pyc")


def _files(trees: Mapping[str, FileTree]) -> Iterator[tuple[str, str, Entry]]:
    for package, tree in trees.items():
        for path, entry in tree.items():
            if entry.kind != "dir":
                yield package, path, entry


def index_of(trees: Mapping[str, FileTree], library: str) -> ModuleIndex:
    """The modules in packages' trees, by package name."""
    modules: dict[str, ModuleFiles] = {}
    programs: dict[str, tuple[str, Code]] = {}
    owners: dict[str, str] = {}
    for package, path, entry in sorted(
        _files(trees), key=lambda each: (*_priority(each[1], library), each[1])
    ):
        found = module_of(path, library)
        if found is None:
            if is_program(path, entry):
                programs[path] = package, Code("py", entry)
            elif (
                path.startswith(f"{APPS_FOLDER}/") and path.endswith((".py", ".pyc")) and entry.kind == "file"
            ):
                programs[path] = package, Code("pyc" if path.endswith(".pyc") else "py", entry)
            continue
        name, is_package = found
        module = modules.setdefault(name, ModuleFiles(name))
        module.packages.add(package)
        module.is_package |= is_package
        if module.code is None and entry.kind == "file" and not path.endswith(".so"):
            module.code = Code("pyc" if path.endswith(".pyc") else "py", entry)
        owners[path] = name
    return ModuleIndex(library, modules, programs, owners)
