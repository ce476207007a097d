"""Apps, requirements, recipes and filespecs through the whole pipeline, on the kit, and booted."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ask import compare_lock, fetch_image, lock_image, plan_and_budgets
from imagebuilder.build import build_image, build_twice
from imagebuilder.config.board import Board
from imagebuilder.config.lock import write_lock
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log, Warned
from imagebuilder.own.local import FilespecUseError
from imagebuilder.own.remade import RemadeError
from imagebuilder.own.sources import OwnPythonError
from imagebuilder.packages.lock import LockError
from imagebuilder.python.requirements.index_pip import UnreachableIndexError
from imagebuilder.trial.image import start_checks
from imagebuilder.trial.machines import booted_image
from imagebuilder.trial.trial import TrialFailedError
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_wheel

pytestmark = pytest.mark.kit

BOARD = "qemu-x86-64"
HEAD = f'release = "embedded"\nboards = ["{BOARD}"]\n[python]\nvariant = "auto"\n'
PROJECT_FILE = """\
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[project]
name = "meter"
version = "1.2"
[project.scripts]
meter = "meter:main"
"""
METER = """\
import json
import sqlite3
import sys


def main():
    if "--serve" in sys.argv:
        import time
        while True:
            time.sleep(1)
    print(json.dumps({"version": sqlite3.sqlite_version, "file": __file__}))
