"""How little flash and time CPython takes on a router: writes docs/footprint.md.

    .venv/bin/python tests/benchmarks/footprint.py --imagebuilder TREE --feeds MIRROR > docs/footprint.md

TREE: LEDE 17.01.7, ar71xx/generic; MIRROR: a copy of the download server with its feeds (releases/17.01.7).
It takes some ten minutes: the packages are compiled by their own interpreter under emulation, and the shipped
configs node-4mb and node-4mb-wired are built. Bytes are the same but for a few, since the tree's mksquashfs
numbers files as folders list them; of seconds only the ratio within one run is told.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.build import build_image
from imagebuilder.config.board import Board
from imagebuilder.config.library import Library
from imagebuilder.config.request import requests
from imagebuilder.firmware.extract import ROOT, extract
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.model.result import Result
from imagebuilder.model.tree import Places
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.bytecode.interpreter import choose_interpreter, emulation
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.python.shake.commands import Root, start_facts, trace
from imagebuilder.python.shake.index import module_of
from imagebuilder.python.shake.shake import standard_packages
from imagebuilder.rootfs.files import content, content_size, read_tree
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of
from imagebuilder.tree.measure import measure_squashfs, squashfs_options
from tests.support.shake_kit import root_of

PROJECT = Path(__file__).resolve().parents[2]
BOARD, SERIES, LIMIT = "tplink-tl-wr740n-v4", "17.01", 3_669_504
ROUNDS, RUNS = 5, 5
HELLO, PROGRAM = "/usr/bin/python3.6 /dev/null", "node --once"
HEAD = """\
# How little CPython takes

Written by `tests/benchmarks/footprint.py` from genuine packages of LEDE 17.01.7 (ar71xx, mips_24kc, Python
3.6.0), on the tree's own mksquashfs (xz, blocks of 256 KiB); seconds are those of the packages' interpreter
under QEMU's user emulation, and only their ratios mean something. Beside them stand the figures that the
maintainers of OpenWrt's Python gave: in an article on running it on routers, and in the packages' own guide.
"""


@dataclass(frozen=True)
class Bench:
    """What is measured on: a tree with its feeds, and a folder to work in."""

    tree: Path
    feeds: Path
    work: Path

    @cached_property
    def board(self) -> Board:
        return Library(PROJECT).board(BOARD)

    def package(self, name: str) -> LocalPackage:
        """One of the release's packages."""
        return Opkg().read(self.file(name), Package("", ""))

    def file(self, name: str) -> Path:
        """Its file: of the feeds, or of the tree's own folder."""
        feeds = (self.feeds / "releases/17.01.7/packages/mips_24kc").iterdir()
        return next(
            file for folder in (*feeds, self.tree / "packages") for file in folder.glob(f"{name}_*.ipk")
        )

    def full(self, standard: Collection[str]) -> dict[str, LocalPackage]:
        """CPython's own packages that the package python3 brings."""
        found: dict[str, LocalPackage] = {}
        waiting = ["python3"]
        while waiting:
            name = waiting.pop()
            if name in standard and name not in found:
                found[name] = self.package(name)
                waiting += [each.name for terms in found[name].package.depends for each in terms]
        return dict(sorted(found.items()))

    def squashfs(self, trees: Iterable[FileTree]) -> int:
        """Bytes of a squashfs of these trees, as the tree makes it."""
        with tempfile.TemporaryDirectory(dir=self.work) as name:
            folder = root_of(trees, Path(name) / "root")
            options = squashfs_options(self.tree, Places())
            return measure_squashfs(self.tree, options, folder, Path(name) / "image")

    def build(self, name: str) -> tuple[Result, Path]:
        """A shipped config, built; its result, and its root file system taken out of the image."""
        os.environ.setdefault("WIFI_KEY", "correct horse battery")
        (asked,) = requests(
            PROJECT,
            name,
            board=BOARD,
            imagebuilder=str(self.tree),
            mirrors=(str(self.feeds),),
            output=self.work / "out",
            cache=user_cache(),
        )
        place, result = build_image(asked, Log())
        image = next(each.file for each in result.images if each.type == "sysupgrade")
        extract(place / image, self.work / name)
        return result, self.work / name / ROOT

    def compiler(self, root: Path) -> Compiler:
        """Compiles by a root's own interpreter."""
        catalogue = load_catalogue(SERIES)
        interpreter = choose_interpreter(
            catalogue.python,
            catalogue.magic_number,
            root=root,
            emulated=emulation(self.board, root) or None,
            programs=(),
        )
        return Compiler(interpreter, self.work / "bytecode", 0, catalogue.python, Log())


