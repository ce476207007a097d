"""opkg's package lists: text to packages, packages to text."""

from __future__ import annotations

import contextlib
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.model.control import ControlError, format_fields, parse_depends, parse_fields
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.opkg import (
    PackageIndexError,
    compressed_index,
    format_index,
    parse_index,
    read_index,
)
from imagebuilder.packages.supply import for_architectures

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


# a term, and what genuine opkgs of 17.01.7, 18.06.9, 19.07.0, 21.02.3 and 24.10.4 make of it
TERMS = [
    ("a (< 1)", Dependency("a", "<=", "1")),
    ("a (> 1)", Dependency("a", ">=", "1")),
    ("a (==1)", Dependency("a", "=", "=1")),
    ("a (=> 1)", Dependency("a", "=", "> 1")),
    ("nginx-ssl-util (>=1.5-1) (<2)", Dependency("nginx-ssl-util", ">=", "1.5-1")),
    ("a (>= 1", Dependency("a", ">=", "1")),
    ("a (>= )", Dependency("a", ">=", "")),
    ("a (= 1 2) x", Dependency("a", "=", "1 2")),
    ("a (1)", Dependency("a")),
    ("a (~ 1)", Dependency("a")),
    ("a  (>= 1)", Dependency("a")),
    ("a b", Dependency("a")),
    ("a(>= 1)", Dependency("a(>=")),
    ("(a)", Dependency("(a)")),
    ("a\t(>= 1)", Dependency("a\t(>=")),
    ("erlang-erts=6.4", Dependency("erlang-erts=6.4")),
]


@pytest.mark.parametrize(("text", "dependency"), TERMS, ids=[text for text, _ in TERMS])
def test_a_dependency_is_read_as_opkg_does(text: str, dependency: Dependency) -> None:
    assert parse_depends(f"b, {text},c") == ((Dependency("b"),), (dependency,), (Dependency("c"),))
    assert parse_depends(f"b| {text} |c") == ((Dependency("b"), dependency, Dependency("c")),)
    assert parse_depends(str(dependency)) == ((dependency,),)


def test_blanks_and_signs_that_say_nothing_are_passed_over() -> None:
    assert parse_depends("") == parse_depends(" ") == parse_depends(" , ,|, | ") == ()
    assert parse_depends("b | | c, |d, e|,") == (
        (Dependency("b"), Dependency("c")),
        (Dependency("d"),),
        (Dependency("e"),),
    )
    assert parse_depends("b ()") == ((Dependency("b"),),)


def test_all_providers_at_once_are_not_known() -> None:
    for text in ("a *", "a (>= 1) *", "b | a *"):
        with pytest.raises(ControlError, match="all that provide 'a'"):
            parse_depends(text)


def test_provides_and_replaces_end_at_blanks_too() -> None:
    text = (
        "Package: a\nVersion: 1\nProvides: erlang-erts=6.4 erlang-kernel=3.2, x (= 4),y(=3)\n"
        "Replaces: b c (<= 3), d\nConflicts: b | c, d (<< 2)\n"
    )
    (package,) = parse_index(text)
    assert package.provides == ("erlang-erts=6.4", "erlang-kernel=3.2", "x", "y(=3)")
    assert package.replaces == (Dependency("b"), Dependency("c", "<=", "3"), Dependency("d"))
    assert package.conflicts == (Dependency("b"), Dependency("c"), Dependency("d", "<<", "2"))


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


LISTS = json.loads((Path(__file__).parents[2] / "data/opkg-lists.json").read_text("utf-8"))["lists"]


@pytest.mark.parametrize("recorded", LISTS, ids=[str(number) for number in range(len(LISTS))])
def test_what_genuine_opkgs_took_from_a_list(recorded: dict[str, Any]) -> None:
    packages = for_architectures(parse_index(recorded["index"]), ("all", "mips_24kc"))
    ours = {(each.name, each.version): each for each in packages}
    theirs = {(name, version): more for name, version, *more in recorded["taken"]}
    assert ours.keys() <= theirs.keys()
    assert len(theirs.keys() - ours.keys()) <= len(packages.unusable)
    for key, package in ours.items():
        depends, provides = theirs[key]
        wanted = [[[each.name, each.operator, each.version] for each in group] for group in package.depends]
        assert wanted == depends
        # to opkg the parts of a version in brackets are names too
        others = [name for name in provides if name not in package.provides]
        assert set(package.provides) <= set(provides)
        assert all(
            "(" in name or ")" in name or f"({name}" in recorded["index"] for name in others if name != "4"
        )


