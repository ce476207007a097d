"""The build server as a process: killed at any moment and begun again, ended, and what it says of itself."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import PROJECT
from tests.service.conftest import BOARD, asked
from tests.support.heeding import HEEDING

SECONDS = 120


class Process:
    """A build server over the small tree, in a project of its own."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self.state, self.folder, self._tree = folder / "state", folder, tree
        self.said = folder / "said"
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        (folder / "configs").mkdir(parents=True)
        (folder / "configs/mine.toml").write_text(f'extends = "base"\nboards = ["{BOARD}"]\n')

    def start(self, *more: str) -> httpx.Client:
        given = ["--config", "mine", "--imagebuilder", str(self._tree), "--port", self._port, "--json", *more]
        places = ["--project", str(self.folder), "--state", str(self.state)]
        places += ["--cache", str(self.folder / "cache")]
        with self.said.open("a") as said:
            self._process = subprocess.Popen(
                [*HEEDING, sys.executable, "-m", "imagebuilder", "serve", "--builder", *given, *places],
                cwd=PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        assert self._process.stdout is not None
        text = ""
        while not text.endswith("}\n}\n") and (line := self._process.stdout.readline()):
            text += line
            with suppress(ValueError):
                facts = json.loads(text)
                break
        else:
            raise AssertionError(self.said.read_text())
        self._port = facts["address"].rpartition(":")[2]  # clients come back to the same address
        return httpx.Client(base_url=facts["address"], timeout=SECONDS, trust_env=False)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self, how: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(SECONDS)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end()


@pytest.fixture
def process(tmp_path: Path, small_tree: Path) -> Iterator[Process]:
    made = Process(tmp_path / "served", small_tree)
    yield made
    made.close()


def outcome(client: httpx.Client, number: str) -> dict[str, Any]:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        answer = client.get(f"/api/v1/build/{number}")
        assert answer.status_code in (200, 202, 500), answer.text
        if answer.status_code != 202:
            return {**answer.json(), "http": answer.status_code}
        time.sleep(0.1)
    raise AssertionError(answer.text)


SETS = ([], ["tcpdump-mini"], ["dropbear"], ["tcpdump-mini", "dropbear"])


def test_killed_in_the_middle_nothing_that_was_acknowledged_is_lost(process: Process) -> None:
    """Three times, at moments that chance chooses; each time some wait, one or two are being built, and some
    are done."""
    chosen = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    acknowledged: dict[str, dict[str, Any]] = {}
    done: dict[str, list[dict[str, Any]]] = {}
    for turn in range(3):
        client = process.start("-j", "2")
        for number, images in done.items():
            assert outcome(client, number)["images"] == images  # results stay
        for packages in SETS:
            request = asked(packages=packages, version_code="", rootfs_size_mb=None, client=f"{turn}")
            request["packages"] = [*packages, *(["micropython-mbedtls"] if turn % 2 else [])]
            answer = client.post("/api/v1/build", json=request)
            assert answer.status_code in (200, 202)
            acknowledged[answer.json()["request_hash"]] = request
        time.sleep(chosen.uniform(0, 2.5))
        for number in acknowledged:
            answer = client.get(f"/api/v1/build/{number}")
            if answer.status_code == 200:
                done[number] = answer.json()["images"]
        process.kill()
    client = process.start("-j", "2")
    found = {number: outcome(client, number) for number in acknowledged}
    assert {each["http"] for each in found.values()} == {200}
    assert all(found[number]["images"] == images for number, images in done.items())
    for number, each in found.items():
        for image in each["images"]:
            data = client.get(f"/store/{number}/{image['name']}")
            assert len(data.content) == image["size"]
    assert process.end() == 0
    log = process.said.read_text()
    # not again; killed before it could say so, a server has said nothing
    assert [number for number in done if log.count(f"{number[:12]} for") > 1] == []
    assert [place for place in process.state.glob("**/.*") if place.name != ".openwrt-imagebuilder"] == []
    left = {place.name for place in process.state.iterdir()}
    assert {"outcomes", "requests", "store"} <= left <= {"outcomes", "recipes", "requests", "store"}


def test_fifty_requests_at_once(process: Process) -> None:
    client = process.start("-j", "2")
    same = asked(packages=["dropbear"])
    others = [asked(packages=each, diff_packages=False) for each in SETS]
    bad = asked(packages=["no-such"])
    requests = [*([same] * 10), *([bad] * 2), *(others * 10)[:38]]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda one: client.post("/api/v1/build", json=one), requests))
    assert {each.status_code for each in answers[10:12]} == {422}
    taken = [*answers[:10], *answers[12:]]
    assert {each.status_code for each in taken} <= {200, 202}
    numbers = {each.json()["request_hash"] for each in taken}
    assert len(numbers) == 4
    assert {outcome(client, number)["http"] for number in numbers} == {200}
    log = process.said.read_text()
    assert log.count("built in") == 4
    assert log.count("POST '/api/v1/build'") == 50
    assert "no-such" not in log  # lines of requests are without what they held
    assert [number for number in numbers if number in log] == []  # and without what fetches their images


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_the_next_one_goes_on(process: Process, small_tree: Path, how: int) -> None:
    """A build that runs is ended; it is in the records, and built by the next server."""
    (small_tree / "behaviour").write_text("sleep 60\n")
    client = process.start()
    number = client.post("/api/v1/build", json=asked()).json()["request_hash"]
    while client.get(f"/api/v1/build/{number}").json().get("imagebuilder_status") != "building_image":
        time.sleep(0.05)
    began = time.monotonic()
    assert process.end(how) == 0
    assert time.monotonic() - began < 30
    (small_tree / "behaviour").unlink()
    assert outcome(process.start(), number)["http"] == 200


def test_a_second_server_on_one_folder_waits(process: Process) -> None:
    process.start()
    second = subprocess.Popen(
        [
            *(sys.executable, "-m", "imagebuilder", "serve", "--builder", "--config", "mine", "--port", "0"),
            *("--imagebuilder", str(process._tree), "--project", str(process.folder)),
            *("--state", str(process.state), "--cache", str(process.folder / "cache")),
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert second.stderr is not None
        lines = iter(second.stderr.readline, "")
        assert any("another build server works in" in line for line in lines)
    finally:
        second.terminate()
        second.communicate()


def test_an_address_that_is_taken_is_told(process: Process) -> None:
    client = process.start()
    port = str(client.base_url.port)
    again = subprocess.run(
        [
            *(sys.executable, "-m", "imagebuilder", "serve", "--builder", "--config", "mine"),
            *("--imagebuilder", str(process._tree), "--project", str(process.folder), "--port", port),
            *("--state", str(process.folder / "other"), "--cache", str(process.folder / "cache")),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert f"error: cannot listen at 127.0.0.1, port {port}: Address already in use" in again.stderr


def test_who_listens_for_others_is_warned(process: Process) -> None:
    process.start("--host", "0.0.0.0")
    assert "nobody is asked who he is" in process.said.read_text()