def say(title: str, text: str) -> None:
    """A section's head and first paragraph."""
    print(f"## {title}\n\n{textwrap.fill(text, 110)}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table; numbers to the right."""
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(f"{each:,}" if isinstance(each, int) else str(each) for each in row) + " |")
    print()


def size_of(trees: Iterable[FileTree]) -> int:
    """Bytes of files, unpacked."""
    return sum(content_size(entry) for tree in trees for entry in tree.values())


def variants(bench: Bench, own: Mapping[str, LocalPackage], compiler: Compiler) -> None:
    """Base, light and full, as the feed has them and compiled."""
    catalogue = load_catalogue(SERIES)
    groups = {"base": ["python3-base"], "light": ["python3-base", "python3-light"], "full": sorted(own)}
    compiled = {
        level: compiler.ship_all(
            {name: each.tree for name, each in own.items()}, "bytecode", level, lenient=True
        )
        for level in (0, 2)
    }
    assert catalogue.shipped == "sources"
    rows = []
    for title, names in groups.items():
        trees = [own[name].tree for name in names]
        packed = sum(bench.file(name).stat().st_size for name in names)
        row: list[object] = [title, len(names), packed, size_of(trees), bench.squashfs(trees)]
        for level in (0, 2):
            row.append(bench.squashfs(compiled[level][name] for name in names))
        rows.append(row)
    say(
        "base, light, full",
        "Bytes of CPython's own packages. This release ships sources; compiled means bytecode in their place,"
        " as `compile` and `auto` make it. Theirs: 20 to 30 MB for all of Python, about 5 MB for base, 15 MB"
        " for the interpreter with the whole library.",
    )
    table(
        ("variant", "packages", "as .ipk", "unpacked", "in squashfs", "compiled", "compiled, -OO"),
        rows,
    )


def start_part(bench: Bench, root: Path, own: Mapping[str, LocalPackage], compiler: Compiler) -> None:
    """What it takes to start the interpreter: the files of all modules that it imports, and its program."""
    catalogue = load_catalogue(SERIES)
    place = Root(root, catalogue.python, emulation(bench.board, Path("/")))
    (run,) = trace(place, [HELLO], bench.work / "trace", Log())
    assert run.code == 0, run.output
    wanted = set(run.modules)
    parts = ("python3-base", "python3-light")
    sources = {}
    for path, entry in (item for name in parts for item in own[name].tree.items()):
        found = module_of(path, catalogue.library)
        if entry.kind != "dir" and (found[0] in wanted if found else not path.startswith(catalogue.library)):
            sources[path] = entry
    tree = FileTree(sources)
    bytecode = compiler.ship("start", tree, "bytecode", 2)
    say(
        "The part needed to start",
        f"The interpreter, its library and the {len(wanted)} modules that it has when it starts an empty"
        " program. Theirs: 2 to 3.5 MB, of which 0.75 to 1.1 MB are left when it is compressed.",
    )
    rows = [
        (title, size_of([each]), bench.squashfs([each]))
        for title, each in (("sources", tree), ("bytecode, -OO", bytecode))
    ]
    table(("modules as", "plain", "in squashfs"), rows)


def forms(
    bench: Bench, root: Path, own: Mapping[str, LocalPackage], compiler: Compiler
) -> dict[str, FileTree]:
    """The root file system of node-4mb with its library in other forms."""
    library = load_catalogue(SERIES).library
    whole = read_tree(root)
    sources = {path: entry for each in own.values() for path, entry in each.tree.items()}
    modules = {
        path: sources[path.removesuffix("c")]
        for path in whole
        if path.startswith(f"{library}/") and path.endswith(".pyc") and path.removesuffix("c") in sources
    }
    bare = whole.without(modules)
    plain = FileTree({path.removesuffix("c"): entry for path, entry in modules.items()})
    zipped = io.BytesIO()
    # by the first the interpreter finds its library, the others stand in the way of what counts look-ups
    kept = {path for path in modules if path == f"{library}/os.pyc" or "/encodings/" in path}
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(modules.keys() - kept):
            info = zipfile.ZipInfo(str(PurePosixPath(path).relative_to(library)))
            archive.writestr(info, content(whole[path]))
    left = whole.without(modules.keys() - kept).without_empty_folders()
    return {
        "bytecode, -OO": whole,
        "bytecode, -O": bare.merged(compiler.ship("node1", plain, "bytecode", 1)),
        "bytecode": bare.merged(compiler.ship("node", plain, "bytecode", 0)),
        "sources": bare.merged(plain),
        "a stored zip, -OO": left.merged({f"{library[:-3]}36.zip": file_of(zipped.getvalue())}),
    }


