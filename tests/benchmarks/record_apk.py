"""Records what a genuine apk makes of packages of our own: their index, signed too, and two of them.

    .venv/bin/python tests/benchmarks/record_apk.py --apk PROGRAM

PROGRAM: apk of apk-tools 3. Writes tests/data/apk-index.json: the index as it is (base64) not compressed, by
deflate, by zstd and signed, with the public key, what `apk adbdump` prints of it, and the files of two of its
packages. tests/packages/apk/test_index.py and tests/packages/apk/test_trust.py read that.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from imagebuilder.host.run import run
from tests.support.apk_tree import Feed, make_key

PLACE = Path(__file__).resolve().parents[1] / "data/apk-index.json"
CONTAINERS = ("none", "deflate", "zstd", "signed")
FILES = ("scripts", "python3-light")


def fill(feed: Feed) -> None:
    """Packages that between them have every field that an index of OpenWrt's has."""
    feed.add("libc", "1.2.5-r5")
    feed.add("busybox", "1.37.0-r6", depends=["libc"])
    feed.add("libthing", "1.2.3-r1", depends=["libc"], abi="12")
    feed.add("libpython3", "3.13.9-r2", depends=["libc"], abi="-3.13")
    feed.add("python3-base", "3.13.9-r2", depends=["libc", "libpython3-3.13"])
    feed.add("python3-light", "3.13.9-r2", depends=["python3-base=3.13.9-r2", "zlib~1.3", "libthing12>=1"])
    feed.add("python3", "3.13.9-r2", depends=["python3-light"])
    feed.add("zlib", "1.3.1-r1", depends=["libc"])
    feed.add("wall-new", "2026.01.01~abcdef12-r1", depends=["!wall-old<2"], provides=["wall-any"])
    feed.add("wall-old", "1.0_rc2-r9", provides=["wall-any=1.0", "wall"])
    feed.add("scripts", "0.9-r1", depends=["wall-any", "busybox>1.36", "libc<2"], arch="noarch")
    feed.add("large", "5-r1", files={"usr/share/large": bytes(300_000)})


def record(apk: Path, folder: Path) -> dict[str, object]:
    """All that is written down."""
    key, public = make_key(folder / "keys", "test")
    feed = Feed(apk, folder / "feed")
    fill(feed)
    containers = {}
    for name in CONTAINERS:
        place = folder / f"{name}.adb"
        how = ["--sign", str(key)] if name == "signed" else ["--compression", name]
        argv = [str(apk), "mkndx", "--allow-untrusted", *how, "--output", str(place)]
        run([*argv, *map(str, feed.listed)])
        containers[name] = base64.b64encode(place.read_bytes()).decode()
    printed = run([str(apk), "adbdump", "--format", "json", str(folder / "none.adb")]).stdout
    about = "An index of packages made for tests, by a genuine apk: written by tests/benchmarks/record_apk.py"
    version = run([str(apk), "--version"]).stdout.split(",")[0]
    files = {
        path.name: base64.b64encode(path.read_bytes()).decode()
        for path in feed.listed
        if path.name.startswith(tuple(f"{name}-" for name in FILES))
    }
    facts = {"_about": about, "by": version, "key": public.read_text(), "containers": containers}
    return {**facts, "files": files, **json.loads(printed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apk", metavar="PROGRAM", type=Path, required=True)
    apk = parser.parse_args().apk.resolve()
    with tempfile.TemporaryDirectory(prefix="record-apk-") as folder:
        facts = record(apk, Path(folder))
    PLACE.write_text(json.dumps(facts, indent=0) + "\n")
    print(f"{PLACE}: {len(facts['packages'])} packages by {facts['by']}")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
