"""Whether files and folders are what they were when something was made of them.

What stat(2) says is looked at first: kind, mode, size, the times of content and status, the number of the
inode. Nobody but root can set the time of a status change back, so that no other content passes as the same.
Where it says something else, the content decides: a file that was touched, or checked out anew, is the same.
A file that was changed within SETTLED_NS before it was looked at can change once more without stat(2) showing
it, on file systems with coarse clocks: of such a one the content alone counts. (git calls that racy:
Documentation/technical/racy-git.)

Digests of contents are keyed (BLAKE2, RFC 7693) with a key that stands in the cache for its owner alone:
what is recorded tells nobody a secret that a file held.

A path that somebody wrote can lead through links. Where it really is counts too, whatever links are on the
way, at its end or before it: names come from there, and what is read later is read there. Links in a folder
whose contents are not read (`status`, `tree`) count with what they lead to outside of it (host/behind.py).

What somebody reads of a folder can be kept in the cache by what stat(2) says of it, and is not read again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from imagebuilder.errors import UserError
from imagebuilder.host.behind import behind
from imagebuilder.host.fs import disk_errors_explained, text_of
from imagebuilder.host.handover import write_whole
from imagebuilder.host.tree_look import TreeLook, look_at_tree
from imagebuilder.host.walk import Item, walk

SETTLED_NS = 2_000_000_000  # FAT counts in two seconds
KEY_BYTES = 32
KEY_FILE, BUILDS = "digests.key", "builds"  # of the cache
_CHUNK = 1 << 20
StampKind = Literal["absent", "file", "folder", "followed", "status", "tree"]
UNREAD: tuple[StampKind, ...] = ("status", "tree")  # of what is in them nothing is read
_KEPT = "indexes"  # of the cache, where what was not used for longest goes


class Stamp(TypedDict):
    """What something was. kind: `absent` for what was not there, `file` (links are followed to it), `folder`
    with all below it, where `followed` takes links in it to files for those, and `status` for a file or
    folder whose contents are not read, since they are too many, `tree` for one of which the same is true and
    that is an ImageBuilder (host/tree_look.py) or its archive. path: absolute, as it was written, with its
    `..`, which behind a link is not the folder before it. leads: where that really is, all links followed;
    "" for `absent`. state: what stat(2) said, "" where it cannot be relied on; digest: of the content, "" for
    `absent`, `status` and `tree`. without: names that do not count in a folder, however deep in it."""

    path: str
    leads: str
    kind: StampKind
    state: str
    digest: str
    without: list[str]


Looked = tuple[str, StampKind, tuple[str, ...]]


class CannotTellError(UserError):
    """Something of which nobody could tell later whether it is the same."""


@dataclass
class Looks:
    """Looks at files, at each once: for one command, since what changes meanwhile is not seen. key: of the
    digests; cache: where what was read of folders is kept, which nobody who only asks writes to; now_ns: when
    looking began, in nanoseconds since 1970."""

    key: bytes
    cache: Path | None = None
    now_ns: int = field(default_factory=time.time_ns)
    _states: dict[Looked, tuple[str, int]] = field(default_factory=dict)
    _digests: dict[Looked, str] = field(default_factory=dict)
    _trees: dict[str, TreeLook] = field(default_factory=dict)

    def stamp(self, path: Path, kind: StampKind, without: tuple[str, ...] = ()) -> Stamp:
        """What it is now; what is not there is `absent` whatever kind is expected. CannotTellError for what
        cannot be read, what is not read and was changed just now, and a followed link to a
        folder."""
        place = str(path.absolute())
        try:
            if kind == "absent" or not os.path.lexists(place):
                return Stamp(path=place, leads="", kind="absent", state="", digest="", without=[])
            leads = os.path.realpath(place)
            state, changed_ns = self._state((place, kind, without))
            settled = changed_ns < self.now_ns - SETTLED_NS
            if kind in UNREAD and not settled:
                raise CannotTellError(f"{place} was changed just now")
            digest = "" if kind in UNREAD else self._digest((place, kind, without))
        except OSError as error:
            raise CannotTellError(f"{error.filename or place}: {error.strerror}") from error
        state = state if settled else ""
        return Stamp(path=place, leads=leads, kind=kind, state=state, digest=digest, without=list(without))

    def same(self, stamp: Stamp) -> bool:
        """Whether it is still the same; what cannot be read is not."""
        path, kind = stamp["path"], stamp["kind"]
        try:
            if kind == "absent":
                return not os.path.lexists(path)
            if os.path.realpath(path) != stamp["leads"]:
                return False
            looked = path, kind, tuple(stamp["without"])
            if stamp["state"] and self._state(looked)[0] == stamp["state"]:
                return True
            return kind not in UNREAD and self._digest(looked) == stamp["digest"]
        except (OSError, UserError):
            return False

    def state(self, folder: Path) -> str:
        """What stat(2) says of all that is in a folder, as of the first time that this was asked; "" where
        there is none, or it cannot be looked through."""
        place = os.path.abspath(folder)  # noqa: PTH100 - as stamp() has it
        try:
            return self._state((place, "status", ()))[0]
        except (OSError, UserError):
            return ""

    def tree(self, tree: Path) -> TreeLook:
        """What is in a tree, as of the first time that this was asked. OSError for what cannot be looked
        at."""
        place = os.path.realpath(tree)
        if place not in self._trees:
            self._trees[place] = look_at_tree(Path(place))
        return self._trees[place]

    def kept(self, folder: Path, without: tuple[str, ...], what: str, read: Callable[[], str]) -> str:
        """What was read of all in a folder but what has one of these names: found again in the cache, by what
        stat(2) says and what is asked, where that can be relied on. HostError where the cache cannot be
        written; CannotTellError, OSError and what read() raises."""
        looked: Looked = (str(folder.absolute()), "folder", without)
        state, changed_ns = self._state(looked)
        if self.cache is None or changed_ns >= self.now_ns - SETTLED_NS:
            return read()
        told = hashlib.sha256(repr((looked, what)).encode() + state.encode()).hexdigest()
        place = self.cache / _KEPT / f"{told}.folder"
        found = text_of(place)
        if found:
            os.utime(place)  # last used now
            return found
        found = read()
        with disk_errors_explained(self.cache):
            write_whole(place, found.encode())
        return found

    def keyed(self, data: bytes) -> str:
        """The digest of some bytes, in hex."""
        return hashlib.blake2b(data, key=self.key, digest_size=KEY_BYTES).hexdigest()

    def _state(self, looked: Looked) -> tuple[str, int]:
        """What stat(2) says in one text, and when it was last changed, in nanoseconds."""
        if looked not in self._states:
            path, kind, _ = looked
            status = os.stat(path)  # noqa: PTH116 - a hundred times each command
            if kind == "file" or (kind in UNREAD and stat.S_ISREG(status.st_mode)):
                _require(stat.S_ISREG(status.st_mode), path, "a file")
                self._states[looked] = _words(status)
            else:
                _require(stat.S_ISDIR(status.st_mode), path, "a folder")
                self._states[looked] = self._folder_state(looked, status)
        return self._states[looked]

    def _folder_state(self, looked: Looked, status: os.stat_result) -> tuple[str, int]:
        """Of a folder whose own status it is."""
        path, kind, without = looked
        if kind == "tree":
            look = self.tree(Path(path))
            whole, changed, links = hashlib.sha256(look.state.encode()), look.changed_ns, [*look.links]
        else:
            text, changed = _words(status)
            whole, links = hashlib.sha256(text.encode()), []
            for item in _items(path, without):
                words, at = _words(item.status)
                if item.is_link:
                    links.append(item.path)
                if kind == "followed" and item.is_link:
                    other, later = _words(os.stat(f"{path}/{item.path}"))  # noqa: PTH116
                    words, at = f"{words} {other}", max(at, later)
                whole.update(f"{item.path}\0{words}\0".encode("utf-8", "surrogateescape"))
                changed = max(changed, at)
        for each in behind(Path(path), links) if kind in UNREAD else ():
            words, at = _words(each.status) if each.status is not None else ("", 0)
            whole.update(f"{each.link}\0{each.place}\0{words}\0".encode("utf-8", "surrogateescape"))
            changed = max(changed, at)
        return whole.hexdigest(), changed

    def _digest(self, looked: Looked) -> str:
        if looked not in self._digests:
            path, kind, without = looked
            whole = hashlib.blake2b(key=self.key, digest_size=KEY_BYTES)
            if kind == "file":
                _add_file(whole, path)
            else:
                whole.update(f"{os.stat(path).st_mode:o}\0".encode())  # noqa: PTH116
                for item in _items(path, without):
                    _add_item(whole, path, item, followed=kind == "followed")
            self._digests[looked] = whole.hexdigest()
        return self._digests[looked]


def read_key(cache: Path) -> bytes | None:
    """The key of the cache; None where it has none."""
    try:
        key = (cache / KEY_FILE).read_bytes()
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def _items(path: str, without: tuple[str, ...]) -> Iterator[Item]:
    """All below a folder but what has one of these names, and is in such folders."""

    def counts(inner: str) -> bool:
        return inner.rpartition("/")[2] not in without

    for item in walk(Path(os.path.realpath(path)), enter=counts, bounded=True):
        if counts(item.path):
            yield item


def _words(status: os.stat_result) -> tuple[str, int]:
    facts = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return " ".join(map(str, facts)), max(status.st_mtime_ns, status.st_ctime_ns)


def _require(is_so: bool, path: str, kind: str) -> None:
    if not is_so:
        raise CannotTellError(f"{path} is not {kind} any more")


def _add_item(whole: hashlib.blake2b, path: str, item: Item, *, followed: bool) -> None:
    mode = item.status.st_mode
    whole.update(f"{item.path}\0{mode:o}\0".encode("utf-8", "surrogateescape"))
    if item.is_link:
        whole.update(os.fsencode(item.target()) + b"\0")
    if item.is_file or (item.is_link and followed):
        _add_file(whole, f"{path}/{item.path}")


def _add_file(whole: hashlib.blake2b, path: str) -> None:
    """The mode and the content of a file that a path leads to."""
    with open(path, "rb", opener=_opener) as stream:
        status = os.fstat(stream.fileno())
        _require(stat.S_ISREG(status.st_mode), path, "a file")
        whole.update(f"{stat.S_IMODE(status.st_mode):o} {status.st_size}\0".encode())
        while chunk := stream.read(_CHUNK):
            whole.update(chunk)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
