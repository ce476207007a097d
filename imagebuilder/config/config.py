"""A config with all that it extends, merged for one board, and which file each value came from.

Later files win, and lists are added to and taken from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imagebuilder.config.faults import nearest, validate
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config, ConfigFile, OverlayUse, overlay_name
from imagebuilder.config.overlay import OverlayError, load_overlays, load_use
from imagebuilder.config.requirement import shown_requirement
from imagebuilder.config.toml import KeyPath, TomlFile, dotted
from imagebuilder.errors import Fault, FaultsError, UserError

_NOT_INHERITED = ("extends", "description", "board")
_COMMON = ("release", "mirror")  # what firmware.toml says for every config
Origins = dict[str, tuple[str, ...]]

# pairs of lists of which the last word on a name counts
_PAIRS = (("packages", "add", "remove"), ("services", "disabled", "enabled"))
# lists of tables that are told apart by their names
_NAMED: tuple[tuple[str, ...], ...] = (("overlay",), ("feed",), ("python", "package"))
# lists that are added to
_GROWING = (("filespec",), ("trial",), ("python", "apps"), ("python", "requirements"))


@dataclass(frozen=True)
class LoadedConfig:
    """A config's files, the one that others extend first, and the merged result.

    origins: for each key of the result (dotted), the file that gave it, or all that added to it.
    """

    config: Config
    files: tuple[TomlFile, ...]
    origins: Mapping[str, tuple[str, ...]]


def load_config(library: Library, name: str, board: str | None = None) -> LoadedConfig:
    """Read a config and all that it extends, and merge it, for one board if one is named. What the project's
    firmware.toml says comes first, so that every config can say otherwise.

    FaultsError with every fault of every file; UserError for an unknown config. Differences for a board that
    the config is not for are a fault of its own file.
    """
    faults: list[Fault] = []
    project = library.project_file
    try:
        library.settings()
    except FaultsError as error:
        faults += error.faults
    files = _chain(library, name, faults)
    for file in files:
        try:
            validate(ConfigFile, file)
        except FaultsError as error:
            faults += error.faults
    folders = _folders(files)
    for file in files:
        faults += _reference_faults(library, file, folders)
    faults += _board_faults(files, board)
    faults += _named_nowhere(files)
    if faults:
        raise FaultsError(faults)
    merged: dict[str, Any] = {}
    origins: dict[str, tuple[str, ...]] = {}
    if project is not None:
        common = {key: value for key, value in project.values.items() if key in _COMMON}
        merge(merged, common, str(project.path), origins)
    for file in files:
        general = {key: value for key, value in file.values.items() if key not in _NOT_INHERITED}
        merge(merged, _placed(library, file, general), str(file.path), origins)
    for file in files:
        its = file.values.get("board", {}).get(board, {})
        merge(merged, _placed(library, file, its), str(file.path), origins)
    last = files[-1]
    merged["name"] = last.path.stem
    merged["description"] = last.values.get("description", "")
    config = Config.model_validate(merged)
    missing = list(_missing_variables(library, config, files))
    if missing:
        raise FaultsError(missing)
    return LoadedConfig(config, files, origins)


def _placed(library: Library, file: TomlFile, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file says (already valid) with a name for each overlay that only its folder names, and with the
    paths of apps that come with this program as they are: such a path counts from the project's folder only
    where the project has something there."""
    if "overlay" in values:
        named = [{"name": overlay_name(use.get("path", "")), **use} for use in values["overlay"]]
        values = {**values, "overlay": named}
    apps = _table(values.get("python")).get("apps")
    if not apps or not library.comes_along(file.path):
        return values
    tables = [{"path": app} if isinstance(app, str) else app for app in apps]
    placed = [{**app, "path": str(library.find(app["path"]))} for app in tables]
    return {**values, "python": {**values["python"], "apps": placed}}


