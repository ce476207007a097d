"""What starting Python costs on the kit: from source, from bytecode, shaken; with site, and without.

    .venv/bin/python tests/benchmarks/python_start.py

For hello world and for `import json, argparse, logging` (tests/data/apps), as scripts, on the packages that
`auto` chooses for the latter. All rows are measured in one run, one after another in turns, each in its own
root file system. Source: the packages' -src twins in place of their bytecode. Wanted: for the imports
bytecode takes at most 0.35 of the source's time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.host.fs import user_cache
from imagebuilder.kit.prepare import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.result import Start
from imagebuilder.python.shake.commands import Root, start_facts, trace
from imagebuilder.python.shake.shake import standard_packages
from imagebuilder.rootfs.tree import FileTree
from tests.benchmarks.shake_sizes import APPS, XZ, library_part, squashfs
from tests.support.shake_kit import Contents, Shaker, left_of, root_of

ROUNDS, RUNS, WANTED = 5, 7, 0.35
PROGRAMS = ("hello", "imports")


def from_source(shaker: Shaker, contents: Contents) -> dict[str, FileTree]:
    """The packages with sources in place of bytecode."""
    found, catalogue = {}, shaker.catalogue
    for name, each in contents.items():
        tree = each.tree
        if name in standard_packages(catalogue) and catalogue.packages.get(name, None) is not None:
            bytecode = [path for path in tree if path.endswith(".pyc")]
            twin = catalogue.packages[name].src_name
            tree = tree.without(bytecode)
            if twin is not None:
                tree = tree.merged(shaker.package_of(twin).tree)
        found[name] = tree
    return found


def roots(shaker: Shaker, program: str, work: Path) -> dict[str, tuple[Root, Mapping[str, FileTree]]]:
    """The root file systems to compare, with their packages' trees."""
    catalogue = shaker.catalogue
    contents = shaker.packages_of(shaker.chosen_packages(APPS / "imports.py"))
    script = APPS / f"{program}.py"
    contents["app-mine"] = shaker.script_app(script, work / "app")
    plain = shaker.script_app(script, work / "app", site=False, isolated=True)
    sources = from_source(shaker, contents)
    sources["app-mine"] = shaker.script_app(script, work / "app", source="only").tree
    whole = {name: each.tree for name, each in contents.items()}
    full = Root(root_of(whole.values(), work / "bytecode"), catalogue.python)
    runs = trace(full, [program], work, Log())
    left = left_of(
        contents,
        shaker.shaken(contents, work / "read", traced={name for run in runs for name in run.modules}),
    )
    lean = {**left, "app-mine": plain.tree}
    forms = {"source": sources, "bytecode": whole, "shaken": left, "shaken, -I -S": lean}
    return {
        form: (Root(root_of(trees.values(), work / form), catalogue.python), trees)
        for form, trees in forms.items()
    }


def measure(shaker: Shaker, program: str, work: Path) -> dict[str, tuple[Start, float, int, int]]:
    """By form: facts, seconds, bytes of the library part and of the root in a squashfs."""
    there = roots(shaker, program, work)
    facts: dict[str, Start] = {}
    seconds: dict[str, list[float]] = {form: [] for form in there}
    for _ in range(ROUNDS):
        for form, (root, _) in there.items():
            facts[form] = start_facts(root, program, work / "run", Log(), runs=RUNS)
            seconds[form].append(facts[form].seconds)
    return {
        form: (
            facts[form],
            statistics.median(seconds[form]),
            squashfs(shaker.kit, [library_part(shaker.catalogue, trees)], XZ),
            squashfs(shaker.kit, trees.values(), XZ),
        )
        for form, (_, trees) in there.items()
    }


def main() -> None:
    """The table."""
    edition = EDITIONS["embedded"]
    kit = prepare_kit(edition, user_cache(), Log())
    with tempfile.TemporaryDirectory() as name:
        shaker = Shaker(edition, kit, Path(name))
        found = {program: measure(shaker, program, Path(name) / program) for program in PROGRAMS}
    head = (
        "program",
        "form",
        "ms",
        "of source",
        "modules",
        "look-ups",
        "library bytes",
        "root bytes",
    )
    print("{:9}{:15}{:>8}{:>11}{:>9}{:>10}{:>15}{:>12}".format(*head))
    for program, rows in found.items():
        for form, (facts, seconds, library, root) in rows.items():
            ratio = seconds / rows["source"][1]
            line = (
                f"{program:9}{form:15}{seconds * 1000:8.1f}{ratio:11.2f}{facts.modules:9}{facts.look_ups:10}"
            )
            print(f"{line}{library:15,}{root:12,}")
    source, bytecode = (
        found["imports"][form][1] - found["hello"][form][1] for form in ("source", "bytecode")
    )
    whole = found["imports"]["bytecode"][1] / found["imports"]["source"][1]
    hello = found["hello"]["bytecode"][1] / found["hello"]["source"][1]
    print(
        f"bytecode's part of the source's time: hello world {hello:.2f}, with the imports {whole:.2f},"
        f" the imports alone {bytecode / source:.2f} (wanted: at most {WANTED}"
        f" for the imports: {'yes' if max(whole, bytecode / source) <= WANTED else 'NO'})"
    )


if __name__ == "__main__":
    main()
