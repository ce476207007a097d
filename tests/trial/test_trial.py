"""Trials, as far as they need no guest: the image's boot files, the console."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.host.run import clean_environment, run
from imagebuilder.log import Log
from imagebuilder.trial.guest import Console, ConsoleClosedError, TrialError
from imagebuilder.trial.machine import ESP_TYPE, SECTOR, boot, esp_offset, take_boot_files

LINUX_TYPE = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ENTRY = """\
# a loader entry
title   Test
linux   /vmlinuz
initrd  /initrd
options console=ttyS0 a=b
"""


def disk(path: Path, kinds: list[UUID], *, signature: bytes = b"EFI PART", number: int = 8) -> Path:
    """A disk whose partitions begin at 1 MiB, 3 MiB and so on."""
    header = signature + bytes(64) + struct.pack("<QIII", 2, number, 128, 0)
    entries = b"".join(
        struct.pack(
            "<16s16sQQ80x", kind.bytes_le, bytes([at] * 16), 2048 * (2 * at + 1), 2048 * (2 * at + 3) - 1
        )
        for at, kind in enumerate(kinds)
    )
    path.write_bytes((bytes(512) + header).ljust(1024, b"\0") + entries.ljust(8 << 20, b"\0"))
    return path


@pytest.fixture
def bootable(tmp_path: Path) -> Path:
    """A disk with an ESP that has a loader entry, a kernel and an initramfs, 3 MiB into it."""
    image = disk(tmp_path / "disk.img", [LINUX_TYPE, ESP_TYPE])
    fat = tmp_path / "esp"
    fat.write_bytes(bytes(2 << 20))
    run(["mkdosfs", "-F", "12", str(fat)], timeout=10)
    for name, text in (("vmlinuz", "kernel"), ("initrd", "initramfs"), ("openwrt.conf", ENTRY)):
        (tmp_path / name).write_text(text)
    run(["mmd", "-i", str(fat), "::/loader", "::/loader/entries"], timeout=10)
    run(["mcopy", "-i", str(fat), str(tmp_path / "openwrt.conf"), "::/loader/entries/"], timeout=10)
    run(["mcopy", "-i", str(fat), str(tmp_path / "vmlinuz"), str(tmp_path / "initrd"), "::/"], timeout=10)
    with image.open("r+b") as stream:
        stream.seek(3 << 20)
        stream.write(fat.read_bytes())
    return image


def test_boot_files_are_taken_out_of_the_esp(bootable: Path, tmp_path: Path) -> None:
    assert esp_offset(bootable) == 3 << 20
    (tmp_path / "out").mkdir()
    files = take_boot_files(bootable, tmp_path / "out")
    assert files.kernel.read_text() == "kernel"
    assert files.initrd is not None
    assert files.initrd.read_text() == "initramfs"
    assert files.options == "console=ttyS0 a=b"


def test_an_esp_without_a_loader_entry_is_an_error(bootable: Path, tmp_path: Path) -> None:
    run(
        ["mdel", "-i", f"{bootable}@@{3 << 20}", "::/loader/entries/openwrt.conf"],
        env=clean_environment(MTOOLS_SKIP_CHECK="1"),
        timeout=10,
    )
    (tmp_path / "entry").write_text("title nothing\n")
    run(
        ["mcopy", "-i", f"{bootable}@@{3 << 20}", str(tmp_path / "entry"), "::/loader/entries/a.conf"],
        timeout=10,
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(TrialError, match="no loader entry that names a kernel"):
        take_boot_files(bootable, tmp_path / "out")


@pytest.mark.parametrize(
    ("kinds", "signature", "number", "says"),
    [
        ([ESP_TYPE], b"NOT PART", 8, "has no GPT"),
        ([LINUX_TYPE], b"EFI PART", 8, "no EFI system partition"),
        ([ESP_TYPE], b"EFI PART", 1 << 30, "is damaged"),
    ],
)
def test_a_disk_that_does_not_boot_is_an_error(
    tmp_path: Path, kinds: list[UUID], signature: bytes, number: int, says: str
) -> None:
    image = disk(tmp_path / "disk.img", kinds, signature=signature, number=number)
    with pytest.raises(TrialError, match=says), boot(image, log=Log()):
        pass


@pytest.mark.parametrize("size", [0, 100, 520, 600])
def test_a_stump_of_a_disk_is_an_error(tmp_path: Path, size: int) -> None:
    image = disk(tmp_path / "disk.img", [ESP_TYPE])
    image.write_bytes(image.read_bytes()[:size])
    with pytest.raises(TrialError):
        esp_offset(image)


@given(
    header=st.binary(max_size=40)
    | st.builds(
        struct.Struct("<QIII").pack,
        st.sampled_from([0, 1, 2, 3, 1 << 62]),
        st.sampled_from([0, 1, 3, 1024, 1 << 31]),
        st.sampled_from([0, 47, 48, 128, 4096, 1 << 31]),
        st.just(0),
    ),
    table=st.lists(st.sampled_from([ESP_TYPE.bytes_le, LINUX_TYPE.bytes_le, b"x" * 16]), max_size=3),
    rest=st.binary(max_size=300),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_disk_with_an_esp_or_an_error(
    tmp_path: Path, header: bytes, table: list[bytes], rest: bytes
) -> None:
    image = tmp_path / "any.img"
    entries = b"".join(
        (kind + bytes(16) + struct.pack("<Q", at * 2)).ljust(128, b"\1") for at, kind in enumerate(table)
    )
    image.write_bytes(
        bytes(SECTOR) + (b"EFI PART" + bytes(64) + header).ljust(SECTOR, b"\0") + entries + rest
    )
    try:
        offset = esp_offset(image)
    except TrialError:
        return
    assert 0 <= offset < image.stat().st_size


def test_an_image_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="there is no image"), boot(tmp_path / "nothing.img", log=Log()):
        pass


Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a console that says these texts, with pauses between them, and then closes or stays."""
    sockets: list[socket.socket] = []
    done = threading.Event()

    def start(*texts: bytes, stay: bool = True) -> Path:
        path = tmp_path / "console"
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
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
