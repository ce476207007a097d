"""How long apk's index takes to read, beside opkg's of the same packages, in turns within one run.

    .venv/bin/python tests/benchmarks/apk_index.py [--packages 10000] [--rounds 7]

Prints medians in seconds (for 10,000 packages under 0.5 s is wanted of apk, 0.25 s of opkg) and their ratio.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.packages.apk import apk
from imagebuilder.packages.opkg import opkg
from tests.support.adb_maker import Facts, deflated, index


def generated(count: int) -> list[Facts]:
    """Packages as varied as those of a release's feeds."""
    chosen = random.Random(count)
    names = sorted(f"package-{number}-{chosen.randrange(9999)}" for number in range(count))
    return [
        {
            "name": name,
            "version": f"{chosen.randrange(9)}.{chosen.randrange(99)}-r{chosen.randrange(9)}",
            "hashes": chosen.randbytes(32).hex(),
            "description": "a few words of it " * chosen.randrange(2, 9) + name,
            "arch": "mips_24kc",
            "license": chosen.choice(["MIT", "GPL-2.0"]),
            "origin": f"feeds/packages/{name}",
            "maintainer": f"somebody {chosen.randrange(300)}",
            "url": f"https://example.org/{name}",
            "installed-size": chosen.randrange(1 << 22),
            "file-size": chosen.randrange(1 << 21),
            "depends": ["libc", *sorted(chosen.sample(names, chosen.randrange(1, 6)))],
            "provides": [f"{name}-any=1.0"],
            "tags": ["openwrt:abiversion=1"] if chosen.random() < 0.1 else [],
        }
        for name in names
    ]


def as_text(packages: list[Facts]) -> str:
    """The same packages in opkg's form."""
    return "".join(
        f"Package: {each['name']}\nVersion: {each['version']}\nDepends: {', '.join(each['depends'])}\n"
        f"Provides: {each['name']}-any\nSource: {each['origin']}\nLicense: {each['license']}\n"
        f"Maintainer: {each['maintainer']}\nURL: {each['url']}\nArchitecture: mips_24kc\n"
        f"Installed-Size: {each['installed-size']}\nFilename: {each['name']}.ipk\nSize: {each['file-size']}\n"
        f"SHA256sum: {each['hashes']}\nDescription: {each['description']}\n\n"
        for each in packages
    )


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    packages = generated(options.packages)
    packed, text = deflated(index(packages)), as_text(packages)
    times: dict[str, list[float]] = {"apk": [], "opkg": []}
    for _ in range(options.rounds):
        times["apk"].append(seconds(lambda: apk.parse_index(packed)))
        times["opkg"].append(seconds(lambda: opkg.parse_index(text)))
    medians = {kind: statistics.median(each) for kind, each in times.items()}
    for kind, median in medians.items():
        print(f"{kind:5} {median:.3f} s for {options.packages} packages")
    print(f"ratio {medians['apk'] / medians['opkg']:.2f}")


if __name__ == "__main__":
    main()
