"""sha256sums of a result: their form, their signature, and what is found when a file is another one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from imagebuilder.host.run import run
from imagebuilder.model.firmware import Check, outcome_of
from imagebuilder.report.files import SIGNATURE, SUMS, ResultError
from imagebuilder.report.sums import check_sums, write_sums
from imagebuilder.trust.keys import Keys, UsignKey
from imagebuilder.trust.signature import verify_usign
from imagebuilder.trust.signature_sums import SumsError
from imagebuilder.trust.usign import UsignPair, pair_of
from tests.trust.test_usign import PAIR, PUBLIC
from tests.trust.test_usign import SIGNATURE as RECORDED

IMAGE = "openwrt-23.05.5-ath79-tiny-sysupgrade.bin"


def keys_of(pair: UsignPair) -> Keys:
    return Keys((UsignKey(pair.number, pair.public(), "mine"),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "result"
    made.mkdir()
    (made / IMAGE).write_bytes(b"image")
    (made / "manifest").write_text("busybox - 1\n")
    return made


def failed(checks: tuple[Check, ...]) -> dict[str, str]:
    return {check.what: check.level for check in checks if not check.ok}


def test_sums_have_the_form_of_openwrts_server(folder: Path) -> None:
    write_sums(folder, {IMAGE: "ab" * 32}, None)
    manifest = hashlib.sha256(b"busybox - 1\n").hexdigest()
    assert (folder / SUMS).read_text() == f"{manifest} *manifest\n{'ab' * 32} *{IMAGE}\n", (
        "known ones are taken"
    )
    assert not (folder / SIGNATURE).exists()
    write_sums(folder, {}, None)
    assert run(["sha256sum", "-c", SUMS], cwd=folder).stdout.count(": OK") == 2
    assert outcome_of(check_sums(folder, Keys())) == "passed"


def test_a_signature_is_what_usign_writes(folder: Path) -> None:
    """The pair and what it signs were recorded from OpenWrt's usign (tests/trust/test_usign.py)."""
    write_sums(folder, {}, PAIR)
    data = (folder / SUMS).read_bytes()
    assert (folder / SIGNATURE).read_bytes() == PAIR.sign(data)
    assert (folder / SIGNATURE).read_bytes().splitlines()[0] == RECORDED.splitlines()[0]
    assert verify_usign(data, (folder / SIGNATURE).read_bytes(), keys_of(PAIR), SUMS).number == PAIR.number
    assert PAIR.public_file() == PUBLIC
    checks = check_sums(folder, keys_of(PAIR), signed=True)
    assert outcome_of(checks) == "passed"
    assert checks[-1].found == f"by the key {PAIR.number} (mine)"


def test_signing_twice_gives_the_same(folder: Path) -> None:
    write_sums(folder, {}, PAIR)
    first = {place.name: place.read_bytes() for place in folder.iterdir()}
    write_sums(folder, {}, PAIR)
    assert {place.name: place.read_bytes() for place in folder.iterdir()} == first, (
        "nor do they name themselves"
    )


def test_what_is_wrong_is_told_by_file(folder: Path) -> None:
    write_sums(folder, {}, PAIR)
    (folder / IMAGE).write_bytes(b"other")
    (folder / "manifest").unlink()
    (folder / "added").write_text("")
    checks = check_sums(folder, keys_of(PAIR))
    assert failed(checks) == {
        f"sum of {IMAGE}": "error",
        "sum of manifest": "error",
        "sum of added": "warning",
    }
    assert outcome_of(checks) == "refused"


@pytest.mark.parametrize(
    ("name", "data", "level"),
    [
        ("openwrt-other-sysupgrade.bin", b"", "error"),
        ("openwrt.IMG.GZ", b"text", "error"),
        ("firmware", b"\x27\x05\x19\x56\0\0", "error"),
        ("notes.txt", b"flashed on Monday\n", "warning"),
    ],
)
def test_an_image_that_the_sums_do_not_list_is_refused(
    folder: Path, name: str, data: bytes, level: str
) -> None:
    write_sums(folder, {}, None)
    (folder / name).write_bytes(data)
    assert failed(check_sums(folder, Keys())) == {f"sum of {name}": level}


