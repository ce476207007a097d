"""What `compare` found, for people."""

from __future__ import annotations

from imagebuilder.cli import screen
from imagebuilder.cli.guard import RefusedError
from imagebuilder.errors import UserError
from imagebuilder.model.variant_table import VariantTable
from imagebuilder.report.variants_page import cells, legend, remarks, room


def text(table: VariantTable) -> None:
    """The table, and below it what is said of single variants."""
    about = (f"{table.config} for {table.board}", table.tree, room(table))
    screen.prose("", ", ".join(filter(None, about)))
    print()
    headings = [heading for heading, _ in cells(table.variants[0])]
    screen.table(headings, [[cell for _, cell in cells(row)] for row in table.variants])
    said = [(row.variant, remarks(row)) for row in table.variants]
    if any(words for _, words in said):
        print()
        screen.facts((name, words) for name, words in said if words)
    if legend(table):
        print()
        screen.prose("", legend(table))


def failure(table: VariantTable) -> RefusedError | None:
    """The command's error where a variant could not be planned that might be offered; None for none."""
    failed = [row.variant for row in table.variants if row.state == "failed"]
    if not failed:
        return None
    said = f"{len(failed)} of {len(table.variants)} failed: {', '.join(failed)}"
    return RefusedError(UserError(said, hint="beside each it is said what is wrong"), table)
