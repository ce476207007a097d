"""Requirements resolved against a package index of the test's own: no network."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from imagebuilder.config.app import ResolvedRequirements
from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache, OfflineError
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.python.requirements.index import PackageIndex, project_digest
from imagebuilder.python.requirements.index_build import NativeSourceError
from imagebuilder.python.requirements.index_pip import NoMatchError, PythonIndexError, UnreachableIndexError
from imagebuilder.python.requirements.requirements import (
    RequirementError,
    feed_distributions,
    resolve_requirements,
    satisfying,
    wheels_of,
)
from imagebuilder.python.wheels.target import wheel_target
from imagebuilder.python.wheels.wheels import read_wheel
from tests.support.wheel_maker import BACKEND, make_elf, make_project, make_sdist, make_wheel, only_index

MUSL = wheel_target("3.9.18", "x86_64", "21.02")
MIPS = wheel_target("3.11.7", "mips_24kc", "23.05")
UseIndex = Callable[[Iterable[Path]], PackageIndex]


@pytest.fixture
def use_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseIndex:
    """Makes these files the only package index there is."""

    def use(files: Iterable[Path]) -> PackageIndex:
        only_index(monkeypatch, tmp_path / "index", files)
        return PackageIndex(Cache(tmp_path / "cache"), Log())

    return use


def names(resolved: ResolvedRequirements) -> dict[str, str]:
    return {pin.name: pin.version for pin in resolved.pins}


def test_the_index_gives_wheels_with_what_they_need_on_the_target(
    tmp_path: Path, use_index: UseIndex
) -> None:
    files = tmp_path / "files"
    index = use_index(
        [
            make_wheel(
                files,
                "web",
                "2.0",
                requires=[
                    'old-helper; python_version < "3.10"',
                    'new-helper; python_version >= "3.10"',
                    'win; sys_platform == "win32"',
                    'extra-thing; extra == "more"',
                ],
                extras=["more"],
            ),
            make_wheel(files, "web", "3.0", python=">=3.10"),
            make_wheel(files, "old-helper", "1.5"),
            make_wheel(files, "new-helper", "1.0"),
            make_wheel(files, "extra-thing", "1.0"),
        ]
    )
    resolved = resolve_requirements(["web"], MUSL, {}, index)
    assert names(resolved) == {"web": "2.0", "old-helper": "1.5"}
    assert resolved.pins[1].requires == ("old-helper",)
    assert resolved.wanted == {"web": "web"}
    more = resolve_requirements(["web[more]"], MUSL, {}, index)
    assert set(names(more)) == {"web", "old-helper", "extra-thing"}
    newer = resolve_requirements(["web==2.0"], MIPS, {}, index)
    assert set(names(newer)) == {"web", "new-helper"}


def test_a_requirement_that_does_not_count_on_the_target_is_left_out(use_index: UseIndex) -> None:
    index = use_index([])
    assert resolve_requirements(['x; sys_platform == "win32"'], MUSL, {}, index) == ResolvedRequirements()


def test_a_feeds_package_that_satisfies_is_preferred(tmp_path: Path, use_index: UseIndex) -> None:
    files = tmp_path / "files"
    index = use_index(
        [
            make_wheel(files, "app-kit", "1.0", requires=["requests>=2", "PyYAML"]),
            make_wheel(files, "picky", "1.0", requires=["requests>=3"]),
            *(make_wheel(files, "requests", version) for version in ("2.0", "3.1")),
            make_wheel(files, "PyYAML", "7.0"),
        ]
    )
    feed = feed_distributions(
        [Package("python3-requests", "2.31.0-1"), Package("python3-yaml", "6.0.1-r1"), Package("zlib", "1")]
    )
    direct = resolve_requirements(["requests", "pyyaml>=6"], MUSL, feed, index)
    assert (direct.pins, direct.feed) == ((), {"requests": "python3-requests", "pyyaml": "python3-yaml"})
    deep = resolve_requirements(["app-kit"], MUSL, feed, index)
    assert names(deep) == {"app-kit": "1.0"}
    assert deep.feed == {"requests": "python3-requests", "pyyaml": "python3-yaml"}
    assert deep.pins[0].requires == ("pyyaml", "requests")
    assert names(resolve_requirements(["requests>=3"], MUSL, feed, index)) == {"requests": "3.1"}
    picky = resolve_requirements(["picky", "app-kit"], MUSL, feed, index)
    assert names(picky) == {"app-kit": "1.0", "picky": "1.0", "requests": "3.1"}
    assert picky.feed == {"pyyaml": "python3-yaml"}


def test_which_distribution_a_feeds_package_is() -> None:
    packages = [
        Package("python3-requests", "2.31.0-1"),
        Package("python3-requests", "2.28.1-1"),
        Package("python3-cryptodome", "3.18.0-r2"),
        Package("python3-requests-src", "9"),
        Package("python3-light", "3.11.7-1"),
        Package("python3-odd", "git-20200101"),
    ]
    found = feed_distributions(packages, without=["python3-light"])
    assert {name: (str(each.version), each.package) for name, each in found.items()} == {
        "requests": ("2.31.0", "python3-requests"),
        "pycryptodome": ("3.18.0", "python3-cryptodome"),
    }
    assert satisfying(Requirement("requests<3"), found) is not None
    assert satisfying(Requirement("requests[socks]"), found) is None
    assert satisfying(Requirement("requests>=3"), found) is None


def test_a_pure_source_distribution_is_built_and_kept(tmp_path: Path, use_index: UseIndex) -> None:
    sdist = make_sdist(tmp_path / "files", "pure", "1.1")
    index = use_index([sdist, make_wheel(tmp_path / "files", "other", "1", requires=["pure>=1"])])
    resolved = resolve_requirements(["other"], MIPS, {}, index)
    pins = {pin.name: pin for pin in resolved.pins}
    assert pins["pure"].filename == "pure-1.1.tar.gz"
    assert not pins["pure"].is_wheel
    wheels = wheels_of(resolved, MIPS, index)
    assert wheels["pure"].pure
    assert list(wheels["pure"].files) == ["pure.py"]
    offline = PackageIndex(index.cache, Log(), offline=True)
    assert resolve_requirements(["other"], MIPS, {}, offline) == resolved
    again = wheels_of(resolved, MIPS, offline)
    assert again["pure"].files == wheels["pure"].files
    with pytest.raises(OfflineError):
        resolve_requirements(["other", "something"], MIPS, {}, offline)


LOOKS = """
import os
seen = [place for place in {places!r} if os.path.exists(place)]
seen += [name for name in os.environ if "SECRET" in name]
try:
    open({victim!r}, "w").close()
