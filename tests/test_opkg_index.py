"""opkg's package lists: text to packages, packages to text."""

from __future__ import annotations

import contextlib
import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.feeds.opkg import (
    PackageIndexError,
    compressed_index,
    format_index,
    parse_index,
    read_index,
)
from imagebuilder.model.control import ControlError, format_fields, parse_depends, parse_fields
from imagebuilder.model.package import Dependency, Package

# the shape of real entries, of several releases
INDEX = """\
Package: kmod-gpio
Version: 4.4.182-2
Depends: kernel (=4.4.182-1-d576), kmod-mii
Source: package/kernel/gpio
License: GPLv2
Section: kernel
Architecture: mips_24kc
Installed-Size: 19065
Filename: kmod-gpio_4.4.182-2_mips_24kc.ipk
Size: 20047
SHA256sum: 88fbbdb9edea30f162642a97055e1682fe00a61af309658add397b04462f0f10
Description:  A replacement for these drivers:
 1) gpio_keys
 \x20
 Instead of input events it makes uevents.

Package: ip-full
Version: 4.4.0-10
Depends: libc, libnl-tiny (>= 0.1) | libnl (<< 4)
Provides: ip, ip-any (= 4)
Conflicts: ip-tiny
Replaces: ip-tiny (<= 3)
Essential: yes
ABIVersion: 20230523
Alternatives: 300:/sbin/ip:/usr/libexec/ip-full
Architecture: mips_24kc
Size: 9
Installed-Size: 10

"""


def test_the_fields_of_a_package() -> None:
    gpio, ip = parse_index(INDEX)
    assert gpio.name == "kmod-gpio"
    assert gpio.depends == (
        (Dependency("kernel", "=", "4.4.182-1-d576"),),
        (Dependency("kmod-mii"),),
    )
    assert (gpio.size, gpio.installed_size, gpio.section) == (20047, 19065, "kernel")
    assert gpio.description.startswith("A replacement for these drivers:\n 1) gpio_keys\n")
    assert gpio.description.endswith("uevents.")
    assert gpio.extra == {"Source": "package/kernel/gpio", "License": "GPLv2"}
    assert ip.depends[1] == (Dependency("libnl-tiny", ">=", "0.1"), Dependency("libnl", "<<", "4"))
    assert ip.provides == ("ip", "ip-any")
    assert ip.conflicts == (Dependency("ip-tiny"),)
    assert ip.replaces == (Dependency("ip-tiny", "<=", "3"),)
    assert (ip.essential, ip.abi_version) == (True, "20230523")
    assert ip.extra == {"Alternatives": "300:/sbin/ip:/usr/libexec/ip-full"}


def test_operators_and_odd_names_are_read_as_opkg_does() -> None:
    assert parse_depends("a (< 1), b (> 1), c (==1)") == (
        (Dependency("a", "<=", "1"),),
        (Dependency("b", ">=", "1"),),
        (Dependency("c", "=", "1"),),
    )
    # seen in a real list: to opkg all of it is the name
    assert parse_depends("erlang-erts=6.4,") == ((Dependency("erlang-erts=6.4"),),)
    for text in ("a (1)", "a (~ 1)", "a (>= )", "a b", "a | ", "(a)", "a (=> 1)"):
        with pytest.raises(ControlError, match="is no dependency"):
            parse_depends(text)


def test_an_index_written_and_read_is_the_same() -> None:
    packages = parse_index(INDEX)
    again = parse_index(format_index(packages))
    assert list(again) == sorted(packages, key=lambda package: package.name)
    assert again[1].extra == packages[0].extra
    assert format_index(again) == format_index(packages)


def test_an_index_has_the_fields_in_their_order() -> None:
    package = Package(
        "a",
        "1-1",
        "x86_64",
        parse_depends("libc, b (>= 2)"),
        installed_size=5,
        description="Text",
        filename="a_1-1_x86_64.ipk",
        size=7,
        sha256="ab" * 32,
    )
    assert format_index([package]) == (
        "Package: a\nVersion: 1-1\nDepends: libc, b (>= 2)\nArchitecture: x86_64\nInstalled-Size: 5\n"
        f"Filename: a_1-1_x86_64.ipk\nSize: 7\nSHA256sum: {'ab' * 32}\nDescription: Text\n\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Package: a\nVersion: 1\n\nPackage: b\nnonsense\n", "line 5: 'nonsense' is no `Name: value`"),
        ("\n\n Package: a\n", "line 3: a value goes on before there is one"),
        ("Package: a\nVersion: 1\nVersion: 2\n", "line 3: Version is there twice"),
        ("Package: a\n", "line 1: the package 'a' has no Version field"),
        ("Version: 1\n", "has no Package field"),
        ("Package: a\nVersion: 1\nSize: 1x\n", "Size is '1x', not a number of bytes"),
        ("Package: a\nVersion: 1\nSize: -1\n", "not a number of bytes"),
        ("<html>", "is no `Name: value`"),
        ("Package: a\nVersion: 1\nDepends: a (>= \n", "is no dependency"),
    ],
)
def test_faults_name_list_and_line(text: str, message: str) -> None:
    with pytest.raises(PackageIndexError) as caught:
        parse_index(text, origin="feed/Packages")
    assert "feed/Packages, line " in caught.value.message
    assert message in caught.value.message


