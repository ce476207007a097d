"""Lock files: `locks/CONFIG.lock`, TOML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imagebuilder.called import COMMAND, typed
from imagebuilder.config.faults import validate
from imagebuilder.config.library import Library
from imagebuilder.config.model_lock import Lock, LockedBoard
from imagebuilder.config.toml import TomlFile, read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone, write_whole

_HEAD = f"# Written by `{COMMAND} lock`; not to be edited: `{COMMAND} build --locked` builds just this.\n\n"
_FORMER = 1  # which said less than an image takes: no overlay's modes, no board, nothing of how apps are run


class NoLockError(UserError):
    """There is no lock for what should be built from one."""


class OldLockError(UserError):
    """A lock of a form that does not say all that decides an image."""


def lock_path(library: Library, config: str) -> Path:
    """The lock file of a config."""
    return library.root / "locks" / f"{config}.lock"


def read_lock(library: Library, config: str) -> Lock | None:
    """A config's lock; None if it was never locked. OldLockError for one of the former form, FaultsError for
    a file that is none."""
    path = lock_path(library, config)
    if not path.exists():
        return None
    file = read_toml(path)
    if _is_former(file):
        raise OldLockError(
            f"{path} is a lock of the form {_FORMER}, which does not say all that decides an image",
            hint=f"see that it is what you want, and lock it anew: {typed(f'lock {config}')}",
        )
    return validate(Lock, file)


def _is_former(file: TomlFile) -> bool:
    form = file.values.get("lock_schema", _FORMER)  # that one's key could be left out
    return isinstance(form, int) and form == _FORMER and isinstance(file.values.get("board"), dict)


def locked_board(library: Library, config: str, board: str) -> LockedBoard:
    """What is locked for one board. NoLockError if nothing is; as read_lock()."""
    lock = read_lock(library, config)
    if lock is None or board not in lock.board:
        what = f"{lock_path(library, config)} does not lock" if lock else "there is no lock of"
        raise NoLockError(f"{what} {config} for {board}", hint=f"{typed(f'lock {config}')} writes it")
    return lock.board[board]


def write_lock(library: Library, config: str, boards: dict[str, LockedBoard]) -> Path:
    """Write a config's lock; the file. Entries of other boards in it stay; OldLockError where they are of the
    former form, and would be lost."""
    path = lock_path(library, config)
    with disk_errors_explained(path.parent), alone(path.parent):
        entries = {**_others(library, config, boards), **boards}
        write_whole(path, lock_text(config, entries).encode())
    return path


def lock_text(config: str, boards: Mapping[str, LockedBoard]) -> str:
    """A lock file of these entries."""
    import tomlkit  # noqa: PLC0415 (every build loads this module, and writes one while make runs)

    lock = Lock(lock_schema=2, config=config, board=dict(sorted(boards.items())))
    return _HEAD + tomlkit.dumps(lock.model_dump(mode="json"))


def read_lock_file(path: Path) -> Lock:
    """A lock file, wherever it lies. FaultsError for a file that is none."""
    return validate(Lock, read_toml(path))


def _others(library: Library, config: str, boards: dict[str, LockedBoard]) -> dict[str, LockedBoard]:
    """The entries that are in a lock already."""
    path = lock_path(library, config)
    if path.exists() and _is_former(file := read_toml(path)):
        lost = sorted(file.values["board"].keys() - boards.keys())
        if lost:
            raise OldLockError(
                f"{path} is a lock of the form {_FORMER}, and has {', '.join(lost)} too",
                hint=f"lock all of them at once ({typed(f'lock {config}')}), or remove that file first",
            )
        return {}
    earlier = read_lock(library, config)
    return dict(earlier.board) if earlier is not None else {}
