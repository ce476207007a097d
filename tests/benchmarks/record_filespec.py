"""Records what OpenWrt's own filespec script makes of random trees, to be replayed where it is not.

    .venv/bin/python tests/benchmarks/record_filespec.py --script python-package-install.sh

The script is lang/python's of openwrt/packages, 23.05 or later. It is run in the builder's sandbox on the
seeded cases of tests/support/filespec_oracle.py. Outcomes go into tests/data/filespec-outcomes.json, and
tests/rootfs/test_filespec_recorded.py holds rootfs.filespec against them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.log import Log
from tests.support.filespec_oracle import FilespecCase, digest_of, genuine, ours, random_filespec

PLACE = Path(__file__).resolve().parents[1] / "data/filespec-outcomes.json"
SEEDS = 400
ABOUT = (
    "What OpenWrt's own filespec script (script: its SHA-256) made of trees made for tests, written by"
    " tests/benchmarks/record_filespec.py: for each seed all paths with kind, mode and origin, or ! where it"
    " stopped."
)


def one(view: PrivateView, work: Path, number: int, case: FilespecCase) -> str:
    """The outcome of a case."""
    folder = work / f"tmp/{number}"
    folder.mkdir(parents=True)
    try:
        return genuine(
            view.tree / "install.sh", case, folder, wrap=view.command, seen=view.work / f"tmp/{number}"
        )
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--script", type=Path, required=True)
    given = parser.parse_args()
    cases = [random_filespec(seed) for seed in range(SEEDS)]
    with tempfile.TemporaryDirectory(prefix="record-filespec-") as scratch:
        tree, work = Path(scratch) / "tree", Path(scratch) / "work"
        tree.mkdir()
        (work / "tmp").mkdir(parents=True)
        shutil.copy(given.script, tree / "install.sh")
        view = open_view(tree, work, Log())
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(lambda each: one(view, work, *each), enumerate(cases)))
    different = [seed for seed, each in enumerate(cases) if ours(each) != outcomes[seed]]
    failed = outcomes.count("!")
    print(f"{SEEDS - failed} done, {failed} refused; the builder does otherwise with seeds {different}")
    facts = {
        "_about": ABOUT,
        "script": sha256_of(given.script),
        "digest": digest_of(cases),
        "outcomes": outcomes,
    }
    PLACE.write_text(json.dumps(facts, indent=0) + "\n")


if __name__ == "__main__":
    main()
