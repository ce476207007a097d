"""Every field of an index has a bound, and an index made to take hours or gigabytes is one clear error."""

from __future__ import annotations

import gzip
import resource
from pathlib import Path

import pytest

from imagebuilder.kit import __main__ as kit
from imagebuilder.model.package import MAX_INDEX_BYTES, MAX_PACKAGES, Package, Wish
from imagebuilder.packages.opkg import explain
from imagebuilder.packages.opkg import resolve as opkg
from imagebuilder.packages.opkg.opkg import MAX_LINES, PackageIndexError, parse_index, read_index
from imagebuilder.packages.resolution import PlanError, Steps

FINE = "Package: fine\nVersion: 1\n"


@pytest.mark.parametrize(
    ("field", "length", "most"),
    [
        ("Package", 256, 255),
        ("Version", 1025, 1024),
        ("Version", 1_000_000, 1024),
        ("Architecture", 1025, 1024),
        ("Filename", 4097, 4096),
        ("Size", 1025, 1024),
        ("SHA256sum", 1025, 1024),
        ("Depends", 300_000, 1 << 18),
        ("Description", 70_000, 1 << 16),
        ("Maintainer", 70_000, 1 << 16),
    ],
)
def test_a_field_that_is_too_long_costs_its_package(field: str, length: int, most: int) -> None:
    lines = {"Package": "long", "Version": "1", field: "1" * length}
    odd = "".join(f"{name}: {value}\n" for name, value in lines.items())
    found = parse_index(f"{FINE}\n{odd}\n{FINE.replace('fine', 'other')}")
    assert [each.name for each in found] == ["fine", "other"]
    (unusable,) = found.unusable
    assert unusable.reason == f"{field} has {length} characters, more than {most}"
    assert unusable.line == 4 + list(lines).index(field)


def test_a_field_may_have_what_genuine_ones_have() -> None:
    names = ", ".join(f"libsomething-with-a-name-{number}" for number in range(800))
    text = f"Package: {'n' * 51}\nVersion: {'1' * 63}\nDepends: {names}\nDescription: {'d' * 2245}\n"
    (package,) = parse_index(text)
    assert len(package.depends) == 800


def test_a_name_in_a_list_has_a_bound() -> None:
    found = parse_index(f"{FINE}\nPackage: odd\nVersion: 1\nDepends: a, {'b' * 2000}\n")
    assert "has 2001 characters, more than 1024" in found.unusable[0].reason


def test_a_field_that_goes_on_and_on() -> None:
    odd = "Package: odd\nVersion: 1\nDescription: a\n" + " b\n" * 100_000
    (unusable,) = parse_index(f"{FINE}\n{odd}").unusable
    assert unusable.reason.startswith("Description has 65")
    odd = "Package: odd\nVersion: 1\n" + "".join(f"X{number}: 1\n" for number in range(2000))
    (unusable,) = parse_index(f"{FINE}\n{odd}").unusable
    assert (unusable.name, unusable.reason) == ("odd", "it has more than 1000 fields")
    odd = f"Package: odd\nVersion: {'1' * 10_000_000}\n"
    (unusable,) = parse_index(f"{FINE}\n{odd}").unusable
    assert (unusable.name, unusable.line) == ("odd", 4)
    assert "more than 1048576, most of them in Version" in unusable.reason


def test_more_packages_and_lines_than_any_feed_has(tmp_path: Path) -> None:
    text = "".join(f"Package: p{number}\nVersion: 1\n\n" for number in range(MAX_PACKAGES + 1))
    with pytest.raises(PackageIndexError, match=r"^the odd one, line 300001: it lists more than 100000 pack"):
        parse_index(text, origin="the odd one")
    with pytest.raises(PackageIndexError, match="has more than 2000000 lines"):
        parse_index("\n" * (MAX_LINES + 1))
    packed = tmp_path / "Packages.gz"
    packed.write_bytes(gzip.compress(bytes(MAX_INDEX_BYTES + 1), 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PackageIndexError, match=r"Packages\.gz has more than 33554432 bytes"):
        read_index(packed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opkg, "Steps", lambda: Steps(3))


@pytest.mark.usefixtures("few_steps")
def test_a_list_that_takes_too_many_steps_has_no_conflict_that_is_known() -> None:
    packages = parse_index(
        "".join(f"Package: p{number}\nVersion: 1\nProvides: any\n\n" for number in range(9))
    )
    with pytest.raises(PlanError, match="takes more than 3 steps"):
        opkg.resolve(Wish.of(["any"]), packages)
    assert explain.shortest_conflict(["any"], packages) is None


def test_the_kit_says_so_in_opkgs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise PlanError("it takes more than 3 steps")

    monkeypatch.setattr(kit, "resolve", never)
    config = type("Config", (), {"default_packages": ("a",)})
    request = type("Request", (), {"config": config, "packages": ""})
    offer = type("Offer", (), {"packages": (Package("a", "1"),)})
    with pytest.raises(kit.InstallError, match=r"opkg_install_cmd: it takes more than 3 steps\."):
        kit._resolution(request, offer)  # type: ignore[arg-type]
