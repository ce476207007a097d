"""A config of what was brought along, written into the project; nothing is overwritten."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import tomlkit
from tomlkit.items import Array

from imagebuilder.called import typed
from imagebuilder.config.bring import BroughtImage
from imagebuilder.config.config import load_config
from imagebuilder.config.init import new_config
from imagebuilder.config.library import Library
from imagebuilder.config.script import KnownText
from imagebuilder.errors import UserError
from imagebuilder.host.handover import write_new
from imagebuilder.model.release import covers, is_embedded


@dataclass(frozen=True)
class WrittenConfig:
    """What was written. notes: what could not be carried over, as the file's comments have it."""

    path: Path
    boards: tuple[str, ...]
    notes: tuple[str, ...]


_COLUMNS = 110
FIRST_BOOT = "etc/uci-defaults/99-first-boot"


def name_for(found: BroughtImage, file: Path | None) -> str:
    """A config's name where nobody says one: the file's, or the profile's."""
    text = file.stem if file is not None else "-".join(found.profiles[:1]) or "imported"
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "imported"


def boards_for(library: Library, found: BroughtImage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The boards that the profiles are, the project's own before one that comes along, and a note for each
    profile that no board is. FaultsError."""
    boards: list[str] = []
    notes: list[str] = []
    for name in found.profiles:
        fitting = [
            board.id
            for board in library.boards()
            if any(
                profile.name == name
                and found.target in (None, profile.target)
                and (found.release is None or covers(profile.releases, found.release))
                and not is_embedded(profile.releases)
                for profile in board.profile
            )
        ]
        own = [one for one in fitting if not library.comes_along(library.board_path(one))]
        if len(own or fitting) == 1:
            boards += own or fitting
        elif fitting:
            notes.append(f"boards: the profile {name} is that of several boards: {', '.join(fitting)}")
        else:
            add = typed(f"boards add {name} --imagebuilder PATH")
            notes.append(f"boards: no board has the profile {name}; `{add}` writes one")
    return tuple(dict.fromkeys(boards)), tuple(notes)


def folder_of(files: KnownText, near: Sequence[Path]) -> Path | None:
    """The folder that make's FILES means, as far as it is here: make counts it from the tree's folder, which
    is not known, so its end is looked for in these folders. None where it is not there."""
    known = files.plain
    if known is not None and known.startswith("/"):
        return Path(known) if os.path.isdir(known) else None  # noqa: PTH112 - raises nothing
    parts = [part for part in PurePosixPath(files.tail.strip()).parts if part not in ("/", "..", ".")]
    ends = [Path(*parts[number:]) for number in range(len(parts))]
    places = (folder / end for folder in near for end in ends)
    return next((place for place in places if os.path.isdir(place)), None)  # noqa: PTH112


def write_brought(
    library: Library, name: str, found: BroughtImage, *, near: Sequence[Path] = (), board: str | None = None
) -> WrittenConfig:
    """Write configs/NAME.toml, and load it to see that it is good; where it was written. near: folders in
    which FILES is looked for; board: the one to build for, whatever the profile says.

    UserError if there is one already; nothing is left then.
    """
    boards, notes = ((board,), ()) if board is not None else boards_for(library, found)
    overlays: list[dict[str, Any]] = []
    said = [*found.notes, *notes]
    if found.files is not None:
        place = folder_of(found.files, near)
        if place is None:
            said.append(f"FILES={found.files.shown()}: no such folder is here; [[overlay]] path = names it")
        else:
            overlays.append({"path": _from_project(library, place)})
    if found.whole:
        said.append(
            "packages: all that the list names go in; defaults that it does not name are not left out"
        )
    first_boot = library.root / "overlays" / f"{name}-first-boot"
    if found.first_boot is not None:
        overlays.append({"name": first_boot.name})
        if os.path.lexists(first_boot):
            raise UserError(f"{first_boot} exists already", hint="choose another name: --name NAME")
    text = _text(found, boards, overlays, said, schema=library.has_schema("config"))

    def check() -> None:
        load_config(library, name, boards[0] if boards else None)

    if found.first_boot is None:
        return WrittenConfig(new_config(library, name, text, check), boards, tuple(said))
    script = first_boot / "files" / FIRST_BOOT
    declaration = 'description = "What the request has run at the first start"\n'

    def with_script() -> None:
        write_new(script, (found.first_boot or "").encode("utf-8", "replace"))
        write_new(first_boot / "overlay.toml", declaration.encode())
        check()

    return WrittenConfig(new_config(library, name, text, with_script), boards, tuple(said))


def _from_project(library: Library, place: Path) -> str:
    """A path as a config of the project names it."""
    place, root = place.absolute(), library.root.absolute()
    inside = Path(os.path.normpath(place)).is_relative_to(root)
    return os.path.relpath(place, root) if inside else os.path.normpath(place)


def _text(
    found: BroughtImage,
    boards: Sequence[str],
    overlays: Sequence[dict[str, Any]],
    said: Sequence[str],
    *,
    schema: bool,
) -> str:
    document = tomlkit.document()
    lines = [f"Imported from {found.source}."]
    lines += ["What could not be carried over:"] if said else []
    for line in (*lines, *(f"- {each}" for each in said)):
        for part in textwrap.wrap(_plain(line), _COLUMNS, subsequent_indent="  ", break_on_hyphens=False):
            document.add(tomlkit.comment(part))
    document.add(tomlkit.nl())
    document.add("extends", tomlkit.item("base"))
    if boards:
        document.add("boards", _array(boards))
    if found.release is not None:
        document.add("release", tomlkit.item(found.release))
    tables: dict[str, dict[str, tuple[str, ...] | str | int | None]] = {
        "packages": {"add": found.add, "remove": found.remove},
        "services": {"disabled": found.disabled},
        "image": {"extra_name": found.extra_name, "rootfs_partsize": found.rootfs_partsize},
    }
    for name, values in tables.items():
        table = tomlkit.table()
        for key, value in values.items():
            if value:
                table.add(key, _array(value) if isinstance(value, tuple) else tomlkit.item(value))
        if table:
            document.add(name, table)
    if overlays:
        document.add("overlay", tomlkit.item(list(overlays)))
    head = "#:schema ../schemas/config.schema.json\n\n" if schema else ""
    return head + tomlkit.dumps(document)


def _array(values: Sequence[str]) -> Array:
    """A list, on several lines where it is long."""
    array = tomlkit.array()
    array.extend(values)
    return array.multiline(len(values) > 6)


def _plain(text: str) -> str:
    """A text as it can stand in a comment."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text.encode("utf-8", "replace").decode())
