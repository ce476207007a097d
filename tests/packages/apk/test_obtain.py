"""apk feeds on mirrors: indexes verified and remembered, packages fetched and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.host.cache import Cache, OfflineError
from imagebuilder.host.download import Downloads
from imagebuilder.host.transfer_part import DownloadError
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.packages.apk.apk import parse_index
from imagebuilder.packages.apk.file import WrongPackageError
from imagebuilder.packages.apk.obtain import apk_files, cached_apk, signed_apk_index
from imagebuilder.server.mirror import Mirror
from imagebuilder.trust.signature import NoSignatureError, UnknownKeyError
from imagebuilder.trust.signature_seen import OlderIndexError
from tests.packages.apk.test_index import PYTHON
from tests.packages.apk.test_trust import MINE, MY_KEY, OTHER
from tests.support.adb_maker import Facts, index, package

FEED = "releases/25.12.1/packages/mips_24kc/base"
FAR = Mirror("https://mirror.example.invalid")


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    (tmp_path / "mirror" / FEED).mkdir(parents=True)
    return Mirror(str(tmp_path / "mirror"))


def offer(mirror: Mirror, *names: str) -> list[Facts]:
    """Lay packages of these names; their entries."""
    entries = []
    for name in names:
        data, entry = package({**PYTHON, "name": name}, {"file": name.encode()})
        (Path(mirror.base) / FEED / f"{name}-3.13.9-r2.apk").write_bytes(data)
        entries.append(entry)
    return entries


def lay_index(mirror: Mirror, data: bytes) -> None:
    (Path(mirror.base) / FEED / "packages.adb").write_bytes(data)


def downloads(tmp_path: Path, *, offline: bool = False) -> Downloads:
    return Downloads(Cache(tmp_path / "cache"), Log(), offline=offline)


def test_an_index_is_verified_and_had_again_offline(mirror: Mirror, tmp_path: Path) -> None:
    lay_index(mirror, index(offer(mirror, "one"), MINE))
    with downloads(tmp_path) as get:
        first = signed_apk_index(get, [mirror], FEED, [MY_KEY])
    assert (first.key, first.source) == (MY_KEY.number, mirror.base)
    assert [each.name for each in parse_index(first.data)] == ["one"]
    with downloads(tmp_path, offline=True) as get:
        again = signed_apk_index(get, [FAR], FEED, [MY_KEY])
        assert (again.data, again.source) == (first.data, "the cache")
        with pytest.raises(OfflineError, match="luci/packages.adb"):
            signed_apk_index(get, [FAR], FEED.replace("base", "luci"), [MY_KEY])


def test_an_index_that_is_not_trusted(mirror: Mirror, tmp_path: Path) -> None:
    entries = offer(mirror, "one")
    with downloads(tmp_path) as get:
        lay_index(mirror, index(entries, OTHER))
        with pytest.raises(UnknownKeyError):
            signed_apk_index(get, [mirror], FEED, [MY_KEY])
        lay_index(mirror, index(entries))
        with pytest.raises(NoSignatureError, match=f"{FEED}/packages.adb has no signature"):
            signed_apk_index(get, [mirror], FEED, [MY_KEY])
        old, new = index(entries, MINE), index(entries, MINE)
        for data in (old, new):
            lay_index(mirror, data)
            signed_apk_index(get, [mirror], FEED, [MY_KEY])
        lay_index(mirror, old)
        with pytest.raises(OlderIndexError):
            signed_apk_index(get, [mirror], FEED, [MY_KEY])
        (Path(mirror.base) / FEED / "packages.adb").unlink()
        with pytest.raises(DownloadError):
            signed_apk_index(get, [mirror], FEED, [MY_KEY])


def packages(entries: list[Facts]) -> tuple[Package, ...]:
    return parse_index(index(entries))


def test_packages_are_checked_and_kept(mirror: Mirror, tmp_path: Path) -> None:
    wanted = packages(offer(mirror, "one", "two"))
    with downloads(tmp_path) as get:
        paths = apk_files(get, [mirror], FEED, wanted)
        names = [each.filename for each in wanted]
        assert [path.read_bytes() for path in paths] == [
            (Path(mirror.base) / FEED / name).read_bytes() for name in names
        ]
    with downloads(tmp_path, offline=True) as get:
        assert apk_files(get, [FAR], FEED, wanted) == paths
        (three,) = packages(offer(mirror, "three"))
        assert cached_apk(get, three) is None
        with pytest.raises(OfflineError, match=f"{FEED}/three-3.13.9-r2.apk"):
            apk_files(get, [FAR], FEED, [*wanted, three])


def test_a_wrong_package_is_not_kept(mirror: Mirror, tmp_path: Path) -> None:
    (one,) = packages(offer(mirror, "one"))
    other = Mirror(str(tmp_path / "other"))
    (tmp_path / "other" / FEED).mkdir(parents=True)
    wrong = Path(other.base) / FEED / one.filename
    wrong.write_bytes(b"x" * one.size)
    with downloads(tmp_path) as get:
        with pytest.raises(WrongPackageError, match="does not begin with ADB"):
            apk_files(get, [other], FEED, [one])
        assert cached_apk(get, one) is None
        (path,) = apk_files(get, [other, mirror], FEED, [one])
        assert path.stat().st_size == one.size
        wrong.unlink()
        with pytest.raises(DownloadError):
            apk_files(get, [other], FEED, [Package("no", "1", filename="no.apk", identity="00")])
