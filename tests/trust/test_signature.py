"""What is trusted, and why not: keys, usign, GPG, checksums, and indexes that go back in time."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagebuilder.host.cache import Cache
from imagebuilder.log import Log
from imagebuilder.trust.keys import (
    KeyFileError,
    Keys,
    feed_keys,
    keys_in,
    parse_gpg_key,
    parse_usign_key,
    read_key_file,
    shipped_keys,
    tree_keys,
)
from imagebuilder.trust.signature import (
    ExpiredKeyError,
    NoSignatureError,
    SignatureFormatError,
    TrustError,
    UnknownKeyError,
    UsignLengthError,
    WrongSignatureError,
    read_status,
    verify_gpg,
    verify_usign,
)
from imagebuilder.trust.signature_seen import OlderIndexError, SeenRecordError, accept_index
from imagebuilder.trust.signature_sums import SUMS, SumsError, TruncatedSumsError, parse_sums, verify_sums
from tests.support.download_server import GpgSigner, Signer, Told, usign_file

SIGNER = Signer()
KEYS = Keys(usign=(parse_usign_key(SIGNER.key_file(), "test"),))
HASH = "0123456789abcdef" * 4
LISTED = f"{HASH} *a.bin\n{HASH[::-1]} *b c.bin\n".encode()


def test_a_usign_signature_holds() -> None:
    assert verify_usign(b"index", SIGNER.sign(b"index"), KEYS, "Packages").number == SIGNER.number


def test_a_changed_file_and_a_changed_signature_are_refused() -> None:
    with pytest.raises(WrongSignatureError, match="was changed"):
        verify_usign(b"Index", SIGNER.sign(b"index"), KEYS, "Packages")
    forged = Signer(seed=2, number=SIGNER.bare_number).sign(b"index")
    with pytest.raises(WrongSignatureError):
        verify_usign(b"index", forged, KEYS, "Packages")


def test_an_unknown_key_is_named() -> None:
    other = Signer(seed=2)
    with pytest.raises(UnknownKeyError, match=other.number):
        verify_usign(b"index", other.sign(b"index"), KEYS, "Packages")


@pytest.mark.parametrize("size", [46, 47, 174, 175])
def test_lengths_at_which_usign_was_wrong_have_their_own_message(size: int) -> None:
    data = b"x" * size
    assert verify_usign(data, SIGNER.sign(data), KEYS, "Packages")
    with pytest.raises(UsignLengthError, match="need not be a forgery"):
        verify_usign(data, SIGNER.sign(b"other"), KEYS, "Packages")


BLOBS = st.binary(max_size=100) | st.binary(min_size=72, max_size=72).map(b"Ed".__add__)
SIGNATURE_FILES = st.binary() | BLOBS.map(lambda blob: usign_file("x", blob))


@given(SIGNATURE_FILES, st.binary())
@example(SIGNER.sign(b""), b"")
@example(usign_file("x", b"Ed" + SIGNER.bare_number + b"\xff" * 64), b"")
def test_any_bytes_as_a_signature_are_one_clear_error(signature: bytes, data: bytes) -> None:
    with contextlib.suppress(TrustError):
        assert verify_usign(data, signature, KEYS, "Packages").number == SIGNER.number
        assert signature == SIGNER.sign(data)


KEY_FILES = st.binary() | st.binary(min_size=40, max_size=40).map(lambda rest: usign_file("k", b"Ed" + rest))


@given(KEY_FILES)
def test_any_bytes_as_a_key_are_a_key_or_one_clear_error(data: bytes) -> None:
    with contextlib.suppress(KeyFileError):
        key = parse_usign_key(data, "k")
        signature = usign_file("s", b"Ed" + bytes.fromhex(key.number) + b"\0" * 64)
        with contextlib.suppress(TrustError):
            verify_usign(b"data", signature, Keys(usign=(key,)), "Packages")
    with contextlib.suppress(KeyFileError):
        parse_gpg_key(data, "k")


PACKETS = st.tuples(st.sampled_from([0x98, 0x99, 0x9A, 0x9B, 0xC6, 0xB4]), st.binary()).map(
    lambda parts: bytes([parts[0]]) + parts[1]
)


@given(PACKETS, st.booleans())
def test_any_packets_as_a_key_are_a_key_or_one_clear_error(data: bytes, armoured: bool) -> None:
    armour = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%s\n-----END PGP PUBLIC KEY BLOCK-----\n"
    with contextlib.suppress(KeyFileError):
        parse_gpg_key(armour % base64.b64encode(data) if armoured else data, "k")


def test_the_shipped_keys_are_what_their_list_says() -> None:
    keys = shipped_keys()
    assert {key.number: key.releases for key in keys.usign} == {
        "792d9d9b39f180dc": ("17.01",),
        "1035ac73cc4e59e3": ("18.06",),
        "f94b9dd6febac963": ("19.07",),
        "2f8b0b98e08306bf": ("21.02",),
        "b5043e70f9a75cde": ("snapshot",),
    }
    folder = Path(parse_usign_key.__code__.co_filename).with_name("data") / "keys"
    listed = json.loads((folder / "keys.json").read_text())["keys"]
    assert {entry["file"] for entry in listed} == {path.name for path in folder.iterdir()} - {"keys.json"}
    for key in keys.gpg:
        (primary,) = parse_gpg_key(key.packets, "k").fingerprints
        assert key.fingerprints[0] == primary
    assert keys.name_of("28A39BC32074BE7A") == "OpenWrt 19.07 release builds"


def test_a_key_is_trusted_for_its_own_releases() -> None:
    def names(release: str) -> set[str]:
        keys = shipped_keys().for_release(release)
        return {key.number for key in keys.usign} | {key.fingerprints[0][-8:] for key in keys.gpg}

    assert names("25.12.5") == names("24.10.4") == names("23.05.5") == {"877742E911"[-8:]}
    assert names("21.02.7") == {"2f8b0b98e08306bf", "8F681580"}
    assert names("19.07.10") == {"2074BE7A", "f94b9dd6febac963"}
    assert names("18.06.9") == {"1035ac73cc4e59e3"}
    assert names("17.01.7") == {"792d9d9b39f180dc"}
    assert names("snapshot") == {"b5043e70f9a75cde", "626471F1", "877742E911"[-8:]}


def test_a_trees_feeds_are_trusted_by_its_own_keys_and_its_releases(tmp_path: Path) -> None:
    def numbers(release: str) -> set[str]:
        return {key.number for key in feed_keys(tmp_path, release).usign}

    assert numbers("17.01.7") == {"792d9d9b39f180dc"}
    assert numbers("24.10.4") == set()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / SIGNER.number).write_bytes(SIGNER.key_file())
    assert numbers("18.06.9") == {"1035ac73cc4e59e3", SIGNER.number}


def test_a_users_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no folder"):
        keys_in(tmp_path / "none")
    (tmp_path / "one.pub").write_bytes(SIGNER.key_file())
    (tmp_path / ".hidden").write_bytes(b"nothing")
    assert keys_in(tmp_path).usign[0].public == SIGNER.public
    assert keys_in(tmp_path).for_release("17.01.7").usign
    (tmp_path / "two").write_bytes(b"no key at all")
    with pytest.raises(KeyFileError, match="two"):
        keys_in(tmp_path)
    (tmp_path / "two").write_bytes(b"x" * (2 << 20))
    with pytest.raises(KeyFileError, match="is larger than"):
        read_key_file(tmp_path / "two")


def test_a_trees_keys_are_for_its_feeds(tmp_path: Path) -> None:
    assert tree_keys(tmp_path) == Keys()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / SIGNER.number).write_bytes(SIGNER.key_file())
    (tmp_path / "keys/local.pem").write_text("-----BEGIN PUBLIC KEY-----")
    assert verify_usign(b"i", SIGNER.sign(b"i"), tree_keys(tmp_path), "Packages").number == SIGNER.number


def test_checksums_are_read() -> None:
    assert parse_sums(LISTED) == {"a.bin": HASH, "b c.bin": HASH[::-1]}
    assert parse_sums(LISTED.replace(b"*", b" ")) == parse_sums(LISTED)


@pytest.mark.parametrize("cut", [0, 10, len(LISTED) - 1, len(LISTED) // 2 + 3])
def test_checksums_cut_short_have_their_own_message(cut: int) -> None:
    with pytest.raises(TruncatedSumsError, match="cut short"):
        parse_sums(LISTED[:cut])
    with pytest.raises(TruncatedSumsError):
        verify_sums({SUMS: LISTED[:cut], "sha256sums.sig": SIGNER.sign(LISTED)}, KEYS, "24.10.4", Log())


@pytest.mark.parametrize(
    "bad",
    [b"<html>\n", b"\xff\n", LISTED + LISTED[1:2] + LISTED[1:], LISTED.upper(), b"\n", LISTED + b"\0\n"],
)
def test_what_are_no_checksums(bad: bytes) -> None:
    with pytest.raises(SumsError):
        parse_sums(bad)


def test_two_checksums_for_one_file_are_refused() -> None:
    with pytest.raises(SumsError, match="two checksums"):
        parse_sums(LISTED + f"{HASH} *b c.bin\n".encode())


@given(st.binary() | st.text().map(lambda text: f"{HASH} *{text}\n".encode("utf-8", "replace")))
def test_any_bytes_are_checksums_or_one_clear_error(data: bytes) -> None:
    with contextlib.suppress(SumsError):
        assert all(len(value) == 64 for value in parse_sums(data).values())


def test_no_signature_at_all() -> None:
    with pytest.raises(NoSignatureError, match="has no signature"):
        verify_sums({SUMS: LISTED}, KEYS, "24.10.4", Log())


def test_a_key_for_another_series_is_told_from_an_unknown_one() -> None:
    key = parse_usign_key(SIGNER.key_file(), "k")
    other = Keys(usign=(type(key)(key.number, key.public, "the 21.02 key", ("21.02",)),))
    files = {SUMS: LISTED, "sha256sums.sig": SIGNER.sign(LISTED)}
    assert verify_sums(files, other, "21.02.7", Log()).kind == "usign"
    with pytest.raises(UnknownKeyError, match=r"the 21\.02 key is not for 24\.10\.4"):
        verify_sums(files, other, "24.10.4", Log())


def gpg_keys(gpg: GpgSigner, *fingerprints: str) -> Keys:
    return Keys(gpg=tuple(parse_gpg_key(gpg.key_file(each), f"{each}.asc") for each in fingerprints))


def test_a_gpg_signature_holds(gpg: GpgSigner) -> None:
    keys = gpg_keys(gpg, gpg.old, gpg.current)
    assert keys.gpg[1].fingerprints == (gpg.current,)
    verdict = verify_gpg(b"sums", gpg.sign(b"sums"), keys, SUMS)
    assert (verdict.fingerprint, verdict.expired) == (gpg.current, None)
    assert abs((datetime.now(UTC) - verdict.signed).total_seconds()) < 600


def test_a_wrong_and_an_unknown_gpg_signature(gpg: GpgSigner) -> None:
    signature = gpg.sign(b"sums")
    with pytest.raises(WrongSignatureError):
        verify_gpg(b"Sums", signature, gpg_keys(gpg, gpg.current), SUMS)
    with pytest.raises(UnknownKeyError, match=gpg.current[-16:]):
        verify_gpg(b"sums", signature, gpg_keys(gpg, gpg.old), SUMS)
    with pytest.raises(UnknownKeyError):
        verify_gpg(b"sums", signature, Keys(), SUMS)


def test_an_expired_key_that_signed_in_time_is_trusted_and_told(gpg: GpgSigner, told: Told) -> None:
    signature = gpg.sign(LISTED, gpg.old, "20200110T000000")
    trust = verify_sums(
        {SUMS: LISTED, "sha256sums.asc": signature}, gpg_keys(gpg, gpg.old), "19.07.7", told.log
    )
    assert trust.kind == "gpg"
    assert trust.signed is not None
    assert f"{trust.signed:%Y-%m}" == "2020-01"
    assert "before the key expired on 2020-02-01" in told.warnings
    with pytest.raises(WrongSignatureError):
        verify_gpg(b"forged", signature, gpg_keys(gpg, gpg.old), SUMS)


def test_signed_after_the_key_had_expired_is_neither_forged_nor_trusted(gpg: GpgSigner) -> None:
    with pytest.raises(ExpiredKeyError, match=r"2020-03-01, after the key.*no forgery"):
        verify_gpg(b"late", gpg.late_signature, gpg_keys(gpg, gpg.old), SUMS)


def test_a_users_newer_copy_of_a_key_counts(gpg: GpgSigner) -> None:
    """As obtain_tree joins them: the user's keys before the shipped ones."""
    old = gpg_keys(gpg, gpg.old)
    gpg.run("--quick-set-expire", gpg.old, "20200401T000000", at="20200116T000000")
    newer = gpg_keys(gpg, gpg.old)
    gpg.run("--quick-set-expire", gpg.old, "20200201T000000", at="20200117T000000")
    verdict = verify_gpg(b"late", gpg.late_signature, newer + old, SUMS)
    assert verdict.expired == datetime(2020, 4, 1, tzinfo=UTC)


