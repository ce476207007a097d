"""apk 3's containers and package index: what a genuine apk wrote (tests/benchmarks/record_apk.py), and what
tests write themselves."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.model.adb import AdbError, Container, Values
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.apk import apk
from imagebuilder.packages.apk.apk import parse_index, with_abi_suffixes
from tests.support.adb_maker import block, deflated, index, zstandarded

SAMPLES = json.loads((Path(__file__).parents[2] / "data/apk-index.json").read_text())
CONTAINERS = {name: base64.b64decode(text) for name, text in SAMPLES["containers"].items()}

PYTHON = {
    "name": "python3-light",
    "version": "3.13.9-r2",
    "hashes": "88" * 32,
    "description": "Python in " + "many words " * 40,
    "arch": "mips_24kc",
    "license": "PSF-2.0",
    "origin": "feeds/packages/lang/python",
    "maintainer": "none",
    "url": "https://example.org",
    "installed-size": 50_750,
    "file-size": 50_583,
    "depends": ["!python3-old", "!python3-older<3", "libexample12>=1", "python3-base=3.13.9-r2", "zlib~1.2"],
    "provides": ["python3-any", "python=3.13.9-r2"],
    "replaces": ["python3-old"],
}
LIBRARY = {
    "name": "libpython3-3.13",
    "version": "3.13.9-r2",
    "hashes": "01" * 32,
    "arch": "mips_24kc",
    "installed-size": 5 << 32,
    "file-size": 1 << 30,
    "provider-priority": 10,
    "provides": ["libpython3"],
    "install-if": ["python3-light"],
    "tags": ["openwrt:cpe=cpe:/a:python:python", "openwrt:section=lang", "openwrt:abiversion=-3.13"],
}
WAYS = {
    "plain": lambda data: data,
    "deflate": deflated,
    "named deflate": lambda data: deflated(data, b"ADBc\1\11"),
    "named none": lambda data: b"ADBc\0\0" + data,
    "zstd": zstandarded,
}


def as_dumped(package: Package) -> dict[str, object]:
    """A package as `apk adbdump --format json` prints it in an index."""

    def term(each: Dependency) -> str:
        return f"{each.name}{each.operator or ''}{each.version or ''}"

    versions = dict(package.provided_versions)
    depends = [term(group[0]) for group in package.depends] + [f"!{term(each)}" for each in package.conflicts]
    facts: dict[str, object] = {
        "name": package.name,
        "version": package.version,
        "hashes": package.identity,
        "description": package.description,
        "arch": package.architecture,
        "license": package.extra.get("License"),
        "origin": package.extra.get("Source"),
        "maintainer": package.extra.get("Maintainer"),
        "installed-size": package.installed_size,
        "file-size": package.size,
        "depends": sorted(depends, key=lambda each: each.removeprefix("!")),
        "provides": [f"{name}={versions[name]}" if name in versions else name for name in package.provides],
        "tags": [f"openwrt:abiversion={package.abi_version}"] if package.abi_version else None,
    }
    return {key: value for key, value in facts.items() if value}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_samples_say_what_apk_prints_of_them(container: str) -> None:
    packages = parse_index(CONTAINERS[container])
    ours = [as_dumped(package) for package in packages]
    # how providers are ranked is apk's own business
    unread = {"provider-priority"}
    printed = [{key: each[key] for key in each if key not in unread} for each in SAMPLES["packages"]]
    assert ours == printed
    names = {package.name: package.plain_name for package in packages}
    assert names["libthing12"] == "libthing"
    assert names["libpython3-3.13"] == "libpython3"
    assert names["python3"] == "python3"


@pytest.mark.parametrize("way", WAYS)
def test_the_fields_of_a_package(way: str) -> None:
    library, python = parse_index(WAYS[way](index([LIBRARY, PYTHON])))
    assert (python.name, python.version, python.architecture) == ("python3-light", "3.13.9-r2", "mips_24kc")
    assert python.identity == "88" * 32
    assert python.filename == "python3-light-3.13.9-r2.apk"
    assert (python.size, python.installed_size, python.abi_version) == (50_583, 50_750, "")
    assert python.description == PYTHON["description"]
    assert python.depends == (
        (Dependency("libexample12", ">=", "1"),),
        (Dependency("python3-base", "=", "3.13.9-r2"),),
        (Dependency("zlib", "~", "1.2"),),
    )
    assert python.conflicts == (Dependency("python3-old"), Dependency("python3-older", "<", "3"))
    assert python.replaces == (Dependency("python3-old"),)
    assert python.provides == ("python3-any", "python")
    assert python.provided_versions == (("python", "3.13.9-r2"),)
    assert python.plain_name == "python3-light"
    assert python.extra == {
        "License": "PSF-2.0",
        "Source": "feeds/packages/lang/python",
        "Maintainer": "none",
        "URL": "https://example.org",
    }
    assert (library.installed_size, library.size) == (5 << 32, 1 << 30)
    assert (library.abi_version, library.plain_name) == ("-3.13", "libpython3")
    assert library.extra == {
        "CPE-ID": "cpe:/a:python:python",
        "Provider-Priority": "10",
        "Install-If": "python3-light",
    }
    assert library.section == "lang"


def test_names_are_suffixed_as_the_imagebuilder_does() -> None:
    packages = [
        Package("libfoo2", "2", provides=("libfoo",), abi_version="2"),
        Package("libfoo1", "1", provides=("libfoo",), abi_version="1"),
        Package("bar", "1"),
    ]
    assert with_abi_suffixes(["bar", "libfoo", "nowhere"], packages) == ("bar", "libfoo1", "nowhere")
    assert with_abi_suffixes(["libfoo2"], packages) == ("libfoo22",)  # and so it is not found


def test_files_are_named_as_the_index_says() -> None:
    data = index([LIBRARY], spec="${arch}/${name:3}/${name}-${version}.${hash:8}.apk")
    (package,) = parse_index(data)
    assert package.filename == "mips_24kc/lib/libpython3-3.13-3.13.9-r2.01010101.apk"
    with pytest.raises(AdbError, match="named after an unknown 'license'"):
        parse_index(index([LIBRARY], spec="${license}.apk"))


def test_an_empty_index_has_no_packages() -> None:
    assert parse_index(index([])) == ()


GOOD = index([LIBRARY, PYTHON])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "does not begin with ADB"),
        (b"Package: x\n", "does not begin with ADB"),
        (b"ADBx....", "does not begin with ADB"),
        (b"ADBc\7\1xxxx", "packed in an unknown way"),
        (b"ADBc\2\3" + b"junk" * 9, "is damaged"),
        (b"ADBd" + b"\xff" * 9, "is damaged"),
        (deflated(b"nothing of it"), "no ADB in it"),
        (b"ADB.pckg" + GOOD[8:], "is no index of packages"),
        (b"ADB.indx", "there is nothing in it"),
        (GOOD[:-1], "cut off"),
        (deflated(GOOD)[:-30], "cut off"),
        (zstandarded(GOOD)[:-30], "cut off"),
        (GOOD + block(2, bytes(8)), "there are files in it"),
        (GOOD + block(0, bytes(8)), "a block of kind 0 where none may be"),
        (b"ADB.indx" + block(1, b"x" * 99), "a block of kind 1 where none may be"),
        (b"ADB.indx" + struct.pack("<I", 3), "a block of no size"),
        (b"ADB.indx" + block(0, b"\1" + bytes(7)), "of an unknown version"),
        (b"ADB.indx" + struct.pack("<I", 0x3FFFFFFF) + bytes(99), "a block of 1073741819 bytes"),
    ],
)
def test_what_is_wrong_with_an_index_is_said(data: bytes, complaint: str) -> None:
    with pytest.raises(AdbError, match=complaint) as error:
        parse_index(data, origin="the index of feed x")
    assert error.value.message.startswith("the index of feed x is ")


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"name": "a b"}, "a b", "'a b' '3.13.9-r2' is no name and version"),
        ({"name": "../x"}, "../x", "is no name and version"),
        ({"version": "--root=/"}, str(PYTHON["name"]), "is no name and version"),
        ({"name": "a\nb"}, "a?b", "is no name and version"),
    ],
)
def test_what_an_index_says_of_one_package_costs_no_other(
    change: dict[str, str], name: str, reason: str
) -> None:
    packages = parse_index(index([LIBRARY, {**PYTHON, **change}, {**PYTHON, "name": "other"}]))
    assert {each.name for each in packages} == {str(LIBRARY["name"]), "other"}
    (unusable,) = packages.unusable
    assert unusable.name == name
    assert reason in unusable.reason


def values(*words: int) -> Values:
    return Values(bytes(4) + struct.pack(f"<{len(words)}I", *words), "x")


@pytest.mark.parametrize(
    ("value", "call", "complaint"),
    [
        (0xD000_0008, "slots", "a list reaches over the end"),
        (0xE000_000C, "slots", "a list reaches over the end"),  # a count of 0
        (0x8000_0008, "blob", "a text reaches over the end"),
        (0xA000_0008, "text", "a text reaches over the end"),
        (0x8000_0008, "slots", "is not a list"),
        (0xD000_0008, "text", "is not a text"),
        (0xD000_0008, "integer", "is not a number"),
        (0xF000_0001, "integer", "is not a number"),
        (0x2000_000D, "integer", "a value lies behind the end"),
        (0x3000_0009, "integer", "a value lies behind the end"),
        (0x9FFF_FFFF, "text", "a text reaches over the end"),
    ],
)
def test_values_that_lead_nowhere(value: int, call: str, complaint: str) -> None:
    with pytest.raises(AdbError, match=complaint):
        getattr(values(0, 9, 0), call)(value)


def test_lists_in_one_another_do_not_grow() -> None:
    """Every list is as large as what is behind it: read, they would be much larger than the file."""
    words = [0xD000_0008]
    count = 2000
    words += [count - at for at in range(count)]
    made = values(*words)
    with pytest.raises(AdbError, match="its values overlap"):
        for at in range(count):
            made.slots(0xD << 28 | 8 + 4 * at)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = deflated(b"ADB.indx" + struct.pack("<I", 200 << 20) + bytes(20 << 20))
    assert len(bomb) < 30_000
    with pytest.raises(AdbError, match="a block of 209715196 bytes, more than"):
        parse_index(bomb)


def test_large_blocks_are_read_in_pieces() -> None:
    head = struct.pack("<IIQ", 3 << 30 | 2, 0, 300_016)
    container = Container(io.BytesIO(deflated(GOOD + head + b"x" * 300_000)), "x")
    sizes = [[len(chunk) for chunk in each.chunks()] for each in container.blocks()]
    assert sum(sizes[1]) == 300_000
    assert max(sizes[1]) <= 1 << 16


@given(st.binary(max_size=300), st.sampled_from([b"", b"ADB.indx", b"ADBd", b"ADBc\2\3", GOOD[:64]]))
def test_any_bytes_give_a_result_or_one_error(data: bytes, head: bytes) -> None:
    with contextlib.suppress(AdbError):
        parse_index(head + data)


@settings(max_examples=400)
@given(st.data())
def test_any_damage_gives_a_result_or_one_error(data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(8, len(damaged) - 4))
        struct.pack_into("<I", damaged, at, data.draw(st.integers(0, 0xFFFF_FFFF)))
    with contextlib.suppress(AdbError):
        assert len(parse_index(bytes(damaged))) <= apk.MAX_PACKAGES


@given(st.sampled_from(sorted(CONTAINERS)), st.integers(0, 2800), st.integers(1, 255))
def test_any_damaged_sample_gives_a_result_or_one_error(container: str, at: int, flip: int) -> None:
    damaged = bytearray(CONTAINERS[container])
    damaged[at % len(damaged)] ^= flip
    with contextlib.suppress(AdbError):
        parse_index(bytes(damaged))
