"""python.compile: feed packages that hold Python sources become packages of bytecode, before the plan is
done. 17.01's do, and so do some of other feeds: each source is compiled whenever it is imported otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from imagebuilder.config.app import source_kind
from imagebuilder.config.model_config import Python
from imagebuilder.packages.apk.lists import conffiles_in, with_lists
from imagebuilder.packages.repack import PackageManager, later_version
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.bytecode.bytecode import cached_path
from imagebuilder.python.catalogue.catalogue import Catalogue
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.rootfs.tree import Entry, FileTree

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
        version = later_version(content.package.version, "compiled", repr((list(tree), optimize)), manager)
        package = replace(content.package, version=version, filename="", size=0, sha256="", identity="")
        if manager == "apk":
            whole = with_lists(whole, name, conffiles_in(content.tree, name))
        made[name] = replace(content, package=package, tree=whole)
    return made


def _sources(tree: FileTree, library: str, python: str) -> Iterator[tuple[str, Entry]]:
    """The modules of a package that have no bytecode in it."""
    for path in tree.below(library):
        entry = tree[path]
        has_bytecode = path + "c" in tree or cached_path(path, python) in tree
        if entry.kind == "file" and PurePosixPath(path).suffix == ".py" and not has_bytecode:
            yield path, entry
