"""The parts of the kit that need no Debian packages."""

from __future__ import annotations

import ast
import gzip
import lzma
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host import architecture
from imagebuilder.host.cache import OfflineError
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.tree_look import look_at_tree
from imagebuilder.kit import prepare
from imagebuilder.kit.debian import fetch
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.feed import KitFeedError, offered, refresh_index
from imagebuilder.kit.image import genimage, with_files, with_services
from imagebuilder.kit.layout import KitTreeError, TreeConfig, config_text, read_config
from imagebuilder.kit.materials import KernelError, load_order, module_file, read_kernel
from imagebuilder.kit.packages import guest_tree
from imagebuilder.kit.prepare import CODE, recipe_digest
from imagebuilder.kit.recipe import (
    GUEST,
    Absent,
    DeviationError,
    Deviations,
    Drop,
    Edit,
    PathMove,
    adapted,
    deviations,
    present_rules,
    recipe,
)
from imagebuilder.kit.request import RequestError, read_request
from imagebuilder.kit.tree import initramfs
from imagebuilder.log import Log, Note
from imagebuilder.model.edition import EDITIONS, Edition
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.files import content, write_tree
from imagebuilder.rootfs.filespec import parse
from imagebuilder.rootfs.tree import FileTree, file_of, folder, symlink

EDITION = EDITIONS["embedded"]
CONFIG = TreeConfig(
    distribution="OpenWrt",
    version="embedded",
    version_code="0123456789ab",
    target="x86/64",
    architecture="x86_64",
    kernel_version="6.1.0",
    default_packages=("base-files", "libc"),
    rootfs_partition=48 << 20,
    block_size=256 << 10,
    compressor=("zstd", "-Xcompression-level", "9"),
    source_date_epoch=1_700_000_000,
)

PROJECT = Path(__file__).resolve().parents[2]


def silent(_line: str) -> None:
    pass


# --- the initramfs ----------------------------------------------------------------------------------


def test_an_initramfs_is_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    tree = FileTree(
        {
            "/bin/busybox": file_of(b"ELF", 0o755),
            "/bin/sh": symlink("busybox"),
            "/dev": folder(),
            "/odd": file_of(b"12345", 0o600),
        }
    )
    packed = initramfs(tree)
    assert packed == initramfs(tree)
    (tmp_path / "bare").write_bytes(gzip.decompress(packed))
    listed = run(
        ["cpio", "-tvn", "--quiet", "-F", str(tmp_path / "bare")], env=clean_environment(), timeout=10
    ).stdout.splitlines()
    shapes = [(line.split()[0], line.split()[2], line.split()[-1]) for line in listed]
    assert shapes == [
        ("drwxr-xr-x", "0", "bin"),
        ("-rwxr-xr-x", "0", "bin/busybox"),
        ("lrwxrwxrwx", "0", "busybox"),
        ("drwxr-xr-x", "0", "dev"),
        ("-rw-------", "0", "odd"),
        ("crw-------", "0", "dev/console"),
    ]
    run(["cpio", "-i", "--quiet", "-F", str(tmp_path / "bare"), "odd"], cwd=tmp_path, timeout=10)
    assert (tmp_path / "odd").read_bytes() == b"12345"


# --- the kernel -------------------------------------------------------------------------------------


def fake_kernel(root: Path) -> Path:
    modules = root / "lib/modules/6.1.0"
    (root / "boot").mkdir()
    (root / "boot/vmlinuz-6.1.0").write_bytes(b"MZ")
    (modules / "kernel/net").mkdir(parents=True)
    for name, needs in (("a", "b-one,c"), ("b_one", "c"), ("c", ""), ("d", "lost"), ("e", "ext4")):
        (modules / f"kernel/net/{name}.ko").write_bytes(b"ELF\0name=x\0depends=" + needs.encode() + b"\0")
    (modules / "kernel/net/mute.ko").write_bytes(b"ELF")
    (modules / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    return root


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    kernel = read_kernel(fake_kernel(tmp_path))
    assert kernel.release == "6.1.0"
    assert load_order(kernel, ["a", "c"]) == ("c", "b_one", "a")
    assert load_order(kernel, ["e"]) == ("e",)


@pytest.mark.parametrize(
    ("name", "says"), [("d", "no module lost"), ("mute", "does not say"), ("x", "no module x")]
)
def test_a_module_that_cannot_be_loaded_is_an_error(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(KernelError, match=says):
        load_order(read_kernel(fake_kernel(tmp_path)), [name])


def test_packed_modules_are_unpacked_where_all_is_in_usr(tmp_path: Path) -> None:
    root = fake_kernel(tmp_path)
    (root / "usr").mkdir()
    (root / "lib").rename(root / "usr/lib")
    for file in list(root.rglob("*.ko")):
        file.with_name(f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes()))
        file.unlink()
    kernel = read_kernel(root)
    assert load_order(kernel, ["a"]) == ("c", "b_one", "a")
    assert module_file(kernel, "a").read_bytes().startswith(b"ELF\0name=x")
    kernel.modules["d"].write_bytes(b"no xz")
    with pytest.raises(KernelError, match=r"d\.ko\.xz is damaged"):
        module_file(kernel, "d")


def test_a_folder_without_a_kernel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="found 0"):
        read_kernel(tmp_path)


