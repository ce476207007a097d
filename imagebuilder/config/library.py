"""The folders that boards, configs and overlays are found in: a project's, and below them those that come
with this program; and which boards somebody means: by flash, by RAM, by words."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from imagebuilder.called import typed
from imagebuilder.config.board import REMOVABLE, Board, UnsupportedDevice, UnsupportedFile
from imagebuilder.config.faults import nearest, validate
from imagebuilder.config.model_project import ProjectFile
from imagebuilder.config.places import PROJECT_FILE, cache_folder, results_folder, shipped_folder
from imagebuilder.config.toml import TomlFile, read_toml
from imagebuilder.errors import Fault, FaultsError, UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.model.size import parse_size

_FOLDERS = ("boards", "configs", "overlays", "apps")
UNSUPPORTED = "unsupported"
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_BOUND = re.compile(r"\s*(>=|<=|=|>|<)\s*(\S+)\s*")


def checkout() -> Path | None:
    """The folder of this program's sources and tests; None where it was installed from a wheel."""
    shipped = shipped_folder()
    return None if shipped.name == "shipped" else shipped


@dataclass(frozen=True)
class Library:
    """A project's folder, root, over what comes with this program: boards, configs and overlays of both, and
    of two of one name the project's. All else is the project's own: locks, secrets, apps, results, and what
    relative paths in its files name.

    kept: files that were read, where each is read once.
    """

    root: Path
    shipped: Path = field(default_factory=shipped_folder)
    kept: dict[Path, TomlFile] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """UserError for a folder that is none."""
        if not os.path.isdir(self.root):  # noqa: PTH112 - raises nothing
            raise UserError(
                f"{self.root} is no folder",
                hint="--project names the folder in which your boards, configs and overlays are",
            )

    @cached_property
    def layers(self) -> tuple[Path, ...]:
        """The folders in which things are looked for, the one that wins first."""
        if os.path.realpath(self.root) == os.path.realpath(self.shipped):
            return (self.root,)
        return (self.root, self.shipped)

    def find(self, place: str) -> Path:
        """What lies there in the project, or else comes with this program; the project's place for what
        neither has. place: from those folders on, `boards/NAME.toml`."""
        found = (layer / place for layer in self.layers if os.path.lexists(layer / place))
        return next(found, self.root / place)

    def comes_along(self, path: Path) -> bool:
        """Whether that is a file of this program's, and not of the project's: either may lie in the other."""
        inside = len(self.layers) > 1 and path.is_relative_to(self.shipped)
        return inside and path.relative_to(self.shipped).parts[:1] in {(folder,) for folder in _FOLDERS}

    def replaced(self, path: Path) -> Path | None:
        """What comes with this program and is not used, because the project has this in its place."""
        if len(self.layers) == 1 or not path.is_relative_to(self.root):
            return None
        other = self.shipped / path.relative_to(self.root)
        return other if other.exists() else None

    def _named(self, pattern: str) -> set[Path]:
        """What matches in any of the folders, from these on."""
        return {path.relative_to(layer) for layer in self.layers for path in layer.glob(pattern)}

    @property
    def project_file(self) -> TomlFile | None:
        """firmware.toml, where there is one. FaultsError for what is no TOML."""
        path = self.root / PROJECT_FILE
        return self.read(path) if os.path.lexists(path) else None

    def settings(self) -> ProjectFile:
        """What firmware.toml says. FaultsError."""
        file = self.project_file
        return ProjectFile() if file is None else validate(ProjectFile, file)

    def has_schema(self, kind: str) -> bool:
        """Whether files of that kind can name a schema for editors: `../schemas/KIND.schema.json`."""
        return (self.root / f"schemas/{kind}.schema.json").is_file()

    def path(self, text: str) -> Path:
        """A path that a file of the project names, counted from the project's folder."""
        return self.root / expand_home(text)

    def place(self, text: str) -> str:
        """The same of what may be an address too, which stays as it is."""
        return text if "://" in text else str(self.path(text))

    def mirrors(self) -> tuple[str, ...]:
        """The mirrors that firmware.toml names. FaultsError."""
        return tuple(map(self.place, self.settings().mirror.urls))

    def keys(self) -> Path | None:
        """The folder of keys that firmware.toml has trusted besides OpenWrt's own. FaultsError."""
        keys = self.settings().mirror.keys
        return None if keys is None else self.path(keys)

    def output(self, given: Path | None = None) -> Path:
        """The absolute path of the folder for results. given: by --output. FaultsError."""
        return results_folder(self.root, self.settings().output) if given is None else given.absolute()

    def cache(self, given: Path | None = None) -> Path:
        """The folder of the cache. given: by --cache. FaultsError; HostError for a user without a home."""
        return cache_folder(self.root, self.settings().cache) if given is None else given

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
        return sorted({path.stem for path in self._named("boards/*.toml")} - {UNSUPPORTED})

    def config_names(self) -> list[str]:
        """The names of all configs, sorted."""
        return sorted({path.stem for path in self._named("configs/*.toml")})

    def overlay_names(self) -> list[str]:
        """The names of all overlays, sorted."""
        return sorted({path.parent.name for path in self._named("overlays/*/overlay.toml")})

    def board_path(self, name: str) -> Path:
        """The file in which a board of that name stands, or would stand."""
        return self.find(f"boards/{name}.toml")

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
        """The devices of boards/unsupported.toml, but those that there is a board for; none where there is no
        such file."""
        files = (layer / "boards" / f"{UNSUPPORTED}.toml" for layer in reversed(self.layers))
        devices = {
            device.id: device
            for path in files
            if path.is_file()
            for device in validate(UnsupportedFile, self.read(path)).device
        }
        boards = self.board_names() if devices else ()
        return tuple(device for name, device in devices.items() if name not in boards)

    def config_path(self, name: str, asker: Path | None = None) -> Path:
        """The file of a config that is given by its name or by its path. asker: the file that extends it; one
        of the project's that extends its own name means what comes with this program."""
        if name.endswith(".toml"):
            path = Path(name) if asker is None else self.path(name)
            if not os.path.lexists(path):
                raise UserError(f"there is no config file '{name}'", hint=f"looked for: {path.absolute()}")
            return path
        path = self.find(f"configs/{name}.toml")
        # of a thousand boards each asks: all names are looked through where something is wrong with one
        is_plain = bool(name) and "/" not in name and path.is_file()
        if not is_plain and name not in self.config_names():
            hint = nearest(name, self.config_names())
            if ("/" in name or "." in name) and not os.path.lexists(name):  # meant as a path, by its looks
                raise UserError(f"there is no file '{name}', and no config of that name", hint=hint)
            raise UserError(f"unknown config '{name}'", hint=hint)
        return (self.replaced(path) or path) if path == asker else path

    def overlay_folder(self, name: str) -> Path:
        """The folder of an overlay."""
        if name not in self.overlay_names():
            raise UserError(f"unknown overlay '{name}'", hint=nearest(name, self.overlay_names()))
        return self.find(f"overlays/{name}/overlay.toml").parent


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
