"""Signing keys: the user's own, which no make ever sees, and one for each tree, which its make gets.

From 21.02 on an ImageBuilder makes a key pair where it has none and CONFIG_SIGNATURE_CHECK is set:
`key-build`, `.pub` and `.ucert` (usign, opkg), in trees with apk `keys/local-private-key.pem` and
`local-public-key.pem`. It signs the index of packages/ with it, which opkg or apk then verifies, and (usign)
appends a signature to sysupgrade images. Older trees make none, and sign nothing as long as they have none:
nothing is laid there. Source: target/imagebuilder/files/Makefile (`_check_keys`), rules.mk (BUILD_KEY),
include/image-commands.mk.

make and what it calls are no more trusted than the tree that they come with, so that no key which they can
read may stand for anything but that tree. They get a pair of the tree's own, derived (HMAC) from the user's
key and from all that the tree consists of: another tree, or a changed one, has another; the same tree always
has the same, so that two builds are equal. Nothing is kept of what make leaves in the place of keys. The
signature on a finished image is put on outside of the sandbox, by the user's key (firmware/sign.py).

Of the user's key the public half is given: as `key-build.pub`, which a tree with ADD_LOCAL_KEY copies into
/etc/opkg/keys of its images. Such a device then trusts what the user signs, and not what make could sign.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.beneath import write_beneath
from imagebuilder.host.fs import disk_errors_explained, text_of, user_data
from imagebuilder.host.handover import appear, temporary_folder
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.trust.keys import KeyFileError, Keys, UsignKey, key_bytes, parse_usign_key
from imagebuilder.trust.tree_identity import tree_identity
from imagebuilder.trust.usign import SEED_BYTES, UsignPair, pair_of, read_secret_key

PRIVATE_NAME, PUBLIC_NAME = "local-private-key.pem", "local-public-key.pem"  # of apk
SECRET, PUBLIC, CERTIFICATE = "key-build", "key-build.pub", "key-build.ucert"
KEYS = "keys"  # the tree's folder of the keys by which opkg and apk verify indexes
OWN = "own"  # not `usign` and `apk`: those of older versions were given to make, and any tree may know them
_USIGN, _APK = "usign", "apk"
_SECRETS = {_USIGN: SECRET, _APK: f"{KEYS}/{PRIVATE_NAME}"}
_APK_COMMENT = b"untrusted comment: Local build key\n"
_MAKES_KEYS = re.compile(r"(?m)^_check_keys:")
_OTHERS = 0o077
# of P-256's group: a private key is a number from 1 to below it (FIPS 186-4, D.1.2.3)
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Settings = Mapping[str, str]  # SIGNATURE_CHECK, USE_APK: "y"


def user_keys() -> Path:
    """Where the user's signing key is kept: below $XDG_DATA_HOME or ~/.local/share; no cache, since a lost
    key cannot be made again. HostError as user_data() has it."""
    return user_data() / "signing-keys"


def user_pair(kept: Path) -> UsignPair:
    """The user's own key pair, made if there is none. kept: the folder of user_keys(), which need not exist.

    HostError where it cannot be written; KeyFileError for a key that is damaged, that has another's public
    half beside it, or that others can read.
    """
    place = kept / OWN
    if not place.exists():
        made = pair_of(secrets.token_bytes(SEED_BYTES))
        try:
            _store({SECRET: made.secret_file(), PUBLIC: made.public_file()}, place)
        except HostError as error:
            hint = (
                "set XDG_DATA_HOME to a folder that may be written to, and that is there for the next build"
            )
            raise HostError(f"the signing key cannot be kept: {error.message}", hint=hint) from error
    return _read_pair(place)


def user_public(kept: Path) -> Keys:
    """The public half of the user's own key, to verify with; none where there is no key yet. kept: as for
    user_pair(), and so are the errors."""
    if not (kept / OWN).exists():
        return Keys()
    pair = _read_pair(kept / OWN)
    return Keys((UsignKey(pair.number, pair.public(), "your own signing key"),))


def lay_tree_key(tree: Path, settings: Settings, view: PrivateView, cache: Path | None) -> bool:
    """Before make: give the view the tree's key pair, where make would make one; whether it did.

    settings: of the tree's .config. cache: where the tree's identity is kept (tree_identity()). What
    user_keys() and user_pair() raise.
    """
    kind = _missing_set(tree, settings)
    if kind is None:
        return False
    own = user_pair(user_keys())
    for name, data in _files(kind, own, tree_identity(tree, cache)).items():
        # with the modes that make gives them: ADD_LOCAL_KEY copies the public one into the image
        write_beneath(view.changed, name, data, 0o600 if name == _SECRETS[kind] else 0o644)
    return True


def signs_images(tree: Path, settings: Settings) -> bool:
    """Whether the signatures on the tree's images are by the key that lay_tree_key() gives it, and so are to
    be put right. A tree that brings a `key-build` signs with it as its keepers meant it to."""
    return _missing_set(tree, settings) == _USIGN


def takes_a_key(tree: Path, settings: Settings) -> bool:
    """Whether lay_tree_key() gives the tree a pair, which is derived from the user's key."""
    return _missing_set(tree, settings) is not None