# --- deviations -------------------------------------------------------------------------------------


def changes(**entries: object) -> Deviations:
    names = ("python", "move", "drop", "edit", "add", "absent", "absent_hook", "depends", "builtin")
    return Deviations.model_validate({name: entries.get(name, ()) for name in names})


STAGE = FileTree(
    {
        "/lib/x86_64-linux-gnu/libz.so.1.2": file_of(b"z"),
        "/lib/x86_64-linux-gnu/libz.so.1": symlink("libz.so.1.2"),
        "/lib/kept": file_of(b"k"),
        "/lib64/ld.so": symlink("/lib/x86_64-linux-gnu/ld.so"),
        "/usr/lib/python3.11/site.py": file_of(b"a b c"),
    }
)


def test_moves_drops_and_edits_make_openwrts_layout() -> None:
    tree = adapted(
        {"main": STAGE},
        changes(
            move=[PathMove(old="/lib/x86_64-linux-gnu", new="/lib", reason="")],
            drop=[Drop(path="/lib/libz.so.1", reason="")],
            edit=[Edit(path="/usr/lib/python3.11/site.py", old="b", new="B", reason="")],
        ),
    )["main"]
    assert [path for path in tree if tree[path].kind != "dir"] == [
        "/lib/kept",
        "/lib/libz.so.1.2",
        "/lib64/ld.so",
        "/usr/lib/python3.11/site.py",
    ]
    assert tree["/lib64/ld.so"].target == "/lib/ld.so"
    assert content(tree["/usr/lib/python3.11/site.py"]) == b"a B c"


def test_a_move_may_take_some_of_a_folder() -> None:
    only = PathMove(old="/lib", new="/usr/lib", only=("libz.so.*", "kept"), reason="")
    flat = adapted(
        {"main": STAGE}, changes(move=[PathMove(old="/lib/x86_64-linux-gnu", new="/lib", reason=""), only])
    )
    assert [path for path in flat["main"] if flat["main"][path].kind != "dir"] == [
        "/lib64/ld.so",
        "/usr/lib/kept",
        "/usr/lib/libz.so.1",
        "/usr/lib/libz.so.1.2",
        "/usr/lib/python3.11/site.py",
    ]


@pytest.mark.parametrize(
    "entries",
    [
        {"move": [PathMove(old="/opt", new="/usr", reason="")]},
        {"move": [PathMove(old="/lib", new="/usr", only=("libx.so.*",), reason="")]},
        {"drop": [Drop(path="/usr/lib/*.a", reason="")]},
        {"edit": [Edit(path="/usr/lib/python3.11/os.py", old="b", new="B", reason="")]},
        {"edit": [Edit(path="/usr/lib/python3.11/site.py", old=" ", new="", reason="")]},
    ],
)
def test_a_deviation_without_effect_is_an_error(entries: dict[str, object]) -> None:
    with pytest.raises(DeviationError):
        adapted({"main": STAGE}, changes(**entries))


def test_a_rule_that_finds_nothing_must_be_stated_and_a_stated_one_must_find_nothing() -> None:
    rules = parse("+|/lib/kept\n-|/lib/gone")

    def absent(*paths: str) -> Deviations:
        return changes(absent=[Absent(package="p", paths=paths, reason="")])

    assert [rule.path for rule in present_rules("p", rules, STAGE, absent("/lib/gone"))] == ["/lib/kept"]
    with pytest.raises(DeviationError, match="has no rule for /other"):
        present_rules("p", rules, STAGE, absent("/other"))
    with pytest.raises(DeviationError, match="Debian has /lib/kept after all"):
        present_rules("p", rules, STAGE, absent("/lib/kept"))


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=lambda edition: edition.release)
def test_every_deviation_gives_its_reason(edition: Edition) -> None:
    stated = deviations(edition)
    for kind in set(type(stated).model_fields) - {"python"}:
        for entry in getattr(stated, kind):
            assert entry.reason.strip(), entry


