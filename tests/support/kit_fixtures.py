"""What the kit's and the trial's tests share: the kit, made once, and make in a copy of it.

A module, or a test, that is to run on every edition of the kit says so with EVERY_EDITION.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imagebuilder.host.fs import user_cache
from imagebuilder.kit.prepare import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS, Edition
from tests.support.kit_making import Made, Make, call_make

EVERY_EDITION = pytest.mark.parametrize("edition", EDITIONS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def edition(request: pytest.FixtureRequest) -> Edition:
    """The edition that a test asks for by its release, by default the first."""
    return EDITIONS[getattr(request, "param", "embedded")]


@pytest.fixture(scope="session")
def kit(edition: Edition) -> Path:
    """The edition's kit in the user's cache, made if it is not there. Tests never write into it."""
    return prepare_kit(edition, user_cache(), Log())


@pytest.fixture(scope="session")
def kit_copy(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the kit's tree that make may write to. Tests do not change what it is made of."""
    copy = tmp_path_factory.mktemp("kit") / "tree"
    shutil.copytree(kit, copy, symlinks=True)
    return copy


@pytest.fixture
def make(kit_copy: Path, tmp_path: Path) -> Make:
    """`make TARGET` in the copy, BIN_DIR being the test's own folder."""

    def call(target: str = "image", **variables: str) -> Made:
        return call_make(kit_copy, target, tmp_path / "bin", **variables)

    return call
