"""The folders that boards, configs and overlays are found in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.config.board import Board, UnsupportedDevice, UnsupportedFile
from imagebuilder.config.faults import nearest, validate
from imagebuilder.config.toml import TomlFile, read_toml
from imagebuilder.errors import Fault, FaultsError, UserError

UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Library:
    """A project folder: `boards/`, `configs/` and `overlays/` lie in root. kept: files that were read, where
    each is read once."""

    root: Path
    kept: dict[Path, TomlFile] | None = field(default=None, compare=False, repr=False)

    def once(self) -> Library:
        """The same folder as it is now: each file of it is read when it is first asked for, and then kept.
        For one command: who asks again for what may have changed asks another one."""
        return self if self.kept is not None else replace(self, kept={})

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
                    hint="python3 build.py boards lists what is",
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
            if path.is_file():
                return path
            raise UserError(f"there is no config file '{name}'")
        if name not in self.config_names():
            raise UserError(f"unknown config '{name}'", hint=nearest(name, self.config_names()))
        return self.root / "configs" / f"{name}.toml"

    def overlay_folder(self, name: str) -> Path:
        """The folder of an overlay."""
        if name not in self.overlay_names():
            raise UserError(f"unknown overlay '{name}'", hint=nearest(name, self.overlay_names()))
        return self.root / "overlays" / name
