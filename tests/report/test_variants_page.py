"""The page of `compare`: what it says, what is drawn, and that others' words stay words."""

from __future__ import annotations

import pytest

from imagebuilder.model.variant_table import VariantFigure, VariantRow, VariantTable
from imagebuilder.report.flash_bar import segments
from imagebuilder.report.variants_page import cells, legend, remarks, seconds_text, size_text, variants_page
from tests.report.test_page import NASTY, Seen
from tests.support.report_making import KIB, flash_budget
from tests.support.variant_making import row, variant_table


def test_a_figure_that_nobody_measured_is_marked_so() -> None:
    assert size_text(VariantFigure(value=1536 * KIB, measured=True)) == "1.5 MiB"
    assert size_text(VariantFigure(value=1536 * KIB, measured=False)) == "~ 1.5 MiB"
    assert size_text(VariantFigure(value=-2 * KIB, measured=False)) == "~ 2.0 KiB too much"
    doubt = VariantFigure(value=7 << 20, measured=False, uncertainty=512 * KIB)
    assert size_text(doubt) == "~ 7.0 MiB ± 512.0 KiB"
    assert seconds_text(VariantFigure(value=0.0304, measured=True)) == "0.030 s"
    assert size_text(None) == seconds_text(None) == ""


def test_what_the_figures_are_is_said_in_one_sentence() -> None:
    planned, measured = row("base", measured=False), row("base")
    memory = {"memory": VariantFigure(value=7 * KIB, measured=False)}

    def said(*rows: VariantRow) -> str:
        return legend(variant_table(*rows))

    assert said(planned) == "All figures are planned: nothing was built."
    assert said(measured) == "All figures are measured."
    assert said(planned, measured).startswith("Figures with ~ are planned")
    mixed = said(measured.model_copy(update=memory), row("light"))
    assert mixed.endswith("measured in images that were built. Planned for base: memory.")
    failed = said(row("base"), planned.model_copy(update={"variant": "full"}))
    assert failed.endswith("Planned for full: packages, flash, free flash.")
    assert said(VariantRow(variant="full", state="not offered", why="x")) == ""


def test_what_shares_the_flash_is_said_as_it_is() -> None:
    table = variant_table()
    assert "8.0 MiB for kernel, system and settings" in Seen(variants_page(table)).text
    apart = table.model_copy(update={"settings": 2 << 20})
    assert "8.0 MiB for the system, 2.0 MiB apart for settings" in Seen(variants_page(apart)).text


def test_remarks_say_why_a_row_is_empty() -> None:
    gone = VariantRow(
        variant="micropython", state="not offered", why="no feed has it", remarks=("and so on",)
    )
    assert remarks(gone) == "not offered: no feed has it; and so on"
    assert remarks(row("base")) == ""
    assert remarks(VariantRow(variant="base", state="not run")) == "not run"


def test_every_variant_has_a_row_and_its_figures() -> None:
    table = variant_table()
    seen = Seen(variants_page(table))
    for each in table.variants:
        for _, text in cells(each):
            assert text in seen.text
        assert remarks(each) in seen.text
    assert len(seen.all("tr")) == 1 + len(table.variants)


def test_bars_are_on_one_scale_and_the_flash_ends_where_the_page_says() -> None:
    page = variants_page(variant_table())
    small, large = row("base").budget, row("full", excess=4 << 20).budget
    assert small is not None
    assert large is not None
    sizes = [sum(size for key, size in segments(each).items() if key != "over") for each in (small, large)]
    assert f".flash-end{{left:{(8 << 20) * 100 / max(sizes):.2f}%}}" in page
    assert "the board&#39;s flash ends at 8.0 MiB" in page
    alone = variants_page(variant_table(row("base")))
    assert "flash-end" not in alone, "nothing is longer than the flash"
    assert flash_budget().partition == 8 << 20


@pytest.mark.parametrize("text", [NASTY, "a" * 5000])
def test_words_of_others_stay_words(text: str) -> None:
    table = variant_table(VariantRow(variant="base", state="not offered", why=text, remarks=(text,)))
    table = VariantTable.model_validate({**table.model_dump(), "name": text, "tree": text})
    seen = Seen(variants_page(table))
    assert text in seen.text
    assert not seen.all("script")
    assert not seen.all("img")
