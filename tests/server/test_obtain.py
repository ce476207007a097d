"""From a board and a release to a tree that is trusted; and every reason for which it is not."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.releases import ReleaseError
from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache, OfflineError
from imagebuilder.host.download import Downloads, WrongContentError
from imagebuilder.host.once import Once
from imagebuilder.host.transfer import Patience
from imagebuilder.host.transfer_part import DownloadError, NotThereError
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Event, Log, Progress
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.obtain import (
    IndexFormatError,
    SignedIndex,
    signed_index,
    unpacked_index,
    wanted_file,
)
from imagebuilder.server import archive as archive_module
from imagebuilder.server.mirror import Mirror, TargetPlace, layout_path, parse_mirrors
from imagebuilder.server.obtain import Obtained, obtain_tree, parse_pin
from imagebuilder.server.obtain_sums import (
    CACHED,
    SwappedFileError,
    known_releases,
    release_devices,
    target_devices,
)
from imagebuilder.trust.keys import KeyFileError, Keys, keys_in
from imagebuilder.trust.signature import (
    NoSignatureError,
    SignatureFormatError,
    TrustError,
    UnknownKeyError,
    UsignLengthError,
    WrongSignatureError,
)
from imagebuilder.trust.signature_seen import OlderIndexError
from imagebuilder.trust.signature_sums import SumsError, TruncatedSumsError
from tests.support.download_server import (
    RELEASE,
    TARGET,
    Fault,
    GpgSigner,
    Server,
    Signer,
    Site,
    Told,
    left_in,
    no_waiting,
    small_board,
)

Obtain = Callable[..., Obtained]


@pytest.fixture
def obtain(server: Server, cache: Cache, told: Told, own_keys: Path) -> Obtain:
    """obtain_tree() from the test's server with the test's keys."""

    def call(release: str = RELEASE, *mirrors: str, **options: object) -> Obtained:
        options = {
            "user_keys": own_keys,
            "log": told.log,
            "patience": no_waiting(attempts=2),
            **options,
        }
        return obtain_tree(
            small_board(),
            release,
            parse_mirrors(mirrors or [server.url]),
            cache,
            **options,  # type: ignore[arg-type]
        )

    return call


def test_from_a_release_to_a_tree(
    obtain: Obtain, site: Site, cache: Cache, server: Server, told: Told
) -> None:
    name, sha = site.add_target()
    got = obtain()
    assert (got.folder / "release").read_text() == RELEASE
    assert (got.folder, got.release, got.archive, got.sha256) == (cache.tree(sha), RELEASE, name, sha)
    assert (got.profile.name, got.source) == ("small", server.url)
    assert (got.trust.kind, got.trust.key) == ("usign", site.signer.number)
    assert got.trust.text in told.notes
    assert told.progress
    asked = len(server.asked)
    again = obtain(offline=True)
    assert (again.folder, again.sha256, again.trust) == (got.folder, got.sha256, got.trust)
    assert again.source == CACHED
    assert obtain().folder == got.folder
    assert len(server.asked) == asked  # a numbered release does not change


def test_boards_of_one_command_ask_a_server_once(
    server: Server, site: Site, cache: Cache, own_keys: Path
) -> None:
    """For a target's tree, and for the list of releases; another target's tree is asked for too."""
    site.add_target("snapshot")
    site.add_target("snapshot", "ath79/generic")
    once = Once()

    def folder(target: str) -> Path:
        mirrors, board = parse_mirrors([server.url]), small_board(target=target, releases="snapshot")
        return obtain_tree(board, "snapshot", mirrors, cache, user_keys=own_keys, log=Log(), once=once).folder

    first = folder(TARGET)
    asked = len(server.asked)
    assert folder(TARGET) == first
    assert len(server.asked) == asked
    assert folder("ath79/generic") != first
    assert len(server.asked) > asked


def test_a_server_that_one_board_could_not_reach_costs_the_next_no_time(
    cache: Cache, own_keys: Path, server: Server
) -> None:
    server.close()
    waited: list[float] = []
    once, patience = Once(), Patience(sleep=waited.append)

    def refused(target: str) -> str:
        mirrors, board = parse_mirrors([server.url]), small_board(target=target)
        options = {"user_keys": own_keys, "log": Log(), "patience": patience, "once": once}
        with pytest.raises(DownloadError) as error:
            obtain_tree(board, RELEASE, mirrors, cache, **options)  # type: ignore[arg-type]
        return error.value.message

    first = refused(TARGET)
    waits = len(waited)
    assert "(tried 5 times)" in first
    assert refused(TARGET) == first
    assert "ath79/generic" in refused("ath79/generic")
    assert len(waited) == waits


def test_a_folder_is_a_mirror_too_also_offline(obtain: Obtain, site: Site, server: Server) -> None:
    site.add_target()
    assert obtain(RELEASE, str(server.root), offline=True).source == server.root.name
    assert server.asked == []


def test_by_gpg_alone(obtain: Obtain, site: Site, own_keys: Path, gpg: GpgSigner) -> None:
    site.add_target()
    sums = site.folder() / "sha256sums"
    (site.folder() / "sha256sums.sig").unlink()
    (site.folder() / "sha256sums.asc").write_bytes(gpg.sign(sums.read_bytes()))
    with pytest.raises(UnknownKeyError, match="GPG key"):
        obtain()
    (own_keys / "mine.asc").write_bytes(gpg.key_file())
    got = obtain()
    assert (got.trust.kind, got.trust.key) == ("gpg", gpg.current)
    assert obtain(offline=True).trust == got.trust


def test_the_newest_of_a_series_from_the_servers_list(obtain: Obtain, site: Site, server: Server) -> None:
    (server.root / ".versions.json").write_text(json.dumps({"versions_list": ["19.07.11", "19.07.12-rc1"]}))
    site.add_target("19.07.11")
    assert obtain("19.07").release == "19.07.11"
    server.close()
    assert obtain("19.07", offline=True).release == "19.07.11"


def test_a_servers_list_that_cannot_be_read_is_told(
    obtain: Obtain, site: Site, server: Server, told: Told
) -> None:
    (server.root / ".versions.json").write_text("<html>")
    site.add_target("19.07.10")
    assert obtain("19.07").release == "19.07.10"
    assert "not JSON" in told.warnings
    assert "the project's own list" in told.notes


def test_17_01_says_lede_and_is_out_of_care(obtain: Obtain, site: Site, told: Told) -> None:
    name, _ = site.add_target("17.01.7")
    assert name == "lede-imagebuilder-17.01.7-ath79-tiny.Linux-x86_64.tar.xz"
    assert obtain("17.01.7").archive == name
    assert told.warnings.count("no security fixes") == 1


def test_a_release_that_the_board_is_not_in(obtain: Obtain, server: Server) -> None:
    with pytest.raises(ReleaseError, match=r"24\.10\.4 is the newest release that has it"):
        obtain("24.10.8")
    assert server.asked == []


# every failure of trust has its own message and leaves nothing


def change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def wrong_signature(site: Site) -> None:
    (site.folder() / "sha256sums.sig").write_bytes(site.signer.sign(b"other checksums"))


def changed_sums(site: Site) -> None:
    sums = site.folder() / "sha256sums"
    sums.write_bytes(b"0" * 64 + sums.read_bytes()[64:])


def unknown_key(site: Site) -> None:
    Site(site.root, Signer(seed=7)).sign()


def stolen_number(site: Site) -> None:
    Site(site.root, Signer(seed=7, number=site.signer.bare_number)).sign()


def truncated_sums(site: Site) -> None:
    sums = site.folder() / "sha256sums"
    sums.write_bytes(sums.read_bytes()[:-20])


def empty_sums(site: Site) -> None:
    (site.folder() / "sha256sums").write_bytes(b"")


def swapped_archive(site: Site) -> None:
    (name,) = (path for path in site.folder().iterdir() if "imagebuilder" in path.name)
    name.write_bytes(archive_module.__name__.encode())


def longer_archive(site: Site) -> None:
    (name,) = (path for path in site.folder().iterdir() if "imagebuilder" in path.name)
    name.write_bytes(name.read_bytes() + b"!")


def no_signature(site: Site) -> None:
    (site.folder() / "sha256sums.sig").unlink()


def no_signature_but_a_page(site: Site) -> None:
    (site.folder() / "sha256sums.sig").write_text("<html>not found</html>")


def another_releases_sums(site: Site) -> None:
    site.add_target("24.10.3")
    for name in ("sha256sums", "sha256sums.sig"):
        (site.folder() / name).write_bytes((site.folder("24.10.3") / name).read_bytes())


def no_list_at_all(site: Site) -> None:
    (site.folder() / "sha256sums").write_text("<html>\n")
    (site.folder() / "sha256sums.sig").write_bytes(site.signer.sign(b"<html>\n"))


def usigns_mistake(site: Site) -> None:
    sums = site.folder() / "sha256sums"
    text = sums.read_bytes()
    length = 128 * 4 + 46
    padding = f"{'0' * 64} *{'x' * (length - len(text) - 67)}\n"
    sums.write_bytes(text + padding.encode())
    assert (64 + sums.stat().st_size) % 128 == 110
    (site.folder() / "sha256sums.sig").write_bytes(site.signer.sign(b"hashed wrongly"))


FAILURES: list[tuple[Callable[[Site], None], type[TrustError], str]] = [
    (wrong_signature, WrongSignatureError, "is not what the key"),
    (changed_sums, WrongSignatureError, "is not what the key"),
    (stolen_number, WrongSignatureError, "is not what the key"),
    (unknown_key, UnknownKeyError, "not among the keys trusted"),
    (truncated_sums, TruncatedSumsError, "cut short"),
    (empty_sums, TruncatedSumsError, "it is empty"),
    (swapped_archive, SwappedFileError, "not the file that is vouched for"),
    (longer_archive, SwappedFileError, "not the file that is vouched for"),
    (no_signature, NoSignatureError, "has no signature"),
    (no_signature_but_a_page, SignatureFormatError, "no usign file"),
    (another_releases_sums, SumsError, "lists no ImageBuilder"),
    (no_list_at_all, SumsError, "no list of checksums"),
    (usigns_mistake, UsignLengthError, "need not be a forgery"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=[each[0].__name__ for each in FAILURES])
def test_what_is_not_trusted_stops_and_leaves_nothing(
    obtain: Obtain, site: Site, cache: Cache, failure: tuple[Callable[[Site], None], type[TrustError], str]
) -> None:
    spoil, kind, said = failure
    site.add_target()
    spoil(site)
    with pytest.raises(kind, match=said) as raised:
        obtain()
    assert type(raised.value) is kind
    assert raised.value.hint
    assert left_in(cache.folder) == []
    assert not list((cache.folder / "trees").glob("*"))


def no_archive_at_all(site: Site) -> None:
    (name,) = (path for path in site.folder().iterdir() if "imagebuilder" in path.name)
    name.unlink()


def no_tree_in_the_archive(site: Site) -> None:
    (name,) = (path for path in site.folder().iterdir() if "imagebuilder" in path.name)
    name.write_bytes(b"no archive")
    site.sign()


REFUSED: list[tuple[Callable[[Site], None], type[UserError], bool]] = [
    (spoil, kind, used)
    for spoil, kind in (
        (swapped_archive, SwappedFileError),
        (no_archive_at_all, NotThereError),
        (no_tree_in_the_archive, archive_module.ArchiveError),
    )
    for used in (False, True)
]


@pytest.mark.parametrize("refusal", REFUSED, ids=[f"{each[0].__name__}-{each[2]}" for each in REFUSED])
def test_after_a_refused_archive_a_corrected_mirror_is_heard(
    obtain: Obtain,
    site: Site,
    cache: Cache,
    told: Told,
    refusal: tuple[Callable[[Site], None], type[UserError], bool],
) -> None:
    spoil, kind, used = refusal
    site.add_target(noise=b"first")
    if used:
        first = obtain()
        remove_tree(first.folder)
        cache.blob(first.sha256).unlink()
    before = left_in(cache.folder)
    spoil(site)
    with pytest.raises(kind):
        obtain()
    assert left_in(cache.folder) == before
    _, sha = site.add_target(noise=b"second")
    got = obtain()
    assert (got.sha256, got.source == CACHED) == (sha, False)
    assert ("has others" in told.notes) == used
    remove_tree(got.folder)
    assert obtain(offline=True).sha256 == sha


def test_what_was_refused_does_not_count_as_seen(site: Site, cache: Cache, own_keys: Path) -> None:
    def snapshot() -> str:
        board, mirrors = small_board(releases=">=17.01"), parse_mirrors([str(site.root)])
        return obtain_tree(board, "snapshot", mirrors, cache, user_keys=own_keys, log=Log()).sha256

    _, first = site.add_target("snapshot", noise=b"first")
    assert snapshot() == first
    name, _ = site.add_target("snapshot", noise=b"second")
    (site.folder("snapshot") / name).write_bytes(b"swapped")
    with pytest.raises(SwappedFileError):
        snapshot()
    site.add_target("snapshot", noise=b"first")
    assert snapshot() == first


def test_a_refused_archive_offline_and_with_no_mirror_to_ask(
    obtain: Obtain, site: Site, cache: Cache, server: Server
) -> None:
    _, sha = site.add_target()
    got = obtain()
    remove_tree(got.folder)
    cache.blob(sha).unlink()
    swapped_archive(site)
    with pytest.raises(SwappedFileError):
        obtain(RELEASE, str(server.root), offline=True)
    with pytest.raises(OfflineError, match="imagebuilder"):
        obtain(offline=True)


def test_devices_whose_list_is_not_the_signed_one_are_asked_for_anew(
    site: Site, cache: Cache, own_keys: Path
) -> None:
    def profiles(title: str) -> bytes:
        return json.dumps({"target": TARGET, "profiles": {"small": {"titles": [{"title": title}]}}}).encode()

    mirrors, keys = parse_mirrors([str(site.root)]), keys_in(own_keys)
    site.add_target(**{"profiles.json": profiles("Small")})
    (site.folder() / "profiles.json").write_bytes(profiles("Swapped"))
    with Downloads(cache, Log()) as downloads:
        with pytest.raises(SwappedFileError):
            target_devices(downloads, mirrors, TargetPlace(RELEASE, TARGET), keys)
        assert left_in(cache.folder) == []
        site.sign()
        listed = target_devices(downloads, mirrors, TargetPlace(RELEASE, TARGET), keys)
    assert listed.devices[0].titles == ("Swapped",)


NAMED = {wrong_signature, unknown_key, truncated_sums, swapped_archive}


def test_each_failure_has_its_own_message_and_leaves_neither_file_nor_tree(
    obtain: Obtain, site: Site, cache: Cache
) -> None:
    said = {}
    for spoil, kind, words in FAILURES:
        if spoil not in NAMED:
            continue
        _, sha = site.add_target()
        spoil(site)
        lain = {hashlib.sha256(path.read_bytes()).hexdigest() for path in site.folder().iterdir()}
        with pytest.raises(kind) as raised:
            obtain()
        said[words] = raised.value.message
        assert [each for each in (*lain, sha) if cache.blob(each).exists()] == []
        assert not cache.tree(sha).exists()
        assert list((cache.folder / "partial").iterdir()) == []
    assert len(said) == len(NAMED)
    for words, message in said.items():
        assert [other for other, told in said.items() if words in told] == [words], message


def gpg_wrong(gpg: GpgSigner, sums: bytes) -> bytes:
    return gpg.sign(b"other checksums")


def gpg_unknown(gpg: GpgSigner, sums: bytes) -> bytes:
    return gpg.sign(sums, gpg.old, "20200110T000000")


def gpg_cut(gpg: GpgSigner, sums: bytes) -> bytes:
    return gpg.sign(sums)[:-90]


GPG_FAILURES: list[tuple[Callable[[GpgSigner, bytes], bytes], type[TrustError], str]] = [
    (gpg_wrong, WrongSignatureError, r"is not what the key of mine\.asc signed"),
    (gpg_unknown, UnknownKeyError, "not among the keys trusted here"),
    (gpg_cut, SignatureFormatError, r"sha256sums\.asc"),
]


@pytest.mark.parametrize("failure", GPG_FAILURES, ids=[each[0].__name__ for each in GPG_FAILURES])
def test_by_gpg_what_is_not_trusted_leaves_nothing(
    obtain: Obtain,
    site: Site,
    cache: Cache,
    gpg: GpgSigner,
    failure: tuple[Callable[[GpgSigner, bytes], bytes], type[TrustError], str],
) -> None:
    sign, kind, said = failure
    site.add_target()
    (site.folder() / "sha256sums.sig").unlink()
    (cache.folder.parent / "own-keys/mine.asc").write_bytes(gpg.key_file())
    sums = (site.folder() / "sha256sums").read_bytes()
    (site.folder() / "sha256sums.asc").write_bytes(sign(gpg, sums))
    with pytest.raises(kind, match=said) as raised:
        obtain()
    assert type(raised.value) is kind
    assert left_in(cache.folder) == []


def test_a_snapshot_that_was_signed_before_the_newest_is_older_though_never_seen(
    site: Site, own_keys: Path, cache: Cache, gpg: GpgSigner
) -> None:
    """Where the signature says when it was made, which usign's does not."""
    (own_keys / "mine.asc").write_bytes(gpg.key_file())
    board, mirrors = small_board(releases=">=17.01"), parse_mirrors([str(site.root)])

    def snapshot(noise: bytes, at: str) -> Obtained:
        site.add_target("snapshot", noise=noise)
        sums = site.folder("snapshot") / "sha256sums"
        sums.with_name("sha256sums.sig").unlink()
        sums.with_name("sha256sums.asc").write_bytes(gpg.sign(sums.read_bytes(), at=at))
        return obtain_tree(board, "snapshot", mirrors, cache, user_keys=own_keys, log=Log())

    year = datetime.now(UTC).year + 1  # after the test's key was made
    newer = snapshot(b"newer", f"{year}0302T000000")
    before = left_in(cache.folder)
    with pytest.raises(OlderIndexError, match=f"was signed on {year}-03-01 00:00, another on {year}-03-02"):
        snapshot(b"older", f"{year}0301T000000")
    assert left_in(cache.folder) == before
    assert list((cache.folder / "trees").glob("[0-9a-f]*")) == [newer.folder]