def _parents(file: TomlFile) -> list[str]:
    extends = file.values.get("extends", [])
    return [extends] if isinstance(extends, str) else [name for name in extends if isinstance(name, str)]


def _chain(library: Library, name: str, faults: list[Fault]) -> tuple[TomlFile, ...]:
    """The files of a config: those that it extends first, left to right, each file once. What cannot be
    extended is added to the faults, and the others are read all the same. UserError, FaultsError for the
    config itself."""
    ordered: dict[Path, TomlFile] = {}

    def visit(wanted: str, way: Mapping[Path, str], asker: TomlFile) -> None:
        try:
            place = library.config_path(wanted, asker.path)
            if place in way:
                names = list(way.values())[list(way).index(place) :]
                circle = " → ".join((*names, wanted))
                faults.append(_extends_fault(asker, wanted, f"extends itself: {circle}"))
                return
            if place in ordered:
                return
            file = library.read(place)
        except FaultsError as error:
            faults.extend(error.faults)
        except UserError as error:
            faults.append(_extends_fault(asker, wanted, error.message, error.hint))
        else:
            add(file, {**way, place: wanted})

    def add(file: TomlFile, way: Mapping[Path, str]) -> None:
        """way: files that extend one another down to this one, by their places, and how each was named."""
        for parent in _parents(file):
            visit(parent, way, file)
        ordered[list(way)[-1]] = file

    first = library.config_path(name)
    add(library.read(first), {first: name})
    return tuple(ordered.values())


def _extends_fault(asker: TomlFile, wanted: str, message: str, hint: str | None = None) -> Fault:
    """A fault of the file that extends another, at that one's name."""
    extends = asker.values["extends"]
    key: KeyPath = ("extends",) if isinstance(extends, str) else ("extends", extends.index(wanted))
    return asker.fault(key, message, hint)


def _board_faults(files: Sequence[TomlFile], asked: str | None) -> Iterable[Fault]:
    """Differences of a config's own for boards that it is not for. What it extends may know more boards than
    it has. asked: the board that somebody names besides."""
    last = files[-1]
    named = next((given for each in reversed(files) if (given := _list(each.values.get("boards")))), [])
    boards = {*(each for each in named if isinstance(each, str)), *([asked] if asked else [])}
    for board in _table(last.values.get("board")) if named else ():
        if board not in boards:
            hint = nearest(board, boards) or ""
            yield last.fault(
                ("board", board),
                f"the config is not for the board '{board}', so that this would count for nothing",
                f"{hint}; or add it to `boards`",
            )


def _named_nowhere(files: Sequence[TomlFile]) -> Iterable[Fault]:
    """What a file takes out or has rules for, and neither it nor another file of the config names: overlays,
    feeds and recipes. What exists, and this config does not have, is no fault: it counts for nothing."""
    places = [(file, place, table) for file in files for place, table in _tables(file)]
    given: dict[KeyPath, set[str]] = {table: set() for table in _NAMED}
    for _, _, values in places:
        for table in _NAMED:
            given[table] |= {
                name for use in _uses(values, table) if not use.get("remove") and (name := _name_of(use))
            }
    for file, place, values in places:
        for table in _NAMED[1:]:  # an overlay is known by its folder
            for index, use in enumerate(_uses(values, table)):
                name = _name(use)
                if use.get("remove") is True and name and name not in given[table]:
                    what = f"there is no {table[-1]} '{name}' to take out"
                    yield file.fault((*place, *table, index, "name"), what, nearest(name, given[table]))
        for index, use in enumerate(_uses(values, ("filespec",))):
            name = _name(use, "overlay")
            if name and name not in given["overlay",]:
                what = f"the config has no overlay '{name}'"
                yield file.fault(
                    (*place, "filespec", index, "overlay"), what, nearest(name, given["overlay",])
                )


