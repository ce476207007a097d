"""Measures how packages compress in a squashfs, for imagebuilder/budget/data/compression.json.

    .venv/bin/python tests/benchmarks/compression_figures.py --imagebuilder TREE > …/compression.json

TREE: LEDE 17.01.7 for ar71xx/generic with its package cache (a used tree); besides it the embedded kit is
measured. Only packages are measured, never an image, and of them only every second one by a checksum of its
name: what the others and the images of size_prediction.py come to was not seen here.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imagebuilder.ask import look_at_tree
from imagebuilder.budget.flash_kinds import Figure, Kind, kind_of
from imagebuilder.host.fs import user_cache
from imagebuilder.kit.prepare import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.packages.opkg.ipk_reader import Ipk, read_ipk
from imagebuilder.packages.opkg.records import installed_tree
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import EMPTY, FileTree
from imagebuilder.tree.measure import SquashfsOptions, measure_squashfs, squashfs_options

GROUPS, GROUP_BYTES, LEAST_PACKAGES = 10, 400_000, 4
EMPTY_BYTES = 176  # of a squashfs without anything


def packages_of(*folders: Path) -> list[Ipk]:
    """Every second package, by a checksum of its name."""
    found = (read_ipk(path) for folder in folders for path in sorted(folder.glob("*.ipk")))
    return [each for each in found if zlib.crc32(each.control.name.encode()) % 2 == 0]


def packed(package: Ipk) -> int:
    return int(package.fields["Installed-Size"])


class Measurer:
    """Makes squashfs images of groups of packages, one way."""

    def __init__(self, tree: Path, options: SquashfsOptions, scratch: Path) -> None:
        self.tree, self.options, self.scratch = tree, options, scratch

    def size(self, content: FileTree) -> int:
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            write_tree(content, Path(name) / "root")
            return measure_squashfs(self.tree, self.options, Path(name) / "root", Path(name) / "image")

    def files(self, group: Sequence[Ipk]) -> int:
        whole = {path: entry for package in group for path, entry in package.tree.items()}
        return self.size(FileTree(whole)) - EMPTY_BYTES

    def records(self, group: Sequence[Ipk]) -> float:
        """Bytes a package, of the package manager's records of the group."""
        return (self.size(installed_tree(group, EMPTY)) - self.files(group)) / len(group)


def figure(measurer: Measurer, kind: Kind, corpus: Sequence[Ipk], arch: str, source: str) -> Figure:
    """One kind, from groups of packages drawn by chance, always the same."""
    chance = random.Random(kind)
    ratios = []
    for _ in range(GROUPS):
        group: list[Ipk] = []
        for package in chance.sample(list(corpus), len(corpus)):
            if sum(map(packed, group)) > GROUP_BYTES or (len(group) > len(corpus) * 2 / 3 and len(group) > 2):
                break
            group.append(package)
        ratios.append(measurer.files(group) / sum(map(packed, group)))
    return Figure(
        compressor=measurer.options.compressor,
        block=measurer.options.block,
        filters=measurer.options.filters,
        arch=arch,
        kind=kind,
        ratio=round(statistics.mean(ratios), 4),
        spread=round(statistics.stdev(ratios), 4),
        packages=len(corpus),
        packed=sum(map(packed, corpus)),
        source=source,
    )


def with_block(options: SquashfsOptions, block: int, *more: str) -> SquashfsOptions:
    old = ("-b", str(options.block))
    at = next(i for i in range(len(options.arguments)) if options.arguments[i : i + 2] == old)
    new = (*options.arguments[:at], "-b", str(block), *more, *options.arguments[at + 2 :])
    return replace(options, block=block, arguments=new, filters=options.filters or bool(more))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    tree = parser.parse_args().imagebuilder.resolve()
    kit = prepare_kit(EDITIONS["embedded"], user_cache(), Log())
    genuine = packages_of(tree / "packages", tree / "dl")
    own = packages_of(kit / "packages")
    xz, zstd = (
        squashfs_options(place, look_at_tree(str(place), user_cache(), Log()).places) for place in (tree, kit)
    )
    runs = [
        (genuine, "mips_24kc", tree, with_block(xz, 256 << 10), "LEDE 17.01.7 ar71xx/generic"),
        (genuine, "mips_24kc", tree, with_block(xz, 1 << 20), "LEDE 17.01.7 ar71xx/generic"),
        (own, "x86_64", tree, with_block(xz, 256 << 10, "-Xbcj", "x86"), "the kit (Debian 12, Python 3.11)"),
        (own, "x86_64", kit, zstd, "the kit (Debian 12, Python 3.11)"),
    ]
    found: list[Figure] = []
    records: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for corpus, arch, place, options, whose in runs:
            measurer = Measurer(place, options, Path(scratch))
            kinds: dict[Kind, list[Ipk]] = {}
            for package in corpus:
                kind = kind_of(package.control.name, package.control.section)
                kinds.setdefault(kind, []).append(package)
            for kind, whole in sorted(kinds.items()):
                group = [each for each in whole if packed(each) > 0]
                if len(group) >= LEAST_PACKAGES:
                    tool = "LEDE 17.01.7's mksquashfs4" if place == tree else "Debian 12's mksquashfs"
                    source = f"packages of {whose}, packed by {tool}"
                    found.append(figure(measurer, kind, group, arch, source))
                    print(found[-1], file=sys.stderr)
            small = [each for each in corpus if packed(each) < 100_000]
            chance = random.Random("records")
            for _ in range(4):
                each = measurer.records(chance.sample(small, min(60, len(small))))
                records.setdefault(options.compressor, []).append(each)
    about = (
        "Bytes of squashfs a byte of the package's data archive, by kind of content; records: what the "
        "package manager's records add a package. Made by tests/benchmarks/compression_figures.py."
    )
    document = {
        "about": about,
        "figures": [{name: getattr(each, name) for name in Figure.__dataclass_fields__} for each in found],
        "records": {
            name: {"bytes": round(statistics.mean(each)), "spread": round(statistics.stdev(each))}
            for name, each in records.items()
        },
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
