"""Which boards somebody means: by flash, by RAM, by words."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from imagebuilder.config.board import REMOVABLE, Board, UnsupportedDevice
from imagebuilder.errors import UserError
from imagebuilder.model.size import parse_size

_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_BOUND = re.compile(r"\s*(>=|<=|=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class SizeBound:
    """What a size is held against: `>=8M`. size: bytes."""

    relation: str
    size: int

    def admits(self, size: int | str | None) -> bool:
        """Whether a board's figure meets it. Removable storage is as large as its owner wants it, so it meets
        every lower bound and no other; an unknown figure meets none."""
        if size == REMOVABLE:
            return self.relation in (">=", ">")
        return isinstance(size, int) and _COMPARE[self.relation](size, self.size)


def parse_bound(option: str, text: str) -> SizeBound:
    """The bound in `>=8M`, `<= 64M`, `=4M`. UserError, naming the option, for anything else."""
    match = _BOUND.fullmatch(text)
    hint = f"for example {option} '>=8M' (in quotes: a shell takes > for itself); also <=, >, < and ="
    if match is None:
        raise UserError(f"{option} {text!r} compares nothing", hint=hint)
    try:
        return SizeBound(match[1], parse_size(match[2]))
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}", hint=hint) from error


@dataclass(frozen=True)
class BoardFilter:
    """What a board must be to be listed. words: each must occur in one of its names, whatever the case and
    the punctuation: `wr740n` and `TL WR-740N` find the TL-WR740N."""

    flash: SizeBound | None = None
    ram: SizeBound | None = None
    words: tuple[str, ...] = ()

    def boards(self, boards: Iterable[Board]) -> list[Board]:
        """Those of the boards that are meant, in their order."""
        return [
            board
            for board in boards
            if (self.flash is None or self.flash.admits(board.flash))
            and (self.ram is None or self.ram.admits(board.ram))
            and self._has_words(_names(board))
        ]

    def unsupported(self, devices: Iterable[UnsupportedDevice]) -> list[UnsupportedDevice]:
        """Those of the devices that nothing builds for that are meant. They have no figures, so a bound
        leaves them out."""
        if self.flash is not None or self.ram is not None:
            return []
        return [each for each in devices if self._has_words([each.id, each.name, each.soc])]

    def _has_words(self, names: Sequence[str]) -> bool:
        text = " ".join(_plain(name) for name in names)
        return all(_plain(word) in text for word in self.words)


def _names(board: Board) -> list[str]:
    profiles = [name for each in board.profile for name in (each.name, each.target)]
    return [board.id, board.name, board.soc, *profiles]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def boards_by_profile(boards: Iterable[Board], release: str) -> dict[tuple[str, str], str]:
    """The board that stands for a profile of a release, by (target, profile)."""
    return {
        (profile.target, profile.name): board.id
        for board in boards
        for profile in board.profiles_for(release)
    }
