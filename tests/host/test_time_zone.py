"""The rules of time zones."""

from __future__ import annotations

import zoneinfo
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.errors import HostError
from imagebuilder.host.time_zone import posix_rule


def tzif(rule: str) -> bytes:
    """A file of a zone without transitions: the header of version 1, that of version 2, and the rule."""
    counts = bytes(20) + (1).to_bytes(4, "big") + (4).to_bytes(4, "big")
    one = b"TZif2" + bytes(15) + counts[4:] + bytes(6) + b"UTC\0"
    return one * 2 + f"\n{rule}\n".encode()


@pytest.fixture
def zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's data of time zones."""
    (tmp_path / "Europe").mkdir()
    for name, rule in {"UTC": "UTC0", "Europe/Lisbon": "WET0WEST,M3.5.0/1,M10.5.0", "Old": ""}.items():
        (tmp_path / name).write_bytes(tzif(rule))
    (tmp_path / "tzdata.zi").write_text("# version\n")
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path / "none"), str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize(
    ("zone", "rule"),
    [
        ("UTC", "UTC0"),
        ("Europe/Lisbon", "WET0WEST,M3.5.0/1,M10.5.0"),
        ("Europe/Lisbn", None),
        ("Europe", None),
        ("Old", None),
        ("tzdata.zi", None),
        ("../etc/passwd", None),
        ("/etc/passwd", None),
        ("", None),
    ],
)
def test_a_zone_has_its_rule(zones: Path, zone: str, rule: str | None) -> None:
    assert posix_rule(zone) == rule


def test_a_machine_without_data_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path),))
    with pytest.raises(HostError, match="no data of time zones"):
        posix_rule("UTC")


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: b"TZif2" + data + b"\nX0\n"))
def test_any_file_is_a_rule_or_none(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("zones")
    (folder / "UTC").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoneinfo, "TZPATH", (str(folder),))
        rule = posix_rule("UTC")
    assert rule is None or ("\n" not in rule and data.endswith(b"\n"))
