"""Facts on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from imagebuilder.called import typed
from imagebuilder.cli.terminal import harmless
from imagebuilder.model.package import shown_way
from imagebuilder.model.size import format_size, human_size
from imagebuilder.report.flash_bar import flash_bar, flash_picture, ram_lines

if TYPE_CHECKING:
    from imagebuilder.config.board import Board, Emulation, Image, UnsupportedDevice
    from imagebuilder.config.boards_write import WrittenBoard
    from imagebuilder.config.config import Explained
    from imagebuilder.config.model_config import Config
    from imagebuilder.config.project import FoundProject
    from imagebuilder.host.cache import Cleaned
    from imagebuilder.host.diagnosis import Diagnosis
    from imagebuilder.model.budget import Budgets, Fit
    from imagebuilder.model.result import Result
    from imagebuilder.server.obtain_lists import FoundDevices, ShownReleases
    from imagebuilder.tree.device_facts import Comparison
    from imagebuilder.tree.plan import Plan

PIPE_COLUMNS = 200
BoardNames = Mapping[tuple[str, str], str]


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
        shown.add_row(*(harmless(cell).replace("[", "\\[") for cell in row))
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


def project(found: FoundProject, replaced: Mapping[Path, Path]) -> None:
    """Which folder is the project and why, and what of it stands in place of what comes with this program."""
    facts([("\nproject", found.text()), *(("", line) for line in (*found.refused, *found.passed_over))])
    facts(("in place", f"{path}, of {other}") for path, other in replaced.items())


def plan_facts(found: Plan, budgets: Budgets) -> dict[str, object]:
    """A plan for machines: the plan's fields and its budgets."""
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
            *(("app", line) for line in found.taken),
            ("overlays", ", ".join(found.overlays) or "none"),
            *(("replaced", str(each)) for each in found.swaps if each.done),
            ("disabled", ", ".join(found.disabled_services) or "none"),
            ("make", shlex.join(("make", *found.make))),
        ]
    )
    lines = (
        (
            each.name,
            each.version,
            human_size(each.package.size) if each.package.size else "",
            each.feed or "the tree",
            " -> ".join(shown_way(each.why)),
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
    trimmed = [
        (
            each.name,
            str(each.files),
            human_size(each.saved),
            ", ".join(f"{kind} {human_size(size)}" for kind, size in each.kinds.items()),
        )
        for each in found.trimmed
    ]
    if trimmed:
        table(("trimmed", "files left out", "saved, unpacked", "of them"), trimmed)
    for line in (*found.imports.left_out, *found.imports.lazy):
        _console().print(f"note: {line}", markup=False)
    budget(budgets)


def fit(found: Fit, to: TextIO) -> None:
    """The steps of the least change that fits, what each costs, and the change as a diff."""
    for number, step in enumerate(found.advice, 1):
        print(f"{number}. {harmless(step.text)}", file=to)
        for use in step.costs:
            print(f"   the device loses: {harmless(use)}", file=to)
    print(found.diff, end="", file=to, flush=True)


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
        print(f"to install what is missing: {typed('doctor --fix')}, or: {found.install}")


def cleaned(removed: Sequence[Path], in_use: Sequence[Path], folder: Path, found: Cleaned | None) -> None:
    """What was removed: folders, and of the cache in `folder`. in_use: folders in which something stays."""
    for place in removed:
        print(f"removed {place}")
    for place in in_use:
        print(f"removed what was in {place}, but what is in use at this moment")
    if found is not None:
        counts = (
            _count(found.downloads, "download"),
            _count(found.trees, "unpacked tree"),
            _count(found.indexes, "index", "es"),
        )
        left = f"{human_size(found.left)} of such things are left in {folder}"
        print(f"removed {', '.join(counts)}: {human_size(found.size)}; {left}")
    elif not (removed or in_use):
        print("there was nothing to remove")


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def answer(found: Mapping[str, object]) -> None:
    """What the guest's Python said of itself."""
    facts((name.replace("_", " "), str(value)) for name, value in found.items())


def board_facts(boards: Iterable[Board], unsupported: Iterable[UnsupportedDevice]) -> list[dict[str, object]]:
    """What `--json` prints: the boards, then what is not supported, told apart by `supported`."""
    return [
        *({**board.model_dump(mode="json"), "supported": True} for board in boards),
        *({**device.model_dump(mode="json"), "supported": False} for device in unsupported),
    ]


def boards(found: Sequence[Board], unsupported: Sequence[UnsupportedDevice]) -> None:
    """A line a board; below, what is not supported and why."""
    if not found and not unsupported:
        new = f"{typed('boards add PROFILE --imagebuilder PATH')}, or --release R"
        print(f"no board is like that; a new one: {new}")
    if found:
        rows = (
            (board.id, board.name, _size(board.flash), _size(board.ram), _targets(board)) for board in found
        )
        table(("board", "name", "flash", "RAM", "targets"), rows)
    if unsupported:
        print(
            "\nnot supported, because no ImageBuilder makes images for them:" if found else "not supported:"
        )
        table(("device", "name", "why"), ((each.id, each.name, each.reason) for each in unsupported))


def search_hint(words: Sequence[str]) -> None:
    """How to find what has no board file yet."""
    given = shlex.join(words)
    print(f"\nwhat has no board file yet: {typed(f'boards search {given} --release latest')}")


def device_facts(found: FoundDevices, names: BoardNames) -> list[dict[str, object]]:
    """What `--json` prints of the server's devices. names: the boards there are, by (target, profile)."""
    return [
        {
            "profile": device.id,
            "title": device.titles[0],
            "titles": device.titles,
            "target": device.target,
            "board": names.get((device.target, device.id)),
        }
        for device in found.devices
    ]


def devices(found: FoundDevices, names: BoardNames) -> None:
    """A line a device that the server builds for, and which board it is already."""
    release = found.release
    if not found.devices:
        print(f"\nOpenWrt {release} builds for no device like that")
        return
    print(f"\nOpenWrt {release} builds for (the server's list, not signed):")
    rows = (
        (device.id, " / ".join(device.titles), device.target, names.get((device.target, device.id), ""))
        for device in found.devices
    )
    table(("profile", "title", "target", "board"), rows)
    fresh = next((each.id for each in found.devices if (each.target, each.id) not in names), None)
    if fresh is not None:
        print(f"a board file for one: {typed(f'boards add {fresh} --release {release}')}")


def _targets(board: Board) -> str:
    return ", ".join(dict.fromkeys(profile.target for profile in board.profile))


def _size(size: int | str | None) -> str:
    return "unknown" if size is None else size if isinstance(size, str) else format_size(size)


def board(found: Board, path: Path, replaced: Path | None) -> None:
    """A board as a small data sheet. path: its file; replaced: the one that it stands in place of."""
    limits = found.layout.model_dump(exclude_none=True, exclude={"partitions"})
    facts(
        [
            ("board", found.id),
            ("name", found.name),
            ("file", str(path) if replaced is None else f"{path}, in place of {replaced}"),
            ("soc", found.soc),
            ("RAM", _size(found.ram)),
            ("flash", _size(found.flash)),
            ("limits", ", ".join(f"{name} {size} bytes" for name, size in limits.items()) or "none known"),
            *_ids(found),
            *_emulation(found.emulation),
        ]
    )
    if found.layout.partitions:
        print()
        rows = ((part.name, f"0x{part.offset:08x}", _size(part.size)) for part in found.layout.partitions)
        table(("partition", "begins at", "size"), rows)
    print()
    _profiles(found)
    print()
    table(("image", "format", "", "limit", "for"), _images(found))


def _ids(found: Board) -> Iterator[tuple[str, str]]:
    if found.tplink is not None:
        ids = found.tplink
        yield "hardware id", f"0x{ids.hwid:08x}, revision 0x{ids.hwrev:x}, flash layout {ids.flash_layout}"


def _emulation(emulation: Emulation) -> Iterator[tuple[str, str]]:
    if emulation.user is not None:
        yield "programs run by", f"qemu-{emulation.user.binary} -cpu {emulation.user.cpu}"
    if emulation.system is not None:
        machine = emulation.system
        cpu = f" -cpu {machine.cpu}" if machine.cpu else ""
        memory = format_size(machine.memory)
        yield "images boot in", f"qemu-system-{machine.binary} -machine {machine.machine}{cpu} -m {memory}"
    if emulation.twin is not None:
        yield "twin", f"{emulation.twin}, whose image is booted in its place"


def _profiles(found: Board) -> None:
    rows = (
        (
            each.releases,
            each.target,
            each.name,
            each.arch,
            each.compat_version,
            ", ".join(each.supported_devices) or "no metadata",
        )
        for each in found.profile
    )
    table(("releases", "target", "profile", "packages for", "compat", "sysupgrade accepts it on"), rows)
    for each in found.profile:
        if each.note:
            print(f"{each.releases} ({each.target}): {each.note}")


def _images(found: Board) -> Iterator[tuple[str, ...]]:
    yield from _image_rows(found.images, "all releases" if _uniform(found) else "releases not named below")
    for each in found.profile:
        if each.images is not None:
            yield from _image_rows(each.images, each.releases)


def _uniform(found: Board) -> bool:
    return all(each.images is None for each in found.profile)


def _image_rows(images: dict[str, Image], releases: str) -> Iterator[tuple[str, ...]]:
    for name, image in images.items():
        limit = "" if image.limit is None else f"{image.limit} bytes"
        yield name, image.format, "required" if image.required else "optional", limit, releases


def written(place: WrittenBoard, release: str | None = None) -> None:
    """Where a new board stands, and what is still to be filled in. release: whose list it is from, if any."""
    print(f"wrote {place.path}")
    if place.fill_in:
        whose = "the tree" if release is None else "the release's list"
        print(f"it can be used as it is; what {whose} does not know is for you to fill in:")
        for line, wanted in place.fill_in:
            print(f"  {place.path}:{line}: {wanted}")
    name = place.path.stem
    where = "--imagebuilder PATH" if release is None else f'(the config says release = "{release}")'
    print(f"next: {typed(f'show {name}')}, and {typed(f'build CONFIG --board {name} {where}')}")


def comparisons(found: Sequence[Comparison], not_covered: Sequence[str]) -> None:
    """A line a check, then how it went."""
    if found:
        rows = (
            ("same" if each.same else "DIFFERS", each.board, each.fact, each.expected, each.found)
            for each in found
        )
        table(("", "board", "what", "its file says", "the tree says"), rows)
    different = sum(not each.same for each in found)
    boards = len({each.board for each in found})
    print(f"{boards} boards, {len(found)} facts compared, {different} differ")
    if not_covered:
        print(f"not built by this tree: {', '.join(not_covered)}")
