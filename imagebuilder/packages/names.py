"""Names of packages and services that somebody may mean: what OpenWrt renamed, what ends in the version of an
interface, and what looks like it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources

from imagebuilder.packages.universe import Universe

# `libubus20191227`, `libgcc1`, `libopenssl1.1`, `libblobmsg-json20230523`: OpenWrt's ABI_VERSION ends them
_ABI = re.compile(r"(?P<name>lib.+?)-?\d[\d.]*")
_NEAR = 0.8  # of two names, how alike they are where one is hardly another thing


@cache
def _data() -> Mapping[str, list[str]]:
    text = (resources.files(__package__) / "data/names.json").read_text("utf-8")
    facts = json.loads(text)
    return {
        "defaults": facts["defaults"],
        "services": facts["services"],
        **{f"renamed {number}": names for number, names in enumerate(facts["renamed"])},
    }


@cache
def names_of_any_release() -> frozenset[str]:
    """Packages that one release or another installs by default or did so under another name: a config for
    several releases may take them out where there are none."""
    return frozenset(name for key, names in _data().items() if key != "services" for name in names)


@cache
def known_services() -> frozenset[str]:
    """Init scripts whose names are not those of their packages."""
    return frozenset(_data()["services"])


def namesakes(name: str) -> tuple[str, ...]:
    """What releases of OpenWrt call a package or have in its place, the newest first, without the name
    itself."""
    families = (names for key, names in _data().items() if key.startswith("renamed") and name in names)
    return tuple(dict.fromkeys(each for names in families for each in reversed(names) if each != name))


def offered_as(name: str, universe: Universe) -> str | None:
    """A hint that says by which name the feeds have a package: without the version of its interface that it
    ended in, or as another release calls it; else the names that look like it. None where there is none."""
    plain = _ABI.fullmatch(name)
    if plain is not None and (here := _of_plain_name(plain["name"], universe)):
        ending = f", here {here[0]}" if here[0] != plain["name"] else ""
        return f"say '{plain['name']}'{ending}: the number is of its interface, and changes with the release"
    renamed = next((each for each in namesakes(name) if universe.providers(each)), None)
    if renamed is not None:
        return f"did you mean '{renamed}'? That is its name, or what is in its place, in this release"
    near = [each for each in universe.nearest(name) if each != name]
    return f"did you mean {' or '.join(repr(each) for each in near[:3])}?" if near else None


def _of_plain_name(name: str, universe: Universe) -> list[str]:
    """The packages that a name without its ABI version means."""
    return [*universe.providers(name)] or [
        each.name for each in universe.packages if each.abi_version and each.plain_name == name
    ]


def much_like(name: str, known: Collection[str]) -> str | None:
    """The known name that this one is, but for a slip of the finger."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=_NEAR)), None)
