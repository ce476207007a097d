"""Whether an image's programs find the RAM that they need. Every figure says where it is from. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from imagebuilder.config.board import Board
from imagebuilder.model.budget import Amount, RamBudget, RamNeed, Verdict
from imagebuilder.model.release import covers

OTHER_WORDS = 0.3  # what another size of pointers may make of a figure, relative
_WIDE = re.compile(r"(x86_64|aarch64|mips64|riscv64|powerpc64|loongarch64)")


@cache
def _data() -> Mapping[str, Any]:
    text = (resources.files(__package__) / "data/ram.json").read_text("utf-8")
    data: Mapping[str, Any] = json.loads(text)
    return data


def word_bits(arch: str) -> int:
    """64 or 32: of the processor that packages of this architecture (`mips_24kc`) are for."""
    return 64 if _WIDE.match(arch) else 32


def interpreter_family(variant: str) -> str | None:
    """`cpython` or `micropython`; None for an image without either."""
    if variant in ("none", "micropython"):
        return None if variant == "none" else "micropython"
    return "cpython"


def ram_needs(release: str, arch: str, variant: str, *, apps: bool = False) -> tuple[RamNeed, ...]:
    """What takes RAM on an idle device, and the interpreter when it has started. release: `17.01.7`; nothing
    for what nobody has measured or estimated. apps: the config has a program that runs."""
    bits = word_bits(arch)
    found = []
    system = [each for each in _data()["system"] if covers(each["releases"], release)]
    if system:
        found.append(_need("kernel and services", _nearest(system, bits), bits))
    found.append(_need("files in /tmp", _data()["tmpfs"], bits))
    family = interpreter_family(variant)
    for name, key in (("the interpreter", "interpreters"), ("what an app imports", "apps")):
        fitting = [each for each in _data()[key] if each["family"] == family]
        if fitting and (key == "interpreters" or apps):
            found.append(_need(name, _nearest(fitting, bits), bits))
    return tuple(found)


def _nearest(figures: Iterable[Mapping[str, Any]], bits: int) -> Mapping[str, Any]:
    return min(figures, key=lambda each: abs(int(each["bits"]) - bits))


def _need(name: str, figure: Mapping[str, Any], bits: int) -> RamNeed:
    size, doubt, source = figure["bytes"], figure["uncertainty"], figure["source"]
    if figure.get("bits", bits) != bits:
        doubt += round(size * OTHER_WORDS)
        source += f"; for a processor of {figure['bits']} bits, not {bits}"
    return RamNeed(name=name, amount=Amount(bytes=size, uncertainty=doubt, source=source))


def ram_budget(board: Board, needs: Iterable[RamNeed], *, wanted_free: int = 0) -> RamBudget:
    """The RAM of a board against what takes it. wanted_free: bytes. Without a figure for the board's RAM, or
    for kernel and services, there is no verdict."""
    needs = tuple(needs)
    used = sum(need.amount.bytes for need in needs)
    doubt = round(math.sqrt(sum(need.amount.uncertainty**2 for need in needs)))
    whole = any(need.name == "kernel and services" for need in needs)
    free = board.ram - used if board.ram is not None and whole else None
    excess = max(0, wanted_free - free) if free is not None else 0
    return RamBudget(
        ram=board.ram,
        needs=needs,
        used=used,
        uncertainty=doubt,
        free=free,
        wanted_free=wanted_free,
        excess=excess,
        verdict=_verdict(free, excess),
    )


def _verdict(free: int | None, excess: int) -> Verdict:
    if free is None:
        return "unknown"
    if free < 0:
        return "too big"
    return "too little left" if excess else "fits"
