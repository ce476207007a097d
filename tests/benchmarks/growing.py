"""What of `bench` grows with its work: seconds of one go with so much of it, in an empty folder.

At 1,000 it is what the project promises something of: 10,000 packages that feeds list, 5,000 files of
overlays, a whole standard library, 1,000 boards.
"""

from __future__ import annotations

import random
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from imagebuilder.build import image_of_config
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Trial
from imagebuilder.config.overlay import load_overlays
from imagebuilder.config.request import requests
from imagebuilder.errors import HostError
from imagebuilder.host.fs import user_cache
from imagebuilder.kit.prepare import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Wish
from imagebuilder.packages.apk.resolve import resolve as apk_resolve
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.opkg.resolve import resolve as opkg_resolve
from imagebuilder.packages.universe import Universe
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.bytecode.bytecode import is_source
from imagebuilder.python.bytecode.interpreter import choose_interpreter, sandboxed
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import Entry, FileTree, file_at, file_of
from imagebuilder.stage import check_overlays, staged
from imagebuilder.trial.image import opened_root
from imagebuilder.trial.module_check import Owners
from imagebuilder.trial.session import BootAsked, boot_session
from imagebuilder.trial.trial import TrialAsked, try_root
from tests.benchmarks import fleet_scale, index_speed, plan_speed, publish_scale
from tests.benchmarks.index_text import index_text
from tests.benchmarks.resolve_scale import fan_in

PROJECT = Path(__file__).resolve().parents[2]
KIT_BOARD = "qemu-x86-64"
DEMO = "demo"
EPOCH = 1_700_000_000
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
FILES_PER_UNIT = 5
NOT_SHIPPED = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests"})


@dataclass(frozen=True)
class Given:
    """The ImageBuilder and the board that benchmarks are to take; those of the embedded kit where nobody
    named one."""

    imagebuilder: Path | None = None
    device: str | None = None

    @cached_property
    def tree(self) -> Path:
        """Its folder; the kit is made where it is not there yet."""
        return self.imagebuilder or prepare_kit(EDITIONS["embedded"], user_cache(), Log())

    @property
    def board(self) -> str:
        """The board's name."""
        return self.device or (KIT_BOARD if self.imagebuilder is None else plan_speed.BOARD)


