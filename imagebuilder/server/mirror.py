"""Copies of OpenWrt's download server: where they are, and where things lie in them.

Layout: `releases/VERSION/targets/TARGET/SUBTARGET/` with the ImageBuilder, `sha256sums` and its signatures;
`releases/VERSION/packages/ARCH/FEED/`; `snapshots/` in place of `releases/VERSION/`. Names of archives:
OpenWrt's target/imagebuilder/Makefile (IB_NAME):
`openwrt-imagebuilder-VERSION-TARGET-SUBTARGET.Linux-x86_64`, `lede-` in 17.01, no version in snapshots;
`.tar.zst` from 24.10 on, `.tar.xz` before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.host.transfer_part import Source
from imagebuilder.model.release import SNAPSHOT, Release

DOWNLOAD_SERVER = "https://downloads.openwrt.org"

_SAFE = "/+,:@~=!$&'()*;"  # may stand in a URL's path as they are; package names hold some of them
_ZSTD_SINCE = "24.10"


class MirrorError(UserError):
    """Something that is neither the address of a mirror nor a folder."""


@dataclass(frozen=True)
class Mirror:
    """A copy of the download server's layout. base: an http(s) address without credentials and without the
    slash at its end, or a folder. auth: user and password, never shown."""

    base: str
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def told(self) -> str:
        """The same for everybody's eyes: of a folder of this machine its name alone."""
        return self.base if "://" in self.base else Path(self.base).name

    def source(self, path: str) -> Source:
        """Where the file at a path of the layout is."""
        remote = self.base.startswith(("https://", "http://"))
        return Source(f"{self.base}/{quote(path, safe=_SAFE) if remote else path}", self.auth)


def parse_mirror(text: str) -> Mirror:
    """A mirror as a user gives it: `https://mirror.example/openwrt`, `http://user:password@…` or a folder.

    MirrorError for anything else; its message holds no credentials.
    """
    given = text.strip()
    if "://" not in given:
        folder = expand_home(given)
        if not given or not folder.is_dir():
            raise MirrorError(
                f"there is no folder '{given}' to be a mirror",
                hint="a mirror is an https:// address or a folder with the download server's layout",
            )
        return Mirror(str(folder.resolve()))
    scheme = given.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise MirrorError(
            f"a mirror is asked by https or http, or is a folder: not by '{scheme}'",
            hint="for a folder give its path alone",
        )
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise MirrorError("a mirror's address cannot be read (its host or its port)") from error
    if not host:
        raise MirrorError("a mirror's address names no host")
    if parts.query or parts.fragment:
        raise MirrorError(f"the address of the mirror at {host} has a part behind '?' or '#'")
    place = f"[{host}]" if ":" in host else host
    netloc = place if port is None else f"{place}:{port}"
    auth = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    return Mirror(urlunsplit((scheme, netloc, parts.path.rstrip("/"), "", "")), auth)


def parse_mirrors(texts: Iterable[str]) -> tuple[Mirror, ...]:
    """Mirrors in their order; OpenWrt's own download server where none is given."""
    return tuple(parse_mirror(text) for text in texts) or (Mirror(DOWNLOAD_SERVER),)


@dataclass(frozen=True)
class TargetPlace:
    """A release's files for one target. target: `ath79/tiny`."""

    release: str
    target: str

    @property
    def folder(self) -> str:
        """The path in a mirror, without a slash at its end."""
        return f"{release_folder(self.release)}/targets/{self.target}"

    def archive_names(self) -> tuple[str, ...]:
        """The names that the ImageBuilder's archive may have, the one that is by rule first.

        The others: a target without subtargets leaves `-generic` out of file names (17.01), and a release at
        the turn to .zst may be the other.
        """
        distribution = "lede" if Release(self.release).series == "17.01" else "openwrt"
        version = "" if self.release == SNAPSHOT else f"{self.release}-"
        board, _, subtarget = self.target.partition("/")
        names = [f"{board}-{subtarget}", *([board] if subtarget == "generic" else [])]
        endings = [".tar.zst", ".tar.xz"]
        if not Release(self.release).since(_ZSTD_SINCE):
            endings.reverse()
        return tuple(
            f"{distribution}-imagebuilder-{version}{name}.Linux-x86_64{ending}"
            for ending in endings
            for name in names
        )


def release_folder(release: str) -> str:
    """`releases/24.10.4`, or `snapshots`."""
    return "snapshots" if release == SNAPSHOT else f"releases/{release}"


def layout_path(url: str) -> str | None:
    """Where a feed of OpenWrt's own lies in the download server's layout, whatever server a tree's
    repositories.conf names: `releases/…` or `snapshots/…`. None for a feed that is elsewhere."""
    parts = urlsplit(url).path.strip("/").split("/")
    for at, part in enumerate(parts):
        if part in ("releases", "snapshots") and {"packages", "targets"} & set(parts[at + 1 :]):
            return "/".join(parts[at:])
    return None