"""

SERVING = "ps -o pid,args | grep 'python.*[m]eter --serve' | awk '{print $1}'"


@pytest.fixture
def ask(project: Path, tmp_path: Path) -> Callable[..., Request]:
    """Writes the config `mine`; a request for it."""
    (project / "apps/meter/meter").mkdir(parents=True)
    (project / "apps/meter/pyproject.toml").write_text(PROJECT_FILE)
    (project / "apps/meter/meter/__init__.py").write_text(METER)
    (project / "apps/hello.py").write_text("import zlib\nprint('hello', zlib.crc32(b'x'))\n")

    def make(text: str, *, offline: bool = False) -> Request:
        (project / "configs/mine.toml").write_text(HEAD + text)
        output = tmp_path / "out"
        (asked,) = requests(project, "mine", output=output, cache=user_cache())
        return replace(asked, offline=offline)

    return make


def skip_without_index(work: Callable[[], object]) -> None:
    """Run it; no package index within reach is no fault of the project."""
    try:
        work()
    except UnreachableIndexError as error:
        pytest.skip(f"no package index within reach: {error.message}")


@pytest.mark.boot
def test_an_app_a_script_and_a_service_run_in_the_image(ask: Callable[..., Request]) -> None:
    asked = ask(
        'apps = [{ path = "apps/meter", service = true, user = "nobody", arguments = ["--serve"] },'
        ' "apps/hello.py"]\n[[filespec]]\npackage = "busybox"\nrules = ["-|/bin/vi"]\n'
    )
    skip_without_index(lambda: plan_image(asked, Log()))
    place, result = build_image(asked, Log())
    names = {each.name: each.version for each in result.packages}
    assert names["app-meter"] == "1.2-1"
    assert "+rules." in names["busybox"]
    assert "python3-sqlite3" in names
    assert [path for path in result.uncompiled if not path.startswith("/usr/bin/")] == []
    (record,) = result.filespecs
    assert record.rules[0].paths == ("/bin/vi",)
    with booted_image(place / result.images[0].file, Log(), way="kernel") as guest:
        facts = json.loads(guest.check("meter"))
        assert facts["file"].endswith("/site-packages/meter/__init__.pyc")
        assert guest.check("hello").split() == ["hello", str(zlib.crc32(b"x"))]
        running = guest.check("ps -o user,args | grep '[m]eter --serve'")
        assert running.split()[0] == "nobody"
        first = guest.check(SERVING).split()[0]
        guest.check(f"kill {first}; sleep 8")
        again = guest.check(SERVING).split()
        assert again
        assert again[0] != first
        assert guest.run("test -e /bin/vi").code != 0
        guest.check("test ! -e /usr/lib/python3.11/site-packages/meter/__init__.py")


@pytest.mark.boot
def test_requirements_import_and_work(ask: Callable[..., Request]) -> None:
    text = 'requirements = ["bottle", "paho-mqtt", "myhdl", "pyaes"]\n'
    asked = ask(text)
    skip_without_index(lambda: fetch_image(asked, Log()))
    place, result = build_image(ask(text, offline=True), Log())  # all of it is in the cache now
    names = {each.name for each in result.packages}
    assert {"python3-bottle", "python3-paho-mqtt", "python3-myhdl", "python3-pyaes"} <= names
    program = (
        "import bottle, paho.mqtt.client, myhdl, pyaes;"
        "print(pyaes.AESModeOfOperationCTR(b'k' * 16).encrypt(b'text').hex(), bottle.template('{{x}}', x=1),"
        " int(myhdl.intbv(5)), paho.mqtt.client.MQTT_ERR_SUCCESS.value)"
    )
    with booted_image(place / result.images[0].file, Log(), way="kernel") as guest:
        words = guest.check(f'python3 -c "{program}"').split()
    assert words[1:] == ["1", "5", "0"]
    assert len(words[0]) == 8


def test_a_lock_holds_requirements_and_apps(ask: Callable[..., Request], project: Path) -> None:
    asked = ask('apps = ["apps/hello.py"]\nrequirements = ["pyaes"]\n')
    skip_without_index(lambda: plan_image(asked, Log()))
    entry = lock_image(asked, Log())
    (pin,) = entry.requirements.pins
    assert (pin.name, len(pin.sha256)) == ("pyaes", 64)
    (made,) = [each for each in entry.parts.package if each.name == "app-hello"]
    assert (made.feed, len(made.sha256)) == ("local", 64)
    write_lock(asked.library, "mine", {BOARD: entry})
    bound = replace(asked, locked=True, offline=True)
    build_image(bound, Log())
    (project / "apps/hello.py").write_text("import json\nprint(json.dumps(1))\n")
    with pytest.raises(LockError, match="package app-hello .*, which is made here, is another build"):
        build_image(bound, Log())


def test_what_is_shaken_and_repacked_is_built_as_it_was_locked(ask: Callable[..., Request]) -> None:
    """The lock holds what packages are made of, and what was made; how an app is run is part of that."""
    text = (
        'apps = [{{ path = "apps/hello.py", service = true, user = "{}" }}]\nshake = true\n'
        '[[filespec]]\npackage = "busybox"\nrules = ["-|/bin/vi"]\n'
        '[[filespec]]\npackage = "python3-light"\nrules = ["-|/usr/lib/python{{python}}/this.*"]\n'
    )
    asked = ask(text.format("nobody"))
    entry = lock_image(asked, Log())
    assert {"busybox", "python3-base", "python3-light"} <= {each.name for each in entry.original}
    assert all(len(each.sha256) == 64 for each in entry.parts.package)
    write_lock(asked.library, "mine", {BOARD: entry})
    images = [build_image(replace(asked, locked=True), Log())[1].images for _ in range(2)]
    assert images[0] == images[1]
    bound = replace(ask(text.format("ftp")), locked=True)
    line = "package app-hello 0-1, which is made here, is another build of the same version"
    assert compare_lock(bound, Log()) == (line,)
    with pytest.raises(LockError, match=line):
        build_image(bound, Log())


def test_two_builds_of_an_app_are_equal(ask: Callable[..., Request]) -> None:
    _, result = build_twice(ask('apps = ["apps/hello.py"]\n'), Log())
    assert "app-hello" in {each.name for each in result.packages}


RECIPE = """\
[[python.package]]
name = "python3-meter"
source = "apps/meter"
version = "1.2"
src = true
depends = ["python3-light", "python3-sqlite3"]
files = { "/etc/meter.conf" = "apps/meter/meter.conf" }
"""


def test_a_recipe_and_its_twin(ask: Callable[..., Request], project: Path) -> None:
    (project / "apps/meter/meter.conf").write_text("every = 5\n")
    asked = ask(RECIPE)
    skip_without_index(lambda: fetch_image(asked, Log()))
    _, result = build_image(asked, Log())
    assert {"python3-meter", "python3-meter-src"} <= {each.name for each in result.packages}


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ('apps = ["apps/nowhere"]\n', UserError, "no such script, folder or wheel"),
        ('requirements = ["bottle >>> 1"]\n', FaultsError, "is no requirement"),
        ('[[filespec]]\npackage = "nano"\nrules = ["-|/x"]\n', FilespecUseError, "is not in the image"),
        ('[[filespec]]\npackage = "busybox"\nrules = ["-|/nowhere"]\n', UserError, "/nowhere"),
        ('[[filespec]]\npackage = "busybox"\nrules = ["?|/x"]\n', FaultsError, "filespec"),
    ],
)
def test_what_cannot_be_made_is_said(
    ask: Callable[..., Request], text: str, kind: type[UserError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        build_image(ask(text), Log())


def test_an_app_wants_a_python_that_runs_it(ask: Callable[..., Request], project: Path) -> None:
    asked = ask('requirements = ["bottle"]\n')
    path = project / "configs/mine.toml"
    path.write_text(path.read_text().replace('"auto"', '"micropython"'))
    with pytest.raises(OwnPythonError, match='need Python 3, and python.variant is "micropython"'):
        plan_image(asked, Log())


def test_the_images_own_interpreter_compiles_where_the_host_has_none(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask('apps = ["apps/hello.py"]\n')
    _, first = build_image(asked, Log())
    monkeypatch.setattr("imagebuilder.own.making.host_interpreter", lambda *_: None)
    _, second = build_image(asked, Log())
    assert second.images == first.images


def test_the_images_own_interpreter_reads_what_is_shaken_where_no_app_brings_what_it_needs_for_that(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest Python has no module dis, which its bytecode is read by."""
    asked = ask("shake = true\n")
    first = plan_image(asked, Log())
    assert "python3-light" not in {each.name for each in first.install}
    monkeypatch.setattr("imagebuilder.own.making.host_interpreter", lambda *_: None)
    assert plan_image(asked, Log()).install == first.install


