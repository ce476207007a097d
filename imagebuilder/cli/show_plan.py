"""A plan on a screen: whether it fits, which Python and why, what was asked for, and what that brings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imagebuilder.cli.screen import fold, folded, near, prose, prose_columns, say, table
from imagebuilder.model.package import Selected, shown_way
from imagebuilder.model.size import human_size
from imagebuilder.report.flash_bar import (
    answer,
    flash_bar,
    flash_left,
    flash_words,
    ram_bar,
    ram_left,
    ram_sources,
    ram_words,
)

if TYPE_CHECKING:
    from imagebuilder.model.budget import Budgets
    from imagebuilder.tree.plan import Plan

_STYLES = {"yes": "bold green", "perhaps": "bold yellow", "no": "bold red"}
_INDENT = 11
MOST_REASONS = 8  # of which line wants which Python package
BAR_COLUMNS = 60


def plan(found: Plan, budgets: Budgets, *, packages: bool = False, sources: bool = False) -> None:
    """What will be built, and whether it fits. packages: a table of all packages in place of groups of them;
    sources: say where the figures are from."""
    said = answer(budgets)
    for line in fold(f"{found.config} for {found.board}: {said.text}", prose_columns()):
        say(line, _STYLES[said.kind])
    budget(budgets, sources=sources)
    say("")
    for name, value in _asked(found):
        prose(f"{name:<{_INDENT}}", near(value))
    notes((*found.imports.left_out, *found.imports.lazy))
    say("")
    if packages:
        _table(found)
    else:
        _groups(found, budgets)
    say("")
    say(shlex.join(("make", *found.make)))  # whole: somebody may copy it


def budget(found: Budgets, *, sources: bool = False) -> None:
    """Flash and RAM, each as a bar with what fills it."""
    width = min(prose_columns() - _INDENT - 2, BAR_COLUMNS)
    if found.flash is not None:
        say(f"{'flash':<{_INDENT}}{flash_bar(found.flash, width)}")
        _filled(flash_left(found.flash), flash_words(found.flash))
    if found.ram is not None:
        say(f"{'RAM':<{_INDENT}}{ram_bar(found.ram, width)}")
        _filled(ram_left(found.ram), ram_words(found.ram))
        for line in ram_sources(found.ram) if sources else ():
            prose(" " * _INDENT, line)
    notes((*found.notes, *(found.flash.notes if found.flash is not None else ())))


def _filled(left: str, words: Sequence[str]) -> None:
    *others, last = words
    prose(" " * _INDENT, [f"{left}:", *(f"{word}," for word in others), last])


def notes(lines: Iterable[str]) -> None:
    """A note a line."""
    for line in lines:
        prose("note: ", near(line))


def _asked(found: Plan) -> Iterator[tuple[str, str]]:
    """What the config asks for, and of what tree."""
    tree = found.tree
    yield "tree", f"{tree.distribution} {tree.version}, {tree.target}"
    yield "profile", f"{found.profile.name}, with {tree.package_manager} packages for {tree.arch}"
    python = [name for name in found.wish.add if name.startswith(("python", "micropython"))]
    yield from _python(found, python)
    added = [name for name in found.wish.add if name not in python]
    if added:
        yield "asked for", ", ".join(added)
    if found.wish.remove:
        yield "left out", ", ".join(name for name in found.wish.remove if name not in found.back)
    yield from (("stays", f"{name}: {_arrows(way)}") for name, way in found.back.items())
    yield from (("replaced", str(each)) for each in found.swaps if each.done)
    yield from (("app", line) for line in found.taken)
    if found.overlays:
        yield "overlays", ", ".join(found.overlays)
    if found.disabled_services:
        yield "disabled", ", ".join(found.disabled_services)


def _python(found: Plan, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Which Python goes in, and who wants it."""
    versions = {each.name: each.version for each in found.install}
    shown = ", ".join(f"{name} {versions.get(name, '')}".strip() for name in names)
    yield "Python", f"{found.python}: {shown}" if shown else found.python
    by_asker: dict[str, list[str]] = {}
    for name in names:
        by_asker.setdefault(found.wish.add[name], []).append(name)
    for asker, those in list(by_asker.items())[:MOST_REASONS]:
        yield "", f"{', '.join(those)}: {asker}" if len(by_asker) > 1 else f"because of {asker}"
    if len(by_asker) > MOST_REASONS:
        yield "", f"and {len(by_asker) - MOST_REASONS} more reasons: --packages"
    for cut in found.shaken:
        saved = f"{human_size(cut.saved_compressed)} less in the image"
        yield "", f"{cut.name} is shaken: {cut.kept} modules stay, {cut.dropped} go, about {saved}"
    for less in found.trimmed:
        kinds = ", ".join(f"{kind} {human_size(size)}" for kind, size in less.kinds.items())
        yield "", f"{less.name} is trimmed: {less.files} files stay out, {human_size(less.saved)} ({kinds})"


def _groups(found: Plan, budgets: Budgets) -> None:
    """The packages by who asked for them, or for what needs them; the config's own wishes first."""
    flash = budgets.flash
    costs = {each.name: each.bytes for each in flash.packages} if flash is not None else {}
    grouped: dict[str, list[Selected]] = {who: [] for who in found.wish.add.values()}
    for each in found.install:
        grouped.setdefault(each.why[0], []).append(each)
    total = _cost((each.name for each in found.install), costs)
    prose("", f"{len(found.install)} packages{total}, by who asked for them (--packages: one a line)")
    for who, those in grouped.items():
        if not those:
            continue
        prose("", f"{near(who)}: {len(those)}{_cost((each.name for each in those), costs)}")
        asked = sorted(each.name for each in those if each.by is None)
        needed = sorted(each.name for each in those if each.by is not None)
        prose("    ", " ".join(asked))
        if needed:
            what = "what they need" if len(asked) > 1 else "what it needs"
            for line in folded(f"    and {what}: {' '.join(needed)}", prose_columns()):
                say(line)


def _cost(names: Iterable[str], costs: Mapping[str, int]) -> str:
    size = sum(costs.get(name, 0) for name in names)
    return f", about {human_size(size)} of flash" if size else ""


def _table(found: Plan) -> None:
    """A line a package."""
    lines = (
        (
            each.name,
            each.version,
            human_size(each.package.size) if each.package.size else "",
            each.feed or "the tree",
            near(_arrows(shown_way(each.why))),
        )
        for each in found.install
    )
    table(("package", "version", "size", "from", "because of"), lines)


def _arrows(way: Iterable[str]) -> str:
    return " -> ".join(way)
