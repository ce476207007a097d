"""A tree of files as a value: what a package or an overlay holds, before anything is written; and a package
that is made here, with what its file will hold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from imagebuilder.errors import UserError
from imagebuilder.model.package import Package

Kind = Literal["file", "dir", "symlink"]
DIR_MODE = 0o755  # what `mkdir -p` gives under the umask that all image building needs
FILE_MODE = 0o644
LINK_MODE = 0o777  # Linux knows no other


class FileTreeError(UserError):
    """Paths that cannot stand in one tree: not absolute, with '..', or below something that is no folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree. mode: the permission bits, 0 to 0o7777. A file's content is in `data`, or, by
    reference, in the host file `source`; a symbolic link's text is `target`."""

    kind: Kind
    mode: int
    source: Path | None = None
    data: bytes | None = None
    target: str = ""

    def with_mode(self, mode: int) -> Entry:
        """This entry with another mode; a symbolic link stays as it is."""
        return self if self.kind == "symlink" or self.mode == mode else replace(self, mode=mode)


def folder(mode: int = DIR_MODE) -> Entry:
    """A folder."""
    return Entry("dir", mode)


def file_at(source: Path, mode: int = FILE_MODE) -> Entry:
    """A file whose content is that of a host file."""
    return Entry("file", mode, source=source)


def file_of(data: bytes, mode: int = FILE_MODE) -> Entry:
    """A file with this content."""
    return Entry("file", mode, data=data)


def symlink(target: str) -> Entry:
    """A symbolic link with this text."""
    return Entry("symlink", LINK_MODE, target=target)


def parent_of(path: str) -> str:
    """The folder of a target path: '/usr' for '/usr/bin', '/' for '/usr'."""
    return path.rpartition("/")[0] or "/"


def _check_path(path: str) -> None:
    """Refuse what does not name exactly one place below '/'."""
    first, *parts = path.split("/")
    if first or not parts or not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
        raise FileTreeError(
            f"{path!r} is no place in a file tree",
            hint="a path is absolute and plain, such as /usr/bin/python3: no '.', '..' or empty part",
        )


def _check_entry(path: str, entry: Entry) -> None:
    """Refuse an entry that says two things or nothing."""
    contents = (entry.source is not None) + (entry.data is not None)
    if contents != (entry.kind == "file") or (entry.kind == "symlink") != bool(entry.target):
        raise FileTreeError(f"{path}: a {entry.kind} with the wrong content: {entry}")
    if not 0 <= entry.mode <= 0o7777:
        raise FileTreeError(f"{path}: {entry.mode:#o} is no mode", hint="a mode is 0 to 07777")


class FileTree(Mapping[str, Entry]):
    """Target paths ('/usr/bin/x') to entries, immutable, in the order of the paths as text.

    Every folder above an entry is in the tree; those that were not given get DIR_MODE. '/' itself is not.
    Raises FileTreeError for a path that is not plain and absolute or lies below a file or a link.
    """

    __slots__ = ("_entries", "_paths")

    def __init__(self, entries: Mapping[str, Entry] | Iterable[tuple[str, Entry]] = ()) -> None:
        given = dict(entries)
        for path, entry in given.items():
            _check_path(path)
            _check_entry(path, entry)
        for path in list(given):
            above = parent_of(path)
            while above != "/":
                if above not in given:
                    given[above] = folder()
                elif given[above].kind != "dir":
                    raise FileTreeError(f"{path} lies below {above}, which is a {given[above].kind}")
                above = parent_of(above)
        self._paths: list[str] = sorted(given)
        self._entries: dict[str, Entry] = {path: given[path] for path in self._paths}

    def _only(self, paths: Iterable[str]) -> FileTree:
        """These of the tree's paths, in its order and with every folder above them: nothing to check."""
        tree = FileTree()
        tree._paths = list(paths)
        tree._entries = {path: self._entries[path] for path in tree._paths}
        return tree

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, FileTree) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._entries.items()))

    def __repr__(self) -> str:
        return f"FileTree({self._entries!r})"

    def below(self, path: str) -> list[str]:
        """All paths below a folder at any depth, without the folder itself; none for what is not there."""
        if path == "/":
            return list(self._paths)
        # "0" follows "/" in ASCII, so that this is the end of everything that begins with "path/"
        return self._paths[bisect_left(self._paths, path + "/") : bisect_left(self._paths, path + "0")]

    def children(self, path: str) -> list[str]:
        """The paths directly in a folder."""
        start = 1 if path == "/" else len(path) + 1
        return [each for each in self.below(path) if "/" not in each[start:]]

    def merged(self, other: Mapping[str, Entry]) -> FileTree:
        """This tree with the other laid over it: entries of the other win. FileTreeError where the other has
        a file or a link in place of a folder of this tree that still holds something."""
        return FileTree({**self._entries, **other})

    def without(self, paths: Iterable[str]) -> FileTree:
        """This tree without these paths and what lies below them. Paths that are not there do not matter."""
        gone: set[str] = set()
        for path in paths:
            gone.update((path, *self.below(path)))
        return self._only(path for path in self._paths if path not in gone)

    def without_empty_folders(self) -> FileTree:
        """This tree without folders that hold no file or link at any depth."""
        kept: set[str] = set()
        for path, entry in self._entries.items():
            if entry.kind != "dir":
                while path != "/" and path not in kept:
                    kept.add(path)
                    path = parent_of(path)  # noqa: PLW2901 -- climbs from the file to the root
        return self._only(path for path in self._paths if path in kept)


EMPTY = FileTree()


@dataclass(frozen=True, slots=True)
class LocalPackage:
    """A package's facts and content. scripts: by the names that its package manager gives them (opkg:
    postinst, prerm …; apk: post-install, pre-deinstall …); conffiles: paths in the tree, which the package
    manager keeps as the user changed them."""

    package: Package
    tree: FileTree
    scripts: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    conffiles: tuple[str, ...] = ()
