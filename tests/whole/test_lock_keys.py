"""Each key of each file, changed in turn: what reaches the image is in the lock, and the other way round.

The keys are those of the models, and the values are made from their schemas; where only the world here knows
a value that means something (a package that is there, a file), SAMPLES has it. The image is what make gets:
its command, what it reads first, the files and packages that are laid for it; and which images are taken.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from pydantic import BaseModel

from imagebuilder.choose import lay_packages
from imagebuilder.config.board import Board
from imagebuilder.config.model_config import ConfigFile, Differences
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.overlay import Overlay
from imagebuilder.config.request import Request, requests
from imagebuilder.decide import Decided, Inputs, decided, entry_of
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.model.tree import ProfileError
from imagebuilder.packages.lock import differences
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.python.catalogue.variants import source_packages
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.stage import staged
from imagebuilder.tree.make import hooks_text
from tests.conftest import SMALL_PACKAGES, make_small_tree
from tests.support.schema_keys import (
    Document,
    SchemaKey,
    another_value,
    keys_of,
    models_in,
    value_at,
    with_value,
)
from tests.support.wheel_maker import make_wheel

BOARD = "test-board"
PROFILE = "tplink_tl-wr740n-v4"
MAGIC = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
METER = b'"""What it is."""\n\ndef main():\n    assert main.__doc__ is None\n\n\ndef other():\n    pass\n'

CONFIG: Document = {
    "extends": "parent",
    "description": "a test",
    "boards": [BOARD],
    "imagebuilder": "tree",
    "mirror": {"urls": ["/nowhere"]},
    "feed": [{"name": "office", "url": "office"}],
    "python": {
        "variant": "light",
        "source": True,
        "requirements": [{"name": "bottle"}],
        "apps": [
            {
                "path": "apps/meter-1.0-py3-none-any.whl",
                "name": "app-meter",
                "service": True,
                "program": "meter",
                "user": "nobody",
                "environment": {"PORT": "80"},
                "arguments": ["--quiet"],
                "respawn_seconds": 7,
            }
        ],
        "package": [
            {
                "name": "python3-own",
                "version": "1",
                "build": False,
                "description": "own",
                "files": {"/etc/own/a": {"source": "lib/a", "mode": "0644"}, "/etc/own/b": "lib/b"},
                "filespec": ["-|/etc/own/b"],
            }
        ],
    },
    "packages": {"add": ["office-tool"], "remove": ["rssileds"]},
    "services": {"disabled": ["cron"]},
    "overlay": [{"name": "motd", "variables": {"word": "hello"}}, {"name": "late"}],
    "filespec": [{"package": "busybox", "rules": ["-|/x"]}, {"overlay": "late", "rules": ["-|/etc/late"]}],
    "image": {"extra_name": "office", "rootfs_partsize": 4},
    "budget": {"flash_free": 0},
    "trial": [{"run": "meter --check", "expect": "^ready$", "timeout": 5}],
}
PARENT: Document = {
    "services": {"disabled": ["telnet"]},
    "overlay": [{"name": "spare"}],
    "feed": [{"name": "spare", "url": "spare"}],
    "python": {
        "package": [
            {"name": "python3-spare", "version": "1", "build": False, "files": {"/etc/spare-own": "lib/a"}}
        ]
    },
}
OVERLAY: Document = {
    "name": "motd",
    "description": "words",
    "packages": ["dropbear"],
    "modes": {"/etc/motd": "0640"},
    "variables": {"text": {"type": "string", "default": "x", "description": "text"}, "word": {}},
}
BOARD_FILE: Document = {
    "name": "A board",
    "soc": "none",
    "ram": "64M",
    "flash": "8M",
    "layout": {
        "firmware": "4M",
        "kernel": "2M",
        "kernel_and_rootfs": "4M",
        "partitions": [{"name": "firmware", "offset": "128K", "size": "4M"}],
    },
    "tplink": {"hwid": 1, "hwrev": 1, "flash_layout": "4Mlzma", "header_version": 1},
    "profile": [
        {
            "releases": ">=23.05",
            "target": "ath79/tiny",
            "name": PROFILE,
            "arch": "mips_24kc",
            "supported_devices": ["a,b"],
        }
    ],
    "images": {"factory": {"format": "tplink-v1"}, "sysupgrade": {"format": "tplink-v1", "required": True}},
    "emulation": {
        "user": {"binary": "mips", "cpu": "24Kc"},
        "system": {"binary": "mips", "machine": "malta", "memory": "64M"},
    },
}
FILES: Mapping[str, tuple[type[BaseModel], Document]] = {
    "config": (ConfigFile, CONFIG),
    "board": (Board, BOARD_FILE),
    "overlay": (Overlay, OVERLAY),
}


def _more(key: str, *values: Any) -> Callable[[Document], Document]:
    """A list with more in it."""

    def change(document: Document) -> Document:
        parts = tuple(key.split("."))
        return with_value(document, parts, [*(value_at(document, parts) or []), *values])

    return change


def _no_service(document: Document) -> Document:
    """What is for services alone goes with the service."""
    app = document["python"]["apps"][0]
    return with_value(document, ("python", "apps", 0), {"path": app["path"], "name": app["name"]})


def _built(document: Document) -> Document:
    """What is packed is built already."""
    recipe = {"name": "python3-own", "source": "lib/own-1-py3-none-any.whl"}
    return with_value(document, ("python", "package", 0), recipe)


def _fewer(key: str) -> Callable[[Document], Document]:
    """A table of tables without the first."""

    def change(document: Document) -> Document:
        parts = tuple(key.split("."))
        tables = dict(value_at(document, parts))
        tables.pop(next(iter(tables)))
        return with_value(document, parts, tables)

    return change


# what means something here: a value, or what makes another document
SAMPLES: Mapping[str, Any] = {
    "config extends": ["parent", "more"],
    "config imagebuilder": "other-tree",
    "config release": "23.05.5",
    "config series": "24.10",
    "config boards": [BOARD, "twin-board"],
    "config board": {BOARD: {"image": {"extra_name": "this"}}},
    "config trust": "sha256:" + "a" * 64,
    "config mirror": {"urls": []},
    "config feed": _more("feed", {"name": "more", "url": "office"}),
    "config feed.url": "office-2",
    "config feed.remove": _more("feed", {"name": "spare", "remove": True}),
    "config python": {**CONFIG["python"], "variant": "full"},
    "config python.variant": "full",
    "config python.apps": _more("python.apps", "apps/hello.py"),
    "config python.apps.path": "apps/meter-2.0-py3-none-any.whl",
    "config python.apps.program": "other",
    "config python.apps.service": _no_service,
    "config python.requirements": ["bottle>=0"],
    "config python.requirements.name": "bottle>=0",
    "config python.pyc": "timestamp",
    "config python.apps.optimize": 2,
    "config python.apps.source": False,
    "config python.package.source": _built,
    "config python.package.build": _built,
    "config python.package.version": "2",
    "config python.package.remove": _more("python.package", {"name": "python3-spare", "remove": True}),
    "config python.package": lambda document: with_value(document, ("python", "package"), []),
    "config python.package.depends": ["python3-base"],
    "config python.package.files": {"/etc/own/c": "lib/a", "/etc/own/b": "lib/b"},
    "config python.package.files.source": "lib/b",
    "config python.package.filespec": ["-|/etc/own/a"],
    "config python.package.conffiles": ["/etc/own/a"],
    "config packages": {"add": ["office-tool"], "remove": []},
    "config packages.add": ["office-tool", "tcpdump-mini"],
    "config packages.remove": ["rssileds", "ppp"],
    "config services": {"disabled": ["cron", "log"]},
    "config services.disabled": ["cron", "log"],
    "config services.enabled": ["telnet"],
    "config overlay": _more("overlay", {"name": "plain"}),
    "config overlay.name": lambda document: with_value(document, ("overlay", 0), {"name": "plain"}),
    "config overlay.path": lambda document: with_value(
        document, ("overlay", 0), {"name": "motd", "path": "overlays/plain"}
    ),
    "config overlay.variables": {"word": "bye"},
    "config overlay.remove": _more("overlay", {"name": "spare", "remove": True}),
    "config filespec": lambda document: with_value(document, ("filespec",), document["filespec"][1:]),
    "config filespec.package": "dropbear",
    "config filespec.overlay": _more("filespec", {"overlay": "motd", "rules": ["-|/etc/motd.plain"]}),
    "config filespec.rules": ["-|/y"],
    "config image": {"extra_name": "other", "rootfs_partsize": 4},
    "config budget": {"flash_free": "64K"},
    "config trial": [],
    "config trial.run": "meter",
    "config trial.expect": "^good$",
    "board flash": "16M",
    "board layout": {"firmware": "3M"},
    "board layout.partitions": [],
    "board tplink": {"hwid": 2, "flash_layout": "8Mlzma"},
    "board profile": _more("profile", {**BOARD_FILE["profile"][0], "releases": "22.03"}),
    "board profile.releases": ">=22.03",
    "board profile.name": "tplink_tl-wr741nd-v4",
    "board profile.images": {"sysupgrade": {"format": "tplink-v1"}},
    "board profile.layout": {"firmware": "3M"},
    "board profile.emulation": {"user": {"binary": "mips", "cpu": "74Kc"}},
    "board images": _fewer("images"),
    "board images.file": "{fs}-factory",
    "board emulation": {},
    "board emulation.user": {"binary": "mips", "cpu": "74Kc"},
    "board emulation.system": {"binary": "mips", "machine": "malta", "memory": "32M"},
    "board emulation.twin": "twin-board",
    "overlay packages": ["dropbear", "tcpdump-mini"],
    "overlay modes": {"/etc/folder": "0700"},
    "overlay ignore": ["motd.plain"],
    "overlay replaces": ["/etc/motd"],
    "overlay variables": {"text": {"default": "y"}, "word": {}},
    "overlay variables.default": "y",
    "overlay variables.secret": lambda document: with_value(document, ("variables", "word", "secret"), True),
}

# what the lock tells apart although make gets the same, and why
IN_LOCK_ALONE: Mapping[str, str] = {
    "config release": "with --locked the lock's version is built in place of the release that is asked for",
    "config feed.name": "a lock takes each package from the feed that it names",
    "config python.requirements": "a lock's pins answer the requirements as they were written",
    "config python.requirements.name": "the same",
    "overlay variables.secret": "a file that is made of a secret is held by its template",
}
CHECKED = "what images are held against, or which must be there: other images would be handed over, or none"
CHECKED_KEYS = frozenset(
    {
        *("board ram", "board flash", "board layout", "board layout.firmware", "board layout.kernel"),
        *("board layout.kernel_and_rootfs", "board layout.partitions", "board layout.partitions.name"),
        *("board layout.partitions.offset", "board layout.partitions.size", "board profile.layout"),
        *("board tplink", "board tplink.hwid", "board tplink.hwrev", "board tplink.flash_layout"),
        *("board tplink.header_version", "board profile.supported_devices", "board profile.boardname"),
        *(
            "board profile.compat_version",
            "board images.format",
            "board images.required",
            "board images.limit",
        ),
        *("board images.tail", "board images.file"),
    }
)
IN_LOCK_ALONE |= dict.fromkeys(CHECKED_KEYS, CHECKED)
# what neither the image nor the lock knows, and why
WORDS = "words for people"
TRIED = "how what was built is tried"
REFUSED: Mapping[str, str] = {
    "board profile.target": "the tree is for another",
    "board profile.arch": "the tree's packages are for another",
}
BUILT = "it tells how a source is built; what comes out is a package's content, which is held"
NOT_HERE: Mapping[str, str] = {
    "board id": "the name of the file",
    "config feed.key": "it wants a signed feed: why an index is trusted, not what it has",
    "config python.shake": "it wants a genuine library to cut: see test_own_python.py",
    "config python.keep": "the same",
    "config python.trace": "the same",
    "config python.requirements.pure": "it wants a package index: see test_requirements.py",
    "config python.requirements.trim": "the same: see test_plan_trim.py",
    "config python.package.setup_dir": BUILT,
    "config python.package.setup_vars": BUILT,
    "config python.package.setup_py": BUILT,
    "config python.package.setup_global_args": BUILT,
    "config python.package.setup_args": BUILT,
    "config python.package.config_settings": BUILT,
    "config python.package.build_requires": BUILT,
}
NEITHER: Mapping[str, str] = {
    "config description": WORDS,
    "config feed": "packages show that are taken from one",
    "config feed.remove": "the same",
    "config boards": "each image has its own entry",
    "config trust": "why an archive is trusted: which one it is shows in the tree's digest",
    "config mirror": "where packages are fetched from: what they are shows in theirs",
    "config mirror.urls": "the same",
    "config mirror.keys": "why an index is trusted: what it has shows in its packages",
    "config packages.replace": "no default has a rival here; which go shows in packages: test_swaps.py",
    "config budget": "what must stay free: the plan is held to it, and no image changes with it",
    "config budget.flash_free": "the same",
    "config budget.ram_free": "the same",
    "config image.baked": "the same",
    "config trial": TRIED,
    "config trial.run": TRIED,
    "config trial.expect": TRIED,
    "config trial.timeout": TRIED,
    "board name": WORDS,
    "board soc": WORDS,
    "board profile": "the one that counts is held key by key",
    "board profile.releases": "which profile counts shows in what it says",
    "board profile.note": WORDS,
    "board profile.emulation": TRIED,
    "board emulation": TRIED,
    "board emulation.user": TRIED,
    "board emulation.user.binary": TRIED,
    "board emulation.user.cpu": TRIED,
    "board emulation.system": TRIED,
    "board emulation.system.binary": TRIED,
    "board emulation.system.machine": TRIED,
    "board emulation.system.cpu": TRIED,
    "board emulation.system.memory": TRIED,
    "board emulation.twin": TRIED,
    "overlay name": "what it brings lies in the image, and not what it is called",
    "overlay description": WORDS,
    "overlay hardware": "what --fit leaves alone, and a warning",
    "overlay conflicts": "which overlays are refused beside it",
    "overlay replaces": "which of two files wins shows in the file",
    "overlay variables.type": "which values are refused",
    "overlay variables.description": WORDS,
    "overlay variables.pattern": "which values are refused",
    "overlay variables.max_bytes": "the same",
}


@dataclass(frozen=True)
class Seen:
    """What a decision comes to. image: what make gets, and which images are taken; locked: the entry."""

    image: Mapping[str, str]
    locked: LockedBoard


@dataclass(frozen=True)
class World:
    """A project with a file of each kind that uses every key it can, and its tree. base: before a change."""

    root: Path
    base: Seen

    def changed(self, kind: str, document: Document) -> Seen:
        """With another file of one kind."""
        write(self.root, {**{name: whole for name, (_, whole) in FILES.items()}, kind: document})
        return look(self.root)


def write(root: Path, documents: Mapping[str, Document]) -> None:
    places = {
        "config": "configs/mine.toml",
        "board": f"boards/{BOARD}.toml",
        "overlay": "overlays/motd/overlay.toml",
    }
    for kind, document in documents.items():
        (root / places[kind]).write_text(tomlkit.dumps(document))


def look(root: Path) -> Seen:
    """All that make gets, laid as for a build."""
    (asked,) = requests(root, "mine", board=BOARD, cache=root / "cache")
    with decided(asked, Log()) as (inputs, found):
        laid = lay_packages(found.job, found.supply, found.plan.install, found.local)
        return Seen(dict(image(asked, inputs, found)), entry_of(inputs, found, laid.made))


def image(asked: Request, inputs: Inputs, found: Decided) -> Iterator[tuple[str, str]]:
    plan, work = found.plan, found.job.work
    yield "make", repr(plan.make)
    yield "hooks", hooks_text(plan, found.job.view.work, hermetic=True)
    yield "taken", repr(sorted(found.board.for_profile(plan.profile).images))
    write_tree(staged(inputs.loaded.config, inputs.overlays, asked.library.root).tree, work / "staged")
    folders = {"files": work / "staged", "feed": work / "feed", "tree": Path(plan.tree.folder)}
    for name, folder in folders.items():
        for parent, inner, files in os.walk(folder):
            for each in [*inner, *files]:
                place = Path(parent, each)
                content = hashlib.sha256(place.read_bytes()).hexdigest() if place.is_file() else ""
                if name != "feed" or each.endswith(".ipk"):  # make wants indexes too, made of the files
                    mode = place.lstat().st_mode
                    yield f"{name} {place.relative_to(folder)}", f"{mode:o} {content}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        # any Python will do: that of the image would have to be on this machine
        patch.setattr(
            "imagebuilder.own.making.host_interpreter",
            lambda python, _magic: Interpreter((sys.executable,), python, MAGIC),
        )
        patch.chdir(root)
        make_project(root)
        write(root, {name: whole for name, (_, whole) in FILES.items()})
        yield World(root, look(root))


def make_project(root: Path) -> None:
    make_small_tree(root / "tree")
    with (root / "tree/.config").open("a") as settings:
        settings.write("CONFIG_TARGET_ROOTFS_PARTSIZE=104\n")
    packages = root / "tree/packages"
    two = FileTree({"/x": file_of(b"x"), "/y": file_of(b"y")})
    for name in ("busybox", "dropbear"):
        write_ipk(packages, Package(name, SMALL_PACKAGES[name]), two, epoch=1)
    modules = FileTree({"/usr/lib/python3.11/own.py": file_of(b"x = 1\n")})
    write_ipk(packages, Package("python3-light", "3.11.7"), modules, epoch=1)
    more = source_packages(
        load_catalogue("23.05"),
        ("python3-base", "python3-light", "python3", "python3-pip", "python3-setuptools"),
    )
    for name in {*more, "python3-bottle", "python3-pip", "python3-setuptools"}:
        write_ipk(packages, Package(name, "3.11.7"), FileTree(), epoch=1)
    shutil.copytree(root / "tree", root / "other-tree")
    (root / "other-tree/include/more.mk").write_text("# more\n")
    for folder, version in {"office": "1", "office-2": "1", "spare": "0"}.items():
        tool = FileTree({f"/{folder}": file_of(b"")})
        write_ipk(root / folder, Package("office-tool", version), tool, epoch=1)
    for version in ("1.0", "2.0"):
        scripts = {"meter": "meter:main", "other": "meter:other"}
        make_wheel(root / "apps", "meter", version, files={"meter.py": METER}, scripts=scripts)
    (root / "apps/hello.py").write_text("print('hello')\n")
    make_wheel(root / "lib", "own", "1")
    for name in "ab":
        (root / "lib" / name).write_text(name)
    for name, text in {
        "motd": "{{ text }} {{ word }}\n",
        "late": "late\n",
        "plain": "plain\n",
        "spare": "s\n",
    }.items():
        files = root / f"overlays/{name}/files/etc"
        (files / ("folder" if name == "motd" else ".")).mkdir(parents=True)
        (files / f"{name}.j2").write_text(text)
        (files / f"{name}.plain").write_text("plain\n")
        (root / f"overlays/{name}/overlay.toml").write_text(f'name = "{name}"\n')
    for name in ("configs", "boards"):
        (root / name).mkdir()
    (root / "boards/twin-board.toml").write_text(tomlkit.dumps(BOARD_FILE))
    (root / "configs/parent.toml").write_text(tomlkit.dumps(PARENT))
    (root / "configs/more.toml").write_text('[packages]\nadd = ["tcpdump-mini"]\n')


def keys() -> Iterator[Any]:
    for kind, (model, document) in FILES.items():
        for key in keys_of(model, document):
            name = f"{kind} {key.name}"
            if name not in NOT_HERE:
                yield pytest.param(kind, key, id=name)


def changed(kind: str, key: SchemaKey) -> Document:
    """The file of a kind with another value of one key."""
    document = FILES[kind][1]
    sample = SAMPLES.get(f"{kind} {key.name}")
    if callable(sample):
        return sample(document)  # type: ignore[no-any-return]
    value = sample if sample is not None else another_value(key.field, value_at(document, key.place))
    return with_value(document, key.place, value)


@pytest.mark.parametrize(("kind", "key"), list(keys()))
def test_a_key_is_in_the_lock_as_it_is_in_the_image(world: World, kind: str, key: SchemaKey) -> None:
    name = f"{kind} {key.name}"
    if name in REFUSED:
        with pytest.raises(ProfileError):
            world.changed(kind, changed(kind, key))
        return
    seen = world.changed(kind, changed(kind, key))
    lines = differences(world.base.locked, seen.locked)
    in_image = {
        part for part in seen.image | world.base.image if seen.image.get(part) != world.base.image.get(part)
    }
    if in_image or name in CHECKED_KEYS:
        assert seen.locked.digest != world.base.locked.digest
    if not lines:
        assert seen.locked.digest == world.base.locked.digest
    if in_image:
        assert lines, f"the lock does not tell {sorted(in_image)[:3]}"
        assert name not in (*IN_LOCK_ALONE, *NEITHER)
    elif lines:
        assert name in IN_LOCK_ALONE, lines
    else:
        assert name in NEITHER


def test_no_key_and_no_reason_is_forgotten() -> None:
    """Each key of each model is tried, or stands below one that is tried as a whole and has the same keys."""
    listed = [(kind, key) for kind, (model, file) in FILES.items() for key in keys_of(model, file)]
    tried = {f"{kind} {key.name}" for kind, key in listed}
    known = {(key.owner, name) for _, key in listed for name in key.owner.model_fields}
    there = {
        (inner, name)
        for model, _ in FILES.values()
        for inner in models_in(model)
        for name in inner.model_fields
    }
    # a secret stands in place of a value, and what it is called is told by the lock's own tests
    assert {(model.__name__, name) for model, name in there - known} == {
        ("Secret", "secret"),
        *(("Differences", name) for name in Differences.model_fields),
    }
    for reasons in (SAMPLES, IN_LOCK_ALONE, NEITHER, REFUSED, NOT_HERE):
        assert [name for name in reasons if name not in tried] == []
