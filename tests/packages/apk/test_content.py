"""Reading the content of apk packages that nobody vouches for, and what mkpkg is told of a package."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.run import Completed
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.control import parse_depends, parse_names
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.apk import writer as apk_writer
from imagebuilder.packages.apk.reader import SCRIPTS, read_apk
from imagebuilder.packages.apk.writer import package_info, write_apk
from imagebuilder.packages.opkg.ipk import PackageFileError
from imagebuilder.packages.opkg.ipk_reader import Limits
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of, folder, symlink
from tests.support.adb_maker import Writer, block, deflated, zstandarded

FACTS = Package("demo", "1-r1", "mips_24kc")
Folders = Sequence[tuple[str, int, Sequence[tuple[str, int, object]]]]
LINK, REGULAR, DEVICE = 0o120000, 0o100000, 0o020000


@dataclass
class Maker:
    """Writes a package's values and content. folders: name, mode and files of each; a file is its name, mode
    and content, or the kind and text of its link."""

    folders: Folders
    scripts: dict[str, bytes] = field(default_factory=dict)
    triggers: Sequence[str] = ()

    def bytes(self) -> bytes:
        writer = Writer()
        blocks = [b""]
        paths = []
        for number, (name, mode, files) in enumerate(self.folders, start=1):
            entries = []
            for place, (file, file_mode, content) in enumerate(files, start=1):
                acl = writer.slots([writer.integer(file_mode), writer.blob(b"root")], 14)
                data = content if isinstance(content, bytes) else b""
                target = b""
                if isinstance(content, tuple):
                    target = struct.pack("<H", content[0]) + content[1]
                size = writer.integer(len(data))
                entries.append(
                    writer.slots([writer.blob(file.encode()), acl, size, 0, 0, writer.blob(target)], 14)
                )
                if data:
                    blocks.append(block(2, struct.pack("<II", number, place) + data))
            acl = writer.slots([writer.integer(mode)], 14)
            paths.append(writer.slots([writer.blob(name.encode()), acl, writer.slots(entries)], 14))
        scripts = writer.slots([writer.blob(self.scripts.get(name, b"")) for name in SCRIPTS], 14)
        triggers = writer.slots([writer.blob(each.encode()) for each in self.triggers])
        info = writer.package({"name": "demo", "version": "1-r1"})
        root = writer.slots([info, writer.slots(paths), scripts, triggers], 14)
        blocks[0] = b"ADB.pckg" + block(0, writer.finished(root))
        return b"".join(blocks)


def read(data: bytes, place: Path, limits: Limits | None = None) -> LocalPackage:
    path = place / "demo.apk"
    path.write_bytes(data)
    return read_apk(path, FACTS, limits=limits)


def refused(made: Maker, place: Path, limits: Limits | None = None) -> str:
    with pytest.raises(PackageFileError) as caught:
        read(deflated(made.bytes()), place, limits)
    assert str(place) in caught.value.message
    assert caught.value.hint
    return caught.value.message


DEMO = Maker(
    [
        ("", 0o755, [("top", 0o600, b"t")]),
        ("etc", 0o755, [("demo", 0o644, b"same"), ("again", 0o644, (REGULAR, b"etc/demo"))]),
        ("usr/bin", 0o755, [("demo", 0o4755, b"same"), ("d", 0o777, (LINK, b"demo")), ("empty", 0o640, b"")]),
        ("var/lib/demo", 0o1777, []),
    ],
    {"post-install": b"#!/bin/sh\nexit 0\n", "pre-deinstall": b"#!/bin/sh\n"},
)


@pytest.mark.parametrize("pack", [bytes, deflated, zstandarded])
def test_files_links_modes_and_scripts(pack: type, tmp_path: Path) -> None:
    content = read(pack(DEMO.bytes()), tmp_path)
    assert content.package is FACTS
    assert content.scripts == DEMO.scripts
    assert content.tree == FileTree(
        {
            "/top": file_of(b"t", 0o600),
            "/etc/demo": file_of(b"same", 0o644),
            "/etc/again": file_of(b"same", 0o644),
            "/usr/bin/demo": file_of(b"same", 0o4755),
            "/usr/bin/d": symlink("demo"),
            "/usr/bin/empty": file_of(b"", 0o640),
            "/var/lib/demo": folder(0o1777),
        }
    )


@pytest.mark.parametrize(
    ("folders", "why"),
    [
        ([("../x", 0o755, [])], "'../x', which leads out of it"),
        ([("/x", 0o755, [])], "'/x', which leads out of it"),
        ([("x", 0o755, [("../y", 0o644, b"1")])], "'../y', which leads out of it"),
        ([("x", 0o755, [("y", 0o644, (LINK, b"../../z"))])], "leads out of the device's root"),
        ([("x", 0o755, [("y", 0o644, (DEVICE, b"12345678"))])], "neither a file, a folder nor a link"),
        ([("x", 0o755, [("y", 0o644, (REGULAR, b"none"))])], "a hard link to /none, which is no file"),
        ([("x", 0o755, [("y", 0o644, b"1"), ("y", 0o644, b"2")])], "holds /x/y twice"),
        ([("x", 0o755, [("y", 0o644, b"1")]), ("x/y", 0o755, [])], "holds /x/y twice"),
        ([("", 0o755, [("x", 0o777, (LINK, b"etc"))]), ("x/y", 0o755, [])], "which is a symlink"),
    ],
)
def test_what_no_package_may_hold(
    folders: list[tuple[str, int, list[object]]], why: str, tmp_path: Path
) -> None:
    assert why in refused(Maker(folders), tmp_path)  # type: ignore[arg-type]


def test_a_package_that_would_lose_something_is_refused(tmp_path: Path) -> None:
    assert "it has triggers" in refused(replace(DEMO, triggers=["/usr/*"]), tmp_path)


def test_content_that_is_missing_or_too_much(tmp_path: Path) -> None:
    whole = DEMO.bytes()
    cut = whole.rfind(struct.pack("<II", 3, 1)) - 4
    with pytest.raises(PackageFileError, match="the content of /usr/bin/demo is missing"):
        read(whole[:cut], tmp_path)
    with pytest.raises(PackageFileError, match="content that is of none of its files"):
        read(whole + block(2, struct.pack("<II", 3, 1) + b"same"), tmp_path)
    assert "larger than they may be" in refused(DEMO, tmp_path, Limits(data=8))
    assert "more than 4 files" in refused(DEMO, tmp_path, Limits(members=4))
    assert "more than 100 bytes" in refused(DEMO, tmp_path, Limits(file=100))


def test_other_files_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"PK\3\4", b"ADB.indx" + block(0, bytes(8)), b"ADB.pckg"):
        with pytest.raises(PackageFileError):
            read(data, tmp_path)
    with pytest.raises(PackageFileError, match="cannot be read"):
        read_apk(tmp_path / "none", FACTS)


@given(st.binary(max_size=400), st.sampled_from([b"", b"ADB.pckg", b"ADBd"]))
def test_any_bytes_are_a_package_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes
) -> None:
    with contextlib.suppress(PackageFileError):
        read(head + data, tmp_path_factory.getbasetemp())


@given(st.data())
def test_a_damaged_package_is_a_package_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(DEMO.bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    with contextlib.suppress(PackageFileError):
        read(bytes(content[:cut]), tmp_path_factory.getbasetemp(), Limits(1 << 16, 1 << 16, 1 << 16, 100))


# --- what mkpkg is told

WHOLE = Package(
    "libdemo7",
    "1.2-r3",
    "all",
    depends=parse_depends("libc (>= 1.2), libx"),
    provides=("demo", "any"),
    provided_versions=(("demo", "1.2-r3"),),
    conflicts=parse_names("other"),
    replaces=(Dependency("older", "<", "2"),),
    description="A demo: with a colon.",
    abi_version="7",
    extra={"License": "MIT", "Source": "feeds/demo", "Provider-Priority": "100", "Unknown": "x"},
)


def test_what_apk_is_told_of_a_package() -> None:
    assert package_info(WHOLE) == {
        "name": "libdemo7",
        "version": "1.2-r3",
        "tags": "openwrt:abiversion=7",
        "description": "A demo: with a colon.",
        "arch": "noarch",
        "license": "MIT",
        "origin": "feeds/demo",
        "provider-priority": "100",
        "provides": "demo=1.2-r3 any",
        "replaces": "older<2",
        "depends": "libc>=1.2 libx !other",
    }
    with pytest.raises(PackageFileError, match=r"apk knows no alternatives such as a \| b"):
        package_info(replace(WHOLE, depends=parse_depends("a | b")))
    with pytest.raises(PackageFileError, match="cannot be the name of a package"):
        package_info(replace(WHOLE, name="-x"))


def test_what_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = PrivateView("overlay", Path("/builder/tree"), tmp_path, tmp_path, sandboxed=True)
    made = LocalPackage(WHOLE, FileTree({"/x": file_of(b"")}), {"postinst": b"#!/bin/sh\n"})
    with pytest.raises(PackageFileError, match="postinst is no script of apk"):
        write_apk(tmp_path, made, view, tmp_path, Log(), epoch=1)
    failing = Completed(("apk",), 1, "", "ERROR: failed to create package\n")
    monkeypatch.setattr(apk_writer, "run", lambda *_, **__: failing)
    with pytest.raises(PackageFileError, match=r"cannot make libdemo7-1.2-r3.apk:\nERROR: failed"):
        write_apk(tmp_path, replace(made, scripts={}), view, tmp_path, Log(), epoch=1)
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    monkeypatch.setattr(apk_writer.os, "geteuid", lambda: 1000)
    with pytest.raises(PackageFileError, match="the owners of files as they are"):
        write_apk(tmp_path, made, replace(view, sandboxed=False), tmp_path, Log(), epoch=1)
