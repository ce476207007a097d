"""The key that an ImageBuilder makes for itself, kept per user, so that two builds are signed alike.

From 19.07 on the Makefile's `_check_keys` makes one where there is none: `key-build`, `.pub` and `.ucert`
(usign, opkg), from 25.12 on `keys/local-private-key.pem` and `local-public-key.pem` (apk). The view of each
build is a fresh one, so every build would have its own key, in ADD_LOCAL_KEY's images and in the signatures
after sysupgrade images. Source: target/imagebuilder/files/Makefile, rules.mk (BUILD_KEY).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained, remove_tree
from imagebuilder.host.sandbox import PrivateView

# by the name of the folder that a set is kept in; the secret one first
_SETS = {
    "usign": ("key-build", "key-build.pub", "key-build.ucert"),
    "apk": ("keys/local-private-key.pem", "keys/local-public-key.pem"),
}


def user_keys() -> Path:
    """Where a user's signing keys are kept: below $XDG_DATA_HOME or ~/.local/share; no cache, since a lost
    key cannot be made again."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(home) / "openwrt-python-imagebuilder/signing-keys"


def lay_signing_key(tree: Path, view: PrivateView, kept: Path) -> bool:
    """Before make: give the view the user's keys where the tree has none of its own; whether it did.

    kept: the user's folder for keys, which need not exist.
    """
    laid = False
    for folder, names in _SETS.items():
        if (tree / names[0]).exists():
            continue
        for name in names:
            source, place = kept / folder / Path(name).name, view.changed / name
            if source.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
                place.chmod(0o600)
                laid = True
    return laid


def keep_signing_key(tree: Path, view: PrivateView, kept: Path) -> bool:
    """After make: keep the keys that it made in this view, if the user has none yet; whether it did.

    Of two builds at once that each made one, the first to end has its key kept.
    """
    stored = False
    for folder, names in _SETS.items():
        made = [view.changed / name for name in names]
        if (tree / names[0]).exists() or (kept / folder).exists() or not _plain(made[0]):
            continue
        with disk_errors_explained(kept):
            stored = _store([path for path in made if _plain(path)], kept / folder) or stored
    return stored


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _store(files: Sequence[Path], place: Path) -> bool:
    """Keep a set of files whole, or not at all where another build was faster."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
    try:
        for file in files:
            shutil.copyfile(file, fresh / file.name)
            (fresh / file.name).chmod(0o600)
        fresh.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    finally:
        remove_tree(fresh)
    return True
