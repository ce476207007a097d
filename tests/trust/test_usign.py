"""usign's secret keys, and what is signed with them here, against what usign and ucert made."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.trust import usign
from imagebuilder.trust.keys import KeyFileError, Keys, parse_usign_key
from imagebuilder.trust.signature import verify_usign
from imagebuilder.trust.usign import UsignPair, pair_of, parse_secret_key

# recorded from usign and ucert of OpenWrt 21.02.7: `usign -G`, `usign -S` of "a file\n", `ucert -I`
SECRET = b"""\
untrusted comment: Local build key
RWRCSwAAAAC9PM65i8ETJ9T5vZpksn3Kn9PGGGXxAuWKqY0lxRplN/BOVRTp3txjbJPbZ1ZdvKeuvCGBKI6/8aMlXxiOzudpHmBxnEDgSOBSoxL8gYQ\
/pI+5uNG7xGubgNuEhgLM60I=
"""
PUBLIC = b"""\
untrusted comment: Local build key
RWSKqY0lxRplNx5gcZxA4EjgUqMS/IGEP6SPubjRu8Rrm4DbhIYCzOtC
"""
SIGNATURE = b"""\
untrusted comment: signed by key 8aa98d25c51a6537
RWSKqY0lxRplN8IuUIbpLl6vG8lRDKoUE9pfx95wEl8QS1pMvAx5KU9Ee7/j4Eyn2AyBRbQciE1Gb47GD+yil1bI8kZ80/OH7wI=
"""
CERTIFICATE = base64.b64decode(
    "AAABZAAAAJt1bnRydXN0ZWQgY29tbWVudDogc2lnbmVkIGJ5IGtleSA4YWE5OGQyNWM1MWE2NTM3ClJXU0txWTBseFJwbE56RE1qQlpmeUdiem9C"
    "dVpteDdIcGtUVGFwcVlabnpJU1MrMCtpaHByUXFWNHMxSlh3Vk5lNTloME42YmU2Z3Z6RmFPenVqZmt0cjZNMjB3TXJKeXZBVT0KAAEAAMSCAADA"
    "AAV1Y2VydACFAAAUAAhjZXJ0dHlwZQAAAAAAAYQAABgACXZhbGlkZnJvbQAAAAAAawi34YQAABgACWV4cGlyZXNhdAAAAAAAbOnrYYMAAG0ABnB1"
    "YmtleQAAAAB1bnRydXN0ZWQgY29tbWVudDogTG9jYWwgYnVpbGQga2V5ClJXU0txWTBseFJwbE54NWdjWnhBNEVqZ1VxTVMvSUdFUDZTUHVialJ1"
    "OFJybTREYmhJWUN6T3RDCgAAAAA="
)
ISSUED, ENDS = 0x6B08B7E1, 0x6CE9EB61

PAIR = parse_secret_key(SECRET, "key-build")


def keys(pair: UsignPair) -> Keys:
    return Keys(usign=(parse_usign_key(pair.public_file(), "key-build.pub"),))


def test_a_key_and_a_signature_are_those_of_usign() -> None:
    assert PAIR.number == "8aa98d25c51a6537"
    assert PAIR.public_file() == PUBLIC
    assert PAIR.sign(b"a file\n") == SIGNATURE
    assert PAIR.sign(memoryview(b"a file\n")) == SIGNATURE
    assert verify_usign(b"a file\n", SIGNATURE, keys(PAIR), "m").number == PAIR.number


def test_a_certificate_is_that_of_ucert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usign, "_VALID_FROM", ISSUED)
    monkeypatch.setattr(usign, "_VALID_UNTIL", ENDS)
    assert PAIR.certificate() == CERTIFICATE
    chain = PAIR.chain(SIGNATURE)
    assert chain.startswith(CERTIFICATE)
    assert chain[len(CERTIFICATE) :] == bytes.fromhex("000000a00000009b") + SIGNATURE + b"\0"


def test_a_certificate_does_not_end_after_a_year() -> None:
    """ucert's own do: an image would be refused by devices then, though nothing of it has changed."""
    certificate = PAIR.certificate()
    assert b"validfrom\0" + bytes(8) in certificate
    ends = int.from_bytes(certificate.partition(b"expiresat\0")[2][:8], "big")
    assert ISSUED + 1000 * 365 * 86400 < ends < 1 << 63
    assert PAIR.certificate() == certificate


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_a_pair_of_any_bytes_is_the_same_again(seed: bytes, data: bytes) -> None:
    pair = pair_of(seed)
    assert pair == pair_of(seed)
    assert parse_secret_key(pair.secret_file(), "key-build") == pair
    assert verify_usign(data, pair.sign(data), keys(pair), "file").number == pair.number


def changed(at: int, to: bytes) -> bytes:
    blob = base64.b64decode(SECRET.splitlines()[1])
    return b"untrusted comment: x\n" + base64.b64encode(blob[:at] + to + blob[at + len(to) :]) + b"\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PUBLIC, "is no usign secret key"),
        (b"", "is no usign file"),
        (changed(0, b"RW"), "is no usign secret key"),
        (changed(4, bytes([0, 0, 0, 42])), "protected by a passphrase"),
        (changed(24, bytes(8)), "is damaged"),
        (changed(50, b"?"), "is damaged"),
        (changed(100, b"?"), "is damaged"),
    ],
)
def test_what_is_no_secret_key_is_named_and_not_shown(data: bytes, said: str) -> None:
    with pytest.raises(KeyFileError, match=f"^here/key-build .*{said}|^here/key-build {said}") as raised:
        parse_secret_key(data, "here/key-build")
    text = f"{raised.value.message}{raised.value.hint}"
    assert not any(line in text for line in data.decode().splitlines()[1:])


def test_a_secret_of_another_public_half() -> None:
    """The checksum is right, the halves are not of one key."""
    other = pair_of(bytes(32))
    secret = PAIR.seed + other.public()
    blob = b"EdBK" + bytes(20) + usign._checksum(secret) + PAIR.bare_number + secret
    with pytest.raises(KeyFileError, match="its checksum or its public half is another key's"):
        parse_secret_key(b"untrusted comment: x\n" + base64.b64encode(blob) + b"\n", "key-build")


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=200).map(lambda data: changed(0, data[:104]))))
def test_any_bytes_are_a_pair_or_one_clear_error(data: bytes) -> None:
    try:
        pair = parse_secret_key(data, "any")
    except KeyFileError as error:
        assert error.message.startswith("any ")
    else:
        assert len(pair.seed) == 32


def test_a_pair_shows_no_secret() -> None:
    assert repr(PAIR) == "UsignPair(8aa98d25c51a6537)"
    assert str(PAIR) == repr(PAIR)