def tree_pair(own: UsignPair, identity: str) -> UsignPair:
    """The usign pair of a tree. own: the user's; identity: of the tree (tree_identity())."""
    return pair_of(_derived(own, _USIGN, identity))


def tree_apk_pair(own: UsignPair, identity: str) -> tuple[bytes, bytes]:
    """The PEM files of a tree's apk pair on P-256, private and public, as make writes them."""
    # here: loading it takes a while, and most trees have no apk
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    curve = ec.SECP256R1()
    number = int.from_bytes(_derived(own, _APK, identity), "big")
    key = ec.derive_private_key(number % (_P256_ORDER - 1) + 1, curve)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _APK_COMMENT + private, _APK_COMMENT + public


def _derived(own: UsignPair, kind: str, identity: str) -> bytes:
    return hmac.digest(own.seed, f"tree key {kind} {identity}".encode(), "sha256")


def _files(kind: str, own: UsignPair, identity: str) -> dict[str, bytes]:
    """What the view gets, by the paths in the tree."""
    if kind == _APK:
        private, public = tree_apk_pair(own, identity)
        return {f"{KEYS}/{PRIVATE_NAME}": private, f"{KEYS}/{PUBLIC_NAME}": public}
    pair = tree_pair(own, identity)
    return {
        SECRET: pair.secret_file(),
        PUBLIC: own.public_file(),
        CERTIFICATE: pair.certificate(),
        # as opkg-key does, which make calls for a key that it has just made
        f"{KEYS}/{pair.number}": pair.public_file(),
    }


def _missing_set(tree: Path, settings: Settings) -> str | None:
    """The kind of keys that the tree's make makes, and that the tree does not have."""
    if not _MAKES_KEYS.search(text_of(tree / "Makefile")) or settings.get("SIGNATURE_CHECK") != "y":
        return None
    kind = _APK if settings.get("USE_APK") == "y" else _USIGN
    return None if (tree / _SECRETS[kind]).exists() else kind


def _read_pair(place: Path) -> UsignPair:
    secret, public = place / SECRET, place / PUBLIC
    pair = read_secret_key(secret)
    mode = secret.stat().st_mode
    if mode & _OTHERS:
        raise KeyFileError(
            f"others can read the signing key {secret} (mode {mode & 0o777:04o})",
            hint=f"chmod 600 {secret}; where somebody may have read it, remove {place} for another key",
        )
    known = parse_usign_key(key_bytes(public), str(public))
    if (known.number, known.public) != (pair.number, pair.public()):
        raise KeyFileError(
            f"{public} is not the public half of {secret}",
            hint="put the pair back, or remove the folder: another key is made then",
        )
    return pair


def _store(files: Mapping[str, bytes], place: Path) -> None:
    """Keep a pair's files whole; where another build was faster, its pair stays."""
    with disk_errors_explained(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with temporary_folder("new", place.parent) as fresh:
            for name, data in files.items():
                write_beneath(fresh, name, data, 0o600 if name == SECRET else 0o644)
            with suppress(FileExistsError):
                appear(fresh, place)
