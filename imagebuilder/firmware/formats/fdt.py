"""Flattened device trees, and FIT images, which are such trees (Devicetree Specification 0.4, chapter 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Field, Part

_T = TypeVar("_T")
MAGIC = bytes.fromhex("d00dfeed")
HEADER_BYTES = 40
_BEGIN, _END, _PROPERTY, _NOP, _FINISH = 1, 2, 3, 4, 9
_DEEPEST = 32
_MOST_NODES = 100_000
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its properties as views, its children by name."""

    properties: Mapping[str, View]
    children: Mapping[str, Node]

    def texts(self, name: str) -> tuple[str, ...]:
        """A property that holds NUL-terminated texts; empty where it is not there."""
        if name not in self.properties:
            return ()
        return tuple(printable(text) for text in bytes(self.properties[name].raw).split(b"\0")[:-1])

    def text(self, name: str) -> str:
        """The first of a property's texts, or nothing."""
        return next(iter(self.texts(name)), "")

    def number(self, name: str) -> int | None:
        """A property of one cell. ImageFormatError where it has another length."""
        value = self.properties.get(name)
        if value is None:
            return None
        if value.size not in (4, 8):
            raise ImageFormatError(f"the property {name} has {value.size} bytes, not 4 or 8")
        return value.u32(0) if value.size == 4 else value.u64(0)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: int
    name: str
    value: View | None


def _tokens(structure: View, strings: View) -> Iterator[_Token]:
    at = 0
    while True:
        kind = structure.u32(at)
        at += 4
        if kind == _BEGIN:
            raw = structure.part(at).first(_NAME_BYTES)
            name, found, _ = bytes(raw.raw).partition(b"\0")
            if not found:
                raise ImageFormatError("the device tree has a name without an end")
            yield _Token(kind, printable(name), None)
            at += (len(name) + 4) & ~3
        elif kind == _PROPERTY:
            length, name_at = structure.u32(at), structure.u32(at + 4)
            yield _Token(
                kind,
                strings.part(name_at).first(_NAME_BYTES).text(0, min(_NAME_BYTES, strings.size - name_at)),
                structure.part(at + 8, length),
            )
            at += 8 + ((length + 3) & ~3)
        elif kind in (_END, _FINISH):
            yield _Token(kind, "", None)
            if kind == _FINISH:
                return
        elif kind != _NOP:
            raise ImageFormatError(f"the device tree has the token {kind}, which is none")


@dataclass(slots=True)
class _Open:
    """A node that is being read."""

    name: str
    properties: dict[str, View]
    children: dict[str, Node]


def read_tree(view: View) -> Node:
    """The root node. ImageFormatError for anything that is no whole device tree."""
    total, structure_at, strings_at = view.u32(4), view.u32(8), view.u32(12)
    version, oldest, strings_bytes, structure_bytes = view.u32(20), view.u32(24), view.u32(32), view.u32(36)
    if version < 17 or oldest > 17:
        raise ImageFormatError(f"the device tree has version {version}; 17 is known")
    whole = view.part(0, total, "the device tree")
    tokens = _tokens(whole.part(structure_at, structure_bytes), whole.part(strings_at, strings_bytes))
    open_nodes: list[_Open] = []
    for count, token in enumerate(tokens):
        if count > _MOST_NODES or len(open_nodes) > _DEEPEST:
            raise ImageFormatError("the device tree is too large or too deep")
        if token.kind == _BEGIN:
            open_nodes.append(_Open(token.name, {}, {}))
        elif not open_nodes:
            break
        elif token.kind == _PROPERTY and token.value is not None:
            _add(open_nodes[-1].properties, token.name, token.value)
        elif token.kind == _END:
            ended = open_nodes.pop()
            node = Node(ended.properties, ended.children)
            if not open_nodes:
                return node
            _add(open_nodes[-1].children, ended.name, node)
    raise ImageFormatError("the device tree has no end")


def _add(into: dict[str, _T], name: str, value: _T) -> None:
    if name in into:
        raise ImageFormatError(f"the device tree has {name} twice in one node")
    into[name] = value


def detect(view: View) -> bool:
    """The magic."""
    return view.has(MAGIC) and view.size >= HEADER_BYTES


def parse(view: View, _reading: Reading) -> Part:
    """A device tree that is no FIT: which devices it is for."""
    root = read_tree(view)
    fields = {"model": Field(root.text("model")), "compatible": Field(root.texts("compatible"))}
    total = view.u32(4)
    return view.first(total).to_part("device-tree", "device tree", fields)


DEVICE_TREE = Format("device-tree", "device tree", detect, parse)