def test_files_plain_and_gzipped(tmp_path: Path) -> None:
    (tmp_path / "Packages").write_text(INDEX)
    (tmp_path / "Packages.gz").write_bytes(compressed_index(INDEX))
    assert read_index(tmp_path / "Packages") == read_index(tmp_path / "Packages.gz") == parse_index(INDEX)
    assert compressed_index(INDEX) == compressed_index(INDEX)
    assert gzip.decompress(compressed_index(INDEX)).decode() == INDEX


def test_damaged_files(tmp_path: Path) -> None:
    packed = compressed_index(INDEX)
    place = tmp_path / "Packages.gz"
    place.write_bytes(packed[:-20])
    with pytest.raises(PackageIndexError, match="is cut off"):
        read_index(place)
    place.write_bytes(packed[:20] + b"\xff\xff\xff" + packed[23:])
    with pytest.raises(PackageIndexError):
        read_index(place)
    with pytest.raises(PackageIndexError, match="cannot read the package list"):
        read_index(tmp_path / "none")


NAMES = st.from_regex(r"[a-z][a-z0-9+.-]{0,8}", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9][0-9a-z.~+-]{0,6}", fullmatch=True)
DEPENDENCIES = st.one_of(
    st.builds(Dependency, NAMES),
    st.builds(Dependency, NAMES, st.sampled_from(["<<", "<=", "=", ">=", ">>"]), VERSIONS),
)
LINES = st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=9)
PACKAGES = st.builds(
    Package,
    NAMES,
    VERSIONS,
    st.sampled_from(["all", "x86_64"]),
    depends=st.lists(st.lists(DEPENDENCIES, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
    provides=st.lists(NAMES, max_size=2).map(tuple),
    conflicts=st.lists(DEPENDENCIES, max_size=2).map(tuple),
    replaces=st.lists(DEPENDENCIES, max_size=2).map(tuple),
    size=st.integers(0, 10**12),
    installed_size=st.integers(0, 10**12),
    sha256=st.sampled_from(["", "0" * 64]),
    section=st.sampled_from(["", "lang"]),
    description=st.lists(LINES, max_size=3).map("\n ".join),
    essential=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(PACKAGES, max_size=4))
def test_any_packages_survive_the_text(packages: list[Package]) -> None:
    ordered = sorted(packages, key=lambda package: (package.name, package.version, package.filename))
    assert list(parse_index(format_index(packages))) == ordered


@settings(deadline=None)
@given(st.text(st.sampled_from("Package:Vrsion \n\tDd1,|()<=>"), max_size=80))
def test_any_text_is_packages_or_one_error(text: str) -> None:
    with contextlib.suppress(PackageIndexError):
        assert all(package.name and package.version for package in parse_index(text))


LINE = st.sampled_from(
    [
        *[
            "Package: a",
            "Version: 1",
            "Depends: b (>= 1) | c, d",
            "Depends: (",
            "Provides: e (= 2), f",
            "Size: 7",
        ],
        *[
            "Conflicts: g",
            "Replaces: h",
            "Alternatives: 1:/a:/b",
            "ABIVersion: 3",
            " more",
            "",
            "",
            ":",
            "x",
            "X:",
        ],
    ]
)


@given(st.lists(LINE, max_size=14))
def test_any_lines_are_packages_or_one_error_that_names_the_line(lines: list[str]) -> None:
    try:
        packages = parse_index("\n".join(lines), origin="feed")
    except PackageIndexError as error:
        found = re.match(r"feed, line (\d+): ", error.message)
        assert found is not None
        assert 1 <= int(found[1]) <= len(lines)
    else:
        assert len(packages) == sum(line == "Package: a" for line in lines)


@settings(deadline=None)
@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_packages_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, gzipped: bool
) -> None:
    place = tmp_path_factory.getbasetemp() / "Packages"
    place.write_bytes(b"\x1f\x8b\x08" + data if gzipped else data)
    with contextlib.suppress(PackageIndexError):
        read_index(place)


@given(st.data(), st.integers(0, 255))
def test_a_changed_byte_is_packages_or_one_error(data: st.DataObject, byte: int) -> None:
    raw = bytearray(INDEX.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = byte
    with contextlib.suppress(PackageIndexError):
        assert all(
            package.name and package.version for package in parse_index(raw.decode("utf-8", "replace"))
        )


@settings(deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,5}", fullmatch=True),
        st.lists(LINES, min_size=1, max_size=3).map("\n ".join),
    )
)
def test_any_fields_survive_the_text(fields: dict[str, str]) -> None:
    assert parse_fields(format_fields(fields)) == fields


def test_an_empty_line_in_a_value_does_not_end_the_paragraph() -> None:
    package = replace(parse_index(INDEX)[0], description="one\n\ntwo")
    (again,) = parse_index(format_index([package]))
    assert again.description == "one\n \n two"
    with pytest.raises(ControlError, match="cannot name a field"):
        format_fields({"a b": "c"})
