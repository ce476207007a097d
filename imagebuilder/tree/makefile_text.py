"""Makefile text: lines, conditionals and references, as far as OpenWrt's image makefiles need them.

This is no make. What it cannot know (functions, variables that are set elsewhere) becomes UNKNOWN, and
whatever contains that is unknown in turn: a figure is right or it is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

UNKNOWN = "\0"
MAX_CHARACTERS = 20_000  # of a value: references to references may double it each time
MAX_DEPTH = 10  # of references in references, and of brackets in brackets

# Whether a condition holds; None: nobody knows
Truth = bool | None
Lookup = Callable[[str], str]

_DEFINE = re.compile(r"\s*define\s+(\S+)\s*(?::?=)?\s*$")
_ENDEF = re.compile(r"\s*endef\b")
_CONDITION = re.compile(r"\s*(ifeq|ifneq|ifdef|ifndef)\b\s*(.*)$")
_ELSE = re.compile(r"\s*else\b\s*(.*)$")
_ENDIF = re.compile(r"\s*endif\b")
_QUOTED = re.compile(r"""(["'])(.*?)\1\s*(["'])(.*?)\3\s*$""")
_REFERENCE = re.compile(r"\$+(?=[({])")
_AUTOMATIC = re.compile(r"\$+.?")  # `$@` of a recipe, and all that is no reference
_LATER = 4  # dollars: $(call …) of a definition takes away every second one, and so does :=
_CLOSING = {"(": ")", "{": "}"}
_CONSTANTS: Mapping[str, str] = {"comma": ",", "empty": "", "space": " "}


@dataclass(frozen=True)
class Define:
    """A `define NAME … endef`, its lines unread."""

    name: str
    body: tuple[str, ...]


def statements(text: str) -> Iterator[str | Define]:
    """The lines of a makefile, continued ones joined and comments gone, with definitions taken together.

    In a definition `#` is kept: it may be the shell's. Whoever reads it as makefile text has it gone there.
    """
    lines = iter(_joined(text))
    for line in lines:
        plain = re.sub(r"(?<!\\)#.*", "", line).rstrip() if "#" in line else line
        match = _DEFINE.match(plain)
        if match is None:
            if plain:
                yield plain
            continue
        body: list[str] = []
        depth = 1
        for inner in lines:
            depth += 1 if _DEFINE.match(inner) else -1 if _ENDEF.match(inner) else 0
            if depth == 0:
                break
            body.append(inner)
        yield Define(match[1], tuple(body))


def _joined(text: str) -> Iterator[str]:
    for line in re.sub(r"[ \t]*\\\r?\n[ \t]*", " ", text.replace(UNKNOWN, "")).splitlines():
        if line.strip():
            yield line.rstrip()


def chosen(
    items: Iterable[str | Define], holds: Callable[[str, str], Truth]
) -> Iterator[tuple[str | Define, Truth]]:
    """What conditionals let through, with True, or None where a condition is not known.

    holds(kind, operands) is asked for `ifeq`, `ifneq`, `ifdef` and `ifndef`.
    """
    branches: list[tuple[Truth, Truth]] = []  # this branch; whether one before it was taken
    for item in items:
        if isinstance(item, str):
            if match := _CONDITION.match(item):
                truth = holds(match[1], match[2])
                branches.append((truth, truth))
                continue
            if (match := _ELSE.match(item)) and branches:
                branches[-1] = _other_branch(branches[-1][1], match[1], holds)
                continue
            if _ENDIF.match(item) and branches:
                branches.pop()
                continue
        if all(truth is not False for truth, _ in branches):
            yield item, None if any(truth is None for truth, _ in branches) else True


def _other_branch(taken: Truth, condition: str, holds: Callable[[str, str], Truth]) -> tuple[Truth, Truth]:
    match = _CONDITION.match(condition)
    truth = holds(match[1], match[2]) if match else True
    if taken is True or truth is False:
        return False, taken
    if taken is None or truth is None:
        return None, None
    return True, True


def compare(kind: str, operands: str, lookup: Lookup) -> Truth:
    """Whether `ifeq (a,b)` and its kin hold, where lookup says what variables are."""
    if kind in ("ifdef", "ifndef"):
        value = lookup(operands.strip())
        return None if UNKNOWN in value else bool(value) is (kind == "ifdef")
    quoted = _QUOTED.match(operands.strip())
    if quoted:
        sides = [quoted[2], quoted[4]]
    else:
        sides = split_arguments(operands.strip().removeprefix("(").removesuffix(")"))
    if len(sides) != 2:
        return None
    left, right = (expand(side.strip(), lookup).strip() for side in sides)
    if UNKNOWN in left + right:
        return None
    return (left == right) is (kind == "ifeq")


def expand(
    text: str, lookup: Lookup, arguments: Sequence[str] = (), depth: int = 0, *, assigned: bool = False
) -> str:
    """The text with its references replaced: `$(NAME)`, `$(1)` by arguments, subst, strip and if. What
    is not known becomes UNKNOWN.

    assigned: as `:=` does it in a device's definition, where `$$$$(NAME)` stays for later: its value is then
    the one that the device has in the end. Else any number of dollars counts as one.
    """
    if depth > MAX_DEPTH:
        return UNKNOWN
    result, position = "", 0
    while match := _REFERENCE.search(text, position):
        end = closing_bracket(text, match.end())
        if end is None:
            return UNKNOWN
        result += _AUTOMATIC.sub(UNKNOWN, text[position : match.start()])
        if assigned and len(match[0]) >= _LATER:
            result += text[match.start() : end + 1]
        else:
            result += _referred(text[match.end() + 1 : end], lookup, arguments, depth + 1)
        position = end + 1
        if len(result) > MAX_CHARACTERS:
            return UNKNOWN
    result += _AUTOMATIC.sub(UNKNOWN, text[position:])
    return result if assigned else _AUTOMATIC.sub(UNKNOWN, result)


def closing_bracket(text: str, opening: int) -> int | None:
    """Where the bracket at `opening` is closed; None where it is not."""
    open_with, close_with = text[opening], _CLOSING[text[opening]]
    level = 0
    for position in range(opening, len(text)):
        level += (text[position] == open_with) - (text[position] == close_with)
        if level == 0:
            return position
    return None


def _referred(inner: str, lookup: Lookup, arguments: Sequence[str], depth: int) -> str:
    if inner.isdecimal() and inner.isascii():
        number = int(inner[:4])
        return arguments[number - 1] if 0 < number <= len(arguments) else ""
    function, _, rest = inner.partition(" ")
    if function in ("subst", "strip", "if"):
        return _function(function, split_arguments(rest), lookup, arguments, depth)
    name = expand(inner, lookup, arguments, depth)
    if UNKNOWN in name or any(character in name for character in " ,:\t"):
        return UNKNOWN
    return _CONSTANTS.get(name) or lookup(name)


def _function(name: str, parts: Sequence[str], lookup: Lookup, arguments: Sequence[str], depth: int) -> str:
    if name == "if":
        return _if(parts, lookup, arguments, depth)
    given = [expand(part, lookup, arguments, depth) for part in parts]
    if name == "strip" and len(given) == 1:
        return " ".join(given[0].split())
    if name == "subst" and len(given) == 3 and given[0] and UNKNOWN not in "".join(given):
        return given[2].replace(given[0], given[1])[:MAX_CHARACTERS]
    return UNKNOWN


def _if(parts: Sequence[str], lookup: Lookup, arguments: Sequence[str], depth: int) -> str:
    """`$(if condition,then,else)`: the condition holds where anything is in it."""
    condition = expand(parts[0], lookup, arguments, depth).strip()
    if UNKNOWN in condition or len(parts) not in (2, 3):
        return UNKNOWN
    chosen_part = parts[1] if condition else (*parts, "")[2]
    return expand(chosen_part, lookup, arguments, depth)


def split_arguments(text: str) -> list[str]:
    """Split at commas that stand in no brackets."""
    parts, level = [""], 0
    for character in text:
        level += (character in "({") - (character in ")}")
        if character == "," and level == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
