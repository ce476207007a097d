"""`python.shake`: CPython's own packages cut to the modules that an image's apps reach.

closure.py says which modules, libraries.py which shared libraries are not needed any more; this module says
which files of which package stay, and about what the others took of an image. Packages that change are
repacked (packages.shaken). The interpreter carries frozen copies of the modules that it starts with (3.11
and later), so that their files would never be read: they go too, but for one that it looks for.
"""

from __future__ import annotations

import hashlib
import lzma
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from imagebuilder.host.kept_sizes import kept_sizes
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.python.catalogue.catalogue import Catalogue
from imagebuilder.python.shake.closure import Closure, Modules, Read, close
from imagebuilder.python.shake.hidden import CUSTOM, LANDMARK
from imagebuilder.python.shake.index import ModuleIndex, index_of
from imagebuilder.python.shake.libraries import Cut, Depends, lean, library_names, linked_libraries
from imagebuilder.python.shake.read import ModuleFacts, ShakeError, read_modules
from imagebuilder.rootfs.files import content, content_size
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, LocalPackage, parent_of

BLOCK_BYTES = 256 << 10  # of OpenWrt's squashfs
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": BLOCK_BYTES}]
_INTERPRETER = re.compile(r"/usr/(bin/python[0-9.]+|lib/libpython[0-9.]+\.so[0-9.]*)\Z")
_FROZEN = re.compile(rb"<frozen ([A-Za-z0-9_.]+)>")
_BUILTIN = re.compile(rb"\0PyInit_([A-Za-z0-9_]+)(?=\0)")
_APK_LISTS = "/lib/apk/packages/"
_RUNS_MODULE = re.compile(rb"python[0-9.]*['\"]?[ \t]+(?:[^ \t\n]+[ \t]+){0,8}?['\"]?-[A-Za-z]*m\b")
# inside every interpreter, under these names; which modules of a catalogue are built in does not tell
_IMPORT_SYSTEM = ("_frozen_importlib", "_frozen_importlib_external")


@dataclass(frozen=True, slots=True)
class ShakeRequest:
    """What is shaken. contents: CPython's own packages with their -src twins, all others with Python in
    them, and those with shared libraries that CPython's depend on, by name. installed: all packages of the
    image; asked: those of them that stay, whoever needs them (the interpreter's own left out).

    apps: packages all of whose Python counts: apps, and what was asked for by name. keep: patterns of module
    names (`encodings.*`); traced: modules that runs of commands imported. started: modules that the
    interpreter imports by itself, as a run of it has shown; None where it cannot be run here: then what is
    known of its version counts.
    """

    contents: Mapping[str, LocalPackage]
    installed: Sequence[Package]
    asked: Collection[str] = ()
    apps: Collection[str] = ()
    keep: Sequence[str] = ()
    traced: Collection[str] = ()
    started: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class CutModules:
    """One of CPython's packages. kept, dropped: its modules, sorted; frozen: those of the dropped ones that
    the interpreter carries itself; saved: bytes of the files that went, unpacked; saved_compressed: about how
    many bytes of an image they took, packed with xz."""

    name: str
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    frozen: tuple[str, ...]
    saved: int
    saved_compressed: int


@dataclass(frozen=True, slots=True)
class Shaken:
    """What shake found. packages: CPython's, in their order; trees, depends: of those that have to be
    repacked; removable: packages that nobody needs any more, which are not to be installed; dropped: modules
    that are not on the device any more, not even inside the interpreter, and could be imported before."""

    packages: tuple[CutModules, ...]
    trees: Mapping[str, FileTree]
    depends: Mapping[str, Depends]
    removable: tuple[str, ...]
    dropped: frozenset[str]


def standard_packages(catalogue: Catalogue) -> frozenset[str]:
    """The names, in an index, of the packages that shake cuts: CPython's own and their -src twins."""
    own = [package for package in catalogue.packages.values() if package.standard_library]
    names = {each.name_in_index for each in own}
    return frozenset(names | {each.src_name for each in own if each.src_name is not None})


