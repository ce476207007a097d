"""Debian's packages for the kit, in both ways, from a mirror on loopback that the tests sign."""

from __future__ import annotations

import contextlib
import io
import lzma
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.cache import Cache
from imagebuilder.kit.debian import fetch
from imagebuilder.kit.debian.archive import (
    Deb,
    DebianError,
    Listed,
    Mirrors,
    Suite,
    listed_index,
    packages_in,
    suites_of,
    unpacked_index,
    valid_until,
)
from imagebuilder.kit.debian.deb import unpack
from imagebuilder.model.edition import EDITIONS
from imagebuilder.trust.keys import Keys, parse_gpg_key
from tests.support.debian_archive import DebianArchive, ar_of, deb_of, tar_of
from tests.support.download_server import Fault, GpgSigner, Server, Told

EDITION = EDITIONS["embedded"]
SUITE = Suite("http://mirror/debian", "bookworm")
OLD, NEW = deb_of({"./lib/old": b"old"}), deb_of({"./lib/new": b"new"})
BUSYBOX, KERNEL, META = deb_of({"./bin/busybox": b"b"}), deb_of({"./boot/k": b"k"}), deb_of({})
NAMES = ["busybox-static", "libc6"]
WAYS = [
    pytest.param(
        "apt", marks=pytest.mark.skipif(not fetch.has_apt(), reason="this machine has no apt"), id="apt"
    ),
    "direct",
]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpgSigner]:
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    signer = GpgSigner(home)
    yield signer
    signer.close()


@pytest.fixture
def archive(tmp_path: Path, signer: GpgSigner) -> DebianArchive:
    """A release, and security updates with a newer libc6 and kernel."""
    made = DebianArchive(tmp_path / "mirror", signer)
    packages = {
        "busybox-static": ("1:1.35.0-4", BUSYBOX),
        "libc6": ("2.36-9", OLD),
        "linux-image-6.1.0-9-cloud-amd64": ("6.1.9-1", KERNEL),
        "linux-image-cloud-amd64": ("6.1.9-1", META),
    }
    made.publish("debian", "bookworm", packages)
    updates = {
        "libc6": ("2.36-9+deb12u1", NEW),
        "linux-image-6.1.0-10-cloud-amd64": ("6.1.10-1", KERNEL),
        "linux-image-cloud-amd64": ("6.1.10-1", META),
    }
    made.publish("debian-security", "bookworm-security", updates)
    return made


@pytest.fixture
def server(archive: DebianArchive) -> Iterator[Server]:
    server = Server(archive.root)
    yield server
    server.close()


@pytest.fixture(params=WAYS)
def way(
    request: pytest.FixtureRequest, server: Server, signer: GpgSigner, monkeypatch: pytest.MonkeyPatch
) -> str:
    """One of the two ways, with the tests' mirror and key."""
    keys = Keys(gpg=(parse_gpg_key(signer.key_file(), "test"),))
    monkeypatch.setattr(fetch, "release_keys", lambda _edition: keys)
    monkeypatch.setattr(fetch, "has_apt", lambda: request.param == "apt")
    monkeypatch.setenv(fetch.MIRROR_VARIABLE, f"{server.url}/debian/")
    return str(request.param)


def fetched(tmp_path: Path, told: Told | None = None) -> Mapping[Deb, Path]:
    return fetch.fetch(EDITION, NAMES, Cache(tmp_path / "cache"), (told or Told()).log)


def test_the_newest_of_release_and_security_is_taken(way: str, tmp_path: Path) -> None:
    found = fetched(tmp_path)
    assert [(deb.name, deb.version) for deb in found] == [
        ("busybox-static", "1:1.35.0-4"),
        ("libc6", "2.36-9+deb12u1"),
        ("linux-image-6.1.0-10-cloud-amd64", "6.1.10-1"),
    ]
    assert [path.read_bytes() for path in found.values()] == [BUSYBOX, NEW, KERNEL]
    assert [deb.is_kernel for deb in found] == [False, False, True]
    assert next(iter(found)).plain_version == "1.35.0-4"


def test_a_cache_may_be_called_anything(way: str, tmp_path: Path) -> None:
    assert fetched(tmp_path / "my cache, with 'quotes'")


