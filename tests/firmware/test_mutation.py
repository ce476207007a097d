"""Images with one byte changed, cut or lengthened: each is refused, or what changed is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.firmware.formats.formats import FORMATS, read_image
from imagebuilder.firmware.formats.metadata import peel, read_metadata
from imagebuilder.firmware.inspection import strip_of
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.firmware.rootfs import RootFs, parse_apk, parse_release, parse_status
from imagebuilder.firmware.squashfs.index import read_index
from imagebuilder.firmware.squashfs.squashfs import SUPERBLOCK_BYTES
from tests.support import firmware_images as images

SAMPLES = {sample.name: sample for sample in images.samples()}
CHANGES = 500
UNPACKED_CHANGES = 40
LARGEST_FUZZED = 200_000


def files_of(sample: images.Sample, data: bytes) -> object:
    """For a squashfs, its files; what is wrong where they cannot be read."""
    if sample.kind != "squashfs":
        return None
    try:
        return read_index(View(data))
    except ImageFormatError as error:
        return error.message


@pytest.mark.parametrize("name", SAMPLES)
def test_every_changed_byte_is_refused_or_told(name: str) -> None:
    sample = SAMPLES[name]
    good, good_files = images.everything(images.read(sample.data)), files_of(sample, sample.data)
    for at, value in sample.places(CHANGES, seed=len(name)):
        data = images.changed(sample, at, value)
        if images.trouble(data) == "" and images.everything(images.read(data)) == good:
            assert files_of(sample, data) != good_files, f"{name}: {value:#x} at {at:#x} was not seen"


def test_every_changed_byte_in_the_files_of_a_squashfs_is_seen() -> None:
    sample = SAMPLES["squashfs"]
    source = random.Random(3)
    tables = int.from_bytes(sample.data[0x40:0x48], "little")
    for _ in range(UNPACKED_CHANGES):
        at = source.randrange(SUPERBLOCK_BYTES, tables)
        data = images.changed(sample, at, sample.data[at] ^ 1 << source.randrange(8))
        root = RootFs(View(data))
        with pytest.raises(ImageFormatError, match="to its last block"), root.unpacked(root.index.files):
            pass


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("tar-headers", "squashfs", "elf")])
def test_an_image_that_is_cut_or_lengthened_is_refused_or_told(name: str) -> None:
    sample = SAMPLES[name]
    good = images.everything(images.read(sample.data))
    source = random.Random(5)
    sizes = [len(sample.data) - 1, *(source.randrange(1, len(sample.data)) for _ in range(30))]
    for data in (*(sample.data[:size] for size in sizes), sample.data + b"x", sample.data + b"joined" * 99):
        assert images.trouble(data) != "" or images.everything(images.read(data)) != good, len(data)


def attempt(data: bytes) -> None:
    """A result or the one error; a result has a strip that fills the file."""
    try:
        part = images.read(data)
    except ImageFormatError:
        return
    strip = strip_of(part)
    assert sum(stretch.size for stretch in strip) == len(data)
    assert [one.offset + one.size for one in strip[:-1]] == [one.offset for one in strip[1:]]


@given(st.binary(max_size=4096))
def test_any_bytes_are_an_image_or_one_error(data: bytes) -> None:
    attempt(data.ljust(512, b"\0"))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.kind)
@given(data=st.binary(max_size=2048))
def test_any_bytes_behind_any_beginning(form: object, data: bytes) -> None:
    """Each parser is called on what it would not have been chosen for."""
    view = View(data)
    for one in FORMATS:
        if one is form:
            assert one.detect(view) in (True, False)
            try:
                part = one.parse(view, Reading(FORMATS, most_unpacked=1 << 20))
            except ImageFormatError:
                return
            assert part.size <= len(data)


SMALL = [sample for sample in SAMPLES.values() if len(sample.data) < LARGEST_FUZZED]


@pytest.mark.parametrize("sample", SMALL, ids=lambda sample: sample.name)
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=6),
    cut=st.integers(0, 1 << 20),
)
def test_images_with_anything_done_to_them(
    sample: images.Sample, edits: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(sample.data)
    for at, patch in edits:
        start = at % len(data)
        data[start : start + len(patch)] = patch
    attempt(bytes(data[: len(data) - cut % len(data)] if cut % 3 == 0 else data))


@given(
    edits=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6
    )
)
def test_a_squashfs_with_anything_done_to_it(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(SAMPLES["squashfs"].data)
    tables = int.from_bytes(data[0x40:0x48], "little")
    for at, patch in edits:
        start = at % SUPERBLOCK_BYTES if at % 2 else tables + at % (len(data) - tables - 8)
        data[start : start + len(patch)] = patch
    try:
        index = read_index(View(bytes(data)))
    except ImageFormatError:
        return
    assert all("/../" not in f"{file.path}/" and file.path.startswith("/") for file in index.files)


@given(st.binary(max_size=400))
def test_any_bytes_before_a_trailer(data: bytes) -> None:
    for text in (
        data,
        b"FWx0" + data,
        data + b"FWx0" + bytes(4) + b"\1\0\0\0" + len(data).to_bytes(4, "big"),
    ):
        try:
            peel(View(text))
        except ImageFormatError:
            continue


@given(
    st.one_of(
        st.binary(max_size=300), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(repr)
    )
)
def test_any_text_as_metadata(text: bytes | str) -> None:
    try:
        read_metadata(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    except ImageFormatError:
        return


@given(st.text(max_size=300))
def test_any_text_as_a_package_list(text: str) -> None:
    parse_apk(text)
    parse_release(text)
    try:
        parse_status(text)
    except ImageFormatError:
        return


def test_two_images_joined_are_refused() -> None:
    sample = SAMPLES["tplink-sysupgrade"]
    assert read_image(View(sample.data)).part.problems == ()
    assert images.trouble(sample.data + sample.data) != ""
