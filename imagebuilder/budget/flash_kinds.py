"""What kind of content a package holds, as far as its name and section tell, and how each kind compresses.

The figures are in data/compression.json, made by tests/benchmarks/compression_figures.py: for packages at
hand, bytes of squashfs for a byte of the package's own gzipped archive. They hold for what they were measured
on; for another block size, architecture or compressor the nearest are taken and their uncertainty grows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

Kind = Literal[
    "kernel module",
    "library",
    "program",
    "lua and web",
    "python bytecode",
    "python source",
    "python interpreter",
    "firmware",
]

# the first that matches; CPython's own package has its machine code, that of MicroPython nothing else
_KINDS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"kmod-|kernel$"), "kernel module"),
    (
        re.compile(r"(python[23]?-base|libpython[\d.-]*|micropython(-mbedtls|-nossl|-unix)?)$"),
        "python interpreter",
    ),
    (re.compile(r"(python.*-src|micropython-lib-src|micropython-lib)$"), "python source"),
    (re.compile(r"(python[23]?|micropython-lib)(-|$)"), "python bytecode"),
    (re.compile(r"(luci|rpcd-mod-luci|cgi-io|lua-)"), "lua and web"),
    (re.compile(r".*-firmware(-|$)|wireless-regdb$"), "firmware"),
    (re.compile(r"lib"), "library"),
)

# what an other block size, filter or architecture than the measured one may make of it, relative
OTHER_BLOCK, OTHER_FILTER, OTHER_ARCH, OTHER_KIND, OTHER_COMPRESSOR = 0.03, 0.05, 0.05, 0.05, 0.2
_LEAST = 0.03
# what counts where a kind itself was not measured with a compressor, the nearest first
_STAND_INS: Mapping[str, tuple[Kind, ...]] = {
    "python interpreter": ("library",),
    "lua and web": ("python source",),
    "python source": ("lua and web",),
}


@dataclass(frozen=True)
class Figure:
    """One kind of content, measured. ratio: bytes of squashfs a byte of gzipped archive; spread: standard
    deviation of that among groups of packages; block: bytes; filters: machine code was filtered (-Xbcj);
    packages, packed: how many were measured, and their archives' bytes."""

    compressor: str
    block: int
    filters: bool
    arch: str
    kind: Kind
    ratio: float
    spread: float
    packages: int
    packed: int
    source: str


@dataclass(frozen=True)
class Ratio:
    """The figure to use: ratio, and by how much it may be wrong (about two standard deviations)."""

    ratio: float
    uncertainty: float
    source: str


def kind_of(name: str, section: str = "", *, python_sources: bool = False) -> Kind:
    """The kind of a package. python_sources: the release ships .py files and no bytecode (17.01)."""
    for pattern, kind in _KINDS:
        if pattern.match(name):
            return "python source" if kind == "python bytecode" and python_sources else kind
    return "lua and web" if section == "luci" else "firmware" if section == "firmware" else "program"


@cache
def figures() -> tuple[Figure, ...]:
    """All that was measured."""
    text = (resources.files(__package__) / "data/compression.json").read_text("utf-8")
    return tuple(Figure(**each) for each in json.loads(text)["figures"])


@cache
def record_bytes(compressor: str) -> tuple[float, float]:
    """What the package manager's records of one package add to the squashfs: bytes, and their standard
    deviation."""
    text = (resources.files(__package__) / "data/compression.json").read_text("utf-8")
    records = json.loads(text)["records"]
    found = records.get(compressor) or records["xz"]
    return found["bytes"], found["spread"]


def _family(arch: str) -> str:
    """`mips` for mips_24kc and mipsel_74kc: the same instructions in another byte order."""
    return arch.partition("_")[0].removesuffix("el")


def ratio_for(
    kind: Kind,
    *,
    compressor: str,
    block: int,
    filters: bool,
    arch: str,
) -> Ratio:
    """The figure that is nearest to how a tree compresses. arch: of the tree's packages (`mips_24kc`)."""
    measured = figures()
    among: list[Figure] = []
    for stand_in in (kind, *_STAND_INS.get(kind, ()), "program", "library"):
        among = among or [each for each in measured if (each.kind, each.compressor) == (stand_in, compressor)]
    among = among or [each for each in measured if each.kind == kind] or list(measured)

    def distance(figure: Figure) -> float:
        away = OTHER_COMPRESSOR if figure.compressor != compressor else 0.0
        away += OTHER_BLOCK if figure.block != block else 0.0
        away += OTHER_FILTER if figure.filters != filters else 0.0
        return away + (OTHER_ARCH if _family(figure.arch) != _family(arch) else 0.0)

    best = min(among, key=lambda figure: (distance(figure), abs(figure.block - block)))
    doubt = max(_LEAST, 2 * best.spread / best.ratio) + distance(best)
    doubt += OTHER_KIND if best.kind != kind else 0.0
    return Ratio(best.ratio, best.ratio * doubt, best.source)
