"""The boards of configs as jobs of a CI, one for each tree."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.request import requests
from imagebuilder.errors import UserError
from imagebuilder.fleet.job import BoardJob, jobs_of
from imagebuilder.fleet.matrix import CiJob, ci_jobs, matrix_text

CONFIGS = {
    "home": 'extends = "router"\nrelease = "23.05.5"\nboards = ["tplink-tl-wr740n-v4", "glinet-gl-ar150"]\n',
    "office": 'extends = "router"\nrelease = "23.05.5"\nboards = ["tplink-tl-wr740n-v5"]\n',
    "newest": 'extends = "router"\nrelease = "23.05"\nboards = ["glinet-gl-ar150"]\n',
    "tested": 'extends = "base"\nrelease = "embedded"\nboards = ["qemu-x86-64"]\n',
    "too-new": 'extends = "router"\nrelease = "24.10.4"\nboards = ["tplink-tl-wr740n-v4"]\n',
    "given": 'extends = "router"\nimagebuilder = "/trees/mine"\nboards = ["tplink-tl-wr740n-v4"]\n',
    "faulty": 'extends = "router"\nboards = ["tplink-tl-wr740n-v4"]\ntpyo = 1\n',
    "faulty-boards": 'extends = "router"\nboards = 1\n',
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine/configs").mkdir(parents=True)
    return tmp_path / "mine"


def add(project: Path, *names: str) -> list[BoardJob]:
    for name in names:
        (project / f"configs/{name}.toml").write_text(CONFIGS[name])
    return jobs_of(requests(project, names))


def built(job: CiJob, project: Path) -> list[str]:
    """What `build` with its arguments builds."""
    words = shlex.split(job.arguments)
    boards = [word for before, word in pairwise(words) if before == "--board"]
    configs = words[: words.index("--board")] if boards else words
    return [f"{each.config_name()}/{each.board}" for each in requests(project, configs, board=boards)]


def test_boards_of_one_tree_are_one_job(mine: Path) -> None:
    asked = add(mine, "home", "office", "tested", "given")
    found = ci_jobs(asked)
    assert [each.name for each in found] == [
        "23.05.5 ath79/tiny",
        "23.05.5 ath79/generic",
        "embedded",
        "mine",
    ]
    assert (
        found[0].arguments
        == "home office --board home/tplink-tl-wr740n-v4 --board office/tplink-tl-wr740n-v5"
    )
    assert found[0].configs == ("home", "office")
    assert (found[0].release, found[0].target) == ("23.05.5", "ath79/tiny")
    assert found[1].arguments == "home --board glinet-gl-ar150"
    together = [name for job in found for name in built(job, mine)]
    assert sorted(together) == sorted(f"{each.config}/{each.board}" for each in asked)


def test_a_series_is_its_newest_release(mine: Path) -> None:
    (job,) = ci_jobs(add(mine, "newest"))
    assert job.release.startswith("23.05.")
    assert job.release != "23.05"
    assert job.target == "ath79/generic"


def test_what_cannot_be_told_is_a_job_of_its_own(mine: Path) -> None:
    found = ci_jobs(add(mine, "too-new", "faulty", "faulty-boards", "home"))
    assert [each.name for each in found[:3]] == ["too-new/tplink-tl-wr740n-v4", "faulty", "faulty-boards"]
    assert found[2].arguments == "faulty-boards"
    assert [each.release for each in found[:3]] == ["", "", ""]


def test_another_release_is_asked_of_the_build_too(mine: Path) -> None:
    asked = [each.for_release("22.03.7") for each in requests(mine_with(mine, "home"), "home")]
    found = ci_jobs(jobs_of(asked))
    assert {each.release for each in found} == {"22.03.7"}
    assert all(each.arguments.endswith(" --release 22.03.7") for each in found)


def mine_with(project: Path, *names: str) -> Path:
    add(project, *names)
    return project


def test_names_and_keys_are_unique(mine: Path) -> None:
    for number in range(3):
        text = (
            f'extends = "router"\nimagebuilder = "/trees/{number}/same"\nboards = ["tplink-tl-wr740n-v4"]\n'
        )
        (mine / f"configs/c{number}.toml").write_text(text)
    found = ci_jobs(jobs_of(requests(mine, ["c0", "c1", "c2"])))
    assert [each.name for each in found] == ["same", "same (2)", "same (3)"]
    assert len({each.key for each in found}) == 3


def test_a_matrix_has_so_many_jobs_and_no_more(mine: Path) -> None:
    with pytest.raises(UserError, match="take 2 trees, and a matrix may have 1"):
        ci_jobs(add(mine, "home"), most=1)


def test_for_github_it_is_one_line(mine: Path) -> None:
    text = matrix_text(ci_jobs(add(mine, "home", "office")), "github")
    assert "\n" not in text
    rows = json.loads(text)["include"]
    assert [row["name"] for row in rows] == ["23.05.5 ath79/tiny", "23.05.5 ath79/generic"]
    assert all(isinstance(value, str) for row in rows for value in row.values())
    assert rows[0]["boards"] == "tplink-tl-wr740n-v4 tplink-tl-wr740n-v5"


def test_for_gitlab_it_is_a_child_pipeline(mine: Path) -> None:
    pipeline = yaml.safe_load(matrix_text(ci_jobs(add(mine, "home", "office")), "gitlab"))
    assert pipeline.pop("include") == [{"local": ".gitlab/firmware.yml"}]
    assert list(pipeline) == ["firmware 23.05.5 ath79/tiny", "firmware 23.05.5 ath79/generic"]
    for job in pipeline.values():
        assert job["extends"] == ".firmware"
        assert set(job["variables"]) == {"ARGUMENTS", "KEY"}


def test_a_list_for_others(mine: Path) -> None:
    (row, _) = json.loads(matrix_text(ci_jobs(add(mine, "home")), "json"))
    assert row["boards"] == ["tplink-tl-wr740n-v4"]


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_words_stay_what_they_are(name: str, arguments: str) -> None:
    job = CiJob(name, "key", arguments, (), ())
    text = matrix_text([job], "gitlab")
    (given_,) = [each for key, each in yaml.safe_load(text).items() if key != "include"]
    assert given_["variables"]["ARGUMENTS"] == arguments.replace("$", "$$")
    assert json.loads(matrix_text([job], "github"))["include"][0]["arguments"] == arguments


def test_a_name_that_xargs_cannot_be_given_is_told(mine: Path) -> None:
    add(mine, "home")
    (mine / "configs/home.toml").rename(mine / "configs/two\nlines.toml")
    with pytest.raises(UserError, match=r"'two\\nlines' has a line's end in it"):
        ci_jobs(jobs_of(requests(mine, "two\nlines")))


def test_a_board_for_one_of_several_configs(mine: Path) -> None:
    add(mine, "home", "office")
    asked = requests(mine, ["home", "office"], board=["home/a", "office/b", "c"])
    assert [f"{each.config}/{each.board}" for each in asked] == ["home/a", "home/c", "office/b", "office/c"]
    with pytest.raises(UserError, match="no --board is for config 'office': home/a"):
        requests(mine, ["home", "office"], board=["home/a"])