except OSError:
    pass
if seen:
    raise SystemExit("it sees " + " ".join(seen))
with open(NAME + ".py", "a") as stream:
    stream.write("LOOKED = 1\\n")
"""


def test_a_source_distribution_sees_nothing_of_this_machine(
    tmp_path: Path, use_index: UseIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code runs twice: pip asks it what it is, and it is built."""
    monkeypatch.setenv("SECRET_OF_USER", "hunter2")
    (tmp_path / "mine").mkdir()
    # the environment of the lowest versions lies in the cache, and a build sees the Python that runs it
    cached = [each for each in user_cache().glob("*") if not Path(sys.prefix).is_relative_to(each)]
    places = [str(each) for each in (tmp_path / "mine", Path.home() / ".ssh", "/etc/shadow", *cached)]
    looks = LOOKS.format(places=places, victim=str(tmp_path / "victim"))
    backend = BACKEND.format(name="spy", version="1", fails=False, tag="py3-none-any") + looks
    sdist = make_sdist(tmp_path / "files", "spy", "1", more={"backend.py": backend.encode()})
    index = use_index([sdist])
    resolved = resolve_requirements(["spy"], MIPS, {}, index)
    wheel = wheels_of(resolved, MIPS, index)["spy"]
    with zipfile.ZipFile(wheel.path) as archive:
        assert b"LOOKED = 1" in archive.read("spy.py")
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("options", [{"fails": True}, {"tag": "cp311-cp311-linux_x86_64"}])
def test_a_source_with_c_code_is_refused(
    tmp_path: Path, use_index: UseIndex, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"_speed.c": b"int x;", "made_native.so": make_elf(["libc.so.6"])}
    sdist = make_sdist(tmp_path / "files", "native", "1.0", more=more, **options)
    index = use_index([sdist])
    with pytest.raises(NativeSourceError) as caught:
        resolve_requirements(["native"], MIPS, {}, index)
    assert "'native' is to be had as a source distribution only" in caught.value.message
    assert "_speed.c" in caught.value.message
    assert "python3-native for mips_24kc" in (caught.value.hint or "")


