"""Every .pyc of a root file system, loaded by the target's own interpreter before an image is handed over, or
by one whose bytecode is the same where this machine cannot run the target's; and every module imported where
it can (load_batch.py). What that means for an image is module_check.py's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import Completed, clean_environment, how_it_ended, run
from imagebuilder.python.bytecode.bytecode import magic_of
from imagebuilder.python.bytecode.interpreter import can_run, host_interpreter
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.python.shake.commands import WORK, Root, run_in
from imagebuilder.python.shake.index import module_of
from imagebuilder.rootfs.tree import FileTree

TAB = "\t"
HELPER = "load_batch.py"  # run as text by another interpreter, not imported by ours
LOAD_SECONDS = 900.0  # all of the standard library, imported under emulation
MOST_DEATHS = 20  # of the interpreter, while it imports the modules of one image
_SHOWN, _NATIVE = 5, ".so"
_ENDINGS = (_NATIVE, ".py", ".pyc")  # in the order in which the import system looks for them


class LoadError(UserError):
    """The interpreter that loads bytecode does not answer as it should."""


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


@dataclass
class Loading:
    """How it went with all files and modules of a root. by: which interpreter did it; files: of bytecode;
    modules: the file of each that was to be imported; ended: modules at which the interpreter died, and how;
    left: modules that were not tried, because it died so often; foreign: paths of bytecode of another
    version, which is not loaded, with its magic number; the others as LoadAnswer has them."""

    by: str
    files: int
    modules: Mapping[str, str]
    loaded: int = 0
    imported: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    lacking: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    failing: list[tuple[str, str]] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    left: int = 0
    foreign: tuple[tuple[str, int], ...] = ()

    def add(self, answer: LoadAnswer) -> None:
        """One more of the helper's answers."""
        self.loaded += answer.loaded
        self.imported += answer.imported
        self.bad += answer.bad
        self.lacking += answer.lacking
        self.refused += answer.refused
        self.failing += answer.failing
        self.slow += answer.slow


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


def modules_of(paths: Iterable[str], library: str) -> dict[str, str]:
    """The modules that can be imported, no __main__, and the file that each comes from: where several files
    would do, the one that the import system takes."""
    found: dict[str, str] = {}
    for path in paths:
        named = module_of(path, library) if "/__pycache__/" not in path else None
        if named is None or named[0].rpartition(".")[2] == "__main__":
            continue
        other = found.get(named[0])
        if other is None or _place(path) < _place(other):
            found[named[0]] = path
    return found


def _place(path: str) -> tuple[bool, int]:
    """Which file of a module comes first: that of a package before a module's, and then by its ending."""
    package = path.rpartition("/")[2].startswith("__init__.")
    return not package, next(number for number, ending in enumerate(_ENDINGS) if path.endswith(ending))


def load_bytecode(
    root: Root, tree: FileTree, work: Path, *, only: Collection[str] | None = None
) -> Loading | None:
    """Load all bytecode of a root file system, whose content is `tree`, and import all of its modules where
    its own interpreter can be run. only: paths of files, whose modules alone are imported. None where nobody
    here can load it.

    LoadError for an interpreter that does not answer; VersionError; HostError; ProgramTimeoutError.
    """
    facts = version_facts(root.python)
    magics = {path: magic_of(tree[path]) for path in bytecode_in(tree, root.python, facts.magic_number)}
    foreign = {path: number for path, number in magics.items() if number != facts.magic_number}
    paths = [path for path in magics if path not in foreign]
    own = can_run(root.path, root.python, root.emulated)
    library = f"/usr/lib/python{root.python}"
    files = (path for path, entry in tree.items() if entry.kind == "file" and path.endswith(_ENDINGS))
    modules = modules_of(files, library) if own else {}
    modules = {
        name: path for name, path in modules.items() if path not in foreign and (only is None or path in only)
    }
    interpreter = None if own else host_interpreter(root.python, facts.magic_number)
    if not own and interpreter is None and paths:
        return None
    by = f"the image's own Python {root.python}"
    if interpreter is not None:
        by = f"{interpreter.argv[-1]} of this machine, whose bytecode is the same"
    loading = Loading(by, len(paths), modules, foreign=tuple(foreign.items()))
    loaded = set(modules.values())
    rows = [f"{path}\n" for path in paths if path not in loaded]
    rows += [f"{path}\t{name}\n" for name, path in modules.items()]
    work.mkdir(parents=True, exist_ok=True)
    while rows:
        with temporary_folder("scratch", work) as folder:
            (folder / "list").write_text("".join(rows), "utf-8")
            # a file: from 3.13 on -c wants linecache, and -W warnings, which python3-base has not
            helper = folder / HELPER
            helper.write_bytes((resources.files(__package__) / HELPER).read_bytes())
            if interpreter is None:
                argv = [root.interpreter, "-B", f"{WORK}/{HELPER}", "", f"{WORK}/list"]
                done = run_in(root, argv, folder, timeout=LOAD_SECONDS)
            else:
                argv = [*interpreter.argv, "-I", "-S", "-B", str(helper), str(root.path), f"{folder}/list"]
                watch = Watch("loading the image's bytecode", work)
                done = run(argv, env=clean_environment(), timeout=LOAD_SECONDS, check=False, watch=watch)
        rows = _rest(loading, done, rows)
    return loading


def _rest(loading: Loading, done: Completed, rows: list[str]) -> list[str]:
    """Take an answer; the rows that are still to be done, where the interpreter died at a module's import.
    LoadError where it died for another reason."""
    answer = parse_answer(done.stdout)
    loading.add(answer)
    if done.stdout.endswith("END\n"):
        return []
    last = "\n".join((done.stderr or done.stdout).splitlines()[-_SHOWN:])
    if not answer.last:
        raise LoadError(
            f"{loading.by} loaded {loading.loaded} of {loading.files} files of bytecode and"
            f" {how_it_ended(done.code)}: {last}",
            hint="does this machine run it? `--verbose` shows the command",
        )
    loading.ended.append((answer.last, f"the interpreter {how_it_ended(done.code)}"))
    at = next(number for number, row in enumerate(rows) if row.endswith(f"\t{answer.last}\n"))
    # all bytecode is loaded before the first import
    rest = [f"\t{row.partition(TAB)[2]}" for row in rows[at + 1 :] if TAB in row]
    if len(loading.ended) < MOST_DEATHS:
        return rest
    loading.left = len(rest)
    return []
