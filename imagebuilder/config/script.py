"""What a script asks ImageBuilder's make for: each `make image` in it, with the variables that it is given.

Nothing is run and no other file is read. Simple assignments are followed, loops over what is known are gone
through, functions are called. What only running would tell leaves a hole, which says why; what stands under a
condition is told and not taken. Time and memory are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from imagebuilder.config.shell import (
    Branches,
    Function,
    Loop,
    Node,
    Nodes,
    SimpleCommand,
    read_script,
)
from imagebuilder.config.shell_words import Array, Expansion, Part, ShellError, Text, Word

MAX_STEPS = 20_000  # commands that are gone through, each as often as it comes
MAX_VALUE = 1 << 16  # characters of one value
MAX_CALLS = 8  # functions in one another, and commands in texts of commands
MAX_FOUND = 200

_HOLE = re.compile("\0(\\d+)\0")
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.ASCII | re.DOTALL)
_INSIDE = re.compile(r"\bg?make\b[^\n]*\bimage\b")  # a command in a text: of eval, of bash -c
_SAYS = ("echo", "printf", "log", "info", "cat")
_MAKE = ("make", "gmake")
# what make is asked for is often said in its environment
_OURS = ("PROFILE", "PACKAGES", "FILES", "DISABLED_SERVICES", "EXTRA_IMAGE_NAME", "ROOTFS_PARTSIZE")
Value = str | list[str]  # a list is an array


@dataclass(frozen=True)
class Hole:
    """Where a value is not known, or may be another one. soft: it may be another one at run time; the value
    that stands there goes without it. reason: in words."""

    source: str
    reason: str
    soft: bool = False


@dataclass(frozen=True)
class KnownText:
    """A value: text, with `\\0NUMBER\\0` in the places of holes."""

    text: str
    holes: tuple[Hole, ...] = ()

    def words(self) -> list[KnownText]:
        """Its words, each with its own holes."""
        return [KnownText(word, self.holes) for word in self.text.split()]

    @property
    def plain(self) -> str | None:
        """The text, if all of it is known."""
        found = [self.holes[int(match[1])] for match in _HOLE.finditer(self.text)]
        return _HOLE.sub("", self.text) if all(hole.soft for hole in found) else None

    def why(self) -> tuple[Hole, ...]:
        """The holes that are in it."""
        return tuple(dict.fromkeys(self.holes[int(match[1])] for match in _HOLE.finditer(self.text)))

    def shown(self) -> str:
        """The text with holes as the script writes them."""
        return _HOLE.sub(
            lambda match: "" if (hole := self.holes[int(match[1])]).soft else hole.source, self.text
        )

    @property
    def tail(self) -> str:
        """What is known of its end."""
        return self.text.rpartition("\0")[2]


@dataclass(frozen=True)
class Invocation:
    """One `make image`. line: where it stands; values: of make's variables; conditional: whether it depends
    on something that is not known; more: words behind a variable's that are neither variables nor options."""

    line: int
    values: Mapping[str, KnownText]
    conditional: bool = False
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadScript:
    """What was found. text: all words of it that are known, in which names of archives can be looked for."""

    invocations: tuple[Invocation, ...]
    text: str


def read_invocations(script: str, given: Mapping[str, str] | None = None) -> ReadScript:
    """All `make image` of a script, in the order in which it would come to them. given: variables and, by
    their numbers, arguments of its command line; they stay as they are given. ShellError."""
    if "\0" in script:
        raise ShellError("the script holds a zero byte", hint="give a text")
    runner = _Runner(dict(given or {}))
    runner.go(read_script(script))
    for name, function in list(runner.functions.items()):
        if name not in runner.called:
            runner.go(function.body)
    return ReadScript(tuple(dict.fromkeys(runner.found_all())), "\n".join(runner.seen))


