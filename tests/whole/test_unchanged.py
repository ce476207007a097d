"""What is unchanged is not built again, what changed is, and it is said what that was: each kind of input in
turn."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from imagebuilder import build, made_of, stamped
from imagebuilder.ask import lock_image
from imagebuilder.build import bring_up_to_date, build_image
from imagebuilder.config.lock import write_lock
from imagebuilder.config.overlay import DECLARATION
from imagebuilder.config.places import INPUTS
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.host import stamps
from imagebuilder.host.kept_builds import KeptBuilds
from imagebuilder.keep import Current
from imagebuilder.log import Event, Log, Note, Warned
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.report.files import SIGNATURE
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.tree.collect import BuildError
from imagebuilder.trust.signing_key import user_pair
from imagebuilder.unchanged import Options, all_up_to_date, asked_for, read_inputs, standing
from tests.conftest import PROJECT, make_small_tree, small_images
from tests.support.wheel_maker import make_wheel

BOARD = "tplink-tl-wr740n-v4"
SECRET = "correct-horse-battery-staple"
CONFIG = f"""\
extends = "parent"
boards = ["{BOARD}"]

[packages]
add = ["tcpdump-mini", "extra", "python3-base"]

[python]
variant = "light"

[[python.apps]]
path = "apps/hello.py"
source = "only"

[[python.apps]]
path = "apps/meter-1.0-py3-none-any.whl"
source = "only"

[[python.package]]
name = "python3-notes"
build = false
version = "1"
files = {{ "/etc/notes" = "notes/notes.txt" }}

[[feed]]
name = "office"
url = "office"

