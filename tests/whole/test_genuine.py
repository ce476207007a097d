"""On a genuine tree: LEDE 17.01.7 for ar71xx/generic, given with --imagebuilder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.budget.budget import BudgetError
from imagebuilder.build import build_image
from imagebuilder.config.request import requests
from imagebuilder.errors import UserError
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.run import clean_environment, run
from imagebuilder.log import Log
from tests.support.planning import plan_image

pytestmark = pytest.mark.genuine

BOARD = "tplink-tl-wr740n-v4"
AddConfig = Callable[[str, str], str]


def digest_of(tree: Path) -> str:
    """Over every path, mode, size, time and content below a folder."""
    whole = hashlib.sha256()
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted([*files, *folders]):
            path = Path(folder, name)
            status = path.lstat()
            content = sha256_of(path) if path.is_file() and not path.is_symlink() else ""
            fields = (path, oct(status.st_mode), status.st_size, status.st_mtime_ns, content)
            whole.update(repr(fields).encode())
    return whole.hexdigest()


@pytest.fixture
def unchanged_tree(genuine_tree: Path) -> Iterator[Path]:
    before = digest_of(genuine_tree)
    yield genuine_tree
    assert digest_of(genuine_tree) == before


def bare_build(tree: Path, folder: Path, *arguments: str) -> Path:
    """`make image` in a copy of the tree; the folder with what it made."""
    copy = folder / "bare"
    ignore = shutil.ignore_patterns(".git")
    shutil.copytree(tree, copy, symlinks=True, ignore=ignore)
    argv = ["make", "image", "PROFILE=tl-wr740n-v4", f"BIN_DIR={folder}/bin", *arguments]
    run(argv, cwd=copy, env=clean_environment(HOME="/tmp"))
    return folder / "bin"


def test_it_builds_what_a_bare_make_builds(unchanged_tree: Path, project: Path, tmp_path: Path) -> None:
    bare = bare_build(unchanged_tree, tmp_path)
    argv = [
        sys.executable,
        "-m",
        "imagebuilder",
        "build",
        "router",
        "--board",
        BOARD,
        "--project",
        str(project),
    ]
    argv += ["--imagebuilder", str(unchanged_tree), "--output", str(tmp_path / "out")]
    subprocess.run(argv, check=True)
    place = tmp_path / "out/router" / BOARD
    images = sorted(path.name for path in place.glob("*.bin"))
    assert images == [
        "lede-17.01.7-ar71xx-generic-tl-wr740n-v4-squashfs-factory.bin",
        "lede-17.01.7-ar71xx-generic-tl-wr740n-v4-squashfs-sysupgrade.bin",
    ]
    for name in images:
        assert (place / name).stat().st_size == (bare / name).stat().st_size
    (manifest,) = bare.glob("*.manifest")
    assert (place / "manifest").read_text() == manifest.read_text()


def test_what_does_not_fit_is_refused_with_the_excess(
    unchanged_tree: Path, project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    files = project / "overlays/big/files/root"
    files.mkdir(parents=True)
    (files / "big").write_bytes(os.urandom(3_000_000))
    (project / "overlays/big/overlay.toml").write_text('name = "big"\n')
    add_config("big", 'extends = "router"\n[[overlay]]\nname = "big"\n')
    argv = [sys.executable, "-m", "imagebuilder", "build", "big", "--board", BOARD, "--project", str(project)]
    argv += ["--imagebuilder", str(unchanged_tree), "--output", str(tmp_path / "out")]
    ended = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    excess = re.search(r"too big by (\d+) bytes \(predicted", ended.stderr)
    assert excess is not None, ended.stderr
    assert 2_400_000 < int(excess[1]) < 2_560_000
    assert "without the overlay's file /root/big: about 2.9 MiB less" in ended.stderr
    assert not (tmp_path / "out/big" / BOARD).exists()


def test_services_are_disabled_on_a_tree_that_cannot(
    genuine_tree: Path, project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    add_config(
        "mine",
        'extends = "router"\n[services]\ndisabled = ["odhcpd", "dnsmasq"]\n[packages]\n'
        'remove = ["ppp", "ppp-mod-pppoe"]\n[image]\nextra_name = "mine"\n',
    )
    (asked,) = requests(
        project, "mine", board=BOARD, imagebuilder=str(genuine_tree), output=tmp_path / "out", cache=tmp_path
    )
    place, result = build_image(asked, Log())
    (factory,) = (image for image in result.images if image.type == "factory")
    assert factory.file == "lede-17.01.7-mine-ar71xx-generic-tl-wr740n-v4-squashfs-factory.bin"
    raw = (place / factory.file).read_bytes()
    listing = run(["unsquashfs", "-o", str(raw.index(b"hsqs")), "-l", str(place / factory.file)]).stdout
    services = {path.rpartition("/")[2] for path in re.findall(r"squashfs-root/etc/rc\.d/\S+", listing)}
    assert {"S50dropbear", "S20network"} <= services
    assert not [name for name in services if "odhcpd" in name or "dnsmasq" in name]
    assert not [package for package in result.packages if package.name.startswith("ppp")]
    assert result.warnings == ()


def test_packages_that_are_nowhere_are_named(
    genuine_tree: Path, project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    for name, words in (
        ("nosuchpkg", ["no feed has 'nosuchpkg'", "mine.toml:3: packages.add[0]"]),
        ("tcpdump-mini", ["package 'libpcap' is missing", "-> tcpdump-mini needs it", "packages.add in "]),
    ):
        add_config("mine", f'extends = "router"\n[packages]\nadd = ["{name}"]\n')
        (asked,) = requests(
            project,
            "mine",
            board=BOARD,
            imagebuilder=str(genuine_tree),
            output=tmp_path / "out",
            cache=tmp_path,
        )
        with pytest.raises(UserError) as error:
            build_image(replace(asked, offline=True), Log())
        for word in words:
            assert word in error.value.message


def test_the_plan_of_a_genuine_tree(unchanged_tree: Path, project: Path, tmp_path: Path) -> None:
    (asked,) = requests(
        project, "router", board=BOARD, imagebuilder=str(unchanged_tree), cache=tmp_path / "c"
    )
    plan = plan_image(asked, Log())
    assert (plan.tree.distribution, plan.tree.version, plan.tree.target) == (
        "LEDE",
        "17.01.7",
        "ar71xx/generic",
    )
    assert plan.profile.name == "tl-wr740n-v4"
    assert len(plan.tree.profiles) == 296
    assert "kmod-ath9k" in plan.wanted.add
    assert not plan.tree.disables_services


def test_a_python_that_does_not_fit_is_refused_with_advice_that_helps(
    genuine_tree: Path, project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    add_config("full", f'extends = "router"\nboards = ["{BOARD}"]\n[python]\nvariant = "full"\n')
    before = (project / "configs/full.toml").read_text()
    argv = [sys.executable, "-m", "imagebuilder", "plan", "full", "--project", str(project), "--json"]
    argv += ["--imagebuilder", str(genuine_tree), "--cache", str(tmp_path), "--offline"]
    refused = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    excess = re.search(r"is too big by (\d+) bytes \(predicted, ±", refused.stderr)
    assert excess is not None, refused.stderr
    assert 4_500_000 < int(excess[1]) < 6_000_000
    assert 'python.variant = "base" in place of "full": ' in refused.stderr
    fitted = subprocess.run([*argv, "--fit", "--yes"], check=False, capture_output=True, text=True)
    assert fitted.returncode == 0, fitted.stderr
    (plan,) = json.loads(fitted.stdout)
    assert plan["budgets"]["flash"]["verdict"] == "fits"
    assert plan["python"] in ("base", "light")
    assert '-variant = "full"' in fitted.stderr
    after = (project / "configs/full.toml").read_text()
    assert after != before
    again = subprocess.run([*argv, "--fit", "--yes"], check=False, capture_output=True, text=True)
    assert (project / "configs/full.toml").read_text() == after
    assert again.returncode == 0


def test_an_image_that_leaves_too_little_free_is_refused(
    genuine_tree: Path, project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    places = {"imagebuilder": str(genuine_tree), "output": tmp_path / "out", "cache": tmp_path / "cache"}
    for wanted, words in (("2M", r"bytes free \(predicted, ±.*flash_free wants 2097152"), ("448K", "")):
        add_config("mine", f'extends = "router"\n[budget]\nflash_free = "{wanted}"\n')
        (asked,) = requests(project, "mine", board=BOARD, **places)  # type: ignore[arg-type]
        if words:
            with pytest.raises(BudgetError, match=words):
                build_image(asked, Log())
            continue
        _, result = build_image(asked, Log())
        assert result.flash is not None
        assert result.flash.measured
        assert result.flash.free is not None
        assert result.flash.free >= 448 << 10
        sysupgrade = next(image for image in result.flash.images if image.type == "sysupgrade")
        real = next(image for image in result.images if image.type == "sysupgrade")
        assert sysupgrade.bytes == real.size