# --- the tree ---------------------------------------------------------------------------------------


def test_the_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text(config_text(CONFIG))
    assert read_config(tmp_path) == CONFIG
    (tmp_path / ".config").write_text("CONFIG_VERSION_DIST=x\n")
    with pytest.raises(KitTreeError, match="does not say CONFIG_VERSION_NUMBER"):
        read_config(tmp_path)
    with pytest.raises(KitTreeError, match="no tree of the embedded kit"):
        read_config(tmp_path / "nowhere")


def test_a_request_reads_makes_variables(tmp_path: Path) -> None:
    request = read_request({}, CONFIG, tmp_path)
    assert request.profile == "qemu-x86-64"
    assert request.bin_dir == tmp_path / "bin/targets/x86/64"
    assert request.rootfs_partition == 48 << 20
    (tmp_path / "over").mkdir()
    request = read_request(
        {"FILES": "over", "BIN_DIR": "/b", "ROOTFS_PARTSIZE": "7", "SOURCE_DATE_EPOCH": "5"}, CONFIG, tmp_path
    )
    assert request.files == tmp_path / "over"
    assert request.bin_dir == Path("/b")
    assert request.rootfs_partition == 7 << 20
    assert request.source_date_epoch == 5


@pytest.mark.parametrize(
    "variables",
    [{"PROFILE": "x"}, {"ROOTFS_PARTSIZE": "big"}, {"ROOTFS_PARTSIZE": "0"}, {"SOURCE_DATE_EPOCH": "-1"}],
)
def test_a_bad_variable_is_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        read_request(variables, CONFIG, tmp_path)


def test_guest_scripts_can_be_run_and_secrets_not_read() -> None:
    tree = guest_tree("base-files")
    assert tree["/etc/init.d/boot"].mode == 0o755
    assert tree["/etc/profile"].mode == 0o644
    assert tree["/etc/shadow"].mode == 0o600


def test_every_guest_script_parses() -> None:
    for path in GUEST.rglob("*"):
        if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/busybox sh")):
            run(["sh", "-n", str(path)], timeout=10)


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=lambda edition: edition.release)
def test_every_part_of_the_recipe_is_fetched(edition: Edition) -> None:
    names = recipe(edition).debian_packages()
    assert len(set(names)) == len(names)
    assert {"libc6", "libtinfo6", "python3-pip", "systemd-boot-efi", "ca-certificates"} <= set(names)
    assert set(recipe(edition).python) <= set(names)


def test_an_edition_renames_debians_packages() -> None:
    assert "libssl3" in recipe(EDITIONS["embedded"]).debian_packages()
    renamed = recipe(EDITIONS["embedded-3.13"])
    assert "libssl3t64" in renamed.debian_packages()
    assert "libssl3" not in renamed.debian_packages()
    assert {part.debian for part in renamed.package if part.name == "libopenssl3"} == {"libssl3t64"}


# --- feeds and the root -----------------------------------------------------------------------------


def test_an_index_follows_the_files(tmp_path: Path) -> None:
    write_ipk(tmp_path, Package("one", "1"), FileTree(), epoch=1)
    assert [package.name for package in refresh_index(tmp_path, silent)] == ["one"]
    lines: list[str] = []
    refresh_index(tmp_path, lines.append)
    assert lines == []
    write_ipk(tmp_path, Package("two", "1"), FileTree(), epoch=1)
    (tmp_path / "one_1_all.ipk").unlink()
    assert [package.name for package in refresh_index(tmp_path, lines.append)] == ["two"]
    assert lines == ["Building package index..."]
    assert "Package: two" in (tmp_path / "Packages").read_text()


def test_feeds_are_folders_and_the_first_of_equals_counts(tmp_path: Path) -> None:
    for name in ("packages", "more"):
        (tmp_path / name).mkdir()
        write_ipk(tmp_path / name, Package("one", "1"), FileTree(), epoch=1)
    write_ipk(tmp_path / "more", Package("two", "1"), FileTree(), epoch=1)
    refresh_index(tmp_path / "more", silent)
    (tmp_path / "repositories.conf").write_text(
        "# src a file:b\nsrc imagebuilder file:packages\n"
        f"src/gz more file:{tmp_path}/more\nsrc empty file:nowhere\n"
    )
    lines: list[str] = []
    offer = offered(tmp_path, lines.append)
    assert [package.name for package in offer.packages] == ["one", "two"]
    assert offer.file_of(offer.packages[0]) == tmp_path / "packages/one_1_all.ipk"
    assert any("feed empty" in line for line in lines)
    (tmp_path / "repositories.conf").write_text("src/gz far https://feed.invalid/x\n")
    with pytest.raises(KitFeedError, match="from folders only"):
        offered(tmp_path, silent)


