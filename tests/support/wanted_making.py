"""Which packages feeds must give for an image: what tests of feeds begin with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagebuilder.model.package import Package, Selected, Wish
from imagebuilder.packages.opkg.resolve import NEWEST, OpkgRules, resolve


def from_feeds(
    requested: Iterable[str], own: Sequence[Package], feeds: Iterable[Package], rules: OpkgRules = NEWEST
) -> tuple[Selected, ...]:
    """What is not among the tree's own packages, dependencies first."""
    resolution = resolve(Wish.of(requested), [*own, *feeds], rules)
    here = {(package.name, package.version) for package in own}
    return tuple(
        Selected(each.package, each.why[1:])
        for each in resolution.selected
        if (each.name, each.version) not in here
    )
