"""An environment of the lowest versions: which they are, and that they are what is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from imagebuilder.cli.app import app
from imagebuilder.errors import UserError
from imagebuilder.host.lowest import NoIndexError, lowest_environment, lowest_versions
from imagebuilder.host.run import run
from imagebuilder.log import CommandRun, Event, Log
from tests.support.wheel_maker import make_index, make_wheel

PROJECT = Path(__file__).resolve().parents[2]
UNREACHABLE = "http://127.0.0.1:9/simple"

# installs a project that depends on what its pyproject.toml says; with no tools that would have to be fetched
BACKEND = """\
import tomllib
import zipfile


def build_editable(folder, settings=None, metadata=None):
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    tests = project["optional-dependencies"]["test"]
    lines = ["Metadata-Version: 2.1", "Name: mine", "Version: 1", "Provides-Extra: test"]
    lines += [f"Requires-Dist: {each}" for each in project["dependencies"]]
    lines += [f'Requires-Dist: {each}; extra == "test"' for each in tests]
    with zipfile.ZipFile(folder + "/mine-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mine-1.dist-info/METADATA", "\\n".join(lines) + "\\n")
        wheel.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("mine-1.dist-info/RECORD", "")
    return "mine-1-py3-none-any.whl"
"""


def pyproject(*dependencies: str, tests: tuple[str, ...] = ()) -> str:
    return (
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f"[project]\ndependencies = {list(dependencies)}\n"
        f"[project.optional-dependencies]\ntest = {list(tests)}\n"
    )


def test_each_bound_becomes_a_constraint() -> None:
    text = pyproject("a>=1.2", "B[extra]>=0.27,<1", "c~=4.0", "d==5", "e>=1,!=1.1", tests=("f>=8",))
    assert lowest_versions(text) == ("a==1.2", "B==0.27", "c==4.0", "d==5", "e==1", "f==8")


@pytest.mark.parametrize(
    "dependency", ["a", "a<2", "a>1", "a!=1", "a>=1,>=2", "a>=2,<2", "a>=2,!=2", "a==2.*"]
)
def test_a_dependency_without_one_lowest_version_is_named(dependency: str) -> None:
    with pytest.raises(UserError, match=r"pyproject\.toml: 'a.*' does not say") as raised:
        lowest_versions(pyproject("b>=1", dependency))
    assert raised.value.hint == "write a>=VERSION"


def test_this_project_says_the_lowest_version_of_everything() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {Requirement(each).name for each in wanted}
    assert {each.partition("==")[0] for each in lowest_versions(text)} == names


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that wants `one` from 1.0 on, of which the only index has three versions."""
    wheels = [make_wheel(tmp_path / "wheels", "one", version) for version in ("0.9", "1.0", "2.0")]
    wheels.append(make_wheel(tmp_path / "wheels", "pip"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", make_index(tmp_path / "index", wheels))
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(pyproject("one>=1.0"))
    (folder / "backend.py").write_text(BACKEND)
    return folder


def version_in(python: Path) -> str:
    script = "from importlib.metadata import version; print(version('one'))"
    return run([str(python), "-c", script]).stdout.strip()


def test_the_lowest_versions_are_installed_once(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    log = Log([events.append])
    python = lowest_environment(mine, tmp_path / "cache", log)
    assert version_in(python) == "1.0"
    events.clear()
    assert lowest_environment(mine, tmp_path / "cache", log) == python
    assert not [each for each in events if isinstance(each, CommandRun)]
    (mine / "pyproject.toml").write_text(pyproject(tests=("one>=2",)))
    assert version_in(lowest_environment(mine, tmp_path / "cache", log)) == "2.0"


def test_a_bound_that_no_release_has_is_an_error(mine: Path, tmp_path: Path) -> None:
    (mine / "pyproject.toml").write_text(pyproject("one>=0.8"))
    for _again in range(2):  # what failed is not taken for made
        with pytest.raises(UserError, match=r"requested \(constraint\) one==0\.8"):
            lowest_environment(mine, tmp_path / "cache", Log())


def test_no_index_is_told_from_a_failure(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", UNREACHABLE)
    with pytest.raises(
        NoIndexError, match="the lowest versions cannot be had: the network cannot be reached"
    ):
        lowest_environment(mine, tmp_path / "cache", Log())


def test_the_fast_tests_are_run_there(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def execute(_program: object, words: list[str]) -> None:
        called.append(words)
        raise SystemExit

    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("imagebuilder.host.tools.missing_tools", lambda _uses: [])
    monkeypatch.setattr("imagebuilder.host.lowest.lowest_environment", lambda *_: Path("/lowest/bin/python"))
    monkeypatch.setattr("os.execv", execute)
    CliRunner().invoke(app, ["test", "--lowest", "-k", "overlay"])
    assert called[0][:5] == ["/lowest/bin/python", "-m", "pytest", "-n", "auto"]
    assert called[0][-2:] == ["-k", "overlay"]
    ignored = [word.removeprefix("--ignore=") for word in called[0] if word.startswith("--ignore=")]
    assert "tests/whole" in ignored
    assert [path for path in ignored if not (PROJECT / path).exists()] == []
    done = CliRunner().invoke(app, ["test", "--lowest", "--imagebuilder", "/tree"])
    assert (done.exit_code, len(called)) == (2, 1)


def test_the_command_without_an_index_has_tried_nothing(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI goes on there: the exit code is none of pytest's and none of those that a fault has."""
    monkeypatch.setenv("PIP_INDEX_URL", UNREACHABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("imagebuilder.host.tools.missing_tools", lambda _uses: [])
    monkeypatch.setattr("imagebuilder.config.library.checkout", lambda: mine)
    done = CliRunner().invoke(app, ["test", "--lowest"])
    assert done.exit_code == 75
    assert "the network cannot be reached" in done.output
