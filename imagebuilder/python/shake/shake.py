"""`python.shake`: CPython's own packages cut to the modules that an image's apps reach.

python.shake.closure says which modules; this module says which files of which package stay with them, which
shared libraries are not needed any more, and what is saved. Packages that change are repacked
(packages.shaken). The interpreter carries frozen copies of the modules that it starts with (3.11 and
later), so that their files would never be read: they go too, but for one that it looks for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.python.catalogue.catalogue import Catalogue
from imagebuilder.python.shake.closure import Closure, Modules, Root, close
from imagebuilder.python.shake.files import (
    Kept,
    builtin_modules,
    compressed_sizes,
    files_of,
    frozen_modules,
    size_of,
)
from imagebuilder.python.shake.hidden import CUSTOM
from imagebuilder.python.shake.index import Index, index_of
from imagebuilder.python.shake.libraries import Cut, Depends, Lean, lean, library_names, linked_libraries
from imagebuilder.python.shake.read import Code, ModuleFacts, ShakeError, content, read_modules
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.rootfs.tree import Entry, FileTree

_RUNS_MODULE = re.compile(rb"python[0-9.]*['\"]?[ \t]+(?:[^ \t\n]+[ \t]+){0,8}?['\"]?-[A-Za-z]*m\b")
# inside every interpreter, under these names; which modules of a catalogue are built in does not tell
_IMPORT_SYSTEM = ("_frozen_importlib", "_frozen_importlib_external")


@dataclass(frozen=True, slots=True)
class ShakeRequest:
    """What is shaken. contents: CPython's own packages with their -src twins, all others with Python in
    them, and those with shared libraries that CPython's depend on, by name. installed: all packages of the
    image; asked: those of them that stay, whoever needs them (the interpreter's own left out).

    apps: packages all of whose Python counts: apps, and what was asked for by name. keep: patterns of module
    names (`encodings.*`); traced: modules that a run imported, with its command. started: modules that the
    interpreter imports by itself, as a run of it has shown; None where it cannot be run here: then what is
    known of its version counts.
    """

    contents: Mapping[str, LocalPackage]
    installed: Sequence[Package]
    asked: Collection[str] = ()
    apps: Collection[str] = ()
    keep: Sequence[str] = ()
    traced: Mapping[str, str] = field(default_factory=dict)
    started: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class ShakenPackage:
    """One of CPython's packages. kept, dropped: its modules, sorted; frozen: those of the dropped ones that
    the interpreter carries itself; before, after: bytes of its files, unpacked; saved_compressed: about how
    many bytes of an image they took, packed with xz; unneeded: dependencies that went."""

    name: str
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    frozen: tuple[str, ...]
    before: int
    after: int
    saved_compressed: int
    unneeded: tuple[str, ...]

    @property
    def saved(self) -> int:
        """Bytes, unpacked."""
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class Shaken:
    """What shake found. packages: CPython's, in their order; trees, depends: of those that have to be
    repacked; removable: packages that nobody needs any more, which are not to be installed. closure says why
    a module is there."""

    packages: tuple[ShakenPackage, ...]
    trees: Mapping[str, FileTree]
    depends: Mapping[str, Depends]
    removable: tuple[str, ...]
    closure: Closure

    @property
    def dropped(self) -> frozenset[str]:
        """All modules that are not on the device any more, not even inside the interpreter, and that could
        be imported before."""
        gone = {name for each in self.packages for name in set(each.dropped) - set(each.frozen)}
        kept = {name for each in self.packages for name in each.kept}
        return frozenset(gone - kept - self.closure.unusable)


def standard_packages(catalogue: Catalogue) -> frozenset[str]:
    """The names, in an index, of the packages that shake cuts: CPython's own and their -src twins."""
    own = [package for package in catalogue.packages.values() if package.standard_library]
    names = {each.name_in_index for each in own}
    return frozenset(names | {each.src_name for each in own if each.src_name is not None})


def shake(
    request: ShakeRequest, catalogue: Catalogue, interpreter: Interpreter, work: Path, log: Log
) -> Shaken:
    """Cut CPython's packages to what is reached. interpreter: of the target's version, to read bytecode;
    work: a folder that it is started in.

    ShakeError where bytecode cannot be read, where a pattern finds nothing, and for Python 2; HostError.
    """
    if catalogue.family != "python3":
        raise ShakeError("python.shake is for Python 3", hint="leave it out, or take another variant")
    index = index_of({name: each.tree for name, each in request.contents.items()}, catalogue.library)
    reader = _Reader(index, interpreter, work, log)
    standard = standard_packages(catalogue) & request.contents.keys()
    own = [request.contents[name].tree for name in sorted(standard)]
    builtin = {*_IMPORT_SYSTEM, *catalogue.builtin_modules, *builtin_modules(own)}
    packages = {name for name, each in index.modules.items() if each.is_package}
    modules = Modules({*index.modules, *index.programs}, packages, builtin)
    roots = [*_own_needs(modules, request.started, catalogue.python), *_roots(request, index)]
    closure = close(roots, modules, reader)
    unread = {name: why for name, why in closure.problems.items() if _is_standard(index, name, standard)}
    if unread:
        name, why = next(iter(unread.items()))
        raise ShakeError(f"the module {name} of the standard library: {why}", hint="fetch the package again")
    # what a version carries inside, as far as this build of it does (--with-frozen-modules)
    frozen = frozen_modules(own) & version_facts(catalogue.python).frozen
    kept = Kept(index, closure, frozen, request.keep, reader)
    trees = {name: kept.tree(request.contents[name].tree) for name in sorted(standard)}
    return _result(request, index, closure, frozen, trees)


@dataclass(slots=True)
class _Reader:
    """Reads modules, and programs by their paths, as the closure asks for them."""

    index: Index
    interpreter: Interpreter
    work: Path
    log: Log

    def __call__(self, names: Sequence[str]) -> Mapping[str, ModuleFacts]:
        codes: dict[str, Code] = {}
        for name in names:
            code = self.index.code(name)
            if code is not None:
                codes[name] = code
        return read_modules(codes, self.interpreter, self.work, self.log)


def _is_standard(index: Index, module: str, standard: Collection[str]) -> bool:
    return module in index.modules and any(
        place.package in standard for place in index.modules[module].places
    )


def _own_needs(modules: Modules, started: Collection[str] | None, python: str) -> list[Root]:
    """What the interpreter imports before any program. Codecs always by its version's facts: which ones it
    takes depends on the locale."""
    startup = version_facts(python).startup
    patterns = startup if started is None else [name for name in startup if name.startswith("encodings")]
    names = {each for pattern in patterns for each in modules.files if fnmatchcase(each, pattern)}
    return [Root(name, "the interpreter") for name in sorted({*names, *(started or ()), *CUSTOM})]


def _roots(request: ShakeRequest, index: Index) -> list[Root]:
    """Who asks, besides the interpreter itself."""
    roots: list[Root] = []
    for pattern in request.keep:
        found = [name for name in index.modules if fnmatchcase(name, pattern)]
        if not found:
            raise ShakeError(
                f"python.keep: no module of the image is called {pattern!r}",
                hint="it takes names as they are imported, and patterns: encodings.*",
            )
        roots += [Root(name, f'keep = "{pattern}"', whole=True) for name in sorted(found)]
    roots += [Root(name, f"the run of {command!r}") for name, command in sorted(request.traced.items())]
    for package in sorted(request.apps):
        own = index.of_package(package)
        own += [path for path, (owner, _) in index.programs.items() if owner == package]
        roots += [Root(name, f"the package {package}", whole=True) for name in own]
        if package in request.contents and _runs_modules(request.contents[package].tree):
            roots.append(Root("runpy", f"the package {package} starts python -m"))
    return roots


def _runs_modules(tree: FileTree) -> bool:
    """Whether an init script or a program starts Python with -m, which takes more modules."""
    places = (*tree.children("/etc/init.d"), *tree.children("/usr/bin"))
    return any(tree[path].kind == "file" and _RUNS_MODULE.search(content(tree[path])) for path in places)


def _result(
    request: ShakeRequest,
    index: Index,
    closure: Closure,
    frozen: Collection[str],
    trees: Mapping[str, FileTree],
) -> Shaken:
    """What the trees that are left come to."""
    cuts = {}
    for name, tree in trees.items():
        package, before = request.contents[name].package, request.contents[name].tree
        linked = linked_libraries(before, name), linked_libraries(tree, name)
        cuts[name] = Cut(
            package, *linked, emptied=not files_of(tree) and _had_purpose(package, before, trees)
        )
    libraries = {
        name: library_names(each.tree) for name, each in request.contents.items() if name not in trees
    }
    left = lean(cuts, request.installed, libraries, request.asked)
    saved = compressed_sizes({name: _gone(request.contents[name].tree, tree) for name, tree in trees.items()})
    packages = tuple(
        _shaken_package(
            name, index, (request.contents[name].tree, tree), frozen=frozen, left=left, saved=saved[name]
        )
        for name, tree in trees.items()
    )
    changed = {
        name
        for name, tree in trees.items()
        if name not in left.removable
        and (files_of(tree) != files_of(request.contents[name].tree) or left.dropped[name])
    }
    return Shaken(
        packages,
        {name: trees[name] for name in sorted(changed)},
        {name: left.depends[name] for name in sorted(changed)},
        left.removable,
        closure,
    )


def _had_purpose(package: Package, before: FileTree, trees: Mapping[str, FileTree]) -> bool:
    """Whether it was there for its files, or, without any, to bring others of CPython's (python3)."""
    return bool(files_of(before)) or any(
        each.name in trees for alternatives in package.depends for each in alternatives
    )


def _gone(before: FileTree, after: FileTree) -> list[Entry]:
    return [entry for path, entry in before.items() if entry.kind == "file" and path not in after]


def _shaken_package(
    name: str,
    index: Index,
    trees: tuple[FileTree, FileTree],
    *,
    frozen: Collection[str],
    left: Lean,
    saved: int,
) -> ShakenPackage:
    before, after = trees
    kept = {index.owners[path] for path in after if path in index.owners}
    dropped = {index.owners[path] for path in before if path in index.owners} - kept
    return ShakenPackage(
        name,
        tuple(sorted(kept)),
        tuple(sorted(dropped)),
        tuple(sorted(dropped & set(frozen))),
        size_of(before),
        size_of(after),
        saved,
        left.dropped[name],
    )