def test_a_native_wheel_is_taken_where_it_fits_and_nowhere_else(tmp_path: Path, use_index: UseIndex) -> None:
    files = {"fast.so": make_elf(["libc.musl-x86_64.so.1"])}
    tag = "cp39-cp39-musllinux_1_1_x86_64"
    other = "cp39-cp39-manylinux_2_17_x86_64"
    index = use_index(
        [
            make_wheel(tmp_path / "files", "fast", files=files, tag=tag, pure=False),
            make_wheel(tmp_path / "files", "fast", "2.0", files=files, tag=other, pure=False),
        ]
    )
    resolved = resolve_requirements(["fast"], MUSL, {}, index)
    assert [pin.filename for pin in resolved.pins] == [f"fast-1.0-{tag}.whl"]
    with pytest.raises(NoMatchError, match="has a file of 'fast' that fits"):
        resolve_requirements(["fast"], MIPS, {}, index)


def test_another_file_than_the_locked_one_is_refused(tmp_path: Path, use_index: UseIndex) -> None:
    index = use_index([make_wheel(tmp_path / "files")])
    (pin,) = resolve_requirements(["demo"], MUSL, {}, index).pins
    assert wheels_of(ResolvedRequirements(pins=(pin,)), MUSL, index)["demo"].name == "demo"
    wrong = pin.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PythonIndexError, match="(?i)hash"):
        wheels_of(ResolvedRequirements(pins=(wrong,)), MUSL, index)
    with pytest.raises(OfflineError) as caught:
        wheels_of(ResolvedRequirements(pins=(wrong,)), MUSL, PackageIndex(index.cache, Log(), offline=True))
    assert caught.value.missing == ("demo-1.0-py3-none-any.whl",)


def test_requirements_that_do_not_go_together_are_told(tmp_path: Path, use_index: UseIndex) -> None:
    files = tmp_path / "files"
    index = use_index(
        [
            make_wheel(files, "a", requires=["c<2"]),
            make_wheel(files, "b", requires=["c>=2"]),
            make_wheel(files, "c", "1"),
            make_wheel(files, "c", "2"),
        ]
    )
    with pytest.raises(PythonIndexError) as caught:
        resolve_requirements(["a", "b"], MUSL, {}, index)
    assert "a 1.0 depends on c<2" in caught.value.message
    assert "b 1.0 depends on c>=2" in caught.value.message


def test_what_every_release_asks_for_in_vain_is_built(tmp_path: Path, use_index: UseIndex) -> None:
    files = tmp_path / "files"
    index = use_index(
        [
            make_wheel(files, "pages", "1.0", requires=["Marks>=0.2"]),
            make_wheel(files, "pages", "2.0", requires=["Marks>=1"]),
            make_wheel(files, "server", "1.0", requires=["pages>=1", "marks<3"]),
            make_sdist(files, "marks", "2.0"),
            make_sdist(files, "marks", "3.0"),
        ]
    )
    for wanted in (["pages"], ["server"], ["pages", "marks<3"]):
        found = names(resolve_requirements(wanted, MIPS, {}, index))
        assert found["pages"] == "2.0"
        assert found["marks"] == ("3.0" if wanted == ["pages"] else "2.0")


