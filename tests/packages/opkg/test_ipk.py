"""ipk packages: written reproducibly, read without trust."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.model.control import parse_depends
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.feed import index_of
from imagebuilder.packages.opkg.ipk import PackageFileError, write_ipk
from imagebuilder.packages.opkg.ipk_reader import Limits, read_control, read_ipk
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.rootfs.files import digest
from imagebuilder.rootfs.tree import FileTree, file_at, file_of, folder, symlink

EPOCH = 1_700_000_000
PACKAGE = Package(
    "hello",
    "1.0~2-1",
    "x86_64",
    depends=parse_depends("libc, a (>= 1) | b"),
    section="utils",
    description="Says hello.\n In one line.",
    extra={"License": "Apache-2.0"},
)
TREE = FileTree(
    {
        "/usr/bin/hello": file_of(b"#!/bin/sh\necho hello\n", 0o755),
        "/usr/bin/hi": symlink("hello"),
        "/etc/config/hello": file_of(b"config hello\n", 0o600),
        "/var/lib/hello": folder(0o700),
        "/usr/lib/su": file_of(b"", 0o4755),
        "/etc/resolv.conf": symlink("/tmp/resolv.conf"),
        "/usr/share/" + "long/" * 40 + "name": file_of(b"deep"),
        "/usr/share/ünï": file_of(b"u"),
    }
)
SCRIPTS = {"postinst": b"#!/bin/sh\nexit 0\n", "prerm": b"#!/bin/sh\n"}


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


CONTROL = packed((member("./control"), b"Package: x\nVersion: 1\n"))


def ipk_of(place: Path, data: bytes, control: bytes = CONTROL) -> Path:
    """An .ipk of these two inner archives."""
    outer = [("./debian-binary", b"2.0\n"), ("./data.tar.gz", data), ("./control.tar.gz", control)]
    path = place / "x.ipk"
    path.write_bytes(packed(*[(member(name), content) for name, content in outer]))
    return path


def refused(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(PackageFileError) as caught:
        read_ipk(path, limits=limits)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


# writing


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = write_ipk(tmp_path, PACKAGE, TREE, epoch=EPOCH, scripts=SCRIPTS, conffiles=["/etc/config/hello"])
    again = read_ipk(made.path)
    assert made.path.name == "hello_1.0~2-1_x86_64.ipk"
    assert again.tree == TREE
    assert again.scripts == SCRIPTS
    assert again.conffiles == ("/etc/config/hello",)
    assert (again.control.name, again.control.version, again.control.depends) == (
        PACKAGE.name,
        PACKAGE.version,
        PACKAGE.depends,
    )
    assert again.control.extra == PACKAGE.extra
    assert again.control.description == PACKAGE.description
    assert again.control.installed_size == made.installed_size
    assert read_control(made.path).fields == again.fields
    assert len(read_control(made.path).tree) == 0


def test_the_record_says_what_is_in_the_file(tmp_path: Path) -> None:
    made = write_ipk(tmp_path, PACKAGE, TREE, epoch=EPOCH)
    whole = made.path.read_bytes()
    assert (made.size, made.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert made.package.filename == made.path.name
    with tarfile.open(made.path) as outer:
        data = outer.extractfile("./data.tar.gz")
        assert data is not None
        inner = data.read()
    assert made.installed_size == len(inner)
    unpacked = write_ipk(tmp_path / "24", PACKAGE, TREE, epoch=EPOCH, installed_size="unpacked")
    assert 0 <= len(gzip.decompress(inner)) - unpacked.installed_size < tarfile.RECORDSIZE + 1024


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write_ipk(tmp_path / "1", PACKAGE, TREE, epoch=EPOCH, scripts=SCRIPTS)
    source = tmp_path / "hello"
    source.write_bytes(TREE["/usr/bin/hello"].data or b"")
    os.utime(source, (1, 1))
    tree = FileTree({**dict(reversed(list(TREE.items()))), "/usr/bin/hello": file_at(source, 0o755)})
    monkeypatch.setattr(time, "time", lambda: 5.0)
    other = write_ipk(tmp_path / "2", PACKAGE, tree, epoch=EPOCH, scripts=dict(reversed(SCRIPTS.items())))
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.sha256 != write_ipk(tmp_path / "3", PACKAGE, TREE, epoch=EPOCH + 1, scripts=SCRIPTS).sha256


def test_the_layout_is_openwrts(tmp_path: Path) -> None:
    made = write_ipk(tmp_path, PACKAGE, TREE, epoch=EPOCH, scripts=SCRIPTS, conffiles=["/etc/config/hello"])
    whole = made.path.read_bytes()
    assert whole[:2] == b"\x1f\x8b"
    assert whole[3:8] == b"\0\0\0\0\0"  # neither a name nor a time
    with tarfile.open(made.path) as outer:
        assert outer.getnames() == ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
        version, data, control = (io.BytesIO(outer.extractfile(each).read()) for each in outer)  # type: ignore[union-attr]
    assert version.read() == b"2.0\n"
    with tarfile.open(fileobj=control, mode="r:gz") as inner:
        assert [(each.name, each.mode) for each in inner] == [
            *[(".", 0o755), ("./control", 0o644), ("./conffiles", 0o644)],
            *[("./postinst", 0o755), ("./prerm", 0o755)],
        ]
    with tarfile.open(fileobj=data, mode="r:gz") as inner:
        members = inner.getmembers()
    assert [each.name for each in members] == [".", *[f".{path}" for path in TREE]]
    assert {(each.uid, each.gid, each.uname, each.gname, each.mtime) for each in members} == {
        (0, 0, "", "", EPOCH)
    }


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (Package("../x", "1"), "'../x' cannot be the name of a package"),
        (Package("x", "1/2"), "'1/2' cannot be the version of a package"),
        (Package("x", "1", "a b"), "'a b' cannot be the architecture of a package"),
        (Package("x", "1", extra={"A:b": "c"}), "x: 'A:b' cannot name a field"),
    ],
)
def test_bad_facts_are_refused(tmp_path: Path, package: Package, message: str) -> None:
    with pytest.raises(PackageFileError) as caught:
        write_ipk(tmp_path / "out", package, TREE, epoch=EPOCH)
    assert message in caught.value.message
    assert not list(tmp_path.rglob("*"))


def test_bad_scripts_and_conffiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageFileError, match="setup is no maintainer script"):
        write_ipk(tmp_path, PACKAGE, TREE, epoch=EPOCH, scripts={"setup": b"#!/bin/sh\n"})
    with pytest.raises(PackageFileError, match="postinst is no maintainer script"):
        write_ipk(tmp_path, PACKAGE, TREE, epoch=EPOCH, scripts={"postinst": b"exit 0\n"})
    for path in ("/etc/none", "/etc/config", "/usr/bin/hi"):
        with pytest.raises(PackageFileError, match=f"the configuration file {path} is not in the package"):
            write_ipk(tmp_path, PACKAGE, TREE, epoch=EPOCH, conffiles=[path])


# reading


@pytest.mark.parametrize("name", ["../x", "/etc/x", "./a/../../x", "a/..", ".."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    message = refused(ipk_of(tmp_path, packed((member(name), b"x"))))
    assert repr(name) in message
    assert "leads out of it" in message


@pytest.mark.parametrize(
    ("name", "target"), [("./x", ".."), ("./x", "../etc/passwd"), ("./a/x", "../../b"), ("./x", "a/../../b")]
)
def test_links_that_climb_out_are_refused(tmp_path: Path, name: str, target: str) -> None:
    message = refused(ipk_of(tmp_path, packed((member(name, tarfile.SYMTYPE, target), b""))))
    assert "leads out of the device's root" in message


@pytest.mark.parametrize(("name", "target"), [("./a/x", "../b"), ("./x", "/etc/passwd"), ("./x", "a/../b")])
def test_links_within_the_device_are_kept_as_they_are(tmp_path: Path, name: str, target: str) -> None:
    tree = read_ipk(ipk_of(tmp_path, packed((member(name, tarfile.SYMTYPE, target), b"")))).tree
    assert tree[name[1:]] == symlink(target)


def test_nothing_is_put_below_a_link(tmp_path: Path) -> None:
    data = packed((member("./a", tarfile.SYMTYPE, "/etc"), b""), (member("./a/passwd"), b"x"))
    assert "/a/passwd lies below /a, which is a symlink" in refused(ipk_of(tmp_path, data))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    message = refused(ipk_of(tmp_path, packed((member("./dev/x", kind), b""))))
    assert "/dev/x is neither a file, a folder nor a link" in message


def test_hard_links_are_files_and_must_have_one(tmp_path: Path) -> None:
    data = packed((member("./a"), b"1"), (member("./b", tarfile.LNKTYPE, "./a"), b""))
    assert read_ipk(ipk_of(tmp_path, data)).tree["/b"].data == b"1"
    for target in ("./none", "../a", "/etc/passwd"):
        refused(ipk_of(tmp_path, packed((member("./b", tarfile.LNKTYPE, target), b""))))


def test_a_file_is_there_once(tmp_path: Path) -> None:
    data = packed((member("./a"), b"1"), (member("./a"), b"2"))
    assert "it holds /a twice" in refused(ipk_of(tmp_path, data))
    folders = packed((member("./d", tarfile.DIRTYPE), b""), (member("d/", tarfile.DIRTYPE), b""))
    assert list(read_ipk(ipk_of(tmp_path, folders)).tree) == ["/d"]


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    path = ipk_of(tmp_path, packed((member("./zeros"), bytes(1 << 20))))
    assert path.stat().st_size < 1 << 14
    assert "data.tar.gz unpacks to more than it may" in refused(path, Limits(data=1 << 19))
    assert "unpacks to more than it may" in refused(path, Limits(control=1 << 8))
    assert "unpacks to more than it may" in refused(path, Limits(file=path.stat().st_size))
    assert "has more than 100 bytes" in refused(path, Limits(file=100))
    many = ipk_of(tmp_path, packed(*[(member(f"./{number}"), b"") for number in range(20)]))
    assert "more than 10 files" in refused(many, Limits(members=10))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    header = bytearray(member("./sparse").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"77777777777\0"  # the size that it claims to have
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    data = gzip.compress(bytes(header) + bytes(1024))
    assert "sparse" in refused(ipk_of(tmp_path, data))


def test_other_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.ipk"
    for content in (b"", b"!<arch>\ndebian-binary", b"PK\3\4", gzip.compress(b"no tar"), os.urandom(600)):
        path.write_bytes(content)
        refused(path)
    path.write_bytes(packed((member("./debian-binary"), b"2.0\n")))
    assert "it has no control.tar.gz, data.tar.gz" in refused(path)
    assert "has no control file" in refused(ipk_of(tmp_path, packed(), control=packed()))
    nameless = packed((member("./control"), b"Version: 1\n"))
    assert "it has no name" in refused(ipk_of(tmp_path, packed(), control=nameless))
    refused(tmp_path)
    refused(tmp_path / "none.ipk")


def test_a_control_file_is_read_as_opkg_reads_it(tmp_path: Path) -> None:
    text = b"Package: a\nnonsense\nVersion: 1\nDepends: b (>=1) (<2),\n folded\nProvides: x y\n"
    text += b"Description: \xe9\n"
    control = packed((member("./control"), text + b"\nPackage: another\n"))
    found = read_control(ipk_of(tmp_path, packed(), control=control)).control
    assert (found.name, found.version, found.provides, found.description) == ("a", "1", ("x", "y"), "\ufffd")
    assert found.depends == parse_depends("b (>= 1)")


def test_the_file_that_names_the_format_need_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "x.ipk"
    control = packed((member("./control"), b"Package: a\nVersion: 1\n"))
    path.write_bytes(packed((member("./control.tar.gz"), control), (member("./data.tar.gz"), packed())))
    assert read_ipk(path).control.name == "a"


def test_a_file_that_is_no_package_does_not_cost_the_index(tmp_path: Path) -> None:
    made = write_ipk(tmp_path, PACKAGE, FileTree({"/x": file_of(b"x")}), epoch=EPOCH)
    (tmp_path / "broken_1_all.ipk").write_bytes(b"nothing")
    packages = parse_index(index_of(tmp_path, sorted(tmp_path.glob("*.ipk"))))
    assert [each.filename for each in packages] == [made.path.name]
    (unusable,) = packages.unusable
    assert (unusable.name, unusable.reason) == ("broken", "it has no name (Package)")


def test_a_flipped_bit_in_the_data_is_found(tmp_path: Path) -> None:
    made = write_ipk(tmp_path, PACKAGE, FileTree({"/x": file_of(os.urandom(4000))}), epoch=EPOCH)
    content = bytearray(gzip.decompress(made.path.read_bytes()))
    content[3000] ^= 1  # inside data.tar.gz, whose own checksum must catch it
    made.path.write_bytes(gzip.compress(bytes(content)))
    refused(made.path)


# properties


def _any_bytes(place: Path, data: bytes) -> None:
    place.write_bytes(data)
    with contextlib.suppress(PackageFileError):
        read_ipk(place, limits=Limits(1 << 20, 1 << 20, 1 << 16, 100))


def _plain(data: bytes) -> bytes:
    return data


@settings(deadline=None)
@given(st.binary(max_size=1600), st.sampled_from([_plain, gzip.compress]))
def test_any_bytes_are_a_package_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    _any_bytes(tmp_path_factory.getbasetemp() / "any.ipk", wrap(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_package_is_a_package_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.getbasetemp()
    content = bytearray(packed((member("./a"), b"1"), (member("./b/c", tarfile.SYMTYPE, "../a"), b"")))
    level = data.draw(st.sampled_from(["tar", "gzip", "outer"]))
    if level == "outer":
        content = bytearray(ipk_of(place, bytes(content)).read_bytes())
    inner = bytearray(gzip.decompress(content)) if level == "tar" else content
    for _ in range(data.draw(st.integers(1, 4))):
        inner[data.draw(st.integers(0, len(inner) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(inner))))
    result = bytes(inner[:cut])
    if level == "tar":
        result = gzip.compress(result)
    _any_bytes(place / "damaged.ipk", result if level == "outer" else ipk_of(place, result).read_bytes())


CONTENTS = st.one_of(
    st.builds(file_of, st.binary(max_size=700), st.sampled_from([0o644, 0o755, 0o4755, 0])),
    st.builds(symlink, st.sampled_from(["a", "/x/y"])),
    st.builds(folder, st.sampled_from([0o755, 0o1777])),
)


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"/[a-zé \n|]{1,120}", fullmatch=True), CONTENTS, max_size=6))
def test_any_tree_survives(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, object]) -> None:
    tree = FileTree(entries)  # type: ignore[arg-type] # hypothesis cannot say what CONTENTS holds
    made = write_ipk(tmp_path_factory.getbasetemp() / "trees", PACKAGE, tree, epoch=EPOCH)
    again = read_ipk(made.path).tree
    assert again == tree
    assert digest(again) == digest(tree)
