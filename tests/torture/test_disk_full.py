"""A disk that gets full at any moment: an error that says so, nothing lost, and the next run succeeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.torture.conftest import Report
from tests.torture.support import Figures

NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
# by command, what is free grows by so many KiB
STEPS = {
    **{"build": 64, "build, the first": 64, "build of a release": 64, "fetch": 64},
    **{"lock, the first": 4, "boards add": 4, "kit": 16, "extract": 16},
}


def figures_of(folder: Path, name: str, *sizes: int) -> Figures:
    """What comes of a command with so many KiB free: from, to, step."""
    words = [*NAMESPACE, sys.executable, "-m", "tests.torture.disk_full", str(folder), name, *map(str, sizes)]
    if subprocess.run(
        [*NAMESPACE, "mount", "-t", "tmpfs", "x", "/mnt"], check=False, capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs in a namespace")
    done = subprocess.run(words, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Figures(**json.loads(done.stdout))


@pytest.mark.parametrize("name", ["build", "fetch"])
def test_a_disk_that_is_full_at_once(name: str, tmp_path: Path) -> None:
    figures = figures_of(tmp_path, name, 0, 80, 40)
    assert figures.faults() == []
    assert figures.made > 0


@pytest.mark.torture
@pytest.mark.parametrize("name", STEPS)
def test_a_disk_that_gets_full(name: str, tmp_path: Path, report: Report) -> None:
    report(figures_of(tmp_path, name, 0, 64 << 10, STEPS[name]))
