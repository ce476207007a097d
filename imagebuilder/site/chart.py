"""Sizes over time, drawn as SVG that wants no script and takes its colours from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from imagebuilder.site.facts import PublishedBuild, utc

_WIDTH, _HEIGHT = 640, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 120, 12, 14, 34
_MOST_DOTS = 60
_KIB = 1 << 10


@dataclass(frozen=True)
class Series:
    """One thing's size over time. points: seconds since 1970 and bytes, the oldest first; a size counts until
    the next one."""

    name: str
    points: tuple[tuple[int, int], ...]


def _of_type(builds: Sequence[PublishedBuild], kind: str) -> tuple[tuple[int, int], ...]:
    images = ((build.published, image) for build in builds for image in build.images)
    return tuple((published, image.size) for published, image in images if image.type == kind)


def series_of(builds: Sequence[PublishedBuild]) -> list[Series]:
    """The root file system, and each type of image that the newest build has."""
    types = [image.type for image in builds[-1].images] if builds else []
    found = [Series(kind, _of_type(builds, kind)) for kind in dict.fromkeys(types)]
    stored = tuple((build.published, build.rootfs) for build in builds if build.rootfs is not None)
    return [*found, Series("root file system", stored)] if stored else found


def chart(series: Series, until: int) -> str:
    """A line with steps, as SVG that stands in HTML. until: where the newest size ends, in seconds since
    1970."""
    points = series.points
    begin, end = points[0][0], max(until, points[-1][0])
    low, high = _bounds([size for _, size in points])

    def x(seconds: int) -> float:
        share = (seconds - begin) / (end - begin) if end > begin else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(size: float) -> float:
        return _TOP + (high - size) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    path = f"M{x(begin):.1f} {y(points[0][1]):.1f}"
    for seconds, size in points[1:]:
        path += f"H{x(seconds):.1f}V{y(size):.1f}"
    path += f"H{x(end):.1f}"
    dots = points if len(points) <= _MOST_DOTS else ()
    title = f"{series.name}: from {_kib(points[0][1])} to {_kib(points[-1][1])} in {len(points)} builds"
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        *(_grid(size, y(size)) for size in (low, (low + high) / 2, high)),
        f'<path class="line" d="{path}"/>',
        *(
            f'<circle class="dot" cx="{x(seconds):.1f}" cy="{y(size):.1f}" r="3.5">'
            f"<title>{escape(utc(seconds))}: {_kib(size)}</title></circle>"
            for seconds, size in dots
        ),
        f'<text class="tick" x="{_LEFT}" y="{_HEIGHT - 8}">{_day(begin)}</text>',
        f'<text class="tick end" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}">{_day(end)}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _bounds(sizes: Sequence[int]) -> tuple[float, float]:
    """What the axis goes from and to: whole KiB, and never nothing."""
    low, high = min(sizes) // _KIB, -(-max(sizes) // _KIB)
    margin = max(1, (high - low) // 5)
    low, high = max(0, low - margin), high + margin
    return low * _KIB, (high + (high - low) % 2) * _KIB


def _grid(size: float, height: float) -> str:
    return (
        f'<path class="grid" d="M{_LEFT} {height:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="tick end" x="{_LEFT - 8}" y="{height + 4:.1f}">{_kib(size)}</text>'
    )


def _kib(size: float) -> str:
    return f"{size / _KIB:,.0f} KiB"


def _day(seconds: int) -> str:
    return utc(seconds).split(",")[0]
