"""JSON schemas of the files that users write, and of locks, for editors that complete and check; and
docs/reference.md, which has every key of every kind of file from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagebuilder.config.board import Board
from imagebuilder.config.model_config import ConfigFile
from imagebuilder.config.model_lock import Lock
from imagebuilder.config.model_project import ProjectFile
from imagebuilder.config.overlay import Overlay
from imagebuilder.config.places import PROJECT_FILE
from imagebuilder.model.base import Model

# keys of a model that its file need not hold: the file's own name says them
_IMPLIED: Mapping[type[Model], str] = {Board: "id", Overlay: "name"}
KINDS: Mapping[str, type[Model]] = {
    "board": Board,
    "config": ConfigFile,
    "overlay": Overlay,
    "lock": Lock,
    "project": ProjectFile,
}
_FILES: Mapping[str, str] = {
    "board": "boards/NAME.toml",
    "config": "configs/NAME.toml",
    "overlay": "overlays/NAME/overlay.toml",
    "lock": "locks/CONFIG.lock",
    "project": PROJECT_FILE,
}
_HEAD = """\
# Reference: every key of every file

Written by `python3 build.py schema --reference` from the models in `imagebuilder/config/`, and not to be
edited: `python3 build.py schema --reference > docs/reference.md` writes it anew.

A key in **bold** must be there. A size is a whole number of bytes, or text in which K, M or G stands for
1024 bytes, 1024² or 1024³: `512K`, `1.5M`. NAME in the name of a table is a word that you choose, or the name
of a thing.
"""
_WORDS: Mapping[str, str] = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}

Schema = Mapping[str, Any]


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a kind of file: one of KINDS."""
    model = KINDS[kind]
    schema = model.model_json_schema()
    implied = _IMPLIED.get(model)
    if implied is not None:
        schema["required"] = [key for key in schema.get("required", []) if key != implied]
    if model is Board:
        del schema["properties"]["id"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"A {kind} file"}


@dataclass(frozen=True)
class _Table:
    """A table of a file. places: all the headings under which it may stand, as TOML writes them."""

    schema: Schema
    places: list[str]


def reference_text() -> str:
    """The text of docs/reference.md, Markdown."""
    return "\n".join([_HEAD, *(line for kind in KINDS for line in _kind(kind))])


def _kind(kind: str) -> Iterator[str]:
    schema = schema_of(kind)
    yield from (f"## {kind.capitalize()} files: `{_FILES[kind]}`", "", _sentence(schema), "")
    yield from _rows(schema)
    for table in _tables(schema):
        first, *others = table.places
        yield from ("", f"### `{first}`", "", _sentence(table.schema))
        if others:
            yield f"Also {', '.join(f'`{place}`' for place in others)}."
        yield ""
        if _repeats(table.schema, schema):
            keys = ", ".join(f"`{name}`" for name in table.schema["properties"])
            yield f"The keys {keys}, as at the top of the file."
        else:
            yield from _rows(table.schema, first.strip("[]"))
    yield ""


def _sentence(schema: Schema) -> str:
    return " ".join(str(schema["description"]).split())


def _rows(schema: Schema, place: str = "") -> Iterator[str]:
    yield from ("| key | value | what it says |", "|---|---|---|")
    needed = schema.get("required", ())
    for name, key in schema["properties"].items():
        shown = f"**`{name}`**" if name in needed else f"`{name}`"
        cells = (shown, _value(key, _inner(place, name)), key["description"])
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _inner(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _tables(root: Schema) -> list[_Table]:
    """All tables below the file itself, each once, under the place that is nearest to the top, and with those
    inside it behind it."""
    found: dict[str, _Table] = {}
    ordered: list[_Table] = []

    def visit(schema: Schema, place: str) -> None:
        fresh = []
        for name, key in schema["properties"].items():
            for reference, inner in _references(key, _inner(place, name)):
                if reference in found:
                    found[reference].places.append(inner)
                    continue
                found[reference] = _Table(root["$defs"][reference], [inner])
                fresh.append(found[reference])
        for table in fresh:
            ordered.append(table)
            if not _repeats(table.schema, root):
                visit(table.schema, table.places[0].strip("[]"))

    visit(root, "")
    return ordered


def _repeats(table: Schema, root: Schema) -> bool:
    """Whether a table holds nothing but what may stand at the top of the file as well."""
    return all(root["properties"].get(name) == key for name, key in table["properties"].items())


def _references(key: Schema, place: str) -> Iterator[tuple[str, str]]:
    """The tables that a key may hold, by their names in $defs, each with its heading."""
    if "$ref" in key:
        yield key["$ref"].rpartition("/")[2], f"[{place}]"
    for each in key.get("anyOf", ()):
        yield from _references(each, place)
    if "items" in key:
        yield from _references(key["items"], f"[{place}]")
    for entry in _entries(key):
        yield from _references(entry, f"{place}.NAME")


def _entries(key: Schema) -> list[Schema]:
    """What stands in a table whose keys are names; at most one."""
    entry = key.get("additionalProperties")
    return [*key.get("patternProperties", {}).values(), *([entry] if isinstance(entry, Mapping) else [])]


def _value(key: Schema, place: str) -> str:
    """What a key takes, in words."""
    if "anyOf" in key:
        return _either(_value(each, place) for each in key["anyOf"] if each.get("type") != "null")
    if "$ref" in key:
        return f"table `[{place}]`"
    if "items" in key:
        return _several("list", _value(key["items"], f"[{place}]"))
    for entry in _entries(key):
        return _several("table", _value(entry, f"{place}.NAME"))
    return _plain(key)


def _plain(key: Schema) -> str:
    """What a key takes that is neither a list nor a table."""
    if "enum" in key or "const" in key:
        return _either(f"`{value}`" for value in key.get("enum", [key.get("const")]))
    if isinstance(key["type"], list):
        return "size"
    return _WORDS[key["type"]] + _bounds(key)


def _several(what: str, one: str) -> str:
    many = one.replace("table `", "tables `")
    return many if many.startswith("tables `") else f"{what} of {many}"


def _bounds(key: Schema) -> str:
    least = key.get("minimum", key.get("exclusiveMinimum", -1) + 1)
    return f" from {least} to {key['maximum']}" if "maximum" in key else ""


def _either(values: Iterable[str]) -> str:
    *others, last = dict.fromkeys(values)
    return f"{', '.join(others)} or {last}" if others else last
