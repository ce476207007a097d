"""Every .pyc of a root file system, loaded by the target's own interpreter before an image is handed over, or
by one whose bytecode is the same where this machine cannot run the target's (load_batch.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import Completed, clean_environment, run
from imagebuilder.log import Log
from imagebuilder.model.result import LoadedBytecode
from imagebuilder.python.bytecode.bytecode import magic_of
from imagebuilder.python.bytecode.interpreter import can_run, host_interpreter
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.python.shake.commands import WORK, Root, run_in
from imagebuilder.python.shake.index import module_of
from imagebuilder.rootfs.tree import FileTree

HELPER = "load_batch.py"  # run as text by another interpreter, not imported by ours
LOAD_SECONDS = 900.0  # all of the standard library, imported under emulation
_SHOWN, _NATIVE = 5, ".so"


class LoadError(UserError):
    """Bytecode in an image that the image's interpreter does not load."""


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """What the helper says. loaded: files that are good; bad: those that are not, with the reason; imported:
    modules; lacking, slow: modules that lack another one, or did not come to an end, with the reason;
    refused: those that the device's linker does not load; failing: those that raise something else; last: the
    module at which it stopped, "" if it did not."""

    loaded: int
    bad: tuple[tuple[str, str], ...]
    imported: int
    lacking: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    failing: tuple[tuple[str, str], ...]
    slow: tuple[str, ...]
    last: str


def bytecode_in(tree: FileTree, python: str, magic_number: int) -> tuple[str, ...]:
    """All bytecode of a root file system that Python ("3.11") would read, by path: not what lies beside its
    source, nor in __pycache__ under another version's name, nor outside of the library with another one's
    magic number, such as Python 2's."""
    library, tag = f"/usr/lib/python{python}/", f".cpython-{python.replace('.', '')}."
    found = []
    for path, entry in tree.items():
        if entry.kind != "file" or not path.endswith(".pyc"):
            continue
        cached = "/__pycache__/" in path
        hidden = tag not in path if cached else path[:-1] in tree
        if hidden or not (path.startswith(library) or magic_of(entry) == magic_number):
            continue
        found.append(path)
    return tuple(found)


def parse_answer(text: str) -> LoadAnswer:
    """The helper's answer. LoadError for anything else than one."""
    loaded, imported, last = 0, 0, ""
    bad, lacking, failing = list[tuple[str, str]](), list[tuple[str, str]](), list[tuple[str, str]]()
    refused, slow = list[tuple[str, str]](), list[str]()
    for line in text.split("\n"):
        match line.split("\t"):
            case ["L", _, ""]:
                loaded += 1
            case ["L", path, why]:
                bad.append((path, why))
            case ["T", module]:
                last = module
            case ["I", _, "ok", ""]:
                imported, last = imported + 1, ""
            case ["I", module, "slow", _]:
                slow, last = [*slow, module], ""
            case ["I", module, "lacks", why]:
                lacking.append((module, why))
                last = ""
            case ["I", module, "refused", why]:
                refused.append((module, why))
                last = ""
            case ["I", module, "fails", why]:
                failing.append((module, why))
                last = ""
            case ["END"] | [""]:
                pass
            case _:
                raise LoadError(
                    f"the Python that loads bytecode answered {line[:100]!r}",
                    hint="build again with --verbose",
                )
    return LoadAnswer(
        loaded, tuple(bad), imported, tuple(lacking), tuple(refused), tuple(failing), tuple(slow), last
    )


def modules_of(paths: Iterable[str], wanted: Collection[str], library: str) -> dict[str, str]:
    """The names under which those of the paths that are wanted can be imported: modules, no __main__."""
    found = {}
    for path in paths:
        named = module_of(path, library) if path in wanted and "/__pycache__/" not in path else None
        if named is not None and named[0].rpartition(".")[2] != "__main__":
            found[path] = named[0]
    return found


