"""OpenPGP signatures, checked by gpgv with a keyring of exactly the keys that are trusted.

gpgv's status lines: GnuPG's doc/DETAILS. The user's own keyrings and settings are not looked at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagebuilder.host.run import clean_environment, run
from imagebuilder.trust.keys import GpgKey, Keys
from imagebuilder.trust.signature import (
    ExpiredKeyError,
    SignatureFormatError,
    UnknownKeyError,
    WrongSignatureError,
)

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
    with tempfile.TemporaryDirectory(prefix="gpgv-") as home:
        files = {"signature": signature, "data": data}
        status = _gpgv(Path(home), files, keys.gpg)
    return read_status(status, keys, what)


def verify_clearsigned(message: bytes, keys: Keys, what: str) -> tuple[GpgVerdict, bytes]:
    """What is known of a clear-signed message (RFC 4880, section 7), and the text that it signs, which is
    gpgv's own reading of it. what: the file's name, for messages. Errors as verify_gpg()."""
    with tempfile.TemporaryDirectory(prefix="gpgv-") as home:
        text = Path(home) / "text"
        status = _gpgv(Path(home), {"message": message}, keys.gpg, "--output", str(text))
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
        return _judge_valid(one, valid, keys, what)
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
    """A time in gpgv's status: seconds since 1970, or ISO 8601 in UTC (DETAILS: for times far off)."""
    if seconds.isdecimal():
        return datetime.fromtimestamp(int(seconds), UTC)
    return datetime.strptime(seconds, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
