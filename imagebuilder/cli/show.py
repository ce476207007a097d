"""Facts on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic_core import to_jsonable_python

from imagebuilder.called import typed
from imagebuilder.cli import show_built
from imagebuilder.cli.screen import columns, command, facts, hanging, near, prose, say, say_lines, table
from imagebuilder.cli.terminal import harmless
from imagebuilder.model.size import format_size, human_size
from imagebuilder.report.flash_bar import flash_picture

if TYPE_CHECKING:
    from imagebuilder.config.board import Board, Emulation, Image, UnsupportedDevice
    from imagebuilder.config.boards_write import WrittenBoard
    from imagebuilder.config.config import Explained
    from imagebuilder.config.model_config import Config
    from imagebuilder.config.places import FoundProject
    from imagebuilder.host.cache import Cleaned
    from imagebuilder.host.diagnosis import Diagnosis
    from imagebuilder.model.budget import Budgets, Fit
    from imagebuilder.model.result import Result
    from imagebuilder.server.obtain_lists import FoundDevices, ShownReleases
    from imagebuilder.tree.device_facts import Comparison
    from imagebuilder.tree.plan import Plan
    from imagebuilder.unchanged import State

BoardNames = Mapping[tuple[str, str], str]
_SHOWN = ("config", "board", "packages", "images", "unchecked", "trial")  # of a result


def as_json(facts: object) -> None:
    """Print facts as JSON; models and dataclasses as their fields."""
    print(json.dumps(facts, indent=2, default=to_jsonable_python))


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
    say(f"# {name}")
    rows = ((each.key, json.dumps(each.value), near(", ".join(each.files))) for each in values)
    table(("key", "value", "from"), rows)


def project(found: FoundProject, replaced: Mapping[Path, Path]) -> None:
    """Which folder is the project and why, and what of it stands in place of what comes with this program."""
    say("")
    facts([("project", found.text()), *(("", line) for line in (*found.refused, *found.passed_over))])
    facts(("in place", f"{path}, of {other}") for path, other in replaced.items())


def plan_facts(found: Plan, budgets: Budgets) -> dict[str, object]:
    """A plan for machines: the plan's fields and its budgets."""
    picture = flash_picture(budgets.flash) if budgets.flash is not None else None
    return {**found.model_dump(mode="json"), "budgets": budgets, "picture": picture}


def fit(found: Fit, to: TextIO) -> None:
    """The steps of the least change that fits, what each costs, and the change as a diff."""
    for number, step in enumerate(found.advice, 1):
        told = [(f"{number}. ", step.text), *(("   the device loses: ", use) for use in step.costs)]
        for first, text in told:
            for line in hanging(first, harmless(text), columns() if to is sys.stdout else None):
                print(line, file=to)
    print(found.diff, end="", file=to, flush=True)


def result(place: Path, found: Result, state: State = "built") -> None:
    """What was handed over. state: what had to be done for it."""
    show_built.built(place, found.model_dump(mode="json", include=set(_SHOWN)), state)


def releases(found: ShownReleases) -> None:
    """A line a release, and where the list is from."""
    rows = (
        (each.release, each.series, each.state, "latest" if each.latest else "") for each in found.releases
    )
    table(("release", "series", "state of the series", ""), rows)
    whence = "" if found.asked else "no server gave a list; "
    say_lines(f"{whence}from {found.origin}")


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
            say_lines(f"{trouble.message}\nhint: {trouble.hint}")
    if found.install is not None:
        command("to install what is missing:", typed("doctor --fix"))
        command("or:", found.install)


def cleaned(removed: Sequence[Path], in_use: Sequence[Path], folder: Path, found: Cleaned | None) -> None:
    """What was removed: folders, and of the cache in `folder`. in_use: folders in which something stays."""
    for place in removed:
        say_lines(f"removed {place}")
    for place in in_use:
        say_lines(f"removed what was in {place}, but what is in use at this moment")
    if found is not None:
        counts = (
            _count(found.downloads, "download"),
            _count(found.trees, "unpacked tree"),
            _count(found.indexes, "index", "es"),
            _count(found.builds, "kept result"),
        )
        left = f"{human_size(found.left)} of such things are left in {folder}"
        say_lines(f"removed {', '.join(counts)}: {human_size(found.size)}; {left}")
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
        new = typed("boards add PROFILE --imagebuilder PATH")
        command("no board is like that; a new one (or --release R in place of --imagebuilder):", new)
    if found:
        rows = (
            (board.id, board.name, _size(board.flash), _size(board.ram), _targets(board)) for board in found
        )
        table(("board", "name", "flash", "RAM", "targets"), rows)
    if unsupported:
        say("")
        prose("", "not supported, because no ImageBuilder makes images for them:")
        table(("device", "name", "why"), ((each.id, each.name, each.reason) for each in unsupported))


def search_hint(words: Sequence[str]) -> None:
    """How to find what has no board file yet."""
    given = shlex.join(words)
    say("")
    command("what has no board file yet:", typed(f"boards search {given} --release latest"))


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


def devices(found: FoundDevices, names: BoardNames, *, advice: bool) -> None:
    """A line a device that the server builds for, and which board it is already. advice: say what is next."""
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
    if advice and fresh is not None:
        command("a board file for one:", typed(f"boards add {fresh} --release {release}"))


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
            ("limits", _listed(f"{name} {size} bytes" for name, size in limits.items()) or "none known"),
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


def _listed(items: Iterable[str]) -> list[str]:
    """Items to be folded between, with a comma behind each but the last."""
    *others, last = list(items) or [""]
    return [*(f"{each}," for each in others), *filter(None, [last])]


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
            prose("", f"{each.releases} ({each.target}): {each.note}")


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


def written(place: WrittenBoard, release: str | None = None, *, advice: bool) -> None:
    """Where a new board stands, and what is still to be filled in. release: whose list it is from, if any;
    advice: say what is next."""
    say_lines(f"wrote {place.path}")
    if place.fill_in:
        whose = "the tree" if release is None else "the release's list"
        say_lines(f"it can be used as it is; what {whose} does not know is for you to fill in:")
        for line, wanted in place.fill_in:
            say_lines(f"  {place.path}:{line}: {wanted}")
    if not advice:
        return
    name = place.path.stem
    where = "--imagebuilder PATH" if release is None else f'(the config says release = "{release}")'
    command("next:", typed(f"show {name}"))
    command("then:", typed(f"build CONFIG --board {name} {where}"))


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
        say_lines(f"not built by this tree: {', '.join(not_covered)}")
