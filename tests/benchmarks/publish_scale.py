"""What publishing costs with many boards and nights: `python -m tests.benchmarks.publish_scale [NIGHTS]`.

For 100 and for 1,000 boards: the first night, nights in which every board has a new build, one in which a
single board has, and one in which none has. Images have 1 KiB, so that what is measured is the site and not
the disk. Printed are seconds and, of both numbers of boards, the ratio of seconds a board, 1 where the
costs grow as the boards do; the bytes of the first page and of boards.json; memory.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from imagebuilder.host.handover import temporary_folder
from imagebuilder.log import Log
from imagebuilder.model.result import DeviceTitle
from imagebuilder.site.publish import PublishOptions, publish
from tests.support.result_maker import MadeResult

BOARDS = (100, 1000)
NIGHTS = 30
PACKAGES = {f"package-{number}": "1.0-1" for number in range(150)}  # as many as a usual image has
FIRST = 1_795_000_000
DAY = 24 * 3600


def _result(number: int, content: int) -> MadeResult:
    return MadeResult(
        board=f"vendor{number % 40}-model-{number}",
        profile=f"vendor{number % 40}_model-{number}",
        target=f"target{number % 25}/generic",
        title=DeviceTitle(vendor=f"Vendor {number % 40}", model=f"Model {number}"),
        content=f"{content}",
        size=1,
        packages={**PACKAGES, "busybox": f"1.{content}"},
    )


def measure(boards: int, nights: int, folder: Path) -> dict[str, float]:
    """Seconds of each kind of night; bytes of pages; files."""
    out, site = folder / "out", folder / "www"
    options = PublishOptions(keep=30, url="https://firmware.example.org")

    def night(after: int, changed: Iterable[int]) -> float:
        for number in changed:
            _result(number, after).write(out)
        begun = time.monotonic()
        publish(out, site, options, FIRST + after * DAY, Log())
        return time.monotonic() - begun

    found = {"first": night(0, range(boards))}
    all_new = [night(after, range(boards)) for after in range(1, nights)]
    found |= {"all new": all_new[0], "all new, the last": all_new[-1]}
    found["one new"] = night(nights, [0])
    found["none new"] = night(nights + 1, [])
    found["index.html, bytes"] = (site / "index.html").stat().st_size
    found["boards.json, bytes"] = (site / "boards.json").stat().st_size
    found["memory, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    nights = int(sys.argv[1]) if len(sys.argv) > 1 else NIGHTS
    found = []
    for boards in BOARDS:
        with temporary_folder("scratch") as folder:
            found.append(measure(boards, nights, folder))
    few, many = found
    print(f"{nights} nights; {BOARDS[0]} boards, {BOARDS[1]} boards, ratio a board")
    for name in few:
        ratio = many[name] / few[name] * BOARDS[0] / BOARDS[1]
        print(f"{name:20} {few[name]:12.2f} {many[name]:12.2f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