[[overlay]]
name = "mine"
variables = {{ greeting = "hello", key = {{ secret = "GREETING_KEY" }} }}
"""
OVERLAY = """\
[variables.greeting]
[variables.key]
secret = true
[variables.zone]
type = "zone"
default = "Europe/Lisbon"
"""


@dataclass
class World:
    """A project with something of everything, a tree, and what is built with them."""

    root: Path
    patch: pytest.MonkeyPatch
    options: dict[str, object] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    def request(self, output: str = "out") -> Request:
        (asked,) = requests(
            self.project,
            "mine",
            imagebuilder=str(self.tree),
            output=self.root / output,
            cache=self.root / "cache",
        )
        return replace(asked, **self.options)  # type: ignore[arg-type]

    def build(self, output: str = "out") -> Current:
        return bring_up_to_date(self.request(output), Log().also(self._hear))

    def is_up_to_date(self) -> bool:
        return standing(asked_for(self.request())).up_to_date

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))

    def _hear(self, event: Event) -> None:
        if isinstance(event, Note | Warned):
            self.said.append(event.text)


def _lay_programs(folder: Path, version: str) -> None:
    """A make of another version: it calls the one that is here."""
    folder.mkdir(exist_ok=True)
    (folder / "make").write_text(f'#!/bin/sh\n# {version}\nexec {shutil.which("make")} "$@"\n')
    (folder / "make").chmod(0o755)


def lay_tree(tree: Path) -> None:
    """The small tree, whose manifest has what comes from the feed that is laid for it, too."""
    make_small_tree(tree)
    (tree / "scripts").mkdir()
    (tree / "scripts/some.sh").write_text("exit 0\n")
    makefile = tree / "Makefile"
    listed = "ls packages/$${name}_*.ipk | cut -d_ -f2"
    feed = "$$(sed -n 's/^src hermetic file://p' repositories.conf)"
    both = f"ls {listed.split()[1]} {feed}/$${{name}}_*.ipk 2>/dev/null | head -n 1 | cut -d_ -f2"
    text = makefile.read_text()
    assert listed in text
    makefile.write_text(text.replace(listed, both))


def lay_project(project: Path) -> None:
    for name in ("boards", "configs", "overlays"):
        (project / name).mkdir(parents=True)
    shutil.copy(PROJECT / f"boards/{BOARD}.toml", project / "boards")
    (project / "configs/parent.toml").write_text('[services]\ndisabled = []\n[image]\nextra_name = "one"\n')
    (project / "configs/mine.toml").write_text(CONFIG)
    files = project / "overlays/mine/files/etc"
    files.mkdir(parents=True)
    (project / "overlays/mine/overlay.toml").write_text(OVERLAY)
    (files / "plain").write_text("plain\n")
    (files / "greeting.j2").write_text("{{ greeting }}\n{{ zone | posix_rule }}\n")
    (files / "key.j2").write_text("{{ key }}\n")
    (project / "apps").mkdir()
    (project / "apps/hello.py").write_text("print('hello')\n")
    make_wheel(project / "apps", "meter", files={"meter.py": b"ANSWER = 42\n"})
    (project / "notes").mkdir()
    (project / "notes/notes.txt").write_text("one\n")
    (project / "secrets.toml").write_text(f'GREETING_KEY = "{SECRET}"\n')
    write_ipk(project / "office", Package("extra", "1"), FileTree({"/etc/extra": file_of(b"1")}), epoch=1)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # else all that a test has just written would have to be looked at by its content
    monkeypatch.setattr(stamps, "SETTLED_NS", 0)
    lay_project(tmp_path / "project")
    lay_tree(tmp_path / "tree")
    program = tmp_path / "program"
    program.mkdir()
    (program / "code.py").write_text("VERSION = 1\n")
    monkeypatch.setattr(made_of, "PACKAGE", program)
    monkeypatch.setattr(stamped, "PACKAGE", program)
    _lay_programs(tmp_path / "programs", "4.3")
    for module in (made_of, stamped):
        monkeypatch.setattr(module, "CLEAN_PATH", f"{tmp_path}/programs:{module.CLEAN_PATH}")
    return World(tmp_path, monkeypatch)


def images_of(current: Current) -> dict[str, str]:
    return {
        image.file: hashlib.sha256((current.place / image.file).read_bytes()).hexdigest()
        for image in current.result.images
    }


@dataclass(frozen=True)
class Change:
    """A change of one input. why: what the reason for building again matches; "" where nothing is built."""

    name: str
    make: Callable[[World], object]
    why: str


def _edit(name: str, old: str, new: str) -> Callable[[World], object]:
    return lambda world: world.edit(name, old, new)


def _write(name: str, text: str) -> Callable[[World], object]:
    return lambda world: (world.root / name).write_text(text)


def _options(**options: object) -> Callable[[World], object]:
    return lambda world: world.options.update(options)


def _newer(world: World) -> None:
    content = FileTree({"/etc/extra": file_of(b"2")})
    write_ipk(world.project / "office", Package("extra", "2"), content, epoch=1)


def _another_package(world: World) -> None:
    content = FileTree({"/bin/tcpdump": file_of(b"another")})
    write_ipk(world.tree / "packages", Package("tcpdump-mini", "4.99"), content, epoch=1)


def _another_version(world: World) -> None:
    world.patch.setattr(made_of, "__version__", "0.2.0")
    (world.root / "program/code.py").write_text("VERSION = 2\n")


def _other_wheel(world: World) -> None:
    make_wheel(world.project / "apps", "meter", files={"meter.py": b"ANSWER = 43\n"})


def _mode(world: World) -> None:
    (world.project / "overlays/mine/files/etc/plain").chmod(0o755)


TREE = "the tree is another one"
OVERLAYS = "project/overlays/mine/files/etc"
CHANGES = [
    Change("a config's value", _edit("project/configs/mine.toml", '"tcpdump-mini", ', ""), "tcpdump-mini"),
    Change("what it extends", _edit("project/configs/parent.toml", '"one"', '"two"'), "EXTRA_IMAGE_NAME"),
    Change("the board", _edit(f"project/boards/{BOARD}.toml", '"32M"', '"64M"'), "the board's ram changed"),
    Change("how it is tried", _edit(f"project/boards/{BOARD}.toml", "24Kc", "34Kc"), "the board's emulation"),
    Change("a file of an overlay", _write(f"{OVERLAYS}/plain", "other\n"), "overlay 'mine': /etc/plain"),
    Change("a new file of an overlay", _write(f"{OVERLAYS}/more", "x\n"), "overlay 'mine': /etc/more is new"),
    Change("its mode", _mode, "overlay 'mine': /etc/plain changed"),
    Change("a template", _write(f"{OVERLAYS}/greeting.j2", "{{ greeting }}!\n"), "/etc/greeting changed"),
    Change("a variable", _edit("project/configs/mine.toml", '"hello"', '"hi"'), "/etc/greeting changed"),
    Change(
        "a default", _edit("project/overlays/mine/overlay.toml", "Lisbon", "Berlin"), "/etc/greeting changed"
    ),
    Change("a secret", _edit("project/secrets.toml", "horse", "camel"), "secrets changed: /etc/key"),
    Change(
        "a secret of the environment",
        lambda world: world.patch.setenv("GREETING_KEY", "another"),
        "secrets changed: /etc/key",
    ),
    Change("an app", _write("project/apps/hello.py", "print('hi')\n"), "app-hello"),
    Change("a wheel", _other_wheel, "app-meter"),
    Change("a file of a recipe", _write("project/notes/notes.txt", "two\n"), "python3-notes"),
    Change("a feed", _newer, "package extra: 1 -> 2"),
    Change("a package of the tree", _another_package, "package tcpdump-mini 4.99 is another build"),
    Change("the tree's Makefile", _edit("tree/Makefile", "Building", "Making"), TREE),
    Change("a script of the tree", _write("tree/scripts/some.sh", "exit 0 \n"), TREE),
    Change(
        "the tree's settings", _edit("tree/.config", "CONFIG_VERSION_D", "CONFIG_M=y\nCONFIG_VERSION_D"), TREE
    ),
    Change("the program", _write("program/code.py", "VERSION = 2\n"), "imagebuilder was changed"),
    Change("the program's version", _another_version, "imagebuilder is 0.2.0 now"),
    Change("make", lambda world: _lay_programs(world.root / "programs", "4.4.1"), "this machine's make"),
    Change("no sandbox", _options(sandbox=False), "with --no-sandbox now"),
    Change("what nobody can check", _options(accept_unchecked=True), "with --accept-unchecked now"),
    Change(
        "a budget",
        _edit("project/configs/parent.toml", "[services]", '[budget]\nram_free = "1K"\n[services]'),
        "the config's budget changed",
    ),
    Change("the time", lambda world: world.patch.setenv("SOURCE_DATE_EPOCH", "1"), ""),
    Change("words for people", _edit("project/configs/mine.toml", "boards", 'description = "x"\nboards'), ""),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_what_changed_is_built_again_and_said(world: World, change: Change) -> None:
    first = world.build()
    assert (first.state, first.rebuilt) == ("built", ())
    assert world.is_up_to_date()
    change.make(world)
    if change.why:
        assert not world.is_up_to_date()
    current = world.build()
    if not change.why:
        assert (current.state, current.rebuilt) == ("up to date", ())
        return
    assert current.state == "built"
    assert [line for line in current.rebuilt if re.search(change.why, line)], current.rebuilt
    assert f"rebuilt because {current.rebuilt[0]}" in world.said
    assert SECRET not in " ".join(current.rebuilt)
    fresh_place, fresh = build_image(world.request("fresh"), Log())
    assert images_of(current) == images_of(Current(fresh_place, fresh, "built"))
    assert world.is_up_to_date()
    assert world.build().state == "up to date"


def test_what_was_touched_is_not_built_again(world: World) -> None:
    """Times and inodes alone: after a fresh checkout everything has others."""
    world.build()
    before = sorted((world.root / "out").rglob("*.bin"))
    times = [path.stat().st_mtime_ns for path in before]
    for folder in (world.project, world.tree, world.root / "program"):
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy, symlinks=True, copy_function=shutil.copy)
        shutil.rmtree(folder)
        copy.rename(folder)
    assert world.build().state == "up to date"
    assert world.is_up_to_date()
    assert [path.stat().st_mtime_ns for path in before] == times


def test_a_result_that_is_gone_is_taken_from_the_cache_bit_by_bit(world: World) -> None:
    first = world.build()
    images, modes = images_of(first), {path.name: path.stat().st_mode for path in first.place.iterdir()}
    shutil.rmtree(world.root / "out")
    again = world.build()
    assert (again.state, again.rebuilt) == ("from the cache", ())
    assert images_of(again) == images
    assert {path.name: path.stat().st_mode for path in again.place.iterdir()} == modes
    assert world.is_up_to_date()
    assert again.result == first.result


def test_another_project_with_the_same_takes_it_from_the_cache_and_says_its_own_tree(world: World) -> None:
    world.build()
    for name in ("project", "tree"):
        (world.root / name).rename(world.root / f"other-{name}")
    (asked,) = requests(
        world.root / "other-project",
        "mine",
        imagebuilder=str(world.root / "other-tree"),
        output=world.root / "other-out",
        cache=world.root / "cache",
    )
    current = bring_up_to_date(asked, Log())
    assert current.state == "from the cache"
    assert current.result.tree.source == "other-tree"
    assert (current.place / "result.json").read_text() == current.result.model_dump_json(indent=2) + "\n"
    assert standing(asked_for(asked)).up_to_date


def test_what_somebody_did_to_a_result_is_seen_and_put_right(world: World) -> None:
    first = world.build()
    image = first.place / first.result.images[0].file
    good = image.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1], None):
        image.unlink()
        if bad is not None:
            image.write_bytes(bad)
        assert not world.is_up_to_date()
        again = world.build()
        word = "gone" if bad is None else "not what was handed over"
        assert again.state == "from the cache"
        assert re.search(word, again.rebuilt[0])
        assert image.read_bytes() == good


def test_what_is_written_into_a_result_does_not_reach_the_cache(world: World) -> None:
    first = world.build()
    (image,) = (each for each in first.result.images if each.type == "factory")
    with (first.place / image.file).open("r+b") as stream:
        stream.write(b"bad")
    assert world.build().state == "from the cache"


def _record_without_files(kept: Path) -> None:
    record = json.loads((kept / INPUTS).read_text())
    (kept / INPUTS).write_text(json.dumps({name: record[name] for name in record if name != "files"}))


def _a_link(kept: Path) -> None:
    (kept / "manifest").rename(kept.parent / "elsewhere")
    (kept / "manifest").symlink_to(kept.parent / "elsewhere")


def _no_folder(kept: Path) -> None:
    shutil.rmtree(kept)
    kept.write_text("")


ODD = {
    "a folder": lambda kept: (kept / "sub").mkdir(),
    "a file more": lambda kept: (kept / "more.bin").write_bytes(b"x"),
    "a link": _a_link,
    "a pipe": lambda kept: os.mkfifo(kept / "pipe"),
    "a record without files": _record_without_files,
    "a file in its place": _no_folder,
}


@pytest.mark.parametrize("odd", ODD)
def test_what_does_not_belong_into_a_kept_result_is_not_handed_over(world: World, odd: str) -> None:
    first = world.build()
    names = sorted(path.name for path in first.place.iterdir())
    record = read_inputs(first.place)
    assert record is not None
    kept = KeptBuilds(world.root / "cache").place(record["key"])
    ODD[odd](kept)
    shutil.rmtree(world.root / "out")
    again = world.build()
    assert again.state == "built"
    assert images_of(again) == images_of(first)
    assert sorted(path.name for path in again.place.iterdir()) == names
    assert any("a result in the cache was damaged and is removed" in line for line in world.said)
    shutil.rmtree(world.root / "out")
    assert world.build().state == "from the cache"


@pytest.mark.parametrize("damage", ["an image", "the record", "the result", "a part"])
def test_a_damaged_result_in_the_cache_is_said_removed_and_built_anew(world: World, damage: str) -> None:
    first = world.build()
    record = read_inputs(first.place)
    assert record is not None
    kept = KeptBuilds(world.root / "cache").place(record["key"])
    image = kept / first.result.images[0].file
    if damage == "an image":
        image.write_bytes(image.read_bytes()[:-1] + b"?")
    elif damage == "the record":
        (kept / INPUTS).write_text("{}")
    elif damage == "the result":
        (kept / "result.json").write_text("{")
    else:
        image.unlink()
    shutil.rmtree(world.root / "out")
    again = world.build()
    assert again.state == "built"
    assert images_of(again) == images_of(first)
    assert any("a result in the cache was damaged and is removed" in line for line in world.said)
    shutil.rmtree(world.root / "out")
    assert world.build().state == "from the cache"


def test_secrets_are_kept_for_nobody_else(world: World) -> None:
    """They are in the images: the record has keyed digests, and the kept copy is this user's alone."""
    first = world.build()
    record = read_inputs(first.place)
    assert record is not None
    kept = KeptBuilds(world.root / "cache").place(record["key"])
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}
    assert (world.root / "cache" / stamps.KEY_FILE).stat().st_mode & 0o777 == 0o600
    text = (first.place / INPUTS).read_text()
    rendered = (world.project / "overlays/mine/files/etc/key.j2").read_text().replace("{{ key }}", SECRET)
    for known in (SECRET, f"{SECRET}\n", rendered, (world.project / "secrets.toml").read_text()):
        assert known not in text
        assert hashlib.sha256(known.encode()).hexdigest() not in text
    world.edit("project/configs/mine.toml", ', key = { secret = "GREETING_KEY" }', ', key = "in-clear"')
    world.build()
    text = (first.place / INPUTS).read_text()
    assert "in-clear" not in text
    assert hashlib.sha256(b"in-clear\n").hexdigest() not in text


