"""The list of mutations (tests/benchmarks/mutations.py) is up to date: each has its place in the code, and
its test. The script itself is run by hand; it takes minutes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).resolve().parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", TESTS / "benchmarks/mutations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


SCRIPT = load()


@pytest.mark.parametrize("mutation", SCRIPT.MUTATIONS, ids=lambda each: each.name)
def test_a_mutation_has_its_place_and_its_test(mutation: object) -> None:
    assert isinstance(mutation, SCRIPT.Mutation)
    right = (TESTS.parent / "imagebuilder" / mutation.file).read_text("utf-8")
    wrong = mutation.applied(right)
    assert wrong != right
    compile(wrong, mutation.file, "exec")
    file, _, name = mutation.test.partition("::")
    assert f"\ndef {name}(" in (TESTS / file).read_text("utf-8")


def test_a_text_that_is_not_there_once_is_an_error() -> None:
    mutation = SCRIPT.Mutation("one", "x.py", "a = 1\n", "a = 2\n", "test_x.py::test_x")
    assert mutation.applied("a = 1\nb = 1\n") == "a = 2\nb = 1\n"
    for text in ("", "a = 1\na = 1\n"):
        with pytest.raises(SCRIPT.MutationError, match="times, not once"):
            mutation.applied(text)
