"""Which distributions of package indexes OpenWrt's feeds have: python3-requests 2.31.0-1 is requests 2.31.0.

Names are PYPI_NAME of the makefiles in lang/python of openwrt/packages (branches openwrt-21.02 to master).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from imagebuilder.model.package import Package

PREFIX = "python3-"
# where what follows `python3-` is not the distribution's name
_DISTRIBUTIONS = {
    "augeas": "python-augeas",
    "cryptodome": "pycryptodome",
    "cryptodomex": "pycryptodomex",
    "curl": "pycurl",
    "dateutil": "python-dateutil",
    "django-jsonfield": "jsonfield",
    "django-postoffice": "django-post-office",
    "django-restframework": "djangorestframework",
    "django-restframework39": "djangorestframework",
    "django1": "django",
    "dns": "dnspython",
    "dotenv": "python-dotenv",
    "engineio": "python-engineio",
    "gnupg": "python-gnupg",
    "libmodbus": "pylibmodbus",
    "pkg-resources": "setuptools-pkg-resources",  # cut from setuptools, which has a package of its own
    "pymysql-sha-pwd": "pymysql-sha-pwd",  # an addition to PyMySQL without files
    "slugify": "python-slugify",
    "socketio": "python-socketio",
    "uci": "pyuci",
    "yaml": "pyyaml",
}
_REVISION = re.compile(r"-r?\d+$")


@dataclass(frozen=True, slots=True)
class FeedDistribution:
    """A distribution that a feed's package is."""

    name: NormalizedName
    version: Version
    package: str


def distribution_of(package: Package) -> FeedDistribution | None:
    """The distribution that a package is; None for other packages, and for versions that are none of
    Python's."""
    if not package.name.startswith(PREFIX) or package.name.endswith("-src"):
        return None
    name = package.name.removeprefix(PREFIX)
    upstream = _REVISION.sub("", package.version).replace("~", "")
    try:
        version = Version(upstream)
    except InvalidVersion:
        return None
    return FeedDistribution(canonicalize_name(_DISTRIBUTIONS.get(name, name)), version, package.name)


def feed_distributions(
    packages: Iterable[Package], *, without: Iterable[str] = ()
) -> dict[NormalizedName, FeedDistribution]:
    """The newest of each distribution that feeds have. without: names of packages that are none, as those
    that the standard library is cut into."""
    left_out = frozenset(without)
    found: dict[NormalizedName, FeedDistribution] = {}
    for package in packages:
        each = distribution_of(package)
        if each is not None and package.name not in left_out:
            known = found.get(each.name)
            if known is None or known.version < each.version:
                found[each.name] = each
    return found


def satisfying(
    requirement: Requirement, feed: Mapping[NormalizedName, FeedDistribution]
) -> FeedDistribution | None:
    """The feed package that satisfies a requirement. Nothing does where extras are asked for: feeds do not
    say which they bring."""
    found = feed.get(canonicalize_name(requirement.name))
    if found is None or requirement.extras:
        return None
    return found if requirement.specifier.contains(found.version, prereleases=True) else None