def test_a_secret_that_a_command_says_is_asked_for_each_time(world: World) -> None:
    said = world.root / "said"
    said.write_text("one-secret\n")
    (world.project / "secrets.toml").write_text(f'GREETING_KEY = {{ command = ["cat", "{said}"] }}\n')
    world.build()
    assert standing(asked_for(world.request())).why == "a command says the secret GREETING_KEY"
    assert world.build().state == "up to date"
    said.write_text("another-secret\n")
    assert any("secrets changed" in line for line in world.build().rebuilt)


def test_where_the_project_has_a_file_now_that_came_along(world: World) -> None:
    (world.project / f"boards/{BOARD}.toml").unlink()
    world.build()
    assert world.is_up_to_date()
    text = (PROJECT / f"boards/{BOARD}.toml").read_text()
    (world.project / f"boards/{BOARD}.toml").write_text(text.replace('"32M"', '"64M"'))
    assert not world.is_up_to_date()
    assert "the board's ram changed" in world.build().rebuilt


def test_a_lock_decides_what_is_up_to_date(world: World) -> None:
    request = world.request()
    write_lock(request.library, "mine", {BOARD: lock_image(request, Log())})
    world.options["locked"] = True
    world.build()
    assert world.is_up_to_date()
    _newer(world)
    assert world.build().state == "up to date"
    world.options["locked"] = False
    assert not world.is_up_to_date()
    assert "package extra: 1 -> 2" in world.build().rebuilt
    write_lock(request.library, "mine", {BOARD: lock_image(world.request(), Log())})
    world.options["locked"] = True
    assert world.build().state == "up to date"


