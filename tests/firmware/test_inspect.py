"""What is told of an image, what is taken out of it, and how two are compared."""

from __future__ import annotations

import json
import os
import stat
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from imagebuilder.cli.firmware import extract as extract_command
from imagebuilder.errors import UserError
from imagebuilder.firmware.extract import extract, list_files, read_file
from imagebuilder.firmware.inspection import diff, inspect
from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.rootfs import parse_apk, python_inside
from imagebuilder.firmware.squashfs.index import read_index
from imagebuilder.host.run import run
from imagebuilder.model.firmware import PythonInside, RootFile
from imagebuilder.report.firmware import checks_text, difference_text, inspection_text, plain, strip_text
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

SAMPLES = {sample.name: sample for sample in images.samples()}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path, images.tplink(factory=True))


def write(folder: Path, data: bytes, name: str = "image.bin") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_an_inspection_tells_what_is_inside(image: Path) -> None:
    found = inspect(image)
    assert found.kernel == "4.4.182"
    assert found.problems == ()
    assert found.root is not None
    assert found.root.release["RELEASE"] == "17.01.7"
    assert found.root.packages["busybox"] == "1.25.1-4"
    assert found.root.python == PythonInside("3.6.4", "light", "python3-base")
    owner = {share.name: share for share in found.root.shares}
    assert owner["busybox"].files == 3  # the program, its link, and its list
    assert owner["libc"].size > 50000
    assert sum(share.stored for share in found.root.shares) + found.root.tables == found.root.stored


@pytest.mark.parametrize("name", SAMPLES)
def test_the_strip_fills_the_file(tmp_path: Path, name: str) -> None:
    strip = inspect(write(tmp_path, SAMPLES[name].data)).strip
    assert strip[0].offset == 0
    assert all(one.offset + one.size == two.offset for one, two in pairwise(strip))
    assert strip[-1].offset + strip[-1].size == len(SAMPLES[name].data)
    assert len(strip_text(strip)) == 72


def test_a_damaged_rootfs_is_a_problem_and_no_error(tmp_path: Path) -> None:
    data = bytearray(images.tplink())
    at = data.index(b"hsqs")
    inodes = int.from_bytes(data[at + 0x40 : at + 0x48], "little")
    data[at + inodes + 20] ^= 1
    found = inspect(write(tmp_path, make.sign_tplink(bytes(data))))
    assert found.root is None
    assert any("damaged" in check.found for check in found.problems)


def test_reports(image: Path) -> None:
    found = inspect(image)
    text = inspection_text(found)
    for part in (
        "kernel: 4.4.182",
        "Python: 3.6.4 light",
        "hardware id: 121634820 (0x07400004)",
        "busybox 1.25.1-4",
    ):
        assert part in text
    told = plain(found)
    assert json.loads(json.dumps(told)) == told
    assert told["part"]["children"][0]["kind"] == "tplink-v1"
    assert "data" not in told["part"]


def test_the_text_of_checks_ends_with_a_verdict() -> None:
    from imagebuilder.model.firmware import Check  # noqa: PLC0415

    good, bad, warned = (
        Check("a", "1", "1", True),
        Check("b", "1", "2", False),
        Check("c", "1", "2", False, "warning"),
    )
    unsure = Check("d", "1", "2", False, "unsure")
    assert checks_text([good]).endswith("all 1 checks passed\n")
    assert checks_text([good, warned, unsure]).endswith("cannot be told: d; the other 1 checks passed\n")
    assert checks_text([unsure]) == "unsure   d: expected 1, found 2\ncannot be told: d\n"
    assert checks_text([unsure, bad]).endswith("do not flash: 1 of 2 checks failed\n")
    assert checks_text([good, warned]).endswith("1 checks passed, 1 with a warning\n")
    assert "REFUSED  b: expected 1, found 2\n" in checks_text([good, bad, warned])
    assert checks_text([good, bad, warned]).endswith("do not flash: 1 of 3 checks failed\n")


def test_ls_and_cat(image: Path) -> None:
    assert [file.path for file in list_files(image, "/usr/bin")] == ["/usr/bin", "/usr/bin/python3.6"]
    assert list_files(image, "sbin/init")[0].mode == 0o755
    assert read_file(image, "/bin/sh")[:4] == b"\x7fELF"
    for wrong in ("/none", "/usr", "/../etc"):
        with pytest.raises(UserError):
            read_file(image, wrong)
    with pytest.raises(UserError, match="nothing at"):
        list_files(image, "/none")


