"""What python.shake leaves of CPython's packages, in bytes of a squashfs.

    .venv/bin/python tests/benchmarks/shake_sizes.py

On the embedded kit, for tests/data/apps/hello.py against python3-base (wanted: at most 25 %) and for
notes.py, a server with http, json and sqlite3, against the packages that `auto` chooses for it (wanted: at
most 40 %). The library part is what CPython's packages have below /usr/lib/pythonX.Y: all but the interpreter
and shared libraries. Totals: the whole root file system. Sizes by the host's mksquashfs as the kit calls it,
and with xz in blocks of 256 KiB as OpenWrt does. Each app is run in its shaken root.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.host.fs import user_cache
from imagebuilder.kit.prepare import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.tree import Places
from imagebuilder.python.catalogue.catalogue import Catalogue
from imagebuilder.python.shake.commands import Root, prove, trace
from imagebuilder.python.shake.shake import standard_packages
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.tree.measure import SquashfsOptions, measure_squashfs, squashfs_options
from tests.support.shake_kit import Shaker, left_of, root_of

APPS = Path(__file__).resolve().parents[1] / "data/apps"
XZ_ARGUMENTS = ("-nopad", "-noappend", "-no-xattrs", "-all-root", "-comp", "xz", "-b", str(256 << 10))
XZ = SquashfsOptions("mksquashfs", "xz", 256 << 10, False, XZ_ARGUMENTS)


@dataclass(frozen=True)
class Case:
    """wanted: the largest share of the library part that may be left."""

    script: str
    commands: tuple[str, ...]
    wanted: float
    packages: tuple[str, ...]


def library_part(catalogue: Catalogue, trees: Mapping[str, FileTree]) -> FileTree:
    """What CPython's packages have in its library."""
    own = (trees[name] for name in sorted(standard_packages(catalogue) & trees.keys()))
    below = catalogue.library
    return FileTree({path: entry for tree in own for path, entry in tree.items() if path.startswith(below)})


def squashfs(kit: Path, trees: Iterable[FileTree], options: SquashfsOptions) -> int:
    """Bytes of a squashfs of these trees."""
    with tempfile.TemporaryDirectory() as name:
        root = root_of(trees, Path(name) / "root")
        root.mkdir(exist_ok=True)
        return measure_squashfs(kit, options, root, Path(name) / "image")


def measure(shaker: Shaker, case: Case, work: Path) -> None:
    """One case's lines."""
    kit, catalogue = shaker.kit, shaker.catalogue
    contents = shaker.packages_of(case.packages)
    contents["app-mine"] = shaker.script_app(APPS / case.script, work / "app")
    whole = {name: each.tree for name, each in contents.items()}
    full = Root(root_of(whole.values(), work / "full"), catalogue.python)
    runs = trace(full, case.commands, work, Log())
    assert all(run.code == 0 for run in runs), runs
    traced = {name for run in runs for name in run.modules}
    result = shaker.shaken(contents, work / "read", traced=traced)
    left = left_of(contents, result)
    root = Root(root_of(left.values(), work / "left"), catalogue.python)
    proved = prove(root, case.commands, work, Log(), dropped=result.dropped)
    print(f"\n{case.script}: {', '.join(case.packages)}; {' and '.join(case.commands)} run in what is left")
    print(f"{'':24}{'before':>12}{'after':>12}{'share':>9}")
    for title, options in (("as the kit packs", squashfs_options(kit, Places())), ("xz, 256 KiB", XZ)):
        parts = (
            ("library part", [library_part(catalogue, whole)], [library_part(catalogue, left)]),
            ("root", whole.values(), left.values()),
        )
        for part, before, after in parts:
            sizes = squashfs(kit, before, options), squashfs(kit, after, options)
            share = sizes[1] / sizes[0]
            verdict = (
                ""
                if part == "root"
                else f"  wanted {case.wanted:.0%}: {'yes' if share <= case.wanted else 'NO'}"
            )
            print(f"{part + ', ' + title:32}{sizes[0]:>10,}{sizes[1]:>12,}{share:>9.1%}{verdict}")
    kept = sum(len(each.kept) for each in result.packages)
    gone = sum(len(each.dropped) for each in result.packages)
    estimate = sum(each.saved_compressed for each in result.packages)
    print(f"modules left {kept}, gone {gone}; estimated to save {estimate:,} bytes (xz)")
    print(f"packages that go: {', '.join(result.removable) or 'none'}")
    missed = sorted({name for run in proved for name in run.modules} & result.dropped)
    print(f"looked for and not there: {', '.join(missed) or 'nothing'}")


def main() -> None:
    """All cases."""
    edition = EDITIONS["embedded"]
    kit = prepare_kit(edition, user_cache(), Log())
    with tempfile.TemporaryDirectory() as folder:
        shaker = Shaker(edition, kit, Path(folder))
        cases = (
            Case("hello.py", ("hello",), 0.25, ("python3-base",)),
            Case("hello.py", ("hello",), 0.25, ("python3",)),
            Case("notes.py", ("notes --check",), 0.40, shaker.chosen_packages(APPS / "notes.py")),
        )
        for case in cases:
            with tempfile.TemporaryDirectory() as name:
                measure(shaker, case, Path(name))


if __name__ == "__main__":
    main()
