"""All benchmarks whose figures are ratios, a line of JSON each: `owrt-python bench` shows them as a table.

    python -m tests.benchmarks.table [--list] [--most 1000] [--imagebuilder TREE] [NAME…]

What grows with its work is measured with 1, 10, 100 and 1,000 of its unit, in one run, the shortest of some
goes each. What compares two things wants a genuine tree, and is its own benchmark, run once.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.overlay import load_overlays
from imagebuilder.model.benchmark import BenchmarkPoint, BenchmarkRatio, BenchmarkRow
from imagebuilder.model.package import Wish
from imagebuilder.packages.apk.resolve import resolve as apk_resolve
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.opkg.resolve import resolve as opkg_resolve
from imagebuilder.packages.universe import Universe
from imagebuilder.python.bytecode.bytecode import Interpreter, compile_sources
from imagebuilder.rootfs.tree import file_of
from imagebuilder.stage import staged
from tests.benchmarks import fleet_scale, index_speed, publish_scale
from tests.benchmarks.index_text import index_text
from tests.benchmarks.resolve_scale import fan_in

PROJECT = Path(__file__).resolve().parents[2]
WORK = (1, 10, 100, 1000)
GOES = 3
Measure = Callable[[int, Path], float]


@dataclass(frozen=True)
class Growing:
    """measure: seconds of one go with so much work, in an empty folder."""

    name: str
    what: str
    unit: str
    measure: Measure
    goes: int = GOES


@dataclass(frozen=True)
class Comparing:
    """A benchmark of its own, for a genuine tree. found: what it prints of each ratio, by what that is of."""

    name: str
    what: str
    script: str
    found: tuple[tuple[str, str], ...]


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _index(work: int, _folder: Path) -> float:
    text = index_text(10 * work)
    return index_speed._once(lambda: parse_index(text))[0]


def _resolve_opkg(work: int, _folder: Path) -> float:
    universe = Universe(fan_in(10 * work + 2))
    return _seconds(lambda: opkg_resolve(Wish.of(["p0"]), universe))


def _resolve_apk(work: int, _folder: Path) -> float:
    universe = Universe(fan_in(10 * work + 2))
    return _seconds(lambda: apk_resolve(Wish.of(["p0"]), universe))


def _stage(work: int, folder: Path) -> float:
    for name in ("boards", "configs", "files/etc"):
        (folder / name).mkdir(parents=True)
    for number in range(5 * work):
        (folder / f"files/etc/{number}.txt").write_text(f"{number}\n")
    (folder / "configs/mine.toml").write_text('extends = "base"\n[[overlay]]\npath = "files"\n')
    library = Library(folder)

    def stage() -> None:
        config = load_config(library, "mine").config
        found = staged(config, load_overlays(library, config), folder)
        assert sum(entry.kind == "file" for entry in found.tree.values()) >= 5 * work

    return _seconds(stage)


def _compile(work: int, folder: Path) -> float:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    text = (PROJECT / "imagebuilder/host/fs.py").read_bytes()
    sources = {f"/usr/lib/python{version}/m{number}.py": file_of(text) for number in range(work)}
    interpreter = Interpreter((sys.executable,), version, int.from_bytes(MAGIC_NUMBER[:2], "little"))
    return _seconds(lambda: compile_sources(sources, interpreter, folder, epoch=1_700_000_000))


def _schedule(work: int, folder: Path) -> float:
    for name in ("boards", "configs"):
        (folder / name).mkdir()
    for number in range(work):
        text = f'extends = "base"\nrelease = "embedded"\nboards = ["{fleet_scale.BOARD}"]\n'
        (folder / f"configs/c{number}.toml").write_text(text)
    return fleet_scale.measure(folder, work, 8).seconds


def _publish(work: int, folder: Path) -> float:
    return publish_scale.measure(work, 2, folder)["first"]


BENCHMARKS: tuple[Growing | Comparing, ...] = (
    Growing("index", "parsing a package list", "10 packages", _index),
    Growing("resolve-opkg", "resolving, as opkg does", "10 packages", _resolve_opkg),
    Growing("resolve-apk", "resolving, as apk does", "10 packages", _resolve_apk),
    Growing("stage", "staging the files of an overlay", "5 files", _stage),
    Growing("compile", "compiling a library to bytecode", "1 module", _compile),
    Growing("schedule", "building boards, 8 at once, each asleep", "1 board", _schedule, goes=1),
    Growing("publish", "publishing a night's results", "1 board", _publish, goes=1),
    Comparing(
        "pipeline",
        "build against a bare make image",
        "build_overhead",
        (
            ("build without the trial / bare make", r"^bare make .* ratio ([0-9.]+)"),
            ("build with the trial / bare make", r"^with the trial .* ratio ([0-9.]+)"),
        ),
    ),
)


def run(benchmark: Growing | Comparing, most: int, tree: Path | None) -> BenchmarkRow:
    """What one benchmark finds."""
    row = BenchmarkRow(name=benchmark.name, what=benchmark.what)
    if isinstance(benchmark, Growing):
        points = tuple(_points(benchmark, most))
        return row.model_copy(update={"unit": benchmark.unit, "points": points})
    if tree is None:
        return row.model_copy(update={"why": "it wants --imagebuilder with a genuine tree"})
    argv = [sys.executable, "-m", f"tests.benchmarks.{benchmark.script}", "--imagebuilder", str(tree)]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        return row.model_copy(update={"why": f"it ended with {done.returncode}: {last[0]}"})
    ratios = []
    for what, pattern in benchmark.found:
        found = re.search(pattern, done.stdout, re.MULTILINE)
        if found is None:
            return row.model_copy(update={"why": f"it says nothing of: {what}"})
        ratios.append(BenchmarkRatio(what=what, value=float(found[1])))
    return row.model_copy(update={"ratios": tuple(ratios)})


def _points(benchmark: Growing, most: int) -> Iterator[BenchmarkPoint]:
    with tempfile.TemporaryDirectory() as warm:
        benchmark.measure(1, Path(warm))  # modules are loaded
    for work in (each for each in WORK if each <= most):
        goes = []
        for _ in range(benchmark.goes):
            with tempfile.TemporaryDirectory() as folder:
                goes.append(benchmark.measure(work, Path(folder)))
        yield BenchmarkPoint(work=work, seconds=min(goes))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--most", type=int, default=WORK[-1])
    parser.add_argument("--imagebuilder", type=Path)
    options = parser.parse_args()
    for benchmark in BENCHMARKS:
        if options.list:
            print(benchmark.name)
        elif not options.names or benchmark.name in options.names:
            print(run(benchmark, options.most, options.imagebuilder).model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
