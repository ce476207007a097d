"""What somebody asked for: one image, from a config's name, for one board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config
from imagebuilder.errors import UserError
from imagebuilder.model.release import check_release


@dataclass(frozen=True)
class Request:
    """What somebody asked for. imagebuilder: a tree's folder or archive, in place of the config's. mirrors:
    asked before the config's. offline: nothing is fetched. sandbox: make is shut in. locked: exactly what the
    config's lock says. release: in place of the config's release, and of its ImageBuilder.
    accept_unchecked: images that nobody can check are handed over too."""

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

    def trusted_keys(self, config: Config) -> Path | None:
        """The folder of keys that the config trusts besides OpenWrt's own."""
        return self.library.path(config.mirror.keys) if config.mirror.keys else None


def requests(
    project: Path,
    config: str,
    *,
    board: str | None = None,
    imagebuilder: str | None = None,
    output: Path | None = None,
    cache: Path | None = None,
    mirrors: Sequence[str] = (),
) -> list[Request]:
    """One request for each board: the one that is named, or all that the config names. project: its folder.
    output, cache: in place of those that the project says. UserError for no board."""
    library = Library(project)
    boards = (board,) if board else load_config(library, config).config.boards
    if not boards:
        hint = "name one with --board, or in its `boards`"
        raise UserError(f"config '{config}' names no boards", hint=hint)
    asked = Request(
        library,
        config,
        boards[0],
        library.output(output),
        library.cache(cache),
        imagebuilder,
        tuple(mirrors),
    )
    return [replace(asked, board=name) for name in boards]