def test_extract_writes_parts_and_files(image: Path, tmp_path: Path) -> None:
    written = extract(image, tmp_path / "out").written
    assert (tmp_path / "out/rootfs/bin/sh").readlink() == Path("busybox")
    assert (tmp_path / "out/rootfs/lib/libc.so").read_bytes() == make.program(size=50000)
    parts = {
        place.suffix: (tmp_path / "out" / place).read_bytes()
        for place in written
        if place.parts[0] == "parts"
    }
    assert parts[".squashfs"] == make.squashfs()
    assert parts[".lzma"].startswith(make.kernel())
    with pytest.raises(UserError, match="not empty"):
        extract(image, tmp_path / "out")


def test_extract_goes_on_where_it_was_killed_and_takes_nothing_of_the_users(
    image: Path, tmp_path: Path
) -> None:
    into = tmp_path / "out"
    (into / "rootfs/begun").mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty"):
        extract(image, into)
    (into / ".new-abcdefgh/taken/parts").mkdir(parents=True)
    (into / "mine").touch()
    with pytest.raises(UserError, match="is not empty"):
        extract(image, into)
    assert (into / "rootfs/begun").exists()
    (into / "mine").unlink()
    (into / ".new-abcdefgh/taken/parts").mkdir(parents=True)
    extract(image, into)
    assert sorted(path.name for path in into.iterdir()) == ["parts", "rootfs"]
    assert not (into / "rootfs/begun").exists()


def test_extract_takes_the_files_of_boot_partitions(tmp_path: Path) -> None:
    written = extract(write(tmp_path, images.efi_disk()), tmp_path / "out").written
    assert any(place.name.endswith("loader-entries-openwrt.conf.file") for place in written)


def squashfs_of(tmp_path: Path, *pseudo: str) -> bytes:
    """A squashfs whose tables are not compressed, with the files aa and ab in a folder."""
    root = tmp_path / "root/folder"
    root.mkdir(parents=True)
    for name in ("aa", "ab"):
        (root / name).write_text("text\n")
    (root / "ab").chmod(0o4755)
    argv = [
        "mksquashfs",
        str(tmp_path / "root"),
        str(tmp_path / "image"),
        "-quiet",
        "-no-progress",
        "-noI",
        "-noId",
    ]
    for one in pseudo:
        argv += ["-p", one]
    run(argv)
    return (tmp_path / "image").read_bytes()


@pytest.mark.parametrize("name", [b"..", b"a/", b"ab", b"a\n", b"\xff\xfe", b"\0\0"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: bytes) -> None:
    data = squashfs_of(tmp_path)
    assert data.count(b"\x01\0aa") == 1
    bad = data.replace(b"\x01\0aa", b"\x01\0" + name)
    with pytest.raises(ImageFormatError):
        read_index(View(bad))
    with pytest.raises(ImageFormatError):
        extract(write(tmp_path, bad), tmp_path / "out")
    assert not (tmp_path / "out/rootfs").exists()


def test_devices_and_set_id_bits_are_left_out(tmp_path: Path) -> None:
    data = squashfs_of(tmp_path, "console c 600 0 0 5 1", "dir d 755 0 0")
    taken = extract(write(tmp_path, data), tmp_path / "out")
    assert "devices, pipes and sockets are left out (1)" in taken.not_kept
    assert "set-id bits (1)" in taken.not_kept
    assert sorted(place.name for place in (tmp_path / "out/rootfs").iterdir()) == ["dir", "folder"]
    assert stat.S_IMODE((tmp_path / "out/rootfs/folder/ab").stat().st_mode) == 0o755
    assert {file.path: file.kind for file in list_files(tmp_path / "image.bin")}["/console"] == "device"


def test_folders_keep_the_modes_that_the_image_has(tmp_path: Path) -> None:
    modes = {"tmp": 0o1777, "etc": 0o755, "root": 0o700, "shut": 0o555, "closed": 0o050}
    folders = [f"{name} d {mode:o} {os.geteuid()} {os.getegid()}" for name, mode in modes.items()]
    inner = f"shut/inner f 644 {os.geteuid()} {os.getegid()} echo text"
    image = write(tmp_path, squashfs_of(tmp_path, *folders, inner))
    assert {file.path: file.mode for file in list_files(image)}["/tmp"] == 0o1777
    taken = extract(image, tmp_path / "out")
    found = {
        place.name: stat.S_IMODE(place.stat().st_mode)
        for place in (tmp_path / "out/rootfs").iterdir()
        if place.name in modes
    }
    assert found == {**modes, "shut": 0o755, "closed": 0o750}
    assert (tmp_path / "out/rootfs/shut/inner").read_text() == "text\n"
    assert "modes that shut their owner out (2)" in taken.not_kept


def test_the_command_says_in_one_line_what_it_could_not_keep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = typer.Typer()
    command.command()(extract_command)
    image = write(tmp_path, squashfs_of(tmp_path, "console c 600 0 0 5 1"))
    command([str(image), str(tmp_path / "out")], standalone_mode=False)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        "not as in the image: devices, pipes and sockets are left out (1), set-id bits (1)"
    )


