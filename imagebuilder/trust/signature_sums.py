"""`sha256sums` of a target's folder: verified by its signatures, then trusted about the other files there.

Format: a line for each file, `HASH *NAME` (GNU coreutils' sha256sum in binary mode; a blank in place of the
`*` in text mode).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from imagebuilder.host.run import CLEAN_PATH
from imagebuilder.log import Log
from imagebuilder.trust.keys import Keys
from imagebuilder.trust.signature import (
    ExpiredKeyError,
    NoSignatureError,
    TrustError,
    UnknownKeyError,
    UsignLengthError,
    WrongSignatureError,
    verify_gpg,
    verify_usign,
)

SUMS, USIGN, GPG = "sha256sums", "sha256sums.sig", "sha256sums.asc"

_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\x00-\x1f\x7f]{1,1024})")
_WORST_FIRST = (UsignLengthError, ExpiredKeyError, UnknownKeyError, TrustError)


class SumsError(TrustError):
    """A file that should be `sha256sums` and is none, or that does not list what is needed."""


class TruncatedSumsError(SumsError):
    """`sha256sums` that ends in the middle."""


@dataclass(frozen=True)
class Trust:
    """Why something is trusted. key: the number or fingerprint that signed it; for `pinned` the SHA-256 that
    the config gave. text: a sentence for people and the result. signed: when, where the signature says."""

    kind: Literal["usign", "gpg", "pinned"]
    key: str
    text: str
    signed: datetime | None = None


def parse_sums(data: bytes) -> dict[str, str]:
    """File name to SHA-256. SumsError for anything that is no such list, TruncatedSumsError for the beginning
    of one."""
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise SumsError(f"{SUMS} is no list of checksums: it is not text") from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines[:-1], 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise SumsError(f"{SUMS} is no list of checksums: see its line {number}")
        if sums.setdefault(match[2], match[1]) != match[1]:
            raise SumsError(f"{SUMS} gives two checksums for {match[2]}")
    if lines[-1] or not sums:
        raise TruncatedSumsError(
            f"{SUMS} is cut short: {'its last line has no end' if sums or lines[-1] else 'it is empty'}",
            hint="try again, or another mirror",
        )
    return sums


def verify_sums(files: Mapping[str, bytes], keys: Keys, release: str, log: Log) -> Trust:
    """Why the file `sha256sums` is trusted. files: it, and those of its signatures that there are, by name.

    One signature by a key that is trusted for the release is enough, but none may be wrong. TrustError and
    its kinds say what is wrong with it; `sha256sums` that is cut short is told apart from one that was
    changed.
    """
    trusted = keys.for_release(release)
    found: list[Trust] = []
    problems: list[TrustError] = []
    checks: tuple[tuple[str, Callable[[bytes], Trust]], ...] = (
        (USIGN, lambda signature: _by_usign(files[SUMS], signature, trusted)),
        (GPG, lambda signature: _by_gpg(files[SUMS], signature, trusted, log)),
    )
    for name, check in checks:
        if name not in files or (name == GPG and found and shutil.which("gpgv", path=CLEAN_PATH) is None):
            continue
        try:
            found.append(check(files[name]))
        except WrongSignatureError:
            _check_whole(files[SUMS])
            raise
        except TrustError as error:
            if isinstance(error, UsignLengthError):
                _check_whole(files[SUMS])
            problems.append(_other_series(error, keys, release))
    if found:
        return max(found, key=lambda trust: trust.signed is not None)
    if not problems:
        raise NoSignatureError(
            f"{SUMS} of {release} has no signature: neither {USIGN} nor {GPG} is there",
            hint='try another mirror; or pin the archive: trust = "sha256:…"',
        )
    problems.sort(key=lambda problem: [isinstance(problem, kind) for kind in _WORST_FIRST], reverse=True)
    for problem in problems[1:]:
        log.warn(problem.message)
    raise problems[0]


def _by_usign(sums: bytes, signature: bytes, keys: Keys) -> Trust:
    key = verify_usign(sums, signature, keys, SUMS)
    return Trust("usign", key.number, f"{SUMS} is signed by the usign key {key.number} ({key.name})")


def _by_gpg(sums: bytes, signature: bytes, keys: Keys, log: Log) -> Trust:
    verdict = verify_gpg(sums, signature, keys, SUMS)
    text = f"{SUMS} is signed by the GPG key {verdict.fingerprint} ({verdict.name})"
    if verdict.expired is not None:
        text += f" on {verdict.signed:%Y-%m-%d}, before the key expired on {verdict.expired:%Y-%m-%d}"
        log.warn(text)
    return Trust("gpg", verdict.fingerprint, text, verdict.signed)


def _check_whole(sums: bytes) -> None:
    """TruncatedSumsError for a list that visibly ends in the middle: the likelier cause of a wrong
    signature."""
    try:
        parse_sums(sums)
    except TruncatedSumsError:
        raise
    except SumsError:
        return


def _other_series(error: TrustError, keys: Keys, release: str) -> TrustError:
    """The error for a key that is known, but for other releases, says so."""
    name = keys.name_of(error.signer) if isinstance(error, UnknownKeyError) else None
    if name is None:
        return error
    return UnknownKeyError(
        f"{error.message}: that of {name} is not for {release}", signer="", hint=error.hint
    )