def test_the_shipped_keys_alone_do_not_trust_the_tests_server(obtain: Obtain, site: Site) -> None:
    site.add_target()
    with pytest.raises(UnknownKeyError):
        obtain(user_keys=None)


def test_a_key_that_is_no_longer_trusted(obtain: Obtain, site: Site, own_keys: Path, told: Told) -> None:
    site.add_target()
    obtain()
    (own_keys / site.signer.number).unlink()
    with pytest.raises(UnknownKeyError):
        obtain(offline=True)
    with pytest.raises(UnknownKeyError):
        obtain()
    assert "not trusted any more" in told.notes


def test_a_folder_of_keys_with_something_else_in_it(obtain: Obtain, site: Site, own_keys: Path) -> None:
    site.add_target()
    (own_keys / "note.txt").write_text("mine")
    with pytest.raises(KeyFileError, match=r"note\.txt"):
        obtain()


def test_a_snapshot_is_asked_for_anew_and_does_not_go_back(obtain: Obtain, site: Site, cache: Cache) -> None:
    def snapshot(noise: bytes) -> Obtained:
        site.add_target("snapshot", noise=noise)
        return obtain_tree(
            small_board(releases=">=17.01"), "snapshot", mirrors, cache, user_keys=keys, log=Log()
        )

    mirrors, keys = parse_mirrors([str(site.root)]), cache.folder.parent / "own-keys"
    first, second = snapshot(b"1"), snapshot(b"2")
    assert first.sha256 != second.sha256
    before = left_in(cache.folder)
    with pytest.raises(OlderIndexError, match="older than one already seen"):
        snapshot(b"1")
    assert left_in(cache.folder) == before
    assert snapshot(b"2").folder == second.folder