def _files(tree: FileTree) -> int:
    return sum(entry.kind == "file" for entry in tree.values())


def library_forms(bench: Bench, found: Mapping[str, FileTree]) -> None:
    """The root's bytes and the time of a start for each form."""
    roots = {
        form: Root(root_of([tree], bench.work / f"form-{number}"), "3.6", emulation(bench.board, Path("/")))
        for number, (form, tree) in enumerate(found.items())
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    facts = {}
    for _ in range(ROUNDS):
        for form, root in roots.items():
            for command in (HELLO, PROGRAM):
                facts[form, command] = start_facts(root, command, bench.work / "run", Log(), runs=RUNS)
                seconds.setdefault((form, command), []).append(facts[form, command].seconds)
    first = next(iter(found))
    size = {form: bench.squashfs([tree]) for form, tree in found.items()}
    look_ups = {form: facts[form, PROGRAM].look_ups for form in found}
    times = {
        form: [
            min(seconds[form, command]) / min(seconds[first, command])  # the rest is what else ran
            for command in (HELLO, PROGRAM)
        ]
        for form in found
    }
    rows = [
        (form, _files(tree), size[form], look_ups[form], *(f"{each:.2f}" for each in times[form]))
        for form, tree in found.items()
    ]
    say(
        "Source, bytecode, and a zip of it",
        "The whole root file system of `node-4mb` with the library in each form, and how long Python and the"
        f" program (`{PROGRAM}`, {facts[first, PROGRAM].modules} modules) take to start, against the first."
        " Theirs: hello world takes 500 ms from source and 70 ms from bytecode (7.1).",
    )
    table(("library as", "files", "root in squashfs", "look-ups", "hello", "program"), rows)
    zipped = "a stored zip, -OO"
    # what is written here of a zip holds as long as it is so
    assert size[zipped] > size[first] or min(times[zipped]) > 0.95, rows
    text = (
        f"`optimize = 2` (-OO) saves {size['bytecode'] - size[first]:,} bytes of flash, and no time to speak"
        " of: it is an option. The emulator's own start is in all times, so that sources look better here"
        " than on a device. A stored zip of the same modules (all but os and encodings), imported by"
        f" zipimport, spares {look_ups[first] - look_ups[zipped]} look-ups, but no flash"
        f" ({size[zipped] - size[first]:+,} bytes: a block of the squashfs holds many small files anyway);"
        " its times differ no more than those of bytecode do among themselves. There is no option for it. C"
        " extensions that nothing imports go with `shake`, which"
        " leaves out of the image what no module of the program reaches."
    )
    print(textwrap.fill(text, 110) + "\n")


def four_megabytes(results: Mapping[str, Result]) -> None:
    """The shipped configs on 4 MB of flash."""
    rows = []
    for name, result in results.items():
        flash = result.flash
        assert flash is not None
        assert flash.free is not None
        assert flash.kernel is not None
        image = flash.kernel.bytes + flash.rootfs.bytes
        assert image <= LIMIT
        rows.append(
            (f"`{name}`", flash.kernel.bytes, flash.rootfs.bytes, image, LIMIT, f"{flash.free >> 10} KiB")
        )
    say(
        "CPython with a program on 4 MB of flash",
        "The shipped configs, built for a TP-Link TL-WR740N v4 from its packages: `apps/node.py` answers by"
        " TCP with a line of JSON; the whole image was verified and its program run. Theirs: CPython does not"
        " fit on this router, and 4 MB would be an extreme experiment. The limit is what an image may have;"
        " five erase blocks of 64 KiB above it are for settings in any case, and so are whole blocks below"
        " it that stay free.",
    )
    table(("config", "kernel", "root file system", "together", "limit", "free for settings"), rows)


def main() -> None:
    """The document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--imagebuilder", type=Path, required=True)
    parser.add_argument("--feeds", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(given.imagebuilder.resolve(), given.feeds.resolve(), Path(name))
        built = {each: bench.build(each) for each in ("node-4mb", "node-4mb-wired")}
        root = built["node-4mb"][1]
        catalogue = load_catalogue(SERIES)
        own = bench.full(standard_packages(catalogue))
        libraries = (bench.package(each) for each in ("zlib", "libbz2", "libffi"))
        own_trees = (each.tree for each in (*libraries, *own.values()))
        whole = root_of((read_tree(root), *own_trees), bench.work / "whole")
        compiler = bench.compiler(whole)
        print(HEAD)
        four_megabytes({each: result for each, (result, _) in built.items()})
        variants(bench, own, compiler)
        start_part(bench, whole, own, compiler)
        library_forms(bench, forms(bench, root, own, compiler))


if __name__ == "__main__":
    main()
