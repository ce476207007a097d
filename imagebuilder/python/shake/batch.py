"""Reads what compiled modules import and name. Never imported: read.py hands its text to a Python whose
bytecode is the target's.

Standard input: for each module one line `NAME KIND LENGTH`, KIND being pyc or py, and so many bytes.
Standard output: lines of fields between tabs, see read.py. It needs the standard library alone, and
nothing that is newer than Python 3.6.
"""

import dis
import marshal
import re
import sys
from types import CodeType

TYPE_CHECKING = False  # not from typing, which takes longer to import than all that is done here
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

    Span = tuple[int, int]

PYC_HEADER = {"old": 12, "new": 16}  # bytes before the code; the new one is PEP 552's, of 3.7
WORD = re.compile(r"[A-Za-z0-9_.%-]{2,64}\Z")
GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_CLASSDEREF", "LOAD_DEREF", "LOAD_FROM_DICT_OR_GLOBALS"}
ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
CALLS = {"CALL", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_KW"}
CATCHES = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
JUMPS = set(dis.hasjrel) | set(dis.hasjabs)
BY_NAME = {"getattr": 2, "hasattr": 2, "attrgetter": 1, "methodcaller": 1}  # and least arguments
COMPUTED = "getattr()"  # among a unit's attributes: it takes one whose name is put together
SKIPPED = {"CACHE", "EXTENDED_ARG", "PRECALL", "NOT_TAKEN", "RESUME", "PUSH_NULL"}
FALSE_JUMPS = {"POP_JUMP_IF_FALSE", "POP_JUMP_FORWARD_IF_FALSE"}


def never(code: "list[dis.Instruction]") -> "list[tuple[int, int]]":
    """Spans of offsets that do not run on the target when the module is imported: what stands below
    `if __name__ == "__main__"`, `if sys.platform == "win32"` and `if os.name == "nt"`."""
    found = []
    for at, jump in enumerate(code):
        if jump.opname not in FALSE_JUMPS or at < 3 or not isinstance(jump.argval, int):
            continue
        before = code[max(at - 5, 0) : at]
        if before[-1].opname == "TO_BOOL":
            before = before[:-1]
        values = [each.argval for each in before[-4:]]
        if "==" not in str(values[-1]) or not isinstance(values[-2], str):
            continue
        tested = values[-3]
        if (tested, values[-2]) in {("__name__", "__main__"), ("name", "nt")} or (
            tested == "platform" and not values[-2].startswith("linux")
        ):
            found.append((jump.offset, jump.argval))
    return found


def guards(raw: CodeType, code: "list[dis.Instruction]") -> "list[tuple[Span, Span]]":
    """(tried span, handling span) of each `try` with an `except` that catches ImportError."""
    entries = getattr(dis.Bytecode(raw), "exception_entries", None)
    spans = old_guards(code) if entries is None else new_guards(entries)
    by_offset = {each.offset: number for number, each in enumerate(code)}
    found = []
    for tried, (start, end) in spans:
        number = by_offset.get(start)
        while number is not None and code[number].opname == "NOP":
            number += 1
        if number is not None and catches(code, number, end, by_offset):
            found.append((tried, (start, end)))
    return found


def new_guards(entries: "list[Any]") -> "list[tuple[Span, Span]]":
    """From the table of exceptions (3.11 on): a handler runs to where what cleans up after it begins."""
    found = []
    for entry in entries:
        ends = [each.target for each in entries if each.start <= entry.target < each.end]
        found.append(((entry.start, entry.end), (entry.target, max(ends, default=entry.target + 2))))
    return found


def old_guards(code: "list[dis.Instruction]") -> "list[tuple[Span, Span]]":
    """From the instructions that set handlers up (up to 3.10): a handler runs to where the jump behind the
    tried block leads."""
    found = []
    depth = []  # type: list[tuple[int, int, str]]
    for number, each in enumerate(code):
        if each.opname.startswith("SETUP_"):
            depth.append((each.offset, each.argval, each.opname))
        elif each.opname == "POP_BLOCK" and depth:
            start, target, kind = depth.pop()
            after = code[number + 1] if number + 1 < len(code) else None
            jumps = after is not None and after.opname in ("JUMP_FORWARD", "JUMP_ABSOLUTE")
            if kind in ("SETUP_FINALLY", "SETUP_EXCEPT") and after and jumps and after.argval > target:
                found.append(((start, each.offset), (target, after.argval)))
    return found


def catches(code: "list[dis.Instruction]", number: int, end: int, by_offset: "dict[int, int]") -> bool:
    """Whether a handler's chain of `except` has one for ImportError."""
    names = set()
    for _ in range(16):  # so many excepts of one try are followed
        matched = False
        while number < len(code) and code[number].offset < end:
            each = code[number]
            if each.opname in GLOBAL | ATTRIBUTE:
                names.add(str(each.argval))
            if each.opname in FALSE_JUMPS | {"JUMP_IF_NOT_EXC_MATCH"} and each.argval in by_offset:
                matched, number = True, by_offset[each.argval]
                break
            if each.opcode in JUMPS or each.opname in ("RERAISE", "STORE_NAME", "STORE_FAST", "IMPORT_NAME"):
                break
            number += 1
        if names & CATCHES:
            return True
        if not matched:
            break
    return False


def inside(offset: int, spans: "Iterable[Span]") -> bool:
    """Whether an offset is in one of these spans."""
    return any(start <= offset < end for start, end in spans)


def decorated(code: "list[dis.Instruction]") -> "set[str]":
    """Names that are given to what two calls in a row made: classes with decorators."""
    return {
        each.argval
        for number, each in enumerate(code)
        if each.opname.startswith("STORE_")
        and number > 1
        and code[number - 1].opname in CALLS
        and code[number - 2].opname in CALLS
    }


def by_name(code: "list[dis.Instruction]", number: int) -> "set[str]":
    """The attributes that the getattr() or its like at code[number] takes by a constant name."""
    least = BY_NAME[code[number].argval]
    found = set()  # type: set[str]
    for each in code[number + 1 : number + 16]:
        if each.opname in CALLS:
            if isinstance(each.argval, int) and each.argval >= least:
                return found or {COMPUTED}
        elif each.opname.startswith(("BINARY_", "FORMAT_", "BUILD_STRING")):
            break
        elif isinstance(each.argval, str) and "CONST" in each.opname:
            found.add(each.argval)
    return {COMPUTED}


def taken(code: "list[dis.Instruction]", number: int) -> "tuple[int, tuple[str, ...]]":
    """Level and names of the import at code[number]: the two constants before it."""
    names, level = code[number - 1].argval, code[number - 2].argval
    return (level if isinstance(level, int) else 0), (names if isinstance(names, tuple) else ())


class Reader:
    """Writes the units of one module: its body, and each function that has a name. What a class's body, a
    lambda or a comprehension holds belongs to the unit around it."""

    def __init__(self, write: "Callable[..., None]") -> None:
        self.write = write
        self.units = 0

    def unit(self, raw: CodeType, name: str, parent: int, kind: str, owner: str) -> None:
        """One unit with all that is in it. kind: body, function (of a module), method, nested; owner: of a
        method the class, but for one that is decorated, which may be used without its name."""
        number = self.units
        self.units += 1
        facts = {"G": set(), "A": set(), "S": set(), "I": [], "inner": []}  # type: dict[str, Any]
        self.collect(raw, facts, "function" if kind == "body" else "nested", "")
        self.write("U", number, parent, kind, name, owner)
        for key in ("G", "A", "S"):
            if facts[key]:
                self.write(key, " ".join(sorted(facts[key])))
        for line in facts["I"]:
            self.write("I", *line)
        for code, inner_kind, inner_owner in facts["inner"]:
            self.unit(code, code.co_name, number, inner_kind, inner_owner)

    def collect(self, raw: CodeType, facts: "dict[str, Any]", inner_kind: str, owner: str) -> None:
        """Put a code object's facts, and those of what belongs to it, into the unit's."""
        code = [each for each in dis.get_instructions(raw) if each.opname not in SKIPPED]
        unused, tries = never(code), guards(raw, code)
        dropped = set()
        for number, each in enumerate(code):
            if inside(each.offset, unused):
                if isinstance(each.argval, CodeType):
                    dropped.add(id(each.argval))
                continue
            if each.opname in GLOBAL | ATTRIBUTE and each.argval in BY_NAME:
                facts["A"] |= {name for name in by_name(code, number) if WORD.match(name) or name == COMPUTED}
            if each.opname in GLOBAL:
                facts["G"].add(str(each.argval))
            elif each.opname in ATTRIBUTE:
                facts["A"].add(str(each.argval))
            elif each.opname == "IMPORT_NAME":
                facts["I"].append(self.imported(code, number, tries))
            elif isinstance(each.argval, (str, tuple, frozenset)):
                words(each.argval, facts["S"])
        for const in raw.co_consts:
            if isinstance(const, CodeType) and id(const) not in dropped:
                self.inner(const, facts, inner_kind, owner, decorated_names=decorated(code))

    def inner(
        self,
        const: CodeType,
        facts: "dict[str, Any]",
        kind: str,
        owner: str,
        *,
        decorated_names: "Collection[str]",
    ) -> None:
        """A code object in another: its own unit if it is a named function."""
        if const.co_name.startswith("<"):
            self.collect(const, facts, kind, owner)
        elif const.co_flags & 2 == 0:  # no CO_NEWLOCALS: the body of a class
            named = "" if const.co_name in decorated_names else const.co_name
            self.collect(const, facts, "method" if kind == "function" else kind, owner or named)
        else:
            facts["inner"].append((const, kind, owner))

    def imported(
        self, code: "list[dis.Instruction]", number: int, tries: "list[tuple[Span, Span]]"
    ) -> "tuple[Any, ...]":
        """Fields of an import: 1 if nothing goes round it, level, module, names, and the modules that a
        `try` imports in whose handler it stands."""
        level, names = taken(code, number)
        offset = code[number].offset
        instead = []
        for tried, handler in tries:
            if inside(offset, [handler]):
                instead += [
                    "." * taken(code, at)[0] + each.argval
                    for at, each in enumerate(code)
                    if each.opname == "IMPORT_NAME" and inside(each.offset, [tried])
                ]
        certain = not any(inside(offset, pair) for pair in tries) and not any(
            each.offset < offset < each.argval
            for each in code
            if each.opcode in JUMPS and isinstance(each.argval, int)
        )
        return int(certain), level, code[number].argval or "", ",".join(names), ",".join(instead)


def words(value: object, into: "set[str]") -> None:
    """The texts of a constant that may be names of something."""
    if isinstance(value, str):
        if WORD.match(value):
            into.add(value)
    elif isinstance(value, (tuple, frozenset)):
        for each in value:
            words(each, into)


def main() -> None:
    """Read modules until there are none."""
    source, out = sys.stdin.buffer, sys.stdout
    header = PYC_HEADER["new" if sys.version_info >= (3, 7) else "old"]
    sys.setrecursionlimit(5000)

    def write(*fields: object) -> None:
        out.write("\t".join(map(str, fields)) + "\n")

    for head in iter(source.readline, b""):
        name, kind, length = head.decode().rstrip("\n").rsplit(" ", 2)  # a path may have spaces
        data = source.read(int(length))
        try:
            if kind == "pyc":
                code = marshal.loads(data[header:])  # noqa: S302 - in the sandbox, to read what the device will run
            else:
                code = compile(data, name, "exec", dont_inherit=True)
            if not isinstance(code, CodeType):
                raise ValueError("there is no code in it")
        except (ValueError, EOFError, TypeError, SyntaxError) as error:
            write("E", name, "{}: {}".format(type(error).__name__, str(error).partition("\n")[0]))
            continue
        write("M", name)
        Reader(write).unit(code, "", -1, "body", "")
    write("END")


if __name__ == "__main__":
    main()
