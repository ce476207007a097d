"""The key pair that local apk indexes are signed with: generated once per user, on the curve P-256.

A tree whose apk checks signatures (CONFIG_SIGNATURE_CHECK) takes packages from indexes only that a key in its
keys/ signed. The Makefile makes such a pair itself where there is none; this is the same pair, made before a
hermetic feed is, in the place where trust/signing_key.py keeps it. Source: the goal `_check_keys` in
target/imagebuilder/files/Makefile.
"""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from imagebuilder.host.fs import disk_errors_explained, remove_tree
from imagebuilder.trust.keys import KeyFileError

KEPT = "apk"  # below the user's folder for signing keys
PRIVATE_NAME, PUBLIC_NAME = "local-private-key.pem", "local-public-key.pem"
_COMMENT = b"untrusted comment: Local build key\n"


def ensure_apk_key(kept: Path) -> bool:
    """Make the user's key pair if there is none; whether it did. kept: the folder of signing_key.user_keys(),
    which need not exist. HostError where it cannot be written, KeyFileError for half a pair in it."""
    place = kept / KEPT
    if place.exists():
        _check_pair(place)
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with disk_errors_explained(kept):
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Path(tempfile.mkdtemp(dir=kept, prefix=".new-"))
        try:
            for name, data in ((PRIVATE_NAME, private), (PUBLIC_NAME, public)):
                (fresh / name).write_bytes(_COMMENT + data)
                (fresh / name).chmod(0o600)
            fresh.rename(place)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return False  # somebody else was faster
        finally:
            remove_tree(fresh)
    return True


def _check_pair(place: Path) -> None:
    missing = [name for name in (PRIVATE_NAME, PUBLIC_NAME) if not (place / name).is_file()]
    if missing:
        raise KeyFileError(
            f"the signing key in {place} has no {missing[0]}",
            hint="put the file back, or remove the folder: another key is made then",
        )
