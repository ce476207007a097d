"""Records what a tree's genuine opkg installs from seeded feeds, to be replayed where there is no tree.

    .venv/bin/python tests/benchmarks/record_opkg.py --imagebuilder TREE [--imagebuilder TREE…]

Runs the opkg of each tree in the builder's sandbox, as that tree's own Makefile calls it, on the small random
feeds of tests/support/opkg_oracle.py and on names of a real feed (tests/data/lede-17.01.7-wr740n.json), and
writes the outcomes into tests/data/opkg-outcomes.json. Those of other trees in it stay as long as the feeds
are the same. tests/packages/opkg/test_recorded.py holds the resolver against them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from imagebuilder.ask import look_at_tree
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.log import Log
from imagebuilder.model.release import covers
from imagebuilder.packages.opkg.resolve import OpkgRules, opkg_rules
from imagebuilder.packages.universe import Universe
from tests.support.budget_making import index
from tests.support.opkg_oracle import (
    FORCED,
    Case,
    Outcome,
    answer,
    digest_of,
    install,
    random_case,
    real_case,
    verdict,
    written,
)

PLACE = Path(__file__).resolve().parents[1] / "data/opkg-outcomes.json"
SEEDS, REAL_SEEDS = 300, 60
_COMPLAINT = "\n * "  # how opkg says what is wrong
_TRIES = 4
ABOUT = (
    "What genuine opkgs installed from feeds made for tests, written by tests/benchmarks/record_opkg.py: for"
    " each seed name and version of each package, or ! where opkg failed."
)


@dataclass(frozen=True)
class Program:
    """A tree's opkg in its sandbox. rules: how the resolver does as it does; options: those of its Makefile's
    calls."""

    view: PrivateView
    work: Path
    rules: OpkgRules
    options: Sequence[str]

    def outcome(self, numbered: tuple[int, Case]) -> Outcome:
        """What it makes of a case. A failure for which it gives no reason, or that the resolver does not
        expect, has to come twice: on a busy machine the sandbox fails now and then, and not opkg."""
        _, case = numbered
        found = self._run(numbered)
        expected = answer(case, Universe(reversed(case.packages)), self.rules) is None
        if not found.failed or (expected and _COMPLAINT in found.said):
            return found
        for _ in range(_TRIES):
            before, found = found, self._run(numbered)
            if (found.failed, found.installed) == (before.failed, before.installed):
                return found
        raise RuntimeError(f"seed {numbered[0]} ends differently each time:\n{found.said}")

    def _run(self, numbered: tuple[int, Case]) -> Outcome:
        name = f"tmp/{numbered[0]}"
        folder = self.work / name
        folder.mkdir(parents=True)
        opkg = self.view.tree / "staging_dir/host/bin/opkg"
        try:
            return install(
                opkg,
                numbered[1],
                folder,
                self.options,
                wrap=self.view.command,
                seen=self.view.work / name,
            )
        finally:
            shutil.rmtree(folder)


def recorded(tree: Path, kinds: dict[str, list[Case]], scratch: Path) -> dict[str, object]:
    """The entry of a tree."""
    release = look_at_tree(str(tree), scratch / "cache", Log()).release
    work = scratch / "work"
    (work / "tmp").mkdir(parents=True)
    view = open_view(tree, work, Log())
    options = FORCED if covers("<18.06", release) else ()
    program = Program(view, work, opkg_rules(release), options)
    said = run(
        view.command([str(view.tree / "staging_dir/host/bin/opkg"), "--version"]),
        env=clean_environment(HOME="/nonexistent"),
        check=False,
    )
    version = (said.stdout + said.stderr).partition("(")[0].split()[-3:]
    entry: dict[str, object] = {"opkg": " ".join(version), "options": list(options)}
    for kind, cases in kinds.items():
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(program.outcome, enumerate(cases)))
        report(release, kind, cases, outcomes)
        entry[kind] = [written(each) for each in outcomes]
    return {release: entry}


def report(release: str, kind: str, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    """Say how the resolver stands to it."""
    verdicts = {
        seed: verdict(answer(case, Universe(reversed(case.packages)), opkg_rules(release)), outcome, case)
        for seed, (case, outcome) in enumerate(zip(cases, outcomes, strict=True))
    }
    bad = [seed for seed, what in verdicts.items() if what not in ("same", "both fail")]
    print(
        f"{release} {kind}: {dict(Counter(verdicts.values()))}{f', seeds {bad}' if bad else ''}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--imagebuilder", metavar="TREE", type=Path, action="append", required=True)
    trees = parser.parse_args().imagebuilder
    packages = index()
    makers: dict[str, tuple[int, Callable[[int], Case]]] = {
        "random": (SEEDS, random_case),
        "real": (REAL_SEEDS, partial(real_case, packages=packages)),
    }
    kinds = {kind: [make(seed) for seed in range(count)] for kind, (count, make) in makers.items()}
    digests = {kind: digest_of(cases) for kind, cases in kinds.items()}
    before = json.loads(PLACE.read_text()) if PLACE.is_file() else {}
    entries = before["outcomes"] if before.get("digests") == digests else {}
    for tree in trees:
        with tempfile.TemporaryDirectory(prefix="record-opkg-") as scratch:
            entries |= recorded(tree.resolve(), kinds, Path(scratch))
        write(digests, entries)


def write(digests: dict[str, str], entries: dict[str, object]) -> None:
    """Write what is recorded by now."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries))
    head = f'"_about": {json.dumps(ABOUT)},\n"digests": {json.dumps(digests)},\n'
    PLACE.write_text(f'{{{head}"outcomes": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
