"""Facts on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from imagebuilder.config.explain import Explained
from imagebuilder.config.model_config import Config
from imagebuilder.model.budget import Budgets
from imagebuilder.model.result import Result
from imagebuilder.model.size import human_size
from imagebuilder.report.flash_bar import flash_bar, flash_picture, ram_lines
from imagebuilder.tree.plan import Plan

if TYPE_CHECKING:
    from imagebuilder.host.cache import Cleaned
    from imagebuilder.host.diagnosis import Diagnosis
    from imagebuilder.server.obtain_lists import ShownReleases

PIPE_COLUMNS = 200


def as_json(facts: object) -> None:
    """Print facts as JSON; models and dataclasses as their fields."""
    print(json.dumps(facts, indent=2, default=to_jsonable_python))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Where nobody reads on, `| head` for one: cli/guard.py says how a command ends then."""
        raise BrokenPipeError


def _console() -> Console:
    wide = None if sys.stdout.isatty() else PIPE_COLUMNS  # nobody wants folded names in a file
    return _Console(file=sys.stdout, highlight=False, soft_wrap=True, width=wide)


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


def rows(found: Sequence[Mapping[str, object]]) -> None:
    """Facts of one shape as a table."""
    table(tuple(found[0]), ([str(value) for value in each.values()] for each in found))


def configs(found: Sequence[Config]) -> None:
    """A line a config."""
    lines = (
        (config.name, config.description, config.python.variant, ", ".join(config.boards)) for config in found
    )
    table(("config", "description", "Python", "boards"), lines)


def config(name: str, values: Sequence[Explained]) -> None:
    """The merged config, each value with the file or files that it came from."""
    _console().print(f"# {name}", markup=False)
    rows = ((each.key, json.dumps(each.value), ", ".join(each.files)) for each in values)
    table(("key", "value", "from"), rows)


def plan_facts(found: Plan, budgets: Budgets) -> dict[str, object]:
    """The same for machines: the plan's fields and its budgets."""
    picture = flash_picture(budgets.flash) if budgets.flash is not None else None
    return {**found.model_dump(mode="json"), "budgets": budgets, "picture": picture}


def plan(found: Plan, budgets: Budgets) -> None:
    """What will be built, and what it takes of flash and RAM."""
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
    lines = (
        (
            each.name,
            each.version,
            human_size(each.size) if each.size else "",
            each.feed or "the tree",
            " -> ".join(each.why),
        )
        for each in found.install
    )
    table(("package", "version", "size", "from", "because of"), lines)
    cut = [
        (
            each.name,
            str(each.kept),
            str(each.dropped),
            human_size(each.saved),
            human_size(each.saved_compressed),
        )
        for each in found.shaken
    ]
    if cut:
        table(("shaken", "modules kept", "dropped", "saved", "of them in the image, about"), cut)
    for line in (*found.imports.left_out, *found.imports.lazy):
        _console().print(f"note: {line}", markup=False)
    budget(budgets)


def budget(found: Budgets) -> None:
    """Flash as a bar, RAM in lines, and what would help."""
    if found.flash is not None:
        _console().print(flash_bar(found.flash), markup=False)
    if found.ram is not None:
        for line in ram_lines(found.ram):
            _console().print(line, markup=False)
    notes = (*found.notes, *(found.flash.notes if found.flash is not None else ()))
    for line in notes:
        _console().print(f"note: {line}", markup=False)


def result(place: Path, found: Result) -> None:
    """What was handed over."""
    rows = ((image.type, image.file, human_size(image.size), image.sha256[:16]) for image in found.images)
    title = f"{found.config} for {found.board}: {len(found.packages)} packages, in {place}"
    _console().print(title, markup=False)
    table(("image", "file", "size", "sha256"), rows)
    for file in found.unchecked:
        print(f"UNCHECKED: nothing but the size of {file} could be checked")


def releases(found: ShownReleases) -> None:
    """A line a release, and where the list is from."""
    rows = (
        (each.release, each.series, each.state, "latest" if each.latest else "") for each in found.releases
    )
    table(("release", "series", "state of the series", ""), rows)
    whence = "" if found.asked else "no server gave a list; "
    _console().print(f"{whence}from {found.origin}", markup=False)


def doctor(found: Diagnosis) -> None:
    """Which host programs are there, what the missing ones are for, and what helps."""
    states = sorted(found.tools, key=lambda tool: tool.lack is None)
    lines = [
        (tool.lack or "ok", tool.name, tool.package or "none", f"{', '.join(tool.uses)}: {tool.purpose}")
        for tool in states
    ]
    table(("", "program", "package", "for"), lines)
    for trouble in (found.architecture, found.sandbox):
        if trouble is not None:
            print(f"{trouble.message}\nhint: {trouble.hint}")
    if found.install is not None:
        print(f"to install what is missing: python3 build.py doctor --fix, or: {found.install}")


def cleaned(removed: Sequence[Path], folder: Path, found: Cleaned | None) -> None:
    """What was removed: folders, and of the cache in `folder`."""
    for place in removed:
        print(f"removed {place}")
    if found is not None:
        counts = (
            _count(found.downloads, "download"),
            _count(found.trees, "unpacked tree"),
            _count(found.indexes, "index", "es"),
        )
        left = f"{human_size(found.left)} of such things are left in {folder}"
        print(f"removed {', '.join(counts)}: {human_size(found.size)}; {left}")
    elif not removed:
        print("there was nothing to remove")


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def answer(found: Mapping[str, object]) -> None:
    """What the guest's Python said of itself."""
    facts((name.replace("_", " "), str(value)) for name, value in found.items())