@dataclass
class _Runner:
    """The state of the shell, as far as it is known."""

    given: dict[str, str]
    values: dict[str, Value] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    exported: set[str] = field(default_factory=set)
    sources: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    found: list[Invocation] = field(default_factory=list)
    arguments: list[str] | None = None
    steps: int = 0
    size: int = 0
    calls: int = 0
    conditional: bool = False

    def found_all(self) -> list[Invocation]:
        """The invocations, with all holes."""
        holes = tuple(self.holes)
        return [
            replace(
                each,
                values=_Frozen({name: replace(value, holes=holes) for name, value in each.values.items()}),
            )
            for each in self.found
        ]

    def go(self, nodes: Nodes) -> None:
        for node in nodes:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise ShellError(f"the script goes through more than {MAX_STEPS} commands")
            self._step(node)

    def _step(self, node: Node) -> None:
        if isinstance(node, SimpleCommand):
            self._command(node)
        elif isinstance(node, Function):
            self.functions[node.name] = node
        elif isinstance(node, Branches):
            self._branches(node)
        else:
            self._loop(node)

    def _branches(self, node: Branches) -> None:
        """Each branch by itself; what it assigns is told and not taken."""
        before, outside = dict(self.values), self.conditional
        changed: dict[str, list[str]] = {}
        self.conditional = True
        for branch in node.branches:
            self.values = dict(before)
            self.go(branch)
            for name, value in self.values.items():
                if before.get(name) != value:
                    changed.setdefault(name, []).append(_added(before.get(name), value))
        self.values, self.conditional = before, outside
        for name, others in changed.items():
            words = ", ".join(dict.fromkeys(KnownText(each, tuple(self.holes)).shown() for each in others))
            said = f"line {node.line}: {name} depends on a condition: {words[:300]}"
            if name in before:
                hole = self._hole(Hole(f"${name}", said, soft=True))
                value = before[name]
                self.values[name] = [*value, hole] if isinstance(value, list) else value + hole
            else:
                self.values[name] = self._hole(Hole(f"${name}", said))

    def _loop(self, node: Loop) -> None:
        if node.words is None:
            values = self.arguments
        else:
            values = [text for word in node.words for text in self._fields(word)]
        if values is None or any(self._unknown(each) for each in values):
            source = f"${node.name}"
            hole = self._hole(Hole(source, f"line {node.line}: what the loop goes through is not known"))
            self._assign(node.name, hole)
            self._branches(Branches(node.line, (node.body,)))
            return
        for each in values:
            self._assign(node.name, each)
            self.go(node.body)

    def _command(self, node: SimpleCommand) -> None:
        before = {each.name: self.values.get(each.name) for each in node.assignments}
        for each in node.assignments:
            self._assign(each.name, self._value(each.value), append=each.append)
        if node.declares == "export":
            names = (text.partition("=")[0] for word in node.words[1:] for text in self._fields(word))
            self.exported |= {*names}
        if node.declares or not node.words:
            return
        prefixed = {each.name: self._one(self.values.get(each.name, "")) for each in node.assignments}
        words = [text for word in node.words for text in self._fields(word)]
        self._restore(before)
        self._run(words, node.line, prefixed)

    def _restore(self, before: Mapping[str, Value | None]) -> None:
        for name, value in before.items():
            if value is None:
                self.values.pop(name, None)
            else:
                self.values[name] = value

    def _run(self, words: list[str], line: int, prefixed: Mapping[str, str]) -> None:
        if not words:
            return
        name = words[0]
        if name in (".", "source") and len(words) > 1:
            shown = KnownText(words[1], tuple(self.holes)).shown()
            self.sources.append(f"line {line} reads {shown}, which is not read here")
        elif name in self.functions:
            self._call(self.functions[name], words[1:])
        elif name == "shift" and self.arguments:
            self.arguments = self.arguments[1:]
        else:
            self._make(words, line, prefixed)

    def _call(self, function: Function, arguments: list[str]) -> None:
        self.called.add(function.name)
        if self.calls >= MAX_CALLS:
            return
        outside, self.arguments = self.arguments, arguments
        self.calls += 1
        self.go(function.body)
        self.calls -= 1
        self.arguments = outside

    def _make(self, words: list[str], line: int, prefixed: Mapping[str, str]) -> None:
        """Note what make is asked for, if this is its command, or holds one as a text."""
        names = [PurePosixPath(word).name for word in words]
        place = next((number for number, name in enumerate(names) if name in _MAKE), None)
        if words[0] in _SAYS:
            return
        if place is not None and "image" in words[place + 1 :]:
            environment = {
                name: self._one(self.values[name]) for name in self.exported if name in self.values
            }
            values = {name: value for name, value in {**environment, **prefixed}.items() if name in _OURS}
            more: list[str] = []
            for word in words[:place] + words[place + 1 :]:
                match = _ASSIGNED.fullmatch(word)
                if match is not None:
                    values[match[1]] = match[2]
                elif values and word != "image":
                    more.append(KnownText(word, tuple(self.holes)).shown())
            if len(self.found) >= MAX_FOUND:
                raise ShellError(f"the script calls make more than {MAX_FOUND} times")
            known = {name: KnownText(self._made(text)) for name, text in values.items()}
            self.found.append(Invocation(line, _Frozen(known), self.conditional, tuple(more)))
            return
        texts = [" ".join(words[1:])] if words[0] == "eval" else words
        for text in texts:
            if _INSIDE.search(text) and self.calls < MAX_CALLS:
                self._inner(text, line)

    def _inner(self, text: str, line: int) -> None:
        """A text that is a command: of eval, of `bash -c`. Holes are words in it."""
        try:
            nodes = read_script(text)
        except ShellError:
            return  # words about make, and no command
        found = len(self.found)
        self.calls += 1
        self.go(nodes)
        self.calls -= 1
        self.found[found:] = [replace(each, line=line) for each in self.found[found:]]

    def _made(self, text: str) -> str:
        """A value as make takes it: it puts in variables of its own."""
        holes = re.sub(
            r"\$\(([^()]*)\)|\$\{([^{}]*)\}",
            lambda match: self._hole(Hole(match[0], f"{match[0]} is a variable of make's")),
            text.replace("$$", "\1"),
        )
        return holes.replace("\1", "$")

    def _assign(self, name: str, value: Value, *, append: bool = False) -> None:
        if name in self.given:
            return
        old = self.values.get(name, "") if append else ""
        if append and old and (isinstance(old, list) or isinstance(value, list)):
            value = [*_listed(old), *_listed(value)]
        elif append and isinstance(old, str) and isinstance(value, str):
            value = old + value
        self._check(value)
        self.values[name] = value
        self.seen.append(self._one(value))

    def _check(self, value: Value) -> None:
        size = len(value) if isinstance(value, str) else sum(map(len, value)) + len(value)
        self.size += size
        if size > MAX_VALUE or self.size > MAX_VALUE * 256:
            raise ShellError(
                f"a value of the script has more than {MAX_VALUE >> 10} KiB, or all have too much"
            )

    def _value(self, word: Word) -> Value:
        """What an assignment gives its variable."""
        if len(word) == 1 and isinstance(word[0], Array):
            return [text for each in word[0].words for text in self._fields(each)]
        return "".join(self._text(part) for part in word)

    def _fields(self, word: Word) -> list[str]:
        """The words that a word becomes: what is put in without quotes is split."""
        fields: list[str] = []
        current, quoted = "", False
        for part in word:
            quoted = quoted or not isinstance(part, Expansion | Array)
            whole = isinstance(part, Expansion) and part.array == "@" and part.quoted
            text = self._text(part)
            if whole and isinstance(part, Expansion):
                pieces = _listed(self._of(part))
            elif isinstance(part, Expansion) and not part.quoted:
                pieces = text.split()
                if current and text[:1].isspace():
                    fields, current = [*fields, current], ""
            else:
                current += text
                continue
            if len(pieces) > 1:
                fields += [current + pieces[0], *pieces[1:-1]]
                current = pieces[-1]
            else:
                current += "".join(pieces)
        found = [*fields, current] if current or quoted else fields
        self._check(found)
        self.seen += found
        return found

    def _text(self, part: Part) -> str:
        if isinstance(part, Text):
            return part.text
        if isinstance(part, Expansion):
            found = self._of(part)
            return found[0] if isinstance(found, list) and found and not part.array else self._one(found)
        if isinstance(part, Array):
            return " ".join(text for word in part.words for text in self._fields(word))
        return self._hole(Hole(part.source, f"only running {part.source[:100]} would tell"))

    def _of(self, part: Expansion) -> Value:
        """The value of a variable or an argument."""
        found = self._known(part.name)
        if part.otherwise is not None and (found is None or (part.empty_too and not found)):
            return "".join(self._text(each) for each in part.otherwise)
        if found is None:
            what = "is an argument of the script" if part.name.isdigit() else "gets its value nowhere"
            about = f" ({'; '.join(self.sources)})" if self.sources else ""
            return self._hole(Hole(part.source, f"{part.source} {what}{about}"))
        return found

    def _known(self, name: str) -> Value | None:
        if name in self.given and not (name.isdigit() and self.arguments is not None):
            return self.given[name]
        if name in ("@", "*"):
            return self.arguments
        if name.isdigit() and self.arguments is not None:
            number = int(name[:4])
            return self.arguments[number - 1] if 0 < number <= len(self.arguments) else ""
        return self.values.get(name)

    def _hole(self, hole: Hole) -> str:
        self.holes.append(hole)
        return f"\0{len(self.holes) - 1}\0"

    def _unknown(self, text: str) -> bool:
        return KnownText(text, tuple(self.holes)).plain is None if "\0" in text else False

    def _one(self, value: Value) -> str:
        return value if isinstance(value, str) else " ".join(value)


class _Frozen(dict[str, KnownText]):
    """Values of an invocation, which can be compared with another's."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted((name, value.text) for name, value in self.items())))


def _listed(value: Value | Sequence[str]) -> list[str]:
    return value.split() if isinstance(value, str) else list(value)


def _added(before: Value | None, value: Value) -> str:
    """What a branch adds to a value, or the other one that it gives."""
    old, new = (" ".join(_listed(each or "")) for each in (before, value))
    return f"+ {new.removeprefix(old).strip()}" if old and new.startswith(old) else new
