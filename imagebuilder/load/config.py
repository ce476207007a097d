"""A config with all that it extends, merged for one board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imagebuilder.errors import Fault, FaultsError, UserError
from imagebuilder.load.faults import nearest, validate
from imagebuilder.load.library import Library
from imagebuilder.load.toml import KeyPath, TomlFile, dotted, read_toml
from imagebuilder.model.config import Config, ConfigFile

_NOT_INHERITED = ("extends", "description", "board")
_ACCUMULATE = ("overlay", "services.disabled")


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
        _merge(merged, general, str(file.path), (), origins)
    for file in files:
        _merge(merged, file.values.get("board", {}).get(board, {}), str(file.path), (), origins)
    last = files[-1]
    merged["name"] = last.path.stem
    merged["description"] = last.values.get("description", "")
    return LoadedConfig(Config.model_validate(merged), files, origins)


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
    """Boards and overlays that a file names and that do not exist. Values of a wrong type are passed over:
    they are faults already."""
    boards, overlays = library.board_names(), library.overlay_names()
    differences = _table(file.values.get("board"))
    named: list[tuple[KeyPath, str, object, list[str]]] = [
        (("boards", index), "board", board, boards)
        for index, board in enumerate(_list(file.values.get("boards")))
    ]
    named += [(("board", board), "board", board, boards) for board in differences]
    places: list[tuple[KeyPath, object]] = [((), file.values)]
    places += [(("board", board), table) for board, table in differences.items()]
    for place, table in places:
        for index, use in enumerate(_list(_table(table).get("overlay"))):
            key = (*place, "overlay", index, "name")
            named.append((key, "overlay", _table(use).get("name"), overlays))
    for key, kind, name, known in named:
        if isinstance(name, str) and name not in known:
            yield file.fault(key, f"unknown {kind} '{name}'", nearest(name, known))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _merge(
    into: dict[str, Any],
    values: Mapping[str, Any],
    origin: str,
    path: tuple[str, ...],
    origins: dict[str, tuple[str, ...]],
) -> None:
    """Tables merge key by key, values replace, and the lists that are meant to grow grow."""
    for key, value in values.items():
        place = (*path, key)
        name = dotted(place)
        if name == "packages":
            _merge_packages(into.setdefault(key, {"add": [], "remove": []}), value, origin, origins)
        elif isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value, origin, place, origins)
        elif name in _ACCUMULATE:
            present = into.setdefault(key, [])
            present += [item for item in value if item not in present]
            origins[name] = (*origins.get(name, ()), origin)
        else:
            into[key] = value
            origins[name] = (origin,)


def _merge_packages(
    into: dict[str, list[str]],
    values: Mapping[str, list[str]],
    origin: str,
    origins: dict[str, tuple[str, ...]],
) -> None:
    """The last word on a package counts: a later `remove` takes it out of `add`, and the other way round."""
    for key, other in (("add", "remove"), ("remove", "add")):
        names = values.get(key, [])
        if not names:
            continue
        into[key] += [name for name in names if name not in into[key]]
        into[other] = [name for name in into[other] if name not in names or name in values.get(other, [])]
        place = f"packages.{key}"
        origins[place] = (*origins.get(place, ()), origin)
