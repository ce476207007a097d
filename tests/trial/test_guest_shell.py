"""The shell of a guest, played by one of this machine on a terminal of its own: as the kit has it, and as
OpenWrt's, whose busybox has neither stty nor base64."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.log import Log
from imagebuilder.trial.guest import Console, Guest, TrialError

WITH_STTY, WITHOUT = "cat dmesg sleep seq wc stty", "cat dmesg sleep seq wc"


def carry(terminal: int, line: socket.socket) -> None:
    """What either end says, to the other, until one of them is gone."""

    def back() -> None:
        try:
            while data := line.recv(4096):
                os.write(terminal, data)
        except OSError:
            pass

    threading.Thread(target=back, daemon=True).start()
    try:
        while data := os.read(terminal, 4096):
            line.sendall(data)
    except OSError:
        pass


@pytest.fixture
def programs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The only folder that the shell finds programs in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", *request.param.split()):
        found = shutil.which(name)
        if found is None or name == "dmesg":
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        else:
            (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def guest(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """A guest whose console is a terminal with a shell on it."""
    # this machine's /tmp has files of other users, and keeps them
    monkeypatch.setattr("imagebuilder.trial.guest._FILE", str(tmp_path / "errand"))
    ours, theirs = pty.openpty()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "console"))
    listening.listen()
    shell = subprocess.Popen(
        ["/bin/sh", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": str(programs), "PS1": "root@OpenWrt:/# "},
        start_new_session=True,
    )
    os.close(theirs)
    console = Console(tmp_path / "console", lambda: shell.poll() is None, 5)
    line, _ = listening.accept()
    threading.Thread(target=carry, args=(ours, line), daemon=True).start()
    try:
        yield Guest(console, Log(), time.monotonic(), 20)
    finally:
        shell.kill()
        shell.wait()
        for end in (console, line, listening):
            end.close()


@pytest.mark.parametrize("programs", [WITH_STTY, WITHOUT], indirect=True, ids=["stty", "no stty"])
def test_commands_and_answers_come_through_as_they_are(guest: Guest) -> None:
    odd = 'ä "q" $x `y` \\ %s @1< \\0101'
    result = guest.run(f"printf '%s\\n' '{odd}'; echo err >&2; exit 3")
    assert (result.code, result.output) == (3, f"{odd}\nerr\n")
    assert guest.run("printf 'no end'").output == "no end"
    assert guest.run("").code == 0
    assert guest.run("cat; echo done").output == "done\n"
    assert guest.check("seq 1 500") == "".join(f"{number}\n" for number in range(1, 501))
    long = "x\"'" * 3000
    assert guest.check(f"cat <<'END' | wc -c\n{long}\nEND").strip() == str(len(long) + 1)
    with pytest.raises(TrialError, match="exited with 7 in the guest"):
        guest.check("echo why; exit 7")
    with pytest.raises(TrialError, match=r"the end of `sleep 5` did not come within 0\.3 s"):
        guest.run("sleep 5", seconds=0.3)
