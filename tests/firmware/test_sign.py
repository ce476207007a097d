"""The user's signature behind an image, in place of the one that make put there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagebuilder.firmware.formats.formats import read_image
from imagebuilder.firmware.formats.metadata import PLACEHOLDER
from imagebuilder.firmware.reader import View
from imagebuilder.firmware.sign import sign_image, sign_images
from imagebuilder.host.fs import sha256_of
from imagebuilder.model.firmware import Part
from imagebuilder.model.result import ImageFile
from imagebuilder.trust.keys import Keys, parse_usign_key
from imagebuilder.trust.signature import WrongSignatureError, verify_usign
from imagebuilder.trust.usign import UsignPair, pair_of
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

TREE, USER = pair_of(bytes([1]) * 32), pair_of(bytes([2]) * 32)
CHAIN_BYTES = 516


def signed_by(pair: UsignPair, body: bytes, *, bare: bool = False) -> bytes:
    """As OpenWrt's append-metadata does it, or GL.iNet's (bare)."""
    signature = pair.sign(body)
    content = signature if bare else pair.chain(signature)
    return make.chunk(body + content, 0, len(content) + 16)


def chunk_of(data: bytes) -> Part:
    part = read_image(View(data)).part
    assert part.problems == ()
    return next(child for child in part.children if child.kind == "signature")


def signature_of(data: bytes) -> tuple[bytes, bytes]:
    """What is signed, and usign's text: the last one in the chunk."""
    size = int.from_bytes(data[-4:], "big")
    chunk = data[len(data) - size : -16]
    return data[:-size], chunk[chunk.rindex(b"untrusted comment: signed") :].rstrip(b"\0")


def check_signed(data: bytes, pair: UsignPair) -> None:
    keys = Keys(usign=(parse_usign_key(pair.public_file(), "key-build.pub"),))
    body, text = signature_of(data)
    assert verify_usign(body, text, keys, "image").number == pair.number


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "image-squashfs-sysupgrade.bin"


def test_the_trees_signature_becomes_the_users(image: Path) -> None:
    body = images.archive()
    image.write_bytes(signed_by(TREE, body))
    assert sign_image(image, USER)
    data = image.read_bytes()
    assert data.startswith(body)
    assert len(data) == len(body) + CHAIN_BYTES + 16
    assert TREE.number.encode() not in data
    part = chunk_of(data)
    assert part.value("signed by") == (USER.number,)
    assert part.value("certificates signed by") == (USER.number,)
    check_signed(data, USER)
    with pytest.raises(WrongSignatureError):
        check_signed(data[:5000] + b"!" + data[5001:], USER)
    assert sign_image(image, USER)
    assert image.read_bytes() == data


def test_a_signature_without_a_certificate_stays_one(image: Path) -> None:
    """A device of GL.iNet's looks for usign's text there. Source: append-gl-metadata of their makefiles."""
    image.write_bytes(signed_by(TREE, images.archive(), bare=True))
    assert chunk_of(image.read_bytes()).value("signed by") == (TREE.number,)
    assert sign_image(image, USER)
    data = image.read_bytes()
    assert chunk_of(data).value("signed by") == (USER.number,)
    assert signature_of(data)[1] == USER.sign(images.archive())
    assert len(data) == len(images.archive()) + len(USER.sign(b"")) + 16
    check_signed(data, USER)


@pytest.mark.parametrize("content", [PLACEHOLDER, b"", b"untrusted comment: x\n", bytes(1008)])
def test_whatever_stands_there_is_replaced(image: Path, content: bytes) -> None:
    image.write_bytes(make.chunk(images.archive() + content, 0, len(content) + 16))
    assert sign_image(image, USER)
    data = image.read_bytes()
    assert data.startswith(images.archive())
    check_signed(data, USER)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"x" * 16,
        images.archive(metadata=False),
        images.archive(),  # it ends with metadata
        signed_by(TREE, images.archive()) + b"\0",
        make.chunk(b"", 0, 15),
        make.chunk(b"body", 0, 21),
        make.chunk(bytes(2000), 0, 1025),
        make.chunk(b"body", 2, 18),
    ],
)
def test_an_image_that_ends_with_no_signature_stays_as_it_is(image: Path, data: bytes) -> None:
    image.write_bytes(data)
    before = image.stat().st_mtime_ns
    assert not sign_image(image, USER)
    assert image.read_bytes() == data
    assert image.stat().st_mtime_ns == before


@given(st.binary(min_size=1, max_size=200), st.integers(0, 2), st.integers(0, 300), st.booleans())
@example(b"", 0, 16, True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_signed_or_left(tmp_path: Path, data: bytes, kind: int, size: int, ends: bool) -> None:
    place = tmp_path / "any"
    before = make.chunk(data, kind, size) if ends else data or b"x"
    place.write_bytes(before)
    if sign_image(place, USER):
        after = place.read_bytes()
        assert before.startswith(signature_of(after)[0])
        check_signed(after, USER)
    else:
        assert place.read_bytes() == before


def test_the_result_names_what_is_handed_over(tmp_path: Path) -> None:
    unsigned = make.chunk(images.archive() + PLACEHOLDER, 0, len(PLACEHOLDER) + 16)
    files = {"a-sysupgrade.bin": unsigned, "a-factory.bin": b"factory"}
    given_images = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        digest = sha256_of(tmp_path / name)
        given_images.append(ImageFile(file=name, type="x", size=len(data), sha256=digest, required=True))
    signed = sign_images(given_images, tmp_path, USER)
    assert signed.keys == {"a-sysupgrade.bin": USER.number}
    assert signed.images[1] == given_images[1]
    assert signed.images[0].sha256 == sha256_of(tmp_path / "a-sysupgrade.bin") != given_images[0].sha256
    assert signed.images[0].size == len(images.archive()) + CHAIN_BYTES + 16
