"""Signatures by usign and by OpenPGP, and what can be wrong with any.

A usign signature: a line `untrusted comment: …` and a line of base64: `Ed`, 8 bytes of key number, 64 bytes
of Ed25519 signature over the file's bytes. Used for sha256sums.sig and, with the keys of a tree, for
Packages.sig. OpenPGP's are checked by gpgv with a keyring of exactly the keys that are trusted: the user's
own keyrings and settings are not looked at. gpgv's status lines: GnuPG's doc/DETAILS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import clean_environment, run
from imagebuilder.trust.keys import GpgKey, KeyFileError, Keys, UsignKey, usign_lines

USIGN_SIGNATURE_BYTES = 74

ADD_KEY_HINT = (
    'a key that you trust goes into the folder of your own keys; or pin the archive: trust = "sha256:…"'
)


class TrustError(UserError):
    """Something that came from a mirror and is not to be trusted. Nothing of it is kept."""

    def __init__(self, message: str, *, hint: str | None = "try another mirror, or later") -> None:
        super().__init__(message, hint=hint)


class NoSignatureError(TrustError):
    """There is no signature."""


class SignatureFormatError(TrustError):
    """A file that should be a signature and is none."""


class UnknownKeyError(TrustError):
    """Signed by a key that is not trusted here. signer: its number, or the end of its fingerprint."""

    def __init__(self, message: str, *, signer: str, hint: str | None = ADD_KEY_HINT) -> None:
        super().__init__(message, hint=hint)
        self.signer = signer


class WrongSignatureError(TrustError):
    """The signature of a known key that does not belong to this file: one of them was changed."""


class UsignLengthError(TrustError):
    """As WrongSignatureError, where usign's own mistake at some lengths may be the cause."""


class ExpiredKeyError(TrustError):
    """Signed by a known key, but after it had expired."""


def parse_usign_signature(data: bytes, origin: str) -> tuple[str, bytes]:
    """The number of the key (16 hex digits) and the 64 bytes of a signature. SignatureFormatError for any
    other bytes."""
    try:
        _, blob = usign_lines(data, origin)
    except KeyFileError as error:
        raise SignatureFormatError(error.message) from error
    if len(blob) != USIGN_SIGNATURE_BYTES or not blob.startswith(b"Ed"):
        raise SignatureFormatError(
            f"{origin} is no usign signature: it has not {USIGN_SIGNATURE_BYTES} bytes `Ed…`"
        )
    return blob[2:10].hex(), blob[10:]


def verify_usign(data: bytes, signature: bytes, keys: Keys, what: str) -> UsignKey:
    """The key that signed `data`. what: the file's name in messages; `WHAT.sig` is called its signature.

    SignatureFormatError, UnknownKeyError, WrongSignatureError, UsignLengthError.
    """
    # here: a build whose feeds lie in the cache needs none of it
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    number, bare = parse_usign_signature(signature, f"{what}.sig")
    candidates = [key for key in keys.usign if key.number == number]
    if not candidates:
        raise UnknownKeyError(
            f"{what} is signed by the usign key {number}, which is not among the keys trusted here",
            signer=number,
        )
    for key in candidates:
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(bare, data)
        except InvalidSignature:
            continue
        return key
    if usign_hashes_wrong(len(data)):
        raise UsignLengthError(
            f"{what}.sig does not belong to {what}; {len(data)} bytes are a length at which usign itself made"
            " wrong signatures until 2019, so this need not be a forgery",
            hint="another signature of the same file, or its next version, can be checked",
        )
    raise WrongSignatureError(
        f"{what} is not what the key {number} ({key.name}) signed: it, or its signature, was changed",
        hint="do not use it; try another mirror, and tell the keepers of this one",
    )


def usign_hashes_wrong(size: int) -> bool:
    """Whether usign's SHA-512 was wrong for a message of so many bytes: where its last block, with the 64
    bytes that Ed25519 puts before the message, has 110 or 111 bytes. Put right in usign's commit 5a52b37 of
    2019; OpenWrt pads the indexes that it signs, for the routers that check them with an older one."""
    return (64 + size) % 128 in (110, 111)


GPGV_SECONDS = 60.0
_STATUS = "[GNUPG:] "
_WEAK_HASHES = {"1": "MD5", "2": "SHA-1", "3": "RIPEMD-160"}  # RFC 4880, 9.4
_OF_DATA = ("00", "01")  # classes of signatures over a file; the others are over keys


@dataclass(frozen=True)
class GpgVerdict:
    """A signature that holds. fingerprint: of the primary key; signed: when, as the signature says; expired:
    when the key did, where that was between then and now."""

    fingerprint: str
    name: str
    signed: datetime
    expired: datetime | None = None


def verify_gpg(data: bytes, signature: bytes, keys: Keys, what: str) -> GpgVerdict:
    """What is known of the signature over `data`, armoured or not. what: the file's name, for messages.

    An expired key whose signature is of before its end is accepted, and the verdict tells.
    SignatureFormatError, UnknownKeyError, WrongSignatureError, ExpiredKeyError; HostError where gpgv is not
    on this machine.
    """
    with temporary_folder("scratch") as home:
        files = {"signature": signature, "data": data}
        status = _gpgv(home, files, keys.gpg)
    return read_status(status, keys, what)