def test_a_locked_wheel_without_a_folder_before_its_name_is_looked_at(world: World) -> None:
    for version in (b"1", b"2"):
        make_wheel(world.root / version.decode(), "gauge", files={"gauge.py": b"X = " + version + b"\n"})
    wheel = next((world.root / "1").iterdir())
    shutil.copy(wheel, world.project)
    require = f'[python]\nrequirements = ["{wheel.name}"]\n'
    world.edit("project/configs/mine.toml", "[python]\n", require)
    _lock_and_build(world)
    shutil.copy(world.root / "2" / wheel.name, world.project)
    _is_another_than_locked(world)


@pytest.mark.parametrize("option", ["-r", "-c"])
@pytest.mark.parametrize("nested", [False, True], ids=["named", "nested"])
def test_what_an_app_s_requirements_name_outside_of_it_is_looked_at(
    world: World, option: str, *, nested: bool
) -> None:
    app = world.project / "apps/asks"
    app.mkdir()
    (app / "__main__.py").write_text("print(1)\n")
    (app / "requirements.txt").write_text("-r more.txt\n" if nested else f"{option} ../../more.txt\n")
    (app / "more.txt").write_text(f"{option} ../../more.txt\n")
    more = world.project / "more.txt"
    more.write_text("# nothing\n")
    use = '[[python.apps]]\npath = "apps/asks"\nsource = "only"\n\n[[python.package]]'
    world.edit("project/configs/mine.toml", "[[python.package]]", use)
    _lock_and_build(world)
    more.write_text("no requirement!\n")
    _is_another_than_locked(world)


def _lock_and_build(world: World) -> None:
    request = world.request()
    write_lock(request.library, "mine", {BOARD: lock_image(request, Log())})
    world.options["locked"] = True
    assert world.build().state == "built"
    assert world.build().state == "up to date"


def _is_another_than_locked(world: World) -> None:
    assert not world.is_up_to_date()
    with pytest.raises(UserError):
        world.build()


def _move_out(world: World, name: str) -> Path:
    """Put a link in the place of something of the tree."""
    place, real = world.tree / name, world.root / "elsewhere" / Path(name).name
    real.parent.mkdir(exist_ok=True)
    shutil.move(place, real)
    place.symlink_to(real)
    return real


BEHIND = "what links in the tree lead to is not what it was"


