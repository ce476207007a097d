"""The modes that overlays' files get in an image: none looser than their author, what they replace, or what
they hold asks for; and never the author's umask.

A device's programs refuse keys that others can read (dropbear, ssh), or hand them out.
"""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Mapping

from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry

EXECUTABLE_MODE = 0o755
PLAIN_MODE = 0o644
_OTHERS = 0o077
_ALL = 0o007
_EXECUTE = 0o111
_STRICT, _STRICT_EXECUTABLE = 0o600, 0o700

# files that hold secrets, and folders of them, as programs of OpenWrt's packages name them
_SECRET_FILES = (
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/config/wireless",
    "/etc/dropbear/*",
    "/etc/ssh*/*",
    "/etc/wireguard/*",
    "*.key",
    "*/authorized_keys",
)
_SECRET_FOLDERS = ("/etc/dropbear", "/etc/ssh*", "/etc/wireguard", "*/.ssh")
_PRIVATE_KEY = b"PRIVATE KEY-----"  # of PEM (RFC 7468), also of OpenSSH's own form


def holds_secret(path: str, entry: Entry) -> bool:
    """Whether what lies there is known to be nobody else's business: by its place, or as a private key."""
    if entry.kind == "dir":
        return _named(path, _SECRET_FOLDERS)
    if entry.kind != "file":
        return False
    return _named(path, _SECRET_FILES) or (path.endswith(".pem") and _PRIVATE_KEY in content(entry))


def mode_of(
    path: str, entry: Entry, *, secret: bool, strict: bool, there: Mapping[str, int] | None = None
) -> int:
    """The mode of an overlay's file or folder of which its author said nothing.

    secret: whether a secret was written into it; strict: whether its author's own modes say something, and
    not only the umask of that day. there: kinds and modes of what packages bring, by path, as stat(2) has
    them: an overlay's file in the same place keeps the mode of a package's.
    """
    executable = entry.kind == "dir" or bool(entry.mode & _EXECUTE)
    kept = _mode_there(entry, (there or {}).get(path))
    if entry.kind == "dir" and kept is not None:
        strict = False  # others go through it: it is not only this overlay's
    if secret or holds_secret(path, entry) or (strict and not entry.mode & _OTHERS):
        return _STRICT_EXECUTABLE if executable else _STRICT
    if kept is None:
        return EXECUTABLE_MODE if executable else PLAIN_MODE
    return kept | _EXECUTE if executable and not kept & _EXECUTE else kept


def _mode_there(entry: Entry, there: int | None) -> int | None:
    kinds = {"dir": stat.S_IFDIR, "file": stat.S_IFREG}
    same = there is not None and stat.S_IFMT(there) == kinds.get(entry.kind)
    return stat.S_IMODE(there) if there is not None and same else None


def open_to_all(mode: int) -> bool:
    """Whether everybody on the device may read, write or enter it."""
    return bool(mode & _ALL)


def _named(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
