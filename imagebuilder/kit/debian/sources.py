"""Where Debian's packages come from: the mirror's address, and the keys that a release is verified with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from imagebuilder.host.run import CLEAN_PATH, run
from imagebuilder.kit.debian.archive import DebianError, Mirrors
from imagebuilder.model.edition import Edition
from imagebuilder.trust.keys import GpgKey, Keys, parse_gpg_key

MIRROR_VARIABLE = "OPENWRT_IMAGEBUILDER_DEBIAN"
DEFAULT = Mirrors("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")
KEYS = Path(__file__).with_name("keys")
APT_SECONDS = 30.0
_SECURITY = "-security"


def has_apt() -> bool:
    """Whether this machine has apt."""
    return all(shutil.which(name, path=CLEAN_PATH) for name in ("apt-get", "apt-config"))


def find_mirrors(environment: Mapping[str, str] = os.environ) -> Mirrors:
    """Debian's mirrors: what OPENWRT_IMAGEBUILDER_DEBIAN says (http://SERVER/debian; the security archive is
    beside it, `-security` behind its name), else those that this machine's apt is set up with, else Debian's
    own. DebianError for a value that is no http(s) address."""
    given = environment.get(MIRROR_VARIABLE)
    if not given:
        return _mirrors_of_apt() if has_apt() else DEFAULT
    address = given.rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc or not parts.path or " " in address:
        raise DebianError(
            f"{MIRROR_VARIABLE} is {given[:100]!r}, which is no address of a Debian mirror",
            hint=f"for example {MIRROR_VARIABLE}={DEFAULT.main}",
        )
    return Mirrors(address, address + _SECURITY)


def _mirrors_of_apt() -> Mirrors:
    """Those that this machine's apt names. Its other settings are not looked at, and on a system that is not
    Debian it names none."""
    asked = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages")
    named = run(asked, timeout=APT_SECONDS, check=False).stdout
    main = next(_named(named, "debian"), DEFAULT.main)
    return Mirrors(main, next(_named(named, f"debian{_SECURITY}"), DEFAULT.security))


def _named(indextargets: str, archive: str) -> Iterator[str]:
    """The addresses of archives that are called so, as Debian asks its mirrors to call them."""
    for line in indextargets.splitlines():
        address, _, component = line.partition(" ")
        address = address.rstrip("/")
        is_web = address.startswith(("http://", "https://"))
        if is_web and component == "main" and address.endswith(f"/{archive}") and "@" not in address:
            yield address


def release_keys(edition: Edition) -> Keys:
    """The shipped keys that sign this edition's Debian: the archive's, the security archive's, the
    release's."""
    files = sorted(KEYS.glob(f"{edition.codename}-*.asc"))
    keys = (parse_gpg_key(file.read_bytes(), file.name) for file in files)
    return Keys(gpg=tuple(GpgKey(key.packets, key.fingerprints, f"Debian, {key.name}") for key in keys))
