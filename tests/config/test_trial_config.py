"""`[[trial]]`: commands that an image has to answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Trial
from imagebuilder.errors import FaultsError

AddConfig = Callable[[str, str], str]


def test_trials_are_added_to_those_of_extended_configs(library: Library, add_config: AddConfig) -> None:
    add_config("first", '[[trial]]\nrun = "a"\n')
    add_config(
        "second",
        'extends = "first"\n[[trial]]\nrun = "b --check"\nexpect = "^ok$"\ntimeout = 5\n'
        '[[board.linksys-wrt1200ac.trial]]\nrun = "c"\n',
    )
    both = (Trial(run="a", timeout=60), Trial(run="b --check", expect="^ok$", timeout=5))
    assert load_config(library, "second").config.trial == both
    of_board = load_config(library, "second", "linksys-wrt1200ac").config.trial
    assert of_board == (*both, Trial(run="c"))


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('run = ""', "run", "at least 1"),
        ('run = "  "', "run", "names no program"),
        ('run = "echo \'x"', "run", "cannot be split into words: no closing quotation"),
        ('run = "echo \\u0000"', "run", "names no program"),
        ('run = "echo"\nexpect = "("', "expect", "is no regular expression: "),
        ('run = "echo"\ntimeout = 0', "timeout", "greater than 0"),
        ('run = "echo"\ntimeout = 3601', "timeout", "3600"),
        ('run = "echo"\ntimeout = 1.5', "timeout", "whole number"),
        ('expect = "x"', "run", "missing"),
    ],
)
def test_a_trial_that_cannot_be_run_is_told_with_its_key(
    library: Library, add_config: AddConfig, line: str, key: str, message: str
) -> None:
    add_config("bad", f"[[trial]]\n{line}\n")
    with pytest.raises(FaultsError) as caught:
        load_config(library, "bad")
    (fault,) = caught.value.faults
    assert fault.key == f"trial[0].{key}"
    assert message in fault.message
