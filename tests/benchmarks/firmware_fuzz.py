"""Throws inputs at each parser of firmware/: random ones behind the right beginning, and small good images
with anything done to them.

python tests/benchmarks/firmware_fuzz.py [INPUTS] [FORMAT ...]

Each must give a result or one ImageFormatError; anything else ends the run with the input's seed. Says how
long an input took, at most and on average, and how far the process grew.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import lzma

import zstandard

from imagebuilder.firmware.formats.formats import FORMATS
from imagebuilder.firmware.formats.metadata import peel
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View
from imagebuilder.firmware.squashfs.index import read_index
from imagebuilder.host.run import run
from tests.support import firmware_writers as make

INPUTS = 100_000
MOST_UNPACKED = 16 << 20
MOST_GROWTH_KIB = 256 << 10
MOST_SECONDS = 5.0
ADDRESS_SPACE = 4 << 30
MAGNITUDES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@cache
def small_squashfs(compressor: str = "xz") -> bytes:
    with TemporaryDirectory() as scratch:
        root, image = Path(scratch) / "root", Path(scratch) / "image"
        (root / "bin").mkdir(parents=True)
        (root / "bin/busybox").write_bytes(make.noise(300))
        (root / "bin/sh").symlink_to("busybox")
        run(
            [
                "mksquashfs",
                str(root),
                str(image),
                "-quiet",
                "-no-progress",
                "-nopad",
                "-b",
                "4096",
                "-comp",
                compressor,
            ]
        )
        return image.read_bytes()


def small_kernel() -> bytes:
    return make.kernel("board=X", 400)


def images() -> dict[str, bytes]:
    """A small good image for each parser."""
    root, kernel = small_squashfs(), small_kernel()
    code = b"Linux version 6.1.1 (x) " + make.noise(300)
    boot = make.fat((("EFI/BOOT/BOOTX64.EFI", b"x" * 600), ("a long name.conf", b"y")), 1)
    card = make.mbr([(0x0C, 64, 2048), (0x83, 2112, 64)], 2176 * 512)
    card[64 * 512 : 2112 * 512] = boot
    card[2112 * 512 : 2112 * 512 + len(root)] = root
    arm64 = bytearray(make.noise(600))
    arm64[0x10:0x18], arm64[0x38:0x3C] = struct.pack("<Q", 600), b"ARM\x64"
    ext4 = bytearray(1 << 16)
    ext4[0x404:0x408], ext4[0x438:0x43A] = struct.pack("<I", 16), b"\x53\xef"
    return {
        "tplink-v1": make.tplink_v1(kernel, root, block=0x1000),
        "tplink-v2": b"\x03\0\0\0".ljust(0x74, b"\0") + struct.pack(">I", 0x200) + bytes(0x200),
        "safeloader": make.safeloader(kernel, root, block=0x1000),
        "uimage": make.nor_sysupgrade(make.uimage(kernel), root, 0x1000),
        "fit": make.fit(
            {"kernel-1": ("kernel", make.zimage(size=200)), "fdt-1": ("flat_dt", make.device_tree(["a,b"]))}
        ),
        "device-tree": make.device_tree(["vendor,router", "vendor,chip"]),
        "ubi": make.ubi({"rootfs": root, "env": b"e" * 600}, block=0x4000, page=512, static="env"),
        "trx": make.trx([kernel, root]),
        "sysupgrade-tar": make.sysupgrade_tar("a", {"kernel": make.uimage(kernel), "root": root}),
        "squashfs": root,
        "ubifs": bytes.fromhex("31181006") + bytes(600),
        "gzip": make.gz(make.uimage(kernel)),
        "xz": lzma.compress(code),
        "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(code),
        "elf": make.elf(),
        "zimage": make.zimage(make.device_tree(["a,b"]), 300),
        "arm64-image": bytes(arm64),
        "bzimage": make.bzimage(),
        "fat": boot,
        "disk": bytes(card),
        "ext4": bytes(ext4),
        "lzma": kernel,
        "jffs2": b"\x19\x85\x20\x03".ljust(600, b"\xff"),
    }


def metadata_image() -> bytes:
    return make.signature(make.metadata(make.noise(100), supported_devices=["a"], version={"target": "a/b"}))


@dataclass(frozen=True)
class Target:
    """What inputs are thrown at. call: a parser; good: an image that it reads."""

    name: str
    call: Callable[[View], object]
    good: bytes


def read(form: Format, view: View) -> object:
    """All that a format says of an image."""
    return form.detect(view), form.parse(view, Reading(FORMATS, most_unpacked=MOST_UNPACKED))


@cache
def targets() -> tuple[Target, ...]:
    good = images()
    parsers = [Target(form.kind, partial(read, form), good[form.kind]) for form in FORMATS]
    more = [Target("metadata", peel, metadata_image())]
    more += [
        Target(f"files of squashfs ({name})", read_index, small_squashfs(name))
        for name in ("xz", "gzip", "zstd")
    ]
    gpt = make.gpt([(make.LINUX, "rootfs", small_squashfs())])
    disk = next(one for one in parsers if one.name == "disk")
    return (*parsers, *more, Target("disk (GPT)", disk.call, gpt))


def damaged(good: bytes, source: random.Random) -> bytes:
    """An input: one in five is noise behind the beginning, the others are the image with a few things done
    to it."""
    if source.random() < 0.2:
        return good[: source.randrange(min(len(good), 600))] + source.randbytes(source.randrange(600))
    data = bytearray(good)
    for _ in range(source.randrange(1, 7)):
        # headers are at the beginning, tables of squashfs at the end
        span = source.choice((64, 512, 4096, len(data)))
        at = source.randrange(min(span, len(data)))
        at = len(data) - 1 - at if source.random() < 0.2 else at
        kind = source.randrange(4)
        if kind == 0:
            data[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            size = source.choice((1, 2, 4, 8))
            number = source.choice(MAGNITUDES) & (1 << 8 * size) - 1
            patch = number.to_bytes(size, source.choice(("big", "little")))
            data[at : at + size] = patch
        elif kind == 2:
            other = source.randrange(len(data))
            size = source.randrange(1, 64)
            data[at : at + size] = data[other : other + size]
        else:
            data[at : at + 4] = source.randbytes(4)
    if source.random() < 0.15:
        del data[source.randrange(len(data)) :]
    return bytes(data)


def fuzz(job: tuple[int, int]) -> str:
    """All inputs for one target; a line that says how it went."""
    number, inputs = job
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    target = targets()[number]
    target.call(View(target.good))  # what is imported and cached on first use is no growth
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, slowest, started = 0, 0.0, time.monotonic()
    for seed in range(inputs):
        data = damaged(target.good, random.Random(f"{target.name} {seed}"))
        began = time.monotonic()
        try:
            target.call(View(data))
            read += 1
        except ImageFormatError:
            pass
        except Exception as error:
            raise AssertionError(f"{target.name}, seed {seed}: {error!r}") from error
        slowest = max(slowest, time.monotonic() - began)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < MOST_GROWTH_KIB, f"{target.name}: grew by {growth} KiB"
    assert slowest < MOST_SECONDS, f"{target.name}: an input took {slowest:.1f} s"
    mean = (time.monotonic() - started) / inputs
    return (
        f"{target.name:24} {inputs} inputs: {read} read, {inputs - read} refused; "
        f"{mean * 1e6:5.0f} us each, at most {slowest * 1e3:4.0f} ms; grew by {growth} KiB"
    )


def main() -> None:
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else INPUTS
    names = set(sys.argv[2:])
    jobs = [(number, inputs) for number, one in enumerate(targets()) if not names or one.name in names]
    # a process of its own for each, so that the growth is each parser's own
    with multiprocessing.get_context("fork").Pool(maxtasksperchild=1) as pool:
        for line in pool.imap(fuzz, jobs, chunksize=1):
            print(line, flush=True)


if __name__ == "__main__":
    main()
