"""Images of one config for one board that differ in their Python, side by side, as `compare --json`
prints them."""

from __future__ import annotations

from typing import Literal

from imagebuilder.model.base import Many, Model
from imagebuilder.model.budget import FlashBudget, RamBudget

# planned: nothing was built, or what was built failed, as `why` says then; not offered: the release, the
# board or the config do not have it; not run: the command was ended before
VariantState = Literal["planned", "measured", "not offered", "does not fit", "failed", "not run"]


class VariantFigure(Model):
    """A figure. measured: of the image that was built; else it is planned, and may be wrong by `uncertainty`
    either way."""

    value: float
    measured: bool
    uncertainty: float = 0


class VariantRow(Model):
    """One variant. why: why it has no figures, or none that were measured; remarks: what else is other than
    in the config. python: the interpreter's version, "" without one. flash: bytes of the board's firmware
    partition that kernel and root file system fill, in whole erase blocks, or those of the root file system
    where no partition is known; free: bytes that stay of it; negative: that much is too much.
    start: seconds until a program of one line has run, on the machine that built; memory: bytes that the
    interpreter takes when it has started; modules: that are loaded then; bytecode: how many files of it the
    image has; look_ups: how often that start asked the file system for modules. budget, ram: where the bytes
    go."""

    variant: str
    state: VariantState
    why: str = ""
    remarks: Many[str] = ()
    python: str = ""
    packages: VariantFigure | None = None
    flash: VariantFigure | None = None
    free: VariantFigure | None = None
    start: VariantFigure | None = None
    memory: VariantFigure | None = None
    modules: VariantFigure | None = None
    bytecode: VariantFigure | None = None
    look_ups: VariantFigure | None = None
    budget: FlashBudget | None = None
    ram: RamBudget | None = None


class VariantTable(Model):
    """All variants that were asked for, in that order. name: of the board, for people; tree: what the images
    are made of, "" where no variant could be planned; partition: bytes that `flash` and `free` are of, None
    where nobody knows; settings: bytes of a partition of their own for settings, None where they get what is
    free."""

    config: str
    board: str
    name: str
    tree: str
    partition: int | None
    settings: int | None
    variants: Many[VariantRow]
