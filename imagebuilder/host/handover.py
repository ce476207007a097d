"""What appears whole or not at all, what is temporary, and what of it the dead left behind: in one place.

Whatever is written where somebody looks for it is made under a temporary name, by one of two rules:
`.KIND-RANDOM` for a folder to work in, `.NAME.new-RANDOM` beside the NAME that it will have. Its maker holds
the lock (flock(2)) of that very file or folder, which the system frees when the process dies, by kill -9 too.
So a temporary name whose lock can be had belongs to nobody: who next works in that folder removes it. No lock
file is needed for that, and none is left. A maker that finds its new name taken, by somebody who saw it
before its lock was held, makes another.

A folder takes another's place by one step, in which both change names (renameat2(2), RENAME_EXCHANGE; Linux
3.15). Where the file system cannot do that, what was there waits as `.NAME.old-RANDOM`, locked as well: where
its owner died before the new one was in its place, it is given its name back.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal, cast

from imagebuilder.host.fs import make_folder, naming
from imagebuilder.host.walk import remove_tree

Kind = Literal["work", "first", "asking", "look", "unpack", "making", "read", "apt", "new", "scratch"]
_KINDS = ("work", "first", "asking", "look", "unpack", "making", "read", "apt", "new", "scratch")
# what tempfile ends names with; versions that had no such rule wrote the process's number behind `old`
_TEMPORARY = re.compile(
    rf"\.(?:{'|'.join(_KINDS)})-[a-z0-9_]{{8}}"
    r"|\.(?P<name>.+)\.(?:(?:new|gone|(?P<old>old))-[a-z0-9_]{8}|(?P<earlier>old)-\d+)"
)
_SHARED = "openwrt-imagebuilder-"  # in folders for everybody's temporary things
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - where everybody's files in memory are (tmpfs(5), shm_overview(7))

# <linux/fs.h>, <fcntl.h>
_NOREPLACE, _EXCHANGE = 1, 2
_AT_FDCWD = -100
_CALL = {
    **{"x86_64": 316, "i686": 353, "aarch64": 276, "armv7l": 382},
    **{"riscv64": 276, "ppc64le": 357, "s390x": 347},
}
# the file system or the kernel has no such call; a container that filters it
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_MOST_NAME = 220  # bytes of a name of 255 that are left beside what is added
_PATIENCE = 5.0  # seconds for a dead owner's programs, which die with it, to write nothing any more
_HELD: dict[Path, list[tuple[Path, int]]] = {}  # shared folders and their handles, by who holds them
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def temporary_folder(kind: Kind, parent: Path | None = None) -> Iterator[Path]:
    """A folder of one's own, removed at the end however deep it has become; those that the dead left beside
    it go first.

    parent: where it lies, made if it is not there; by default the system's folder for temporary things.
    There, and IN_MEMORY, its name says whose it is. OSError where it cannot be written to.
    """
    shared = parent in (None, IN_MEMORY)
    folder = Path(tempfile.gettempdir()) if parent is None else parent
    prefix = f"{_SHARED}{kind}-" if shared else f".{kind}-"
    for name in names(folder):
        if re.fullmatch(rf"{_SHARED}\w+-[a-z0-9_]{{8}}", name) if shared else is_temporary(name):
            remove_if_abandoned(folder / name)
    with ExitStack() as stack:
        place, handle = _held_folder(folder, prefix)
        stack.callback(os.close, handle)
        _HELD[place] = []
        stack.callback(_release, place)
        stack.callback(_remove, place)
        yield place


def shared_folder(place: Path, until: Path) -> bool:
    """Make an empty folder for this user alone, which several processes may have at once and which has the
    same name for all of them; the last one removes it. False for what is somebody else's or no folder, which
    stays as it is.

    until: a temporary_folder(), or a place in one: it is held until that ends, elsewhere until this process
    does. OSError.
    """
    while True:
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        try:
            handle = os.open(place, _OPEN | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # its last user has just removed it
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                return False
            raise
        if os.fstat(handle).st_uid != os.geteuid():
            os.close(handle)
            return False
        _lock(handle, wait=True, shared=True)
        if _is_at(place, handle):
            break
        os.close(handle)
    owner = next((folder for folder in (until, *until.parents) if folder in _HELD), None)
    if owner is None:
        owner = until
        atexit.register(_release, owner)
    _HELD.setdefault(owner, []).append((place, handle))
    return True


def _release(owner: Path) -> None:
    """Remove the shared folders that were held for a temporary one, but those that others have too."""
    for place, handle in _HELD.pop(owner, ()):
        if _lock(handle) and _is_at(place, handle):
            with suppress(OSError):  # somebody put something there
                place.rmdir()
        os.close(handle)


def is_temporary(name: str) -> bool:
    """Whether it is a name that is given here to what will not stay."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_abandoned(folder: Path) -> None:
    """Remove all in a folder that has a temporary name and no living owner; what waited to be replaced and
    has not been gets its name back. OSError for what cannot be removed."""
    for name in filter(is_temporary, names(folder)):
        remove_if_abandoned(folder / name)


