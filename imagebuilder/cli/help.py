"""`--help` on narrow terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from imagebuilder.cli.screen import columns

# as far as typer folds usage lines; its panels are tables of rich, which below so many columns cut the names
# of options, with `…`
HELP_COLUMNS = 80


class _Command(TyperCommand):
    """A command whose help names every option whole: in lines where there is no room for panels."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As TyperCommand does it."""
        if (columns() or HELP_COLUMNS) < HELP_COLUMNS:
            self.rich_markup_mode = None
        super().format_help(ctx, formatter)


class Commands(typer.Typer):
    """As Typer, of commands whose help fits the terminal."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """As Typer.command()."""
        return super().command(name, cls=_Command, **settings)
