"""The words of shell scripts, and the operators between them, as POSIX.1-2024, XCU 2.2 and 2.3 has them, with
what scripts use of bash: arrays, `$'…'`, here strings. Pure; time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from imagebuilder.errors import UserError

MAX_DEPTH = 40

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_BRACED = re.compile(r"\{([A-Za-z_]\w*|[0-9]+|[@*])(\[[@*]\])?(?:(:?[-=])(.*))?\}", re.ASCII | re.DOTALL)
_BEFORE_ARRAY = re.compile(r"[A-Za-z_]\w*\+?=", re.ASCII)
_REDIRECTION = re.compile(r"&>>|&>|<<<|<<-|<<|<>|<&|>>|>&|>\||<|>")
_OPERATORS = (";;&", ";;", ";&", "&&", "||", "|&", ";", "&", "|", "(", ")", "\n")
_ANSI = {"n": "\n", "t": "\t", "r": "\r", "e": "\x1b", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSES = {"(": ")", "{": "}", '"': '"'}


class ShellError(UserError):
    """A text that is no shell script that can be read."""


@dataclass(frozen=True)
class Text:
    """Characters of a word, as they are."""

    text: str
    quoted: bool = False


@dataclass(frozen=True)
class Expansion:
    """`$NAME`, `${NAME:-otherwise}`. array: `@` or `*` for every value of an array, by itself
    or all in one; without it the first counts. empty_too: whether
    otherwise counts for an empty value as well, `:-`."""

    name: str
    source: str
    quoted: bool = False
    array: str = ""
    otherwise: tuple[Part, ...] | None = None
    empty_too: bool = False


@dataclass(frozen=True)
class Opaque:
    """What only running it would tell: `$(command)`, `${NAME#pattern}`."""

    source: str
    quoted: bool = False


@dataclass(frozen=True)
class Array:
    """`(a b c)` behind a `=`."""

    words: tuple[tuple[Part, ...], ...]


Part = Text | Expansion | Opaque | Array
Word = tuple[Part, ...]


@dataclass(frozen=True)
class Token:
    line: int
    operator: str = ""
    word: Word = ()

    @property
    def plain(self) -> str | None:
        """The word's text where nothing of it is quoted or expanded, as reserved words are."""
        texts = [part.text for part in self.word if isinstance(part, Text) and not part.quoted]
        return "".join(texts) if self.word and len(texts) == len(self.word) else None


