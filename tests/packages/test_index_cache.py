"""Parsed package lists kept by digest."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.model.package import Dependency, Package, PackageList, UnusablePackage
from imagebuilder.packages.index_cache import cached_index, keep_index, pack_index, unpack_index

DIGEST = "ab" * 32
TEXT = st.text(max_size=6)
DEPENDENCY = st.builds(Dependency, TEXT, st.none() | TEXT, st.none() | TEXT)
DEPENDENCIES = st.lists(DEPENDENCY, max_size=2).map(tuple)
PACKAGES = st.builds(
    Package,
    TEXT,
    TEXT,
    TEXT,
    depends=st.lists(DEPENDENCIES, max_size=3).map(tuple),
    provides=st.lists(TEXT, max_size=2).map(tuple),
    conflicts=DEPENDENCIES,
    replaces=DEPENDENCIES,
    filename=TEXT,
    size=st.integers(0, 2**70),
    installed_size=st.integers(0, 2**40),
    sha256=TEXT,
    section=TEXT,
    description=st.text(st.characters(), max_size=6),
    abi_version=TEXT,
    essential=st.booleans(),
    extra=st.dictionaries(TEXT, TEXT, max_size=2),
    identity=TEXT,
    provided_versions=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
)
UNUSABLE = st.builds(UnusablePackage, TEXT, TEXT, st.integers(0, 9))
SOME = PackageList(
    [Package("a", "1", depends=((Dependency("b", ">=", "2"), Dependency("c")),), essential=True)],
    [UnusablePackage("b", "it has no version", 7)],
)


@given(st.lists(PACKAGES, max_size=4), st.lists(UNUSABLE, max_size=2))
def test_packages_come_back_as_they_went_in(packages: list[Package], unusable: list[UnusablePackage]) -> None:
    again = unpack_index(pack_index(PackageList(packages, unusable), DIGEST), DIGEST)
    assert again == tuple(packages)
    assert again.unusable == tuple(unusable)
    assert [each.extra for each in again or ()] == [each.extra for each in packages]


def test_a_list_is_found_by_its_digest(tmp_path: Path) -> None:
    assert cached_index(tmp_path, DIGEST) is None
    keep_index(tmp_path / "new", DIGEST, SOME)
    assert cached_index(tmp_path / "new", DIGEST) == SOME
    assert cached_index(tmp_path / "new", "cd" * 32) is None
    (kept,) = (tmp_path / "new").iterdir()
    kept.rename(kept.with_name(kept.name.replace(DIGEST, "cd" * 32)))
    assert cached_index(tmp_path / "new", "cd" * 32) is None, "a list of another digest"


@given(st.data())
def test_a_damaged_file_is_not_cached(data: st.DataObject) -> None:
    whole = pack_index(SOME, DIGEST)
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    assert unpack_index(whole[:at] + bytes([byte]) + whole[at + 1 :], DIGEST) is None
    assert unpack_index(whole[:at], DIGEST) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_not_cached(data: bytes) -> None:
    assert unpack_index(data, DIGEST) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.sampled_from(["name", "depends", "groups", "terms", "extra", "provides", "size"]), JSON)
def test_a_well_formed_list_of_something_else_is_not_cached_or_packages(column: str, value: object) -> None:
    head, _, body = pack_index(SOME, DIGEST).partition(b"\n")
    body = json.dumps(json.loads(body) | {column: value}).encode()
    head = head.rsplit(b" ", 1)[0] + f" {crc32(body):08x}".encode()
    packages = unpack_index(head + b"\n" + body, DIGEST)
    assert packages is None or all(isinstance(each, Package) for each in packages)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b"[" * 100_000])
def test_other_json_is_not_cached(body: bytes) -> None:
    head = pack_index(SOME, DIGEST).partition(b"\n")[0].rsplit(b" ", 1)[0]
    assert unpack_index(head + f" {crc32(body):08x}\n".encode() + body, DIGEST) is None