# trust = "sha256:…" of the archive


def test_a_pin_stands_for_a_signature(obtain: Obtain, site: Site, server: Server, told: Told) -> None:
    _, sha = site.add_target()
    unknown_key(site)
    got = obtain(trust=f"sha256:{sha}")
    assert (got.trust.kind, got.trust.key, got.sha256) == ("pinned", sha, sha)
    assert server.paths("sha256sums") == []
    asked = len(server.asked)
    assert obtain(trust=f"sha256:{sha}", offline=True).folder == got.folder
    assert obtain(trust=f"sha256:{sha.upper()}").source == CACHED
    assert len(server.asked) == asked


def test_a_pin_is_for_that_very_archive(obtain: Obtain, site: Site, cache: Cache) -> None:
    _, old = site.add_target("24.10.3")
    obtain("24.10.3", trust=f"sha256:{old}")
    before = left_in(cache.folder)
    site.add_target()
    with pytest.raises(SwappedFileError) as raised:  # although the cache has the pinned file
        obtain(trust=f"sha256:{old}")
    assert "`trust`" in str(raised.value.hint)
    assert left_in(cache.folder) == before
    with pytest.raises(OfflineError):
        obtain(trust=f"sha256:{old}", offline=True)


def test_a_pin_of_an_archive_that_has_its_other_name(site: Site, cache: Cache) -> None:
    target, board = "mvebu/generic", small_board(target="mvebu/generic")
    _, sha = site.add_target("17.01.7", target)
    names = TargetPlace("17.01.7", target).archive_names()
    (site.folder("17.01.7", target) / names[0]).rename(site.folder("17.01.7", target) / names[1])
    for mirror, offline in ((str(site.root), False), ("http://127.0.0.1:1", True)):
        got = obtain_tree(
            board,
            "17.01.7",
            parse_mirrors([mirror]),
            cache,
            trust=f"sha256:{sha}",
            offline=offline,
            log=Log(),
        )
        assert got.archive == "lede-imagebuilder-17.01.7-mvebu.Linux-x86_64.tar.xz"