def test_packages_of_other_architectures_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    for name, arch in (("any", "all"), ("ours", "x86_64"), ("theirs", "mips_24kc")):
        write_ipk(tmp_path / "packages", Package(name, "1", arch), FileTree(), epoch=1)
    (tmp_path / "repositories.conf").write_text("src imagebuilder file:packages\n")
    lines: list[str] = []
    assert [package.name for package in offered(tmp_path, lines.append).packages] == ["any", "ours"]
    assert " * Package theirs is for mips_24kc, not x86_64: ignored." in lines


def test_files_do_not_turn_a_link_into_a_folder(tmp_path: Path) -> None:
    tree = FileTree({"/var": symlink("tmp"), "/etc/a": file_of(b"1")})
    write_tree(FileTree({"/etc/a": file_of(b"2"), "/etc/b": symlink("a")}), tmp_path)
    merged = with_files(tree, tmp_path)
    assert content(merged["/etc/a"]) == b"2"
    assert merged["/etc/b"].target == "a"
    (tmp_path / "var/run").mkdir(parents=True)
    with pytest.raises(KitFeedError, match="cannot overwrite non-directory"):
        with_files(tree, tmp_path)


def test_services_get_links_by_their_numbers() -> None:
    script = b"#!/bin/sh /etc/rc.common\n  START=1\nSTART=20\nSTOP=80 \n"
    tree = FileTree(
        {
            "/etc/init.d/net": file_of(script, 0o755),
            "/etc/init.d/off": file_of(script, 0o755),
            "/etc/rc.d/S20off": symlink("../init.d/off"),
            "/etc/rc.d/S99kept": symlink("../init.d/kept"),
        }
    )
    assert [path for path in with_services(tree, ["off"]) if path.startswith("/etc/rc.d/")] == [
        "/etc/rc.d/K80net",
        "/etc/rc.d/S20net",
        "/etc/rc.d/S99kept",
    ]


# --- making the kit -----------------------------------------------------------------------------------


def test_one_process_makes_the_kit_and_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(_edition: Edition, _cache: object, place: Path, _hash: str, _log: Log) -> None:
        made.append(place)
        time.sleep(0.3)
        place.mkdir()
        (place / "kit.json").write_text("{}")

    monkeypatch.setattr(prepare, "_make_in_place", make)
    notes: list[object] = []
    found: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(prepare.prepare_kit(EDITION, tmp_path, Log([notes.append])))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == made * 3
    assert sum(isinstance(note, Note) and "waiting" in note.text for note in notes) == 2


def _make_nothing(_edition: Edition, _cache: object, place: Path, _hash: str, _log: Log) -> None:
    place.mkdir(exist_ok=True)
    (place / "kit.json").write_text("{}")


