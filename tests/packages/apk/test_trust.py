"""Signatures of apk indexes, and packages beside their entry in the index."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.package import Package
from imagebuilder.packages.apk.apk import parse_index
from imagebuilder.packages.apk.file import WrongPackageError, check_apk_file
from imagebuilder.trust.keys import KeyFileError
from imagebuilder.trust.signature import (
    NoSignatureError,
    SignatureFormatError,
    TrustError,
    UnknownKeyError,
    WrongSignatureError,
)
from imagebuilder.trust.signature_adb import parse_apk_key, tree_apk_keys, verify_adb
from tests.packages.apk.test_index import CONTAINERS, LIBRARY, PYTHON, SAMPLES
from tests.support.adb_maker import Facts, block, deflated, index, package

MINE, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
SIGNED = index([LIBRARY, PYTHON], MINE)


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, comment: bytes = b"") -> bytes:
    return comment + key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


MY_KEY = parse_apk_key(pem(MINE, b"untrusted comment: Local build key\n"), "keys/mine.pem")
OTHER_KEY = parse_apk_key(pem(OTHER), "keys/other.pem")


def test_the_sample_is_signed_by_the_sample_key() -> None:
    data = CONTAINERS["signed"]
    key = parse_apk_key(SAMPLES["key"].encode(), "test.pem")
    assert verify_adb(data, [OTHER_KEY, key], "packages.adb") is key
    with pytest.raises(UnknownKeyError) as error:
        verify_adb(data, [OTHER_KEY], "packages.adb")
    assert error.value.signer == key.number
    with pytest.raises(NoSignatureError, match="packages.adb has no signature"):
        verify_adb(CONTAINERS["zstd"], [key], "packages.adb")


def test_whose_signature_it_is() -> None:
    assert verify_adb(SIGNED, [OTHER_KEY, MY_KEY], "x").name == "mine.pem"
    assert verify_adb(deflated(index([PYTHON], OTHER, MINE)), [MY_KEY], "x") is MY_KEY
    with pytest.raises(UnknownKeyError, match=f"signed by the key {MY_KEY.number}, which is not"):
        verify_adb(SIGNED, [OTHER_KEY], "x")
    with pytest.raises(NoSignatureError):
        verify_adb(index([PYTHON]), [MY_KEY], "x")


def test_a_signature_of_something_else() -> None:
    with pytest.raises(WrongSignatureError, match=r"not what the key \w+ \(mine.pem\) signed"):
        verify_adb(SIGNED.replace(b"3.13.9-r2", b"3.13.9-r3"), [MY_KEY], "x")
    with pytest.raises(WrongSignatureError):
        verify_adb(SIGNED[:-10] + bytes(10), [MY_KEY], "x")
    head = b"\0\x07" + bytes.fromhex(MY_KEY.number)
    with pytest.raises(WrongSignatureError):
        verify_adb(index([PYTHON]) + block(1, head + b"x" * 70), [MY_KEY], "x")


NO_SIGNED_INDEX = {
    "nothing": b"",
    "its beginning": b"ADB.indx",
    "cut": SIGNED[:-16],
    "no signature": index([]) + block(1, b"\1" * 40),
}


@pytest.mark.parametrize("data", NO_SIGNED_INDEX.values(), ids=NO_SIGNED_INDEX.keys())
def test_what_is_no_signed_index(data: bytes) -> None:
    with pytest.raises(SignatureFormatError):
        verify_adb(data, [MY_KEY], "x")


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_nothing_of_a_signed_index_can_be_changed(at: int, flip: int) -> None:
    damaged = bytearray(SIGNED)
    damaged[at] ^= flip
    with contextlib.suppress(TrustError):
        verify_adb(bytes(damaged), [MY_KEY], "x")
        assert parse_index(bytes(damaged)) == parse_index(SIGNED)


@given(st.binary(max_size=200))
def test_any_bytes_are_signed_by_nobody(data: bytes) -> None:
    with pytest.raises(TrustError):
        verify_adb(b"ADB.indx" + data, [MY_KEY], "x")
    with pytest.raises(KeyFileError):
        parse_apk_key(b"-----BEGIN PUBLIC KEY-----\n" + data + b"\n-----END PUBLIC KEY-----", "x")


def test_the_keys_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/openwrt.pem").write_bytes(pem(OTHER))
    (tmp_path / "keys/local-public-key.pem").write_bytes(pem(MINE, b"untrusted comment: x\n"))
    (tmp_path / "keys/local-private-key.pem").write_text("secret")
    keys = tree_apk_keys(tmp_path)
    assert [key.name for key in keys] == ["local-public-key.pem", "openwrt.pem"]
    (tmp_path / "keys/odd.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(KeyFileError, match=r"odd\.pem is no key that OpenWrt signs"):
        tree_apk_keys(tmp_path)
    assert tree_apk_keys(tmp_path / "nowhere") == ()


# --- packages


@pytest.mark.parametrize("name", ["python3-light", "scripts"])
def test_the_sample_packages_are_those_of_the_sample_index(name: str, tmp_path: Path) -> None:
    packages = {each.name: each for each in parse_index(CONTAINERS["signed"])}
    path = tmp_path / packages[name].filename
    path.write_bytes(base64.b64decode(SAMPLES["files"][path.name]))
    check_apk_file(path, packages[name])
    with pytest.raises(WrongPackageError, match="bytes, and the index says"):
        check_apk_file(path, packages["python3"])
    with pytest.raises(WrongPackageError, match="its hash is not the one in the index"):
        check_apk_file(path, replace(packages["python3"], size=path.stat().st_size))


FILES = {"empty": b"", "large": b"large " * 100_000, "small": b"small"}


def made(folder: Path, facts: Facts = PYTHON, *, damage: bytes = b"") -> tuple[Path, Package]:
    data, entry = package(facts, FILES, damage=damage)
    (listed,) = parse_index(index([entry]))
    (folder / listed.filename).write_bytes(data)
    return folder / listed.filename, listed


def test_a_package_is_checked_with_its_content(tmp_path: Path) -> None:
    path, listed = made(tmp_path)
    check_apk_file(path, listed)
    whole = hashlib.sha512(b"").digest()
    with pytest.raises(WrongPackageError, match=r"not the package python3-light 3\.13\.9-r2: its hash"):
        check_apk_file(path, replace(listed, identity=whole.hex()))
    with pytest.raises(WrongPackageError, match="its hash"):
        check_apk_file(path, replace(listed, identity=""))
    check_apk_file(path, replace(listed, identity=listed.identity[:40]))


def test_a_package_with_other_content(tmp_path: Path) -> None:
    path, listed = made(tmp_path, damage=b"?")
    with pytest.raises(WrongPackageError, match="the content of one of its files was changed"):
        check_apk_file(path, listed)


def unpacked(path: Path) -> bytes:
    return zlib.decompress(path.read_bytes()[4:], -15)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: data[: -len(block(2, bytes(8) + b"small"))], "one of its files is missing"),
        (lambda data: data + block(2, bytes(8) + b"more"), "content that is of none of its files"),
        (lambda data: data[:-1], "is damaged: it is cut off"),
        (lambda data: data.replace(b"pckg", b"indx"), "it is no package"),
    ],
)
def test_a_package_with_more_or_less(tmp_path: Path, change: object, complaint: str) -> None:
    path, listed = made(tmp_path)
    path.write_bytes(change(unpacked(path)))  # type: ignore[operator]
    with pytest.raises(WrongPackageError, match=complaint):
        check_apk_file(path, replace(listed, size=0))


def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongPackageError, match="cannot be read"):
        check_apk_file(tmp_path / "no.apk", Package("x", "1"))


@given(st.data())
def test_any_change_of_a_package_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, listed = made(tmp_path_factory.mktemp("changed"))
    plain = bytearray(unpacked(path))
    at = data.draw(st.integers(0, len(plain) - 1))
    plain[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(plain)
    try:
        check_apk_file(path, replace(listed, size=0))
    except WrongPackageError:
        return
    before = unpacked(made(tmp_path_factory.mktemp("before"))[0])
    changed = [where for where, byte in enumerate(before) if plain[where] != byte]
    assert all(before[where] == 0 for where in changed), "only what fills blocks up is not looked at"