CLOCK = """\
from datetime import datetime
from zoneinfo import ZoneInfo

print(datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")).isoformat())
"""


def zone_file() -> bytes:
    """Central European time as TZif has it (RFC 9636), by its rule alone."""

    def part(version: bytes) -> bytes:
        counts = struct.pack(">6I", 0, 0, 0, 0, 1, 4)
        return b"TZif" + version + bytes(15) + counts + struct.pack(">iBB", 3600, 0, 0) + b"CET\0"

    return part(b"2") + part(b"2") + b"\nCET-1CEST,M3.5.0,M10.5.0/3\n"


@pytest.mark.parametrize("shake", ["", "shake = true\n"])
def test_time_zones_are_missed_by_the_plan_and_work_in_the_image(
    ask: Callable[..., Request], project: Path, shake: str
) -> None:
    (project / "apps/clock.py").write_text(CLOCK)
    warned: list[str] = []
    log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
    text = 'apps = ["apps/clock.py"{}]\ntrace = ["clock"]\n' + shake
    plan_image(ask(text.format("")), log)
    line = (
        "apps/clock.py:4 calls zoneinfo.ZoneInfo('Europe/Berlin'), and the image has no time zones:"
        ' say requirements = ["tzdata"] in [python]'
    )
    assert line in warned
    if not shake:
        with pytest.raises(TrialFailedError, match="does not find time zones") as caught:
            build_image(ask(text.format("")), Log())
        assert 'requirements = ["tzdata"] in [python]' in caught.value.message
    files = {f"tzdata/{place}__init__.py": b"" for place in ("", "zoneinfo/", "zoneinfo/Europe/")}
    wheel = make_wheel(
        project / "apps", "tzdata", files={**files, "tzdata/zoneinfo/Europe/Berlin": zone_file()}
    )
    warned.clear()
    _, result = build_image(ask(text.format(f', "apps/{wheel.name}"')), log)
    assert "clock" in [each.command for each in result.starts]  # it ended with 0
    assert not [each for each in warned if "time zones" in each]


