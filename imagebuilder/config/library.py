"""The folders that boards, configs and overlays are found in; and which boards somebody means: by flash, by
RAM, by words."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.called import typed
from imagebuilder.config.board import REMOVABLE, Board, UnsupportedDevice, UnsupportedFile
from imagebuilder.config.faults import nearest, validate
from imagebuilder.config.toml import TomlFile, read_toml
from imagebuilder.errors import Fault, FaultsError, UserError
from imagebuilder.model.size import parse_size

_FOLDERS = ("boards", "configs", "overlays")
UNSUPPORTED = "unsupported"
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_BOUND = re.compile(r"\s*(>=|<=|=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Library:
    """A project folder: `boards/`, `configs/` and `overlays/` lie in root. kept: files that were read, where
    each is read once."""

    root: Path
    kept: dict[Path, TomlFile] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """UserError for a folder that is none, or has none of the three."""
        if not any(os.path.isdir(self.root / name) for name in _FOLDERS):  # noqa: PTH112 - raises nothing
            what = "holds none of" if os.path.isdir(self.root) else "is no folder that holds"  # noqa: PTH112
            raise UserError(
                f"{self.root} {what} {', '.join(f'{name}/' for name in _FOLDERS)}",
                hint="--project names the folder in which the boards, configs and overlays are",
            )

    def once(self) -> Library:
        """The same folder as it is now: each file of it is read when it is first asked for, and then kept.
        For one image's inputs; what comes after may find other files."""
        return replace(self, kept={})

    def read(self, path: Path) -> TomlFile:
        """A TOML file of it. FaultsError, UserError."""
        if self.kept is None:
            return read_toml(path)
        if path not in self.kept:
            self.kept[path] = read_toml(path)
        return self.kept[path]

    def board_names(self) -> list[str]:
        """The names of all boards, sorted."""
        return sorted(path.stem for path in (self.root / "boards").glob("*.toml") if path.stem != UNSUPPORTED)

    def config_names(self) -> list[str]:
        """The names of all configs, sorted."""
        return sorted(path.stem for path in (self.root / "configs").glob("*.toml"))

    def overlay_names(self) -> list[str]:
        """The names of all overlays, sorted."""
        return sorted(path.parent.name for path in (self.root / "overlays").glob("*/overlay.toml"))

    def board_path(self, name: str) -> Path:
        """The file in which a board of that name stands, or would stand."""
        return self.root / "boards" / f"{name}.toml"

    def board(self, name: str) -> Board:
        """A board by its name. UserError naming the nearest one or, for a device that no ImageBuilder
        covers, saying why; FaultsError for a wrong file."""
        names = self.board_names()
        if name not in names:
            device = next((device for device in self.unsupported() if device.id == name), None)
            if device is not None:
                raise UserError(
                    f"'{name}' ({device.name}) is not supported: {device.reason}",
                    hint=f"{typed('boards')} lists what is",
                )
            raise UserError(f"unknown board '{name}'", hint=nearest(name, names))
        return self.checked_board(name, self.read(self.board_path(name)))

    def checked_board(self, name: str, file: TomlFile) -> Board:
        """The board in a file, which need not stand in boards/. FaultsError for a wrong one."""
        board = validate(Board, file, {"id": name, **file.values})
        faults = [file.fault(key, problem) for key, problem in board.problems()]
        twin, names = board.emulation.twin, self.board_names()
        if twin is not None and twin not in names:
            key = ("emulation", "twin")
            faults.append(file.fault(key, f"unknown board '{twin}'", nearest(twin, names)))
        if faults:
            raise FaultsError(faults)
        return board

    def boards(self) -> list[Board]:
        """All boards, sorted by name. FaultsError with the faults of all files."""
        boards: list[Board] = []
        faults: list[Fault] = []
        for name in self.board_names():
            try:
                boards.append(self.board(name))
            except FaultsError as error:
                faults += error.faults
        if faults:
            raise FaultsError(faults)
        return boards

    def unsupported(self) -> tuple[UnsupportedDevice, ...]:
        """The devices of boards/unsupported.toml; none where there is no such file."""
        path = self.root / "boards" / f"{UNSUPPORTED}.toml"
        return validate(UnsupportedFile, self.read(path)).device if path.is_file() else ()

    def config_path(self, name: str) -> Path:
        """The file of a config that is given by its name or by its path."""
        if name.endswith(".toml"):
            path = Path(name)
            if not os.path.lexists(path):
                raise UserError(f"there is no config file '{name}'")
            return path
        if name not in self.config_names():
            raise UserError(f"unknown config '{name}'", hint=nearest(name, self.config_names()))
        return self.root / "configs" / f"{name}.toml"

    def overlay_folder(self, name: str) -> Path:
        """The folder of an overlay."""
        if name not in self.overlay_names():
            raise UserError(f"unknown overlay '{name}'", hint=nearest(name, self.overlay_names()))
        return self.root / "overlays" / name


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
    """What a board must be to be listed. words: each must occur in one of its names, see all_occur()."""

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
            and all_occur(self.words, _names(board))
        ]

    def unsupported(self, devices: Iterable[UnsupportedDevice]) -> list[UnsupportedDevice]:
        """Those of the devices that nothing builds for that are meant. They have no figures, so a bound
        leaves them out."""
        if self.flash is not None or self.ram is not None:
            return []
        return [each for each in devices if all_occur(self.words, (each.id, each.name, each.soc))]


def _names(board: Board) -> list[str]:
    profiles = [name for each in board.profile for name in (each.name, each.target)]
    return [board.id, board.name, board.soc, *profiles]


def all_occur(words: Iterable[str], names: Iterable[str]) -> bool:
    """Whether every word occurs in one of the names, whatever the case and the punctuation: `wr740n` and
    `TL WR-740N` in TL-WR740N."""
    text = " ".join(_plain(name) for name in names)
    return all(_plain(word) in text for word in words)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def boards_by_profile(boards: Iterable[Board], release: str) -> dict[tuple[str, str], str]:
    """The board that stands for a profile of a release, by (target, profile)."""
    return {
        (profile.target, profile.name): board.id
        for board in boards
        for profile in board.profiles_for(release)
    }
