"""Wheels: read and checked, placed on the target, refused where they do not fit."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagebuilder.errors import UserError
from imagebuilder.host.elf import MAX_ENTRIES, ElfError, read_elf, read_header
from imagebuilder.model.edition import EDITIONS
from imagebuilder.python.apps.launcher import StartOptions
from imagebuilder.python.wheels.entry_points import EntryPoint, EntryPointError, read_entry_points
from imagebuilder.python.wheels.target import TargetError, WheelTarget, wheel_target
from imagebuilder.python.wheels.tree import NativeCodeError, wheel_tree
from imagebuilder.python.wheels.wheels import WheelError, read_wheel
from tests.support.wheel_maker import make_elf, make_wheel, record_line

SITE = "/usr/lib/python3.11/site-packages"
START = StartOptions(SITE)
X86 = replace(wheel_target("3.11.7", "x86_64", "23.05"), libraries={"libgcc_s.so.1": "libgcc1"})
KIT = wheel_target("3.11.2", "x86_64", "23.05", glibc=EDITIONS["embedded"].glibc)
MIPS = wheel_target("3.11.7", "mips_24kc", "23.05")
MIPSEL = wheel_target("3.11.7", "mipsel_24kc", "23.05")
ARM = wheel_target("3.11.7", "arm_cortex-a9_vfpv3-d16", "23.05")
SOFT_ARM = wheel_target("3.11.7", "arm_cortex-a9", "23.05")
# what the modules of OpenWrt's own python3-light say, of mips_24kc
SOFT = {
    "machine": 8,
    "bits": 32,
    "little": False,
    "flags": 0x70001005,
    "mips_float": 3,
    "needed": ["libc.so"],
}


def test_a_wheel_is_read(tmp_path: Path) -> None:
    wheel = read_wheel(
        make_wheel(
            tmp_path,
            "My-App",
            "1.2",
            requires=["bottle>=0.12"],
            scripts={"run": "my_app:main"},
            python=">=3.9",
        )
    )
    assert (wheel.name, str(wheel.version), wheel.pure) == ("my-app", "1.2", True)
    assert [str(each) for each in wheel.requires] == ["bottle>=0.12"]
    assert wheel.requires_python == ">=3.9"
    assert wheel.summary == "A demonstration"
    assert wheel.entry_points == (EntryPoint("run", "my_app", "main"),)
    assert list(wheel.files) == ["My_App.py"]


def test_its_files_get_their_places(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"",
        "demo/data.txt": b"d",
        "demo-1.0.data/purelib/extra.py": b"",
        "demo-1.0.data/scripts/tool": b"#!python -E\nprint()\n",
        "demo-1.0.data/scripts/other": b"#!/bin/sh\n",
        "demo-1.0.data/headers/demo.h": b"h",
        "demo-1.0.data/data/share/demo/x": b"x",
    }
    made = wheel_tree(
        read_wheel(make_wheel(tmp_path, files=files, scripts={"demo": "demo:main.run"})), X86, START
    )
    info = f"{SITE}/demo-1.0.dist-info"
    assert [path for path, entry in made.tree.items() if entry.kind == "file"] == sorted(
        [
            *(f"{SITE}/demo/__init__.py", f"{SITE}/demo/data.txt", f"{SITE}/extra.py", "/usr/share/demo/x"),
            *(f"{info}/METADATA", f"{info}/entry_points.txt"),
        ]
    )
    assert made.tree[f"{info}/METADATA"].data == (
        b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nSummary: A demonstration\n"
    )
    assert made.programs["/usr/bin/tool"].data == b"#!/usr/bin/python3 -B\nprint()\n"
    assert made.programs["/usr/bin/other"].data == b"#!/bin/sh\n"
    assert made.programs["/usr/bin/tool"].mode == 0o755
    program = made.programs["/usr/bin/demo"].data or b""
    assert b"from demo import main\n" in program
    assert b"sys.exit(main.run())" in program
    assert not [path for path in made.tree if path.startswith("/usr/include")]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    files = {"demo.py": b"x = 1\n"}
    rows = [record_line("demo.py", b"x = 2\n")]
    path = make_wheel(tmp_path, files=files, record=False)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    rows += [record_line(name, data) for name, data in content.items() if name != "demo.py"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("demo-1.0.dist-info/RECORD", "\n".join(rows))
    with pytest.raises(WheelError, match=r"demo\.py is not what its RECORD says"):
        read_wheel(path)


def test_files_without_a_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="no SHA-256 of evil.py"):
        read_wheel(make_wheel(tmp_path / "a", more={"evil.py": b""}))
    with pytest.raises(WheelError, match="it has no RECORD"):
        read_wheel(make_wheel(tmp_path / "b", record=False))


@pytest.mark.parametrize("name", ["../x.py", "/etc/passwd", "a/../../b", "a\\b", "C:x", "a//b", "a/./b"])
def test_no_path_leaves_the_tree(tmp_path: Path, name: str) -> None:
    with pytest.raises(WheelError, match="is no path inside a wheel"):
        read_wheel(make_wheel(tmp_path, more={name: b""}))


def test_a_link_and_a_second_file_of_a_name_are_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path / "a")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(WheelError, match="link is no plain file"):
        read_wheel(path)
    twice = make_wheel(tmp_path / "b")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("demo.py", "other")
    with pytest.raises(WheelError, match=r"demo\.py is in it twice"):
        read_wheel(twice)


def test_a_wheel_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with pytest.raises(WheelError, match="another distribution"):
        read_wheel(path.rename(tmp_path / "other-1.0-py3-none-any.whl"))
    with pytest.raises(WheelError, match="no wheel is named so"):
        read_wheel((tmp_path / "other-1.0-py3-none-any.whl").rename(tmp_path / "demo.whl"))
    with pytest.raises(WheelError, match="there is no such wheel"):
        read_wheel(tmp_path / "none.whl")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_any_bytes_are_a_wheel_or_one_clear_error(
    tmp_path: Path, junk: bytes, at: int, change: bytes
) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(junk)
    with pytest.raises(UserError):
        read_wheel(path)
    data = bytearray(make_wheel(tmp_path).read_bytes())
    at %= len(data)
    data[at : at + len(change)] = change
    path.write_bytes(bytes(data))
    try:
        read_wheel(path)
    except UserError as error:
        assert str(path) in error.message


FIELDS = [b"Name", b"Requires-Dist", b"Requires-Python", b"Summary", b"Wheel-Version", b"Content-Type"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("METADATA", [(b"Content-Type", b"message/rfc822"), (b"Name", b"demo")])
@example("METADATA", [(b"Content-Type", b"multipart/mixed; boundary=a\nName: demo\n--a\n\n--a--")])
@given(
    st.sampled_from(["METADATA", "WHEEL", "RECORD"]),
    st.lists(st.tuples(st.sampled_from(FIELDS), st.binary(max_size=40)), max_size=6),
)
def test_any_text_of_dist_info_is_read_or_one_clear_error(
    tmp_path: Path, name: str, fields: list[tuple[bytes, bytes]]
) -> None:
    text = b"".join(b"%s: %s\n" % field for field in fields)
    try:
        wheel = read_wheel(make_wheel(tmp_path, more={f"demo-1.0.dist-info/{name}": text}, known=True))
    except WheelError as error:
        assert "demo-1.0-py3-none-any.whl: " in error.message
    else:
        assert wheel.name == "demo"


def test_what_metadata_says_is_read(tmp_path: Path) -> None:
    def made(metadata: str, encoding: str = "utf-8") -> Path:
        return make_wheel(
            tmp_path, more={"demo-1.0.dist-info/METADATA": metadata.encode(encoding)}, known=True
        )

    wheel = read_wheel(made("Name: demo\nSummary: Größe\n  und mehr\nRequires-Python: >=3\n\nName: other\n"))
    assert (wheel.summary, wheel.requires_python, wheel.requires) == ("Größe und mehr", ">=3", ())
    with pytest.raises(WheelError, match="it requires 'a b', which is no requirement"):
        read_wheel(made("Name: demo\nRequires-Dist: a\nRequires-Dist: a b\n"))
    with pytest.raises(WheelError, match="requires-dist of its METADATA is repeated or no UTF-8"):
        read_wheel(made("Name: demo\nRequires-Dist: Größe\n", "latin-1"))
    with pytest.raises(WheelError, match="requires-python of its METADATA is repeated"):
        read_wheel(made("Name: demo\nRequires-Python: >=3\nRequires-Python: >=3.20\n"))
    with pytest.raises(WheelError, match="its METADATA is that of 'other'"):
        read_wheel(made("Name: other\n"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("demo.py,sha256=aa\n", "a line of its RECORD has not three parts: demo.py,sha256=aa"),
        ("demo.py,md5=aa,1\n", "its RECORD has no SHA-256 of demo.py"),
        ("gone.py,sha256=aa,1\n", "it lacks gone.py, which its RECORD names"),
        ("\0,,\n\xff", "RECORD"),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, record: str, message: str) -> None:
    with pytest.raises(WheelError, match=message):
        read_wheel(
            make_wheel(tmp_path, record=False, more={"demo-1.0.dist-info/RECORD": record.encode("latin-1")})
        )


@given(st.text(max_size=200))
def test_any_entry_points_are_programs_or_one_clear_error(text: str) -> None:
    try:
        found = read_entry_points(Path("x.whl"), text.encode("utf-8", "replace"))
    except EntryPointError:
        return
    assert all("/" not in each.program for each in found)


@pytest.mark.parametrize("line", ["../x = a:b", "x = a", "x = a:b; import os", "x = a b:c", "x/y = a:b"])
def test_entry_points_that_are_none(line: str) -> None:
    with pytest.raises(EntryPointError, match="is no program"):
        read_entry_points(Path("x.whl"), f"[console_scripts]\n{line}\n".encode())


def test_an_elf_files_facts() -> None:
    elf = read_elf(make_elf(["libc.so", "libz.so.1"], soname="libx.so.1", runpath="$ORIGIN/../x.libs:/y"))
    assert (elf.header.machine, elf.header.bits, elf.header.little_endian) == (62, 64, True)
    assert elf.needed == ("libc.so", "libz.so.1")
    assert elf.soname == "libx.so.1"
    assert elf.runpath == ("$ORIGIN/../x.libs", "/y")
    big = read_elf(make_elf(["libc.so"], machine=8, bits=32, little=False, flags=0x1007))
    assert (big.header.machine, big.header.bits, big.header.little_endian, big.header.flags, big.needed) == (
        8,
        32,
        False,
        0x1007,
        ("libc.so",),
    )
    real = read_elf(Path("/usr/bin/env").read_bytes())
    assert real.header.bits == 64
    assert any(name.startswith("libc.") for name in real.needed)


@example(b"", 32, b"\xff" * 8)
@settings(max_examples=500)
@given(st.binary(max_size=400), st.integers(0, 300), st.binary(min_size=1, max_size=8))
def test_any_bytes_are_an_elf_file_or_one_clear_error(junk: bytes, at: int, change: bytes) -> None:
    data = bytearray(make_elf(["libc.so"], soname="x"))
    data[at : at + len(change)] = change
    for each in (b"\x7fELF" + junk, bytes(data), junk):
        try:
            read_elf(each)
            assert len(read_header(each).sections(each)) <= MAX_ENTRIES
        except ElfError as error:
            assert error.message


@pytest.mark.parametrize(
    ("target", "elf", "problem"),
    [
        (X86, {"needed": ["libc.musl-x86_64.so.1"]}, None),
        (X86, {"needed": ["libc.so", "libgcc_s.so.1"]}, None),
        (X86, {"needed": ["libc.so.6"]}, r"linked with glibc \(libc.so.6\), and the target has musl"),
        (KIT, {"needed": ["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"]}, None),
        (KIT, {"needed": ["libc.musl-x86_64.so.1"]}, "linked with musl"),
        (X86, {"needed": ["libfoo.so.1", "libc.so"]}, "wants the library libfoo.so.1, which neither it nor"),
        (X86, {"machine": 183, "needed": ["libc.so"]}, "for another processor"),
        (MIPS, {"machine": 8, "bits": 32}, "for another processor"),
        (MIPS, SOFT, None),
        (MIPS, {**SOFT, "mips_float": 0}, None),
        (MIPS, {**SOFT, "mips_float": 1}, "passes otherwise than the target floating point numbers"),
        (MIPS, {**SOFT, "mips_float": None}, "does not say how it passes floating point numbers"),
        (MIPS, {**SOFT, "flags": 0x1007}, None),
        (MIPS, {**SOFT, "flags": 0x80001007}, "instructions that mips_24kc lacks"),
        (MIPS, {**SOFT, "flags": 0x70001407}, "another processor ABI or floating point ABI"),
        (MIPS, {**SOFT, "flags": 0x70000027}, "another processor ABI or floating point ABI"),
        (MIPSEL, SOFT, "for another processor"),
        (MIPSEL, {**SOFT, "little": True}, None),
        (SOFT_ARM, {"machine": 40, "bits": 32, "flags": 0x5000200, "needed": ["libc.so"]}, None),
        (
            SOFT_ARM,
            {"machine": 40, "bits": 32, "flags": 0x5000400, "needed": ["libc.so"]},
            "floating point ABI",
        ),
        (ARM, {"machine": 40, "bits": 32, "flags": 0x400, "needed": ["libc.so"]}, "processor ABI"),
        (ARM, {"machine": 40, "bits": 32, "flags": 0x5000400, "needed": ["libc.musl-armv7.so.1"]}, None),
        (ARM, {"machine": 40, "bits": 32, "flags": 0x5000200, "needed": ["libc.so"]}, "floating point ABI"),
    ],
)
def test_native_code_must_fit(
    tmp_path: Path, target: WheelTarget, elf: dict[str, object], problem: str | None
) -> None:
    files = {"demo/_fast.cpython-311-x86_64-linux-musl.so": make_elf(**elf)}  # type: ignore[arg-type]
    wheel = read_wheel(make_wheel(tmp_path, files=files, tag="cp311-cp311-musllinux_1_1_x86_64", pure=False))
    if problem is None:
        made = wheel_tree(wheel, target, START)
        assert f"{SITE}/demo/_fast.so" in made.tree
        assert made.needs == (("libgcc1",) if "libgcc_s.so.1" in str(elf) else ())
    else:
        with pytest.raises(NativeCodeError, match=problem) as caught:
            wheel_tree(wheel, target, START)
        assert "demo/_fast" in caught.value.message
        assert "python3-demo for" in (caught.value.hint or "")


def test_libraries_that_come_with_the_wheel_count(tmp_path: Path) -> None:
    files = {
        "demo/_fast.so": make_elf(["libfoo-1a2b.so.1", "libc.so"]),
        "demo.libs/libfoo-1a2b.so.1": make_elf(["libc.so"], soname="libfoo-1a2b.so.1"),
    }
    wheel = read_wheel(make_wheel(tmp_path, files=files, tag="cp311-cp311-musllinux_1_1_x86_64", pure=False))
    assert wheel_tree(wheel, X86, START).needs == ()


def test_which_wheels_a_target_may_have() -> None:
    assert MIPS.platforms() == ()
    assert {str(tag) for tag in MIPS.tags()} >= {"py3-none-any", "cp311-none-any"}
    assert X86.platforms() == ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64", "musllinux_1_0_x86_64")
    tags = [str(tag) for tag in X86.tags()]
    assert tags[0] == "cp311-cp311-musllinux_1_2_x86_64"
    assert "cp311-cp311-openwrt_mips_24kc" in {str(tag) for tag in MIPS.tags()}
    assert "cp37-abi3-musllinux_1_1_x86_64" in tags
    assert not any("linux_x86_64" in tag and "musl" not in tag for tag in tags)
    assert ARM.platforms()[0] == "musllinux_1_2_armv7l"
    assert wheel_target("3.11.7", "arm_cortex-a9", "23.05").platforms() == ()  # soft float
    assert wheel_target("3.7.17", "x86_64", "19.07").platforms()[0] == "musllinux_1_1_x86_64"
    assert wheel_target("3.7.17", "x86_64", "19.07").abis()[0] == "cp37m"
    assert "manylinux_2_36_x86_64" in KIT.platforms()
    assert "manylinux2014_x86_64" in KIT.platforms()
    assert "manylinux_2_37_x86_64" not in KIT.platforms()
    with pytest.raises(TargetError, match="C library of OpenWrt 15.05"):
        wheel_target("3.11.7", "x86_64", "15.05")


def test_marker_variables_are_the_targets() -> None:
    markers = MIPS.markers()
    assert markers["python_version"] == "3.11"
    assert markers["platform_machine"] == "mips"
    assert ARM.markers()["platform_machine"] == "armv7l"
    assert io.StringIO(markers["sys_platform"]).read() == "linux"


def test_the_same_wheel_gives_the_same_tree(tmp_path: Path) -> None:
    one = wheel_tree(
        read_wheel(make_wheel(tmp_path / "a", scripts={"b": "demo:x", "a": "demo:y"})), X86, START
    )
    two = wheel_tree(
        read_wheel(make_wheel(tmp_path / "b", scripts={"a": "demo:y", "b": "demo:x"})), X86, START
    )
    assert one.programs == two.programs
    assert list(one.tree) == list(two.tree)