def test_a_weak_hash_proves_nothing(gpg: GpgSigner) -> None:
    status = ["NEWSIG", "GOODSIG K N", f"VALIDSIG {'A' * 40} 2020-01-10 1578614400 0 4 0 1 2 00 {'A' * 40}"]
    with pytest.raises(SignatureFormatError, match="SHA-1"):
        read_status([line.split() for line in status], Keys(), SUMS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(signature=st.binary(), key=st.binary(), data=st.binary())
def test_any_bytes_for_gpgv_are_one_clear_error(signature: bytes, key: bytes, data: bytes) -> None:
    if shutil.which("gpgv") is None:
        pytest.skip("needs gpgv")
    keys = Keys(gpg=(type(shipped_keys().gpg[0])(key, (), "k"),))
    with pytest.raises(TrustError):
        verify_gpg(data, signature, keys, SUMS)


STATUS_WORDS = [
    "NEWSIG",
    "GOODSIG",
    "BADSIG",
    "EXPKEYSIG",
    "VALIDSIG",
    "ERRSIG",
    "KEYEXPIRED",
    "1",
    "x",
    "00",
]


@given(st.lists(st.lists(st.sampled_from(STATUS_WORDS), min_size=1, max_size=12)))
@example([["NEWSIG"], ["VALIDSIG", "f", "d", "x", "0", "4", "0", "1", "8", "00", "f"]])
@example([["NEWSIG"], ["VALIDSIG", "f", "d", "9" * 30, "0", "4", "0", "1", "8", "00", "f"]])
@example([["NEWSIG"], ["VALIDSIG", "f", "d", "9" * 5000, "0", "4", "0", "1", "8", "00", "f"]])
def test_any_status_is_one_clear_error_or_a_signature(status: list[list[str]]) -> None:
    with contextlib.suppress(TrustError):
        read_status(status, Keys(), SUMS)


@pytest.mark.parametrize("name", ["sha256sums.sig", "sha256sums.asc"])
def test_a_wrong_signature_is_not_outweighed_by_a_right_one(gpg: GpgSigner, name: str) -> None:
    keys = KEYS + gpg_keys(gpg, gpg.current)
    right = {SUMS: LISTED, "sha256sums.sig": SIGNER.sign(LISTED), "sha256sums.asc": gpg.sign(LISTED)}
    assert verify_sums(right, keys, "24.10.4", Log()).kind == "gpg"  # the one that says when
    sign = SIGNER.sign if name.endswith(".sig") else gpg.sign
    with pytest.raises(WrongSignatureError):
        verify_sums({**right, name: sign(b"something else")}, keys, "24.10.4", Log())


def test_one_signature_by_a_known_key_is_enough(gpg: GpgSigner, told: Told) -> None:
    files = {SUMS: LISTED, "sha256sums.sig": Signer(seed=9).sign(LISTED), "sha256sums.asc": gpg.sign(LISTED)}
    assert verify_sums(files, gpg_keys(gpg, gpg.current), "24.10.4", Log()).key == gpg.current
    with pytest.raises(UnknownKeyError, match="usign key"):
        verify_sums(files, KEYS, "24.10.4", told.log)
    assert "GPG key" in told.warnings


def test_an_index_that_was_replaced_does_not_come_back(cache: Cache) -> None:
    shas = [f"{number:064x}" for number in range(3)]
    for sha in (shas[0], shas[0], shas[1], shas[1], shas[2]):
        accept_index("releases/24.10.4/packages/mips_24kc/base", sha, cache, Log())
    for sha in shas[:2]:
        with pytest.raises(OlderIndexError, match="older than one already seen"):
            accept_index("releases/24.10.4/packages/mips_24kc/base", sha, cache, Log())
    accept_index("releases/24.10.4/packages/mips_24kc/base", shas[2], cache, Log())
    accept_index("releases/24.10.4/packages/mips_24kc/luci", shas[0], cache, Log())
    cache.clean()
    with pytest.raises(OlderIndexError):
        accept_index("releases/24.10.4/packages/mips_24kc/base", shas[0], cache, Log())


def test_an_index_that_was_signed_before_the_newest_is_older_though_never_seen(cache: Cache) -> None:
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    accept_index("snapshots/x", f"{1:064x}", cache, Log(), signed=times[1])
    with pytest.raises(OlderIndexError, match="2026-01-01"):
        accept_index("snapshots/x", f"{0:064x}", cache, Log(), signed=times[0])
    accept_index("snapshots/x", f"{2:064x}", cache, Log(), signed=times[2])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary()
    | st.lists(st.dictionaries(st.sampled_from(["sha256", "first", "signed"]), st.text() | st.none())).map(
        lambda seen: json.dumps({"seen": seen}).encode()
    )
)
def test_a_damaged_record_is_one_clear_error(cache: Cache, data: bytes) -> None:
    accept_index("feed", HASH, cache, Log())
    (record,) = (cache.folder / "seen").iterdir()
    record.write_bytes(data)
    with contextlib.suppress(SeenRecordError):
        accept_index("feed", HASH, cache, Log())
    record.unlink()
