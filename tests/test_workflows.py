"""What runs elsewhere, as far as it can be tried here: workflows and forms are YAML of the right shape, the
action's script builds, what they name is there. Whether they run on GitHub shows only there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagebuilder.config.library import shipped_folder
from imagebuilder.config.new_project import new_project
from imagebuilder.config.request import requests
from imagebuilder.fleet.job import jobs_of
from imagebuilder.fleet.matrix import TEMPLATE, ci_jobs, matrix_text
from tests.test_documents import commands_of, parsed, words_of

PROJECT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))
FORMS = sorted((PROJECT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
ACTION = yaml.safe_load((PROJECT / "action.yml").read_text())
GUIDE = PROJECT / "docs/many-boards.md"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
by_name = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def workflow(text: str) -> dict[str, Any]:
    found: dict[Any, Any] = yaml.safe_load(text)
    found["on"] = found.pop(True)  # YAML 1.1 reads `on` so; GitHub does not
    return found


def check_shape(found: dict[str, Any]) -> Iterator[str]:
    """What GitHub refuses a workflow for, of the keys that ours have; gives the commands of its steps."""
    assert set(found) <= {"name", "on", "permissions", "jobs", "concurrency"}
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        assert set(job) <= {"runs-on", "container", "strategy", "steps", "needs", "env", "outputs"}
        assert job["runs-on"]
        for step in job["steps"]:
            assert set(step) <= {"name", "id", "uses", "with", "run", "env", "shell", "if"}
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"\./|[\w-]+/[\w.-]+@v\d+", step["uses"])
            else:
                yield step["run"]


@by_name
def test_a_workflow_can_be_run(path: Path) -> None:
    commands = list(check_shape(workflow(path.read_text())))
    assert commands
    for command in commands:
        plain = re.sub(r"\$\{\{.*?\}\}", "x", command)
        assert plain == command, "what others chose is no part of a script"
        subprocess.run(["bash", "-n", "-c", plain], check=True)
        for line in plain.splitlines():
            for call in re.findall(r"(?:python3 build\.py|owrt-python) ([a-z].*)", line):
                if not call.startswith("test"):
                    parsed(words_of(call))
            for script in re.findall(r"(?:^|\s)(\.ci/\w+)", line):
                assert (PROJECT / script).stat().st_mode & 0o111


def test_the_workflow_of_a_new_project(tmp_path: Path) -> None:
    new_project(tmp_path / "mine", "qemu-x86-64")
    (path,) = (tmp_path / "mine/.github/workflows").iterdir()
    commands = list(check_shape(workflow(path.read_text())))
    assert any(" matrix --all --format github" in command for command in commands)
    assert any(" build -j auto" in command for command in commands)


def test_the_steps_of_a_new_projects_workflow(runner: dict[str, str], tmp_path: Path) -> None:
    """What the first job gives, the second takes, as GitHub passes it on: a job for each tree, which writes
    the page's summary."""
    new_project(tmp_path / "new", "qemu-x86-64")
    (path,) = (tmp_path / "new/.github/workflows").iterdir()
    jobs = workflow(path.read_text())["jobs"]
    (step,) = [each for each in jobs["trees"]["steps"] if each.get("id") == "matrix"]
    script(step["run"], runner, tmp_path / "mine")
    (line,) = outputs(runner)["matrix"]
    rows = json.loads(line)["include"]
    assert [row["name"] for row in rows] == ["small-tree"]
    assert jobs["trees"]["outputs"]["matrix"] == "${{ steps.matrix.outputs.matrix }}"
    assert jobs["build"]["needs"] == "trees"
    assert jobs["build"]["strategy"]["matrix"] == "${{ fromJSON(needs.trees.outputs.matrix) }}"
    (step,) = [each for each in jobs["build"]["steps"] if " build " in each.get("run", "")]
    assert step["env"]["ARGUMENTS"] == "${{ matrix.arguments }}"
    summary = tmp_path / "summary.md"
    more = {"ARGUMENTS": rows[0]["arguments"], "GITHUB_STEP_SUMMARY": str(summary)}
    ended = script(step["run"], {**runner, **more}, tmp_path / "mine", code=123)  # xargs's word for it
    assert "beaglebone-black: error: " in ended.stderr
    assert (tmp_path / "mine/out/home/tplink-tl-wr740n-v4/result.json").is_file()
    assert "1 built, 1 failed" in summary.read_text()
    assert "<testsuites" in (tmp_path / "mine/out/junit.xml").read_text()
    words = " ".join(str(each.get("with", {})) for each in jobs["build"]["steps"])
    for name in re.findall(r"matrix\.(\w+)", words):
        assert name in rows[0]