def test_there_is_enough_of_what_genuine_opkgs_took() -> None:
    taken = [package for recorded in LISTS for package in recorded["taken"]]
    ours = [package for recorded in LISTS for package in parse_index(recorded["index"])]
    assert len(LISTS) > 100
    assert len(ours) > 100
    assert sum(len(depends) for _, _, depends, _ in taken) > 200


NEXT = "\nPackage: next\nVersion: 2\n"


@pytest.mark.parametrize(
    ("text", "name", "line", "reason"),
    [
        ("Package: a\nVersion: 1\nVersion: 2\n", "a", 3, "Version is there twice"),
        ("Package: a\nPackage: b\nVersion: 2\n", "a", 2, "Package is there twice"),
        ("Package: a\nVersion: 2\nSection: u\nSection: v\n", "a", 4, "Section is there twice"),
        ("Package: a\n", "a", 1, "it has no version"),
        ("Package: a\nVersion:\n", "a", 1, "it has no version"),
        ("Package: a\nVersion: 1 2\n", "a", 1, "'1 2' is no version"),
        ("Package: a\nVersion: x:1\n", "a", 1, "'x:1' is no version"),
        ("Package: a\nVersion: 1-\n", "a", 1, "'1-' is no version"),
        ("Package: a b\nVersion: 1\n", "a b", 1, "'a b' is no name"),
        ("Version: 1\n", "", 1, "it has no name"),
        ("Package:\nVersion: 1\nFilename: x/__.ipk\n", "", 1, "it has no name"),
        ("\n\nVersion: 1\nFilename: nginx_1_all.ipk\n", "nginx", 3, "it has no name"),
        ("Package: a\nVersion: 1\nSize: -1\n", "a", 1, "Size is '-1', not a number of bytes"),
        ("Package: a\nVersion: 1\nSize: " + "9" * 19 + "\n", "a", 1, "not a number of bytes"),
        ("Package: a\nVersion: 1\nDepends: b *\n", "a", 1, "all that provide 'b'"),
        ("Package: a\nPackage-Type: udeb\nVersion: 1\n", "a", 2, "for another field than it is"),
        ("Package: a\nVersion: 1\nDepends b\n", "a", 3, "for another field than it is"),
    ],
)
def test_a_paragraph_costs_its_own_package_alone(text: str, name: str, line: int, reason: str) -> None:
    packages = parse_index(f"Package: first\nVersion: 1\n\n{text}{NEXT}")
    assert [each.name for each in packages] == ["first", "next"]
    (unusable,) = packages.unusable
    assert (unusable.name, unusable.line) == (name, line + 3)
    assert reason in unusable.reason
    assert reason in str(unusable)
    alone = parse_index(text)
    assert list(alone) == []
    assert alone.unusable[0].line == line


@pytest.mark.parametrize(
    "text",
    [
        "Package: a\nnonsense\nVersion: 1\n: x\n\ttab\n",
        " goes on\nPackage: a\n more of it\nVersion: 1\n",
        "Version: 1\nPackage: a\nX y: z\nDepends:\n",
        "Package:   a  \nVersion:\t1\t\nDepends: \n b\n",
        "\nPackage: a\nVersion: 0:1\n \t",
        "Package: a\nVersion: 1",
    ],
)
def test_what_is_no_field_is_passed_over(text: str) -> None:
    packages = parse_index(f"{text}\n{NEXT}")
    assert [(each.name, each.version, each.depends) for each in packages] == [
        ("a", "1", ()),
        ("next", "2", ()),
    ]
    assert packages.unusable == ()


def test_where_a_paragraph_ends() -> None:
    text = "Package: a\nVersion: 1\nDescription: one\n \n two\n\t\nPackage: b\nVersion: 1\n \n"
    text += (
        "Package: c\nVersion: 1\nSection: x\0y\nSize: 7\n\nPackage: d\nVersion:\n\r\nPackage: e\nVersion: 1"
    )
    packages = parse_index(text)
    assert [each.name for each in packages] == ["a", "b", "c", "e"]
    assert packages[0].description == "one\n \n two"
    assert (packages[2].section, packages[2].size) == ("x", 0)
    assert [(each.name, each.line) for each in packages.unusable] == [("", 13), ("d", 15)]