def test_both_ways_find_the_same(
    server: Server, signer: GpgSigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fetch.has_apt():
        pytest.skip("this machine has no apt")
    keys = Keys(gpg=(parse_gpg_key(signer.key_file(), "test"),))
    monkeypatch.setattr(fetch, "release_keys", lambda _edition: keys)
    monkeypatch.setenv(fetch.MIRROR_VARIABLE, f"{server.url}/debian")
    by_apt = fetched(tmp_path / "apt")
    monkeypatch.setattr(fetch, "has_apt", lambda: False)
    assert list(fetched(tmp_path / "direct")) == list(by_apt)


def test_what_is_in_the_cache_is_not_fetched_again(way: str, server: Server, tmp_path: Path) -> None:
    found = fetched(tmp_path)
    damaged = next(path for deb, path in found.items() if deb.name == "libc6")
    damaged.write_bytes(b"damaged")
    server.asked.clear()
    again = fetched(tmp_path)
    assert [path.rpartition("/")[2] for path in server.paths(".deb")] == ["libc6_2.36-9+deb12u1_amd64.deb"]
    assert again == found
    assert damaged.read_bytes() == NEW


def test_a_package_that_is_not_what_was_announced_is_refused(
    way: str, archive: DebianArchive, tmp_path: Path
) -> None:
    (file,) = archive.root.glob("debian-security/pool/main/l/libc6/*.deb")
    file.write_bytes(deb_of({"./lib/new": b"evil"}))
    with pytest.raises(DebianError, match="libc6"):
        fetched(tmp_path)
    assert [path.read_bytes() for path in (tmp_path / "cache/blobs").glob("*/*")].count(
        file.read_bytes()
    ) == 0
    file.write_bytes(NEW)
    assert fetched(tmp_path)


def test_a_changed_list_is_refused(way: str, archive: DebianArchive, tmp_path: Path) -> None:
    release = archive.root / "debian/dists/bookworm/InRelease"
    release.write_bytes(release.read_bytes().replace(b"Origin: Debian", b"Origin: Nobody"))
    with pytest.raises(DebianError, match=r"BADSIG|is not signed|not what the key"):
        fetched(tmp_path)


def test_a_list_of_another_key_is_refused(
    way: str, archive: DebianArchive, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("other")
    home.chmod(0o700)
    other = GpgSigner(home)
    replace(archive, signer=other).publish("debian", "bookworm", {"libc6": ("9", NEW)})
    other.close()
    with pytest.raises(DebianError, match=r"NO_PUBKEY|not signed|is signed by the GPG key|not available"):
        fetched(tmp_path)


def test_an_index_that_the_release_does_not_name_is_refused(
    way: str, archive: DebianArchive, tmp_path: Path
) -> None:
    for file in archive.root.glob("debian/dists/bookworm/main/binary-amd64/**/*"):
        if file.is_file():
            file.write_bytes(lzma.compress(b"Package: libc6\n"))
    with pytest.raises(DebianError):
        fetched(tmp_path)


def test_a_release_that_moved_away_says_where_to_point(
    way: str, archive: DebianArchive, tmp_path: Path
) -> None:
    shutil.rmtree(archive.root / "debian/dists")
    with pytest.raises(DebianError, match=r"Debian 12 \(bookworm\)") as caught:
        fetched(tmp_path)
    assert caught.value.hint is not None
    assert f"{fetch.MIRROR_VARIABLE}=http://archive.debian.org/debian" in caught.value.hint


def test_a_server_that_is_not_there_is_another_matter(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fetch.MIRROR_VARIABLE, "http://127.0.0.1:9/debian")
    with pytest.raises(DebianError) as caught:
        fetched(tmp_path)
    assert caught.value.hint is not None
    assert "is the network there" in caught.value.hint


def test_a_mirror_that_lags_behind_is_warned_of(way: str, archive: DebianArchive, tmp_path: Path) -> None:
    updates = {"libc6": ("2.36-9+deb12u1", NEW)}
    more = "Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n"
    archive.publish("debian-security", "bookworm-security", updates, more=more)
    told = Told()
    assert fetched(tmp_path, told)
    assert "bookworm-security was valid until 2022-01-01" in told.warnings


def test_a_package_that_nobody_offers_is_an_error(way: str, tmp_path: Path) -> None:
    with pytest.raises(DebianError, match="offer no nonesuch"):
        fetch.fetch(EDITION, ["nonesuch"], Cache(tmp_path / "cache"), Told().log)


def test_a_metapackage_without_a_kernel_is_an_error(way: str, archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish("debian-security", "bookworm-security", {"linux-image-cloud-amd64": ("9", META)})
    with pytest.raises(DebianError, match="depends on no kernel"):
        fetched(tmp_path)


def test_by_hash_is_asked_for_first(
    server: Server, signer: GpgSigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(gpg=(parse_gpg_key(signer.key_file(), "test"),))
    monkeypatch.setattr(fetch, "release_keys", lambda _edition: keys)
    monkeypatch.setattr(fetch, "has_apt", lambda: False)
    monkeypatch.setenv(fetch.MIRROR_VARIABLE, f"{server.url}/debian")
    server.always["Packages.xz"] = Fault(status=404)
    assert fetched(tmp_path)


# --- where to look ------------------------------------------------------------------------------------


def test_the_mirrors_of_this_machines_apt_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    named = (
        "http://ftp.example.org/pub/debian/ main\nhttp://deb.example.org/debian-security/ main\n"
        "https://download.example.com/linux/debian/ stable\nhttp://u:p@mirror.example.org/debian main\n"
        "file:/srv/debian main\nhttp://ports.example.org/ubuntu/ main\n"
    )
    assert list(fetch._named(named, "debian")) == ["http://ftp.example.org/pub/debian"]
    assert list(fetch._named(named, "debian-security")) == ["http://deb.example.org/debian-security"]
    monkeypatch.setattr(fetch, "has_apt", lambda: False)
    assert fetch.find_mirrors({}) == fetch.DEFAULT_MIRRORS
    given = {fetch.MIRROR_VARIABLE: "https://mirror.example.org/debian/"}
    assert fetch.find_mirrors(given) == Mirrors(
        "https://mirror.example.org/debian", "https://mirror.example.org/debian-security"
    )


@pytest.mark.parametrize(
    "text", ["mirror", "ftp://x/debian", "http://x", "http://x/a b", "file:///srv/debian"]
)
def test_no_address_is_refused(text: str) -> None:
    with pytest.raises(DebianError, match=fetch.MIRROR_VARIABLE):
        fetch.find_mirrors({fetch.MIRROR_VARIABLE: text})


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=lambda edition: edition.release)
def test_each_edition_has_its_debians_keys(edition: object) -> None:
    keys = fetch.release_keys(edition)  # type: ignore[arg-type]
    assert len(keys.gpg) == 3
    listed = (fetch.KEYS / "README").read_text("utf-8")
    for key in keys.gpg:
        assert key.fingerprints[0] in listed


# --- what an archive's files say ------------------------------------------------------------------------


def test_suites_are_the_release_and_its_security_updates() -> None:
    suites = suites_of(EDITION, Mirrors("http://a/debian", "http://b/debian-security"))
    assert [suite.address for suite in suites] == [
        "http://a/debian/dists/bookworm",
        "http://b/debian-security/dists/bookworm-security",
    ]


RELEASE = (
    "Suite: oldstable\nCodename: bookworm\nSHA256:\n"
    f" {'a' * 64} 1234 main/binary-amd64/Packages\n {'b' * 64}  123 main/binary-amd64/Packages.xz\n"
    "SHA512:\n x\n"
)


def test_a_release_names_its_index() -> None:
    packed, plain = listed_index(RELEASE, SUITE)
    assert (packed.sha256, packed.size, plain.size) == ("b" * 64, 123, 1234)
    assert packed.by_hash == f"main/binary-amd64/by-hash/SHA256/{'b' * 64}"
    assert valid_until(RELEASE) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RELEASE.replace("bookworm", "trixie"), "not of bookworm"),
        (RELEASE.replace("Packages.xz", "Packages.gz"), "names no main/binary-amd64/Packages.xz"),
        (RELEASE.replace("1234", "999999999999"), "an index of"),
        ("", "not of bookworm"),
    ],
)
def test_another_release_is_refused(text: str, says: str) -> None:
    with pytest.raises(DebianError, match=says):
        listed_index(text, SUITE)


