"""The editions of the embedded kit: which Debian each is made of, and whose packages it plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Edition:
    """release: what a config says to have it. debian: the version of Debian, codename: its name on mirrors.
    series: the OpenWrt series whose catalogue cuts its Python, and has CPython of the same version. glibc:
    the version of Debian's C library, which says what wheels run on it."""

    release: str
    debian: str
    codename: str
    series: str
    glibc: tuple[int, int]


EDITIONS: Mapping[str, Edition] = MappingProxyType(
    {
        edition.release: edition
        for edition in (
            Edition("embedded", "12", "bookworm", "23.05", (2, 36)),
            Edition("embedded-3.13", "13", "trixie", "25.12", (2, 41)),
        )
    }
)
