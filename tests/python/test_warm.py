"""`service = "launcher"`: python-launcher and the script that asks it, run as they are packed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from imagebuilder.config.app import AppUse
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.python.apps.apps import AppScan
from imagebuilder.python.apps.launcher import StartOptions, source_program
from imagebuilder.python.apps.package import AppPackageError, declare_app, launcher_app
from imagebuilder.python.apps.warm import (
    LAUNCHER_SOURCE,
    RUN_FOLDER,
    WarmUser,
    asking_program,
    modules_to_warm,
    warm_services,
)
from imagebuilder.python.bytecode.bytecode import WARM_FOLDER
from imagebuilder.python.imports.imports import Import
from imagebuilder.python.micropython import micropython
from imagebuilder.rootfs.files import content
from tests.python.test_app_package import TARGET, made, opened
from tests.support.heeding import HEEDING
from tests.support.wheel_maker import make_wheel

BASH = shutil.which("bash")  # it reads the script as busybox's shell does, which few hosts have
SECONDS = 20.0


class World:
    """A device's folders, and a launcher in them. warm(): whether runs of a program were children of its."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.bin, self.own = (folder / name for name in ("programs", "bin", "own"))
        for each in (self.programs, self.bin, self.own):
            each.mkdir()
        self.own.chmod(0o700)
        self.launcher: subprocess.Popen[bytes] | None = None

    def program(self, name: str, text: str) -> Path:
        """Put a program there, and the script that asks for it; its path."""
        start = StartOptions("/nowhere", interpreter=sys.executable)
        (self.programs / name).write_bytes(content(source_program(text.encode(), start)))
        script = content(asking_program(name, "me")).decode()
        assert script.startswith("#!/bin/sh\n")
        script = script.replace(f"{RUN_FOLDER}/me", str(self.own)).replace(WARM_FOLDER, str(self.programs))
        (self.bin / name).write_text(script.replace("#!/bin/sh", f"#!{BASH}", 1))
        for each in (self.programs, self.bin):
            (each / name).chmod(0o755)
        return self.bin / name

    def start(self, *modules: str, launcher: Path = LAUNCHER_SOURCE) -> None:
        argv = [sys.executable, "-B", str(launcher), str(self.own), str(self.programs), *modules]
        old = self._made()
        self.launcher = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        until = time.monotonic() + SECONDS
        while self._made() in (0, old):
            assert self.launcher.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)

    def _made(self) -> int:
        """When the pipe of requests was made; 0 where there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.own / "requests").stat().st_ctime_ns
        return 0

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.launcher is not None:
            self.launcher.send_signal(number)
            self.launcher.wait(SECONDS)
            self.launcher = None

    def run(self, *argv: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a program with pipes for its streams."""
        given: dict[str, object] = {"input": "", "cwd": self.bin, **options}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [str(each) for each in argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            **given,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if BASH is None:
        pytest.skip("no bash")
    place = World(tmp_path)
    yield place
    place.end(signal.SIGKILL)


FACTS = """\
import json
import os
import sys
print(json.dumps({
    "argv": sys.argv[1:], "said": sys.stdin.read(), "folder": os.getcwd(), "parent": os.getppid(),
    "mine": os.environ.get("MINE"), "home": os.environ.get("OTHER"), "mask": os.umask(0), "name": __name__,
    "itself": sys.modules["__main__"].FACT, "json": "json" in sys.modules,
}, sort_keys=True)) if (globals().update(FACT=7) or True) else None
print("to standard error", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def test_a_run_is_a_child_of_the_warm_interpreter_and_has_all_that_the_caller_has(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", "the launcher's")
    program = world.program("facts", FACTS)
    world.start("json")
    assert world.launcher is not None
    environment = {"PATH": os.environ["PATH"], "MINE": "a=b c\n"}
    arguments = ("7", "a b", "", "ü", "--", "-x")
    done = world.run(program, *arguments, input="in\nput", cwd=tmp_path, env=environment, umask=0o027)
    assert (done.returncode, done.stderr) == (7, "to standard error\n")
    assert json.loads(done.stdout) == {
        "argv": list(arguments),
        "said": "in\nput",
        "folder": str(tmp_path),
        "parent": world.launcher.pid,
        "mine": "a=b c\n",
        "home": None,
        "mask": 0o027,
        "name": "__main__",
        "itself": 7,
        "json": True,
    }
    assert [each.name for each in world.own.iterdir()] == ["requests"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", 128 + 9, ""),
        ("import os\nos._exit(200)", 200, ""),
        ("import atexit, sys\natexit.register(lambda: print('end', file=sys.stderr))", 0, "end"),
        ("import threading, time, sys\n"
         "threading.Thread(target=lambda: (time.sleep(.1), print('t', file=sys.stderr))).start()", 0, "t"),
    ],
)  # fmt: skip
def test_how_a_run_ended_comes_back(world: World, text: str, code: int, said: str) -> None:
    program = world.program("one", text)
    world.start()
    done = world.run(program)
    assert done.returncode == code
    assert said in done.stderr
    assert LAUNCHER_SOURCE.name not in done.stderr


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EAGAIN])
def test_a_child_that_cannot_be_started_is_an_interpreter_of_its_own(world: World, error: int) -> None:
    """As where memory is short, or the user has too many processes; the launcher goes on."""
    fails = f"import os, runpy, sys\n\ndef fork():\n    raise OSError({error}, 'none')\n\nos.fork = fork\n"
    launcher = world.own.parent / "launcher.py"
    launcher.write_text(f"{fails}runpy.run_path({str(LAUNCHER_SOURCE)!r}, run_name='__main__')\n")
    program = world.program("parent", PARENT)
    world.start(launcher=launcher)
    for _ in range(2):
        assert not _is_warm(world, program)
    assert world.launcher is not None
    assert world.launcher.poll() is None


def test_the_launcher_says_what_it_is_for() -> None:
    """A trial asks each program of the user's for that; it starts nothing."""
    for words, code in (["--help"], 0), ([], 2):
        done = subprocess.run(
            [sys.executable, "-B", LAUNCHER_SOURCE, *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == code
        assert done.stdout + done.stderr == "usage: python-launcher FOLDER PROGRAMS [MODULE...]\n"


PARENT = "import os\nprint(os.getppid(), flush=True)\n"


def _is_warm(world: World, *argv: str | Path, **options: object) -> bool:
    done = world.run(*argv, **options)
    assert done.returncode == 0, done.stderr
    assert world.launcher is not None
    return int(done.stdout) == world.launcher.pid


def test_what_the_launcher_cannot_do_an_interpreter_of_its_own_does(world: World, tmp_path: Path) -> None:
    program = world.program("parent", PARENT)
    assert world.run(program).returncode == 0  # no launcher is there yet
    world.start()
    assert _is_warm(world, program)
    (tmp_path / "file").write_text("")
    with (tmp_path / "file").open() as stream:  # where two are in a file would not be the same place
        assert not _is_warm(world, program, input=None, stdin=stream)
    (tmp_path / "other").symlink_to(program)
    assert not _is_warm(world, tmp_path / "other")  # no program of this name
    shown = tmp_path / "shown"
    for out in (f"{program} > {shown}", f"exec 0<&-; {program} > {shown}"):
        assert world.run("sh", "-c", out).returncode == 0
    assert not (world.own / str(os.getpid())).exists()
    world.end(signal.SIGKILL)  # what it was asked by is still there, and nobody answers
    began = time.monotonic()
    done = world.run(program)
    assert done.returncode == 0
    assert time.monotonic() - began > 4
    assert [each.name for each in world.own.iterdir()] == ["requests"]


def test_a_file_that_several_write_to_is_written_in_turn(world: World, tmp_path: Path) -> None:
    program = world.program("parent", "print('b')")
    world.start()
    file = tmp_path / "file"
    assert world.run("sh", "-c", f"(echo a; {program}; echo c) > {file}").returncode == 0
    assert file.read_text() == "a\nb\nc\n"


WAITS = """\
import signal, sys, time
if sys.argv[1:] == ["term"]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(41)
"""


@pytest.mark.parametrize(
    ("argument", "number", "code"),
    [
        ("", signal.SIGINT, 41),
        ("term", signal.SIGTERM, 42),
        ("", signal.SIGTERM, 143),
        ("", signal.SIGHUP, 129),
    ],
)
def test_signals_reach_the_run(world: World, argument: str, number: int, code: int) -> None:
    program = world.program("waits", WAITS)
    world.start()
    with _waiting(program, argument) as running:
        running.send_signal(number)
        assert running.wait(SECONDS) == code


@pytest.mark.parametrize("taken_up", [True, False], ids=["and another runs it", "and nobody takes it up"])
def test_a_signal_that_comes_before_the_run_does_is_not_lost(world: World, *, taken_up: bool) -> None:
    """The test is the launcher here, and answers late."""
    program = world.program("waits", WAITS)
    os.mkfifo(world.own / "requests", 0o600)
    requests = os.open(world.own / "requests", os.O_RDWR)
    with (
        subprocess.Popen([*HEEDING, "sleep", "60"], start_new_session=True) as run,
        subprocess.Popen(
            [*HEEDING, program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as asking,
    ):
        try:
            assert int(os.read(requests, 100)) == asking.pid
            place = world.own / str(asking.pid)
            if taken_up:
                answer = os.open(place, os.O_WRONLY | os.O_NONBLOCK)
                place.unlink()
                asking.send_signal(signal.SIGHUP)
                time.sleep(0.2)
                os.write(answer, b"%d\n" % run.pid)
                assert run.wait(SECONDS) == -signal.SIGHUP
                os.write(answer, b"129\n")
                assert asking.wait(SECONDS) == 129
                os.close(answer)
            else:
                asking.send_signal(signal.SIGHUP)
                assert asking.wait(SECONDS) == -signal.SIGHUP
                assert run.poll() is None
                assert not place.exists()
        finally:
            for each in (run, asking):
                each.kill()
            os.close(requests)


@contextlib.contextmanager
def _waiting(program: Path, argument: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*HEEDING, program, argument],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_ends_leaves_nobody_waiting(world: World, number: int) -> None:
    program = world.program("waits", WAITS)
    world.start()
    with _waiting(program, "") as running:
        world.end(number)
        if number == signal.SIGKILL:  # then nobody ends the run, and nobody knows how it did
            running.send_signal(signal.SIGINT)
        assert running.wait(SECONDS) == (1 if number == signal.SIGKILL else 143)
        assert running.stderr is not None
        assert ("python-launcher ended" in running.stderr.read()) == (number == signal.SIGKILL)
    world.start()  # what lies there of the last one is no hindrance
    assert _is_warm(world, world.program("parent", PARENT))


def test_many_at_once_each_get_their_own(world: World) -> None:
    program = world.program(
        "code", "import sys, time\ntime.sleep(.2)\nprint(sys.argv[1])\nsys.exit(int(sys.argv[1]))"
    )
    world.start()
    running = [
        subprocess.Popen([program, str(code)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for code in range(24)
    ]
    for code, each in enumerate(running):
        said, _ = each.communicate(timeout=SECONDS)
        assert (each.returncode, said) == (code, f"{code}\n")
    assert [each.name for each in world.own.iterdir()] == ["requests"]


def test_requests_that_are_none_are_passed_by(world: World) -> None:
    program = world.program("parent", PARENT)
    world.start("no_such_module")
    (world.own / "77").write_text("no pipe")
    with (world.own / "requests").open("wb", buffering=0) as requests:
        requests.write(b"\nx\n-1\n99999999\n77\n" + b"\xff" * 5000 + b"\n" + "²\n".encode())
    assert _is_warm(world, program)


def test_only_its_user_is_served(world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    program = world.program("parent", PARENT)
    world.start()
    os.chown(world.own, 65534, 65534)  # root does not ask what belongs to another
    assert not _is_warm(world, program)


def test_what_a_program_imports_of_the_library_the_next_has_at_once(world: World) -> None:
    asks = "import sys\nprint('decimal' in sys.modules, 'mine' in sys.modules)\n"
    program = world.program("asks", asks)
    other = world.program("other", "import sys\nsys.path.insert(0, '.')\nimport decimal, mine\n")
    (world.bin / "mine.py").write_text("")
    world.start()
    assert world.run(program).stdout == "False False\n"
    assert world.run(other).returncode == 0
    assert world.run(program).stdout == "True False\n"


def test_what_a_program_wrote_is_written(world: World) -> None:
    text = "file = open('left-open', 'w')\nfile.write('x' * 10)\nimport sys\nsys.stdout.write('no end')"
    program = world.program("writes", text)
    world.start()
    assert world.run(program).stdout == "no end"
    assert (world.bin / "left-open").read_text() == "x" * 10
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [program], cwd=world.bin, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as running:
        assert running.stdout is not None
        running.stdout.close()  # nobody reads it
        assert running.wait(SECONDS) == 120


def test_random_numbers_differ(world: World) -> None:
    program = world.program("numbers", "import random\nprint(random.random())")
    world.start("random")
    assert len({world.run(program).stdout for _ in range(3)}) == 3


def _use(**given: object) -> AppUse:
    return AppUse.model_validate({"path": "x", "service": "launcher", **given})


def test_settings_that_no_warm_program_can_have_are_refused() -> None:
    assert _use(user="nobody").user == "nobody"
    refused: Mapping[str, object] = {
        "program": "x", "arguments": ["x"], "environment": {"A": "b"}, "respawn_seconds": 1, "site": False,
        "isolated": True,
    }  # fmt: skip
    for key, value in refused.items():
        with pytest.raises(ValidationError, match=f"{key} is "):
            _use(**{key: value})
    with pytest.raises(ValidationError):
        AppUse.model_validate({"path": "x", "service": "lancher"})


def test_an_app_that_is_run_warm_as_a_package(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "sensor", scripts={"sensor": "sensor:main", "other": "sensor:main"})
    app = opened(tmp_path, wheel, service="launcher", user="sensor")
    local = made(tmp_path, app)
    assert b"from sensor import main" in content(local.tree[f"{WARM_FOLDER}/sensor"])
    assert local.tree["/usr/bin/other"] == asking_program("other", "sensor")
    assert local.scripts == {}
    assert [path for path in local.tree if path.startswith("/etc")] == []
    assert "python-launcher" in [str(each[0]) for each in local.package.depends]
    assert local.package.extra == {"Require-User": "sensor:sensor"}
    with pytest.raises(AppPackageError, match="no console entry points"):
        made(tmp_path / "b", opened(tmp_path, make_wheel(tmp_path / "b"), service="launcher"))


@pytest.mark.parametrize("source", [None, True, "only"])
def test_a_script_that_is_run_warm_runs(world: World, tmp_path: Path, source: object) -> None:
    (tmp_path / "hello.py").write_text("import sys\nprint('hello', *sys.argv[1:], __name__)\n")
    app = opened(tmp_path, tmp_path / "hello.py", service="launcher", source=source)
    local = made(tmp_path, app)
    program = content(local.tree[f"{WARM_FOLDER}/hello"])
    assert program.startswith(b"#!/usr/bin/python3 -B\n")
    assert (b"print(" in program) == (source == "only")
    assert local.tree["/usr/bin/hello"] == asking_program("hello", "root")


def test_the_launcher_as_a_package(tmp_path: Path) -> None:
    users = (WarmUser("nobody", ("json", "os")), WarmUser("meter", ()))
    app = launcher_app(users, TARGET)
    local = made(tmp_path, app)
    assert local.package.name == "python-launcher"
    assert local.package.extra == {"Require-User": "meter:meter"}
    text = content(local.tree["/etc/init.d/python-launcher"]).decode()
    own = f"{RUN_FOLDER}/nobody"
    assert f"command /usr/bin/python-launcher {own} {WARM_FOLDER} json os\n" in text
    for line in (f"mkdir -p {own}", f"chmod 700 {own}", f"chown nobody {own}", "procd_set_param user meter"):
        assert f"\t{line}\n" in text
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert set(local.scripts) == {"postinst", "prerm"}
    assert local.tree["/etc/init.d/python-launcher"] == warm_services(users)


def test_no_app_may_be_called_as_the_launcher(tmp_path: Path) -> None:
    (tmp_path / "python_launcher.py").write_text("pass\n")
    app = opened(tmp_path, tmp_path / "python_launcher.py", service="launcher", name="python-launcher")
    with pytest.raises(AppPackageError, match="is what runs the programs"):
        declare_app(app, (), Opkg(), TARGET)


def test_micropython_starts_by_itself(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print(1)\n")
    with pytest.raises(AppPackageError, match="CPython 3"):
        micropython.open_app(AppUse(path="hello.py", service="launcher"), tmp_path)


def test_what_is_imported_beforehand() -> None:
    def scan(own: str, *imports: Import) -> AppScan:
        return AppScan(Path(own), "script", frozenset({own}), imports, ())

    first = scan("a", *(Import("a.py", 1, name, kind) for name, kind in (
        ("json", "always"), ("a.inner", "always"), ("b", "always"), ("ssl", "deferred"), ("x", "optional"),
        ("os.path", "always"), ("__future__", "always"),
    )))  # type: ignore[arg-type]  # fmt: skip
    second = scan("b", Import("b.py", 1, "json"), Import("b.py", 2, "socket"))
    assert modules_to_warm([first, second]) == ("json", "os.path", "socket")
