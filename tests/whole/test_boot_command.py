"""`boot` as users call it, with the kit: each variant of Python starts, a web server answers through a port
until Ctrl-C, and what fails is told."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.cli.guard import TERMINATED, USER_FAULT
from imagebuilder.cli.handed import LEAVE
from imagebuilder.host.fs import user_cache
from imagebuilder.python.micropython.micropython import load_modules
from tests.host.test_ports import free_port
from tests.support.heeding import HEEDING

pytestmark = [pytest.mark.kit, pytest.mark.boot]
AddConfig = Callable[[str, str], str]
BOARD = "qemu-x86-64"
CONFIG = """\
boards = ["qemu-x86-64"]
release = "{release}"
[python]
variant = "{variant}"
[[trial]]
run = "{run}"
expect = "^42$"
"""
RUNS = {
    "none": "echo 42",
    "base": "python3 -c 'print(6 * 7)'",
    "light": "python3 -c 'print(6 * 7)'",
    "full": "python3 -c 'import sqlite3; print(6 * 7)'",
}
# every module that plans take for granted in the MicroPython of the kit of Debian 13, which alone has one
MODULES = " ".join(sorted(load_modules("embedded-3.13").importable(())))
SMALL = rf"""micropython -c '[__import__(name) for name in \"{MODULES}\".split()]; print(6 * 7)'"""
VARIANTS = [*((name, "embedded", run) for name, run in RUNS.items()), ("micropython", "embedded-3.13", SMALL)]
WAIT = 180.0


def argv(project: Path, tmp_path: Path, name: str, *more: str) -> list[str]:
    places = ["--project", str(project), "--output", str(tmp_path / "out"), "--cache", str(user_cache())]
    return [sys.executable, "-m", "imagebuilder", "boot", name, *places, *more]


@pytest.mark.parametrize("asked", VARIANTS, ids=[name for name, _, _ in VARIANTS])
def test_each_variant_of_python_boots(
    project: Path, add_config: AddConfig, tmp_path: Path, asked: tuple[str, str, str]
) -> None:
    variant, release, run = asked
    add_config("mine", CONFIG.format(variant=variant, release=release, run=run))
    done = subprocess.run(
        argv(project, tmp_path, "mine", "--json", "--memory", "128"),
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * WAIT,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {check["outcome"] for check in report["checks"]} == {"ok"}
    assert "command" in {check["name"] for check in report["checks"]}
    assert (report["free_with_python"] is None) == (variant == "none")
    assert (report["board"], report["memory"]) == (BOARD, 128 << 20)
    log = tmp_path / "out/mine" / f"{BOARD}.console.log"
    assert report["console"] == str(log)
    assert b"Linux version" in log.read_bytes()


SERVICE = """\
#!/bin/sh /etc/rc.common
START=95
USE_PROCD=1
start_service() {
	procd_open_instance
	procd_set_param command python3 -m http.server 80 --directory /etc
	procd_set_param respawn
	procd_close_instance
}
"""


@pytest.fixture
def web(project: Path, add_config: AddConfig) -> str:
    """A config whose image serves its /etc."""
    place = project / "overlays/web/files/etc/init.d/web"
    place.parent.mkdir(parents=True)
    place.write_text(SERVICE)
    place.chmod(0o755)
    (project / "overlays/web/overlay.toml").write_text('name = "web"\n')
    text = CONFIG.format(release="embedded", variant="full", run="echo 42")
    return add_config("web", f'{text}[[overlay]]\nname = "web"\n')


def test_a_web_server_answers_through_a_port_until_ctrl_c(project: Path, web: str, tmp_path: Path) -> None:
    port = free_port()
    command = argv(project, tmp_path, web, "--json", "--forward", f"{port}:80")
    with subprocess.Popen(
        [*HEEDING, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        for line in running.stderr:
            if "the guest is ready" in line:
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/openwrt_release", timeout=30) as answer:
            assert b"DISTRIB_ID=" in answer.read()
        os.killpg(running.pid, signal.SIGINT)  # as a terminal's Ctrl-C
        said, told = running.communicate(timeout=WAIT)
    assert running.returncode == 0, told
    report = json.loads(said)
    assert {check["name"]: check["outcome"] for check in report["checks"]}["shutdown"] == "ok"


def test_a_trial_that_fails_inside_is_the_users_fault(
    project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    """Such as what only a system that has started has: here the trial before says nothing of it."""
    run = "grep -c nothing_like_this /proc/cmdline"
    add_config("mine", CONFIG.format(release="embedded", variant="none", run=run))
    done = subprocess.run(
        argv(project, tmp_path, "mine", "--no-trial", "--memory", "128"),
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * WAIT,
    )
    assert done.returncode == USER_FAULT
    assert f"FAILED   `{run}`" in done.stdout


def test_a_terminal_becomes_the_console(project: Path, add_config: AddConfig, tmp_path: Path) -> None:
    add_config("mine", CONFIG.format(release="embedded", variant="none", run="echo 42"))
    user, terminal = pty.openpty()
    command = argv(project, tmp_path, "mine", "--interactive", "--memory", "128")
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as running:
        os.close(terminal)
        read_until(user, b":~# ")
        os.write(user, b"echo $((6 * 7))\r")
        read_until(user, b"\n42\r")
        os.write(user, LEAVE)
        assert b"the machine was ended" in read_until(user, b"ended")
        assert running.wait(30) == 0
    os.close(user)


def test_a_window_that_is_closed_ends_the_machine(
    project: Path, add_config: AddConfig, tmp_path: Path
) -> None:
    add_config("mine", CONFIG.format(release="embedded", variant="none", run="echo 42"))
    user, terminal = pty.openpty()
    (temporary := tmp_path / "temporary").mkdir()
    command = argv(project, tmp_path, "mine", "--interactive", "--memory", "128")
    words = [*HEEDING, "env", f"TMPDIR={temporary}", "setsid", "--ctty", *command]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal) as running:
        os.close(terminal)
        read_until(user, b":~# ")
        assert list(temporary.iterdir())
        os.close(user)
        assert running.wait(30) == TERMINATED
    assert not list(temporary.iterdir())


def read_until(terminal: int, wanted: bytes) -> bytes:
    said, until = b"", time.monotonic() + 2 * WAIT
    while wanted not in said.replace(b"\r\n", b"\n") + said:
        assert time.monotonic() < until, said
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the program ended, and with it the terminal's other end
            raise AssertionError(said.decode(errors="replace")) from None
    return said
