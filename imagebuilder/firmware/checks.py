"""Checks, each said in one line."""

from __future__ import annotations

from imagebuilder.model.firmware import Check, Level, Proof


def equal(what: str, expected: object, found: object) -> Check:
    """A check that two values are the same."""
    return Check(what, str(expected), str(found), expected == found)


def hexadecimal(number: int) -> str:
    """A 32-bit number as people write hardware ids: `0x07400004`."""
    return f"0x{number:08x}"


def same_number(what: str, expected: int, found: int, *, proves: Proof = "") -> Check:
    """A check of two checksums or ids, shown in hex."""
    return Check(what, hexadecimal(expected), hexadecimal(found), expected == found, proves=proves)


def at_most(what: str, limit: int, found: int) -> Check:
    """A check that something has not more than so many bytes."""
    return Check(what, f"at most {limit} bytes", f"{found} bytes", found <= limit)


def holds(
    what: str, ok: bool, *, expected: str, found: str, level: Level = "error", proves: Proof = ""
) -> Check:
    """A check of a sentence."""
    return Check(what, expected, found, ok, level, proves)