def test_a_file_that_nobody_can_read_may_be_an_image(folder: Path) -> None:
    write_sums(folder, {}, None)
    (folder / "nowhere").symlink_to("gone")
    (folder / "notes").mkdir()
    assert failed(check_sums(folder, Keys())) == {"sum of nowhere": "error", "sum of notes": "warning"}


def test_what_has_to_be_listed_is(folder: Path) -> None:
    write_sums(folder, {}, None)
    (folder / "notes.txt").write_text("")
    found = failed(check_sums(folder, Keys(), needed=[IMAGE, "gone.bin", "notes.txt"]))
    assert found == {"sum of gone.bin": "error", "sum of notes.txt": "error"}


def test_sums_and_their_signature_are_no_links(folder: Path, tmp_path: Path) -> None:
    write_sums(folder, {}, PAIR)
    (folder / SIGNATURE).rename(tmp_path / "elsewhere")
    (folder / SIGNATURE).symlink_to(tmp_path / "elsewhere")
    assert failed(check_sums(folder, keys_of(PAIR))) == {f"signature of {SUMS}": "error"}
    (folder / SIGNATURE).unlink()
    (folder / SIGNATURE).symlink_to(tmp_path / "gone")
    assert failed(check_sums(folder, keys_of(PAIR))) == {f"signature of {SUMS}": "error"}
    (folder / SUMS).rename(tmp_path / "sums")
    (folder / SUMS).symlink_to(tmp_path / "sums")
    with pytest.raises(ResultError, match="is a link"):
        check_sums(folder, keys_of(PAIR))


def test_a_link_is_not_the_file_that_was_summed(folder: Path, tmp_path: Path) -> None:
    write_sums(folder, {}, None)
    (folder / IMAGE).rename(tmp_path / "elsewhere")
    (folder / IMAGE).symlink_to(tmp_path / "elsewhere")
    assert failed(check_sums(folder, Keys())) == {f"sum of {IMAGE}": "error"}


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", ".."])
def test_sums_of_files_elsewhere_are_no_sums_of_the_result(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("x")
    (folder / SUMS).write_text(f"{hashlib.sha256(b'x').hexdigest()} *{name}\n")
    assert failed(check_sums(folder, Keys()))[f"sum of {name}"] == "error"


def test_a_signature_of_other_sums_is_refused(folder: Path) -> None:
    write_sums(folder, {}, PAIR)
    (folder / "manifest").write_text("busybox - 2\n")
    kept = (folder / SIGNATURE).read_bytes()
    write_sums(folder, {}, None)
    (folder / SIGNATURE).write_bytes(kept)
    assert failed(check_sums(folder, keys_of(PAIR))) == {f"signature of {SUMS}": "error"}


def test_a_signature_of_a_stranger_leaves_it_open(folder: Path) -> None:
    write_sums(folder, {}, PAIR)
    checks = check_sums(folder, keys_of(pair_of(b"s" * 32)))
    assert outcome_of(checks) == "cannot be told"
    assert PAIR.number in checks[-1].found
    assert outcome_of(check_sums(folder, Keys())) == "cannot be told"


def test_a_signature_that_has_to_be_there_and_is_not(folder: Path) -> None:
    write_sums(folder, {}, None)
    assert outcome_of(check_sums(folder, keys_of(PAIR))) == "passed"
    assert failed(check_sums(folder, keys_of(PAIR), signed=True)) == {f"signature of {SUMS}": "error"}


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe", b"no sums\n"])
def test_damaged_sums_are_one_clear_error(folder: Path, damaged: bytes) -> None:
    (folder / SUMS).write_bytes(damaged)
    with pytest.raises(SumsError):
        check_sums(folder, Keys())


def test_a_folder_without_sums_is_no_result(folder: Path) -> None:
    with pytest.raises(ResultError, match="is no folder of a result: its sha256sums cannot be read"):
        check_sums(folder, Keys())


def test_a_name_that_no_line_can_hold_is_refused(folder: Path) -> None:
    (folder / "two\nlines").write_text("")
    with pytest.raises(ResultError, match="cannot name the file"):
        write_sums(folder, {}, None)