def shake(
    request: ShakeRequest,
    catalogue: Catalogue,
    interpreter: Interpreter,
    work: Path,
    log: Log,
    *,
    cache: Path | None = None,
) -> Shaken:
    """Cut CPython's packages to what is reached. interpreter: of the target's version, to read bytecode;
    work: a folder that it is started in; cache: where the sizes of what went are kept, if they are.

    ShakeError where bytecode cannot be read, where a pattern finds nothing, and for Python 2; HostError.
    """
    if catalogue.family != "python3":
        raise ShakeError("python.shake is for Python 3", hint="leave it out, or take another variant")
    index = index_of({name: each.tree for name, each in request.contents.items()}, catalogue.library)

    def read(names: Sequence[str]) -> Mapping[str, ModuleFacts]:
        codes = {name: code for name in names if (code := index.code(name)) is not None}
        return read_modules(codes, interpreter, work, log)

    standard = standard_packages(catalogue) & request.contents.keys()
    own = [request.contents[name].tree for name in sorted(standard)]
    builtin = {*_IMPORT_SYSTEM, *catalogue.builtin_modules, *builtin_modules(own)}
    packages = {name for name, each in index.modules.items() if each.is_package}
    modules = Modules({*index.modules, *index.programs}, packages, builtin)
    whole = _whole(request, index)
    roots = {*_own_needs(modules, request.started, catalogue.python), *_needs(request), *whole}
    closure = close(sorted(roots), modules, read, whole=whole)
    unread = {name: why for name, why in closure.problems.items() if _is_standard(index, name, standard)}
    if unread:
        name, why = next(iter(unread.items()))
        raise ShakeError(f"the module {name} of the standard library: {why}", hint="fetch the package again")
    # what a version carries inside, as far as this build of it does (--with-frozen-modules)
    frozen = frozen_modules(own) & version_facts(catalogue.python).frozen
    kept = Kept(index, closure, frozen, request.keep, read)
    trees = {name: kept.tree(request.contents[name].tree) for name in sorted(standard)}
    return _result(request, index, closure, frozen, trees, cache=cache)


def _is_standard(index: ModuleIndex, module: str, standard: Collection[str]) -> bool:
    return module in index.modules and not index.modules[module].packages.isdisjoint(standard)


def _own_needs(modules: Modules, started: Collection[str] | None, python: str) -> set[str]:
    """What the interpreter imports before any program. Codecs always by its version's facts: which ones it
    takes depends on the locale."""
    startup = version_facts(python).startup
    patterns = startup if started is None else [name for name in startup if name.startswith("encodings")]
    names = {each for pattern in patterns for each in modules.files if fnmatchcase(each, pattern)}
    return {*names, *(started or ()), *CUSTOM}


def _whole(request: ShakeRequest, index: ModuleIndex) -> set[str]:
    """What was asked for by name, and the modules and programs of apps."""
    whole: set[str] = set()
    for pattern in request.keep:
        kept = [name for name in index.modules if fnmatchcase(name, pattern)]
        if not kept:
            raise ShakeError(
                f"python.keep: no module of the image is called {pattern!r}",
                hint="it takes names as they are imported, and patterns: encodings.*",
            )
        whole.update(kept)
    for package in request.apps:
        whole.update(index.of_package(package))
    return whole | {path for path, (owner, _) in index.programs.items() if owner in request.apps}


def _needs(request: ShakeRequest) -> set[str]:
    """What runs have imported, and what python -m takes where an app starts it."""
    apps = (request.contents[name].tree for name in request.apps if name in request.contents)
    return {*request.traced, *(["runpy"] if any(map(_runs_modules, apps)) else [])}


def _runs_modules(tree: FileTree) -> bool:
    """Whether an init script or a program starts Python with -m, which takes more modules."""
    places = (*tree.children("/etc/init.d"), *tree.children("/usr/bin"))
    return any(tree[path].kind == "file" and _RUNS_MODULE.search(content(tree[path])) for path in places)


