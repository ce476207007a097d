"""A kernel that several images hold is unpacked once, and what is not quite the same one is unpacked anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.firmware import reader, verify_machine
from imagebuilder.firmware.formats import compressed
from imagebuilder.firmware.formats.formats import FORMATS
from imagebuilder.firmware.reader import Kernels, Reading, View
from imagebuilder.firmware.verify import Ahead, Verified, known_kernels, verify_all
from imagebuilder.firmware.verify_machine import Machine, code_machine
from imagebuilder.model.firmware import Part
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

WR740 = "tplink-tl-wr740n-v4"


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the kernels that are unpacked, as that goes on."""
    sizes: list[int] = []
    first = compressed._unlzma

    def count(view: View, most: int, *, form: int) -> compressed.Unpacked:
        data, used = first(view, most, form=form)
        sizes.append(len(data))
        return data, used

    monkeypatch.setattr(compressed, "_unlzma", count)
    return sizes


def read(data: bytes, kernels: Kernels, most: int = reader.MOST_UNPACKED) -> Part:
    return Reading(FORMATS, most_unpacked=most, kernels=kernels).inside(View(data), "kernel")


def build(folder: Path, kernel: bytes) -> Callable[[Ahead | None], tuple[Verified, ...]]:
    """Both images of a device, and their verification."""
    root = make.squashfs(target="ar71xx/generic")
    both = {folder / "x-sysupgrade.bin": "sysupgrade", folder / "x-factory.bin": "factory"}
    for file, kind in both.items():
        file.write_bytes(make.tplink_v1(kernel, root, factory=kind == "factory"))
    return lambda ahead: verify_all(both, images.board(WR740), ahead=ahead)


def test_the_kernel_that_lies_in_the_tree_is_unpacked_ahead_and_once(
    tmp_path: Path, unpacked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make.kernel()
    verified = build(tmp_path, kernel)
    alone = verified(None)
    unpacked.clear()
    (tmp_path / "kernel.bin").write_bytes(kernel)
    told: list[int] = []

    def count(code: memoryview) -> Machine | None:
        told.append(len(code))
        return code_machine(code)

    monkeypatch.setattr(verify_machine, "code_machine", count)
    ahead = Ahead(kernels=known_kernels([tmp_path / "kernel.bin", tmp_path / "none.bin"]))
    assert len(unpacked) == len(told) == 1
    assert verified(ahead) == alone
    assert len(unpacked) == len(told) == 1
    assert any(check.what == "processor of the kernel code" and check.ok for check in alone[0].checks)


def test_another_kernel_than_the_one_that_was_seen_is_unpacked(tmp_path: Path, unpacked: list[int]) -> None:
    kernel, other = make.kernel(machine=make.MIPS), make.kernel(machine=make.ARM)
    assert kernel[:4096] == other[:4096]
    (tmp_path / "kernel.bin").write_bytes(kernel)
    ahead = Ahead(kernels=known_kernels([tmp_path / "kernel.bin"]))
    found = build(tmp_path, other)(ahead)
    assert len(unpacked) >= 2
    assert all(any(check.refuses and "processor" in check.what for check in each.checks) for each in found)


@pytest.mark.parametrize("kept", ["cut", "changed"])
def test_what_begins_like_a_kept_kernel_is_told_by_its_own_bytes(kept: str) -> None:
    kernels = Kernels()
    whole = make.kernel()
    assert read(whole + bytes(64), kernels).problems == ()
    damaged = whole[:-1] if kept == "cut" else whole[:5000] + bytes(8) + whole[5008:]
    assert read(damaged, kernels).problems == read(damaged, Kernels()).problems != ()


def test_a_kept_kernel_is_bounded_like_any_other() -> None:
    kernels = Kernels()
    whole = make.kernel()
    size = read(whole, kernels).unpacked_size
    assert size is not None
    assert read(whole, kernels, most=size).problems == ()
    assert "unpacks to more than" in read(whole, kernels, most=size - 1).problems[0].found


def test_no_more_is_kept_than_memory_is_there_for(
    unpacked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = Kernels()
    one, other = make.kernel(), make.kernel("board=another")
    size = read(one, kernels).unpacked_size or 0
    monkeypatch.setattr(reader, "MOST_KEPT", size)
    for each in (other, other, one):
        assert read(each, kernels).problems == ()
    assert len(unpacked) == 3


def test_a_look_at_a_kept_kernel_is_taken_once() -> None:
    kernels = Kernels()
    part = read(make.kernel(), kernels).find("kernel")
    assert part is not None
    assert part.data is not None
    looks: list[int] = []

    def look(code: memoryview) -> None:
        looks.append(len(code))

    for code in (part.data, part.data, part.data[1:], memoryview(bytes(part.data))):
        kernels.told(code, look)
    size = len(part.data)
    assert looks == [size, size - 1, size]
    assert kernels.told(part.data, len) == size
    assert kernels.told(part.data, bytes) == bytes(part.data)


def test_what_is_no_kernel_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "zero.bin").symlink_to("/dev/zero")
    (tmp_path / "damaged.bin").write_bytes(make.kernel()[:5000])
    (tmp_path / "empty.bin").write_bytes(b"")
    kernels = known_kernels([*tmp_path.iterdir(), tmp_path / "none.bin", tmp_path])
    assert kernels.find("lzma", View(make.kernel()), 1 << 30) is None
