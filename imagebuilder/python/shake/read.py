"""What compiled modules import, and which names each of their functions uses: read from bytecode, because
OpenWrt ships nothing else, by a Python of the same version (python.bytecode.interpreter)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from imagebuilder.called import typed
from imagebuilder.errors import UserError
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import clean_environment, run
from imagebuilder.log import Log
from imagebuilder.model.python_source import EncodingError, source_as_utf8
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry

HELPER = "batch.py"  # run as text by another interpreter, not imported by ours
READ_SECONDS = 600.0  # under emulation, for hundreds of modules
MAGIC_BYTES = 2

UnitKind = Literal["body", "function", "method", "nested"]
CodeKind = Literal["pyc", "py"]
_KINDS: tuple[UnitKind, ...] = get_args(UnitKind)


class ShakeError(UserError):
    """Modules that cannot be shaken: unreadable, or of another Python."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One import statement. certain: nothing goes round it, neither a condition nor a `try`; level: its dots;
    names: what `from` takes, "*" among them; instead: the modules that are imported first, and whose absence
    leads here."""

    certain: bool
    level: int
    module: str
    names: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """A module's body, or a function in it. parent: the number of the unit around it, -1 for the body;
    owner: of a method its class, "" where that does not matter; globals, attributes: names that it uses;
    words: constants that may be names of something."""

    number: int
    parent: int
    kind: UnitKind
    name: str
    owner: str = ""
    globals: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    imports: tuple[Imported, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What one module's code says. units: its body first. problem: why it cannot be read; "" if it can."""

    name: str
    units: tuple[Unit, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """One module's file to read."""

    kind: CodeKind
    entry: Entry


@dataclass(slots=True)
class _Open:
    """A unit whose lines are still coming."""

    unit: Unit
    words: dict[str, frozenset[str]] = field(default_factory=dict)
    imports: list[Imported] = field(default_factory=list)

    def closed(self) -> Unit:
        names, attributes, words = (self.words.get(key, frozenset()) for key in "GAS")
        imports = tuple(self.imports)
        return replace(self.unit, globals=names, attributes=attributes, words=words, imports=imports)


def parse_facts(text: str) -> dict[str, ModuleFacts]:
    """The helper's answer, by module. Its lines, fields between tabs: M name; U number, parent, kind, name,
    owner; G, A, S words; I certain, level, module, names, instead; E name, problem; END.

    ShakeError for anything else, and where the end is missing."""
    found: dict[str, ModuleFacts] = {}
    name, units, ended = "", list[_Open](), False

    def close() -> None:
        if name:
            found[name] = ModuleFacts(name, tuple(each.closed() for each in units))

    for line in text.split("\n"):
        key, *fields = line.split("\t")
        if ended and line:
            raise _unclear(line)
        try:
            match key, fields:
                case "M", [module]:
                    close()
                    name, units = module, []
                case "E", [module, problem]:
                    found[module] = ModuleFacts(module, problem=problem or "it cannot be read")
                case "U", [number, parent, kind, called, owner]:
                    unit = Unit(int(number), int(parent), _kind(kind), called, owner)
                    if unit.number != len(units) or not -1 <= unit.parent < len(units):
                        raise _unclear(line)
                    units.append(_Open(unit))
                case (("G" | "A" | "S"), [words]):
                    units[-1].words[key] = frozenset(words.split(" "))
                case "I", [certain, level, module, names, instead]:
                    taken = Imported(certain == "1", int(level), module, _listed(names), _listed(instead))
                    units[-1].imports.append(taken)
                case "END", []:
                    ended = True
                case _ if line:
                    raise _unclear(line)
        except (ValueError, IndexError) as error:
            raise _unclear(line) from error
    if not ended:
        raise ShakeError(
            "the Python that reads bytecode stopped before its end",
            hint=f"is one of the packages damaged? Fetch it again: {typed('clean --fetched')}",
        )
    close()
    return found


def _unclear(line: str) -> ShakeError:
    return ShakeError(
        f"the Python that reads bytecode answered {line[:100]!r}",
        hint="names in it are not those of a compiler: which package was made by hand?",
    )


def _kind(text: str) -> UnitKind:
    return _KINDS[_KINDS.index(text)]  # ValueError for any other text


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _frames(modules: Mapping[str, Code], magic_number: int) -> Iterator[bytes]:
    for name, code in modules.items():
        data = content(code.entry)
        if code.kind == "py":
            with suppress(EncodingError):  # which the reader says, as of all that is no Python
                data = source_as_utf8(data)
        if code.kind == "py" or int.from_bytes(data[:MAGIC_BYTES], "little") == magic_number:
            yield f"{name} {code.kind} {len(data)}\n".encode() + data


def read_modules(
    modules: Mapping[str, Code], interpreter: Interpreter, work: Path, log: Log | None = None
) -> dict[str, ModuleFacts]:
    """Read modules by their names. interpreter: of the very version; it needs python3-light's `dis`. work: a
    folder that it may be started in.

    Modules of another Python's bytecode, or damaged, come back with a problem. ShakeError; HostError.
    """
    if not modules:
        return {}
    environment = clean_environment(
        PYTHONDONTWRITEBYTECODE="1", PYTHONNOUSERSITE="1", PYTHONIOENCODING="utf-8", **interpreter.environment
    )
    work.mkdir(parents=True, exist_ok=True)
    # a file: from 3.13 on -c wants linecache, and -W warnings, which are not in every root
    helper = work / HELPER
    helper.write_bytes((resources.files(__package__) / HELPER).read_bytes())
    done = run(
        [*interpreter.argv, "-S", str(helper.absolute())],
        cwd=work,
        env=environment,
        stdin=b"".join(_frames(modules, interpreter.magic_number)),
        timeout=READ_SECONDS,
        check=False,
        log=log,
        watch=Watch("reading Python modules", work),
    )
    if done.code != 0:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
        raise ShakeError(
            f"{interpreter.argv[-1]} could not read the bytecode (exit code {done.code}): {last}",
            hint=f"Python {interpreter.python} with its module dis is needed (python3-light)",
        )
    found = parse_facts(done.stdout)
    other = f"its bytecode is not Python {interpreter.python}'s"
    return {name: found.get(name) or ModuleFacts(name, problem=other) for name in modules}