class Lexer:
    """Operators and words. Redirections and here-documents are passed over."""

    def __init__(self, text: str, line: int = 1, depth: int = 0) -> None:
        self.text, self.at, self.line = text, 0, line
        self._depth = depth  # of values in one another
        self._waiting: list[tuple[str, bool]] = []  # here-documents: their end, and whether tabs may precede

    def wrong(self, message: str, line: int | None = None) -> ShellError:
        return ShellError(f"line {line or self.line}: {message}", hint="the script is read as a shell would")

    def next(self) -> Token | None:
        """The next token; None at the end."""
        while True:
            self._blanks()
            if self.at >= len(self.text):
                return None
            redirection = _REDIRECTION.match(self.text, self.at)
            process = self.text[self.at : self.at + 2] in ("<(", ">(")
            if redirection and not process:
                self._redirection(redirection[0])
                continue
            operator = next((each for each in _OPERATORS if self.text.startswith(each, self.at)), None)
            line = self.line
            if operator is not None:
                self._forward(len(operator))
                if operator == "\n":
                    self._here_documents()
                return Token(line, operator)
            word = self._word()
            numbered = len(word) == 1 and isinstance(word[0], Text) and word[0].text.isdigit()
            if numbered and self.text[self.at : self.at + 1] in ("<", ">"):
                continue  # a descriptor's number, as in 2>&1
            return Token(line, word=word)

    def after(self, end: str, message: str) -> None:
        """Go behind the next occurrence of a text."""
        found = self.text.find(end, self.at)
        if found < 0:
            raise self.wrong(message)
        self._forward(found + len(end) - self.at)

    def _forward(self, count: int) -> str:
        taken = self.text[self.at : self.at + count]
        self.line += taken.count("\n")
        self.at += len(taken)
        return taken

    def _blanks(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in " \t\r":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self._forward(2)
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def _redirection(self, operator: str) -> None:
        self._forward(len(operator))
        self._blanks()
        word = self._word()
        if operator in ("<<", "<<-"):
            end = "".join(part.text for part in word if isinstance(part, Text))
            self._waiting.append((end, operator == "<<-"))

    def _here_documents(self) -> None:
        for end, tabs in self._waiting:
            while self.at < len(self.text):
                stop = self.text.find("\n", self.at)
                taken = self._forward((len(self.text) if stop < 0 else stop + 1) - self.at).rstrip("\n")
                if (taken.lstrip("\t") if tabs else taken) == end:
                    break
        self._waiting = []

    def _word(self) -> Word:
        parts: list[Part] = []
        start = self.at
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "(" and _BEFORE_ARRAY.fullmatch(self.text, start, self.at):
                parts.append(self._array())
                break
            if character in "<>" and self.text[self.at + 1 : self.at + 2] == "(" and start == self.at:
                self.at += 1
                parts.append(Opaque(character + self._balanced()))
                continue
            if character in " \t\r\n;&|()<>":
                break
            parts += self._part(character, quoted=False)
        return tuple(_joined(parts))

    def _part(self, character: str, *, quoted: bool) -> Iterator[Part]:
        """What begins with this character, outside of quotes or in double ones."""
        if character == "\\":
            following = self._forward(2)[1:]
            if quoted and following not in ('"', "\\", "$", "`", "\n"):
                yield Text("\\" + following, quoted=True)
            elif following != "\n":
                yield Text(following, quoted=True)
        elif character == "'" and not quoted:
            yield Text(self._until("'")[1:-1], quoted=True)
        elif character == '"' and not quoted:
            yield from self._quoted()
        elif character == "`":
            yield Opaque(self._until("`"), quoted)
        elif character == "$":
            yield self._dollar(quoted=quoted)
        else:
            yield Text(self._forward(1), quoted)

    def _until(self, end: str) -> str:
        """The text up to and with the closing character, from the opening one on."""
        line, start = self.line, self.at
        stop = self.text.find(end, self.at + 1)
        if stop < 0:
            raise self.wrong(f"the {end} that begins here is not closed", line)
        return self._forward(stop + 1 - start)

    def _quoted(self) -> Iterator[Part]:
        line = self.line
        self._forward(1)
        yield Text("", quoted=True)
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self._forward(1)
                return
            yield from self._part(character, quoted=True)
        raise self.wrong('the " that begins here is not closed', line)

    def _dollar(self, *, quoted: bool) -> Part:
        self._forward(1)
        following = self.text[self.at : self.at + 1]
        name = _NAME.match(self.text, self.at)
        if name is not None:
            return Expansion(self._forward(len(name[0])), f"${name[0]}", quoted)
        if following and following in "0123456789@*#?!-$":
            self._forward(1)
            known = following.isdigit() or following in "@*"
            source = f"${following}"
            return (
                Expansion(following, source, quoted, following if following in "@*" else "")
                if known
                else Opaque(source, quoted)
            )
        if following == "'" and not quoted:
            return self._ansi()
        if following == "(":
            return Opaque("$" + self._balanced(), quoted)
        if following == "{":
            return self._braces(quoted=quoted)
        return Text("$", quoted)

    def _ansi(self) -> Text:
        line, found = self.line, ""
        self._forward(1)
        while self.at < len(self.text):
            character = self._forward(1)
            if character == "'":
                return Text(found, quoted=True)
            if character == "\\":
                character = self._forward(1)
                character = _ANSI.get(character, character)
            found += character
        raise self.wrong("the $' that begins here is not closed", line)

    def _braces(self, *, quoted: bool) -> Part:
        line = self.line
        source = self._balanced()
        match = _BRACED.fullmatch(source)
        if match is None:
            return Opaque(f"${source}", quoted)
        name, array, operator, otherwise = match.groups()
        found = Expansion(
            name, f"${source}", quoted, (array or "").strip("[]") or (name if name in ("@", "*") else "")
        )
        if operator is None:
            return found
        inner = Lexer(otherwise, line, self._deeper())
        parts: list[Part] = []
        while inner.at < len(inner.text):
            character = inner.text[inner.at]
            parts += inner._part(character, quoted=quoted)
        return replace(found, otherwise=tuple(_joined(parts)), empty_too=operator.startswith(":"))

    def _balanced(self) -> str:
        """From an opening bracket to its closing one; brackets in quotes do not count."""
        line, start = self.line, self.at
        open_ones = [_CLOSES[self.text[start]]]
        place = start + 1
        while place < len(self.text):
            character, inner = self.text[place], open_ones[-1]
            before = self.text[place - 1]
            if character == inner:
                open_ones.pop()
                if not open_ones:
                    return self._forward(place + 1 - start)
            elif character == "\\":
                place += 1
            elif character == "`" or (character == "'" and inner != '"'):
                stop = self.text.find(character, place + 1)
                place = stop if stop > 0 else len(self.text)
            elif character == "#" and inner == ")" and before in " \n":
                stop = self.text.find("\n", place)
                place = stop if stop > 0 else len(self.text)
            elif character == '"' or (character in "({" and (before == "$" or character + inner == "()")):
                open_ones.append(_CLOSES[character])
            place += 1
        raise self.wrong(f"the {self.text[start]} that begins here is not closed", line)

    def _deeper(self) -> int:
        if self._depth >= MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} values in one another")
        return self._depth + 1

    def _array(self) -> Array:
        line = self.line
        self._forward(1)
        self._depth = self._deeper()
        words: list[Word] = []
        while True:
            token = self.next()
            if token is None:
                raise self.wrong("the ( that begins here is not closed", line)
            if token.operator == ")":
                self._depth -= 1
                return Array(tuple(words))
            if token.operator not in ("", "\n"):
                raise self.wrong(f"{token.operator} in a list of values", token.line)
            words += [token.word] if token.word else []


def _joined(parts: list[Part]) -> list[Part]:
    """The same with neighbouring texts as one."""
    found: list[Part] = []
    texts: list[str] = []
    for number, part in enumerate(parts):
        if not isinstance(part, Text):
            found.append(part)
            continue
        texts.append(part.text)
        after = parts[number + 1] if number + 1 < len(parts) else None
        if not (isinstance(after, Text) and after.quoted == part.quoted):
            found.append(Text("".join(texts), part.quoted))
            texts = []
    return found
