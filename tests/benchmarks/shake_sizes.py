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
from imagebuilder.kit import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.tree import Places
from imagebuilder.python.shake.commands import prove, trace
from imagebuilder.python.shake.run import Root
from imagebuilder.python.shake.shake import standard_packages
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.tree.measure import SquashfsOptions, measure_squashfs, squashfs_options
from tests.support.shake_kit import (
    CATALOGUE,
    LIBRARY,
    chosen_packages,
    left_of,
    packages_of,
    root_of,
    script_app,
    shaken,
)

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


def library_part(trees: Mapping[str, FileTree]) -> FileTree:
    """What CPython's packages have in its library."""
    own = (trees[name] for name in sorted(standard_packages(CATALOGUE) & trees.keys()))
    return FileTree({path: entry for tree in own for path, entry in tree.items() if path.startswith(LIBRARY)})


def squashfs(kit: Path, trees: Iterable[FileTree], options: SquashfsOptions) -> int:
    """Bytes of a squashfs of these trees."""
    with tempfile.TemporaryDirectory() as name:
        root = root_of(trees, Path(name) / "root")
        root.mkdir(exist_ok=True)
        return measure_squashfs(kit, options, root, Path(name) / "image")


def measure(kit: Path, case: Case, work: Path) -> None:
    """One case's lines."""
    contents = packages_of(kit, case.packages)
    contents["app-mine"] = script_app(APPS / case.script, work / "app")
    whole = {name: each.tree for name, each in contents.items()}
    full = Root(root_of(whole.values(), work / "full"), CATALOGUE.python)
    runs = trace(full, case.commands, work, Log())
    assert all(run.code == 0 for run in runs), runs
    result = shaken(contents, work / "read", traced={name for run in runs for name in run.modules})
    left = left_of(contents, result)
    root = Root(root_of(left.values(), work / "left"), CATALOGUE.python)
    proved = prove(root, case.commands, work, Log(), dropped=result.dropped)
    print(f"\n{case.script}: {', '.join(case.packages)}; {' and '.join(case.commands)} run in what is left")
    print(f"{'':24}{'before':>12}{'after':>12}{'share':>9}")
    for title, options in (("as the kit packs", squashfs_options(kit, Places())), ("xz, 256 KiB", XZ)):
        parts = (
            ("library part", [library_part(whole)], [library_part(left)]),
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
    kit = prepare_kit(EDITIONS["embedded"], user_cache(), Log())
    notes = chosen_packages(APPS / "notes.py")
    cases = (
        Case("hello.py", ("hello",), 0.25, ("python3-base",)),
        Case("hello.py", ("hello",), 0.25, ("python3",)),
        Case("notes.py", ("notes --check",), 0.40, notes),
    )
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            measure(kit, case, Path(name))


if __name__ == "__main__":
    main()