def _tables(file: TomlFile) -> Iterable[tuple[KeyPath, Mapping[str, Any]]]:
    """A file's values for all boards, and those for one board each, with where they stand."""
    yield (), file.values
    for board, values in _table(file.values.get("board")).items():
        yield ("board", board), _table(values)


def _uses(values: Mapping[str, Any], table: KeyPath) -> list[Mapping[str, Any]]:
    """The tables of a list of tables, an empty one for each that is none."""
    for key in table[:-1]:
        values = _table(values.get(str(key)))
    return [_table(use) for use in _list(values.get(str(table[-1])))]


def _name(use: Mapping[str, Any], key: str = "name") -> str:
    name = use.get(key)
    return name if isinstance(name, str) else ""


def _overlay_uses(file: TomlFile) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """The overlays that a file names, for every board and for one, each with its place in the file."""
    for place, values in _tables(file):
        for index, use in enumerate(_uses(values, ("overlay",))):
            yield (*place, "overlay", index), use


def _name_of(use: Mapping[str, Any]) -> str | None:
    """The overlay's name, its own or its folder's; None where it is of a wrong type."""
    path = use.get("path")
    name = use.get("name", overlay_name(path) if isinstance(path, str) else None)
    return name if isinstance(name, str) else None


def _folders(files: Iterable[TomlFile]) -> dict[str, str]:
    """The folders of overlays that a config's files give by paths, by name; what is given last."""
    uses = [use for file in files for _, use in _overlay_uses(file)]
    return {str(_name_of(use)): use["path"] for use in uses if isinstance(use.get("path"), str)}


def _reference_faults(library: Library, file: TomlFile, folders: Mapping[str, str]) -> Iterable[Fault]:
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
    for key, values in _overlay_uses(file):
        yield from _overlay_faults(library, file, key, values, folders)


