"""Which OpenWrt series a tree is of, where its version does not say: by what is in it.

A fork calls its releases as it likes (`r460`, `4.1`, a commit's number), but its makefiles are OpenWrt's.
Each series brought something that every later one has. Source: the branches lede-17.01 to openwrt-25.12 of
OpenWrt's repository, and their releases from .0 on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from imagebuilder.config.releases import shipped_releases
from imagebuilder.model.release import SNAPSHOT, Release, is_embedded

OLDEST = "17.01"
_NAMED = re.compile(r"\d{2}\.\d{2}(\.\d{1,2})?(-rc\d{1,2}|-SNAPSHOT)?")


@dataclass(frozen=True)
class _Parts:
    """What series are told apart by. makefile: the Makefile's text; apk: whether CONFIG_USE_APK is set."""

    include: Path
    makefile: str
    apk: bool

    def has(self, name: str) -> bool:
        return (self.include / name).is_file()


# the newest first: what a tree of the series has, and one of the series before has not
_BROUGHT: tuple[tuple[str, Callable[[_Parts], bool]], ...] = (
    ("25.12", lambda parts: parts.apk),
    ("24.10", lambda parts: parts.has("default-packages.mk")),
    ("23.05", lambda parts: parts.has("openssl-module.mk")),
    ("22.03", lambda parts: parts.has("bpf.mk")),
    ("21.02", lambda parts: "_check_keys:" in parts.makefile),
    ("19.07", lambda parts: "DISABLED_SERVICES" in parts.makefile),
    ("18.06", lambda parts: parts.has("image-commands.mk") and not parts.has("host.mk")),
    (OLDEST, lambda parts: parts.has("image-commands.mk")),
)


@cache
def known_series() -> frozenset[str]:
    """The series of OpenWrt that trees are taken of: those with releases that this version knows."""
    return frozenset(shipped_releases().series())


def names_a_series(version: str) -> bool:
    """Whether a version is OpenWrt's own way to name a release: of a series that is known, or of a newer one.
    A fork may say 14.09 or 19.02, which OpenWrt never had."""
    if version == SNAPSHOT or is_embedded(version):
        return True
    series, known = Release(version).series, known_series()
    newer = Release(series) > max(map(Release, known))
    return _NAMED.fullmatch(version) is not None and (series in known or newer)


def series_by_parts(folder: Path, makefile: str, *, apk: bool) -> str | None:
    """The series whose makefiles a tree has; None for one from before 17.01. makefile: the text of the tree's
    Makefile; apk: whether it installs with apk."""
    parts = _Parts(folder / "include", makefile, apk)
    return next((series for series, brought in _BROUGHT if brought(parts)), None)
