"""The compiler for one image's target: zig, the headers of the feeds' python3-dev of the very version of its
python3-base, and what libc and Python have for modules that are compiled with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from imagebuilder.host.cache import Cache
from imagebuilder.host.elf import ElfError, is_elf
from imagebuilder.host.elf_symbols import read_symbols
from imagebuilder.host.fs import sha256_of
from imagebuilder.model.package import Package
from imagebuilder.packages.feed import in_folder
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.packages.universe import rank
from imagebuilder.python.build.zig import (
    Headers,
    NoCompilerError,
    Toolchain,
    find_zig,
    parse_pyconfig,
    zig_options,
)
from imagebuilder.python.wheels.target import WheelTarget
from imagebuilder.rootfs.tree import Entry, FileTree

BASE, DEVELOPMENT, LIBC, LIBRARY = "python3-base", "python3-dev", "libc", "libpython"
_REVISION = re.compile(r"-r?\d+$")
_VERSION = re.compile(r'^#define\s+PY_VERSION\s+"([^"+]+)', re.MULTILINE)
_INCLUDE = re.compile(r"/usr/include/python3\.\d+m?/(.+\.h)")
_LOADER = re.compile(r"/ld-musl-[^/]+\.so\.1$")
_MODULES = re.compile(r"/lib-dynload/|/site-packages/")
_FORM, _KEPT = 1, "facts.json"  # of what the cache keeps
_SDK = "build it as a feed package with OpenWrt's SDK"


def compiler_for(job: Job, supply: Supply, target: WheelTarget) -> Callable[[], Toolchain]:
    """Finds the compiler, once, when it is asked for: few images have anything to compile. NoCompilerError
    where zig, the target or the packages that it takes are not to be had; errors of fetching these."""

    @cache
    def found() -> Toolchain:
        zig = find_zig()
        zig_options(target)
        packages = _packages(supply, target)
        files = _files(job, supply, packages)
        known = _facts(job, files, packages)
        folder = job.work / "python-headers"
        for name, data in known.headers.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        digest = sha256_of(files[DEVELOPMENT])[:16]
        source = f"{DEVELOPMENT} {packages[DEVELOPMENT].version} {digest}"
        variables = parse_pyconfig(known.headers["pyconfig.h"].decode("latin-1"))
        return Toolchain(zig, target, Headers(folder, source, variables), known.exports)

    return found


def _packages(supply: Supply, target: WheelTarget) -> dict[str, Package]:
    """The packages that compiling takes, by what they are here for."""
    universe = supply.offers.universe
    named = {name: sorted(universe.named(name), key=rank) for name in (BASE, DEVELOPMENT, LIBC)}
    lacking = next((name for name in (BASE, LIBC) if not named[name]), None)
    if lacking is not None:
        raise NoCompilerError(f"neither the tree nor a feed has {lacking}", hint="add the feed that has it")
    base = named[BASE][-1]
    python = _upstream(base)
    found = [each for each in named[DEVELOPMENT] if _upstream(each) == python]
    if not found:
        there = ", ".join(each.version for each in named[DEVELOPMENT])
        what = f"the feeds have {DEVELOPMENT} {there}" if there else f"no feed has {DEVELOPMENT}"
        raise NoCompilerError(
            f"Python's headers are missing: {what}, and {BASE} is {base.version}",
            hint=f"add a feed with {DEVELOPMENT} {base.version} for {target.arch}, or {_SDK}",
        )
    chosen = {BASE: base, DEVELOPMENT: found[-1], LIBC: named[LIBC][0]}
    for alternatives in base.depends:
        for dependency in alternatives:
            if dependency.name.startswith(LIBRARY):
                library = next(iter(universe.candidates(dependency)), None)
                if library is not None:
                    chosen[LIBRARY] = library
    return chosen


def _upstream(package: Package) -> str:
    return _REVISION.sub("", package.version)


@dataclass(frozen=True)
class _Facts:
    """What is read of the packages. headers: by their paths below Python's own folder of them."""

    headers: Mapping[str, bytes]
    exports: frozenset[str]

    def text(self) -> bytes:
        """For the cache."""
        headers = {name: data.decode("latin-1") for name, data in self.headers.items()}
        return json.dumps({"headers": headers, "exports": sorted(self.exports)}).encode()

    @classmethod
    def of(cls, text: bytes) -> _Facts:
        """What text() gave."""
        known = json.loads(text)
        headers = {name: data.encode("latin-1") for name, data in known["headers"].items()}
        return cls(headers, frozenset(known["exports"]))


