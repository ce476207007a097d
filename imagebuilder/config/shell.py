"""Shell scripts as what they say, read and never run: POSIX sh with what scripts use of bash. Pure; time is
linear in the text, depth is bounded.

Source of the grammar: POSIX.1-2024, XCU 2.9 and 2.10; the Bash Reference Manual, chapter 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from imagebuilder.config.shell_words import MAX_DEPTH, Lexer, ShellError, Text, Token, Word

MAX_SCRIPT_BYTES = 1 << 20

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])?(\+?)=", re.ASCII)
_DECLARING = ("export", "local", "declare", "typeset", "readonly")
_CLOSING = ("then", "elif", "else", "fi", "do", "done", "esac", "}")


@dataclass(frozen=True)
class Assignment:
    """`NAME=value`, or `NAME+=value`."""

    name: str
    append: bool
    value: Word


@dataclass(frozen=True)
class SimpleCommand:
    """Assignments, then words. declares: `export` and its kin, whose assignments are among these."""

    line: int
    assignments: tuple[Assignment, ...]
    words: tuple[Word, ...]
    declares: str = ""


@dataclass(frozen=True)
class Branches:
    """Of which it shows only at run time which is taken, if any."""

    line: int
    branches: tuple[Nodes, ...]


@dataclass(frozen=True)
class Loop:
    """`for NAME in words`; without words those of the command line."""

    line: int
    name: str
    words: tuple[Word, ...] | None
    body: Nodes


@dataclass(frozen=True)
class Function:
    """`name() { body }`."""

    line: int
    name: str
    body: Nodes


Node = SimpleCommand | Branches | Loop | Function
Nodes = tuple[Node, ...]


def read_script(text: str) -> Nodes:
    """The commands of a script, in their order. ShellError, naming the line, for what is none."""
    if len(text.encode("utf-8", "replace")) > MAX_SCRIPT_BYTES:
        raise ShellError(f"the script is larger than {MAX_SCRIPT_BYTES >> 20} MiB")
    parser = _Parser(Lexer(text.replace("\r\n", "\n")))
    nodes = parser.commands(())
    if parser.token is not None:
        raise parser.wrong(f"{parser.shown()} has no beginning")
    return nodes


class _Parser:
    """Commands of tokens, one token ahead."""

    def __init__(self, lexer: Lexer) -> None:
        self._lexer = lexer
        self._depth = 0
        self.token = lexer.next()

    def wrong(self, message: str) -> ShellError:
        return self._lexer.wrong(message, self.token.line if self.token is not None else None)

    def shown(self) -> str:
        """The token as a message names it."""
        if self.token is None:
            return "the script's end"
        return repr(self.token.operator or self.token.plain or "a word")

    def commands(self, ends: tuple[str, ...]) -> Nodes:
        """Commands up to one of these reserved words or operators, which is left, or to the end."""
        nodes: list[Node] = []
        while self.token is not None:
            if self.token.operator in (";", "&", "\n"):
                self._next()
            elif self._is(*ends):
                break
            elif self.token.operator in (")", ";;", ";&", ";;&") or self._is(*_CLOSING):
                break  # whoever reads the block around this says what is wrong
            else:
                nodes += self._chain()
        return tuple(nodes)

    def _next(self) -> None:
        self.token = self._lexer.next()

    def _is(self, *words: str) -> bool:
        return self.token is not None and (self.token.plain in words or self.token.operator in words)

    def _expect(self, *words: str) -> str:
        while self._is("\n", ";") and not {"\n", ";"} & {*words}:
            self._next()
        if self.token is None or not self._is(*words):
            raise self.wrong(f"expected {' or '.join(words)}, found {self.shown()}")
        found = self.token.operator or self.token.plain or ""
        self._next()
        return found

    def _chain(self) -> list[Node]:
        """Commands with `&&`, `||` and `|` between them. What is behind `||`, or behind a test and `&&`, may
        be passed over; other commands before `&&` are expected to succeed."""
        nodes = self._command()
        while self._is("&&", "||", "|", "|&"):
            line, operator = self._line(), self.token.operator if self.token is not None else ""
            tests = bool(nodes) and _tests(nodes[-1])
            self._next()
            while self._is("\n"):
                self._next()
            following = self._command()
            if operator == "||" or (operator == "&&" and tests):
                following = [Branches(line, (tuple(following),))]
            nodes += following
        return nodes

    def _line(self) -> int:
        return self.token.line if self.token is not None else self._lexer.line

    def _command(self) -> list[Node]:
        readers: dict[str, Callable[[], list[Node]]] = {
            "if": self._if,
            "while": self._while,
            "until": self._while,
            "for": self._for,
            "select": self._for,
            "case": self._case,
            "function": self._function,
            "[[": self._test,
            "(": self._parentheses,
            "{": self._braces,
        }
        while self._is("!", "time"):
            self._next()
        if self.token is None:
            return []
        word = self.token.operator or self.token.plain
        if self.token.operator and word not in readers:
            raise self.wrong(f"expected a command, found {self.shown()}")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} blocks in one another")
        nodes = readers.get(word or "", self._simple)()
        self._depth -= 1
        return nodes

    def _if(self) -> list[Node]:
        line = self._line()
        self._next()
        nodes = list(self.commands(("then",)))
        branches: list[Nodes] = []
        end = self._expect("then")
        while end != "fi":
            branches.append(self.commands(("elif", "else", "fi")))
            end = self._expect("elif", "else", "fi")
            if end == "elif":
                branches.append(self.commands(("then",)))
                self._expect("then")
        return [*nodes, Branches(line, tuple(branches))]

    def _while(self) -> list[Node]:
        line = self._line()
        self._next()
        nodes = self.commands(("do",))
        self._expect("do")
        body = self.commands(("done",))
        self._expect("done")
        return [*nodes, Branches(line, (body,))]

    def _for(self) -> list[Node]:
        line = self._line()
        self._next()
        name, words = self.token.plain if self.token is not None else None, None
        if self._is("("):  # for ((i = 0; i < 3; i++))
            name = ""
            self._lexer.after("))", "the (( is not closed")
        self._next()
        while self._is("\n"):
            self._next()
        if self._is("in"):
            found: list[Word] = []
            self._next()
            while self.token is not None and not self.token.operator:
                found.append(self.token.word)
                self._next()
            words = tuple(found)
        end = self._expect("do", "{")
        body = self.commands(("done",) if end == "do" else ("}",))
        self._expect("done" if end == "do" else "}")
        return [Loop(line, name, words, body)] if name else [Branches(line, (body,))]

    def _case(self) -> list[Node]:
        line = self._line()
        self._next()
        self._next()
        self._expect("in")
        branches: list[Nodes] = []
        while self.token is not None and not self._is("esac"):
            if self._is("\n", ";"):
                self._next()
                continue
            self._pattern()
            branches.append(self.commands(("esac",)))
            if self._is(";;", ";&", ";;&"):
                self._next()
        self._expect("esac")
        return [Branches(line, tuple(branches))]

    def _pattern(self) -> None:
        """Go behind a pattern of `case`."""
        while self.token is not None and not self._is(")"):
            self._next()
        self._expect(")")

    def _function(self) -> list[Node]:
        self._next()
        name = (self.token.plain if self.token is not None else None) or ""
        self._next()
        if self._is("("):
            self._next()
            self._expect(")")
        return self._body(name)

    def _body(self, name: str) -> list[Node]:
        line = self._line()
        while self._is("\n"):
            self._next()
        return [Function(line, name, tuple(self._command()))]

    def _test(self) -> list[Node]:
        line = self._line()
        self._lexer.after("]]", "the [[ is not closed")
        self._next()
        return [SimpleCommand(line, (), ((Text("[["),),))]

    def _parentheses(self) -> list[Node]:
        line = self._line()
        if self._lexer.text.startswith("(", self._lexer.at):
            self._lexer.after("))", "the (( is not closed")
            self._next()
            return [SimpleCommand(line, (), ((Text("(("),),))]
        self._next()
        nodes = self.commands((")",))
        self._expect(")")
        return list(nodes)

    def _braces(self) -> list[Node]:
        self._next()
        nodes = self.commands(("}",))
        self._expect("}")
        return list(nodes)

    def _simple(self) -> list[Node]:
        line = self._line()
        words: list[Word] = []
        while self.token is not None and not self.token.operator:
            words.append(self.token.word)
            plain = self.token.plain
            self._next()
            if len(words) == 1 and plain and self._is("("):
                self._next()
                self._expect(")")
                return self._body(plain)
        assigned = [_assignment(word) for word in words]
        first = assigned.index(None) if None in assigned else len(words)
        before, behind = assigned[:first], assigned[first:]
        assignments = [each for each in before if each is not None]
        rest = words[first:]
        name = Token(line, word=rest[0]).plain if rest else None
        declares = name if name in _DECLARING else ""
        if declares:
            assignments += [each for each in behind if each is not None]
        return [SimpleCommand(line, tuple(assignments), tuple(rest), declares)]


def _tests(node: Node) -> bool:
    if not isinstance(node, SimpleCommand) or not node.words:
        return isinstance(node, Branches)
    name = Token(node.line, word=node.words[0]).plain
    return name in ("[", "[[", "((", "test", "grep", "which", "command", "false", "type")


def _assignment(word: Word) -> Assignment | None:
    """What a word assigns; None where it is none."""
    first = word[0] if word else None
    match = _ASSIGNMENT.match(first.text) if isinstance(first, Text) and not first.quoted else None
    if match is None or not isinstance(first, Text):
        return None
    rest = first.text[match.end() :]
    return Assignment(match[1], bool(match[2]), (*((Text(rest),) if rest else ()), *word[1:]))
