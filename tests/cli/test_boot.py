"""`boot`, as far as it goes without a machine: what it refuses before anything is built, and how it hands the
terminal over."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.cli.guard import USER_FAULT
from imagebuilder.cli.handed import LEAVE, hand_over
from imagebuilder.errors import TerminatedError
from imagebuilder.trial.guest import Console


def boot(*argv: str | Path, project: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "imagebuilder", "boot", "demo", *argv, "--project", project],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_a_console_wants_a_terminal(project: Path) -> None:
    code, said = boot("--interactive", project=project)
    assert code == USER_FAULT
    assert "--interactive wants a terminal" in said
    code, said = boot("--interactive", "--json", project=project)
    assert code == USER_FAULT
    assert "no place for --json" in said


@pytest.mark.parametrize("option", ["--timeout=20", "--all"])
def test_what_says_how_an_image_is_tried_is_refused_with_a_console(project: Path, option: str) -> None:
    code, said = boot("--interactive", option, project=project)
    assert code == USER_FAULT
    assert f"--interactive tries nothing, and leaves no place for {option.partition('=')[0]}" in said


def test_ports_are_refused_before_anything_is_built(project: Path) -> None:
    code, said = boot("--forward", "80", project=project)
    assert code == USER_FAULT
    assert "--forward 80 is no pair of ports" in said
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        code, said = boot("--forward", f"{taken}:80", project=project)
    assert code == USER_FAULT
    assert f"port {taken} of 127.0.0.1 is taken" in said
    assert not (project / "out").exists()


@pytest.mark.parametrize("command", ["trial", "boot"])
@pytest.mark.parametrize(
    "option",
    ["--imagebuilder=x", "--mirror=x", "--release=x", "--output=x", "--cache=x", "--locked", "--no-sandbox"],
)
def test_what_says_how_a_config_is_built_is_refused_for_an_image(
    command: str, option: str, tmp_path: Path
) -> None:
    refused(command, option, tmp_path)


def test_an_image_that_is_booted_stands_no_trial_before(tmp_path: Path) -> None:
    refused("boot", "--no-trial", tmp_path)


def refused(command: str, option: str, tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    image.write_bytes(bytes(1024))
    argv = [sys.executable, "-m", "imagebuilder", command, image, option]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == USER_FAULT
    assert f"{option.partition('=')[0]} is for a config, and {image} is an image" in done.stderr


class Line:
    """A console, whose guest's end is in our hand, and a terminal, whose user's end is."""

    def __init__(self, folder: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "console"))
        listener.listen()
        self.console = Console(folder / "console", lambda: True, 5)
        self.guest, _ = listener.accept()
        self.guest.settimeout(20)
        listener.close()
        self.user, self.terminal = pty.openpty()

    def close(self) -> None:
        self.console.close()
        self.guest.close()
        os.close(self.user)
        os.close(self.terminal)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.close()


def modes(line: Line) -> list[object]:
    return termios.tcgetattr(line.terminal)


def test_keys_go_to_the_guest_until_the_one_that_leaves(line: Line) -> None:
    before, left = modes(line), list[bool]()
    carrying = threading.Thread(
        target=lambda: left.append(hand_over(line.console, line.terminal, line.terminal))
    )
    carrying.start()
    line.guest.sendall(b"login: \xff")
    assert os.read(line.user, 100) == b"login: \xff"
    assert modes(line) != before
    os.write(line.user, b"\x03\r")  # Ctrl-C is the guest's, and Return is not turned into a line's end
    assert line.guest.recv(100) == b"\x03\r"
    os.write(line.user, b"last" + LEAVE + b"more")
    carrying.join(20)
    assert left == [True]
    assert line.guest.recv(100) == b"last"
    assert modes(line) == before


def test_a_machine_that_ends_gives_the_terminal_back(line: Line) -> None:
    before = modes(line)
    line.guest.sendall(b"Power down")
    line.guest.close()
    assert not hand_over(line.console, line.terminal, line.terminal)
    assert os.read(line.user, 100) == b"Power down"
    assert modes(line) == before


def test_typing_to_a_machine_that_has_just_ended_is_its_end(line: Line) -> None:
    before = modes(line)
    line.guest.close()
    os.write(line.user, b"x")
    assert not hand_over(line.console, line.terminal, line.terminal)
    assert modes(line) == before


def test_a_window_that_is_closed_leaves(line: Line) -> None:
    """Also where SIGHUP ends nothing, as with nohup."""
    before, left = modes(line), list[bool]()
    carrying = threading.Thread(
        target=lambda: left.append(hand_over(line.console, line.terminal, line.terminal))
    )
    carrying.start()
    while modes(line) == before:
        time.sleep(0.01)
    user, line.user = line.user, os.open(os.devnull, os.O_RDONLY)
    os.close(user)
    carrying.join(20)
    assert left == [True]
    assert hand_over(line.console, line.terminal, line.terminal)  # nor was it there at all


def test_a_window_that_is_closed_while_the_guest_talks_leaves(line: Line, tmp_path: Path) -> None:
    user, screen = pty.openpty()
    os.close(user)
    line.guest.sendall(b"anything")
    assert hand_over(line.console, line.terminal, screen)
    os.close(screen)


def test_the_terminal_is_as_it_was_whatever_happens(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    before, inside = modes(line), list[object]()

    def terminated(*_: object) -> bytes:
        inside.append(modes(line))
        raise TerminatedError

    monkeypatch.setattr(line.console, "receive", terminated)
    line.guest.sendall(b"anything")
    with pytest.raises(TerminatedError):
        hand_over(line.console, line.terminal, line.terminal)
    assert inside != [before]
    assert modes(line) == before
