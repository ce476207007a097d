"""Budgets in words and as bars of one line, for a screen; a flash budget as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from imagebuilder.model.budget import Budgets, FlashBudget, RamBudget
from imagebuilder.model.size import human_size

FREE, OVER = ".", "!"
_MARKS: Mapping[str, str] = {"kernel": "K", "base": "B", "python": "P", "apps": "A"}
# of what takes RAM, by the names of budget/ram.py; another name's first letter
_RAM_MARKS = {"files in /tmp": "T", "the interpreter": "P", "what an app imports": "A"}
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
    """`[KKKKBBBBBBPP......]`; what overflows is drawn as `!` at its end. width: columns of the bar itself, at
    least LEAST_WIDTH."""
    shown = segments(budget)
    over, free = shown.pop("over", 0), shown.pop("free", 0)
    return _bar({_MARKS[name]: size for name, size in shown.items()}, free, over, width)


def flash_words(budget: FlashBudget) -> tuple[str, ...]:
    """What fills the flash, with the letters of the bar, and how sure that is."""
    sizes = segments(budget).items()
    filled = [f"{_MARKS[name]} {_name(name)} {human_size(size)}" for name, size in sizes if name in _MARKS]
    unsure = human_size(budget.rootfs.uncertainty)
    return (*filled, "measured" if budget.measured else f"predicted, ± {unsure}")


def flash_left(budget: FlashBudget) -> str:
    """How much is free, or too much, and of what."""
    whole = "" if budget.partition is None else f" of {human_size(budget.partition)}"
    if budget.verdict == "too big":
        # an image's own limit may be the one that is passed
        passed = budget.partition is not None and budget.used == budget.partition + budget.excess
        return f"{human_size(budget.excess)} too much{f' for{whole[3:]}' if passed else ''}"
    wanted = f", {human_size(budget.wanted_free)} wanted" if budget.verdict == "too little left" else ""
    if budget.free is not None:
        apart = "" if budget.settings is None else f", {human_size(budget.settings)} apart for settings"
        return f"{human_size(max(budget.free, 0))}{whole} free{apart}{wanted}"
    limited = [
        f"{image.type} {human_size(image.bytes)} of at most {human_size(image.limit)}"
        for image in budget.images
        if image.bytes is not None and image.limit is not None
    ]
    return ", ".join(limited) or "how much is free is not known"


def ram_bar(budget: RamBudget, width: int = 60) -> str:
    """As flash_bar(). Of a board whose RAM is not known, what is known to be taken fills the bar."""
    shown: dict[str, int] = {}
    for need in budget.needs:
        mark = _ram_mark(need.name)
        shown[mark] = shown.get(mark, 0) + need.amount.bytes
    free = budget.free or 0
    return _bar(shown, max(free, 0), max(-free, 0), width)


def ram_words(budget: RamBudget) -> tuple[str, ...]:
    """What takes the RAM, with the letters of the bar, and how sure that is."""
    needs = (f"{_ram_mark(each.name)} {each.name} {human_size(each.amount.bytes)}" for each in budget.needs)
    return (*needs, f"± {human_size(budget.uncertainty)}")


def ram_left(budget: RamBudget) -> str:
    """How much is free, or too much, and of what."""
    if budget.ram is None or budget.free is None:
        return "free: unknown" + (", for the board's RAM is" if budget.ram is None else "")
    whole = human_size(budget.ram)
    if budget.free < 0:
        return f"{human_size(-budget.free)} too much for {whole}"
    wanted = f", {human_size(budget.wanted_free)} wanted" if budget.excess else ""
    return f"{human_size(budget.free)} of {whole} free{wanted}"


def ram_sources(budget: RamBudget) -> tuple[str, ...]:
    """Where each figure is from."""
    return tuple(
        f"{need.name}: {human_size(need.amount.bytes)} ± {human_size(need.amount.uncertainty)},"
        f" {need.amount.source}"
        for need in budget.needs
    )


@dataclass(frozen=True)
class Answer:
    """Whether an image fits. kind: no: it is not built; perhaps: the figures are not that sure, or there are
    none."""

    kind: Literal["yes", "perhaps", "no"]
    text: str


def answer(budgets: Budgets) -> Answer:
    """Whether it fits, in words that follow the names of config and board."""
    flash, ram = budgets.flash, budgets.ram
    refused = []
    if flash is not None and flash.too_much:
        refused.append(f"the flash: {flash_left(flash)}")
    if ram is not None and ram.too_much:
        refused.append(f"the RAM: {ram_left(ram)}")
    if refused:
        return Answer("no", f"does not fit {'; '.join(refused)}")
    short = ram is not None and (ram.free or 0) < 0
    doubt = "; the RAM may be too little" if short else ""
    if flash is None:
        return Answer("perhaps", f"whether it fits is not known before it is built{doubt}")
    unsure = human_size(flash.rootfs.uncertainty)
    if flash.excess:
        return Answer("perhaps", f"may not fit: {flash_left(flash)}, give or take {unsure}{doubt}")
    if flash.verdict == "unknown":
        return Answer("perhaps", f"no limit of its flash is known{doubt}")
    if flash.spare is not None and flash.spare < flash.rootfs.uncertainty:
        return Answer("perhaps", f"fits narrowly: {flash_left(flash)}, give or take {unsure}{doubt}")
    return Answer("perhaps" if short else "yes", f"fits{doubt}")


def _ram_mark(name: str) -> str:
    return _RAM_MARKS.get(name, name[0].upper())


def _name(segment: str) -> str:
    return "Python" if segment == "python" else segment


def _bar(shown: Mapping[str, int], free: int, over: int, width: int) -> str:
    """shown: bytes by mark. Each has its share of the columns, one at least; the largest gives and takes what
    is left. over is a part of the others, so that it does not make them smaller."""
    sizes = {**shown, **({FREE: free} if free else {})}
    width = max(width, LEAST_WIDTH)
    total = sum(sizes.values()) or 1
    columns = {mark: max(1, size * width // total) for mark, size in sizes.items() if size}
    if columns:
        largest = max(columns, key=lambda mark: columns[mark])
        columns[largest] += width - sum(columns.values())
    bar = "".join(mark * count for mark, count in columns.items())
    beyond = min(width, max(1, over * width // total)) if over else 0
    return f"[{bar[: width - beyond]}{OVER * beyond}]"


def flash_picture(budget: FlashBudget) -> dict[str, Any]:
    """A flash budget for JSON: segments in bytes, with the limits and the verdict."""
    return {
        "segments": segments(budget),
        "partition": budget.partition,
        "used": budget.used,
        "free": budget.free,
        "settings": budget.settings,
        "wanted_free": budget.wanted_free,
        "excess": budget.excess,
        "uncertainty": budget.rootfs.uncertainty,
        "measured": budget.measured,
        "verdict": budget.verdict,
    }