def verify_clearsigned(message: bytes, keys: Keys, what: str) -> tuple[GpgVerdict, bytes]:
    """What is known of a clear-signed message (RFC 4880, section 7), and the text that it signs, which is
    gpgv's own reading of it. what: the file's name, for messages. Errors as verify_gpg()."""
    with temporary_folder("scratch") as home:
        text = home / "text"
        status = _gpgv(home, {"message": message}, keys.gpg, "--output", str(text))
        verdict = read_status(status, keys, what)
        return verdict, text.read_bytes()


def _gpgv(home: Path, files: Mapping[str, bytes], keys: Sequence[GpgKey], *options: str) -> list[list[str]]:
    """gpgv's status lines, each in words. files: what it is to look at, by names, in its order."""
    keyring = b"".join(key.packets for key in keys)
    for name, content in {"keyring": keyring, **files}.items():
        (home / name).write_bytes(content)
    ended = run(
        [
            *("gpgv", "--homedir", str(home), "--keyring", str(home / "keyring"), "--status-fd", "1"),
            *(*options, "--", *(str(home / name) for name in files)),
        ],
        env=clean_environment(HOME=str(home)),
        timeout=GPGV_SECONDS,
        check=False,
    )
    lines = [line.removeprefix(_STATUS) for line in ended.stdout.splitlines() if line.startswith(_STATUS)]
    return [line.split() for line in lines if line.strip()]


def read_status(status: Sequence[Sequence[str]], keys: Keys, what: str) -> GpgVerdict:
    """The verdict in gpgv's status lines; the first signature that holds counts. Errors as verify_gpg()."""
    problems: list[Exception] = []
    for one in _by_signature(status):
        verdict = _judge(one, keys, what)
        if isinstance(verdict, GpgVerdict):
            return verdict
        problems.append(verdict)
    order = (WrongSignatureError, ExpiredKeyError, UnknownKeyError, SignatureFormatError)
    problems.sort(key=lambda problem: [isinstance(problem, kind) for kind in order], reverse=True)
    raise problems[0] if problems else SignatureFormatError(f"{what}.asc is no OpenPGP signature")


def _by_signature(status: Sequence[Sequence[str]]) -> list[dict[str, list[str]]]:
    """Keyword to words, for each signature that gpgv saw."""
    found: list[dict[str, list[str]]] = []
    for keyword, *words in status:
        if keyword == "NEWSIG":
            found.append({})
        elif found:
            found[-1].setdefault(keyword, words)
    return found


def _judge(one: dict[str, list[str]], keys: Keys, what: str) -> GpgVerdict | Exception:
    """One signature: what it is worth, or what is wrong with it."""
    if "BADSIG" in one:
        name = _name(keys, one["BADSIG"][:1])
        return WrongSignatureError(
            f"{what} is not what the key of {name} signed: it, or its signature, was changed",
            hint="do not use it; try another mirror, and tell the keepers of this one",
        )
    valid = one.get("VALIDSIG", [])
    if len(valid) >= 10:
        try:
            return _judge_valid(one, valid, keys, what)
        except SignatureFormatError as error:
            return error
    signer = (one.get("NO_PUBKEY") or one.get("ERRSIG") or [])[:1]
    if not signer:
        return SignatureFormatError(f"{what}.asc is no OpenPGP signature that gpgv can check")
    return UnknownKeyError(
        f"{what} is signed by the GPG key {signer[0]}, which is not among the keys trusted here",
        signer=signer[0],
    )


def _judge_valid(
    one: dict[str, list[str]], valid: Sequence[str], keys: Keys, what: str
) -> GpgVerdict | Exception:
    """A signature that holds by its numbers. The words of VALIDSIG: fingerprint, day, time, its end, version,
    reserved, algorithm, hash, class, primary fingerprint."""
    primary, name = valid[9], _name(keys, valid[9:10])
    if valid[7] in _WEAK_HASHES or valid[8] not in _OF_DATA:
        weak = _WEAK_HASHES.get(valid[7], "something else than the file")
        return SignatureFormatError(f"{what}.asc is a signature over {weak}, which proves nothing")
    signed = _time(valid[2])
    if "GOODSIG" in one:
        return GpgVerdict(primary, name, signed)
    if "EXPKEYSIG" in one:
        expired = _time(one["KEYEXPIRED"][0]) if one.get("KEYEXPIRED") else None
        if expired is not None and signed < expired:
            return GpgVerdict(primary, name, signed, expired)
        ended = f" ({expired:%Y-%m-%d})" if expired else ""
        return ExpiredKeyError(
            f"{what} was signed on {signed:%Y-%m-%d}, after the key of {name} had expired{ended};"
            " the signature itself is no forgery",
            hint="where the key was extended meanwhile, put its newer copy into the folder of your own keys",
        )
    if "EXPSIG" in one:
        return ExpiredKeyError(f"the signature of {what} by {name} has itself expired; it is no forgery")
    return UnknownKeyError(f"{what} is signed by a key that its owner has revoked: {name}", signer="")


def _name(keys: Keys, signer: Sequence[str]) -> str:
    known = keys.name_of(signer[0]) if signer else None
    return known or (signer[0] if signer else "nobody")


def _time(seconds: str) -> datetime:
    """A time in gpgv's status: seconds since 1970, or ISO 8601 in UTC (DETAILS: for times far off).
    SignatureFormatError for anything else."""
    try:
        if seconds.isdecimal():
            return datetime.fromtimestamp(int(seconds), UTC)
        return datetime.strptime(seconds, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:  # as fromtimestamp() says of years out of its reach
        raise SignatureFormatError(f"gpgv tells a time that is none: {seconds[:40]!r}") from error
