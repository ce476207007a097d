"""What is written of many boards: the file of what was run last, Markdown, JUnit XML."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.errors import Fault, TerminatedError
from imagebuilder.fleet.job import BoardJob, BuiltState, Ended, HandedOver, JobFailure
from imagebuilder.fleet.journal import GOOD, NAME, Journal
from imagebuilder.fleet.junit import junit_xml
from imagebuilder.fleet.outcomes import Outcomes
from imagebuilder.fleet.summary import MOST_BYTES, markdown, plain
from imagebuilder.model.result import ImageFile, LoadedBytecode, Result, Start, StepTime, TreeFacts
from imagebuilder.workspace import OUTPUT
from tests.support.fleet_work import jobs
from tests.support.report_making import TRIAL

RESULT = Result(
    builder="1",
    config="config",
    board="a",
    profile="p",
    python="light",
    tree=TreeFacts(
        source="s", distribution="O", version="1", target="t", arch="a", package_manager="opkg", trust="t"
    ),
    feeds={},
    view="overlay",
    sandboxed=True,
    make=(),
    packages=(),
    images=(
        ImageFile(file="good.bin", type="sysupgrade", size=4 << 20, sha256="0" * 64, required=True),
        ImageFile(file="odd.bin", type="factory", size=1, sha256="0" * 64, required=True),
    ),
    checks={"good.bin": 3},
    unchecked=("odd.bin",),
    rootfs=None,
    flash=None,
    ram=None,
    overlays=(),
    filespecs=(),
    trimmed=(),
    shaken=(),
    starts=(Start(command="/usr/bin/python3 /dev/null", modules=10, look_ups=5, seconds=0.25),),
    bytecode=LoadedBytecode(files=2, modules=1, by="the image's own Python"),
    uncompiled=(),
    secrets=(),
    signed={},
    disabled_services=(),
    warnings=(),
    steps=(StepTime(step="tree", seconds=0.5), StepTime(step="build", seconds=2.0)),
    trial=TRIAL,
)


@pytest.fixture
def outcomes(tmp_path: Path) -> Outcomes[HandedOver]:
    """One of each kind of end."""
    asked = jobs(tmp_path, *"abcdef")
    place = tmp_path / "out/config/a"
    failure = JobFailure("it is <wrong> | `here`\nand there", "mend *it*", ("a note",))
    bug = JobFailure("ZeroDivisionError: a bug", "report it", ours=True, trace="Traceback\n  File x\n")
    return Outcomes(
        "built",
        (
            Ended(asked[0], "done", HandedOver.of(place, RESULT), None, 3.0),
            Ended(asked[1], "failed", None, failure, 1.5, "stage"),
            Ended(asked[2], "failed", None, bug, 0.5, "build\x00"),
            Ended(asked[3], "done", HandedOver.of(place, RESULT, "from the cache"), None, 0.1),
            Ended(asked[4], "interrupted", None, None, 2.0, "build"),
            Ended(asked[5], "not run"),
        ),
        TerminatedError,
    )


def test_markdown(outcomes: Outcomes[HandedOver]) -> None:
    text = markdown(outcomes)
    lines = text.splitlines()
    assert lines[0] == "### Firmware: 1 built, 2 failed, 1 from the cache, 1 interrupted, 1 not run"
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == 6
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows), "cells hold no bar of their own"
    assert "| a | ✅ built | 3.0 s | sysupgrade 4.0 MiB<br>factory 1 bytes |" in rows[0]
    assert rows[0].endswith(r"| 3 checks\: 1 warned, 1 not run, 1 ok |")
    assert "it is &lt;wrong&gt; \\| \\`here\\`" in rows[1]
    assert "✅ from the cache" in rows[3]
    assert "<summary>b failed in the step stage</summary>" in text
    assert "it is &lt;wrong&gt; | `here`\nand there\na note\nhint: mend *it*" in text
    assert "Traceback" in text
    assert "\x00" not in text


def test_a_page_is_not_longer_than_github_shows(tmp_path: Path) -> None:
    failure = JobFailure("x" * 2000)
    asked = jobs(tmp_path, *(f"board{number}" for number in range(1000)))
    found = Outcomes[HandedOver]("built", tuple(Ended(job, "failed", None, failure) for job in asked))
    text = markdown(found)
    assert len(text.encode()) < MOST_BYTES + 100
    assert text.count("\n| board") == 1001
    assert re.search(r"\d+ more failed: see the log\.\n$", text)
    many = Outcomes[HandedOver]("built", found.all * 10)
    assert len(markdown(many).encode()) < MOST_BYTES + 200
    assert " more boards: see the log." in markdown(many)


@given(st.text())
def test_any_text_is_plain_in_a_cell(text: str) -> None:
    cell = plain(text)
    assert "\n" not in cell
    assert not re.search(r"(?<!\\)[|*_`\[<>]", cell.replace("\\\\", ""))


# what GitLab (docs.gitlab.com/ci/testing/unit_test_reports) and Jenkins (jenkins-junit.xsd) know
SUITE = {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"}
CASE = {"name", "classname", "time", "status", "assertions"}


def check_junit(suites: Element) -> None:
    """Refuses what one of them would not read."""
    assert suites.tag == "testsuites"
    assert set(suites.keys()) <= {"name", "tests", "failures", "errors", "skipped", "time"}
    for suite in suites:
        assert suite.tag == "testsuite"
        assert {"name", "tests"} <= set(suite.keys()) <= SUITE
        assert int(suite.get("tests", "")) == len(suite)
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(key, "")) == len(suite.findall(f"testcase/{tag}"))
        assert float(suite.get("time", "")) >= 0
        names = [(case.get("classname"), case.get("name")) for case in suite]
        assert len(names) == len(set(names))
        for case in suite:
            assert case.tag == "testcase"
            assert {"name", "classname", "time"} <= set(case.keys()) <= CASE
            assert case.get("name")
            assert case.get("classname")
            assert len(case) <= 1
            for told in case:
                assert told.tag in ("failure", "error", "skipped", "system-out")
                assert set(told.keys()) <= {"message", "type"}
    for key in ("tests", "failures", "errors", "skipped"):
        assert int(suites.get(key, "")) == sum(int(suite.get(key, "")) for suite in suites)


def test_junit(outcomes: Outcomes[HandedOver]) -> None:
    suites = ElementTree.fromstring(junit_xml(outcomes))
    check_junit(suites)
    assert [suite.get("name") for suite in suites] == [f"config/{board}" for board in "abcdef"]
    built = suites[0]
    assert [(case.get("classname"), case.get("name")) for case in built] == [
        ("config.a.build", "tree"),
        ("config.a.build", "build"),
        ("config.a.checks", "good.bin"),
        ("config.a.checks", "odd.bin"),
        ("config.a.trials", "/usr/bin/python3 /dev/null"),
        ("config.a.trials", "Python 3.11 starts"),
        ("config.a.trials", "every module can be imported"),
        ("config.a.trials", "scripts parse"),
        ("config.a.trials", "bytecode"),
    ]
    (said,) = built.findall("testcase[@name='every module can be imported']/system-out")
    assert said.text is not None
    assert said.text.startswith("300 modules\nwarning: /usr/lib/python3.11/site-packages/fast.pyc ")
    (skipped,) = built.findall("testcase[@name='scripts parse']/skipped")
    assert skipped.get("message") == "the image has no /bin/sh"
    assert built.findtext("testcase[@name='good.bin']/system-out") == f"3 checks passed; {4 << 20} bytes"
    assert built.find("testcase[@name='odd.bin']/skipped") is not None
    (failure,) = suites[1].findall("testcase[@name='stage']/failure")
    assert failure.get("message") == "it is <wrong> | `here`"
    assert "hint: mend *it*" in (failure.text or "")
    (error,) = suites[2].findall("testcase/error")
    assert "Traceback" in (error.text or "")
    assert [each.get("message") for each in suites.findall(".//skipped")][-2:] == ["interrupted", "not run"]


@given(st.text(), st.text(min_size=1))
def test_any_text_makes_xml(message: str, step: str) -> None:
    job = jobs(Path("/"), "a")[0]
    failed = Ended[HandedOver](job, "failed", None, JobFailure(message), 1.0, step)
    check_junit(ElementTree.fromstring(junit_xml(Outcomes("built", (failed,)))))


def test_the_result_is_the_builds_own_whatever_was_done_to_the_folder(tmp_path: Path) -> None:
    """Another build puts its own there, `clean` takes it away."""
    job = jobs(tmp_path, "a")[0]
    found = Outcomes("built", (Ended(job, "done", HandedOver.of(tmp_path / "gone", RESULT)),))
    assert "sysupgrade 4.0 MiB" in markdown(found)
    assert ElementTree.fromstring(junit_xml(found)).findall(".//testcase")
    assert HandedOver.of(tmp_path, RESULT).result() == RESULT


def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "out")


def done(job: BoardJob, state: BuiltState = "built") -> Ended[HandedOver]:
    return Ended(job, "done", HandedOver.of(Path("/"), RESULT, state), None, 1.0, peak=5 << 20)


def test_every_state_of_a_result_is_good() -> None:
    assert set(get_args(BuiltState)) == GOOD


def test_what_was_killed_counts_as_not_run(tmp_path: Path) -> None:
    asked = jobs(tmp_path, *"abc")
    first = journal(tmp_path)
    first.begin(asked)
    for job in asked:
        first.ended(done(job), 7)
    assert list(journal(tmp_path).failed(asked)) == []
    second = journal(tmp_path)
    second.begin(asked)
    second.ended(done(asked[1], "from the cache"))
    again = journal(tmp_path)
    assert list(again.failed(asked)) == [asked[0], asked[2]]
    assert again.boards["config/a"].memory == 5 << 20, "what it took is not forgotten"
    assert again.boards["config/b"].disk == 7
    assert OUTPUT.stranger(tmp_path / "out") is None
    (new,) = jobs(tmp_path, "new")
    assert list(again.failed([new])) == [new]


def test_failures_and_what_is_no_line(tmp_path: Path) -> None:
    asked = jobs(tmp_path, *"abcd")
    first = journal(tmp_path)
    first.begin(asked)
    first.ended(done(asked[0]))
    first.ended(Ended(asked[1], "failed", None, JobFailure("x")))
    first.ended(Ended(asked[2], "interrupted"))
    with (tmp_path / "out" / NAME).open("ab") as stream:
        stream.write(b'{"board": "config/a", "state": "fai\n\xff\n[]\n3\n{"board": 1}\n' + b"[" * 5000)
    assert list(journal(tmp_path).failed(asked)) == asked[1:]


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    found = Journal(Path("/nonexistent"))
    found._take(data)
    json.dumps([each.seconds for each in found.boards.values()])


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    asked = jobs(tmp_path, *"ab")
    for _ in range(200):
        each = journal(tmp_path)
        each.begin(asked)
        for job in asked:
            each.ended(done(job))
    assert len((tmp_path / "out" / NAME).read_bytes().splitlines()) < 140
    assert list(journal(tmp_path).failed(asked)) == []


def test_where_it_cannot_be_written_all_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("no folder")
    found = journal(tmp_path)
    found.begin(jobs(tmp_path, *"ab"))
    assert found.problem is not None
    found.ended(done(jobs(tmp_path, "a")[0]))


def test_faults_come_back_as_faults() -> None:
    fault = Fault("a.toml", 3, "key", "is wrong")
    assert JobFailure("x", faults=(fault,)).error().message == str(fault)