def remove_if_abandoned(place: Path) -> None:
    """The same for one file or folder, which is temporary whatever its name is. What belongs to another user
    stays."""
    try:
        status = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if status.st_uid != os.geteuid():
        return
    handle = None
    try:
        if not stat.S_ISLNK(status.st_mode):
            handle = _opened(place)
            if not (_lock(handle) and _is_at(place, handle)):
                return
        if not _given_back(place):
            _remove(place)
    except FileNotFoundError:
        return  # somebody else was faster
    finally:
        if handle is not None:
            os.close(handle)


def _given_back(place: Path) -> bool:
    """Whether this is what was to be replaced, and now has its name again, which nothing else had."""
    name = _TEMPORARY.fullmatch(place.name)
    if name is None or not (name["old"] or name["earlier"]):
        return False
    with suppress(FileExistsError, FileNotFoundError):
        _appear_in_steps(place, place.with_name(name["name"]))
        return True
    return False


def clear(folder: Path, depth: int = 1, keep: str = "") -> bool:
    """Remove all that is in a folder, or in those in it down to `depth`, but what is temporary and has a
    living owner, and the folders that this lies in; whether nothing is left. What goes disappears whole.
    keep: a name in it that stays and does not count. OSError."""
    for name in names(folder):
        if name == keep:
            continue
        place = folder / name
        if is_temporary(name):
            remove_if_abandoned(place)
        elif depth > 1 and _is_folder(place):
            if clear(place, depth - 1):
                with suppress(OSError):  # something was put there just now
                    place.rmdir()
        else:
            remove_whole(place)
    return not {*names(folder)} - {keep}


def remove_whole(place: Path) -> None:
    """Remove a file or a folder so that its name never shows a part of it. OSError."""
    if not _is_folder(place):
        place.unlink(missing_ok=True)
        return
    gone = _beside(place, "gone")
    with suppress(FileNotFoundError):  # somebody else removes it too
        place.rename(gone)
        remove_if_abandoned(gone)


def replace_folder(new: Path, place: Path) -> None:
    """Put the folder `new` in the place of whatever is there, which is removed. At any moment one of the two
    is there, whole; where the file system cannot exchange names, somebody who dies at the wrong moment leaves
    none until the next remove_abandoned().

    new: in a temporary_folder() on the same file system. OSError.
    """
    make_folder(place.parent)
    while True:
        try:
            _rename(new, place, _EXCHANGE)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another was faster
                appear(new, place)
                return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _replace_in_steps(new, place)
            return
        else:
            _remove(new)
            return


