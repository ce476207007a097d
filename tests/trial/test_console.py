"""The console of a guest: what it says is found as it comes, and what it stops saying is told."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagebuilder.trial.guest import Console, ConsoleClosedError, TrialError

Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a console that says these texts, with pauses between them, and then closes or stays."""
    sockets: list[socket.socket] = []
    done = threading.Event()

    def start(*texts: bytes, stay: bool = True, folder: Path = tmp_path) -> Path:
        path = folder / "console"
        server = socket.socket(socket.AF_UNIX)
        with monkeypatch.context() as there:
            there.chdir(folder)  # as QEMU is started
            server.bind("console")
        server.listen(1)
        sockets.append(server)

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                for text in texts:
                    connection.sendall(text)
                    time.sleep(0.02)
                if stay:
                    done.wait(10)

        threading.Thread(target=talk, daemon=True).start()
        return path

    yield start
    done.set()
    for each in sockets:
        each.close()


def alive() -> bool:
    return True


def test_a_console_in_a_folder_with_a_long_name(serve: Serve, tmp_path: Path) -> None:
    """As temporary folders have that TMPDIR says; a socket's path has 108 bytes at most."""
    (deep := tmp_path / ("n" * 200)).mkdir()
    console = Console(serve(b"login: ", folder=deep), alive, 2)
    assert console.wait_for(re.compile("login: "), 2, "the login")[0] == "login: "


def test_the_console_finds_what_comes_in_pieces(serve: Serve) -> None:
    console = Console(serve(b"boo", b"ting\r\nlo", b"gin: \xc3", b"\xa4 # "), alive, 2)
    assert console.wait_for(re.compile("booting"), 2, "the start")[0] == "booting"
    assert console.wait_for(re.compile("login: (.)"), 2, "the login")[1] == "ä"
    with pytest.raises(TrialError, match=r"a second login did not come within 0\.1 s") as caught:
        console.wait_for(re.compile("login: "), 0.1, "a second login")
    assert "booting" in caught.value.message
    assert console.text.endswith("ä # ")
    console.close()


def test_a_panic_ends_the_waiting(serve: Serve) -> None:
    console = Console(serve(b"[ 1.0] Kernel panic - not syncing: ", b"no init\r\n"), alive, 2)
    with pytest.raises(TrialError, match="gave up: Kernel panic - not syncing: no init"):
        console.wait_for(re.compile("# "), 5, "a shell")
    console.close()


def test_a_console_that_closes_is_told_from_one_that_is_silent(serve: Serve) -> None:
    console = Console(serve(b"going down\r\n", stay=False), alive, 2)
    with pytest.raises(ConsoleClosedError, match="going down"):
        console.wait_for(re.compile("# "), 5, "a shell")
    console.close()


def test_waiting_for_the_end_has_a_limit(serve: Serve) -> None:
    console = Console(serve(b"busy"), alive, 2)
    with pytest.raises(TrialError, match="did not end within"):
        console.wait_for_end(0.1)
    console.close()


def test_a_console_that_never_comes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConsoleClosedError, match="no console"):
        Console(tmp_path / "nowhere", alive, 0.1)
    with pytest.raises(ConsoleClosedError, match="no console"):
        Console(tmp_path / "nowhere", lambda: False, 10)
