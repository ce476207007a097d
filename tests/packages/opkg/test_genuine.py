"""What a genuine opkg installs, against what the resolver says: small random feeds and lists of real ones."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.model.package import Package, Wish
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.packages.opkg.opkg import read_index
from imagebuilder.packages.opkg.resolve import OpkgRules, opkg_rules, resolve
from imagebuilder.packages.opkg.version import satisfies
from imagebuilder.packages.resolution import ResolutionError
from imagebuilder.packages.universe import Universe
from tests.support.opkg_oracle import FORCED, Case, answer, install, random_case, verdict

pytestmark = pytest.mark.genuine

# 17.01's Makefile, and how later ones call opkg, which chose in the same way until 19.07
CALLS: list[tuple[OpkgRules, Sequence[str]]] = [(opkg_rules("17.01.7"), FORCED), (opkg_rules("19.07.10"), ())]
CASES = 300


@pytest.fixture
def opkg(genuine_tree: Path, tmp_path: Path) -> Path:
    """The tree's opkg with its libraries, in a place of its own."""
    host = genuine_tree / "staging_dir/host"
    copy = tmp_path / "host"
    (copy / "bin").mkdir(parents=True)
    for name in ("opkg", ".opkg.bin"):
        shutil.copy2(host / "bin" / name, copy / "bin" / name)
    shutil.copytree(host / "lib", copy / "lib", symlinks=True)
    return copy / "bin/opkg"


@pytest.mark.parametrize("call", [0, 1], ids=["as in 17.01", "as in later ones"])
def test_small_random_feeds(opkg: Path, tmp_path: Path, call: int) -> None:
    rules, options = CALLS[call]
    verdicts: dict[int, str] = {}
    for seed in range(CASES):
        case = random_case(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        # opkg keeps the package that it reads last, the universe the one that is given first
        ours = answer(case, Universe(reversed(case.packages)), rules)
        verdicts[seed] = verdict(ours, install(opkg, case, folder, options), case)
        shutil.rmtree(folder)
    assert {seed: what for seed, what in verdicts.items() if what not in ("same", "both fail")} == {}
    assert (
        min(Counter(verdicts.values()).values()) > CASES // 4
    )  # the cases are neither all easy nor all hard


def test_lists_of_the_real_feeds(opkg: Path, genuine_tree: Path, tmp_path: Path) -> None:
    packages = real_packages(genuine_tree)
    universe = Universe(reversed(packages))
    names = sorted({name for package in packages for name in (package.name, *package.provides)})
    rng = random.Random(1)
    verdicts = Counter[str]()
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = Case(packages, tuple(rng.sample(names, rng.choice([1, 2, 4, 8]))))
        try:
            found = resolve(Wish.of(case.requested), universe, CALLS[1][0]).packages
        except ResolutionError:
            found = ()
        genuine = install(opkg, replace(case, files=found), folder, CALLS[1][1])
        ours = frozenset((package.name, package.version) for package in found) if found else None
        verdicts[verdict(ours, genuine, case)] += 1
        shutil.rmtree(folder)
    assert set(verdicts) <= {"same", "both fail"}
    assert verdicts["same"] > 30


def real_packages(tree: Path) -> tuple[Package, ...]:
    """What the tree has and the lists that it fetched before, without hashes: files are made for the test."""
    lists = [path for path in (tree / "dl").iterdir() if not path.suffix and path.name != "imagebuilder"]
    packages = [package for path in sorted(lists) for package in read_index(path)]
    packages += read_index(tree / "packages/Packages")
    for pattern in ("libc_*.ipk", "kernel_*.ipk"):  # in no index
        packages += [
            replace(read_control(path).control, filename=path.name)
            for path in (tree / "packages").glob(pattern)
        ]
    return tuple(replace(package, sha256="", size=0, installed_size=1) for package in packages)


def test_odd_lists_are_taken_as_they_were_by_other_opkgs(opkg: Path, tmp_path: Path) -> None:
    recorded = json.loads((Path(__file__).parents[2] / "data/opkg-lists.json").read_text("utf-8"))["lists"]
    (tmp_path / "root/tmp").mkdir(parents=True)
    (tmp_path / "lists").mkdir()
    (tmp_path / "conf").write_text("src local file:/none\ndest root /\narch all 100\narch mips_24kc 200\n")
    argv = [str(opkg), "-f", str(tmp_path / "conf"), "--lists-dir", "/../lists"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TMPDIR": str(tmp_path / "root/tmp")}
    different = []
    for each in recorded:
        (tmp_path / "lists/local").write_text(each["index"])
        ended = subprocess.run(
            [*argv, "--offline-root", str(tmp_path / "root"), "info"],
            env=environment,
            capture_output=True,
            check=True,
        )
        said = re.findall(
            r"^Package: (.*)(?:\nVersion: (.*))?", ended.stdout.decode("utf-8", "replace"), re.MULTILINE
        )
        if said != [(name, version) for name, version, *_ in each["taken"]]:
            different.append((each["index"], said))
    assert different == []


def test_versions_compare_as_the_genuine_opkg_says(opkg: Path, tmp_path: Path) -> None:
    parts = (
        "1",
        "1.0",
        "1.10",
        "1.9",
        "01.9",
        "1.0a",
        "1.0~rc1",
        "1.0~~",
        "1.0+git",
        "git-19.271.72080-7b2-1",
    )
    more = (
        "1-1",
        "1-10",
        "1-r2",
        "1:0",
        "2018-01-01-141b64ef-1",
        "173.6-r4030",
        "a",
        "Z",
        "~",
        "5.4.0-0",
        "5.4.0",
    )
    conf = tmp_path / "opkg.conf"
    conf.touch()
    (tmp_path / "tmp").mkdir()
    root = f"--offline-root={tmp_path}"
    wrong = []
    for one, other in itertools.product((*parts, *more), repeat=2):
        for operator in ("<<", "=", ">>"):
            argv = [str(opkg), "-f", str(conf), root, "compare-versions", one, operator, other]
            ended = subprocess.run(argv, env={"PATH": os.environ["PATH"]}, capture_output=True, check=False)
            # compare-versions tells << and <= apart, what a dependency means by them does not
            ours = satisfies(one, operator, other) and (operator == "=" or not satisfies(one, "=", other))
            if ours != (ended.returncode == 0):
                wrong.append((one, operator, other))
    assert wrong == []
