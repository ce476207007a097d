"""A small world to torture: a project, two trees, a mirror, and the folders that the builder writes to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.places import INPUTS
from imagebuilder.host.fs import sha256_of
from imagebuilder.report.files import BUILD_LOG, REPORT, RESULT, SIGNATURE, SUMS
from imagebuilder.unchanged import damaged, read_inputs
from tests.conftest import PROJECT, make_small_tree

BOARD = "tplink-tl-wr740n-v4"
BAUDS = {"a": 115200, "b": 9600}
_ARCHIVE = "openwrt-imagebuilder-23.05.5-ath79-tiny.Linux-x86_64"
_PER_RUN = ("steps", "warnings")  # of a result.json


Found = Mapping[str, str]


@dataclass(frozen=True)
class World:
    """All below one folder; a and b are two trees whose images differ. What commands write lies in `disk`."""

    root: Path

    @property
    def disk(self) -> Path:
        return self.root / "disk"

    @property
    def out(self) -> Path:
        return self.disk / "out"

    @property
    def cache(self) -> Path:
        return self.disk / "cache"

    @property
    def data(self) -> Path:
        return self.disk / "data"

    @property
    def project(self) -> Path:
        return self.disk / "project"

    @property
    def site(self) -> Path:
        return self.disk / "site"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def written(self) -> tuple[Path, ...]:
        """The folders that belong to the builder, or that it writes the user's files to."""
        return self.out, self.cache, self.data, self.project

    def tree(self, variant: str) -> Path:
        return self.root / f"tree-{variant}"

    def result(self, config: str = "mine") -> Path:
        return self.out / config / BOARD

    def environment(self) -> dict[str, str]:
        """What the builder's processes get besides."""
        return {
            "HOME": str(self.root / "home"),
            "XDG_DATA_HOME": str(self.data),
            "XDG_CACHE_HOME": str(self.root / "other-cache"),
            "TMPDIR": str(self.temporary),
        }


