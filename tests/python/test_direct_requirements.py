"""Requirements by paths, addresses and commits of git: no network, git has a repository of the test's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.app import ResolvedRequirements
from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.cache import Cache, OfflineError
from imagebuilder.host.run import run
from imagebuilder.log import Event, Log
from imagebuilder.model.package import Package
from imagebuilder.python.requirements.asked import Asked
from imagebuilder.python.requirements.direct import Direct, DirectSources
from imagebuilder.python.requirements.git import GitError, version_of
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.requirements.requirements import (
    RequirementError,
    feed_distributions,
    resolve_requirements,
    wheels_of,
)
from imagebuilder.python.requirements.requirements_file import Stated
from imagebuilder.python.wheels.target import wheel_target
from tests.support.wheel_maker import make_project, make_sdist, make_wheel, only_index

TARGET = wheel_target("3.11.7", "mips_24kc", "23.05")
GIT = {
    **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]},
}


def git(folder: Path, *arguments: str) -> str:
    return run(["git", "-C", str(folder), *arguments], env=GIT).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, 1.0 with a tag, 2.0 on main; and what a commit holds in a folder."""
    place = make_project(tmp_path / "server/thing.git", "thing", "1.0")
    make_project(place / "python", "inner", "0.5")
    git(place, "init", "--quiet", "--initial-branch=main")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message=one")
    git(place, "tag", "v1.0")
    text = (place / "backend.py").read_text().replace("'1.0'", "'2.0'")
    (place / "backend.py").write_text(text)
    git(place, "commit", "--quiet", "--all", "--message=two")
    return place


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    files = [make_wheel(tmp_path / "files", "needed", version) for version in ("1.0", "2.0")]
    only_index(monkeypatch, tmp_path / "index", files)
    return PackageIndex(Cache(tmp_path / "cache"), Log())


Get = Callable[..., Direct]


@pytest.fixture
def get(tmp_path: Path, index: PackageIndex) -> Get:
    project = tmp_path / "project"
    project.mkdir()

    def get(line: str, folder: Path = project, offline: bool = False, **more: object) -> Direct:
        used = PackageIndex(index.cache, index.log, offline)
        stated = Stated(parse_requirement_line(line), folder, "r.txt", 7)
        return DirectSources(used, TARGET, project).get(stated, **more)  # type: ignore[arg-type]

    return get


def test_paths(tmp_path: Path, get: Get) -> None:
    project = tmp_path / "project"
    wheel = make_wheel(project / "apps/x", "foo", "1.0")
    sdist = make_sdist(project / "apps/x", "bar", "2.0")
    make_project(project / "libs/b a z", "baz", "3.0")
    make_project(project / "libs/more/python", "more", "4.0")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    found = get("apps/x/foo-1.0-py3-none-any.whl")
    assert found.wheel.name == "foo"
    assert (found.pin.filename, found.pin.sha256) == (wheel.name, digest)
    assert found.pin.source == "apps/x/foo-1.0-py3-none-any.whl"
    found = get("bar @ file:x/bar-2.0.tar.gz", project / "apps")
    assert (found.wheel.name, found.pin.filename, str(found.wheel.version)) == ("bar", sdist.name, "2.0")
    assert found.key == "bar @ file:x/bar-2.0.tar.gz in apps"
    assert found.pin.source == "apps/x/bar-2.0.tar.gz"
    found = get("./libs/b a z")
    assert (found.wheel.name, found.pin.filename, found.pin.source) == ("baz", "baz", "libs/b a z")
    found = get(f"file://{project}/libs/more#subdirectory=python")
    assert (found.wheel.name, found.pin.source) == ("more", "libs/more#subdirectory=python")
    found = get(f"{wheel} --hash=sha256:{digest}")
    assert found.wheel.name == "foo"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("./nowhere", r"r\.txt:7: .*/nowhere is not there"),
        ("./nowhere.whl", r"r\.txt:7: .*/nowhere\.whl cannot be read"),
        ("./plain.txt", r"r\.txt:7: .*plain\.txt is no wheel, sdist or folder"),
        ("other @ ./foo-1.0-py3-none-any.whl", r"r\.txt:7: 'other @ .*' is the distribution foo"),
        (f"./foo-1.0-py3-none-any.whl --hash=sha256:{'ab' * 32}", r"r\.txt:7: .* --hash says abab"),
        (f"./lib --hash=sha256:{'ab' * 32}", r"r\.txt:7: .*lib is a folder, and --hash is for files"),
    ],
)
def test_what_is_not_there_or_another_is_refused(tmp_path: Path, get: Get, line: str, message: str) -> None:
    make_wheel(tmp_path / "project", "foo", "1.0")
    (tmp_path / "project/plain.txt").write_text("")
    (tmp_path / "project/lib").mkdir()
    with pytest.raises(FaultsError, match=message):
        get(line)


