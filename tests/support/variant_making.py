"""A comparison of variants that were never built, for pages about it."""

from __future__ import annotations

from imagebuilder.model.variant_table import VariantFigure, VariantRow, VariantTable
from tests.support.report_making import flash_budget


def row(name: str, *, measured: bool = True, excess: int = 0) -> VariantRow:
    """A variant with all figures. excess: bytes that its flash lacks."""

    def figure(value: float) -> VariantFigure:
        return VariantFigure(value=value, measured=measured)

    budget = flash_budget()
    if excess:
        whole = (budget.partition or 0) + excess
        update = {"used": whole, "free": None, "excess": excess, "verdict": "too big"}
        budget = budget.model_copy(update=update)
    return VariantRow(
        variant=name,
        state="does not fit" if excess else "measured" if measured else "planned",
        why="does not fit the flash" if excess else "",
        python="3.11.7",
        packages=figure(42),
        flash=figure(budget.used or 0),
        free=figure(-excess if excess else budget.free or 0),
        start=figure(0.0305) if measured and not excess else None,
        memory=figure(7 << 20) if measured else None,
        modules=figure(33) if measured and not excess else None,
        bytecode=figure(555) if measured and not excess else None,
        budget=budget,
    )


ROWS = (
    row("base"),
    row("light", measured=False),
    row("full", measured=False, excess=4 << 20),
    VariantRow(variant="micropython", state="not offered", why="no feed has micropython-mbedtls"),
    VariantRow(variant="auto", state="failed", why="make ended with 2", remarks=("without its apps",)),
)


def variant_table(*rows: VariantRow) -> VariantTable:
    """A table of these rows, or of one of each kind."""
    return VariantTable(
        config="meter",
        board="tplink-tl-wr740n-v4",
        name="TP-Link TL-WR740N/ND v4",
        tree="OpenWrt 23.05.5",
        partition=8 << 20,
        settings=None,
        variants=rows or ROWS,
    )