def make_world(root: Path) -> World:
    """Write one into a folder."""
    world = World(root)
    for name in ("home", "tmp", "disk"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("boards", "overlays"):
        shutil.copytree(PROJECT / name, world.project / name, symlinks=True)
    (world.project / "configs").mkdir()
    shutil.copy(PROJECT / "configs/base.toml", world.project / "configs")
    add_config(world, "mine", "")
    for variant, baud in BAUDS.items():
        make_small_tree(world.tree(variant), baud)
        _add_release(world, variant)
    return world


def _add_release(world: World, variant: str) -> None:
    """A mirror that is a folder, with the tree in it; the config released-VARIANT names it."""
    mirror = world.root / f"mirror-{variant}"
    folder = mirror / "releases/23.05.5/targets/ath79/tiny"
    folder.mkdir(parents=True)
    archive = folder / f"{_ARCHIVE}.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(world.tree(variant), _ARCHIVE)
    add_config(world, f"released-{variant}", released(str(mirror), archive))


def released(mirror: str, archive: Path) -> str:
    """What a config says that takes its tree from a mirror."""
    return f'release = "23.05.5"\ntrust = "sha256:{sha256_of(archive)}"\n[mirror]\nurls = ["{mirror}"]\n'


def add_config(world: World, name: str, text: str) -> None:
    """Write a config for the one board. text: what it says besides."""
    head = f'extends = "base"\nboards = ["{BOARD}"]\n'
    (world.project / f"configs/{name}.toml").write_text(head + text)


def content(places: Iterable[Path]) -> dict[str, str]:
    """What lies at some places and below: for each path what it is, files by their SHA-256."""
    found = {}
    for place in places:
        for path in (place, *(sorted(place.rglob("*")) if place.is_dir() else ())):
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            elif path.is_dir():
                found[str(path)] = "folder"
            elif path.exists():
                found[str(path)] = sha256_of(path)
    return found


def build_result(place: Path) -> dict[str, str]:
    """What lies in a result's folder, without what differs from one run to the next."""
    found = content([place])
    # the report tells what there was before, and so each has sums of its own, which result_faults() checks
    for name in (RESULT, BUILD_LOG, REPORT, SUMS):
        path = place / name
        if path.exists():
            found[str(path)] = _plain_result(path) if name == RESULT else _last_name(path)
    if (place / INPUTS).exists():  # times and inodes are in it
        record = read_inputs(place)
        found[str(place / INPUTS)] = record["made_of"]["lock"]["digest"] if record else "no record"
    return found


def _plain_result(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
    except ValueError:
        return "no JSON"
    rest = {name: value for name, value in facts.items() if name not in _PER_RUN}
    rest["tree"].pop("source", None)  # fetched, or from the cache
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _last_name(path: Path) -> str:
    """A file's last line, or the name that it ends with in sha256sums."""
    last = _last_line(path)
    return last.rpartition(" *")[2] if path.name == SUMS else last


def _last_line(path: Path) -> str:
    return path.read_text("utf-8", "replace").rstrip("\n").rpartition("\n")[2]


def result_faults(place: Path) -> list[str]:
    """What is wrong with a result by itself, whatever it is the result of."""
    if not place.exists():
        return []
    try:
        said = json.loads((place / "result.json").read_text())
        images = {each["file"]: each["sha256"] for each in said["images"]}
        lines = [line.split(" *") for line in (place / "sha256sums").read_text().splitlines()]
        listed = {name: sha256 for sha256, name in lines}
        names = {each.name for each in place.iterdir()} - {SUMS, SIGNATURE, INPUTS}
        really = {name: sha256_of(place / name) for name in names}
    except (OSError, ValueError, KeyError) as error:
        return [f"{place.name} is not whole: {type(error).__name__}: {error}"]
    if not images or listed != really or not images.items() <= really.items():
        return [f"{place.name}: sums differ: {images}, {listed}, {really}"]
    return record_faults(place)


def record_faults(place: Path) -> list[str]:
    """What of a folder is not as the inputs.json in it says."""
    record = read_inputs(place)
    return [f"{place}: no record"] if record is None else [f"{place}: {it}" for it in damaged(place, record)]


def cache_faults(cache: Path) -> list[str]:
    """What is in a cache under a name that promises a whole thing, and is none."""
    blobs = [blob for blob in cache.glob("blobs/??/*") if not blob.name.startswith(".")]
    faults = [str(blob) for blob in blobs if sha256_of(blob) != blob.name]
    for record in cache.glob("names/*.json"):
        try:
            json.loads(record.read_text())
        except ValueError:
            faults.append(str(record))
    trees = [tree for tree in cache.glob("trees/*") if not tree.name.startswith(".")]
    faults += [str(tree) for tree in trees if len(list(tree.rglob("*"))) != _tree_size(cache.parent.parent)]
    for kept in cache.glob("builds/*"):
        faults += [] if kept.name.startswith(".") else record_faults(kept)
    kits = [kit for kit in cache.glob("kits/*") if not kit.name.startswith(".")]
    return faults + [str(kit) for kit in kits if len(list(kit.rglob("*"))) != 7]


def _tree_size(root: Path) -> int:
    return len(list((root / "tree-a").rglob("*")))


def names(folders: Iterable[Path]) -> set[str]:
    """The paths of all that is in some folders."""
    return {str(path) for folder in folders for path in (folder, *folder.rglob("*")) if os.path.lexists(path)}


def size(folders: Iterable[Path]) -> int:
    """Bytes of all files in some folders, but for reports, which say what was there before or that nothing
    was, and for records of inputs, which say less of a tree that was changed just now."""
    paths = (path for folder in folders for path in folder.rglob("*") if path.name not in (REPORT, INPUTS))
    return sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())


def mounts(root: Path) -> list[str]:
    """What is mounted in or below a folder, or by this user's builds, as this process sees it."""
    known = (str(root), f"/tmp/openwrt-imagebuilder-view-{os.geteuid()}")
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1].startswith(known)]
