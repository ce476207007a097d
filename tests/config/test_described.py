"""Every key that somebody may write or read says what it does: in the schemas, and in docs/reference.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.config.board import UnsupportedFile
from imagebuilder.config.schema import KINDS, reference_text, schema_of

PROJECT = Path(__file__).resolve().parents[2]
Key = tuple[str, dict[str, Any], bool]


def keys() -> Iterator[Key]:
    """(TABLE.KEY, the key's schema, whether it must be there) of all files."""
    files = {kind: schema_of(kind) for kind in KINDS} | {"unsupported": UnsupportedFile.model_json_schema()}
    for kind, schema in files.items():
        for table, each in ((kind, schema), *schema.get("$defs", {}).items()):
            for name, key in each["properties"].items():
                yield f"{table}.{name}", key, name in each.get("required", ())


KEYS = {name: (key, needed) for name, key, needed in keys()}


def is_size(key: dict[str, Any]) -> bool:
    return any(each.get("type") == ["string", "integer"] for each in (key, *key.get("anyOf", ())))


@pytest.mark.parametrize("name", KEYS)
def test_every_key_says_what_it_does_and_what_leaving_it_out_means(name: str) -> None:
    key, needed = KEYS[name]
    text = key.get("description", "")
    assert re.fullmatch(r"[A-Z][^\n]{9,}\.", text), text
    assert ("Left out: " in text) is not needed, text
    if is_size(key):
        assert "in bytes, or with K, M or G" in text
    default = key.get("default")
    if default is not None and not needed and isinstance(default, str | int) and default != "":
        assert str(default).lower() in text.partition("Left out: ")[2].lower(), text


def test_quantities_name_their_unit() -> None:
    """Numbers that are neither a size nor a choice, a count or an id."""
    unitless = {"Python.optimize", "AppUse.optimize", "PythonPackageUse.release", "lock.lock_schema"}
    unitless |= {"TplinkHeader.hwid", "TplinkHeader.hwrev", "TplinkHeader.header_version", "Variable.default"}
    unitless |= {"PublishSettings.keep", "ServerOptions.queue"}
    kinds = {
        name: {each.get("type") for each in (key, *key.get("anyOf", ()))}
        for name, (key, _) in KEYS.items()
        if not is_size(key)
    }
    numbers = {name for name, types in kinds.items() if types & {"integer", "number"}} - unitless
    assert {"AppUse.respawn_seconds", "ImageOptions.rootfs_partsize"} <= numbers
    for name in numbers:
        assert re.search(r"\bin (bytes|seconds|days|MiB)\b", KEYS[name][0]["description"]), name


def test_the_committed_reference_is_the_models() -> None:
    """Stale: `python3 build.py schema --reference > docs/reference.md`."""
    committed = (PROJECT / "docs/reference.md").read_text("utf-8")
    assert committed == reference_text()
    argv = [sys.executable, "-m", "imagebuilder", "schema", "--reference"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == committed


def test_the_reference_has_every_key_of_every_kind() -> None:
    """One row for each key of each table; a table that repeats the file's own keys is one line."""
    text = reference_text()
    for kind in KINDS:
        schema = schema_of(kind)
        chapter = re.split(r"(?m)^## ", text)[1 + list(KINDS).index(kind)]
        tables = [each for name, each in schema.get("$defs", {}).items() if name != "Differences"]
        described = [
            key["description"] for table in (schema, *tables) for key in table["properties"].values()
        ]
        rows = [line for line in chapter.splitlines() if re.match(r"\| (\*\*)?`", line)]
        assert len(rows) == len(described)
        for words in described:
            assert any(words.replace("|", "\\|") in row for row in rows), words


def test_a_table_stands_under_its_shortest_place() -> None:
    headings = re.findall(r"(?m)^### `(.+)`$", reference_text())
    assert "[images.NAME]" in headings
    assert "[profile.images.NAME]" not in headings
    assert "[[python.package]]" in headings
    assert len(headings) == len(set(headings)) + 2  # [board.NAME] of configs and locks, [mirror] of projects


@pytest.mark.parametrize("argv", [[], ["board", "--reference"]])
def test_one_thing_is_asked_of_schema(argv: list[str]) -> None:
    asked = [sys.executable, "-m", "imagebuilder", "schema", *argv]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--reference" in done.stderr


def test_an_app_may_be_a_path_alone_to_an_editor_too() -> None:
    items = schema_of("config")["$defs"]["Python"]["properties"]["apps"]["items"]
    assert items == {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/AppUse"}]}