def recipes(tmp_path: Path) -> Iterator[str]:
    """The lines that give `build` what a matrix says."""
    new_project(tmp_path / "new", "qemu-x86-64")
    (path,) = (tmp_path / "new/.github/workflows").iterdir()
    steps = workflow(path.read_text())["jobs"]["build"]["steps"]
    (step,) = [each for each in steps if " build " in each.get("run", "")]
    yield step["run"]
    (block,) = re.findall(r"```yaml\n(# \.gitlab/firmware\.yml\n.*?)```", GUIDE.read_text(), re.DOTALL)
    (line,) = yaml.safe_load(block)[".firmware"]["script"]
    yield line


ODD = [
    "my home",
    "it's",
    '"quoted"',
    "a*b",
    "$(touch ran)",
    "`touch ran`",
    "back\\slash",
    "a;b&c|d",
    "~",
    "é",
]


@pytest.mark.parametrize("words", [["home", "--board", "a/b"], ODD])
def test_what_a_matrix_says_is_what_build_gets(
    runner: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    """Whatever a config is called, and of it nothing is run."""
    (tmp_path / "bin/owrt-python").write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> "$RUNNER_TEMP/got"\n')
    lines = list(recipes(tmp_path))
    assert len(lines) == 2
    for line in lines:
        given = {"ARGUMENTS": shlex.join(words), "GITHUB_STEP_SUMMARY": "summary.md"}
        script(line, {**runner, **given}, tmp_path)
        got = (tmp_path / "got").read_text().split("\0")[:-1]
        (tmp_path / "got").unlink()
        assert got[0] == "build"
        assert got[-len(words) :] == words
        assert not (tmp_path / "ran").exists()


def test_a_config_with_an_odd_name_is_built_by_the_recipe(runner: dict[str, str], tmp_path: Path) -> None:
    text = (tmp_path / "mine/configs/home.toml").read_text().replace(', "beaglebone-black"', "")
    (tmp_path / "mine/configs/it's my home.toml").write_text(text)
    (line, _) = recipes(tmp_path)
    ended = script('owrt-python matrix "it\'s my home" --format json', runner, tmp_path / "mine")
    (job,) = json.loads(ended.stdout)
    given = {"ARGUMENTS": job["arguments"], "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    script(line, {**runner, **given}, tmp_path / "mine")
    assert (tmp_path / "mine/out/it's my home/tplink-tl-wr740n-v4/result.json").is_file()


def script(
    text: str, runner: dict[str, str], folder: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does."""
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    ended = subprocess.run(argv, cwd=folder, env=runner, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    return ended


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_for_issues(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert isinstance(form["blank_issues_enabled"], bool)
        return
    assert {"name", "description", "body"} <= set(form)
    names = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(names) == len(set(names)) > 2
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "input")
        assert part["attributes"]["value" if part["type"] == "markdown" else "label"]


def test_what_is_checked_before_a_commit() -> None:
    found = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in found["repos"] for hook in repository["hooks"]]
    assert all("rev" in each or each["repo"] == "local" for each in found["repos"])
    for name in (word for hook in hooks for word in hook.get("entry", "").split() if "/" in word):
        assert (PROJECT / name).is_file()


class _Loader(yaml.SafeLoader):
    """mkdocs.yml names a function of Python, which is not looked up here."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)


def test_the_site_has_every_page() -> None:
    """Links are followed by tests/test_documents.py; `mkdocs build --strict` wants the extra `docs`."""
    site = yaml.load((PROJECT / "mkdocs.yml").read_text(), _Loader)
    pages = {
        page for part in site["nav"] for found in part.values() if isinstance(found, list) for page in found
    }
    beside = {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    assert pages == {path.name for path in (PROJECT / "docs").glob("*.md")} | beside
    assert all((PROJECT / hook).is_file() for hook in site["hooks"])
    assert any("mkdocs" in each for each in PYPROJECT["project"]["optional-dependencies"]["docs"])


def test_the_site_asks_no_other_host() -> None:
    """What the theme would fetch where somebody reads: its fonts, and the program that draws diagrams."""
    site = yaml.load((PROJECT / "mkdocs.yml").read_text(), _Loader)
    assert site["theme"]["font"] is False
    given = [*site.get("extra_css", []), *site.get("extra_javascript", [])]
    assert given
    assert all((PROJECT / "docs" / each).is_file() for each in given)
    pages = [*(PROJECT / "docs").glob("*.md"), *PROJECT.glob("*.md")]
    assert [page.name for page in pages if "```mermaid" in page.read_text("utf-8")] == []


def test_the_container_copies_what_the_wheel_is_made_of() -> None:
    ignored = (PROJECT / ".containerignore").read_text().split()
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert set(ignored) & {*wheel, "README.md", "pyproject.toml", "docs"} == set()
    text = (PROJECT / "Containerfile").read_text().replace("\\\n", "")
    runs = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]
    assert len(runs) == 2
    for line in runs:
        subprocess.run(["bash", "-n", "-c", line], check=True)
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0]) == ["owrt-python"]


def test_the_action_takes_what_its_guide_says() -> None:
    guide = PROJECT / "docs/many-boards.md"
    shown, *_ = re.findall(r"```yaml\n(.*?)```", guide.read_text(), re.DOTALL)
    (step,) = [each for each in yaml.safe_load(shown) if "with" in each]
    assert set(step["with"]) <= set(ACTION["inputs"])
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert name in shown or f"`{name}`" in guide.read_text()
    for step in ACTION["runs"]["steps"]:
        assert "uses" in step or step["shell"] == "bash"
        assert "${{" not in step.get("run", "")
    assert any("build" in call for call in commands_of(guide))


def test_the_guides_child_pipeline_has_the_job_that_the_matrix_extends() -> None:
    guide = (PROJECT / "docs/many-boards.md").read_text()
    _, pipeline, template = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL))
    (line,) = pipeline["matrix"]["script"]
    assert " matrix --all --format gitlab > matrix.yml" in line
    assert pipeline["firmware"]["trigger"]["include"] == [{"artifact": "matrix.yml", "job": "matrix"}]
    (job,) = ci_jobs(jobs_of(requests(shipped_folder(), "demo")))
    child = yaml.safe_load(matrix_text([job], "gitlab"))
    assert child["include"] == [{"local": TEMPLATE}]
    assert f"# {TEMPLATE}" in guide
    (used,) = [each for key, each in child.items() if key != "include"]
    assert [used["extends"]] == list(template)
    words = f"{template['.firmware']['script']} {template['.firmware']['cache']}"
    assert set(re.findall(r"\$([A-Z]+)", words)) == set(used["variables"])