MICRO = """\
import json
import sys
print(json.dumps({"name": sys.implementation.name}))
"""


def test_an_app_for_micropython_is_checked_and_packed(
    small_tree: Path, project: Path, tmp_path: Path, add_config: Callable[[str, str], str]
) -> None:
    (project / "apps").mkdir(exist_ok=True)
    (project / "apps/small.py").write_text(MICRO)
    add_config("small", 'extends = "router"\n[python]\nvariant = "micropython"\napps = ["apps/small.py"]\n')
    board = "tplink-tl-wr740n-v4"
    (asked,) = requests(project, "small", board=board, imagebuilder=str(small_tree), cache=tmp_path / "c")
    plan = plan_image(asked, Log())
    app = next(each for each in plan.install if each.name == "app-small")
    assert app.feed == "local"
    assert "micropython-mbedtls" in {each.name for each in plan.install}
    (project / "apps/small.py").write_text("import sqlite3\n")
    with pytest.raises(FaultsError, match=r"small\.py:1: MicroPython .* has no module 'sqlite3'"):
        plan_image(asked, Log())


def asked_board(ask: Callable[..., Request]) -> Board:
    return ask("").library.board(BOARD)


@pytest.mark.boot
def test_a_shaken_image_holds_what_its_apps_reach_and_is_proved(ask: Callable[..., Request]) -> None:
    text = 'apps = ["apps/meter"]\n'
    skip_without_index(lambda: plan_image(ask(text), Log()))
    whole = build_image(ask(text), Log())[1]
    asked = ask(f'{text}shake = true\ntrace = ["meter"]\n')
    _, planned = plan_and_budgets(asked, Log())
    place, result = build_image(asked, Log())
    assert planned.flash is not None
    assert result.flash is not None
    # what was shaken is counted as it is
    assert planned.flash.rootfs.bytes == pytest.approx(result.flash.rootfs.bytes, rel=0.05)
    assert result.bytecode is not None
    assert result.bytecode.files > 5
    assert result.bytecode.modules > 5, "native ones among them"
    assert "own Python 3.11" in result.bytecode.by
    assert [each.command for each in result.starts] == ["/usr/bin/python3.11 /.hello.py", "meter"]
    assert whole.starts[0].look_ups >= result.starts[0].look_ups > 0
    assert result.starts[1].modules > result.starts[0].modules
    assert sum(each.saved for each in result.shaken) > 1 << 20
    assert whole.rootfs is not None
    assert result.rootfs is not None
    assert result.rootfs.stored < whole.rootfs.stored - (500 << 10)
    shaken = next(each for each in result.packages if each.name == "python3-base")
    assert "+shake." in shaken.version
    board = asked_board(ask)
    (check,) = start_checks(place / result.images[0].file, board, Log())
    assert check.ok, check
    with booted_image(place / result.images[0].file, Log(), way="kernel") as guest:
        assert "version" in json.loads(guest.check("meter"))
        assert guest.run("python3 -c 'import argparse'").code != 0