def test_what_every_release_asks_for_and_cannot_be_compiled_is_told(
    tmp_path: Path, use_index: UseIndex
) -> None:
    files = tmp_path / "files"
    index = use_index(
        [
            make_wheel(files, "pages", "1.0", requires=["marks"]),
            make_wheel(files, "pages", "2.0", requires=["marks"]),
            make_wheel(files, "books", "1.0", requires=["marks>=3"]),
            make_wheel(files, "books", "2.0", requires=["marks>=3"]),
            make_sdist(files, "marks", "2.0", more={"_speed.c": b"int x;"}, fails=True),
        ]
    )
    with pytest.raises(NativeSourceError, match="'marks' is to be had as a source distribution only"):
        resolve_requirements(["pages"], MIPS, {}, index)
    with pytest.raises(PythonIndexError, match=r"books 2.0 depends on marks>=3"):
        resolve_requirements(["books"], MIPS, {}, index)


def test_an_index_that_does_not_answer_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UnreachableIndexError, match="no package index could be reached for resolving demo"):
        resolve_requirements(["demo"], MUSL, {}, PackageIndex(Cache(tmp_path), Log()))


def test_an_app_of_ones_own_satisfies_another(tmp_path: Path, use_index: UseIndex) -> None:
    own = read_wheel(make_wheel(tmp_path / "own", "library", "0.1"))
    index = use_index(
        [
            make_wheel(tmp_path / "files", "library", "9"),
            make_wheel(tmp_path / "files", "user", requires=["library"]),
        ]
    )
    resolved = resolve_requirements(["user", "library"], MUSL, {}, index, own=[own])
    assert names(resolved) == {"user": "1.0"}
    assert resolved.pins[0].requires == ("library",)


def test_a_requirement_that_is_none_is_refused(use_index: UseIndex) -> None:
    with pytest.raises(RequirementError, match="is no requirement"):
        resolve_requirements(["bottle >= "], MUSL, {}, use_index([]))


def test_a_projects_wheel_is_built_once(tmp_path: Path, use_index: UseIndex) -> None:
    index = use_index([])
    project = make_project(tmp_path / "project", "tool", "2.0")
    built = index.wheel_of(project, "tool 1", MIPS)
    assert read_wheel(built).name == "tool"
    (project / "backend.py").write_text("raise SystemExit(1)")
    assert index.wheel_of(project, "tool 1", MIPS) == built
    with pytest.raises(UserError):
        index.wheel_of(project, "tool 2", MIPS)


def test_a_projects_digest_tells_its_links_and_what_runs(tmp_path: Path) -> None:
    """A wheel of it is taken from the cache as long as the digest is the same: its build gets links too."""
    folder, other = tmp_path / "project", tmp_path / "elsewhere"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg/a.py").write_text("a = 1\n")
    other.write_text("b = 1\n")
    seen = [project_digest(folder)]

    def differs() -> bool:
        seen.append(project_digest(folder))
        return seen[-1] not in seen[:-1]

    (folder / "more").symlink_to("pkg")
    assert differs()
    (folder / "more").unlink()
    (folder / "more").symlink_to("../project/pkg")
    assert differs()
    (folder / "pkg/b.py").symlink_to(other)
    assert differs()
    other.write_text("b = 2\n")
    assert differs()
    (folder / "dangling").symlink_to("nowhere")
    assert differs()
    (folder / "pkg/a.py").chmod(0o755)
    assert differs()
    for name in (".git", "pkg/__pycache__", "x.egg-info"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")
    (folder / "venv").symlink_to("/usr")
    assert not differs()


def test_a_wheel_for_this_machine_without_native_code_is_a_pure_one(
    tmp_path: Path, use_index: UseIndex
) -> None:
    more = {"_speed.c": b"int x;"}
    sdist = make_sdist(tmp_path / "files", "slow", "1.0", more=more, tag="cp311-cp311-linux_x86_64")
    index = use_index([sdist])
    wheels = wheels_of(resolve_requirements(["slow"], MIPS, {}, index), MIPS, index)
    assert wheels["slow"].path.name == "slow-1.0-py3-none-any.whl"
    assert wheels["slow"].pure
    assert list(wheels["slow"].files) == ["slow.py"]
