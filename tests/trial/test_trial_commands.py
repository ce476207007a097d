"""Trials of a root file system with its own Python and busybox: the kit's. Each fault is told by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.config.model_config import Trial
from imagebuilder.kit.image import with_services
from imagebuilder.log import Log
from imagebuilder.model.trial import TrialCheck
from imagebuilder.rootfs.files import read_tree, write_tree
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.trial import command_check
from imagebuilder.trial.command_check import CommandAnswer, is_said
from imagebuilder.trial.hello import TriedInterpreter, interpreters_of
from imagebuilder.trial.module_check import Owners
from imagebuilder.trial.trial import TrialAsked, TrialFailedError, TrialFound, try_root
from tests.support.shake_kit import Shaker, root_of

SITE = "site-packages"
Try = Callable[..., TrialFound]


@pytest.fixture
def tried(shaker: Shaker, tmp_path: Path) -> Try:
    """Tries a root of the kit's light Python with files laid over it, which are those of app-mine."""

    def work(files: Mapping[str, str], *trials: Trial, **asked: object) -> TrialFound:
        library = shaker.library
        laid = {
            path.replace("SITE", f"{library}/{SITE}"): file_of(
                text.encode(), 0o755 if "/bin/" in path or "/init.d/" in path else 0o644
            )
            for path, text in files.items()
        }
        trees = [each.tree for each in shaker.packages_of(["python3-light"]).values()]
        root, unpacked = tmp_path / "root", root_of([*trees, FileTree(laid)], tmp_path / "unpacked")
        write_tree(with_services(read_tree(unpacked), ()), root)
        version = shaker.package_of("python3-base").package.version
        owners = Owners(dict.fromkeys(laid, "app-mine"), {"app-mine"})
        known = TrialAsked(trials=trials, owners=owners, versions={"python3-base": version})
        return try_root(root, None, replace(known, **asked), tmp_path / "work", Log())  # type: ignore[arg-type]

    return work


def checks(found: TrialFound, name: str) -> list[TrialCheck]:
    return [check for check in found.report.checks if check.name == name]


def script(body: str) -> str:
    return f"#!/usr/bin/python3 -B\n{body}\n"


def test_a_good_root_stands_its_trial(tried: Try) -> None:
    files = {
        "/usr/bin/meter": script("import sys\nprint('usage: meter', file=sys.stderr)"),
        "SITE/meter.py": "x = 1\n",
    }
    found = tried(files, Trial(run="meter 'a b'", expect="^usage: [a-z]+$"), traces=["meter --check"])
    report = found.report
    assert not report.failed, report.failed
    assert (report.by, report.why, report.made) == ("this machine", "", ("app-mine",))
    names = [check.name for check in report.checks]
    assert names[:3] == ["interpreter", "loaded-bytecode", "modules"]
    assert names[-2:] == ["trace", "command"]
    assert {"bytecode", "shared-libraries", "shell-scripts"} <= set(names)
    (modules,) = checks(found, "modules")
    assert modules.outcome == "ok"
    ways = {figure.way: figure for figure in report.figures}
    assert set(ways) == {"bytecode", "isolated"}
    for figure in ways.values():
        assert figure.seconds > 0
        assert figure.modules is not None
        assert figure.memory is not None
        assert 1000 < figure.memory < 100_000, "KiB"
    assert (ways["isolated"].modules or 0) < (ways["bytecode"].modules or 0)
    assert [start.command for start in found.starts] == [ways["bytecode"].command, "meter --check"]
    assert found.bytecode is not None
    assert found.bytecode.modules > 200


def test_an_import_that_fails_is_named_with_file_package_and_reason(tried: Try) -> None:
    files = {
        "SITE/meter.py": "import sqlite3\n",
        "SITE/helper/__init__.py": "",
        "SITE/helper/part.py": "raise ValueError('no')\n",
    }
    found = tried(files)
    (failed,) = found.report.failed
    assert failed.name == "modules"
    first = failed.findings[0]
    assert first.file.endswith(f"/{SITE}/meter.py")
    assert (first.package, first.level) == ("app-mine", "error")
    assert first.text == (
        "meter: ModuleNotFoundError: No module named 'sqlite3' (the package python3-sqlite3 brings sqlite3)"
    )
    (other,) = (each for each in failed.findings if each.text.startswith("helper.part"))
    assert (other.level, other.text) == ("warning", "helper.part: ValueError: no")
    error = TrialFailedError(found.report)
    assert "every module can be imported: " in error.message
    assert "sqlite3" in error.message


def test_a_module_that_ends_the_interpreter_is_named_and_the_others_are_tried(tried: Try) -> None:
    files = {"SITE/aaa.py": "import os\nos._exit(5)\n", "SITE/zzz.py": "import nowhere\n"}
    (failed,) = tried(files).report.failed
    texts = [each.text for each in failed.findings if each.level == "error"]
    assert texts == [
        "aaa: the interpreter exited with 5 while it imported this",
        "zzz: ModuleNotFoundError: No module named 'nowhere'",
    ]


@pytest.mark.parametrize(
    ("body", "outcome", "said"),
    [
        ("import nowhere", "failed", "No module named 'nowhere'"),
        ("from json import nowhere", "failed", "cannot import name 'nowhere' from 'json'"),
        ("if x = 1: pass", "failed", "SyntaxError"),
        ("import json\njson.nowhere()", "failed", "module 'json' has no attribute 'nowhere'"),
        ("raise SystemExit(3)", "warned", "it exited with 3 and said nothing\nif that is as it should be"),
        ("open('/dev/ttyUSB0')", "warned", "No such file or directory: '/dev/ttyUSB0'"),
        ("print('hello')", "ok", "it says: hello"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "failed", "SIGSEGV"),
    ],
)
def test_an_apps_program_is_asked_for_help(tried: Try, body: str, outcome: str, said: str) -> None:
    found = tried({"/usr/bin/meter": script(body)})
    (check,) = checks(found, "program")
    assert (check.what, check.outcome) == ("meter starts", outcome)
    assert said in "\n".join([check.found, *(each.text for each in check.findings)])
    if check.findings:
        assert (check.findings[0].file, check.findings[0].package) == ("/usr/bin/meter", "app-mine")