@pytest.mark.parametrize("bad", ["", "sha256:", "yes", f"sha512:{'a' * 64}", f"sha256:{'g' * 64}", "a" * 64])
def test_what_is_no_pin(bad: str) -> None:
    with pytest.raises(TrustError):
        parse_pin(bad)


def test_a_pin_for_a_release_that_is_not_there(obtain: Obtain) -> None:
    with pytest.raises(NotThereError, match="no such file"):
        obtain(trust=f"sha256:{'a' * 64}")


# mirrors, offline, faults


def test_the_next_mirror_is_asked_and_failures_are_told(
    obtain: Obtain, site: Site, server: Server, told: Told
) -> None:
    name, _ = site.add_target()
    server.always["first/" + TargetPlace(RELEASE, TARGET).folder + "/sha256sums"] = Fault(status=500)
    got = obtain(RELEASE, f"{server.url}/first", f"{server.url}/second", server.url)
    assert got.archive == name
    assert got.source == server.url
    assert "/first/" in told.warnings
    assert "HTTP 500" in told.warnings
    assert "/second/" in told.warnings


def test_no_mirror_has_it(obtain: Obtain, server: Server, cache: Cache) -> None:
    with pytest.raises(NotThereError, match=r"sha256sums"):
        obtain()
    server.always["sha256sums"] = Fault(status=500)
    with pytest.raises(DownloadError, match="tried 2 times"):
        obtain()
    assert left_in(cache.folder) == []


