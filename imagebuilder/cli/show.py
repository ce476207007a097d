"""Facts on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from imagebuilder.host.tools import USES, Tool
from imagebuilder.load.explain import Explained
from imagebuilder.model.config import Config
from imagebuilder.model.plan import Plan
from imagebuilder.model.result import Result
from imagebuilder.model.size import human_size

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


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below headings; on a terminal long cells are folded."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown.add_column(heading, overflow="fold")
    for row in rows:
        shown.add_row(*(cell.replace("[", "\\[") for cell in row))
    _console().print(shown)


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """A name and a value a line."""
    for name, value in rows:
        _console().print(f"{name:<16} {value}", markup=False)


def configs(found: Sequence[Config]) -> None:
    """A line a config."""
    rows = (
        (config.name, config.description, config.python.variant, ", ".join(config.boards)) for config in found
    )
    table(("config", "description", "Python", "boards"), rows)


def config(name: str, values: Sequence[Explained]) -> None:
    """The merged config, each value with the file or files that it came from."""
    _console().print(f"# {name}", markup=False)
    rows = ((each.key, json.dumps(each.value), ", ".join(each.files)) for each in values)
    table(("key", "value", "from"), rows)


def plan(found: Plan) -> None:
    """What will be built."""
    tree = found.tree
    facts(
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
    table(("package", "because of"), ((name, found.reasons[name]) for name in found.wanted))


def result(place: Path, found: Result) -> None:
    """What was handed over."""
    rows = ((image.type, image.file, human_size(image.size), image.sha256[:16]) for image in found.images)
    title = f"{found.config} for {found.board}: {len(found.packages)} packages, in {place}"
    _console().print(title, markup=False)
    table(("image", "file", "size", "sha256"), rows)


def doctor(missing: Sequence[Tool], present: Sequence[Tool]) -> None:
    """Which host programs are there, and what the missing ones are for."""
    rows = [("missing", tool.name, tool.package, f"{USES[tool.use]}: {tool.purpose}") for tool in missing]
    rows += [("ok", tool.name, tool.package, f"{USES[tool.use]}: {tool.purpose}") for tool in present]
    table(("", "program", "package", "for"), rows)


def answer(found: Mapping[str, object]) -> None:
    """What the guest's Python said of itself."""
    facts((name.replace("_", " "), str(value)) for name, value in found.items())
