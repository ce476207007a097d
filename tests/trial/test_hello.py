"""What an interpreter calls itself against what the package manager knows, told by a script in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.python.shake.commands import Root
from imagebuilder.trial.hello import TriedInterpreter, hello_check, prepared
from tests.support.native_root import add_files, add_program


@pytest.mark.parametrize(
    ("python", "says", "planned", "outcome"),
    [
        ("3.11", "3.11.7", "3.11.7-1", "ok"),
        ("3.11", "3.11.7", "", "ok"),
        ("3.11", "3.12.1", "3.11.7-1", "failed"),
        ("3.11", "0.0.1", "3.11.7-1", "failed"),
        ("", "1.20.0", "1.20.0-1", "ok"),
        ("", "1.20.0", "", "ok"),
        ("", "0.0.1", "1.9.2-1f78e7a4-1", "ok"),
    ],
)
def test_an_interpreter_is_the_planned_one(
    tmp_path: Path, python: str, says: str, planned: str, outcome: str
) -> None:
    root, program = tmp_path / "root", f"/usr/bin/{'python' + python if python else 'micropython'}"
    add_program(root, "sh", "/bin/sh")
    add_files(root, **{program: f"#!/bin/sh\necho version {says}\n"})
    place = prepared(Root(root, python), tmp_path / "ours")
    told = hello_check(place, TriedInterpreter(program, python), planned, tmp_path / "work")
    assert (told.check.outcome, told.version) == (outcome, says)