def test_offline_with_an_empty_cache_names_what_is_missing(obtain: Obtain, server: Server) -> None:
    with pytest.raises(OfflineError) as raised:
        obtain(offline=True)
    assert [name.rpartition("/")[2] for name in raised.value.missing] == [
        "sha256sums",
        "sha256sums.sig or sha256sums.asc",
        f"openwrt-imagebuilder-{RELEASE}-ath79-tiny.Linux-x86_64.tar.zst",
    ]
    assert server.asked == []


def test_cut_off_in_mid_archive_and_resumed(obtain: Obtain, site: Site, server: Server) -> None:
    name, sha = site.add_target(noise=os.urandom(300_000))
    server.faults[name] = [Fault(cut=100_000)]
    assert obtain().sha256 == sha
    assert "Range" in [asked for asked in server.asked if asked.path.endswith(name)][1].headers


def test_a_damaged_archive_in_the_cache_is_fetched_again(
    obtain: Obtain, site: Site, cache: Cache, server: Server
) -> None:
    name, sha = site.add_target()
    got = obtain()
    cache.blob(sha).write_bytes(b"damaged")
    assert obtain().folder == got.folder  # the tree is there: nobody needs the archive
    remove_tree(got.folder)
    assert (obtain().folder / "release").exists()
    assert len(server.paths(name)) == 2


