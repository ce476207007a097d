"""Packages of feeds of which an image gets another form than the feed has: bytecode for sources
(python.compile), CPython's library cut (python.shake), files dropped (filespecs). Their content is fetched
before the plan is done, so that it is planned and counted as it will be."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from imagebuilder.config.app import source_kind
from imagebuilder.config.model_config import Config, Python
from imagebuilder.errors import UserError
from imagebuilder.model.package import LOCAL, Selected, Wish
from imagebuilder.own.local import Remade
from imagebuilder.own.own import Own
from imagebuilder.packages.manager import PackageManager
from imagebuilder.packages.supply import Job
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.python.catalogue.variants import catalogue_series
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import Entry, FileTree, LocalPackage

if TYPE_CHECKING:
    from imagebuilder.python.apps.bytecode import Compiler

INTERPRETER = "python3-base"
_READS = "dis"  # the module by which shake reads bytecode


class RemadeError(UserError):
    """python.shake or python.compile where there is no CPython 3."""


def remakes_python(config: Config, release: str, selected: Iterable[Selected]) -> bool:
    """Whether Python packages get another form. release: the tree's. RemadeError where that is asked for and
    there is no CPython among what was selected."""
    python = config.python
    if any(each.name == INTERPRETER for each in selected):
        return python.shake or is_compiled(python, load_catalogue(catalogue_series(release)))
    for key, does in (("shake", "cuts"), ("compile", "compiles the packages of")):
        if getattr(python, key):
            raise RemadeError(
                f"config {config.name}: python.{key} {does} CPython 3, and this image has none",
                hint='leave it out, or say variant = "auto"',
            )
    return False


def reader_package(release: str) -> str:
    """The name, in an index, of the package by which CPython reads bytecode. release: the tree's."""
    packages = load_catalogue(catalogue_series(release)).packages.values()
    return next(each.name_in_index for each in packages if _READS in each.pure_modules)


def remake(
    job: Job,
    own: Own,
    wanted: Wish,
    selected: Sequence[Selected],
    *,
    originals: Container[str],
    contents: Mapping[str, LocalPackage],
    reader: Callable[[], Mapping[str, LocalPackage]] = dict,
) -> Remade:
    """The packages in their new form, and which nobody needs any more: the rest is to be resolved again.
    wanted: what was asked for; originals: names of packages that are repacked; contents: of feeds' packages
    among the selected; reader: of those that Python needs besides to read bytecode, asked where the image's
    own Python does that.

    ShakeError, RootError; what compiling, tracing and making the image's own packages raises.
    """
    from imagebuilder.own.making import Maker  # noqa: PLC0415 - few images remake a package

    catalogue, config = load_catalogue(catalogue_series(job.tree.release)), job.config
    userland = {name: each for name, each in contents.items() if not is_kernel(name)}
    lacking = cache(reader) if config.python.shake else dict[str, LocalPackage]
    maker = Maker(job, own, {}, lambda root: _unpack({**userland, **lacking()}, root))
    ours = (each.name for each in selected if each.feed == LOCAL and each.name not in originals)
    made = {name: maker.content(name) for name in ours}
    remade = Remade(made, {})
    if config.python.shake:
        from imagebuilder.own.shaken import shaken  # noqa: PLC0415 - few images are shaken

        interpreter = maker.shut_in(maker.interpreter(catalogue), "shake")
        packages = [each.package for each in selected]
        remade = shaken(job, wanted, packages, interpreter, contents=userland, made=made)
    if is_compiled(config.python, catalogue):  # what was shaken off need not be compiled
        job.log.progress("compiling the feeds' Python packages")
        whole = {**userland, **remade.ready}
        left = {name: each for name, each in whole.items() if name not in remade.gone}
        compiler = maker.compiler(catalogue)
        compiled = compiled_packages(left, config.python, compiler, catalogue.library, job.manager)
        remade = replace(remade, ready={**remade.ready, **compiled})
    return remade


def is_kernel(package: str) -> bool:
    """Whether a package holds the kernel or a module of it: nothing that userland needs to be read."""
    return package == "kernel" or package.startswith("kmod-")


def _unpack(contents: Mapping[str, LocalPackage], root: Path) -> None:
    for each in contents.values():
        write_tree(each.tree, root)


_TWIN = "-src"  # packages of sources alone, which nobody gets unasked


def is_compiled(python: Python, catalogue: Catalogue) -> bool:
    """Whether feed packages are compiled: as the config says, otherwise where a release's packages hold
    sources, and the config has Python of its own or leaves the choice to `auto`."""
    if python.compile is not None:
        return python.compile
    own = python.variant == "auto" or python.apps or python.requirements or python.package
    return bool(own) and catalogue.shipped == "sources" and python.source != "only"


def compiled_packages(
    contents: Mapping[str, LocalPackage],
    python: Python,
    compiler: Compiler,
    library: str,
    manager: PackageManager,
) -> dict[str, LocalPackage]:
    """Those of feeds' packages that hold sources without bytecode below `library`, compiled, by name; their
    versions sort right after the feed's. What does not compile stays as it is, with a warning.

    InterpreterError, HostError; RepackError for a version that apk does not know.
    """
    kind, optimize = source_kind(python.source), python.optimize
    sources = {
        name: dict(_sources(each.tree, library, compiler.python))
        for name, each in contents.items()
        if not name.endswith(_TWIN)
    }
    trees = {name: FileTree(found) for name, found in sources.items() if found}
    if not trees:
        return {}
    shipped = compiler.ship_all(trees, kind, optimize, lenient=True)
    made = {}
    for name, tree in shipped.items():
        content = contents[name]
        whole = content.tree.without(sources[name]).merged(tree)
        version = manager.later_version(content.package.version, "compiled", repr((list(tree), optimize)))
        made[name] = manager.with_files(content, content.package.remade(version), whole)
    return made


def _sources(tree: FileTree, library: str, python: str) -> Iterator[tuple[str, Entry]]:
    """The modules of a package that have no bytecode in it."""
    from imagebuilder.python.bytecode.bytecode import cached_path  # noqa: PLC0415 - few images remake a package

    for path in tree.below(library):
        entry = tree[path]
        has_bytecode = path + "c" in tree or cached_path(path, python) in tree
        if entry.kind == "file" and PurePosixPath(path).suffix == ".py" and not has_bytecode:
            yield path, entry