def test_a_program_that_goes_on_is_a_service_or_said_to_take_no_help(
    tried: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_check, "HELP_SECONDS", 1.0)
    goes_on = script("import time\nprint('on', flush=True)\ntime.sleep(60)")
    files = {
        "/usr/bin/meter": goes_on,
        "/usr/bin/other": goes_on,
        "/etc/init.d/meter": "#!/bin/sh /etc/rc.common\nprocd_set_param command /usr/bin/meter\n",
    }
    service, other = checks(tried(files), "program")
    assert (service.outcome, service.found) == ("ok", "it still ran after 1 s, as a service does")
    assert (other.outcome, other.found) == ("ok", "it still ran after 1 s")
    assert "Say in [[trial]] what it answers" in other.findings[0].text


def test_a_program_that_a_trial_names_is_not_asked_for_help(tried: Try) -> None:
    files = {"/usr/bin/meter": script("import sys\nsys.exit(len(sys.argv) != 3)")}
    found = tried(files, Trial(run="meter a b"))
    assert [check.name for check in found.report.checks][-1] == "command"
    assert not checks(found, "program")
    assert not found.report.failed


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (Trial(run="meter", expect="^ready$"), "it did not say that, saying last:\nnot ready"),
        (Trial(run="meter 3"), "it exited with 3, saying last:\nnot ready"),
        (Trial(run="meter nowhere"), "(the package python3-sqlite3 brings sqlite3)"),
        (Trial(run="nobody"), "the root file system has no program nobody"),
        (Trial(run="meter sleep", timeout=1), "it did not end within 1 s, saying last:\nnot ready"),
        (Trial(run="meter much"), "said more than"),
        (Trial(run="meter as", expect="(a+)+b$"), "`expect` cannot be told"),
    ],
)
def test_a_trial_that_is_not_met_says_what_was_found(tried: Try, trial: Trial, said: str) -> None:
    body = """
import sys, time
print("not ready", flush=True)
what = sys.argv[1:] or ["0"]
if what[0] == "sleep":
    time.sleep(60)
elif what[0] == "nowhere":
    import sqlite3
elif what[0] == "much":
    while True:
        print("x" * 100_000)
elif what[0] == "as":
    print("a" * 60)
else:
    sys.exit(int(what[0]))
"""
    found = tried({"/usr/bin/meter": script(body)}, trial)
    (failed,) = found.report.failed
    assert (failed.name, failed.what) == ("command", f"`{trial.run}`")
    assert said in failed.findings[0].text


def test_a_traced_command_that_fails_is_named(tried: Try) -> None:
    found = tried({"/usr/bin/meter": script("import fractions")}, traces=["meter"])
    (failed,) = found.report.failed
    assert failed.name == "trace"
    assert "the module decimal is missing" in failed.findings[0].text


def test_an_interpreter_of_another_version_than_planned_is_told(tried: Try) -> None:
    found = tried({}, versions={"python3-base": "3.9.1-2"})
    (failed,) = found.report.failed
    assert failed.name == "interpreter"
    assert failed.expected == "version 3.9.1"
    assert "it is version 3." in failed.found


def test_where_no_emulator_is_nothing_is_run_and_that_is_said(
    tried: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagebuilder.errors import HostError  # noqa: PLC0415
    from imagebuilder.trial import trial as trials  # noqa: PLC0415

    def none_here(tree: FileTree) -> tuple[str, ...]:
        raise HostError("the program 'qemu-mips' is not on this machine")

    monkeypatch.setattr(trials, "emulation_of", none_here)
    found = tried({"/usr/bin/meter": script("")}, Trial(run="meter"), traces=["meter --check"])
    why = "the program 'qemu-mips' is not on this machine"
    assert (found.report.why, found.report.by) == (why, "")
    told = {check.name: check for check in found.report.checks}
    for name in ("interpreter", "command", "shell-scripts"):
        assert (told[name].outcome, told[name].why) == ("not run", why)
    assert told["bytecode"].outcome == "ok", "what needs no program is looked at all the same"
    assert not found.starts


def test_the_pattern_is_searched_in_lines() -> None:
    assert is_said("^b$", "a\nb\nc")
    assert not is_said("^b$", "ab")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (CommandAnswer(0, ""), "it ended and said nothing"),
        (CommandAnswer(0, "\n".join(map(str, range(40)))), "it ended, saying last:\n28\n29\n30"),
    ],
)
def test_what_a_command_said_last_is_told(answer: CommandAnswer, told: str) -> None:
    assert answer.told("it ended").startswith(told)


def test_interpreters_are_known_by_their_programs() -> None:
    names = ("python", "python3.11", "python2.7", "python3.11-config", "micropython", "pythonic")
    tree = FileTree({f"/usr/bin/{name}": file_of(b"x", 0o755) for name in names})
    assert interpreters_of(tree) == (
        TriedInterpreter("/usr/bin/python2.7", "2.7"),
        TriedInterpreter("/usr/bin/python3.11", "3.11"),
        TriedInterpreter("/usr/bin/micropython", ""),
    )