def test_damaged_checksums_in_the_cache_are_fetched_again(
    obtain: Obtain, site: Site, cache: Cache, told: Told
) -> None:
    site.add_target()
    obtain()
    sums = hashlib.sha256((site.folder() / "sha256sums").read_bytes()).hexdigest()
    cache.blob(sums).write_bytes(b"damaged")
    assert obtain().source != CACHED
    assert "damaged" in told.warnings


def test_what_is_a_verified_archive_and_no_imagebuilder(obtain: Obtain, site: Site, cache: Cache) -> None:
    name, _ = site.add_target()
    (site.folder() / name).write_bytes(b"no archive")
    site.sign()
    with pytest.raises(archive_module.ArchiveError):
        obtain()
    assert not list((cache.folder / "trees").glob("*"))
    assert not list((cache.folder / "unpacking").glob("*"))


def unpack_for_ever(site_root: str, folder: str, keys: str) -> None:
    """What the child does that is killed: it stops after the first file."""
    extract = archive_module.extract_member

    def slow(*arguments: object) -> None:
        extract(*arguments)  # type: ignore[arg-type]
        (Path(folder) / "began").touch()
        time.sleep(60)

    archive_module.extract_member = slow
    obtain_tree(
        small_board(),
        RELEASE,
        parse_mirrors([site_root]),
        Cache(Path(folder)),
        user_keys=Path(keys),
        log=Log(),
    )


def test_killed_while_unpacking(obtain: Obtain, site: Site, cache: Cache, own_keys: Path) -> None:
    site.add_target()
    arguments = (str(site.root), str(cache.folder), str(own_keys))
    child = multiprocessing.get_context("spawn").Process(target=unpack_for_ever, args=arguments)
    child.start()
    until = time.monotonic() + 30
    while not (cache.folder / "began").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert list((cache.folder / "unpacking").rglob("Makefile"))
    assert not (cache.folder / "trees").exists()
    got = obtain()
    assert (got.folder / "release").read_text() == RELEASE
    assert not list((cache.folder / "unpacking").iterdir())


