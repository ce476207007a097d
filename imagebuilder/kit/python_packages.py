"""CPython and its companions, cut into OpenWrt's packages by OpenWrt's filespecs, as bytecode.

What users get to cut their own packages with is used here in earnest: rootfs.filespec, python.bytecode and
python.catalogue. Debian's deviations are those of the edition's file and no others.
"""

from __future__ import annotations

from pathlib import Path

from imagebuilder.kit.deviations import DeviationError, Deviations, present_rules
from imagebuilder.kit.materials import MAIN, Materials
from imagebuilder.kit.system_packages import Content
from imagebuilder.log import Log
from imagebuilder.python.bytecode.bytecode import Interpreter, ship, source_tree
from imagebuilder.python.catalogue.catalogue import Catalogue, PythonPackage
from imagebuilder.rootfs.filespec import apply, from_triples
from imagebuilder.rootfs.shellglob import expand
from imagebuilder.rootfs.tree import Entry, FileTree, folder, symlink

SECTION = "lang"
_LOADER = "ld-linux-x86-64.so.2"


def kit_interpreter(unpacked: Path, catalogue: Catalogue) -> Interpreter:
    """The kit's own Python, run on this machine through its own loader and libraries, straight out of the
    folder into which Debian's packages were unpacked."""
    # Debian 13 has all of /lib in /usr/lib
    folders = [unpacked / place / "x86_64-linux-gnu" for place in ("lib", "usr/lib")]
    loaders = [folder / _LOADER for folder in folders if (folder / _LOADER).exists()]
    if not loaders:
        raise DeviationError(f"Debian's libc6 has no {_LOADER} where it should be")
    return Interpreter(
        argv=(
            str(loaders[0]),
            "--library-path",
            ":".join(map(str, folders)),
            str(unpacked / f"usr/bin/python{catalogue.python}"),
        ),
        python=catalogue.python,
        magic_number=catalogue.magic_number,
        environment={"PYTHONHOME": str(unpacked / "usr")},
    )


def _hook_tree(package: PythonPackage, stage: FileTree, changes: Deviations) -> FileTree:
    """What a package's install hook makes, and what the kit adds to that. DeviationError where the stage
    lacks what is to be copied."""
    entries: dict[str, Entry] = changes.added_to(package.name)
    left_out = changes.hook_paths(package.name)
    unknown = left_out - {step.path for step in package.install_hook}
    if unknown:
        raise DeviationError(f"the hook of {package.name} has no step for {', '.join(sorted(unknown))}")
    if not package.standard_library:  # OpenWrt's generic hook: all programs
        entries |= {path: stage[path] for path in stage.children("/usr/bin")}
    for step in package.install_hook:
        if step.kind == "mkdir":
            entries[step.path] = folder()
        elif step.kind == "symlink":
            entries[step.path] = symlink(step.argument)
        else:
            found = expand(stage, step.path)
            if bool(found) == (step.path in left_out):
                raise DeviationError(
                    f"{package.name} copies {step.path}, of which Debian has {len(found)}, "
                    f"and its deviations say otherwise"
                )
            for path in found:
                entries[f"{step.argument.rstrip('/')}/{path.rpartition('/')[2]}"] = stage[path]
    return FileTree(entries)


def _cut(package: PythonPackage, stage: FileTree, changes: Deviations) -> FileTree:
    """A package's files before they are compiled. Raises FilespecError and DeviationError."""
    rules = from_triples(package.filespec, origin=f"the filespec of {package.name}")
    present = present_rules(package.name, rules, stage, changes)
    hook = _hook_tree(package, stage, changes)
    return apply(present, stage, hook, origin=f"the filespec of {package.name}").tree


def _content(
    package: PythonPackage, tree: FileTree, version: str, catalogue: Catalogue, changes: Deviations
) -> Content:
    def index_name(name: str) -> str:
        return catalogue.packages[name].name_in_index if name in catalogue.packages else name

    depends = (*map(index_name, package.depends), *changes.dependencies_of(package.name))
    return Content(
        name=package.name_in_index,
        version=version,
        summary=package.summary,
        section=SECTION,
        tree=tree,
        depends=("libc", *depends),
        provides=(package.name,) if package.name != package.name_in_index else (),
        abi_version=package.abi_version,
    )


def _source_content(package: PythonPackage, name: str, tree: FileTree, version: str) -> Content:
    return Content(
        name=name, version=version, summary=f"{package.summary} (sources)", section=SECTION, tree=tree
    )


def python_packages(materials: Materials, catalogue: Catalogue, log: Log) -> list[Content]:
    """Every Python package of the catalogue and its -src twin; their bytecode is in the scratch folder.

    Raises FilespecError and DeviationError where Debian's Python is not as stated, CompileError.
    """
    changes, debs = materials.deviations, materials.debs
    sites = {site.name: site for site in materials.recipe.site}
    cut = {
        name: _cut(package, materials.stages[name if name in sites else MAIN], changes)
        for name, package in catalogue.packages.items()
    }
    log.progress("compiling Python's standard library")
    # a package without a filespec is not processed: libpython3 keeps its empty lib-dynload
    processed = {name: tree for name, tree in cut.items() if catalogue.packages[name].filespec}
    interpreter = kit_interpreter(materials.main, catalogue)
    shipped = ship(processed, interpreter, materials.scratch / "bytecode", epoch=materials.epoch, log=log)
    contents = []
    for name, package in catalogue.packages.items():
        debian = sites[name].debian[0] if name in sites else materials.recipe.python[0]
        version = debs[debian].plain_version
        contents.append(_content(package, shipped.get(name, cut[name]), version, catalogue, changes))
        if package.src_name is not None:
            contents.append(_source_content(package, package.src_name, source_tree(cut[name]), version))
    return contents
