"""The program as a wheel installs it, in a folder of one's own: the same tool as build.py in a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackagePath, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from imagebuilder.called import COMMAND, COMMANDS
from imagebuilder.host.fs import user_cache

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
ALONG = ("boards", "configs", "overlays", "apps", "schemas")
BUILD = "import sys; from hatchling.build import build_sdist, build_wheel; print({}(sys.argv[1]))"


def made(what: str, sources: Path, into: Path) -> Path:
    """A wheel or an sdist of the sources, by the backend itself: nothing is fetched."""
    argv = [sys.executable, "-P", "-c", BUILD.format(f"build_{what}"), str(into)]
    name = subprocess.check_output(argv, cwd=sources, text=True).split()[-1]
    return into / name


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("wheel", PROJECT, tmp_path_factory.mktemp("wheel"))


@dataclass(frozen=True)
class Installed:
    """The program in a virtual environment of its own, and the folders that it may write to. Called with
    code None, how it ends is this machine's matter."""

    environment: Path
    work: Path
    settings: Mapping[str, str]

    def __call__(
        self, *argv: str | Path, code: int | None = 0, **secrets: str
    ) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [COMMAND, *map(str, argv)],
            executable=self.environment / "bin" / COMMAND,
            cwd=self.work,
            env={**self.settings, **secrets},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert code is None or ended.returncode == code, ended.stdout + ended.stderr
        return ended


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, under a umask that closes all. What it needs is this one's."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=False)
    (site,) = place.glob("lib/python*/site-packages")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for file in files_of(set(), project["dependencies"]):
        target = site / file
        if ".." not in file.parts and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file.locate(), target)
    argv = [str(place / "bin/python"), "-m", "installer", str(wheel)]
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run(argv, check=True, env=environment, umask=0o077)
    return place


def files_of(known: set[str], wanted: Iterable[str]) -> Iterator[PackagePath]:
    """The files of what is required, and of what that requires, as this environment has them."""
    for each in needed_by(known, wanted):
        yield from each.files or ()


def needed_by(
    known: set[str], wanted: Iterable[str], extras: Iterable[str] = ("",)
) -> Iterator[Distribution]:
    """What is required, and what that requires, as this environment has it. extras: of who requires it."""
    for requirement in map(Requirement, wanted):
        marker = requirement.marker
        needed = marker is None or any(marker.evaluate({"extra": each}) for each in extras)
        if needed and requirement.name not in known:
            known.add(requirement.name)
            found = distribution(requirement.name)
            yield found
            yield from needed_by(known, found.requires or (), ("", *requirement.extras))