@pytest.mark.parametrize("name", ["Makefile", "sysupgrade.bin", ".config", "scripts", "scripts/some.sh"])
def test_what_links_in_a_tree_lead_to_counts(world: World, name: str) -> None:
    real = _move_out(world, name)
    world.options["sandbox"] = False
    world.build()
    assert world.is_up_to_date()
    changed = real / "some.sh" if real.is_dir() else real
    old = changed.read_bytes()
    changed.write_bytes(small_images(9600)[name] if name.endswith(".bin") else old + b"\n#\n")
    assert not world.is_up_to_date()
    current = world.build()
    assert (current.state, BEHIND in current.rebuilt) == ("built", True)
    changed.write_bytes(old)
    assert not world.is_up_to_date()
    assert world.build().state == "from the cache"
    assert world.is_up_to_date()


def test_a_tree_s_packages_behind_links_count(world: World) -> None:
    packages = _move_out(world, "packages")
    inner = _link_out(world, packages, "tcpdump-mini")
    world.options["sandbox"] = False
    world.build()
    assert world.is_up_to_date()
    content = FileTree({"/bin/tcpdump": file_of(b"another")})
    _write_over(inner, Package("tcpdump-mini", "4.99"), content)
    assert not world.is_up_to_date()
    assert "package tcpdump-mini 4.99 is another build of the same version" in world.build().rebuilt


def test_a_feed_s_packages_behind_links_count(world: World) -> None:
    real = _link_out(world, world.project / "office", "extra")
    world.build()
    assert world.is_up_to_date()
    _write_over(real, Package("extra", "1"), FileTree({"/etc/extra": file_of(b"2")}))
    assert not world.is_up_to_date()
    assert "package extra 1 is another build of the same version" in world.build().rebuilt


def test_the_mode_of_an_overlay_s_folder_counts(world: World) -> None:
    """It says whether files that are closed to others here are closed on the device."""
    world.build()
    files = world.project / "overlays/mine/files"
    (files / "etc/plain").chmod(0o600)
    world.build()
    assert world.is_up_to_date()
    files.chmod(0o700)
    assert not world.is_up_to_date()
    assert any("overlay" in line for line in world.build().rebuilt)
    assert world.is_up_to_date()


def test_keys_behind_links_are_asked_for_again(world: World) -> None:
    world.edit("project/configs/parent.toml", "[image]", '[mirror]\nkeys = "keys"\n[image]')
    (world.project / "keys").mkdir()
    outside = world.root / "some.pub"
    pair = user_pair(world.root / "pair")
    outside.write_bytes(pair.public())
    (world.project / "keys/some.pub").symlink_to(outside)
    world.build()
    assert world.is_up_to_date()
    outside.write_text("no key\n")
    assert not world.is_up_to_date()


def test_keys_of_the_user_s_home_are_those_that_are_read(world: World) -> None:
    home = world.root / "home"
    (home / "keys").mkdir(parents=True)
    (home / "feed.pub").write_bytes(user_pair(world.root / "pair").public_file())
    world.patch.setenv("HOME", str(home))
    world.edit("project/configs/parent.toml", "[image]", '[mirror]\nkeys = "~/keys"\n[image]')
    world.build()
    assert world.is_up_to_date()
    (home / "keys/bad.pub").write_text("no key\n")
    assert not world.is_up_to_date()
    (home / "keys/bad.pub").unlink()
    world.edit("project/configs/mine.toml", 'url = "office"', 'url = "office"\nkey = "~/feed.pub"')
    with pytest.raises(UserError, match=r"office/Packages"):  # which has to be signed, once the key is read
        world.build()


@pytest.mark.parametrize("inner", ["", "inner"])
def test_a_feed_s_folder_leads_through_links(world: World, inner: str) -> None:
    """The same file names, times and sizes: only where the link leads differs."""
    for name in ("one", "two"):
        folder = world.root / name / inner
        write_ipk(folder, Package("extra", "1"), FileTree({"/etc/extra": file_of(name.encode())}), epoch=1)
    shutil.rmtree(world.project / "office")
    link = world.project / "office" if not inner else world.project / "lnk"
    link.symlink_to(world.root / "one")
    if inner:
        world.edit("project/configs/mine.toml", 'url = "office"', 'url = "lnk/inner"')
    world.build()
    assert world.is_up_to_date()
    _retarget(link, world.root / "two")
    assert not world.is_up_to_date()
    assert "package extra 1 is another build of the same version" in world.build().rebuilt


def test_a_tree_behind_a_link_and_two_dots_is_that_one(world: World) -> None:
    """A shell's `lnk/../tree` is not `tree`."""
    (world.root / "deep/below").mkdir(parents=True)
    (world.root / "other/below").mkdir(parents=True)
    for name in ("deep", "other"):
        shutil.copytree(world.tree, world.root / name / "tree")
    world.edit("other/tree/Makefile", "Building", "Making")
    link = world.root / "lnk"
    link.symlink_to("deep/below")
    world.options["imagebuilder"] = str(world.root / "lnk/../tree")
    world.build()
    assert world.is_up_to_date()
    _retarget(link, Path("other/below"))
    assert not world.is_up_to_date()
    assert any(TREE in line for line in world.build().rebuilt)


def _link_out(world: World, folder: Path, name: str) -> Path:
    (package,) = folder.glob(f"{name}_*.ipk")
    real = world.root / "beyond" / package.name
    real.parent.mkdir(exist_ok=True)
    package.rename(real)
    package.symlink_to(real)
    return real


