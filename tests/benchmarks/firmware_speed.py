"""How long inspect and verify take for an image of 20 MB, beside what the machine takes for its plain parts.

python tests/benchmarks/firmware_speed.py [ROUNDS]

Inspect is to take under 1 s and verify under 2 s. A busy machine takes longer for everything: the ratios to
the SHA-256 of the file and to unsquashfs alone, in the same run, tell the two apart. Medians of ROUNDS (5).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.firmware.inspection import inspect
from imagebuilder.firmware.verify import verify
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.run import run
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

BOARD = "linksys-wrt1200ac"
FILES, FILE_BYTES = 1500, 26_000
INSPECT_SECONDS, VERIFY_SECONDS = 1.0, 2.0


def large_squashfs(scratch: Path) -> bytes:
    """About 17 MB of xz: half of each file is noise, half compresses to nothing."""
    root = scratch / "root"
    make.write_tree(
        root, release="23.05.5", target="mvebu/cortexa9", arch="arm_cortex-a9_vfpv3-d16", machine=make.ARM
    )
    for number in range(FILES):
        place = root / f"usr/lib/python3.11/folder{number % 40}/module{number}.pyc"
        place.parent.mkdir(parents=True, exist_ok=True)
        half = FILE_BYTES // 2
        place.write_bytes(make.noise(half - 1700, number) + b"some text that repeats " * (half // 23))
    argv = [
        "mksquashfs",
        str(root),
        str(scratch / "image"),
        "-quiet",
        "-no-progress",
        "-nopad",
        "-b",
        "262144",
    ]
    run([*argv, "-comp", "xz", "-all-root"])
    return (scratch / "image").read_bytes()


def median(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        root = large_squashfs(scratch)
        kernel = make.uimage(make.zimage(make.device_tree(images.LINKSYS), 3 << 20), machine=2, compression=0)
        body = make.sysupgrade_tar(
            "armada-385-linksys-caiman", {"kernel": kernel, "root": make.pad_to(root, 1024, 0)}
        )
        image = scratch / "x-sysupgrade.bin"
        image.write_bytes(images.linksys_metadata(body))
        (scratch / "alone").write_bytes(root)
        board = images.board(BOARD)
        refused = images.refusing(verify(image, board))
        assert refused == [], refused
        unpack = ["unsquashfs", "-no-progress", "-force", "-d", str(scratch / "out"), str(scratch / "alone")]
        figures = {
            "SHA-256": median(lambda: sha256_of(image), rounds),
            "unsquashfs": median(lambda: run(unpack, check=False), rounds),
            "inspect": median(lambda: inspect(image), rounds),
            "verify": median(lambda: verify(image, board), rounds),
        }
        print(f"{image.stat().st_size / 1e6:.1f} MB, {FILES} files")
        for name, seconds in figures.items():
            print(f"{name:12} {seconds:.3f} s")
        print(f"inspect / SHA-256: {figures['inspect'] / figures['SHA-256']:.1f}")
        print(f"verify / unsquashfs: {figures['verify'] / figures['unsquashfs']:.2f}")
        print(f"inspect under {INSPECT_SECONDS} s: {figures['inspect'] < INSPECT_SECONDS}")
        print(f"verify under {VERIFY_SECONDS} s: {figures['verify'] < VERIFY_SECONDS}")


if __name__ == "__main__":
    main()