@pytest.fixture
def runner(small_tree: Path, tmp_path: Path) -> dict[str, str]:
    """What GitHub gives a step, and the program on the PATH; the project `mine` with two boards."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/owrt-python").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m imagebuilder "$@"\n')
    (tmp_path / "bin/owrt-python").chmod(0o755)
    (tmp_path / "mine/configs").mkdir(parents=True)
    (tmp_path / "mine/configs/home.toml").write_text(
        f'boards = ["tplink-tl-wr740n-v4", "beaglebone-black"]\nimagebuilder = "{small_tree}"\n'
    )
    return {
        "PATH": f"{tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(PROJECT),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        **dict.fromkeys(("BOARDS", "ARGUMENTS"), ""),
        "PROJECT": "mine",
    }


def outputs(runner: dict[str, str]) -> dict[str, list[str]]:
    """As GitHub reads them."""
    lines = Path(runner["GITHUB_OUTPUT"]).read_text().splitlines()
    found: dict[str, list[str]] = {}
    while lines:
        line = lines.pop(0)
        name, mark, end = line.partition("<<")
        if mark:
            length = lines.index(end)
            found[name], lines = lines[:length], lines[length + 1 :]
        else:
            name, _, value = line.partition("=")
            found[name] = [value]
    return found


def act(runner: dict[str, str], tmp_path: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    argv = [str(PROJECT / ".ci/action")]
    return subprocess.run(
        argv, cwd=tmp_path, env={**runner, **inputs}, capture_output=True, text=True, check=False
    )


def test_the_actions_script_builds(runner: dict[str, str], tmp_path: Path) -> None:
    board = "tplink-tl-wr740n-v4"
    ended = act(runner, tmp_path, CONFIG="home", BOARDS=f" {board}\n", ARGUMENTS="--output 'my results'")
    assert ended.returncode == 0, ended.stderr
    found = outputs(runner)
    (folder,) = found["folders"]
    assert folder == str(tmp_path / f"my results/home/{board}")
    assert (Path(folder) / "result.json").is_file()
    assert json.loads(Path(found["result"][0]).read_text())[0]["folder"] == folder


def test_a_board_that_fails_fails_the_action_and_no_other(runner: dict[str, str], tmp_path: Path) -> None:
    ended = act(runner, tmp_path, CONFIG="home")
    assert ended.returncode == 2
    found = outputs(runner)
    assert found["folders"] == [str(tmp_path / "mine/out/home/tplink-tl-wr740n-v4")]
    assert "error" in json.loads(Path(found["result"][0]).read_text())


def test_nothing_of_an_input_is_run(runner: dict[str, str], tmp_path: Path) -> None:
    evil = shlex.quote("$(touch ran)") + " `touch ran` ;touch ran"
    ended = act(runner, tmp_path, CONFIG=evil, BOARDS=evil, ARGUMENTS=evil)
    assert ended.returncode == 2
    assert not (tmp_path / "ran").exists()
    assert outputs(runner)["folders"] == []
