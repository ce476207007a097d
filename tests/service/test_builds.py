"""What a build server keeps: whatever becomes of it, nothing that was acknowledged is lost, and nothing is
built twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.config.model_server import ServerOptions
from imagebuilder.errors import HostError, UserError
from imagebuilder.log import Log
from imagebuilder.service.asked import BuildRequest, RefusedRequestError
from imagebuilder.service.builds import FAILURE_KEPT, BuildAnswer, Builds
from imagebuilder.service.records import Records
from imagebuilder.service.served import ServedBoards, asked_of_server, load_served
from tests.service.conftest import BOARD, Here, asked

BuildsOf = Callable[..., Builds]
CatalogueOf = Callable[..., ServedBoards]


def wanted(**more: Any) -> BuildRequest:
    return BuildRequest.model_validate(asked(**more))


def number_of(answer: BuildAnswer) -> str:
    return str(answer.document["request_hash"])


def finished(builds: Builds, answer: BuildAnswer) -> BuildAnswer:
    number, now = number_of(answer), answer
    while now.status == 202:
        time.sleep(0.02)
        found = builds.answer(number)
        assert found is not None
        now = found
    return now


def closed() -> Here:
    scheduler = Here()
    scheduler.gate.clear()
    return scheduler


def changed(place: Path, **values: Any) -> None:
    """A record with other values."""
    place.write_text(json.dumps({**json.loads(place.read_text()), **values}))


def test_the_next_server_builds_what_was_acknowledged(builds_of: BuildsOf, tmp_path: Path) -> None:
    first = builds_of(closed())
    sets = [["tcpdump-mini"], ["dropbear"], ["python3"]]
    answers = [first.take(wanted(packages=each)) for each in sets]
    assert {each.status for each in answers} == {202}
    first.stop()
    assert not list((tmp_path / "state/outcomes").iterdir())
    scheduler = Here()
    second = builds_of(scheduler)
    assert [finished(second, each).status for each in answers] == [200, 200, 200]
    assert scheduler.worked == [number_of(each) for each in answers]  # in the order in which they came


def test_a_result_that_was_handed_over_is_not_built_again(builds_of: BuildsOf, tmp_path: Path) -> None:
    """The server was killed after the result had appeared and before it could say so."""
    first = builds_of(Here())
    before = finished(first, first.take(wanted()))
    first.stop()
    (outcome,) = (tmp_path / "state/outcomes").iterdir()
    outcome.unlink()
    scheduler = Here()
    after = builds_of(scheduler).answer(number_of(before))
    assert after is not None
    assert (after.status, after.document) == (200, before.document)
    assert scheduler.worked == []


@pytest.mark.parametrize("outcome_is_there", [True, False])
def test_a_result_that_is_damaged_is_built_again(
    builds_of: BuildsOf, tmp_path: Path, outcome_is_there: bool
) -> None:
    first = builds_of(Here())
    answer = finished(first, first.take(wanted()))
    first.stop()
    (image,) = (tmp_path / "state/store").glob("*/*/*-sysupgrade.bin")
    data = bytearray(image.read_bytes())
    data[1000] ^= 1
    image.write_bytes(data)
    if not outcome_is_there:
        (tmp_path / "state/outcomes" / f"{number_of(answer)}.json").unlink()
    scheduler = Here()
    second = builds_of(scheduler)
    assert finished(second, second.take(wanted())).status == 200
    assert len(scheduler.worked) == 1
    assert image.read_bytes() != bytes(data)


@pytest.mark.parametrize(
    ("damaged", "fetched"),
    [
        ("*-sysupgrade.bin", "*-sysupgrade.bin"),
        ("manifest", "manifest"),
        ("manifest", "sha256sums"),
        ("sha256sums", "manifest"),
    ],
)
@pytest.mark.parametrize("how", ["changed", "gone", "a link"])
def test_a_file_that_is_damaged_is_not_given_out_and_built_again(
    builds_of: BuildsOf, tmp_path: Path, damaged: str, fetched: str, how: str
) -> None:
    scheduler = Here()
    builds = builds_of(scheduler)
    number = number_of(finished(builds, builds.take(wanted())))
    (place,) = (tmp_path / "state/store").glob(f"*/*/{damaged}")
    (asked_for,) = place.parent.glob(fetched)
    data, status = place.read_bytes(), place.stat()
    assert builds.file(number, asked_for.name) == asked_for
    if how == "changed":
        place.write_bytes(data[:-1] + bytes([data[-2] ^ 1]))
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        place.unlink()
    if how == "a link":
        (tmp_path / "elsewhere").write_bytes(data)
        place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedRequestError, match="is damaged: it is built anew") as caught:
        builds.file(number, asked_for.name)
    assert caught.value.status == 404
    assert finished(builds, builds.take(wanted())).status == 200
    assert scheduler.worked == [number, number]
    assert builds.file(number, asked_for.name) == asked_for
    assert place.read_bytes() == data


def test_a_version_that_there_is_and_does_not_go_in(builds_of: BuildsOf, catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of()
    (one,) = catalogue.served
    versions = {**one.packages.versions, "tcpdump-mini": frozenset({"4.99", "5"})}
    one = replace(one, packages=replace(one.packages, versions=versions))
    builds = builds_of(Here(), replace(catalogue, served=(one,)))
    answer = finished(builds, builds.take(wanted(packages_versions={"tcpdump-mini": "5"})))
    assert answer.status == 500
    assert answer.document["detail"] == (
        "Error: Impossible package selection: tcpdump-mini version not as requested: 5 vs. 4.99"
    )


def test_what_was_half_written_is_removed(builds_of: BuildsOf, tmp_path: Path) -> None:
    state = tmp_path / "state"
    builds_of(Here()).stop()
    left = [
        state / f"requests/.{'1' * 64}.json.new-abcdefgh",
        state / f"outcomes/{'2' * 64}.json",
        state / f"recipes/{'3' * 64}/{'3' * 64}.toml",
        state / f"store/{'4' * 64}/{BOARD}/image.bin",
        state / f"store/{'5' * 64}/.work-abcdefgh/bin/x",
    ]
    for place in left:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
    builds_of(Here())
    assert [place for place in left if place.exists()] == []
    assert sorted(place.name for place in (state / "store").iterdir()) == [".openwrt-imagebuilder"]


def test_a_damaged_record_is_told(builds_of: BuildsOf, tmp_path: Path) -> None:
    builds_of(Here()).stop()
    record = tmp_path / f"state/requests/{'1' * 64}.json"
    record.write_text('{"number"')
    with pytest.raises(UserError, match=f"{record} is no record of this build server: Invalid JSON"):
        builds_of(Here())


def test_a_request_is_on_the_disk_before_it_is_acknowledged(
    builds_of: BuildsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = builds_of(closed())
    synced: list[tuple[str, bool]] = []
    real, folder = os.fsync, tmp_path / "state/requests"

    def fsync(handle: int) -> None:
        named = any(folder.glob("*.json"))
        synced.append((str(Path(f"/proc/self/fd/{handle}").readlink()), named))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    number = number_of(builds.take(wanted()))
    (content, before), (names, after) = synced
    assert (Path(content).parent, before) == (folder, False)  # all of it, before it has its name
    assert (names, after) == (str(folder), True)
    record = folder / f"{number}.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_written_down_is_not_acknowledged(
    builds_of: BuildsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Here()
    builds = builds_of(scheduler)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise HostError("no space left")

        patch.setattr(Records, "acknowledge", full)
        with pytest.raises(RefusedRequestError, match="no room") as refused:
            builds.take(wanted())
    assert refused.value.status == 503
    assert builds.waiting() == 0
    assert finished(builds, builds.take(wanted())).status == 200  # and nothing of it is in the way


def test_a_failure_is_told_for_a_while(builds_of: BuildsOf, small_tree: Path, tmp_path: Path) -> None:
    (small_tree / "behaviour-fails").touch()
    first = builds_of(Here())
    answer = finished(first, first.take(wanted()))
    assert first.take(wanted()).status == 500
    first.stop()
    outcome = tmp_path / f"state/outcomes/{number_of(answer)}.json"
    assert builds_of(Here()).take(wanted()).status == 500
    changed(outcome, at=time.time() - FAILURE_KEPT - 1)
    (small_tree / "behaviour-fails").unlink()
    scheduler = Here()
    third = builds_of(scheduler, catalogue=first.catalogue)
    assert finished(third, third.take(wanted())).status == 200
    assert len(scheduler.worked) == 1


def test_an_old_result_is_built_anew(builds_of: BuildsOf, tmp_path: Path) -> None:
    first = builds_of(Here())
    answer = finished(first, first.take(wanted()))
    first.stop()
    changed(tmp_path / f"state/outcomes/{number_of(answer)}.json", at=time.time() - 8 * 86_400)
    scheduler = Here()
    second = builds_of(scheduler)
    kept = second.answer(number_of(answer))
    assert kept is not None
    assert kept.status == 200  # who knows its number still gets it
    assert finished(second, second.take(wanted())).status == 200
    assert len(scheduler.worked) == 1


def test_the_oldest_results_go(builds_of: BuildsOf, tmp_path: Path) -> None:
    builds = builds_of(Here(), storage=1)
    answers = [finished(builds, builds.take(wanted(packages=each))) for each in ([], ["dropbear"])]
    until = time.monotonic() + 10
    while builds.answer(number_of(answers[0])) is not None:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert builds.file(number_of(answers[1]), "manifest") is not None
    store = tmp_path / "state/store"
    while (names := {place.name for place in store.iterdir()}) != {
        ".openwrt-imagebuilder",
        number_of(answers[1]),
    }:
        assert time.monotonic() < until, names
        time.sleep(0.02)
    assert finished(builds, builds.take(wanted())).status == 200


def test_the_number_of_a_request_is_that_of_what_it_asks_for(
    catalogue_of: CatalogueOf, add_config: Callable[[str, str], str]
) -> None:
    catalogue = catalogue_of()
    served, _ = catalogue.taken(wanted())
    one = wanted(packages=["dropbear", "tcpdump-mini"], client="owut/1").number(served.basis)
    assert one == wanted(packages=["+tcpdump-mini", "dropbear", "dropbear"]).number(served.basis)
    others = [
        wanted(packages=["dropbear"]),
        wanted(packages=["dropbear", "tcpdump-mini"], diff_packages=True),
        wanted(packages=["dropbear", "-tcpdump-mini"]),
        wanted(packages_versions={"dropbear": "1", "tcpdump-mini": "1"}),
        wanted(packages=["dropbear", "tcpdump-mini"], defaults="x"),
        wanted(packages=["dropbear", "tcpdump-mini"], rootfs_size_mb=1),
        wanted(packages=["dropbear", "tcpdump-mini"], filesystem="squashfs"),
    ]
    numbers = {one, *(each.number(served.basis) for each in others)}
    assert len(numbers) == 8
    assert catalogue_of().served[0].basis == served.basis  # of the next server too
    add_config(
        "router", 'extends = "base"\nboards = ["tplink-tl-wr740n-v4"]\n[packages]\nadd = ["dropbear"]\n'
    )
    assert catalogue_of().served[0].basis != served.basis


def test_a_request_that_nobody_serves_any_more_fails(
    builds_of: BuildsOf, catalogue_of: CatalogueOf, tmp_path: Path
) -> None:
    first = builds_of(closed())
    answer = first.take(wanted())
    first.stop()
    (record,) = (tmp_path / "state/requests").iterdir()
    changed(record, asked={**json.loads(record.read_text())["asked"], "version": "1.2.3"})
    second = builds_of(Here())
    failed = finished(second, answer)
    assert failed.status == 500
    assert failed.document["detail"].startswith("Error: Unsupported version: 1.2.3")


def test_configs_with_secrets_are_not_served(
    catalogue_of: CatalogueOf, add_config: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIFI_KEY", "not for everybody")
    add_config(
        "mine",
        'extends = "router"\n[[overlay]]\nname = "wifi-client"\n'
        'variables = { ssid = "x", key = { secret = "WIFI_KEY" } }\n',
    )
    with pytest.raises(UserError, match=r"config 'mine' holds secrets \(wifi-client.key\)") as refused:
        catalogue_of("mine")
    assert "not for everybody" not in str(refused.value)


def test_a_board_that_no_tree_builds_for_is_told(project: Path, small_tree: Path, tmp_path: Path) -> None:
    options = ServerOptions(configs=("router",))
    asked_for = asked_of_server(
        project,
        options,
        [],
        imagebuilder=[str(small_tree)],
        cache=tmp_path / "cache",
        output=tmp_path / "out",
    )
    assert [each.board for each in asked_for] == ["tplink-tl-wr740n-v4", "linksys-wrt1200ac"]
    with pytest.raises(UserError, match="board 'linksys-wrt1200ac' is not built by OpenWrt 23.05.5"):
        load_served(asked_for, options, Log())


def test_somebody_has_to_say_what_is_served(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nobody says what the build server builds"):
        asked_of_server(project, ServerOptions(), [], output=tmp_path)


def test_the_script_of_a_client_is_kept_for_nobody_else(builds_of: BuildsOf, tmp_path: Path) -> None:
    """It is in the images, and often sets a password: the cache keeps them as it keeps secrets."""
    builds = builds_of(Here(), defaults=True)
    kept: dict[str, set[Path]] = {}
    for defaults in ("", "echo a password\n"):
        before = set((tmp_path / "cache/builds").glob("*"))
        assert finished(builds, builds.take(wanted(defaults=defaults))).status == 200
        kept[defaults] = set((tmp_path / "cache/builds").glob("*")) - before
    ((public,), (private,)) = kept.values()
    assert public.stat().st_mode & 0o777 == 0o755
    assert private.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in private.iterdir()} == {0o600}