def test_no_date_is_an_error() -> None:
    with pytest.raises(DebianError, match="no date"):
        valid_until("Valid-Until: whenever\n")


GOOD = f"Package: a\nVersion: 1\nFilename: pool/main/a/a_1_amd64.deb\nSize: 3\nSHA256: {'0' * 64}\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("Size: 3", "Size: three"),
        GOOD.replace("Version: 1\n", ""),
        GOOD.replace("0" * 64, "0" * 63),
        GOOD.replace("pool/main", "pool/../../etc"),
        GOOD.replace("pool/main", "/etc"),
        GOOD.replace("Filename: pool/main/a/a_1_amd64.deb\n", ""),
    ],
)
def test_a_package_without_the_facts_is_an_error(text: str) -> None:
    assert packages_in(GOOD.encode(), ["a"], "http://m")[0][0].address == "http://m/pool/main/a/a_1_amd64.deb"
    with pytest.raises(DebianError, match="no version, file, size or SHA-256 of a"):
        packages_in(text.encode(), ["a"], "http://m")


def test_an_index_of_another_size_is_refused() -> None:
    packed = lzma.compress(b"Package: a\n")
    assert unpacked_index(packed, Listed("Packages", "", 11)) == b"Package: a\n"
    for size in (10, 12):
        with pytest.raises(DebianError, match="is not of the"):
            unpacked_index(packed, Listed("Packages", "", size))
    with pytest.raises(DebianError, match="cannot be unpacked"):
        unpacked_index(b"no xz", Listed("Packages", "", 5))


