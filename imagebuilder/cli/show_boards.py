"""Boards on standard output: the lists, a board's data sheet, and how files compare with a tree."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imagebuilder.cli.show import facts, table
from imagebuilder.config.board import Board, Emulation, Image, UnsupportedDevice
from imagebuilder.config.boards_write import WrittenBoard
from imagebuilder.model.size import format_size
from imagebuilder.tree.device_facts import Comparison

if TYPE_CHECKING:
    from imagebuilder.server.obtain_lists import FoundDevices

BoardNames = Mapping[tuple[str, str], str]


def as_facts(boards: Iterable[Board], unsupported: Iterable[UnsupportedDevice]) -> list[dict[str, object]]:
    """What `--json` prints: the boards, then what is not supported, told apart by `supported`."""
    return [
        *({**board.model_dump(mode="json"), "supported": True} for board in boards),
        *({**device.model_dump(mode="json"), "supported": False} for device in unsupported),
    ]


def boards(found: Sequence[Board], unsupported: Sequence[UnsupportedDevice]) -> None:
    """A line a board; below, what is not supported and why."""
    if not found and not unsupported:
        new = "python3 build.py boards add PROFILE --imagebuilder PATH, or --release R"
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
    print(f"\nwhat has no board file yet: python3 build.py boards search {given} --release latest")


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
        print(f"a board file for one: python3 build.py boards add {fresh} --release {release}")


def _targets(board: Board) -> str:
    return ", ".join(dict.fromkeys(profile.target for profile in board.profile))


def _size(size: int | str | None) -> str:
    return "unknown" if size is None else size if isinstance(size, str) else format_size(size)


def board(found: Board) -> None:
    """A board as a small data sheet."""
    limits = found.layout.model_dump(exclude_none=True, exclude={"partitions"})
    facts(
        [
            ("board", found.id),
            ("name", found.name),
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
    print(f"next: python3 build.py show {name}, and build.py build CONFIG --board {name} {where}")


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
