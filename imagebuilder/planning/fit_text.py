"""Changing one key of a TOML text and leaving everything else as its author wrote it. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tomli
import tomli_w
import tree_sitter
import tree_sitter_toml

Value = str | bool | Sequence[str]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LINE = 100


def with_value(text: str, path: Sequence[str], value: Value) -> str:
    """The text with the value at a key path (`("packages", "remove")`) replaced or added.

    What stands around it stays, comments too. Only where that is not possible (the key is part of an inline
    table, say) the whole file is written anew. The text must be TOML.
    """
    wanted = _with(tomli.loads(text), path, value)
    for edited in _edits(text, tuple(path), value):
        try:
            if tomli.loads(edited) == wanted:
                return edited
        except tomli.TOMLDecodeError:
            continue
    return tomli_w.dumps(wanted)


def _with(values: dict[str, Any], path: Sequence[str], value: Value) -> dict[str, Any]:
    """The values with one more, as the edited text must say them."""
    values = copy.deepcopy(values)
    table = values
    for key in path[:-1]:
        table = table.setdefault(key, {})
    table[path[-1]] = value if isinstance(value, str | bool) else list(value)
    return values


@dataclass(frozen=True)
class _Places:
    """Where things stand, in bytes: the values of pairs by their key path, and the end of each table."""

    values: dict[tuple[str, ...], tuple[int, int]]
    tables: dict[tuple[str, ...], int]
    top: int


def _edits(text: str, path: tuple[str, ...], value: Value) -> Iterator[str]:
    """Ways to write it, the nicest first. Not all of them need be right."""
    raw = text.encode()
    places = _places(raw)
    written = _written(value)
    if path in places.values:
        start, end = places.values[path]
        yield (raw[:start] + written.encode() + raw[end:]).decode()
        return
    for length in range(len(path) - 1, 0, -1):
        if path[:length] in places.tables:
            yield _inserted(raw, places.tables[path[:length]], f"{_dotted(path[length:])} = {written}\n")
    if any(key[: len(path) - 1] == path[:-1] for key in places.values) or len(path) == 1:
        yield _inserted(raw, places.top, f"{_dotted(path)} = {written}\n")
    if len(path) > 1:
        gap = "" if text.endswith("\n\n") or not text else "\n" if text.endswith("\n") else "\n\n"
        yield f"{text}{gap}[{_dotted(path[:-1])}]\n{_dotted(path[-1:])} = {written}\n"
    yield _inserted(raw, places.top, f"{_dotted(path)} = {written}\n")


def _inserted(raw: bytes, at: int, line: str) -> str:
    before = raw[:at].decode()
    return before + ("" if not before or before.endswith("\n") else "\n") + line + raw[at:].decode()


def _places(raw: bytes) -> _Places:
    root = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language())).parse(raw).root_node
    values: dict[tuple[str, ...], tuple[int, int]] = {}
    tables: dict[tuple[str, ...], int] = {}
    top = 0
    for node in root.named_children:
        if node.type == "pair":
            values[_keys(node.named_children[0])] = _span(node.named_children[1])
            top = _line_end(raw, node.end_byte)
        elif node.type == "table":
            prefix = _keys(node.named_children[0])
            pairs = [child for child in node.named_children[1:] if child.type == "pair"]
            last = pairs[-1].end_byte if pairs else node.named_children[0].end_byte
            tables[prefix] = _line_end(raw, last)
            for pair in pairs:
                values[(*prefix, *_keys(pair.named_children[0]))] = _span(pair.named_children[1])
    return _Places(values, tables, top)


def _span(node: tree_sitter.Node) -> tuple[int, int]:
    return node.start_byte, node.end_byte


def _line_end(raw: bytes, at: int) -> int:
    end = raw.find(b"\n", at)
    return len(raw) if end < 0 else end + 1


def _keys(node: tree_sitter.Node) -> tuple[str, ...]:
    """The parts of a key, dotted or not; a quoted one without its quotes."""
    if node.type == "dotted_key":
        return tuple(part for child in node.named_children for part in _keys(child))
    text = (node.text or b"").decode()
    return (str(next(iter(tomli.loads(f"{text} = 0")))),) if node.type == "quoted_key" else (text,)


def _dotted(path: Sequence[str]) -> str:
    return ".".join(part if _BARE.fullmatch(part) else _quoted(part) for part in path)


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return tomli_w.dumps({"a": text}).removeprefix("a = ").rstrip("\n")


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    line = f"[{', '.join(map(_quoted, value))}]"
    if len(line) <= _LINE:
        return line
    return "[\n" + "".join(f"    {_quoted(each)},\n" for each in value) + "]"
