"""A config with all that it extends, merged for one board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from imagebuilder.config.faults import nearest, validate
from imagebuilder.config.library import Library
from imagebuilder.config.merge import merge
from imagebuilder.config.model_config import Config, ConfigFile, OverlayUse
from imagebuilder.config.overlay import load_overlay
from imagebuilder.config.toml import KeyPath, TomlFile, read_toml
from imagebuilder.errors import Fault, FaultsError, UserError

_NOT_INHERITED = ("extends", "description", "board")


@dataclass(frozen=True)
class LoadedConfig:
    """A config's files, the one that others extend first, and the merged result.

    origins: for each key of the result (dotted), the file that gave it, or all that added to it.
    """

    config: Config
    files: tuple[TomlFile, ...]
    origins: Mapping[str, tuple[str, ...]]


def load_config(library: Library, name: str, board: str | None = None) -> LoadedConfig:
    """Read a config and all that it extends, and merge it, for one board if one is named.

    FaultsError with every fault of every file; UserError for an unknown config.
    """
    files = _chain(library, name)
    faults: list[Fault] = []
    for file in files:
        try:
            validate(ConfigFile, file)
        except FaultsError as error:
            faults += error.faults
        faults += _reference_faults(library, file)
    if faults:
        raise FaultsError(faults)
    merged: dict[str, Any] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for file in files:
        general = {key: value for key, value in file.values.items() if key not in _NOT_INHERITED}
        merge(merged, general, str(file.path), origins)
    for file in files:
        merge(merged, file.values.get("board", {}).get(board, {}), str(file.path), origins)
    last = files[-1]
    merged["name"] = last.path.stem
    merged["description"] = last.values.get("description", "")
    config = Config.model_validate(merged)
    missing = list(_missing_variables(library, config, files))
    if missing:
        raise FaultsError(missing)
    return LoadedConfig(config, files, origins)


def _parents(file: TomlFile) -> list[str]:
    extends = file.values.get("extends", [])
    return [extends] if isinstance(extends, str) else [name for name in extends if isinstance(name, str)]


def _chain(library: Library, name: str) -> tuple[TomlFile, ...]:
    """The files of a config: those that it extends first, left to right, each file once."""
    ordered: dict[str, TomlFile] = {}

    def visit(wanted: str, path: tuple[str, ...], asker: TomlFile | None) -> None:
        if wanted in path:
            circle = " → ".join((*path[path.index(wanted) :], wanted))
            raise FaultsError([_fault_of(asker, wanted, f"extends itself: {circle}")])
        if wanted in ordered:
            return
        try:
            file = read_toml(library.config_path(wanted))
        except FaultsError:
            raise
        except UserError as error:
            if asker is None:
                raise
            raise FaultsError([_fault_of(asker, wanted, error.message, error.hint)]) from error
        if not isinstance(file.values.get("extends", []), str | list):
            raise FaultsError([file.fault(("extends",), "expected the name of a config, or a list of names")])
        for parent in _parents(file):
            visit(parent, (*path, wanted), file)
        ordered[wanted] = file

    visit(name, (), None)
    return tuple(ordered.values())


def _fault_of(asker: TomlFile | None, wanted: str, message: str, hint: str | None = None) -> Fault:
    if asker is None:
        return Fault(wanted, None, "extends", message, hint)
    return asker.fault(("extends",), message, hint)


def _reference_faults(library: Library, file: TomlFile) -> Iterable[Fault]:
    """Boards and overlays that a file names and that do not exist, and values that an overlay's variables
    cannot have. What is of a wrong type is passed over: it is a fault already."""
    boards = library.board_names()
    differences = _table(file.values.get("board"))
    named: list[tuple[KeyPath, object]] = [
        (("boards", index), board) for index, board in enumerate(_list(file.values.get("boards")))
    ]
    named += [(("board", board), board) for board in differences]
    reasons = {device.id: device.reason for device in library.unsupported()}
    for key, name in named:
        if name in reasons:
            yield file.fault(key, f"board '{name}' cannot be built for: {reasons[name]}")
        elif isinstance(name, str) and name not in boards:
            yield file.fault(key, f"unknown board '{name}'", nearest(name, boards))
    places: list[tuple[KeyPath, object]] = [((), file.values)]
    places += [(("board", board), table) for board, table in differences.items()]
    for place, table in places:
        for index, use in enumerate(_list(_table(table).get("overlay"))):
            yield from _overlay_faults(library, file, (*place, "overlay", index), _table(use))


def _overlay_faults(
    library: Library, file: TomlFile, key: KeyPath, values: Mapping[str, Any]
) -> Iterable[Fault]:
    name, known = values.get("name"), library.overlay_names()
    if not isinstance(name, str):
        return
    if name not in known:
        yield file.fault((*key, "name"), f"unknown overlay '{name}'", nearest(name, known))
        return
    try:
        overlay = load_overlay(library, name)[0]
        use = OverlayUse.model_validate(dict(values))
    except FaultsError as error:
        yield from error.faults
        return
    except ValidationError:
        return
    for variable in use.variables:
        if variable not in overlay.variables:
            message = f"overlay '{name}' has no variable '{variable}'"
            yield file.fault((*key, "variables", variable), message, nearest(variable, overlay.variables))
    for variable, problem in overlay.problems(use):
        if variable:
            yield file.fault((*key, "variables", variable), problem)


def _missing_variables(library: Library, config: Config, files: tuple[TomlFile, ...]) -> Iterable[Fault]:
    """Variables without a default that no file gives: a fault of the last file that uses the overlay."""
    for use in config.overlay:
        overlay = load_overlay(library, use.name)[0]
        for variable, problem in overlay.problems(use):
            if variable:
                continue
            uses = [
                (file, index)
                for file in files
                for index, each in enumerate(_list(file.values.get("overlay")))
                if _table(each).get("name") == use.name
            ]
            if uses:
                file, index = uses[-1]
                yield file.fault(("overlay", index), problem)
            else:
                yield Fault(str(files[-1].path), None, "overlay", problem)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
