"""Packages whose content is known are counted as they are packed."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.budget.flash_known import FILE_BYTES, known_bytes, known_key, packed_bytes_of
from imagebuilder.host.run import run
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.tree.measure import SquashfsOptions

OPENWRT = ("-Xpreset", "9", "-Xe", "-Xlc", "0", "-Xlp", "2", "-Xpb", "2")
XZ = SquashfsOptions("mksquashfs", "xz", 256 << 10, False, ("-comp", "xz", *OPENWRT))
GZIP = replace(XZ, compressor="gzip", arguments=("-comp", "gzip"))
FIXED = 96 + 200  # the superblock, and the tables that every squashfs has


def texts(seed: int, count: int, most: int) -> dict[str, bytes]:
    """Files that compress about as Python's bytecode does."""
    chance = random.Random(seed)
    words = [bytes(chance.choices(range(33, 127), k=chance.randint(2, 9))) for _ in range(900)]
    return {
        f"/usr/lib/p{seed}/{number}": b" ".join(chance.choices(words, k=chance.randint(1, most)))
        for number in range(count)
    }


def tree_of(files: dict[str, bytes]) -> FileTree:
    return FileTree({path: file_of(data) for path, data in files.items()})


@pytest.mark.parametrize("how", [XZ, GZIP], ids=["xz", "gzip"])
def test_about_as_much_as_mksquashfs_makes_of_it(how: SquashfsOptions, tmp_path: Path) -> None:
    packages = {"small": tree_of(texts(1, 80, 4000)), "large": tree_of(texts(2, 3, 150_000))}
    for tree in packages.values():
        write_tree(tree, tmp_path / "root")
    options = how.arguments if how is GZIP else ("-comp", "xz", "-Xdict-size", "100%")  # upstream's own
    if how is XZ:
        how = replace(how, arguments=("-comp", "xz"))
    image = tmp_path / "image"
    block = str(how.block)
    run(["mksquashfs", str(tmp_path / "root"), str(image), *options, "-b", block, "-nopad", "-noappend"])
    assert sum(known_bytes(packages, how).values()) == pytest.approx(image.stat().st_size - FIXED, rel=0.015)


def test_the_options_of_a_tree_count() -> None:
    files = [("a", data) for data in texts(3, 10, 20_000).values()]
    plain = replace(XZ, arguments=("-comp", "xz", "-Xpreset", "0"))
    assert packed_bytes_of(files, XZ)["a"] < packed_bytes_of(files, plain)["a"]


def test_machine_code_is_filtered_where_the_tree_does_it() -> None:
    call = b"\xe8"  # of x86, whose targets the filter makes alike
    data = b"\x7fELF" + b"".join(
        b"\x90\x55" * (number % 5) + call + (100_000 - 7 * number).to_bytes(4, "little")
        for number in range(9000)
    )
    filtered = replace(XZ, filters=True, arguments=(*XZ.arguments, "-Xbcj", "x86"))
    assert packed_bytes_of([("a", data)], filtered)["a"] < packed_bytes_of([("a", data)], XZ)["a"]


def test_equal_files_take_their_bytes_once() -> None:
    data = random.Random(1).randbytes(5000)
    once = known_bytes({"a": tree_of({"/x": data})}, XZ)
    twice = known_bytes({"a": tree_of({"/x": data}), "b": tree_of({"/y": data})}, XZ)
    assert twice == {"a": once["a"], "b": FILE_BYTES}


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=3000), max_size=8), st.sampled_from([XZ, GZIP]))
def test_never_more_than_the_files_themselves(contents: list[bytes], how: SquashfsOptions) -> None:
    how = replace(how, block=1 << 12)
    sizes = packed_bytes_of([(str(number), data) for number, data in enumerate(contents)], how)
    assert sum(sizes.values()) <= sum(map(len, contents)) + len(contents)


def test_what_the_sizes_depend_on_is_in_their_key() -> None:
    trees = {"a": tree_of({"/x": b"one"}), "b": tree_of({"/y": b"two"})}
    others = [
        {"a": tree_of({"/x": b"two"}), "b": trees["b"]},
        {"a": tree_of({"/z": b"one"}), "b": trees["b"]},
        {"a": trees["b"], "b": trees["a"]},
        {"a": trees["a"]},
    ]
    keys = {known_key(each, XZ) for each in (trees, *others)} | {known_key(trees, GZIP)}
    assert len(keys) == 6
    assert known_key(dict(reversed(trees.items())), XZ) == known_key(trees, XZ)