def load_bytecode(
    root: Root,
    tree: FileTree,
    wanted: Collection[str],
    work: Path,
    log: Log,
    *,
    native: Collection[str] = (),
) -> LoadedBytecode | None:
    """Load all bytecode of a root file system, whose content is `tree`, and import the modules among the
    files `wanted`, and the native ones among the files `native`, where its own interpreter can be run. None,
    with a warning, where nobody here can load it.

    LoadError naming what its interpreter would refuse; HostError; ProgramTimeoutError.
    """
    facts = version_facts(root.python)
    paths = bytecode_in(tree, root.python, facts.magic_number)
    if not paths:
        return LoadedBytecode(files=0, modules=0, by="")
    foreign = [path for path in paths if magic_of(tree[path]) != facts.magic_number]
    if foreign:
        listed = "\n".join(f"{path}: magic number {magic_of(tree[path])}" for path in foreign[:_SHOWN])
        raise LoadError(
            f"{len(foreign)} files of bytecode are not Python {root.python}'s:\n{listed}",
            hint=f"its magic number is {facts.magic_number}: which package was made for another release?",
        )
    work.mkdir(parents=True, exist_ok=True)
    own = can_run(root.path, root.python, root.emulated)
    modules = modules_of(paths, wanted, f"/usr/lib/python{root.python}") if own else {}
    natives = [path for path, entry in tree.items() if entry.kind == "file" and path.endswith(_NATIVE)]
    modules |= modules_of(natives, native, f"/usr/lib/python{root.python}") if own else {}
    tried = [*paths, *(path for path in natives if path in modules)]
    lines = "".join(f"{path}\t{modules[path]}\n" if path in modules else f"{path}\n" for path in tried)
    with temporary_folder("scratch", work) as folder:
        (folder / "list").write_text(lines, "utf-8")
        # a file: from 3.13 on -c wants linecache, and -W warnings, which python3-base has not
        helper = folder / HELPER
        helper.write_bytes((resources.files(__package__) / HELPER).read_bytes())
        if own:
            by = f"the image's own Python {root.python}"
            argv = [root.interpreter, "-B", f"{WORK}/{HELPER}", "", f"{WORK}/list"]
            done = run_in(root, argv, folder, timeout=LOAD_SECONDS)
        else:
            interpreter = host_interpreter(root.python, facts.magic_number)
            if interpreter is None:
                log.warn(
                    f"the bytecode was not loaded: this machine runs neither the image's Python {root.python}"
                    f" nor another with magic number {facts.magic_number}"
                )
                return None
            by = f"{interpreter.argv[-1]} of this machine, whose bytecode is the same"
            argv = [*interpreter.argv, "-I", "-S", "-B", str(helper), str(root.path), f"{folder}/list"]
            watch = Watch("loading the image's bytecode", work)
            done = run(argv, env=clean_environment(), timeout=LOAD_SECONDS, check=False, watch=watch)
    return _judged(done, by, len(paths), log)


def _judged(done: Completed, by: str, files: int, log: Log) -> LoadedBytecode:
    """What the answer means for the image."""
    answer = parse_answer(done.stdout)
    # what is raised by the interpreter itself and not by a module: an instruction that it does not know
    broken = [*answer.bad, *(each for each in answer.failing if each[1].startswith("SystemError"))]
    if broken:
        listed = "\n".join(f"{path}: {why}" for path, why in broken[:_SHOWN])
        raise LoadError(
            f"{len(broken)} files of bytecode cannot be loaded by {by}:\n{listed}",
            hint="they were compiled for another Python, or the package is damaged",
        )
    if answer.refused:
        each = "\n".join(f"{module}: {why}" for module, why in answer.refused[:_SHOWN])
        raise LoadError(
            f"native code that {by} does not load:\n{each}",
            hint="take another release of what brings it, or do without its native code (pure = true)",
        )
    if answer.last:
        raise LoadError(
            f"{by} ended with {done.code} while it imported {answer.last}",
            hint="leave the module out with a filespec rule, or report it with build.log",
        )
    if answer.loaded != files:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-_SHOWN:])
        raise LoadError(
            f"{by} loaded {answer.loaded} of {files} files of bytecode and ended with {done.code}: {last}",
            hint="does this machine run it? `--verbose` shows the command",
        )
    for module, why in answer.failing:
        log.warn(f"the module {module} cannot be imported in the image: {why}")
    for module in answer.slow:
        log.warn(f"importing the module {module} does not come to an end: does it start its work unasked?")
    for module, why in answer.lacking:
        log.note(f"the module {module} is there for nothing in this image: {why}")
    return LoadedBytecode(
        files=answer.loaded,
        modules=answer.imported,
        by=by,
        lacking=tuple(module for module, _ in answer.lacking),
    )
