"""Lock files: `locks/CONFIG.lock`, TOML."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.config.faults import validate
from imagebuilder.config.library import Library
from imagebuilder.config.model_lock import Lock, LockedBoard
from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone, write_whole

_HEAD = "# Written by `build.py lock`; not to be edited. `build.py build --locked` builds exactly this.\n\n"


class NoLockError(UserError):
    """There is no lock for what should be built from one."""


def lock_path(library: Library, config: str) -> Path:
    """The lock file of a config."""
    return library.root / "locks" / f"{config}.lock"


def read_lock(library: Library, config: str) -> Lock | None:
    """A config's lock; None if it was never locked. FaultsError for a file that is none."""
    path = lock_path(library, config)
    return validate(Lock, read_toml(path)) if path.exists() else None


def locked_board(library: Library, config: str, board: str) -> LockedBoard:
    """What is locked for one board. NoLockError if nothing is."""
    lock = read_lock(library, config)
    if lock is None or board not in lock.board:
        what = f"{lock_path(library, config)} does not lock" if lock else "there is no lock of"
        raise NoLockError(f"{what} {config} for {board}", hint=f"python3 build.py lock {config} writes it")
    return lock.board[board]


def write_lock(library: Library, config: str, boards: dict[str, LockedBoard]) -> Path:
    """Write a config's lock; the file. Entries of other boards in it stay."""
    import tomlkit  # noqa: PLC0415 (every build loads this module, only `lock` writes)

    path = lock_path(library, config)
    with disk_errors_explained(path.parent), alone(path.parent):
        earlier = read_lock(library, config)
        entries = {**(earlier.board if earlier else {}), **boards}
        lock = Lock(config=config, board=dict(sorted(entries.items())))
        text = _HEAD + tomlkit.dumps(lock.model_dump(mode="json"))
        write_whole(path, text.encode())
    return path