def test_two_processes_unpack_once(obtain: Obtain, site: Site, cache: Cache, own_keys: Path) -> None:
    """The second waits for the first, and finds its tree."""
    _, sha = site.add_target()
    waiting: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Progress) and "unpacking" in event.text:
            waiting.append(event.text)

    with cache.lock(f"tree {sha}", "unpacking", Log()):
        thread = Thread(target=lambda: obtain(log=Log([observe])))
        thread.start()
        until = time.monotonic() + 10
        while not waiting:
            assert time.monotonic() < until
            time.sleep(0.01)
        cache.tree(sha).mkdir(parents=True)
    thread.join()
    assert list(cache.tree(sha).iterdir()) == []


# lists


def test_devices_of_a_target_are_verified(site: Site, cache: Cache, own_keys: Path) -> None:
    profiles = {"target": TARGET, "profiles": {"small": {"titles": [{"title": "Small"}]}}}
    site.add_target(**{"profiles.json": json.dumps(profiles).encode()})
    mirrors, keys = parse_mirrors([str(site.root)]), keys_in(own_keys)
    with Downloads(cache, Log()) as downloads:
        listed = target_devices(downloads, mirrors, TargetPlace(RELEASE, TARGET), keys)
        assert [device.titles for device in listed.devices] == [("Small",)]
        site.add_target("19.07.10")
        with pytest.raises(SumsError, match=r"from 21\.02 on"):
            target_devices(downloads, mirrors, TargetPlace("19.07.10", TARGET), keys)


def test_devices_of_a_release_for_a_search(site: Site, cache: Cache, server: Server) -> None:
    overview = {"profiles": [{"id": "small", "target": TARGET, "titles": [{"title": "Small"}]}]}
    folder = server.root / f"releases/{RELEASE}"
    folder.mkdir(parents=True)
    mirrors = parse_mirrors([server.url])
    with Downloads(cache, Log(), patience=no_waiting()) as downloads:
        with pytest.raises(DownloadError):
            release_devices(downloads, mirrors, RELEASE)
        (folder / ".overview.json").write_text(json.dumps(overview))
        assert [each.id for each in release_devices(downloads, mirrors, RELEASE)] == ["small"]
    with Downloads(cache, Log(), offline=True) as offline:
        assert [each.id for each in release_devices(offline, mirrors, RELEASE)] == ["small"]
        with pytest.raises(OfflineError):
            release_devices(offline, mirrors, "23.05.5")
        assert known_releases(offline, mirrors).newest() == "25.12.5"


# feeds of a verified tree

FEED = "releases/24.10.4/packages/mips_24kc/base"
INDEXES = [f"Package: busybox\nVersion: {number}\n\n".encode() for number in range(3)]


@dataclass
class Feed:
    """A feed that the tests change, and the two functions that fetch from it."""

    site: Site
    downloads: Downloads
    keys: Keys

    @property
    def folder(self) -> Path:
        return self.site.root / FEED

    def publish(self, index: bytes, *, packed: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "Packages.gz").unlink(missing_ok=True)
        (self.folder / "Packages").write_bytes(index)
        if packed:
            (self.folder / "Packages.gz").write_bytes(gzip.compress(index))
        (self.folder / "Packages.sig").write_bytes(self.site.signer.sign(index))

    def index(self, *mirrors: str, downloads: Downloads | None = None) -> SignedIndex:
        asked = parse_mirrors(mirrors or [str(self.site.root)])
        return signed_index(downloads or self.downloads, asked, FEED, self.keys)


@pytest.fixture
def feed(site: Site, cache: Cache, told: Told, own_keys: Path) -> Iterator[Feed]:
    with Downloads(cache, told.log, patience=no_waiting(attempts=2)) as downloads:
        made = Feed(site, downloads, keys_in(own_keys))
        made.publish(INDEXES[0])
        yield made


@pytest.mark.parametrize("packed", [True, False])
def test_a_feeds_index_is_trusted_and_kept_for_offline(feed: Feed, server: Server, packed: bool) -> None:
    feed.publish(INDEXES[0], packed=packed)
    got = feed.index(f"{server.url}/none", server.url)
    assert (got.data, got.key, got.source) == (INDEXES[0], feed.site.signer.number, server.url)
    with Downloads(feed.downloads.cache, Log(), offline=True) as offline:
        assert feed.index(server.url, downloads=offline).data == INDEXES[0]
        with pytest.raises(OfflineError, match=r"luci/Packages\n.*luci/Packages\.sig"):
            signed_index(offline, parse_mirrors([server.url]), "releases/x/packages/luci", feed.keys)


