"""Which packages of an image come from feeds, and who wants each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagebuilder.feeds.resolve import NEWEST, Rules, resolve
from imagebuilder.model.package import Package
from imagebuilder.openwrt.feed import Wanted


def from_feeds(
    requested: Iterable[str], own: Sequence[Package], feeds: Iterable[Package], rules: Rules = NEWEST
) -> tuple[Wanted, ...]:
    """The packages that the feeds must give for an image, dependencies first.

    requested: names, as Plan.wanted has them. own: what the tree has in its packages/, libc and kernel
    included; of equal versions its own counts. feeds: in the order of repositories.conf; of equal versions
    the last counts, as with opkg. rules: see feeds.resolve.rules_of(). Raises ResolutionError, which names
    what is in no feed and what wants it.
    """
    resolution = resolve(requested, (), [*own, *reversed(list(feeds))], rules)
    here = {id(package) for package in own}
    return tuple(
        Wanted(package, resolution.why(package.name))
        for package in resolution.packages
        if id(package) not in here
    )