def appear(new: Path, place: Path) -> None:
    """Give a file or folder its name. FileExistsError where something has it, and nothing is changed then;
    OSError."""
    try:
        _rename(new, place, _NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _appear_in_steps(new, place)


def _appear_in_steps(new: Path, place: Path) -> None:
    try:
        if _is_folder(new):
            new.rename(place)  # rename(2): not over a folder that holds something
        else:
            os.link(new, place, follow_symlinks=False)
            new.unlink()
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from error
        raise


def _replace_in_steps(new: Path, place: Path) -> None:
    """Between the two renames there is neither; remove_abandoned() mends that when the lock is free."""
    while True:
        try:
            handle = _opened(place)
        except FileNotFoundError:
            with suppress(FileExistsError):
                _appear_in_steps(new, place)
                return
            continue
        try:
            _lock(handle, wait=True)
            if _is_at(place, handle) and _stepped(new, place):
                return
        finally:
            os.close(handle)


def _stepped(new: Path, place: Path) -> bool:
    """Whether it went well; where not, another has put a folder there meanwhile."""
    old = _beside(place, "old")
    place.rename(old)
    try:
        _appear_in_steps(new, place)
    except FileExistsError:
        taken = True
    except BaseException:  # an interrupt too; what does not work now remove_abandoned() does
        with suppress(OSError):
            old.rename(place)
        raise
    else:
        taken = False
    gone = _beside(place, "gone")  # half removed it must not be given back
    old.rename(gone)
    _remove(gone)
    return not taken


@contextmanager
def whole_file(place: Path, work: Path | None = None) -> Iterator[Path]:
    """A file to be written to. At the end it takes the place of what is there and has its mode, or 0644;
    nothing is changed where the block fails. A link in that place stays: what it leads to is replaced.

    work: the folder that it lies in until then, on the same file system; by default that of its place.
    OSError.
    """
    place = Path(os.path.realpath(place)) if place.is_symlink() else place
    with _new_file(place, work) as new:
        yield new
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o644
        new.chmod(mode)
        new.replace(place)


def write_whole(place: Path, data: bytes, work: Path | None = None) -> None:
    """Write a file so that its name shows either all of the data or what was there before; see
    whole_file()."""
    with whole_file(place, work) as new, naming(place):
        new.write_bytes(data)


def write_durable(place: Path, data: bytes) -> None:
    """As write_whole(), for this user alone (0600), and on the disk when it returns: a machine that loses its
    power then still has it. OSError."""
    with _new_file(place, None) as new:
        with naming(place), new.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(place)
    folder = os.open(place.parent, _OPEN | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name too
    finally:
        os.close(folder)


def write_new(place: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that its name shows all of the data or nothing. FileExistsError where there is
    something, which stays as it is; OSError."""
    with _new_file(place, None) as new:
        with naming(place):
            new.write_bytes(data)
        new.chmod(mode)
        appear(new, place)


def lead(place: Path, target: str) -> None:
    """Have a symbolic link in that place lead to target: at any moment it leads there, or where it did
    before. OSError."""
    new = place.with_name(f".{_shortened(place.name)}.new-{secrets.token_hex(4)}")
    new.symlink_to(target)
    try:
        new.replace(place)
    except OSError:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def _new_file(place: Path, work: Path | None) -> Iterator[Path]:
    """An empty file that is ours, gone at the end if it still has its temporary name."""
    folder, name = work or place.parent, _shortened(place.name)
    make_folder(folder)
    make_folder(place.parent)
    for left in names(folder):
        if left.startswith(f".{name}.new-") and is_temporary(left):
            remove_if_abandoned(folder / left)
    with ExitStack() as stack:
        while True:
            handle, text = tempfile.mkstemp(dir=folder, prefix=f".{name}.new-")
            new = Path(text)
            if _lock(handle, otherwise=True) and _is_at(new, handle):
                break
            os.close(handle)
        stack.callback(os.close, handle)
        stack.callback(new.unlink, missing_ok=True)
        yield new


@contextmanager
def alone(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Only one process, and one thread of it, is in here for a folder, which is made if it is not there.

    For what is read, changed and written again. waiting: called before it waits for another. OSError.
    """
    while True:
        make_folder(folder)
        try:
            handle = os.open(folder, _OPEN | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed just now
        if not _lock(handle, otherwise=True):
            waiting()
            _lock(handle, wait=True)
        if _is_at(folder, handle):
            break
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)


def _held_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        make_folder(parent)
        # others that see it before it is locked may take it, and an empty parent with it
        with suppress(FileNotFoundError):
            place = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            handle = os.open(place, _OPEN | os.O_DIRECTORY)
            if _lock(handle, otherwise=True) and _is_at(place, handle):
                return place, handle
            os.close(handle)


def _opened(place: Path) -> int:
    """A file or folder of this user's, open to be locked, whatever its mode is."""
    try:
        return os.open(place, _OPEN)
    except PermissionError:
        place.chmod(stat.S_IRWXU)
        return os.open(place, _OPEN)


def _lock(handle: int, *, wait: bool = False, otherwise: bool = False, shared: bool = False) -> bool:
    """Whether the lock of an open file or folder could be had; it ends with the descriptor. wait: until it
    can. otherwise: what counts where the file system knows no locks: a maker goes on, who removes does not.
    shared: with all who want it so.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return otherwise
    return True


def _is_at(place: Path, handle: int) -> bool:
    """Whether what is open still has that name."""
    try:
        there = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return os.path.samestat(there, os.fstat(handle))


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def names(folder: Path) -> list[str]:
    """What lies in a folder, sorted; nothing where there is no folder, or no more, since others
    remove theirs at any moment. OSError where it cannot be read."""
    try:
        return sorted(place.name for place in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _shortened(name: str) -> str:
    """The beginning of a name to which more can be added: at most 255 bytes are a name."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _MOST_NAME else encoded[:_MOST_NAME].decode("ascii", "ignore")


def _beside(place: Path, what: Literal["old", "gone"]) -> Path:
    name = place.name if what == "old" else _shortened(place.name)
    return place.with_name(f".{name}.{what}-{secrets.token_hex(4)}")


def _remove(place: Path) -> None:
    """Also while programs that die with a dead owner still write into it."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            remove_tree(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _rename(new: Path, place: Path, flags: int) -> None:
    """renameat2(2). OSError as it says; ENOSYS where it cannot be called."""
    names = (os.fsencode(new), _AT_FDCWD, os.fsencode(place), ctypes.c_uint(flags))
    if _renameat2()(_AT_FDCWD, *names) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(new), None, str(place))


@cache
def _renameat2() -> Callable[..., int]:
    """The C library's function, or its way to any call: musl has none before 1.2.6."""
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        return cast(Callable[..., int], library.renameat2)
    number = _CALL.get(os.uname().machine, -1)  # no call has that number: ENOSYS
    return lambda *names: int(library.syscall(ctypes.c_long(number), *names))
