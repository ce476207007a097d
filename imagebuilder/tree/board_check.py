"""Whether a board file says what a tree says: profile, architecture, limits, ids, images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagebuilder.config.board import Board, Profile
from imagebuilder.config.device import DeviceFacts
from imagebuilder.model.tree import Tree
from imagebuilder.tree.device_facts import device_facts
from imagebuilder.tree.tree import choose_profile


@dataclass(frozen=True)
class Comparison:
    """One fact of one board: what its file says and what the tree says, and whether that is the same."""

    board: str
    fact: str
    expected: str
    found: str
    same: bool


def check_boards(
    boards: Iterable[Board], tree: Tree, *, all_of_them: bool
) -> tuple[list[Comparison], list[str]]:
    """All comparisons, and the names of the boards that the tree does not cover.

    all_of_them: such a board is a fault (ProfileError says what it is known for).
    """
    found: list[Comparison] = []
    not_covered: list[str] = []
    for board in boards:
        profile = covered(board, tree)
        if profile is not None:
            found += compare_board(board, profile, tree)
        elif all_of_them:
            choose_profile(board, tree)
        else:
            not_covered.append(board.id)
    return found, not_covered


def covered(board: Board, tree: Tree) -> Profile | None:
    """The board's profile for the tree's release and target, the newest that the tree has; None if the
    board's file names none."""
    candidates = [each for each in board.profiles_for(tree.release) if each.target == tree.target]
    there = [each for each in candidates if each.name in tree.profiles]
    return next(iter(there or candidates), None)


def compare_board(board: Board, profile: Profile, tree: Tree) -> list[Comparison]:
    """Everything that both the board's file and the tree state. What only one of them states is left out."""
    if profile.name not in tree.profiles:
        return [Comparison(board.id, "profile", profile.name, "none of that name", False)]
    facts = device_facts(tree, profile.name)
    board = board.for_profile(profile)
    rows = [("profile", profile.name, profile.name), ("package architecture", profile.arch, tree.arch)]
    rows += [*_figures(board, facts), *_metadata(profile, facts), *_images(board, facts)]
    return [Comparison(board.id, fact, expected, found, expected == found) for fact, expected, found in rows]


def _figures(board: Board, facts: DeviceFacts) -> Iterator[tuple[str, str, str]]:
    layout = board.layout
    limits = {limit for limit in (layout.firmware, *(each.limit for each in board.images.values())) if limit}
    if facts.image_size is not None and limits:
        nearest = min(limits, key=lambda limit: abs(limit - (facts.image_size or 0)))
        yield "image size (IMAGE_SIZE)", _bytes(nearest), _bytes(facts.image_size)
    if facts.kernel_size is not None and layout.kernel is not None:
        yield "kernel size (KERNEL_SIZE)", _bytes(layout.kernel), _bytes(facts.kernel_size)
    if facts.kernel_and_rootfs is not None and layout.kernel_and_rootfs is not None:
        what = "kernel and rootfs (header tool)"
        yield what, _bytes(layout.kernel_and_rootfs), _bytes(facts.kernel_and_rootfs)
    if facts.tplink is not None and board.tplink is not None:
        yield "hardware id", f"0x{board.tplink.hwid:08x}", f"0x{facts.tplink.hwid:08x}"
        yield "hardware revision", f"0x{board.tplink.hwrev:x}", f"0x{facts.tplink.hwrev:x}"
        yield "flash layout", board.tplink.flash_layout, facts.tplink.flash_layout
    if facts.flash is not None and isinstance(board.flash, int):
        yield "flash", _bytes(board.flash), _bytes(facts.flash)
    stated = {part.name: part for part in layout.partitions}
    for part in facts.partitions:
        if stated:
            there = stated.get(part.name)
            expected = _place(there.offset, there.size) if there else "none"
            yield f"partition {part.name}", expected, _place(part.offset, part.size)


def _metadata(profile: Profile, facts: DeviceFacts) -> Iterator[tuple[str, str, str]]:
    if facts.supported_devices is not None:
        expected, found = sorted(profile.supported_devices), sorted(facts.supported_devices)
        yield "supported devices", " ".join(expected) or "none", " ".join(found) or "none"
    if facts.compat_version is not None:
        yield "compat version", profile.compat_version, facts.compat_version


def _images(board: Board, facts: DeviceFacts) -> Iterator[tuple[str, str, str]]:
    """Those that a target makes beside its devices (`file`) are in no device's list."""
    for name, image in board.images.items():
        made = facts.images.get(name)
        found = made.format if made else "not made"
        if facts.images and image.file is None:
            unsaid = "unknown" in (found, image.format)
            yield f"image {name}", image.format, image.format if unsaid else found


def _bytes(size: int) -> str:
    return f"{size} bytes"


def _place(offset: int, size: int) -> str:
    return f"{size} bytes at 0x{offset:x}"