def test_commits_of_git(repository: Path, get: Get) -> None:
    one, two = git(repository, "rev-parse", "v1.0"), git(repository, "rev-parse", "main")
    address = f"git+file://{repository}"
    found = get(f"thing @ {address}@v1.0")
    assert (str(found.wheel.version), found.pin.source) == ("1.0", f"{address}@{one}")
    assert found.pin.filename == "thing"
    assert str(get(f"{address}#egg=thing").wheel.version) == "2.0"
    assert get(f"{address}@main").pin.source == f"{address}@{two}"
    assert str(get(f"{address}@{one}").wheel.version) == "1.0"
    assert str(get(f"{address}@{one[:10]}").wheel.version) == "1.0"
    inner = get(f"{address}@v1.0#subdirectory=python")
    assert (inner.wheel.name, inner.pin.source) == ("inner", f"{address}@{one}#subdirectory=python")
    with pytest.raises(GitError, match="has no branch, tag or commit 'v9'"):
        get(f"{address}@v9")
    with pytest.raises(GitError, match=r"git cannot fetch file:///nowhere/x\.git"):
        get("git+file:///nowhere/x.git")
    with pytest.raises(GitError, match="keys of ssh"):
        get("git+ssh://git@host/x.git")


def test_a_commit_is_locked_and_kept(tmp_path: Path, repository: Path, get: Get, index: PackageIndex) -> None:
    line = f"thing @ git+file://{repository}@main"
    locked = get(line).pin
    assert str(get(line, offline=True).wheel.version) == "2.0"
    (repository / "thing.py").write_text("ANSWER = 43\n")
    git(repository, "commit", "--quiet", "--all", "--message=three")
    newer = get(line)
    assert newer.pin.sha256 != locked.sha256
    again = get(line, locked=locked)
    assert (again.pin.source, again.pin.sha256) == (locked.source, locked.sha256)
    assert again.wheel.files["thing.py"].data == b"ANSWER = 42\n"
    repository.rename(tmp_path / "gone")
    assert get(line, locked=locked, offline=True).pin.sha256 == locked.sha256
    with pytest.raises(OfflineError):
        get(f"git+file://{repository}@other", offline=True)


def test_tags_tell_the_version_where_the_build_asks_git(repository: Path, get: Get) -> None:
    text = (repository / "backend.py").read_text().replace("'2.0'", "os.environ['PBR_VERSION']")
    (repository / "backend.py").write_text(text)
    (repository / "setup.cfg").write_text("[metadata]\n# pbr\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=three")
    assert str(get(f"git+file://{repository}").wheel.version) == "1.1.dev2"
    git(repository, "tag", "release-3.1")
    assert str(get(f"git+file://{repository}@main").wheel.version) == "3.1"
    assert str(get(f"git+file://{repository}", offline=True).wheel.version) == "1.1.dev2"


@pytest.mark.parametrize(
    ("described", "version"),
    [
        ("v1.2.3-0-gabc123", "1.2.3"),
        ("v1.2.3-7-gabc123", "1.2.4.dev7"),
        ("thing-2.0rc1-1-gabc", "2.0rc2.dev1"),
        ("nightly-x5y-3-gabc", ""),
        ("", ""),
    ],
)
def test_versions_of_tags(described: str, version: str) -> None:
    assert version_of(described) == version


def test_a_folder_that_has_changed_is_not_what_was_locked(tmp_path: Path, get: Get) -> None:
    folder = make_project(tmp_path / "project/lib", "lib", "1.0")
    locked = get("./lib").pin
    assert get("./lib", locked=locked).pin == locked
    (folder / "lib.py").write_text("ANSWER = 43\n")
    with pytest.raises(FaultsError, match="is not what is locked"):
        get("./lib", locked=locked)