def _overlay_faults(
    library: Library,
    file: TomlFile,
    key: KeyPath,
    values: Mapping[str, Any],
    folders: Mapping[str, str],
) -> Iterable[Fault]:
    try:
        use = OverlayUse.model_validate(dict(values))
    except ValidationError:
        return
    name, known = use.name, library.overlay_names()
    if "name" not in values and (folders[name] != use.path or name in known):
        message = f"this overlay and another one are both called '{name}'"
        yield file.fault((*key, "path"), message, 'give it a name of its own: name = "NAME"')
        return
    if use.path is None and name in folders:
        use = use.model_copy(update={"path": folders[name]})
    if use.path is None and name not in known:
        yield file.fault((*key, "name"), f"unknown overlay '{name}'", nearest(name, (*known, *folders)))
        return
    try:
        overlay = load_use(library, use).overlay
    except FaultsError as error:
        yield from error.faults
        return
    except OverlayError as error:
        if "path" not in values:
            raise
        yield file.fault((*key, "path"), error.message, error.hint)
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
        overlay = load_use(library, use).overlay
        for variable, problem in overlay.problems(use):
            if variable:
                continue
            uses = [
                (file, index)
                for file in files
                for index, each in enumerate(_list(file.values.get("overlay")))
                if _name_of(_table(each)) == use.name
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


def merge(
    into: dict[str, Any],
    values: Mapping[str, Any],
    origin: str,
    origins: Origins,
    path: tuple[str, ...] = (),
) -> None:
    """Merge one file's values (already valid) into what earlier files said, and note who said what. path: of
    the table that they are in.

    Tables merge key by key and values replace. `packages` and `services` are pairs of lists: a name that a
    later file puts into one leaves the other. Overlays, feeds and recipes are told apart by name: one that is
    named again keeps its place and gets the later values, and `remove = true` takes it out. Apps,
    requirements, filespecs and trials are added to those of earlier files.
    """
    for key, value in values.items():
        place = (*path, key)
        pair = next((pair for pair in _PAIRS if place == pair[:1]), None)
        if pair is not None:
            _merge_pair(into.setdefault(key, {pair[1]: [], pair[2]: []}), value, origin, pair, origins)
        elif place in _NAMED:
            _merge_named(into.setdefault(key, []), value, origin, place, origins)
        elif place in _GROWING:
            into[key] = [*into.get(key, []), *(each for each in value if each not in into.get(key, []))]
            origins[dotted(place)] = (*origins.get(dotted(place), ()), origin)
        elif isinstance(value, Mapping):
            merge(into.setdefault(key, {}), value, origin, origins, place)
        else:
            into[key] = value
            origins[dotted(place)] = (origin,)


def _merge_pair(
    into: dict[str, Any],
    values: Mapping[str, Any],
    origin: str,
    pair: tuple[str, str, str],
    origins: Origins,
) -> None:
    table, *keys = pair
    for key, other in (keys, reversed(keys)):
        names = values.get(key, [])
        if not names:
            continue
        into[key] += [name for name in names if name not in into[key]]
        into[other] = [name for name in into[other] if name not in names or name in values.get(other, [])]
        place = f"{table}.{key}"
        origins[place] = (*origins.get(place, ()), origin)
    for key in values.keys() - {*keys}:
        into[key] = values[key]
        origins[f"{table}.{key}"] = (origin,)


def _merge_named(
    into: list[dict[str, Any]],
    uses: list[Mapping[str, Any]],
    origin: str,
    table: tuple[str, ...],
    origins: Origins,
) -> None:
    for use in uses:
        name = use["name"]
        place = dotted((*table, name))
        present = next((each for each in into if each["name"] == name), None)
        if use.get("remove"):
            if present is None:
                continue
            into.remove(present)
            for key in [key for key in origins if key == place or key.startswith(f"{place}.")]:
                del origins[key]
            continue
        if present is None:
            present = {"name": name}
            into.append(present)
            origins[place] = (origin,)
        for key, value in use.items():
            if isinstance(value, Mapping):
                present[key] = {**present.get(key, {}), **value}
                origins |= {dotted((*table, name, each)): (origin,) for each in value}
            elif key not in ("name", "remove"):
                present[key] = value
                origins[dotted((*table, name, key))] = (origin,)


@dataclass(frozen=True)
class Explained:
    """One value of a merged config. files: what gave it, or all that added to it."""

    key: str
    value: Any
    files: tuple[str, ...]


def shown_config(library: Library, config: Config) -> Config:
    """The config with the values of secret variables blotted out, and with the passwords of addresses."""
    shown = tuple(each.shown() for each in load_overlays(library, config))
    python = config.python
    required = tuple(
        each.model_copy(update={"name": shown_requirement(each.name)}) for each in python.requirements
    )
    python = python.model_copy(update={"requirements": required})
    return config.model_copy(update={"overlay": shown, "python": python})


def replaced_files(library: Library, loaded: LoadedConfig) -> dict[Path, Path]:
    """What of the project's a config uses in place of what comes with this program: files of configs, and
    folders of overlays."""
    uses = (use for use in loaded.config.overlay if use.path is None)
    folders = [library.overlay_folder(use.name) for use in uses]
    pairs = ((path, library.replaced(path)) for path in (*(file.path for file in loaded.files), *folders))
    return {path: other for path, other in pairs if other is not None}


def explain(library: Library, loaded: LoadedConfig) -> list[Explained]:
    """Every value that a file gave, in the order in which they were given first."""
    values = _flat(shown_config(library, loaded.config).model_dump(mode="json"))
    return [Explained(key, values[key], files) for key, files in loaded.origins.items() if key in values]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys to values; overlays and feeds by their names, as the origins have them."""
    flat: dict[str, Any] = {}
    for table in ("overlay", "feed"):
        for use in values.pop(table):
            flat[dotted((table, use["name"]))] = "used"
            for name, value in (use | use.get("variables", {})).items():
                flat[dotted((table, use["name"], name))] = value
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {dotted((key, name)): each for name, each in value.items()}
        else:
            flat[key] = value
    return flat