def packed(found: Distribution, into: Path) -> None:
    """A wheel of what is installed, with all that its own had but its scripts."""
    files = [file for file in found.files or () if ".." not in file.parts and "__pycache__" not in file.parts]
    (info,) = {file.parts[0] for file in files if file.match("*.dist-info/METADATA")}
    tags = re.findall(r"^Tag: (\S+)-(\S+)-(\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    with zipfile.ZipFile(into / f"{info.removesuffix('.dist-info')}-{tag}.whl", "w") as wheel:
        for file in files:
            if file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                wheel.write(file.locate(), file)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in wheel.namelist()))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that pip may want for this program and for making it, as wheels in a folder: there is no index."""
    place = tmp_path_factory.mktemp("packages")
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    for each in needed_by(
        set(), [*pyproject["build-system"]["requires"], *pyproject["project"]["dependencies"]]
    ):
        packed(each, place)
    return place


@pytest.mark.parametrize(
    "line", ["pipx install .", "pip install openwrt_python_imagebuilder-0.1.0-py3-none-any.whl"]
)
def test_pip_makes_and_installs_it(line: str, wheel: Path, packages: Path, tmp_path: Path) -> None:
    """As the README says it. Where there is no pipx, by what pipx calls in an environment of its own."""
    environment, home = tmp_path / "venv", tmp_path / "home"
    venv.create(environment, with_pip=True)
    home.mkdir()
    if not shutil.which("pipx"):
        line = line.replace("pipx ", "pip ")
    settings = {
        "PATH": f"{environment}/bin:{home}/.local/bin:{os.environ['PATH']}",
        "HOME": str(home),
        **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    }
    folder = PROJECT if line.endswith(" .") else wheel.parent
    before = sorted(folder.iterdir())
    for words in (line, f"{COMMAND} --version", f"{COMMAND} boards search wr740n"):
        ended = subprocess.run(
            ["bash", "-c", words], cwd=folder, env=settings, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert BOARD in ended.stdout
    assert sorted(folder.iterdir()) == before


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Iterator[Installed]:
    """In an empty folder; nothing is written elsewhere than to it, the cache and the user's data."""
    for name in ("work", "home", "tmp"):
        (tmp_path / name).mkdir()
    settings = {
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    before = files(environment)
    yield Installed(environment, tmp_path / "work", settings)
    assert files(environment) == before
    assert list((tmp_path / "home").iterdir()) == list((tmp_path / "tmp").iterdir()) == []


def files(folder: Path) -> dict[Path, int]:
    """All files but the bytecode that Python keeps, and when they were written."""
    found = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {path: path.lstat().st_mtime_ns for path in found if not path.is_dir()}


def test_the_wheel_has_all_that_comes_along(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("imagebuilder/")]
        there = {name: archive.read(name) for name in names}
    expected = {}
    for folder in ("imagebuilder", *ALONG):
        inside = "imagebuilder" if folder == "imagebuilder" else f"imagebuilder/shipped/{folder}"
        for path in (PROJECT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected[f"{inside}/{path.relative_to(PROJECT / folder)}"] = path
    assert sorted(there) == sorted(expected)
    assert {name for name, path in expected.items() if path.read_bytes() != there[name]} == set()


def test_a_wheel_of_the_sdist_is_the_same_and_nothing_is_left(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(made("sdist", PROJECT, tmp_path)) as archive:
        archive.extractall(tmp_path / "sources", filter="data")
    (sources,) = (tmp_path / "sources").iterdir()
    assert (sources / "build.py").is_file()
    again = made("wheel", sources, tmp_path)
    assert again.read_bytes() == wheel.read_bytes()
    assert [name for name in ("build", "dist") if (PROJECT / name).exists()] == []


def test_the_same_boards_and_configs(installed: Installed) -> None:
    assert installed("--version").stdout.startswith(f"{COMMAND} ")
    for words in (
        ("boards", "--json"),
        ("configs",),
        ("schema", "config"),
        ("schema", "--reference"),
    ):
        argv = [sys.executable, "-m", "imagebuilder", *words]
        assert installed(*words).stdout == subprocess.check_output(argv, cwd=installed.work, text=True)
    for command in COMMANDS:
        assert (installed.environment / "bin" / command).is_file()
    assert list(installed.work.iterdir()) == []


def test_messages_name_the_command(installed: Installed) -> None:
    refused = installed("plan", "router", "--board", BOARD, "--locked", "--imagebuilder", "x", code=2)
    assert refused.stderr.splitlines()[-1] == f"hint: {COMMAND} lock router writes it"
    assert f"Usage: {COMMAND} why [OPTIONS] " in installed("why", code=2).stderr
    refused = installed("test", code=2)
    assert "error: the tests are not installed" in refused.stderr


def test_what_only_a_checkout_needs_is_not_asked_for(installed: Installed) -> None:
    uses = [tool["uses"] for tool in json.loads(installed("doctor", "--json", code=None).stdout)["tools"]]
    assert uses
    assert not any("the tests alone" in each for each in uses)


def test_a_project_of_ones_own(installed: Installed, small_tree: Path) -> None:
    """Own board, overlay, secret, app and lock, in a folder that was empty; asked from a folder below too."""
    work = installed.work
    for folder in ("boards", "configs", "overlays/wlan/files/etc", "apps", "docs"):
        (work / folder).mkdir(parents=True)
    shown = json.loads(installed("show", BOARD, "--json").stdout)
    (work / "boards/mine.toml").write_text(Path(shown["file"]).read_text())
    (work / "firmware.toml").write_text('cache = "kept"\n')
    (work / "overlays/wlan/overlay.toml").write_text("[variables.key]\nsecret = true\n")
    (work / "overlays/wlan/files/etc/wlan.j2").write_text("{{ key }}\n")
    (work / "secrets.toml").write_text('WLAN = "correct horse"\n')
    (work / "configs/home.toml").write_text(
        'extends = "base"\nboards = ["mine"]\nimagebuilder = "../small-tree"\n'
        '[[overlay]]\nname = "wlan"\nvariables = { key = { secret = "WLAN" } }\n'
    )
    installed("plan", "home")
    installed("lock", "home")
    assert (work / "locks/home.lock").is_file()
    installed("build", "home", "--locked")
    place = work / "out/home/mine"
    built = json.loads((place / "result.json").read_text())
    assert {image["type"] for image in built["images"]} == {"sysupgrade", "factory"}
    below = Installed(installed.environment, work / "docs", installed.settings)
    (built,) = json.loads(below("build", "home", "--locked", "--json").stdout)
    assert built["folder"] == str(place)
    assert list((work / "docs").iterdir()) == []
    assert (work / "kept/CACHEDIR.TAG").is_file()
    assert not (work.parent / "cache").exists()
    (work / "overlays/wlan/files/etc/new").write_text("x")
    assert "hint: take the change back" in below("build", "home", "--locked", code=2).stderr
    below("clean")
    assert not (work / "out").exists()


def linked(source: str, target: str) -> None:
    """Another name for a file, or, on another disk, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.mark.kit
def test_the_kit_and_its_locks_are_the_same(installed: Installed, kit: Path, tmp_path: Path) -> None:
    """What is installed makes a kit of its own, which calls it; what it is made of is the same. It goes into
    a cache of its own, with what was fetched for the other one."""
    settings = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    own = tmp_path / "cache" / user_cache().name
    for name in ("blobs", "names", "indexes", "debian"):
        if (user_cache() / name).is_dir():
            shutil.copytree(user_cache() / name, own / name, symlinks=True, copy_function=linked)
    argv = [sys.executable, "-m", "imagebuilder", "lock", "demo"]
    subprocess.run(argv, cwd=installed.work, check=True, capture_output=True)
    lock = (installed.work / "locks/demo.lock").read_text()
    assert "changed" not in installed("lock", "demo", "--check", **settings).stdout
    installed("lock", "demo", **settings)
    assert (installed.work / "locks/demo.lock").read_text() == lock
    planned = json.loads(installed("plan", "demo", "--json", "--locked", **settings).stdout)
    assert planned[0]["python"] == "light"