def test_a_feed_does_not_go_back(feed: Feed, cache: Cache) -> None:
    for index in (INDEXES[0], INDEXES[1], INDEXES[1], INDEXES[2]):
        feed.publish(index)
        feed.index()
    before = left_in(cache.folder)
    feed.publish(INDEXES[1])
    with pytest.raises(OlderIndexError, match="mips_24kc/base/Packages is older than one already seen"):
        feed.index()
    assert left_in(cache.folder) == before


def test_a_feeds_index_that_is_not_trusted_leaves_nothing(feed: Feed, cache: Cache) -> None:
    (feed.folder / "Packages.gz").write_bytes(gzip.compress(INDEXES[1]))
    with pytest.raises(WrongSignatureError):
        feed.index()
    (feed.folder / "Packages.gz").write_bytes(gzip.compress(INDEXES[0])[:-9])
    with pytest.raises(IndexFormatError, match="damaged"):
        feed.index()
    feed.publish(INDEXES[0])
    (feed.folder / "Packages.sig").write_bytes(Signer(seed=3).sign(INDEXES[0]))
    with pytest.raises(UnknownKeyError):
        feed.index()
    (feed.folder / "Packages.sig").unlink()
    with pytest.raises(NoSignatureError, match="has no signature"):
        feed.index()
    assert left_in(cache.folder) == []


def test_a_feeds_index_that_is_cut_short_is_not_trusted(feed: Feed, cache: Cache) -> None:
    feed.publish(INDEXES[0], packed=False)
    (feed.folder / "Packages").write_bytes(INDEXES[0][:-5])
    with pytest.raises(WrongSignatureError, match="mips_24kc/base/Packages is not what the key"):
        feed.index()
    assert left_in(cache.folder) == []


def offered(filename: str, sha256: str, size: int) -> Package:
    return Package("p", "1", filename=filename, sha256=sha256, size=size)


def fetched(downloads: Downloads, mirrors: Sequence[Mirror], packages: Sequence[Package]) -> list[Path]:
    return downloads.get_all([wanted_file(mirrors, FEED, each) for each in packages], "packages")


def test_a_swapped_package_is_not_kept(feed: Feed, cache: Cache, server: Server) -> None:
    good, swapped = b"the package", b"another one"
    (feed.folder / "p_1.ipk").write_bytes(swapped)
    wanted = offered("p_1.ipk", hashlib.sha256(good).hexdigest(), len(good))
    with pytest.raises(WrongContentError, match=r"p_1\.ipk is not the file it should be"):
        fetched(feed.downloads, parse_mirrors([server.url]), [wanted])
    assert left_in(cache.folder) == []


def test_a_small_index_may_not_grow_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagebuilder.packages.opkg.obtain.MAX_INDEX_BYTES", 1000)
    with pytest.raises(IndexFormatError, match="larger than"):
        unpacked_index(gzip.compress(b"\0" * 10_000), "here")


@given(st.binary() | st.binary().map(gzip.compress))
def test_any_bytes_are_an_index_or_one_clear_error(data: bytes) -> None:
    with contextlib.suppress(IndexFormatError):
        unpacked_index(data, "here")


def test_packages_of_a_feed(feed: Feed, server: Server) -> None:
    files = []
    for number in range(5):
        data = f"package {number}".encode()
        (feed.folder / f"p_{number}+a~b.ipk").write_bytes(data)
        files.append(offered(f"p_{number}+a~b.ipk", hashlib.sha256(data).hexdigest(), len(data)))
    mirrors = parse_mirrors([server.url])
    paths = fetched(feed.downloads, mirrors, files)
    assert [path.read_text() for path in paths] == [f"package {number}" for number in range(5)]
    with pytest.raises(DownloadError, match="more than the 8"):
        (feed.folder / "p_0+a~b.ipk").write_bytes(b"x" * 100)
        fetched(feed.downloads, mirrors, [offered("p_0+a~b.ipk", "0" * 64, 8)])


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://downloads.openwrt.org/releases/24.10.4/packages/mips_24kc/base", FEED),
        ("http://mirror.example/openwrt/" + FEED + "/", FEED),
        ("https://x/snapshots/targets/x86/64/packages", "snapshots/targets/x86/64/packages"),
        ("https://example.org/my/feed", None),
        ("https://example.org/releases/of/mine", None),
    ],
)
def test_where_a_trees_feed_lies_in_a_mirror(url: str, path: str | None) -> None:
    assert layout_path(url) == path
