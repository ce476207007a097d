"""`sha256sums` of a result, its signature by the user's key, and both verified again.

The forms are those of OpenWrt's server (trust.signature_sums): a line `HASH *FILE` for each file of the
folder, and beside it what `usign -S -m sha256sums -s KEY` would write. So `sha256sum -c sha256sums` and
`usign -V -m sha256sums -p KEY.pub` verify them as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagebuilder.config.places import INPUTS
from imagebuilder.host.files import MAX_TEXT_BYTES, PlainFileError, opened_plain, read_plain
from imagebuilder.host.fs import sha256_of
from imagebuilder.model.firmware import Check
from imagebuilder.report.files import SIGNATURE, SUMS, ResultError
from imagebuilder.trust.keys import Keys
from imagebuilder.trust.signature import TrustError, UnknownKeyError, verify_usign
from imagebuilder.trust.signature_sums import parse_sums
from imagebuilder.trust.usign import UsignPair

_THEMSELVES = (SUMS, SIGNATURE, INPUTS)  # the last says more than these sums, and is of this machine
_SIGNED = f"signature of {SUMS}"
# how images' names end in OpenWrt's image recipes; those of other names are told by their bytes
_IMAGES = (
    *(".bin", ".img", ".itb", ".ubi", ".ubifs", ".trx", ".chk", ".tar", ".gz", ".xz", ".zst", ".bz2"),
    *(".squashfs", ".ext4", ".jffs2", ".cpio", ".uimage", ".zimage", ".dtb", ".fit", ".elf", ".w", ".nand"),
    *(".sdcard", ".iso", ".vdi", ".vmdk", ".vhdx", ".qcow2", ".dlf", ".uf2", ".pkgtb", ".rmt", ".sfu"),
    *(".cdr", ".wrgg", ".web", ".swu"),
)
_HEAD = 1 << 16  # bytes; compressed and encrypted data has a zero byte among as many


def write_sums(folder: Path, known: Mapping[str, str], pair: UsignPair | None) -> None:
    """Write the sums of all files that are in the folder by now, so that nothing may be added after it; with
    a pair also the signature. known: SHA-256 of files that need not be read again, by their names.

    ResultError for a name that no line can hold.
    """
    names = sorted(place.name for place in folder.iterdir() if place.name not in _THEMSELVES)
    odd = [name for name in names if not name.isprintable()]
    if odd:
        raise ResultError(f"{SUMS} cannot name the file {odd[0]!r}")
    sums = {name: known.get(name) or sha256_of(folder / name) for name in names}
    data = "".join(f"{sha256} *{name}\n" for name, sha256 in sums.items()).encode()
    (folder / SUMS).write_bytes(data)
    if pair is not None:
        (folder / SIGNATURE).write_bytes(pair.sign(data))


def check_sums(
    folder: Path, keys: Keys, *, signed: bool = False, needed: Iterable[str] = ()
) -> tuple[Check, ...]:
    """What the files of a result are against its sums, a check each, and the signature of these where there
    is one. keys: that may have made it; signed: there has to be one; needed: names that have to be listed. A
    file that is not listed, and may be an image, is refused too: somebody would flash it.

    ResultError where there are no sums; SumsError where the file is no list of them.
    """
    try:
        data = read_plain(folder / SUMS, MAX_TEXT_BYTES, follow=False)
    except PlainFileError as error:
        raise ResultError(
            f"{folder} is no folder of a result: its {SUMS} {error.problem}",
            hint="name the folder with the images, such as out/CONFIG/BOARD",
        ) from error
    sums = parse_sums(data)
    must = {*needed}
    there = {place.name for place in folder.iterdir()} - {*_THEMSELVES} | must
    checks = [_of_file(folder, name, expected) for name, expected in sums.items()]
    checks += [
        Check(
            f"sum of {name}",
            f"a line in {SUMS}",
            "none",
            False,
            "error" if name in must or _may_be_image(folder / name) else "warning",
        )
        for name in sorted(there - sums.keys())
    ]
    signature = folder / SIGNATURE
    if signed or os.path.lexists(signature):
        checks.append(_of_signature(data, signature, keys))
    return tuple(checks)


def _of_file(folder: Path, name: str, expected: str) -> Check:
    what = f"sum of {name}"
    place = folder / name
    if "/" in name or name in (".", "..") or place.is_symlink() or not place.is_file():
        return Check(what, expected, "no such file in the folder", False)
    found = sha256_of(place)
    return Check(what, expected, found, found == expected)


def _may_be_image(place: Path) -> bool:
    """Whether a file is called as images are, or is no text: also where nobody can tell."""
    if place.is_dir():
        return False
    if place.name.lower().endswith(_IMAGES):
        return True
    try:
        with opened_plain(place) as stream:
            return b"\0" in stream.read(_HEAD)
    except (OSError, PlainFileError):
        return True


def _of_signature(data: bytes, place: Path, keys: Keys) -> Check:
    expected = "by a key that is trusted here"
    if not os.path.lexists(place):
        return Check(_SIGNED, expected, f"none: there is no {place.name}", False)
    try:
        key = verify_usign(data, read_plain(place, MAX_TEXT_BYTES, follow=False), keys, SUMS)
    except PlainFileError as error:
        return Check(_SIGNED, expected, f"{place.name} {error.problem}", False)
    except UnknownKeyError as error:
        return Check(_SIGNED, expected, f"by the key {error.signer}; --key names its file", False, "unsure")
    except TrustError as error:
        return Check(_SIGNED, expected, error.message, False)
    return Check(_SIGNED, expected, f"by the key {key.number} ({key.name})", True)
