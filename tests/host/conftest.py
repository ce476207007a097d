"""What tests of the host share: a tree that programs are run in."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "a tree, with: odd name"
    folder.mkdir()
    (folder / "Makefile").write_text("all:\n")
    return folder