def test_secrets_stay_out_of_what_is_written_and_said(
    tmp_path: Path, index: PackageIndex, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2/x")
    said: list[Event] = []
    loud = PackageIndex(index.cache, Log([said.append]))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for line in (
        "git+http://me:${TOKEN}@127.0.0.1:9/thing.git",
        "git+http://me:hunter2@127.0.0.1:9/thing.git",
        "http://me:${TOKEN}@127.0.0.1:9/thing-1.tar.gz",
        "http://127.0.0.1:9/thing-1.tar.gz?key=hunter2",
    ):
        stated = Stated(parse_requirement_line(line), tmp_path, "r.txt", 7)
        with pytest.raises(UserError) as caught:
            DirectSources(loud, TARGET, tmp_path).get(stated)
        assert "127.0.0.1" in caught.value.message
        assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"
    monkeypatch.delenv("TOKEN")
    with pytest.raises(UserError, match="TOKEN"):
        get("git+http://me:${TOKEN}@127.0.0.1:9/thing.git")
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hunter2" in path.read_bytes()]
    assert "127.0.0.1" in repr(said)
    assert "hunter2" not in repr(said)


def resolved(
    index: PackageIndex, project: Path, lines: list[str], *limits: str, feed: list[Package] | None = None
) -> ResolvedRequirements:
    def stated(texts: list[str]) -> list[Stated]:
        return [Stated(parse_requirement_line(text), project, "r.txt", 1) for text in texts]

    asked = Asked.of(stated(lines), stated([*limits]), TARGET)
    places = DirectSources(index, TARGET, project)
    direct = [places.get(each) for each in asked.direct]
    found = resolve_requirements(
        asked.texts,
        TARGET,
        feed_distributions(feed or []),
        index,
        direct=direct,
        constraints=asked.constraints,
        hashes=asked.hashes,
    )
    assert set(wheels_of(found, TARGET, index, direct)) == {pin.name for pin in found.pins}
    return found


def test_what_they_need_is_resolved_with_them(tmp_path: Path, index: PackageIndex) -> None:
    project = tmp_path / "project"
    make_wheel(project, "foo", "1.0", requires=["needed", 'bar; extra == "x"'], extras=["x"])
    make_wheel(project, "bar", "1.0")
    found = resolved(
        index, project, ["./foo-1.0-py3-none-any.whl[x]", "./bar-1.0-py3-none-any.whl", "foo>=1"]
    )
    assert {pin.name: (pin.version, pin.requires, pin.source) for pin in found.pins} == {
        "bar": ("1.0", (), "bar-1.0-py3-none-any.whl"),
        "foo": ("1.0", ("bar", "needed"), "foo-1.0-py3-none-any.whl"),
        "needed": ("2.0", (), ""),
    }
    assert found.wanted == {
        "./foo-1.0-py3-none-any.whl[x]": "foo",
        "./bar-1.0-py3-none-any.whl": "bar",
        "foo>=1": "foo",
    }
    feed = [Package("python3-foo", "9.0-1"), Package("python3-needed", "1.5-1")]
    found = resolved(index, project, ["./foo-1.0-py3-none-any.whl"], feed=feed)
    assert found.feed == {"needed": "python3-needed"}
    with pytest.raises(UserError, match="foo"):
        resolved(index, project, ["./foo-1.0-py3-none-any.whl", "foo>=2"])


def test_one_distribution_from_two_places_is_refused(tmp_path: Path, index: PackageIndex) -> None:
    project = tmp_path / "project"
    make_wheel(project / "a", "foo", "1.0")
    make_wheel(project / "b", "foo", "1.1")
    lines = ["a/foo-1.0-py3-none-any.whl", "b/foo-1.1-py3-none-any.whl"]
    with pytest.raises(FaultsError, match="foo is from b/foo"):
        resolved(index, project, lines)


def test_constraints_bind_feeds_and_indexes(tmp_path: Path, index: PackageIndex) -> None:
    assert resolved(index, tmp_path, ["needed"], "needed<2", "other==1").pins[0].version == "1.0"
    feed = [Package("python3-needed", "1.5-1")]
    assert resolved(index, tmp_path, ["needed"], "needed<2", feed=feed).feed == {"needed": "python3-needed"}
    found = resolved(index, tmp_path, ["needed"], "needed>=2", feed=feed)
    assert ([pin.version for pin in found.pins], found.feed) == (["2.0"], {})


def test_hashes_name_the_file_that_may_be_taken(tmp_path: Path, index: PackageIndex) -> None:
    digest = hashlib.sha256((tmp_path / "files/needed-2.0-py3-none-any.whl").read_bytes()).hexdigest()
    feed = [Package("python3-needed", "2.0-1")]
    line = f"needed --hash=sha256:{digest}"
    assert resolved(index, tmp_path, [line, "needed"], feed=feed).pins[0].sha256 == digest
    with pytest.raises(RequirementError, match=r"needed-2\.0-py3-none-any\.whl, .* has the SHA-256"):
        resolved(index, tmp_path, [f"needed --hash=sha256:{'ab' * 32}"])
    with pytest.raises(FaultsError, match="other hashes"):
        resolved(index, tmp_path, [line, f"needed --hash=sha256:{'ab' * 32}"])
