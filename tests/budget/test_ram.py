"""RAM budgets: figures with their sources, and no verdict where something is not known."""

from __future__ import annotations

import pytest

from imagebuilder.budget.ram import interpreter_family, ram_budget, ram_needs, word_bits
from imagebuilder.config.board import Board
from imagebuilder.model.budget import Amount, Budgets, RamNeed
from imagebuilder.report.flash_bar import answer, ram_bar, ram_left, ram_sources, ram_words
from tests.support.budget_making import board


@pytest.mark.parametrize(
    ("arch", "bits"), [("mips_24kc", 32), ("x86_64", 64), ("aarch64_cortex-a53", 64), ("arm_cortex-a9", 32)]
)
def test_word_bits(arch: str, bits: int) -> None:
    assert word_bits(arch) == bits


def test_every_need_says_where_its_figure_is_from() -> None:
    needs = ram_needs("23.05.5", "mips_24kc", "light", apps=True)
    assert [need.name for need in needs] == [
        "kernel and services",
        "files in /tmp",
        "the interpreter",
        "what an app imports",
    ]
    assert all(need.amount.source and need.amount.bytes > 0 for need in needs)


def test_cpython_on_32_mib_is_tight_and_micropython_is_not() -> None:
    tight = ram_budget(board(), ram_needs("17.01.7", "mips_24kc", "base"), wanted_free=4 << 20)
    easy = ram_budget(board(), ram_needs("17.01.7", "mips_24kc", "micropython"), wanted_free=4 << 20)
    assert tight.verdict == "too little left"
    assert tight.excess == (4 << 20) - (tight.free or 0)
    assert easy.verdict == "fits"
    assert tight.uncertainty > 5 << 20


def test_a_release_that_needs_more_than_there_is() -> None:
    assert ram_budget(board(), ram_needs("24.10.0", "mips_24kc", "base")).verdict == "too big"


def test_unknown_ram_gives_no_verdict() -> None:
    unknown = Board.model_validate({**board().model_dump(mode="python"), "ram": None})
    budget = ram_budget(unknown, ram_needs("17.01.7", "mips_24kc", "base"), wanted_free=1)
    assert (budget.verdict, budget.free, budget.excess) == ("unknown", None, 0)
    assert ram_left(budget) == "free: unknown, for the board's RAM is"
    assert set(ram_bar(budget, 40)[1:-1]) == {"K", "T", "P"}


def test_needs_are_wrong_independently_of_each_other() -> None:
    needs = [
        RamNeed(name=name, amount=Amount(bytes=1 << 20, uncertainty=doubt, source="a test"))
        for name, doubt in (("kernel and services", 3000), ("files in /tmp", 4000))
    ]
    assert ram_budget(board(), needs).uncertainty == 5000


def test_releases_that_nobody_measured_give_no_verdict() -> None:
    assert ram_budget(board(), ram_needs("15.05", "mips_24kc", "none")).verdict == "unknown"


def test_other_words_make_a_figure_less_sure() -> None:
    (narrow, *_), (wide, *_) = (
        ram_needs("24.10.0", "arm_cortex-a9", "none"),
        ram_needs("24.10.0", "x86_64", "none"),
    )
    assert wide.amount.bytes == narrow.amount.bytes
    assert wide.amount.uncertainty > narrow.amount.uncertainty


def test_families() -> None:
    assert [interpreter_family(each) for each in ("none", "micropython", "auto", "python2-full")] == [
        None,
        "micropython",
        "cpython",
        "cpython",
    ]


def test_ram_as_a_bar_and_in_words() -> None:
    budget = ram_budget(board(), ram_needs("17.01.7", "mips_24kc", "base", apps=True))
    bar = ram_bar(budget, 40)
    assert (len(bar), bar.endswith("!]")) == (42, True)
    assert list(dict.fromkeys(bar[1:-1])) == ["K", "T", "P", "A", "!"]
    assert ram_left(budget) == "540.0 KiB too much for 32.0 MiB"
    assert answer(Budgets(ram=budget)).text.endswith("; the RAM may be too little")
    roomy = ram_budget(board(), ram_needs("17.01.7", "mips_24kc", "none"), wanted_free=1 << 20)
    assert ram_left(roomy) == "10.8 MiB of 32.0 MiB free"
    assert list(dict.fromkeys(ram_bar(roomy)[1:-1])) == ["K", "T", "."]
    assert ram_words(roomy)[0] == "K kernel and services 21.0 MiB"
    assert all(" ± " in line and len(line) > 60 for line in ram_sources(roomy))


def test_ram_that_the_config_wants_free() -> None:
    budget = ram_budget(board(), ram_needs("17.01.7", "mips_24kc", "none"), wanted_free=30 << 20)
    assert answer(Budgets(ram=budget)).kind == "no"
    assert (
        answer(Budgets(ram=budget)).text == "does not fit the RAM: 10.8 MiB of 32.0 MiB free, 30.0 MiB wanted"
    )
