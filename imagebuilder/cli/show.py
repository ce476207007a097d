"""Facts on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from imagebuilder.host.tools import USES, Tool
from imagebuilder.load.config import LoadedConfig
from imagebuilder.model.board import Board
from imagebuilder.model.config import Config
from imagebuilder.model.plan import Plan
from imagebuilder.model.result import Result
from imagebuilder.model.size import format_size, human_size


PIPE_COLUMNS = 200


def as_json(facts: object) -> None:
    """Print facts as JSON; models as their fields."""
    print(json.dumps(facts, indent=2, default=_plain))


def _plain(value: object) -> object:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no fact")


def _console() -> Console:
    wide = None if sys.stdout.isatty() else PIPE_COLUMNS  # nobody wants folded names in a file
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, width=wide)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    _console().print(table)


def _facts(rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        _console().print(f"{name:<16} {value}", markup=False)


def boards(found: Sequence[Board]) -> None:
    """A line a board."""
    rows = (
        (board.id, board.name, format_size(board.flash), format_size(board.ram), _targets(board))
        for board in found
    )
    _table(("board", "name", "flash", "RAM", "targets"), rows)


def _targets(board: Board) -> str:
    return ", ".join(dict.fromkeys(profile.target for profile in board.profile))


def board(found: Board) -> None:
    """A board as a small data sheet."""
    layout = found.layout.model_dump(exclude_none=True)
    _facts(
        [
            ("board", found.id),
            ("name", found.name),
            ("soc", found.soc),
            ("RAM", format_size(found.ram)),
            ("flash", format_size(found.flash)),
            ("limits", ", ".join(f"{name} {size} bytes" for name, size in layout.items()) or "none known"),
        ]
    )
    _table(
        ("releases", "target", "profile", "packages for"),
        ((each.releases, each.target, each.name, each.arch) for each in found.profile),
    )
    _table(
        ("image", "format", "required"),
        ((name, image.format, "yes" if image.required else "no") for name, image in found.images.items()),
    )


def configs(found: Sequence[Config]) -> None:
    """A line a config."""
    rows = (
        (config.name, config.description, config.python.variant, ", ".join(config.boards)) for config in found
    )
    _table(("config", "description", "Python", "boards"), rows)


def config(loaded: LoadedConfig) -> None:
    """The merged config, each value with the file or files that it came from."""
    _console().print(f"# {loaded.config.name}: {' + '.join(str(file.path) for file in loaded.files)}")
    rows = [
        (key, json.dumps(_value_at(loaded.config.model_dump(mode="json"), key)), ", ".join(files))
        for key, files in loaded.origins.items()
    ]
    _table(("key", "value", "from"), rows)


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found


def plan(found: Plan) -> None:
    """What will be built."""
    tree = found.tree
    _facts(
        [
            ("config", found.config),
            ("board", found.board),
            ("profile", found.profile.name),
            ("tree", f"{tree.distribution} {tree.version}, {tree.target}"),
            ("packages", f"{tree.package_manager}, {tree.arch}"),
            ("Python", found.python),
            ("overlays", ", ".join(found.overlays) or "none"),
            ("disabled", ", ".join(found.disabled_services) or "none"),
            ("make", shlex.join(("make", *found.make))),
        ]
    )
    _table(("package", "because of"), ((name, found.reasons[name]) for name in found.wanted))


def result(place: Path, found: Result) -> None:
    """What was handed over."""
    rows = ((image.type, image.file, human_size(image.size), image.sha256[:16]) for image in found.images)
    title = f"{found.config} for {found.board}: {len(found.packages)} packages, in {place}"
    _console().print(title, markup=False)
    _table(("image", "file", "size", "sha256"), rows)


def doctor(missing: Sequence[Tool], present: Sequence[Tool]) -> None:
    """Which host programs are there, and what the missing ones are for."""
    rows = [("missing", tool.name, tool.package, f"{USES[tool.use]}: {tool.purpose}") for tool in missing]
    rows += [("ok", tool.name, tool.package, f"{USES[tool.use]}: {tool.purpose}") for tool in present]
    _table(("", "program", "package", "for"), rows)


def answer(found: Mapping[str, object]) -> None:
    """What the guest's Python said of itself."""
    _facts((name.replace("_", " "), str(value)) for name, value in found.items())