def _result(
    request: ShakeRequest,
    index: ModuleIndex,
    closure: Closure,
    frozen: Collection[str],
    trees: Mapping[str, FileTree],
    *,
    cache: Path | None,
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
    with ThreadPoolExecutor() as pool:  # lzma works outside of the interpreter's lock
        cut = pool.map(
            lambda name: _cut_modules(
                name, index, request.contents[name].tree, trees[name], frozen, cache=cache
            ),
            trees,
        )
        packages = tuple(cut)
    changed = {
        name
        for name, tree in trees.items()
        if name not in left.removable
        and (files_of(tree) != files_of(request.contents[name].tree) or left.dropped[name])
    }
    gone = {name for each in packages for name in set(each.dropped) - set(each.frozen)}
    kept = {name for each in packages for name in each.kept}
    return Shaken(
        packages,
        {name: trees[name] for name in sorted(changed)},
        {name: left.depends[name] for name in sorted(changed)},
        left.removable,
        frozenset(gone - kept - closure.unusable),
    )


def _had_purpose(package: Package, before: FileTree, trees: Mapping[str, FileTree]) -> bool:
    """Whether it was there for its files, or, without any, to bring others of CPython's (python3)."""
    return bool(files_of(before)) or any(
        each.name in trees for alternatives in package.depends for each in alternatives
    )


def _cut_modules(
    name: str,
    index: ModuleIndex,
    before: FileTree,
    after: FileTree,
    frozen: Collection[str],
    *,
    cache: Path | None,
) -> CutModules:
    kept = {index.owners[path] for path in after if path in index.owners}
    dropped = {index.owners[path] for path in before if path in index.owners} - kept
    saved = sum(map(content_size, before.values())) - sum(map(content_size, after.values()))
    gone = [entry for path, entry in before.items() if entry.kind == "file" and path not in after]
    return CutModules(
        name,
        tuple(sorted(kept)),
        tuple(sorted(dropped)),
        tuple(sorted(dropped & set(frozen))),
        saved,
        compressed_size(gone, cache),
    )


def frozen_modules(trees: Iterable[FileTree]) -> frozenset[str]:
    """The modules that an interpreter carries as bytecode inside, by the names in it (`<frozen os>`): read
    from its program and library, for any processor."""
    return _named_in(trees, _FROZEN)


def builtin_modules(trees: Iterable[FileTree]) -> frozenset[str]:
    """The C modules inside an interpreter that have a name to be called by (PyInit_time); a few have none,
    and stand in every catalogue."""
    return _named_in(trees, _BUILTIN)


def _named_in(trees: Iterable[FileTree], pattern: re.Pattern[bytes]) -> frozenset[str]:
    found: set[str] = set()
    for tree in trees:
        for path, entry in tree.items():
            if entry.kind == "file" and _INTERPRETER.match(path):
                found.update(name.decode() for name in pattern.findall(content(entry)))
    return frozenset(found)


@dataclass(slots=True)
class Kept:
    """Which files stay. frozen: modules inside the interpreter; keep: patterns that were asked for; read: as
    for the closure, of programs too, by their paths."""

    index: ModuleIndex
    closure: Closure
    frozen: Collection[str]
    keep: Sequence[str]
    read: Read

    def tree(self, tree: FileTree) -> FileTree:
        """A package's tree with what is left of it."""
        owners = self.index.owners
        if not any(path in owners for path in tree):
            return tree
        modules = [path for path in tree if path in owners and self._module(owners[path])]
        if not modules and not any(_INTERPRETER.match(path) for path in tree):
            return EMPTY
        gone = [path for path, entry in tree.items() if entry.kind != "dir" and not self._stays(path)]
        left = tree.without(gone)
        return left.without(_dangling(tree, left)).without_empty_folders()

    def _module(self, name: str) -> bool:
        """Whether a module's files stay."""
        if name not in self.closure.reached:
            return False
        if name not in self.frozen or name == LANDMARK:
            return True
        return any(fnmatchcase(name, pattern) for pattern in self.keep)

    def _stays(self, path: str) -> bool:
        if path in self.index.owners:
            return self._module(self.index.owners[path]) and not self._unread(path)
        if path in self.index.programs:
            facts = self.read([path])[path]
            wanted = {each.module for unit in facts.units[:1] for each in unit.imports}
            return all(name in self.closure.reached for name in wanted if name in self.index.modules)
        return self._data(path)

    def _data(self, path: str) -> bool:
        """Other files stay with the package that they lie in: Grammar.txt with lib2to3."""
        inner = PurePosixPath(path)
        library = PurePosixPath(self.index.library)
        if not inner.is_relative_to(library):
            return True
        names = inner.relative_to(library).parts[:-1]
        for end in range(len(names), 0, -1):
            name = ".".join(names[:end])
            if name in self.index.modules:
                return name in self.closure.reached
        return True

    def _unread(self, path: str) -> bool:
        """Whether it is bytecode in __pycache__ of a module without a source: Python does not look at it
        (PEP 3147)."""
        cache, name = PurePosixPath(path).parent, PurePosixPath(path).name
        source = cache.parent / f"{name.partition('.')[0]}.py"
        return cache.name == "__pycache__" and str(source) not in self.index.owners


def _dangling(before: FileTree, after: FileTree) -> list[str]:
    """Links that led to something in their package, and do not any more."""
    found = []
    for path, entry in after.items():
        if entry.kind == "symlink":
            target = posixpath.normpath(posixpath.join(parent_of(path), entry.target))
            if target in before and target not in after:
                found.append(path)
    return found


def files_of(tree: FileTree) -> set[str]:
    """Files and links of a package, without apk's own lists of them."""
    return {path for path, entry in tree.items() if entry.kind != "dir" and not path.startswith(_APK_LISTS)}


def compressed_size(files: Iterable[Entry], cache: Path | None = None) -> int:
    """About how many bytes files take in a squashfs with xz: packed together in its blocks. cache: where that
    is kept, if it is."""
    data = b"".join(map(content, files))

    def packed() -> dict[str, int]:
        blocks = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
        sizes = (len(lzma.compress(block, lzma.FORMAT_RAW, filters=_XZ)) for block in blocks)
        return {"all": sum(sizes)}

    key = f"xz {hashlib.sha256(data).hexdigest()}".encode()
    return kept_sizes(cache if data else None, key, packed)["all"]
