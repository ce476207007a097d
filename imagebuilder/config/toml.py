"""A TOML file's values, and the line that each key stands in."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli
import tree_sitter
import tree_sitter_toml

from imagebuilder.errors import Fault, FaultsError
from imagebuilder.host.files import PlainFileError, read_plain

MAX_BYTES = 1 << 20

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class TomlFile:
    """One file: its values as tomli reads them. path is as the user would name it."""

    path: Path
    text: str
    values: Mapping[str, Any]

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        # tomli knows no lines; the second parse is made only when a line is asked for
        return dict(_key_lines(self.text.encode()))

    def line_of(self, key: KeyPath) -> int | None:
        """The line (from 1) where a key stands, or where the nearest table around it begins."""
        for length in range(len(key), 0, -1):
            line = self._lines.get(key[:length])
            if line is not None:
                return line
        return None

    def fault(self, key: KeyPath, message: str, hint: str | None = None) -> Fault:
        """A fault at a key of this file."""
        return Fault(str(self.path), self.line_of(key), dotted(key), message, hint)


def dotted(key: KeyPath) -> str:
    """A key path as TOML writes it: `board."raspberrypi-3b".packages.add[0]`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.replace("_", "a").replace("-", "a").isalnum() and part.isascii()
            text += ("." if text else "") + (part if plain else f'"{part}"')
    return text


def read_toml(path: Path) -> TomlFile:
    """Read a plain file of at most MAX_BYTES. FaultsError, with the line, if it is none, cannot be read or is
    no TOML."""
    try:
        return parse_toml(read_plain(path, MAX_BYTES), path)
    except PlainFileError as error:
        raise FaultsError([Fault(str(path), None, "", error.problem)]) from error


def parse_toml(raw: bytes, path: Path) -> TomlFile:
    """The file in these bytes, without the mark of UTF-8 that editors put before it. path: its name in
    messages. FaultsError, with the line, if it is no TOML."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise FaultsError([Fault(str(path), 1, "", "is UTF-16 text, and TOML is UTF-8", "save it as UTF-8")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FaultsError([Fault(str(path), line, "", "is not UTF-8 text")]) from error
    try:
        return TomlFile(path, text, tomli.loads(text))
    except tomli.TOMLDecodeError as error:
        raise FaultsError([Fault(str(path), error.lineno, "", f"is no valid TOML: {error.msg}")]) from error
    except RecursionError as error:
        raise FaultsError([Fault(str(path), None, "", "nests too deeply")]) from error


def _key_lines(raw: bytes) -> Iterator[tuple[KeyPath, int]]:
    """(key path, line) of every table and every pair, in the order of the file."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
    counts: dict[KeyPath, int] = {}
    for node in parser.parse(raw).root_node.named_children:
        if node.type == "pair":
            yield from _pair_lines(node, ())
        elif node.type in ("table", "table_array_element"):
            prefix = _resolve(_key_parts(node.named_children[0]), counts)
            if node.type == "table_array_element":
                counts[prefix] = counts.get(prefix, -1) + 1
                if counts[prefix] == 0:
                    yield prefix, node.start_point[0] + 1
                prefix = (*prefix, counts[prefix])
            yield prefix, node.start_point[0] + 1
            for child in node.named_children[1:]:
                if child.type == "pair":
                    yield from _pair_lines(child, prefix)


def _resolve(parts: KeyPath, counts: Mapping[KeyPath, int]) -> KeyPath:
    """`[[profile]]` followed by `[profile.x]`: the table belongs to the array's last element."""
    path: KeyPath = ()
    for index, part in enumerate(parts):
        path = (*path, part)
        if path in counts and index < len(parts) - 1:
            path = (*path, counts[path])
    return path


def _pair_lines(node: tree_sitter.Node, prefix: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    children = node.named_children
    if len(children) < 2:
        return
    path = (*prefix, *_key_parts(children[0]))
    yield path, node.start_point[0] + 1
    yield from _value_lines(children[1], path)


def _value_lines(node: tree_sitter.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if node.type == "inline_table":
        for child in node.named_children:
            if child.type == "pair":
                yield from _pair_lines(child, path)
    elif node.type == "array":
        elements = [child for child in node.named_children if child.type != "comment"]
        for index, element in enumerate(elements):
            yield (*path, index), element.start_point[0] + 1
            yield from _value_lines(element, (*path, index))


def _key_parts(node: tree_sitter.Node) -> KeyPath:
    text = (node.text or b"").decode("utf-8", "replace")
    if node.type == "dotted_key":
        return tuple(part for child in node.named_children for part in _key_parts(child))
    if node.type == "quoted_key":
        return tuple(tomli.loads(f"{text} = 0"))
    return (text,)