def _facts(job: Job, files: Mapping[str, Path], packages: Mapping[str, Package]) -> _Facts:
    """What the packages say, kept in the cache by their files."""
    store = Cache(job.cache)
    digests = " ".join(sha256_of(files[name]) for name in sorted(files))
    question = f"what compiling takes, form {_FORM}, {digests}"
    kept = store.recall(question, job.log) or {}
    data = store.read(kept[_KEPT], job.log) if _KEPT in kept else None
    if data is not None:
        return _Facts.of(data)
    trees = {name: job.manager.read(files[name], packages[name]).tree for name in files}
    if not any(_LOADER.search(path) for path in trees[LIBC]):
        raise NoCompilerError(
            f"{LIBC} {packages[LIBC].version} is not musl, for which zig links", hint=f"without it: {_SDK}"
        )
    headers = _headers(trees[DEVELOPMENT], packages[DEVELOPMENT])
    exports = {each for name in trees if name != DEVELOPMENT for each in _exports(trees[name], name)}
    found = _Facts(headers, frozenset(exports))
    store.remember(question, {_KEPT: store.add(found.text())})
    return found


def _files(job: Job, supply: Supply, packages: Mapping[str, Package]) -> dict[str, Path]:
    """The packages' files, fetched and checked."""
    wanted = list(packages.values())
    finders = [
        *job.manager.fetch(job, supply, wanted),
        in_folder(supply.tree / "packages"),
        lambda package: supply.base.get(package.filename),
    ]
    found = {}
    for name, package in packages.items():
        file, problem = job.manager.checked(package, finders)
        if file is None:
            raise NoCompilerError(
                f"{package.name} {package.version}, which it takes, {problem}",
                hint="fetch it (build once without --offline), or add a feed that has it",
            )
        found[name] = file
    return found


def _headers(tree: FileTree, package: Package) -> dict[str, bytes]:
    """Python's headers in python3-dev, which must be for this version."""
    found = {}
    for path, entry in tree.items():
        inside = _INCLUDE.fullmatch(path)
        if inside is not None and entry.kind == "file":
            found[inside[1]] = _data(entry)
    stated = _VERSION.search(found.get("patchlevel.h", b"").decode("latin-1"))
    if "pyconfig.h" not in found or "Python.h" not in found or stated is None:
        raise NoCompilerError(
            f"{package.name} {package.version} has no headers of Python", hint=f"add another feed, or {_SDK}"
        )
    if stated[1] != _upstream(package):
        raise NoCompilerError(
            f"{package.name} {package.version} has the headers of Python {stated[1]}",
            hint=f"add another feed, or {_SDK}",
        )
    return found


def _exports(tree: FileTree, name: str) -> set[str]:
    """The names that the libraries and programs of a package have for others."""
    found: set[str] = set()
    for path, entry in tree.items():
        data = _data(entry) if entry.kind == "file" and not _MODULES.search(path) else b""
        if is_elf(data):
            try:
                found |= read_symbols(data).defined
            except ElfError as error:
                raise NoCompilerError(
                    f"{path} of {name} cannot be read: {error.message}", hint=f"add another feed, or {_SDK}"
                ) from error
    return found


def _data(entry: Entry) -> bytes:
    if entry.source is not None:
        return entry.source.read_bytes()
    return entry.data or b""