def _write_over(place: Path, package: Package, content: FileTree) -> None:
    place.unlink()
    write_ipk(place.parent, package, content, epoch=1)
    assert place.exists()


def _laid_by(world: World, path: str) -> None:
    """One more overlay, which the config names by its path."""
    use = f'[[overlay]]\nname = "more"\npath = "{path}"\n'
    place = world.project / "configs/mine.toml"
    place.write_text(f"{place.read_text()}\n{use}")


def _two_folders(world: World, inner: str, *, declared: bool) -> None:
    for name in ("one", "two"):
        folder = world.root / name / inner
        (folder / "files/etc" if declared else folder / "etc").mkdir(parents=True)
        (folder / "files/etc/more" if declared else folder / "etc/more").write_text(name)
        if declared:
            (folder / DECLARATION).write_text("")


def _retarget(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "files alone"])
@pytest.mark.parametrize("path", ["lnk", "lnk/inner", "lnk/../inner"])
def test_an_overlay_s_path_leads_through_links(world: World, path: str, *, declared: bool) -> None:
    _two_folders(world, "" if path == "lnk" else "inner", declared=declared)
    beyond = "deep" if ".." in path else ""
    for name in ("one", "two"):
        (world.root / name / beyond).mkdir(exist_ok=True)
    link = world.project / "lnk"
    link.symlink_to(world.root / "one" / beyond)
    _laid_by(world, path)
    world.build()
    assert world.is_up_to_date()
    asked = asked_for(world.request())
    _retarget(link, world.root / "two" / beyond)
    assert not world.is_up_to_date()
    assert "overlay 'more': /etc/more changed" in world.build().rebuilt
    assert world.is_up_to_date()
    if ".." not in path:
        link.unlink()
        shutil.copytree(world.root / "one", link)
        assert not world.is_up_to_date()
        assert "overlay 'more': /etc/more changed" in world.build().rebuilt
        shutil.rmtree(link)
    else:
        link.unlink()
    assert not standing(asked).up_to_date
    with pytest.raises(UserError, match="is no folder"):
        world.build()


def test_an_app_has_its_name_from_where_its_link_leads(world: World) -> None:
    link = world.project / "apps/linked"
    for name in ("one", "two"):
        (world.root / name).mkdir()
        (world.root / name / "__main__.py").write_text("print(1)\n")
    link.symlink_to(world.root / "one")
    app = '[[python.apps]]\npath = "apps/linked"\nsource = "only"\n\n[[python.package]]'
    world.edit("project/configs/mine.toml", "[[python.package]]", app)
    world.build()
    assert world.is_up_to_date()
    _retarget(link, world.root / "two")
    assert not world.is_up_to_date()
    assert any("app-two" in line for line in world.build().rebuilt)
    assert world.is_up_to_date()


def test_trust_is_asked_for_again(world: World) -> None:
    """Keys that are trusted decide nothing of an image, but whether there is one."""
    world.edit("project/configs/parent.toml", "[image]", '[mirror]\nkeys = "keys"\n[image]')
    (world.project / "keys").mkdir()
    world.build()
    assert world.is_up_to_date()
    (world.project / "keys/bad.pub").write_text("no key\n")
    assert not world.is_up_to_date()


