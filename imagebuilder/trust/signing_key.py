"""The key that an ImageBuilder makes for itself, kept per user, so that two builds are signed alike.

From 21.02 on the Makefile's goal `_check_keys` makes one where there is none and CONFIG_SIGNATURE_CHECK is
set: `key-build`, `.pub` and `.ucert` (usign, opkg), in trees with apk `keys/local-private-key.pem` and
`local-public-key.pem`. The view of each build is a fresh one, so every build would have its own key, in
ADD_LOCAL_KEY's images and in the signatures after sysupgrade images. Older trees make none, and sign nothing
as long as they have none: nothing is laid there. Source: target/imagebuilder/files/Makefile, rules.mk
(BUILD_KEY), include/image-commands.mk.

A tree whose apk checks signatures takes packages from indexes only that a key in its keys/ signed: for a
hermetic feed the same pair, on the curve P-256, is made before make would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from imagebuilder.host.beneath import is_plain, read_beneath, write_beneath
from imagebuilder.host.fs import disk_errors_explained, text_of, user_data
from imagebuilder.host.handover import appear, temporary_folder
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.trust.keys import KeyFileError, parse_usign_key

PRIVATE_NAME, PUBLIC_NAME = "local-private-key.pem", "local-public-key.pem"  # of apk
_USIGN, _APK = "usign", "apk"
# by the name of the folder that a set is kept in; the secret one first
_SETS = {
    _USIGN: ("key-build", "key-build.pub", "key-build.ucert"),
    _APK: (f"keys/{PRIVATE_NAME}", f"keys/{PUBLIC_NAME}"),
}
_PUBLIC = _SETS[_USIGN][1]
_APK_COMMENT = b"untrusted comment: Local build key\n"
MOST_KEY = 1 << 16  # bytes of a key
_MAKES_KEYS = re.compile(r"(?m)^_check_keys:")

Settings = Mapping[str, str]  # SIGNATURE_CHECK, USE_APK: "y"


def user_keys() -> Path:
    """Where a user's signing keys are kept: below $XDG_DATA_HOME or ~/.local/share; no cache, since a lost
    key cannot be made again. HostError as user_data() has it."""
    return user_data() / "signing-keys"


def lay_signing_key(tree: Path, settings: Settings, view: PrivateView, kept: Path) -> bool:
    """Before make: give the view the user's keys where the tree would make some; whether it did.

    settings: of the tree's .config. kept: the user's folder for keys, which need not exist. KeyFileError
    for a damaged one.
    """
    kind = _missing_set(tree, settings)
    if kind is None or not (kept / kind).is_dir():
        return False
    for name in _SETS[kind]:
        source = kept / kind / Path(name).name
        if source.is_file():
            _lay(source.read_bytes(), view, name, secret=name == _SETS[kind][0])
    if kind == _USIGN:  # as opkg-key does, which make calls for a key that it has just made
        public = kept / kind / _PUBLIC
        data = public.read_bytes() if public.is_file() else b""
        _lay(data, view, f"keys/{parse_usign_key(data, str(public)).number}")
    return True


def keep_signing_key(tree: Path, settings: Settings, view: PrivateView, kept: Path) -> bool:
    """After make: keep the keys that it made in this view, if the user has none yet; whether it did.

    Of two builds at once that each made one, the first to end has its key kept. HostError where the folder
    cannot be written to, BeneathError where make left links or large files in place of keys.
    """
    kind = _missing_set(tree, settings)
    if kind is None or (kept / kind).exists():
        return False
    names = [name for name in _SETS[kind] if is_plain(view.changed, name)]
    made = {Path(name).name: read_beneath(view.changed, name, MOST_KEY) for name in names}
    if len(made) < 2 or (kind == _USIGN and not _is_usign_key(made.get(_PUBLIC, b""))):
        return False
    return _store(made, kept / kind)


def _missing_set(tree: Path, settings: Settings) -> str | None:
    """The set of keys that the tree's make makes, and that the tree does not have."""
    if not _MAKES_KEYS.search(text_of(tree / "Makefile")) or settings.get("SIGNATURE_CHECK") != "y":
        return None
    kind = _APK if settings.get("USE_APK") == "y" else _USIGN
    return None if (tree / _SETS[kind][0]).exists() else kind


def _lay(data: bytes, view: PrivateView, name: str, *, secret: bool = False) -> None:
    """With the mode that make gives it: ADD_LOCAL_KEY copies the public one into the image."""
    write_beneath(view.changed, name, data, 0o600 if secret else 0o644)


def _is_usign_key(data: bytes) -> bool:
    try:
        parse_usign_key(data, _PUBLIC)
    except KeyFileError:
        return False
    return True


def _store(files: Mapping[str, bytes], place: Path) -> bool:
    """Keep a set of files whole, or not at all where another build was faster."""
    with disk_errors_explained(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with temporary_folder("new", place.parent) as fresh:
            for name, data in files.items():
                (fresh / name).write_bytes(data)
                (fresh / name).chmod(0o600)
            try:
                appear(fresh, place)
            except FileExistsError:
                return False
    return True


def ensure_apk_key(kept: Path) -> bool:
    """Make the user's key pair for apk indexes if there is none; whether it did. kept: the folder of
    user_keys(), which need not exist. HostError where it cannot be written, KeyFileError for half a pair in
    it."""
    # here: loading it takes a while, and few builds make a key
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    place = kept / _APK
    if place.exists():
        missing = [name for name in (PRIVATE_NAME, PUBLIC_NAME) if not (place / name).is_file()]
        if missing:
            raise KeyFileError(
                f"the signing key in {place} has no {missing[0]}",
                hint="put the file back, or remove the folder: another key is made then",
            )
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _store({PRIVATE_NAME: _APK_COMMENT + private, PUBLIC_NAME: _APK_COMMENT + public}, place)
