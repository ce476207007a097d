"""How long a plan's part in package lists takes, and how much memory: parsing, the cached form, resolving.

    python3 tests/benchmarks/index_speed.py [--packages 10000] [LIST...]

LIST: `Packages` files to measure on instead of a made-up one. The ratios come from one run; the best of five
goes counts.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.model import control
from imagebuilder.model.package import Package, Wish
from imagebuilder.packages.index_cache import pack_index, unpack_index
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.opkg.resolve import resolve
from imagebuilder.packages.resolution import ResolutionError
from imagebuilder.packages.universe import Universe
from tests.benchmarks.index_text import index_text

T = TypeVar("T")
WANTED = 300
DIGEST = "00" * 32


def best(action: Callable[[], T]) -> tuple[float, T]:
    """Seconds of the fastest of five goes, and what it gave."""
    seconds, result = _once(action)
    for _ in range(4):
        again, result = _once(action)
        seconds = min(seconds, again)
    return seconds, result


def _once(action: Callable[[], T]) -> tuple[float, T]:
    for parsed_before in (control._dependency, control._alternatives):
        parsed_before.cache_clear()
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def list_of(packages: tuple[Package, ...]) -> list[str]:
    """Names that can go into one image and bring some hundreds of packages with them."""
    universe = Universe(packages)
    names = [package.name for package in packages]
    random.Random(1).shuffle(names)
    asked: list[str] = []
    for name in names[:WANTED]:
        try:
            found = resolve(Wish.of([*asked, name]), universe)
        except ResolutionError:
            continue
        if len(found.selected) > WANTED:
            break
        asked.append(name)
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=int, default=10_000)
    parser.add_argument("lists", nargs="*", type=Path)
    given = parser.parse_args()
    text = "\n".join(path.read_text() for path in given.lists) or index_text(given.packages)
    cold, packages = best(lambda: parse_index(text))
    kept = pack_index(packages, DIGEST)
    cached, again = best(lambda: unpack_index(kept, DIGEST))
    assert again == packages
    index, universe = best(lambda: Universe(packages))
    asked = list_of(packages)
    solve, found = best(lambda: resolve(Wish.of(asked), universe))
    tracemalloc.start()
    held = parse_index(text)
    memory, peak = tracemalloc.get_traced_memory()
    print(f"{len(held)} packages, {len(text) / 1e6:.1f} MB of text, {len(kept) / 1e6:.1f} MB cached")
    rows = [("parse the text", cold), ("load the cached form", cached), ("index by name", index)]
    rows.append((f"resolve {len(asked)} names to {len(found.selected)} packages", solve))
    for what, seconds in rows:
        print(f"{what:<42} {seconds:7.3f} s {seconds / cold:6.2f} of parsing")
    print(
        f"held {memory / 1e6:.0f} MB, at most {peak / 1e6:.0f} MB while parsing; "
        f"the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most"
    )


if __name__ == "__main__":
    main()
