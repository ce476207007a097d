"""A flash budget as a bar of one line for terminals, and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagebuilder.model.budget import FlashBudget, RamBudget
from imagebuilder.model.size import human_size

_MARKS: Mapping[str, str] = {"kernel": "K", "base": "B", "python": "P", "apps": "A", "free": ".", "over": "!"}
# segments that are shown together: what the package manager notes belongs to the base
_SHOWN_AS = {"records": "base", "files": "apps"}
LEAST_WIDTH = 10


def segments(budget: FlashBudget) -> dict[str, int]:
    """What fills the flash, in bytes, in the order of the bar: kernel, base, python, apps, then free, or
    over: what does not fit. Padding to whole erase blocks counts as base."""
    sums = dict.fromkeys(("kernel", "base", "python", "apps"), 0)
    for part in budget.parts:
        sums[_SHOWN_AS.get(part.name, part.name)] += part.bytes
    if budget.used is not None:
        sums["base"] += max(0, budget.used - sum(sums.values()))
    shown = {name: size for name, size in sums.items() if size}
    if budget.excess and budget.verdict == "too big":
        shown["over"] = budget.excess
    elif budget.free is not None:
        shown["free"] = max(0, budget.free)
    return shown


def flash_bar(budget: FlashBudget, width: int = 60) -> str:
    """One line such as `[KKKKBBBBBBPP......] kernel 1.2 MiB, base 1.8 MiB, Python 0.9 MiB, free 768.0 KiB`.

    width: columns of the bar itself, at least LEAST_WIDTH. What overflows is drawn as `!` at its end.
    """
    shown = segments(budget)
    over = shown.pop("over", 0)
    bar = _drawn({**shown, **({"over": over} if over else {})}, max(width, LEAST_WIDTH), over=over)
    words = [f"{_name(name)} {human_size(size)}" for name, size in shown.items()]
    if over:
        words.append(f"{human_size(over)} too much")
    about = "" if budget.measured else " (predicted)"
    return f"[{bar}] {', '.join(words)}{about}"


def _name(segment: str) -> str:
    return "Python" if segment == "python" else segment


def _drawn(shown: Mapping[str, int], width: int, *, over: int) -> str:
    """Each segment with its share of the columns, one at least; the largest gives and takes what is left.
    over is a part of the others, so that it does not make them smaller."""
    sizes = {name: size for name, size in shown.items() if name != "over"}
    total = sum(sizes.values()) or 1
    columns = {name: max(1, size * width // total) for name, size in sizes.items() if size}
    if columns:
        largest = max(columns, key=lambda name: columns[name])
        columns[largest] += width - sum(columns.values())
    bar = "".join(_MARKS[name] * count for name, count in columns.items())
    beyond = min(width, max(1, over * width // total)) if over else 0
    return bar[: width - beyond] + _MARKS["over"] * beyond


def flash_picture(budget: FlashBudget) -> dict[str, Any]:
    """A flash budget for JSON: segments in bytes, with the limits and the verdict."""
    return {
        "segments": segments(budget),
        "partition": budget.partition,
        "used": budget.used,
        "free": budget.free,
        "wanted_free": budget.wanted_free,
        "excess": budget.excess,
        "uncertainty": budget.rootfs.uncertainty,
        "measured": budget.measured,
        "verdict": budget.verdict,
    }


def ram_lines(budget: RamBudget) -> list[str]:
    """What takes the RAM, a line each with its source, and what is left."""
    lines = [
        f"{need.name}: {human_size(need.amount.bytes)} ± {human_size(need.amount.uncertainty)}"
        f" ({need.amount.source})"
        for need in budget.needs
    ]
    if budget.ram is None or budget.free is None:
        return [*lines, "free: unknown" + (", for the board's RAM is" if budget.ram is None else "")]
    missing = "too little: " if budget.free < 0 else "free: "
    left = human_size(abs(budget.free))
    return [*lines, f"{missing}{left} ± {human_size(budget.uncertainty)} of {human_size(budget.ram)}"]