@given(st.binary(max_size=400), st.text(max_size=200))
def test_any_bytes_give_packages_or_one_error(data: bytes, text: str) -> None:
    for given_ in (data, b"Package: a\n" + data, text.encode("utf-8", "surrogatepass")):
        with contextlib.suppress(DebianError):
            packages_in(given_, ["a"], "http://m")
    for call in (lambda: listed_index(text, SUITE), lambda: valid_until(f"Valid-Until: {text}")):
        with contextlib.suppress(DebianError):
            call()


# --- .deb files -------------------------------------------------------------------------------------------


def deb_file(tmp_path: Path, data: bytes) -> tuple[Deb, dict[Deb, Path]]:
    path = tmp_path / "blob"
    path.write_bytes(data)
    deb = Deb("a", "1", "00", len(data), "http://m/a.deb")
    return deb, {deb: path}


def test_a_package_is_unpacked_with_its_times(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"./usr/bin/a": b"program", "./usr/lib/b": "/etc/b", "./c": "usr/bin/a"}
    deb, where = deb_file(tmp_path, deb_of(files))
    unpack([deb], where, tmp_path / "into")
    into = tmp_path / "into"
    assert (into / "usr/bin/a").read_bytes() == b"program"
    assert str((into / "usr/lib/b").readlink()) == "/etc/b"
    assert {path.lstat().st_mtime for path in into.rglob("*") if not path.is_dir()} == {1_700_000_000}


@pytest.mark.parametrize("packer", ["data.tar", "data.tar.xz", "data.tar.gz", "data.tar.zst"])
def test_every_packing_that_dpkg_knows_is_read(tmp_path: Path, packer: str) -> None:
    import gzip  # noqa: PLC0415

    import zstandard  # noqa: PLC0415

    plain = tar_of({"./a": b"1"})
    pack = {
        "data.tar": lambda data: data,
        "data.tar.xz": lzma.compress,
        "data.tar.gz": gzip.compress,
        "data.tar.zst": zstandard.compress,
    }[packer]
    deb, where = deb_file(tmp_path, ar_of({"debian-binary": b"2.0\n", packer: pack(plain)}))
    unpack([deb], where, tmp_path / "into")
    assert (tmp_path / "into/a").read_bytes() == b"1"


def device() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("./dev/null")
        member.type = tarfile.CHRTYPE
        tar.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no deb", "no Debian package"),
        (ar_of({"debian-binary": b"2.0\n"}), "holds no files"),
        (ar_of({"data.tar.bz2": b""}), "packed as data.tar.bz2"),
        (ar_of({"data.tar.xz": b"no xz"}), "damaged"),
        (ar_of({"data.tar.xz": lzma.compress(tar_of({"./a": b"x" * 9000}))[:-60]}), "damaged"),
        (ar_of({"data.tar": device()}), "device"),
        (ar_of({"data.tar": tar_of({"../a": b""})}), "leaves its folder"),
        (ar_of({"data.tar": tar_of({"./l": "/etc", "./l/passwd": b""})}), "passes through a link"),
    ],
)
def test_a_bad_package_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    deb, where = deb_file(tmp_path, data)
    with pytest.raises(DebianError, match=says):
        unpack([deb], where, tmp_path / "into")


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_unpacked_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    good = deb_of({"./a": b"1"})
    for each in (data, good[:at] + data, ar_of({"data.tar": data})):
        deb, where = deb_file(tmp_path, each)
        with contextlib.suppress(DebianError):
            unpack([deb], where, tmp_path / "into")