def test_a_build_that_takes_the_kit_does_not_change_it_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other would say that the kit was changed while it was built."""
    monkeypatch.setattr(prepare, "_make_in_place", _make_nothing)
    kit = prepare.prepare_kit(EDITION, tmp_path, Log())
    before = look_at_tree(kit)
    time.sleep(0.02)
    assert prepare.prepare_kit(EDITION, tmp_path, Log()) == kit
    assert look_at_tree(kit) == before


def test_kits_that_nobody_used_for_a_week_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_make_in_place", _make_nothing)
    kit = prepare.prepare_kit(EDITION, tmp_path, Log())
    kits, long_ago = kit.parent, time.time() - 8 * 24 * 3600
    marks = {"used": time.time(), "unused": long_ago, "never-marked": None}
    for name, used in marks.items():
        (kits / name).mkdir()
        (kits / name / "kit.json").write_text("{}")
        os.utime(kits / name / "kit.json", (long_ago, long_ago))
        if used is not None:
            (kits / f".{name}.used").touch()
            os.utime(kits / f".{name}.used", (used, used))
    prepare._remove_unused(kits, kit)
    left = {each.name for each in kits.iterdir()}
    assert left >= {kit.name, f".{kit.name}.used", "used", ".used.used"}
    assert not left & {"unused", ".unused.used", "never-marked"}


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kits/.making-deaddead/tree").mkdir(parents=True)

    def refuse(*_: object) -> dict[Deb, Path]:
        raise HostError("no network")

    monkeypatch.setattr(fetch, "fetch", refuse)
    with pytest.raises(HostError, match="no network"):
        prepare.prepare_kit(EDITION, tmp_path, Log())
    assert list((tmp_path / "kits").iterdir()) == []


def test_offline_a_kit_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="the embedded kit of Debian 12"):
        prepare.prepare_kit(EDITION, tmp_path, Log(), offline=True)
    assert not (tmp_path / "kits").exists()


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300 << 20))
    with pytest.raises(HostError, match=r"the embedded kit needs \d+ MiB below .*, where 300 MiB are free"):
        prepare.prepare_kit(EDITION, tmp_path, Log())


def test_newer_packages_make_a_new_kit_only_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    offered = {"version": "1"}

    def fetched(*_: object) -> dict[Deb, Path]:
        return {Deb("libc6", offered["version"], "00", 1, "http://m/libc6.deb"): tmp_path}

    def gathered(_edition: Edition, files: dict[Deb, Path], _scratch: Path) -> dict[Deb, Path]:
        return files

    def make(materials: dict[Deb, Path], _tree: Path, _code: str, _log: Log) -> TreeConfig:
        made.append(next(iter(materials)).version)
        return CONFIG

    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setattr(prepare, "gather", gathered)
    monkeypatch.setattr(prepare, "_make", make)
    place = prepare.prepare_kit(EDITION, tmp_path, Log())
    first = prepare.kit_digest(place)
    offered["version"] = "2"
    assert prepare.prepare_kit(EDITION, tmp_path, Log()) == place
    assert (made, prepare.kit_digest(place)) == (["1"], first)
    assert prepare.prepare_kit(EDITION, tmp_path, Log(), fresh=True) == place
    assert made == ["1", "2"]
    assert prepare.kit_digest(place) != first
    prepare.prepare_kit(EDITION, tmp_path, Log(), fresh=True)
    assert made == ["1", "2"]


def test_another_machine_cannot_have_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture.platform, "machine", lambda: "riscv64")
    with pytest.raises(HostError, match="x86-64"):
        prepare.prepare_kit(EDITION, tmp_path, Log())


def test_the_digest_depends_on_every_package() -> None:
    deb = Deb("libc6", "1", "00", 1, "http://m/libc6_1_amd64.deb")
    digests = {
        prepare._content_digest("r", [deb]),
        prepare._content_digest("s", [deb]),
        prepare._content_digest("r", [replace(deb, sha256="01")]),
        prepare._content_digest("r", [replace(deb, version="2")]),
    }
    assert len(digests) == 4


def _imported(module: Path) -> Iterator[Path]:
    """The files of the project's modules that a module imports."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("imagebuilder"):
            base = PROJECT / (node.module or "").replace(".", "/")
            for alias in node.names:
                found = (base / f"{alias.name}.py", base.with_suffix(".py"), base / "__init__.py")
                yield next(path for path in found if path.is_file())


def test_a_kits_key_counts_all_code_that_it_is_made_with() -> None:
    """But for what fetches and verifies Debian's packages, whose bytes are counted themselves."""
    package = PROJECT / "imagebuilder"
    reached: set[Path] = set()
    ahead = list((package / "kit").rglob("*.py"))
    while ahead:
        module = ahead.pop()
        if module not in reached:
            reached.add(module)
            ahead += _imported(module)
    rooms = {str(module.relative_to(package).parent) for module in reached}
    counted = {room for room in rooms if any(f"{room}/".startswith(f"{one}/") for one in ("kit", *CODE))}
    assert rooms - counted == {".", "host", "server", "trust"}
    assert {"packages/opkg", "rootfs", "python/bytecode"} <= counted


def test_a_kits_key_misses_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagebuilder.kit.prepare.CODE", (*CODE, "gone"))
    with pytest.raises(FileNotFoundError, match="gone is not there"):
        recipe_digest(EDITIONS["embedded"])


@pytest.mark.kit
def test_a_blank_in_the_path_of_the_cache(tmp_path: Path) -> None:
    """genimage hands paths on to mmd without quotes."""
    inputs, into = tmp_path / "a cache/parts", tmp_path / "the images"
    inputs.mkdir(parents=True)
    for name in ("systemd-bootx64.efi", "loader.conf", "openwrt.conf", "vmlinuz", "initrd"):
        (inputs / name).write_text(name)
    genimage((GUEST / "tree/esp.cfg").read_text(), {"ESP_SIZE": "12M"}, inputs, into, epoch=1)
    assert [path.name for path in into.iterdir()] == ["esp.vfat"]
    listed = run(["mdir", "-b", "-i", str(into / "esp.vfat"), "::loader/entries"]).stdout
    assert "openwrt.conf" in listed
    assert len(list(inputs.iterdir())) == 5