def test_links_are_followed_as_the_device_does() -> None:
    files = tuple(
        RootFile(path, kind, 0o755, 0, 0, target)
        for path, kind, target in (
            ("/", "folder", ""),
            ("/a", "folder", ""),
            ("/a/b", "link", "../c"),
            ("/c", "link", "/d"),
            ("/d", "file", ""),
            ("/loop", "link", "loop"),
            ("/out", "link", "../../../../d"),
            ("/lost", "link", "none"),
        )
    )
    index = type(read_index(View(make.squashfs())))(files, 0, 0)
    assert index.resolve("/a/b") == index.get("/d")
    assert index.resolve("/out") == index.get("/d")
    assert index.resolve("/loop") is None
    assert index.resolve("/lost") is None


def test_apk_lists() -> None:
    text = "C:x\nP:busybox\nV:1.36.1-r2\nF:bin\nR:busybox\nZ:x\n\nP:libc\nV:1.2\nF:lib\nR:libc.so\n"
    assert parse_apk(text) == (
        {"busybox": "1.36.1-r2", "libc": "1.2"},
        {"/bin/busybox": "busybox", "/lib/libc.so": "libc"},
    )


@pytest.mark.parametrize(
    ("packages", "files", "found"),
    [
        (
            {"python3": "3.11.7-1", "python3-base": "3.11.7-1", "python3-light": "3.11.7-1"},
            (),
            PythonInside("3.11.7", "full", "python3-base"),
        ),
        (
            {"python-light": "2.7.14-1", "python-base": "2.7.14-1"},
            (),
            PythonInside("2.7.14", "python2-light", "python-base"),
        ),
        (
            {"micropython-lib": "1", "micropython": "1.9.3-1"},
            (),
            PythonInside("1.9.3-1", "micropython", "micropython"),
        ),
        ({}, ("/usr/bin/python3.11",), PythonInside("3.11", "", "")),
        ({"busybox": "1"}, (), None),
    ],
)
def test_python_inside(packages: dict[str, str], files: tuple[str, ...], found: PythonInside | None) -> None:
    assert python_inside(packages, [RootFile(path, "file", 0o755, 1, 1) for path in files]) == found


def test_the_same_image_twice(image: Path) -> None:
    found = diff(image, image)
    assert found.same
    assert (found.packages, found.files, found.fields, found.kernel) == ((), (), (), None)
    assert "the same, byte for byte" in difference_text(found)


def test_two_images_are_compared(image: Path, tmp_path: Path) -> None:
    kernel = make.lzma.compress(b"Linux version 5.4.1 (x) " + make.noise(9000), make.lzma.FORMAT_ALONE)
    other = make.tplink_v1(kernel, make.squashfs(remove="sbin/init", release="18.06.1"), hwid=0x07400005)
    found = diff(image, write(tmp_path, other, "other.bin"))
    assert not found.same
    assert found.kernel is not None
    assert (found.kernel.before, found.kernel.after) == ("4.4.182", "5.4.1")
    files = {change.name: change for change in found.files}
    assert files["/sbin/init"].after is None
    assert files["/etc/openwrt_release"].before != files["/etc/openwrt_release"].after
    assert "/lib/libc.so" not in files
    fields = {change.name: (change.before, change.after) for change in found.fields}
    assert fields["image/image: hardware id"] == ("121634820 (0x07400004)", "121634821 (0x07400005)")
    assert any(change.name == "" and change.after < change.before for change in found.package_sizes)
    text = difference_text(found)
    assert "  - /sbin/init file 0755" in text
    assert json.dumps(plain(found))