def test_what_is_kept_or_cannot_be_shaken(ask: Callable[..., Request], project: Path) -> None:
    kept = plan_image(ask('apps = ["apps/hello.py"]\nshake = true\nkeep = ["textwrap"]\n'), Log())
    without = plan_image(ask('apps = ["apps/hello.py"]\nshake = true\n'), Log())
    assert sum(each.dropped for each in kept.shaken) < sum(each.dropped for each in without.shaken)
    with pytest.raises(UserError, match=r"nosuchmodule"):
        plan_image(ask('apps = ["apps/hello.py"]\nshake = true\nkeep = ["nosuchmodule"]\n'), Log())
    asked = ask("shake = true\n")
    path = project / "configs/mine.toml"
    path.write_text(path.read_text().replace('"auto"', '"none"'))
    with pytest.raises(RemadeError, match="this image has none"):
        plan_image(asked, Log())


NOTES = """\
import argparse
import http.client
import json
import logging
import sqlite3

parser = argparse.ArgumentParser()
parser.add_argument("text")
print(json.dumps({"said": parser.parse_args().text, "parent": open("/proc/self/stat").read().split()[3]}))
"""
AT_HAND = "for i in $(seq 60); do [ -p /var/run/python-launcher/%s/requests ] && exit; sleep 1; done; false"
LAUNCHERS = "ps -o pid,user,args | grep '[p]ython.*/python-launcher ' | grep -v supervise"
# seconds of the machine, which runs nothing else, for so many runs
TIMED = """\
seconds() { cut -d' ' -f1 /proc/uptime; }
began=$(seconds); for each in 1 2 3 4 5 6 7 8; do %s x > /dev/null; done; echo $began $(seconds)
"""


@pytest.mark.boot
def test_a_warm_interpreter_starts_programs_in_a_fifth_of_the_time(
    ask: Callable[..., Request], project: Path
) -> None:
    (project / "apps/notes.py").write_text(NOTES)
    (project / "apps/first.py").write_text("import sys\nprint('first', *sys.argv[1:])\n")
    apps = ('{ path = "apps/%s.py", service = "launcher" }' % name for name in ("notes", "first"))  # noqa: UP031
    other = '{ path = "apps/hello.py", service = "launcher", user = "nobody" }'
    asked = ask(f"shake = true\ntrace = ['notes x']\napps = [{', '.join(apps)}, {other}]\n")
    place, result = build_image(asked, Log())
    assert "python-launcher" in {each.name for each in result.packages}
    assert result.starts[-1].command == "notes x"  # tried without the launcher
    with booted_image(place / result.images[0].file, Log(), way="kernel") as guest:
        for user in ("root", "nobody"):
            guest.check(AT_HAND % user, seconds=90)
        running = [line.split() for line in guest.check(LAUNCHERS).splitlines()]
        pids = {user: pid for pid, user, *_ in running}
        assert set(pids) == {"root", "nobody"}
        assert guest.check("first 'a b' | cat") == "first a b\n"
        answer = json.loads(guest.check("notes 'c  d' | cat"))
        assert answer == {"said": "c  d", "parent": pids["root"]}
        assert guest.run("notes | cat > /tmp/out; notes 2>&1 > /dev/null | cat").output.count("usage:") == 2
        assert guest.run("notes > /dev/null").code == 2
        refused = "su -s /bin/sh nobody -c 'echo 1 > /var/run/python-launcher/root/requests'"
        assert guest.run(refused).code != 0
        # root's, in an interpreter of its own, and so nobody's where streams or folder are root's
        nobody = "su -s /bin/sh nobody -c"
        for command in (
            "hello",
            f"{nobody} hello",
            f"cd /root; {nobody} 'hello 2>&1 | cat'",
            f"{nobody} 'cd /; hello 2>&1 | cat'",
        ):
            assert guest.check(f"set -o pipefail; {command} | cat").startswith("hello ")
        took = {}
        for kind, program in (("warm", "notes"), ("cold", "/usr/lib/python-launcher/notes")):
            began, ended = map(float, guest.check(TIMED % program).split())
            took[kind] = ended - began
        print(f"seconds of eight starts: {took}")
        assert took["warm"] <= took["cold"] / 5, took
        guest.check("/etc/init.d/python-launcher stop; notes x > /dev/null")
