"""Versions of Python distributions (PEP 440) as versions of packages, in the same order.

opkg compares as Debian does, where `~` comes before everything, the end included; apk has suffixes for what
comes before a version and after it, and no epochs. Releases of a package are counted behind a hyphen.
"""

from __future__ import annotations

from typing import Literal

from packaging.version import Version

from imagebuilder.errors import UserError

PackageManager = Literal["opkg", "apk"]
_APK_PRE = {"a": "_alpha", "b": "_beta", "rc": "_rc"}


class PackageVersionError(UserError):
    """A version that the package manager cannot have."""


def package_version(version: Version, release: int, manager: PackageManager) -> str:
    """1.0rc2 as 1.0~rc2-1 for opkg and as 1.0_rc2-r1 for apk. release: counts packages of one version.

    PackageVersionError for an epoch or a local part where apk has no place for it.
    """
    return f"{_opkg(version)}-{release}" if manager == "opkg" else f"{_apk(version)}-r{release}"


def _opkg(version: Version) -> str:
    text = f"{version.epoch}:" if version.epoch else ""
    text += ".".join(map(str, version.release))
    if version.pre is not None:
        text += "~{}{}".format(*version.pre)
    if version.post is not None:
        text += f".post{version.post}"
    if version.dev is not None:  # before a pre-release of the same number, so one ~ more
        text += f"~~dev{version.dev}"
    return text + (f"+{version.local}" if version.local else "")


def _apk(version: Version) -> str:
    if version.epoch or version.local:
        raise PackageVersionError(
            f"apk has no place for the version {version}: no epoch, and nothing behind a +",
            hint="give its package another: version = …",
        )
    text = ".".join(map(str, version.release))
    if version.pre is not None:
        kind, number = version.pre
        text += f"{_APK_PRE[kind]}{number}"
    if version.post is not None:
        text += f"_p{version.post}"
    if version.dev is not None:  # before all pre-releases, also 0a0.dev0, if it is of none
        text += (
            f"_pre{version.dev}" if version.pre or version.post is not None else f"_alpha0_alpha{version.dev}"
        )
    return text
