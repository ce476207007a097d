"""From a release's name to an image: fetched from a mirror, trusted for a reason, kept for later."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.host.fs import sha256_of
from imagebuilder.log import Log
from tests.support.planning import plan_image

BOARD = "tplink-tl-wr740n-v4"
AddConfig = Callable[[str, str], str]


@pytest.fixture
def mirror(small_tree: Path, tmp_path: Path) -> Path:
    """A folder with the download server's layout that has one ImageBuilder: the small tree."""
    folder = tmp_path / "mirror/releases/23.05.5/targets/ath79/tiny"
    folder.mkdir(parents=True)
    archive = folder / "openwrt-imagebuilder-23.05.5-ath79-tiny.Linux-x86_64.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(small_tree, "openwrt-imagebuilder-23.05.5-ath79-tiny.Linux-x86_64")
    return tmp_path / "mirror"


@pytest.fixture
def asking(project: Path, tmp_path: Path, add_config: AddConfig, mirror: Path) -> Callable[..., Request]:
    (archive,) = mirror.rglob("*.tar.xz")

    def ask(
        trust: str | None = sha256_of(archive), *, offline: bool = False, release: str = "23.05.5"
    ) -> Request:
        pin = f'trust = "sha256:{trust}"\n' if trust else ""
        add_config("mine", f'release = "{release}"\n{pin}[mirror]\nurls = ["{mirror}"]\n')
        (asked,) = requests(project, "mine", board=BOARD, output=tmp_path / "out", cache=tmp_path / "cache")
        return replace(asked, offline=offline)

    return ask


def test_a_release_is_fetched_once_and_built_offline_after_that(
    asking: Callable[..., Request], mirror: Path
) -> None:
    _, first = build_image(asking(), Log())
    assert first.tree.version == "23.05.5"
    assert first.tree.source.endswith(f" from {mirror.name}")
    assert "the one that `trust` gives" in first.tree.trust
    shutil.rmtree(mirror / "releases")
    _, again = build_image(asking(offline=True), Log())
    assert again.images == first.images
    assert again.tree.source.endswith("from the cache")


@pytest.mark.parametrize(
    ("trust", "release", "words"),
    [
        ("0" * 64, "23.05.5", "is not the file that is vouched for"),
        (None, "23.05.5", "sha256sums"),
        (None, "23.05.6", "24.10.1 is the newest release that has it"),
        (None, "24.10.4", "24.10.1"),
    ],
)
def test_what_is_not_trusted_or_not_there_leaves_nothing(
    asking: Callable[..., Request], tmp_path: Path, trust: str | None, release: str, words: str
) -> None:
    with pytest.raises(UserError) as error:
        build_image(asking(trust, release=release), Log())
    assert words in f"{error.value.message} {error.value.hint}"
    assert not (tmp_path / "out/mine" / BOARD).exists()
    assert not list((tmp_path / "cache").glob("trees/*/Makefile"))


def test_a_plan_for_another_release(
    asking: Callable[..., Request], add_config: AddConfig, project: Path, mirror: Path, tmp_path: Path
) -> None:
    """As the advice says it: `plan --release X`."""
    release = asking().for_release("23.05.5")
    add_config("theirs", f'extends = "mine"\nrelease = "21.02.7"\nimagebuilder = "{tmp_path}/none"\n')
    other = replace(release, config="theirs")
    assert plan_image(other, Log()).tree.version == "23.05.5"
    with pytest.raises(UserError, match="there is no ImageBuilder"):
        plan_image(replace(other, release=None), Log())