def test_a_description_without_a_text_is_waited_for() -> None:
    a, b, c = (f"Package: {name}\nVersion: 1\n" for name in "abc")
    text = f"{a}Description:\n\n{b} \n{c} \nPackage: d\n"
    for said in (text.replace("Description:\n", ""), text.replace("Description:", "Description: x")):
        assert [each.name for each in parse_index(said)] == ["a", "b", "c"]
    packages = parse_index(text)
    assert [each.name for each in packages] == ["a"]
    assert [str(each) for each in packages.unusable] == [
        "b (line 8: Package is there twice)",
        "d (line 11: it has no version (Version))",
    ]


def test_fields_that_are_there_twice() -> None:
    text = "Package: a\nVersion: 1\nDepends: b\nDepends: c\nProvides: x\nProvides: y\nSize: 1\nSize: 2\n"
    text += "Essential: yes\nEssential: no\n"
    (package,) = parse_index(text + "Pre-Depends: p\nReplaces: r\nReplaces: s\nSource: u\nSource: v\n")
    assert package.essential
    assert package.depends == ((Dependency("p"),), (Dependency("b"),), (Dependency("c"),))
    assert (package.provides, package.size, package.replaces) == (("x", "y"), 2, (Dependency("s"),))
    assert package.extra == {"Source": "v"}


def test_sizes_are_numbers_as_opkg_reads_them() -> None:
    sizes = {"0x10": 16, "12x": 12, "010": 8, "09": 0, "x": 0, "": 0, "+7": 7, "0": 0}
    for text, size in sizes.items():
        (package,) = parse_index(f"Package: a\nVersion: 1\nSize: {text}\n")
        assert package.size == size, text


def test_a_checksum_that_is_none_is_not_there() -> None:
    sums = {"0" * 64: "0" * 64, "AB" * 32: "AB" * 32, "0" * 63: "", "x": "", "": ""}
    for text, sha256 in sums.items():
        (package,) = parse_index(f"Package: a\nVersion: 1\nSHA256sum: {text}\n")
        assert package.sha256 == sha256


def test_packages_of_other_architectures_are_passed_over() -> None:
    texts = [f"Package: {name}\nVersion: 1\nArchitecture: {name}\n" for name in ("all", "mips", "arm ", "")]
    packages = for_architectures(
        parse_index("\n".join(texts).replace("Package: \n", "Package: d\n")), ("all", "mips")
    )
    assert [each.name for each in packages] == ["all", "mips"]
    assert [each.name for each in packages.unusable] == ["arm", "d"]
    assert "'arm ', and the tree takes all and mips" in packages.unusable[0].reason
    assert packages.unusable[1].reason == "it names no architecture"
    assert for_architectures(packages, ("all", "mips")) is packages


@pytest.mark.parametrize("text", ["<html>", "nonsense\n\nmore", " Package: a\n"])
def test_what_is_no_package_list_is_an_error(text: str) -> None:
    with pytest.raises(PackageIndexError, match="feed/Packages is no package list"):
        parse_index(text, origin="feed/Packages")
    assert parse_index("") == parse_index("\n\n \n") == ()


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
    with pytest.raises(PackageIndexError, match="the package list .*none cannot be read"):
        read_index(tmp_path / "none")


NAMES = st.from_regex(r"[a-z][a-z0-9+.-]{0,8}", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]([0-9a-z.~+-]{0,6}[0-9a-z.~+])?", fullmatch=True)
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
def test_any_lines_are_packages_each_used_or_named_with_its_line(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        packages = parse_index(text, origin="feed")
    except PackageIndexError:
        assert not any(line.startswith(("Package:", "Version:")) for line in lines)
        return
    assert all(1 <= each.line <= len(lines) for each in packages.unusable)
    named = {line for line in lines if line == "Package: a"}
    assert {f"Package: {each.name}" for each in packages} <= named
    begun = sum(any(line.strip() for line in part.split("\n")) for part in text.split("\n\n"))
    assert len(packages) + len(packages.unusable) == begun


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("Package:Vrsion \n\tDd1,|()<=>\0\r*"), max_size=40), max_size=4))
def test_what_one_paragraph_says_costs_no_other(middle: list[str]) -> None:
    clean = "\n".join(line for part in middle for line in part.split("\n") if line.strip(" \t\r\0"))
    packages = parse_index(f"Package: x\nVersion: 1\nDepends: b\n\n{clean}\n{NEXT}Provides: c\n")
    assert (packages[0].name, packages[0].depends) == ("x", ((Dependency("b"),),))
    assert (packages[-1].name, packages[-1].provides) == ("next", ("c",))


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