def seconds(action: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def index(work: int, _folder: Path, _given: Given) -> float:
    """Parse a list of 10 packages each."""
    text = index_text(10 * work)
    return index_speed._once(lambda: parse_index(text))[0]


def resolve_opkg(work: int, _folder: Path, _given: Given) -> float:
    """Resolve 10 packages each that go into one image."""
    universe = Universe(fan_in(10 * work + 2))
    return seconds(lambda: opkg_resolve(Wish.of(["p0"]), universe))


def resolve_apk(work: int, _folder: Path, _given: Given) -> float:
    """As resolve_opkg(), by apk's rules."""
    universe = Universe(fan_in(10 * work + 2))
    return seconds(lambda: apk_resolve(Wish.of(["p0"]), universe))


def plan(work: int, folder: Path, given: Given) -> float:
    """Plan a whole config and its budgets on a tree whose feeds list 10 packages each besides its own."""
    tree, _ = plan_speed.copied(given.tree, folder, plan_speed.listed(given.tree) + 10 * work)
    cache = folder / "cache"
    plan_speed.planned(tree, cache, "base", given.board)  # the tree's own packages are read once
    plan_speed.forget_indexes(cache)
    return plan_speed.planned(tree, cache, "base", given.board)


def stage(work: int, folder: Path, _given: Given) -> float:
    """Stage 5 files each, as a build does: rendered, combined, checked, written for make."""
    for name in ("boards", "configs", "overlays/mine/files/etc/init.d"):
        (folder / name).mkdir(parents=True)
    overlay, etc = folder / "overlays/mine", folder / "overlays/mine/files/etc"
    (overlay / "overlay.toml").write_text(
        'name = "mine"\n[variables.greeting]\ntype = "string"\ndefault = "hello"\ndescription = "said"\n'
    )
    service = "#!/bin/sh /etc/rc.common\nSTART=90\nstart() {\n\t:\n}\n"
    for number in range(work):
        (etc / f"init.d/s{number}").write_text(service)
        (etc / f"init.d/s{number}").chmod(0o755)
        (etc / f"{number}.conf.j2").write_text(f"{number} {{{{ greeting }}}}\n" * 20)
        (etc / f"{number}.json").write_text(f'{{"number": {number}}}\n' * 20)
        (etc / f"{number}.py").write_text(f"import sys\n\nprint({number}, file=sys.stderr)\n")
        (etc / f"{number}.bin").write_bytes(number.to_bytes(4, "big") * 1000)
    (folder / "configs/mine.toml").write_text('extends = "base"\n[[overlay]]\nname = "mine"\n')
    library = Library(folder)

    def laid() -> None:
        config = load_config(library, "mine").config
        overlays = load_overlays(library, config)
        found = staged(config, overlays, folder)
        list(check_overlays(found, overlays, (), {}))
        write_tree(found.tree, folder / "written")

    took = seconds(laid)
    written = sum(path.is_file() for path in (folder / "written").rglob("*"))
    assert written == FILES_PER_UNIT * work, written
    return took


def standard_library() -> dict[str, Entry]:
    """The sources of this Python's standard library by the paths that a device has, in an order by chance
    that is always the same; without its tests, which no image has. HostError where it has none."""
    root = Path(sysconfig.get_path("stdlib"))
    found = sorted(
        path for path in root.rglob("*.py") if NOT_SHIPPED.isdisjoint(path.relative_to(root).parts)
    )
    if not found:
        raise HostError(f"this Python has no sources of its standard library in {root}")
    random.Random(1).shuffle(found)
    return {f"/usr/lib/python{VERSION}/{path.relative_to(root)}": file_at(path) for path in found}


def compile_library(work: int, folder: Path, _given: Given) -> float:
    """Compile a thousandth of a standard library each as packages are shipped, shut in as it is there."""
    sources = list(standard_library().items())
    tree = FileTree(sources[: -(-len(sources) * work // 1000)])
    magic = int.from_bytes(MAGIC_NUMBER[:2], "little")
    shut_in = sandboxed(choose_interpreter(VERSION, magic, programs=(sys.executable,)), folder)
    compiler = Compiler(shut_in, folder, EPOCH, VERSION, Log())
    shipped: list[FileTree] = []
    took = seconds(lambda: shipped.append(compiler.ship("python3", tree, "bytecode", 0)))
    compiled = sum(path.endswith(".pyc") for path in shipped[0])
    assert compiled == sum(is_source(path, entry) for path, entry in tree.items()), compiled
    return took


def demo_image(folder: Path) -> Path:
    """The demo's image, from the cache where that has it."""
    (asked,) = requests(PROJECT, DEMO, board=KIT_BOARD, output=folder / "out", cache=user_cache())
    return image_of_config(replace(asked, trial=False), Log()).image


def trial(work: int, folder: Path, _given: Given) -> float:
    """Try the demo's root file system with so many modules more than it has."""
    board = Library(PROJECT).board(KIT_BOARD)
    text = (PROJECT / "imagebuilder/errors.py").read_bytes()
    with opened_root(demo_image(folder)) as root:
        (library,) = (root.folder / "usr/lib").glob("python3.*")
        version = library.name.removeprefix("python")
        magic = version_facts(version).magic_number
        compiler = Compiler(
            choose_interpreter(version, magic, root=root.folder), folder / "pyc", EPOCH, version, Log()
        )
        sources = {f"/usr/lib/{library.name}/bench_{number}.py": file_of(text) for number in range(work)}
        write_tree(compiler.ship("bench", FileTree(sources), "bytecode", 0), root.folder)
        asked = TrialAsked(owners=Owners(root.facts.owners), versions=root.facts.packages)
        began = time.perf_counter()
        found = try_root(root.folder, board, asked, folder / "work", Log())
        took = time.perf_counter() - began
    # a trial that did not run is no trial
    assert not found.report.why, found.report.why
    assert found.bytecode is not None
    assert not found.report.failed, found.report.failed
    return took


def boot(work: int, folder: Path, _given: Given) -> float:
    """Boot the demo's image, run so many commands of a config in it, and shut it down."""
    trials = tuple(Trial(run=f"echo {number}", expect=str(number)) for number in range(work))
    image = demo_image(folder)
    began = time.perf_counter()
    report = boot_session(BootAsked(image, trials=trials), Log())
    took = time.perf_counter() - began
    assert not report.failed, report.failed
    return took


def schedule(work: int, folder: Path, _given: Given) -> float:
    """Schedule boards whose steps are asleep."""
    for name in ("boards", "configs"):
        (folder / name).mkdir()
    for number in range(work):
        text = f'extends = "base"\nrelease = "embedded"\nboards = ["{fleet_scale.BOARD}"]\n'
        (folder / f"configs/c{number}.toml").write_text(text)
    return fleet_scale.measure(folder, work, 8).seconds


def publish(work: int, folder: Path, _given: Given) -> float:
    """Publish the first night of so many boards."""
    return publish_scale.measure(work, 2, folder)["first"]
