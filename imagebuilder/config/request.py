"""What somebody asked for: one image, from a config's name, for one board."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config
from imagebuilder.config.python_form import PythonForm
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.once import Once
from imagebuilder.model.release import check_release


@dataclass(frozen=True)
class Request:
    """What somebody asked for. imagebuilder: a tree's folder or archive, in place of the config's. mirrors:
    asked before the config's. offline: nothing is fetched. sandbox: make is shut in. locked: exactly what the
    config's lock says. release: in place of the config's release, and of its ImageBuilder. python: in place
    of the config's. accept_unchecked: images that nobody can check are handed over too. against: the folder
    of a result, or of many, that the report compares with, in place of the result that was there before.
    private: what is laid into the image is for nobody else to read, and so is what the cache keeps of it.
    trial: what was built is tried. once: where what it shares with others is kept, see sharing(); by default
    each use of a request looks at everything anew."""

    library: Library
    config: str
    board: str
    output: Path
    cache: Path
    imagebuilder: str | None = None
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    sandbox: bool = True
    locked: bool = False
    release: str | None = None
    accept_unchecked: bool = False
    against: Path | None = None
    private: bool = False
    python: PythonForm | None = None
    trial: bool = True
    once: Once | None = field(default=None, compare=False, repr=False)

    def config_name(self) -> str:
        """The config's own name, also where its file was given."""
        return self.library.config_path(self.config).stem

    def for_release(self, release: str) -> Request:
        """This request for another release, of which an ImageBuilder that is given has to be too. UserError
        for what is no release."""
        try:
            check_release(release)
        except ValueError as error:
            raise UserError(f"--release: {error}") from error
        return replace(self, release=release)

    def tree_given(self, config: Config) -> str | None:
        """The ImageBuilder that somebody gave, or the config names: a folder, an archive, or an address."""
        if self.imagebuilder is not None or config.imagebuilder is None:
            return self.imagebuilder
        return self.library.place(config.imagebuilder)

    def mirror_places(self, config: Config) -> tuple[str, ...]:
        """The mirrors in the order in which they are asked: those that were given, then the config's."""
        return (*self.mirrors, *map(self.library.place, config.mirror.urls))

    @property
    def shared(self) -> Once:
        """What others have had already, or nothing."""
        return self.once or Once()

    def trusted_keys(self, config: Config) -> Path | None:
        """The folder of keys that the config trusts besides OpenWrt's own."""
        return self.library.path(config.mirror.keys) if config.mirror.keys else None


def requests(
    project: Path,
    config: str | Sequence[str],
    *,
    board: str | Sequence[str] | None = None,
    everything: bool = False,
    imagebuilder: str | None = None,
    output: Path | None = None,
    cache: Path | None = None,
    mirrors: Sequence[str] = (),
) -> list[Request]:
    """One request for each board, those that are named or all that the config names; of several configs, for
    each config and board, where a board is not named as CONFIG/BOARD, for that config alone. everything:
    where no config is named, all of the project that name boards. project: its folder. output, cache: in
    place of those that the project says.

    One without a board stands for each of several configs whose faults keep its boards from being told:
    whoever works on it meets them. FaultsError where it is the only one; UserError for no config, an unknown
    one, one that names no boards, and two of one name, whose results would have one place.
    """
    library = Library(project)
    configs = _once_each(library, [config] if isinstance(config, str) else config)
    if not configs:
        configs = _with_boards(library) if everything else []
        if not configs:
            what = "config of this project names a board" if everything else "config is named"
            raise UserError(f"no {what}", hint="name one or several; --all alone means all that name boards")
    boards = [board] if isinstance(board, str) else list(board or ())
    asked = Request(
        library,
        configs[0],
        "",
        library.output(output),
        library.cache(cache),
        imagebuilder,
        tuple(mirrors),
    )
    found: list[Request] = []
    for name in configs:
        try:
            named = _boards_for(library, name, boards) if boards else _boards_of(library, name)
        except FaultsError:
            if len(configs) == 1:
                raise
            named = [""]
        found += [replace(asked, config=name, board=each) for each in dict.fromkeys(named)]
    return found


def sharing(asked: Sequence[Request]) -> list[Request]:
    """The same requests, which find trees and secrets once for all of them: for one command, since what
    changes meanwhile is not seen."""
    once = Once()
    return [replace(each, once=once) for each in asked]


def _boards_for(library: Library, config: str, boards: Sequence[str]) -> list[str]:
    """Those of the boards that are named which are for a config. UserError where none is."""
    own = library.config_path(config).stem
    parts = [board.rpartition("/") for board in boards]
    named = [board for config_of, _, board in parts if config_of in ("", own)]
    if not named:
        raise UserError(
            f"no --board is for config '{own}': {', '.join(boards)}",
            hint="leave the config out, or name a board for it",
        )
    return named


def _once_each(library: Library, configs: Sequence[str]) -> list[str]:
    """The configs that were named, each once. UserError for two of one name."""
    names: dict[str, str] = {}
    for name in configs:
        path = library.config_path(name)
        first = library.config_path(names.setdefault(path.stem, name))
        if os.path.realpath(path) != os.path.realpath(first):
            raise UserError(
                f"{first} and {path} are two configs of one name, and so would be their results",
                hint="give one of them another name, or ask for them one after the other",
            )
    return list(names.values())


def _boards_of(library: Library, config: str) -> Sequence[str]:
    boards = load_config(library, config).config.boards
    if not boards:
        hint = "name one with --board, or in its `boards`"
        raise UserError(f"config '{config}' names no boards", hint=hint)
    return boards


def _with_boards(library: Library) -> list[str]:
    """The project's own configs that name boards, and those with faults that keep it from being told."""
    own = (name for name in library.config_names() if not library.comes_along(library.config_path(name)))
    return [name for name in own if _may_name_boards(library, name)]


def _may_name_boards(library: Library, name: str) -> bool:
    try:
        return bool(load_config(library, name).config.boards)
    except FaultsError:
        return True
