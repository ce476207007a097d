"""Sessions with images of the kit: what works is told, and each fault by its name."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.model_config import Trial
from imagebuilder.host.fs import sha256_of
from imagebuilder.log import Event, Log, Note, Warned
from imagebuilder.model.boot import BootReport
from imagebuilder.report.boot import boot_text
from imagebuilder.trial.guest import TrialError
from imagebuilder.trial.session import BootAsked, boot_session
from tests.host.test_ports import free_port
from tests.support.kit_making import call_make

pytestmark = [pytest.mark.kit, pytest.mark.boot]
MEMORY = 128 << 20  # by its kernel, which is quicker
SERVICE = """\
#!/bin/sh /etc/rc.common
START=95
USE_PROCD=1

start_service() {{
	procd_open_instance
	procd_set_param command {command}
	procd_set_param respawn 3600 1 0
	procd_close_instance
}}
"""
Build = Callable[..., Path]


@pytest.fixture
def build(kit_copy: Path, tmp_path: Path) -> Build:
    """An image of the kit with files of one's own: paths of programs, and their text."""

    def work(packages: str = "", **scripts: str) -> Path:
        files = tmp_path / "files"
        for name, text in scripts.items():
            path = files / ("etc/init.d" if text.startswith("#!/bin/sh /etc/rc.common") else "usr/bin") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for path in [files, *files.rglob("*")]:
            path.chmod(0o755)
        made = call_make(kit_copy, "image", tmp_path / "bin", PACKAGES=packages, FILES=str(files))
        assert made.code == 0, made.stderr
        return made.image

    return work


def outcomes(report: BootReport) -> dict[str, str]:
    return {check.what: check.outcome for check in report.checks}


def test_a_guest_is_tried_looked_at_and_shut_down(build: Build, tmp_path: Path) -> None:
    """With a web server that answers through a port, a service that dies, and commands that do not do what
    they are to."""
    page = "#!/bin/sh\nmkdir -p /tmp/web; echo hello > /tmp/web/index.html\nexec httpd -f -p 80 -h /tmp/web\n"
    image = build(
        "python3-light",
        web=SERVICE.format(command="/usr/bin/page"),
        page=page,
        dies=SERVICE.format(command="/usr/bin/ends 7"),
        ends="#!/bin/sh\necho '<3>Buffer I/O error on dev vda' > /dev/kmsg\nsleep 1\nexit $1\n",
    )
    before, port, kept = sha256_of(image), free_port(), tmp_path / "kept" / "console.log"
    unused = free_port()
    answers: list[bytes] = []
    warnings: list[str] = []

    def ask(event: Event) -> None:
        if isinstance(event, Warned):
            warnings.append(event.text)
        if isinstance(event, Note) and "is ready" in event.text:
            threading.Thread(target=lambda: answers.append(fetched(port))).start()

    trials = [
        Trial(run="python3 -c 'print(6 * 7)'", expect="^42$"),
        Trial(run="echo 'a  b'", expect="^c$"),
        Trial(run="sleep 600", timeout=2),
        Trial(run="no-such-program"),
    ]
    asked = BootAsked(
        image, memory=MEMORY, trials=trials, forwards={port: 80, unused: 81}, seconds=60, log_file=kept
    )
    report = boot_session(asked, Log([ask]))
    assert answers == [b"hello\n"]
    assert "no program of the guest listens at port 81" in warnings, "said while somebody can still look"
    assert outcomes(report) == {
        "all init scripts end": "ok",
        "`python3 -c 'print(6 * 7)'`": "ok",
        "`echo 'a  b'`": "failed",
        "`sleep 600`": "failed",
        "`no-such-program`": "failed",
        "services run": "failed",
        "port 80 is listened at": "ok",
        "port 81 is listened at": "warned",
        "the kernel met no faults": "failed",
        "it shuts down": "ok",
    }
    found = {check.what: check.found for check in report.checks}
    assert "saying last:\na  b" in found["`echo 'a  b'`"]
    assert "did not end within 2 s" in found["`sleep 600`"]
    assert found["services run"].startswith("dies dies")
    assert "I/O error" in found["the kernel met no faults"]
    assert 0 < report.seconds < 60
    assert report.free_memory is not None
    assert report.free_with_python is not None
    assert 0 < report.free_with_python < report.free_memory < 128 << 10
    assert (report.memory, report.started_by) == (MEMORY, "its kernel")
    assert b"Linux version" in kept.read_bytes()
    assert "FAILED   services run\n         dies dies" in boot_text(report)
    assert sha256_of(image) == before


def fetched(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return bytes(answer.read())


def test_a_panic_is_told_with_the_consoles_last_words(build: Build, tmp_path: Path) -> None:
    crash = "#!/bin/sh /etc/rc.common\nSTART=50\nstart() { echo c > /proc/sysrq-trigger; }\n"
    kept = tmp_path / "console.log"
    with pytest.raises(TrialError, match="the guest's kernel gave up: Kernel panic") as caught:
        boot_session(BootAsked(build(crash=crash), memory=MEMORY, seconds=90, log_file=kept), Log())
    assert "sysrq" in caught.value.tail
    assert any(str(kept) in note for note in caught.value.__notes__)
    assert b"Kernel panic" in kept.read_bytes()


def test_a_start_that_hangs_is_told_in_time(build: Build) -> None:
    hang = "#!/bin/sh /etc/rc.common\nSTART=50\nstart() { echo here it hangs > /dev/console; sleep 1000; }\n"
    image, began = build(hang=hang), time.monotonic()
    with pytest.raises(TrialError, match="a shell on the console did not come within 45 s") as caught:
        boot_session(BootAsked(image, memory=MEMORY, seconds=45), Log())
    assert "here it hangs" in caught.value.tail
    assert time.monotonic() - began < 90
