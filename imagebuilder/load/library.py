"""The folders that boards, configs and overlays are found in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.load.faults import nearest, validate
from imagebuilder.load.toml import read_toml
from imagebuilder.model.board import Board


@dataclass(frozen=True)
class Library:
    """A project folder: `boards/`, `configs/` and `overlays/` lie in root."""

    root: Path

    def board_names(self) -> list[str]:
        """The names of all boards, sorted."""
        return sorted(path.stem for path in (self.root / "boards").glob("*.toml"))

    def config_names(self) -> list[str]:
        """The names of all configs, sorted."""
        return sorted(path.stem for path in (self.root / "configs").glob("*.toml"))

    def overlay_names(self) -> list[str]:
        """The names of all overlays, sorted."""
        return sorted(path.parent.name for path in (self.root / "overlays").glob("*/overlay.toml"))

    def board(self, name: str) -> Board:
        """A board by its name. UserError naming the nearest one, or FaultsError."""
        if name not in self.board_names():
            raise UserError(f"unknown board '{name}'", hint=nearest(name, self.board_names()))
        file = read_toml(self.root / "boards" / f"{name}.toml")
        return validate(Board, file, {"id": name, **file.values})

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