def test_another_signing_key_is_another_image(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.edit("tree/.config", "CONFIG_VERSION_D", "CONFIG_SIGNATURE_CHECK=y\nCONFIG_VERSION_D")
    (world.tree / "Makefile").write_text((world.tree / "Makefile").read_text() + "_check_keys:\n")
    monkeypatch.setenv("XDG_DATA_HOME", str(world.root / "data"))
    world.build()
    assert world.is_up_to_date()
    shutil.rmtree(world.root / "data")
    assert not world.is_up_to_date()
    current = world.build()
    assert current.state == "built"
    assert "the signing key is another one" in current.rebuilt


def test_what_is_changed_while_it_is_built_is_built_again(world: World) -> None:
    """make is at work when somebody saves a file: the result has the old one."""
    place = world.project / "overlays/mine/files/etc/plain"
    (world.tree / "behaviour").write_text(f"echo later > {place}\n")
    world.options["sandbox"] = False
    world.build()
    assert not world.is_up_to_date()
    (world.tree / "behaviour").unlink()
    assert "overlay 'mine': /etc/plain changed" in world.build().rebuilt


def test_another_key_that_signs_the_sums_is_another_result(world: World) -> None:
    """Also where the images are the same, and the tree takes no key."""
    (world.project / "firmware.toml").write_text("sign = true\n")
    world.patch.setenv("XDG_DATA_HOME", str(world.root / "data"))
    first = world.build()
    assert world.is_up_to_date()
    signature = (first.place / SIGNATURE).read_bytes()
    (world.root / "data").rename(world.root / "kept")
    assert not world.is_up_to_date()
    current = world.build()
    assert (current.state, current.rebuilt) == ("built", ("the signing key is another one",))
    assert (current.place / SIGNATURE).read_bytes() != signature
    shutil.rmtree(world.root / "data")
    shutil.rmtree(current.place)
    assert world.build().state == "built"
    shutil.rmtree(world.root / "data")
    (world.root / "kept").rename(world.root / "data")
    again = world.build()
    assert again.state == "from the cache"
    assert (again.place / SIGNATURE).read_bytes() == signature
    assert world.is_up_to_date()


# what is changed while make runs, what the warning names of it, and whether it is changed back at once
WHILE_BUILT = [
    ("tree/scripts/some.sh", "tree/scripts/some.sh", False),
    ("tree/scripts/some.sh", "tree/scripts/some.sh", True),
    ("project/office/extra_1_all.ipk", "project/office", False),
    ("project/overlays/mine/files/etc/plain", "project/overlays/mine/files", False),
    ("project/apps/hello.py", "project/apps/hello.py", False),
]


@pytest.mark.parametrize(("changed", "named", "at_once"), WHILE_BUILT)
def test_what_is_changed_back_later_is_not_in_the_cache(
    world: World, changed: str, named: str, at_once: bool
) -> None:
    """Nobody can say what make has read: the result is handed over, and never taken for another's."""
    place = world.root / changed
    good = place.read_bytes()
    original = build.make_image

    def make_image(*given: object, **named: object) -> object:
        place.write_bytes(good + b"#")
        report = original(*given, **named)  # type: ignore[arg-type]
        if at_once:
            place.write_bytes(good)
        return report

    world.patch.setattr(build, "make_image", make_image)
    first = world.build()
    world.patch.setattr(build, "make_image", original)
    place.write_bytes(good)
    assert first.state == "built"
    why = f"{world.root / named} changed while it was built"
    assert [line for line in first.result.warnings if line.startswith(f"{why}: ")], first.result.warnings
    assert not world.is_up_to_date()
    again = world.build()
    assert (again.state, again.rebuilt) == ("built", (why,))
    assert world.is_up_to_date()
    shutil.rmtree(again.place)
    assert world.build().state == "from the cache"


def test_what_is_only_looked_at_while_it_is_built_is_up_to_date(world: World) -> None:
    """What make itself and other builds leave in a tree is no change of it, and no touched file of a
    project."""
    original = build.make_image

    def make_image(*given: object, **named: object) -> object:
        report = original(*given, **named)  # type: ignore[arg-type]
        (world.tree / "tmp").mkdir(exist_ok=True)
        (world.project / "apps/hello.py").touch()
        (world.tree / "Makefile").read_bytes()
        return report

    world.patch.setattr(build, "make_image", make_image)
    first = world.build()
    assert not [line for line in first.result.warnings if "while it was built" in line]
    world.patch.setattr(build, "make_image", original)
    assert world.build().state == "up to date"


def test_an_index_that_using_a_tree_leaves_counts(world: World) -> None:
    """It is no part of the tree, but says what a feed has."""
    world.build()
    assert world.is_up_to_date()
    (world.tree / "dl").mkdir(exist_ok=True)
    (world.tree / "dl/base").write_text("Package: other\n")
    assert not world.is_up_to_date()


def test_a_file_changed_just_before_it_is_looked_at_counts_by_its_content(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a coarse clock another change right after it would leave no trace in what stat(2) says."""
    monkeypatch.setattr(stamps, "SETTLED_NS", 3600 * 10**9)
    looks = stamps.Looks(b"k" * 32)
    file = world.project / "apps/hello.py"
    stamp = looks.stamp(file, "file")
    assert stamp["state"] == ""
    assert stamps.Looks(b"k" * 32).same(stamp)
    status = file.stat()
    file.write_text(file.read_text().replace("hello", "hallo"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not stamps.Looks(b"k" * 32).same(stamp)


WATCH = """
import os, sys
from pathlib import Path
seen = set()
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.fsdecode(arguments[0])
        if os.path.isabs(path):  # host/walk.py opens names in a folder that is open already
            seen.add(os.path.normpath(path))
from imagebuilder.build import bring_up_to_date
from imagebuilder import made, decide
from imagebuilder.config.request import requests
from imagebuilder.host import stamps
from imagebuilder.log import Log
root = Path(sys.argv[1])
stamps.SETTLED_NS = 0
sys.addaudithook(hook)
(asked,) = requests(root / "project", "mine", imagebuilder=str(root / "tree"), output=root / "out",
                    cache=root / "cache")
bring_up_to_date(asked, Log())
for each in sorted(seen):
    print(each)
"""
# what is no file of anybody's, what Python loads itself, and the cache, which is read by digests
ELSEWHERE = ("/proc/", "/sys/", "/dev/", f"{sys.prefix}/", f"{sys.base_prefix}/", "/usr/lib/python3")


def test_all_that_is_read_is_written_down(world: World) -> None:
    """Whatever a build opens is covered by a stamp, or is nobody's to change."""
    argv = [sys.executable, "-c", WATCH, str(world.root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=PROJECT)
    record = read_inputs(world.root / "out/mine" / BOARD)
    assert record is not None
    assert record["direct"] is not None, record["indirect"]
    stamped_paths = [stamp["path"] for stamp in record["direct"]["stamps"]]
    ours = (*ELSEWHERE, f"{world.root}/out/", f"{world.root}/cache/")
    opened = [line for line in done.stdout.splitlines() if line.startswith("/")]
    assert len([path for path in opened if path.startswith(str(world.project))]) >= 8
    missing = [
        path
        for path in opened
        if not path.startswith(ours)
        and not any(path == stamp or path.startswith(f"{stamp}/") for stamp in stamped_paths)
        and Path(path).is_file()
        and path not in {found for found, _ in record["direct"]["programs"].values()}
    ]
    assert missing == []


COMMAND = """
import sys
from imagebuilder.host import stamps
stamps.SETTLED_NS = 0
import atexit
atexit.register(lambda: print("LOADED", *sorted(sys.modules), file=sys.stderr))
from imagebuilder.cli import main
main()
"""


def command(world: World, *options: str) -> tuple[str, str, set[str]]:
    """`build mine`: what it printed, what it said, and which modules it loaded."""
    argv = ["build", "mine", "--project", str(world.project), "--imagebuilder", "tree", "--cache", "cache"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *argv, *options],
        capture_output=True,
        text=True,
        check=True,
        cwd=world.root,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    said, _, loaded = done.stderr.rpartition("LOADED ")
    return done.stdout, said, set(loaded.split())


def test_the_command_says_what_is_up_to_date_before_it_loads_what_builds(world: World) -> None:
    printed, _, loaded = command(world)
    place = world.project / "out/mine" / BOARD
    assert printed.startswith(f"mine for {BOARD}: 12 packages, in {place}\n")
    assert "imagebuilder.decide" in loaded
    again, said, loaded = command(world)
    assert again.replace(": up to date\n", "\n") == printed
    assert f"in {place}: up to date\n" in again
    assert said == ""
    # typer loads pydantic for its own ends
    heavy = {"imagebuilder.decide", "imagebuilder.build", "imagebuilder.config.config", "sh", "jinja2"}
    assert heavy & loaded == set()
    (entry,) = json.loads(command(world, "--json")[0])
    assert (entry["state"], entry["rebuilt"], entry["folder"]) == ("up to date", [], str(place))
    built = json.loads((place / "result.json").read_text())
    assert {name: entry[name] for name in built} == built
    (entry,) = json.loads(command(world, "--json", "--rebuild")[0])
    assert entry["state"] == "built"
    world.edit(f"{OVERLAYS}/plain", "plain", "other")
    printed, said, _ = command(world, "--json")
    (entry,) = json.loads(printed)
    assert (entry["state"], entry["rebuilt"]) == ("built", ["overlay 'mine': /etc/plain changed"])
    assert "rebuilt because overlay 'mine': /etc/plain changed\n" in said


def test_what_a_killed_build_left_is_removed_also_where_nothing_is_built(world: World) -> None:
    command(world)
    left = [world.project / "out/mine/.work-abcdefgh", world.root / "cache/builds/.new-abcdefgh"]
    for folder in left:
        folder.mkdir()
    printed, _, _ = command(world)
    assert "up to date" in printed
    assert not any(folder.exists() for folder in left)


@pytest.mark.parametrize("quick", [True, False])
def test_the_log_of_a_failed_build_goes_once_the_result_is_up_to_date(world: World, quick: bool) -> None:
    """quick: by the command, before it loads what builds."""
    (world.tree / "behaviour").write_text("grep broken $FILES/etc/plain && touch behaviour-fails\n")
    plain = world.project / "overlays/mine/files/etc/plain"
    if quick:
        command(world)
    else:
        world.build()
    plain.write_text("broken\n")
    with pytest.raises((BuildError, subprocess.CalledProcessError)):
        command(world) if quick else world.build()
    place = (world.project / "out" if quick else world.root / "out") / "mine" / BOARD
    log = place.with_name(f"{BOARD}.failed.log")
    assert log.exists()
    plain.write_text("plain\n")
    if quick:
        assert "up to date" in command(world)[0]
    else:
        assert world.is_up_to_date()
        assert world.build().state == "up to date"
    assert not log.exists()


KEPT_NO_RECORD = "it was built by a version that kept no record"
DAMAGED = f"its {INPUTS} is damaged"
OF_ANOTHER = "it was built by another version of this program"
RECORDS: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "none": (lambda _: None, KEPT_NO_RECORD),
    "empty": (lambda _: b"", DAMAGED),
    "cut off": (lambda known: known[: len(known) // 2], DAMAGED),
    "garbage": (lambda _: b"\xff\x00garbage", DAMAGED),
    "deep": (lambda _: b"[" * 100_000, DAMAGED),
    "no object": (lambda _: b"[]", DAMAGED),
    "no version": (lambda _: b"{}", DAMAGED),
    "a later version": (
        lambda _: b'{"schema_version": 99}',
        "it was built by another version of this program",
    ),
    "no files": (lambda known: _without(known, "files"), DAMAGED),
    "odd files": (lambda known: _with(known, files={"manifest": 1}), DAMAGED),
    "odd stamps": (lambda known: _with(known, direct={"asked": [], "boards": [BOARD], "stamps": 1}), DAMAGED),
}


def _without(known: bytes, name: str) -> bytes:
    return json.dumps({each: value for each, value in json.loads(known).items() if each != name}).encode()


def _with(known: bytes, **values: object) -> bytes:
    return json.dumps({**json.loads(known), **values}).encode()


@pytest.mark.parametrize("record", RECORDS)
def test_what_is_wrong_with_a_record_is_said(world: World, record: str) -> None:
    change, why = RECORDS[record]
    first = world.build()
    place = first.place / INPUTS
    changed = change(place.read_bytes())
    place.unlink()
    if changed is not None:
        place.write_bytes(changed)
    standings = all_up_to_date(
        world.project,
        ["mine"],
        [],
        Options(output=world.root / "out", cache=world.root / "cache", imagebuilder=str(world.tree)),
    )
    assert standings is None
    found = standing(asked_for(world.request()))
    assert (found.up_to_date, found.why) == (False, why)
    again = world.build()
    if record == "odd stamps":  # what is made of what is decided anew
        assert again.state == "up to date"
    else:
        assert (again.state, again.rebuilt) == ("from the cache", (why,))
    assert world.is_up_to_date()
