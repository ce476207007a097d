"""The API, asked as OpenWrt's clients ask it. Their requests have exactly the keys that their sources write:
owut 5d6760b (files/owut, blob()), the firmware selector 2d5eb23 (www/js/asu.js), LuCI's attended sysupgrade
(overview.js, handleCheck())."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.service.asked import MOST_BODY
from tests.service.conftest import PROFILE, TARGET, VERSION, Here, asked, ended

ClientOf = Callable[..., httpx.Client]
SYSUPGRADE = "openwrt-23.05.5-ath79-tiny-tplink_tl-wr740n-v4-squashfs-sysupgrade.bin"


def of_owut(**more: Any) -> dict[str, Any]:
    return {
        "client": "owut/2026.04.09-r1",
        "target": TARGET,
        "profile": PROFILE,
        "version": VERSION,
        "version_code": "r24106-10cc5fcd00",
        "filesystem": "squashfs",
        "diff_packages": True,
        "packages_versions": {
            "base-files": "1",
            "busybox": "1.36",
            "rssileds": "4",
            "tcpdump-mini": "4.99",
        },
        **more,
    }


def of_the_selector(**more: Any) -> dict[str, Any]:
    return {
        "profile": PROFILE,
        "target": TARGET,
        "packages": ["base-files", "busybox", "rssileds"],
        "defaults": "",
        "version_code": "r24106-10cc5fcd00",
        "version": VERSION,
        "diff_packages": True,
        "client": "ofs/6.2.0",
        "repositories": {},
        "repository_keys": [],
        **more,
    }


def of_luci(**more: Any) -> dict[str, Any]:
    return {
        "client": "luci/git-26.073.39928",
        "packages": ["base-files", "busybox", "kernel", "libc", "rssileds"],
        "profile": "tplink,tl-wr740n-v4",
        "target": TARGET,
        "version": VERSION,
        "diff_packages": True,
        "filesystem": "squashfs",
        **more,
    }


@pytest.fixture(autouse=True)
def revision(small_tree: Path) -> None:
    with (small_tree / "include/version.mk").open("a") as stream:
        stream.write("REVISION:=r24106-10cc5fcd00\n")


def packages_of(found: dict[str, Any]) -> set[str]:
    return set(found["build_cmd_packages"])


def test_owut_polls_by_head_and_gets_what_it_checks(client_of: ClientOf) -> None:
    scheduler = Here()
    scheduler.gate.clear()
    client = client_of(scheduler)
    overview = client.get("/json/v1/overview.json").json()
    branch = overview["branches"]["23.05"]
    assert branch["versions"] == [VERSION]
    assert branch["targets"] == {TARGET: "mips_24kc"}
    folder = branch["path"].replace("{version}", VERSION)
    platform = httpx.get(f"{overview['upstream_url']}/{folder}/targets/{TARGET}/profiles.json").json()
    assert platform["version_code"] == "r24106-10cc5fcd00"
    profile = platform["profiles"][PROFILE]
    kinds = {(image["type"], image["filesystem"]) for image in profile["images"]}
    assert ("sysupgrade", "squashfs") in kinds
    arch = client.get(f"/json/v1/{folder}/packages/{platform['arch_packages']}-index.json")
    of_target = client.get(f"/json/v1/{folder}/targets/{TARGET}/index.json")
    there = {**arch.json(), **of_target.json()["packages"]}
    assert there["tcpdump-mini"] == "4.99"

    first = client.post("/api/v1/build", json=of_owut())
    assert first.status_code == 202
    number = first.json()["request_hash"]
    head = client.head(f"/api/v1/build/{number}")
    assert head.status_code == 202
    assert head.content == b""
    assert head.headers["x-queue-position"] == "0"
    assert head.headers["x-imagebuilder-status"] in ("queued", "init")
    scheduler.gate.set()
    found = ended(client, first)
    assert (found["http"], found["status"], found["detail"]) == (200, 200, "done")
    assert found["request"]["version_code"] == found["version_code"] == "r24106-10cc5fcd00"
    assert found["request"]["rootfs_size_mb"] is None
    image = next(
        each for each in found["images"] if (each["type"], each["filesystem"]) == ("sysupgrade", "squashfs")
    )
    assert image["name"] == SYSUPGRADE
    data = client.get(f"/store/{found['bin_dir']}/{image['name']}")
    assert hashlib.sha256(data.content).hexdigest() == image["sha256"]
    assert found["manifest"]["tcpdump-mini"] == "4.99"
    assert client.head(f"/api/v1/build/{number}").headers["x-imagebuilder-status"] == "done"


def test_the_selector_gets_what_it_shows(client_of: ClientOf) -> None:
    client = client_of()
    listed = client.get(f"/releases/{VERSION}/.overview.json").json()
    assert [(each["id"], each["target"]) for each in listed["profiles"]] == [(PROFILE, TARGET)]
    assert listed["profiles"][0]["titles"] == [{"title": "TP-Link TL-WR740N/ND v4"}]
    assert client.get("/.versions.json").json()["stable_version"] == VERSION
    found = ended(client, client.post("/api/v1/build", json=of_the_selector()))
    assert found["http"] == 200
    assert found["bin_dir"] == found["request_hash"]
    assert {"titles", "target", "version_number", "version_code", "build_at", "images"} <= found.keys()
    assert {"build_cmd", "manifest"} <= found.keys()  # by which it tells that it was built for somebody
    assert "stderr" not in found  # else it shows a log
    assert packages_of(found) == {"base-files", "busybox", "rssileds"}


def test_luci_names_the_device_as_it_calls_itself(client_of: ClientOf) -> None:
    client = client_of()
    assert client.get("/api/v1/overview", follow_redirects=True).json()["latest"] == [VERSION]
    assert client.get(f"/api/v1/revision/{VERSION}/{TARGET}").json() == {"revision": "r24106-10cc5fcd00"}
    found = ended(client, client.post("/api/v1/build", json=of_luci()))
    assert (found["http"], found["id"]) == (200, PROFILE)
    assert found["images"][0]["filesystem"] == "squashfs"


def test_luci_gets_its_own_words_for_each_step(client_of: ClientOf, small_tree: Path) -> None:
    """handle202() looks each of them up in a table, and stops at one that is not there."""
    known = {"init", "container_setup", "validate_revision", "validate_manifest", "building_image"}
    (small_tree / "behaviour").write_text("sleep 0.5\n")
    client = client_of()
    answer = client.post("/api/v1/build", json=of_luci())
    seen = set()
    while answer.status_code == 202:
        document = answer.json()
        seen.add(document.get("imagebuilder_status", document["detail"]))
        assert ("queue_position" in document) == (document["detail"] == "queued")
        answer = client.get(f"/api/v1/build/{document['request_hash']}")
    assert seen <= known | {"queued"}
    assert "building_image" in seen


def test_all_that_is_not_named_stays_out(client_of: ClientOf) -> None:
    client = client_of()
    found = ended(
        client, client.post("/api/v1/build", json=asked(packages=["rssileds"], diff_packages=False))
    )
    assert packages_of(found) == {"rssileds"}
    request = asked(packages=["base-files", "busybox", "tcpdump-mini"], diff_packages=True)
    found = ended(client, client.post("/api/v1/build", json=request))
    assert packages_of(found) == {"base-files", "busybox", "tcpdump-mini", "-rssileds"}


def test_equal_requests_are_one(client_of: ClientOf) -> None:
    scheduler = Here()
    client = client_of(scheduler)
    one = client.post("/api/v1/build", json=asked(packages=["tcpdump-mini", "dropbear"], client="a/1"))
    assert ended(client, one)["http"] == 200
    other = client.post("/api/v1/build", json=asked(packages=["+dropbear", "tcpdump-mini"], defaults=""))
    assert other.status_code == 200
    assert other.json()["request_hash"] == one.json()["request_hash"]
    assert len(scheduler.worked) == 1


def test_fifty_at_once(client_of: ClientOf) -> None:
    scheduler = Here()
    client = client_of(scheduler)
    sets = [["tcpdump-mini"], ["dropbear"], ["tcpdump-mini", "dropbear"], []]
    different = [
        asked(packages=each, diff_packages=diff, version_code=code)
        for each in sets
        for diff in (False,)
        for code in ("", "r24106-10cc5fcd00")
    ]
    bad = [asked(packages=["no-such"]), asked(version="1.2.3"), {"nothing": 1}]
    requests = [*([different[0]] * 10), *(different * 5)[:37], *bad]
    assert len(requests) == 50
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda one: client.post("/api/v1/build", json=one), requests))
    assert {each.status_code for each in answers[:-3]} <= {200, 202}
    assert [each.status_code for each in answers[-3:]] == [422, 400, 422]
    assert all(isinstance(each.json()["detail"], str) for each in answers[-3:])
    assert len({each.json()["request_hash"] for each in answers[:10]}) == 1
    found = [ended(client, each) for each in answers[:-3]]
    assert {each["http"] for each in found} == {200}
    assert len(scheduler.worked) == len(set(scheduler.worked)) == 8


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"packages": ["no-such-package"]}, 422, "Unknown package: no-such-package"),
        ({"version": "1.2.3"}, 400, "Unsupported version: 1.2.3; this server builds 23.05.5"),
        ({"target": "x86/64"}, 400, "Unsupported target: x86/64; this server builds ath79/tiny"),
        ({"profile": "other"}, 400, f"Unsupported profile: other; this server builds {PROFILE}"),
        ({"profile": "../../etc"}, 422, "Invalid request: profile: "),
        ({"distro": "other"}, 400, "Unsupported distro: other"),
        ({"version_code": "r1-abc"}, 400, "Received incorrect version r24106-10cc5fcd00 (requested r1-abc)"),
        ({"defaults": "echo hello\n"}, 400, "Handling `defaults` not enabled on server"),
        ({"rootfs_size_mb": 2000}, 400, "`rootfs_size_mb` is 2000, more than 1024, the most here"),
        ({"rootfs_size_mb": 0}, 422, "Invalid request: rootfs_size_mb: Input should be greater than"),
        ({"repositories": {"mine": "https://example.org/p"}}, 400, "Repository not allowed: 'https:"),
        ({"repository_keys": ["RWQ"]}, 400, "Repository keys not allowed"),
        ({"packages": ["dnsmasq", "-dnsmasq"]}, 400, "Asked for and to stay out: dnsmasq"),
        ({"packages": ["-base-files"]}, 400, "Package cannot stay out: base-files: base-files holds"),
        ({"packages": ["busybox"], "diff_packages": True}, 400, "Package cannot stay out: base-files: "),
        ({"packages": ["a b"]}, 422, "Invalid request: packages.0: "),
        ({"packages": "vim"}, 422, "Invalid request: packages: Input should be a valid"),
        ({"packages": ["a"] * 5000}, 422, "Invalid request: packages: Tuple should have at most"),
        ({"packages_versions": {"vim": "1\n"}}, 422, "Invalid request: packages_versions.vim: "),
        ({"packages": ["python3"]}, 400, "Package not allowed on this server: python3"),
    ],
)
def test_what_is_not_taken(client_of: ClientOf, more: dict[str, Any], status: int, said: str) -> None:
    scheduler = Here()
    answer = client_of(scheduler, deny=["python3*"]).post("/api/v1/build", json=asked(**more))
    document = answer.json()
    assert (answer.status_code, document["status"]) == (status, status)
    assert document["detail"].startswith(said)
    assert scheduler.worked == []


def test_a_build_that_fails_says_why(client_of: ClientOf, small_tree: Path, tmp_path: Path) -> None:
    (small_tree / "behaviour-fails").touch()
    scheduler = Here()
    client = client_of(scheduler)
    answer = client.post("/api/v1/build", json=of_the_selector())
    found = ended(client, answer)
    assert (found["http"], found["status"], found["imagebuilder_status"]) == (500, 500, "failed")
    assert found["detail"].startswith("Error: make exited with")
    assert "Installing packages" in found["stdout"]
    assert str(tmp_path) not in found["detail"] + found["stderr"]
    again = client.post("/api/v1/build", json=of_the_selector())
    assert again.status_code == 500
    assert len(scheduler.worked) == 1


def test_other_versions_than_the_client_wants(client_of: ClientOf) -> None:
    """What is there and does not go in fails by the plan: test_builds.py."""
    scheduler = Here()
    client = client_of(scheduler)
    versions = {**of_owut()["packages_versions"], "tcpdump-mini": "5"}
    answer = client.post("/api/v1/build", json=of_owut(packages_versions=versions))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Unknown version: tcpdump-mini 5; there is 4.99"
    assert scheduler.worked == []


def test_a_script_for_the_first_start(client_of: ClientOf, small_tree: Path, tmp_path: Path) -> None:
    script = "uci set system.@system[0].hostname='mine {{ no template }}'\n"
    (small_tree / "behaviour").write_text("cat $FILES/etc/uci-defaults/99-asu-defaults\n")
    client = client_of(defaults=True)
    found = ended(client, client.post("/api/v1/build", json=of_the_selector(defaults=script)))
    assert found["http"] == 200, found
    assert found["request"]["defaults"] == script
    (log,) = (tmp_path / "state/store").glob("*/*/build.log")
    assert script in log.read_text()
    broken = ended(client, client.post("/api/v1/build", json=of_the_selector(defaults="if true\n")))
    assert broken["http"] == 500
    assert "no shell script" in broken["detail"]
    assert "99-asu-defaults" in broken["detail"]
    large = client.post("/api/v1/build", json=of_the_selector(defaults="#" * 20481))
    assert large.status_code == 400


def test_a_partition_where_there_is_none(client_of: ClientOf, small_tree: Path) -> None:
    scheduler = Here()
    client = client_of(scheduler)
    answer = client.post("/api/v1/build", json=asked(rootfs_size_mb=64))
    assert answer.status_code == 400
    assert "`rootfs_size_mb` is 64: the images of" in answer.json()["detail"]
    assert "for no disk and no card" in answer.json()["detail"]
    with (small_tree / ".config").open("a") as stream:
        stream.write("CONFIG_TARGET_ROOTFS_PARTSIZE=104\n")
    answer = client.post("/api/v1/build", json=asked(rootfs_size_mb=64))
    assert "64 MiB are more than the 4.0 MiB" in answer.json()["detail"]
    assert client.post("/api/v1/build", json=asked(rootfs_size_mb=1)).status_code == 202


def test_a_file_system_that_no_image_has(client_of: ClientOf, small_tree: Path) -> None:
    client = client_of()
    found = ended(client, client.post("/api/v1/build", json=asked(filesystem="ext4")))
    assert (found["http"], found["detail"]) == (500, "Error: no image has the file system ext4")
    assert client.get(f"/store/{found['request_hash']}/{SYSUPGRADE}").status_code == 404


def test_a_tree_that_says_which_file_systems_it_makes(client_of: ClientOf, small_tree: Path) -> None:
    with (small_tree / ".config").open("a") as stream:
        stream.write("CONFIG_TARGET_ROOTFS_SQUASHFS=y\n")
    answer = client_of().post("/api/v1/build", json=asked(filesystem="ext4"))
    assert answer.json()["detail"] == "Unsupported filesystem: ext4; this server builds squashfs"


def test_a_queue_that_is_full(client_of: ClientOf) -> None:
    scheduler = Here()
    scheduler.gate.clear()
    client = client_of(scheduler, queue=2)
    requests = [asked(packages=each) for each in ([], ["dropbear"], ["tcpdump-mini"], ["python3"])]
    first = client.post("/api/v1/build", json=requests[0])
    while client.get(f"/api/v1/build/{first.json()['request_hash']}").json()["detail"] == "queued":
        pass
    positions = [client.post("/api/v1/build", json=each).json()["queue_position"] for each in requests[1:3]]
    assert positions == [0, 1]
    assert client.get("/api/v1/stats").json() == {"queue_length": 2}
    full = client.post("/api/v1/build", json=requests[3])
    assert (full.status_code, full.json()["title"]) == (529, "Server overloaded")
    assert full.headers["retry-after"] == "60"
    assert client.post("/api/v1/build", json=requests[2]).status_code == 202  # an equal one waits already
    scheduler.gate.set()


def test_a_body_that_is_too_large(client_of: ClientOf) -> None:
    answer = client_of().post("/api/v1/build", content=b" " * (MOST_BODY + 1))
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/build/{'0' * 64}",
        "/api/v1/build/..%2f..%2fetc%2fpasswd",
        f"/store/{'0' * 64}/x.bin",
        "/store/../../etc/passwd",
        "/store/%2e%2e/passwd",
        "/json/v1/releases/1.2.3/targets/a/b/index.json",
        "/releases/1.2.3/.overview.json",
        "/no/such/page",
    ],
)
def test_what_is_not_there(client_of: ClientOf, path: str) -> None:
    answer = client_of().get(path)
    assert answer.status_code == 404
    assert isinstance(answer.json()["detail"], str)


def test_only_what_is_meant_to_be_fetched_is(client_of: ClientOf) -> None:
    client = client_of()
    found = ended(client, client.post("/api/v1/build", json=asked()))
    place = f"/store/{found['bin_dir']}"
    assert client.get(f"{place}/sha256sums").status_code == 200
    assert client.get(f"{place}/manifest").status_code == 200
    assert client.get(f"{place}/{SYSUPGRADE}").headers["x-content-type-options"] == "nosniff"
    assert [client.get(f"{place}/{name}").status_code for name in ("build.log", "result.json", "..")] == [
        404,
        404,
        404,
    ]


def test_pages_of_other_origins_may_ask(client_of: ClientOf) -> None:
    asking = {
        "Origin": "https://selector.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    client = client_of()
    allowed = client.options("/api/v1/build", headers=asking)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "*"
    assert "content-type" in allowed.headers["access-control-allow-headers"].lower()
    answer = client.get("/api/v1/stats", headers={"Origin": "https://selector.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    refused = client.post("/api/v1/build", json={}, headers={"Origin": "https://selector.example"})
    assert refused.headers["access-control-allow-origin"] == "*"  # else the page cannot show why


def test_pages_of_named_origins_alone(client_of: ClientOf) -> None:
    client = client_of(origins=["https://mine.example"])
    other = client.get("/api/v1/stats", headers={"Origin": "https://selector.example"})
    assert "access-control-allow-origin" not in other.headers


def test_an_address_that_ends_in_a_slash(client_of: ClientOf) -> None:
    client = client_of()
    address = f"{client.base_url}".rstrip("/")
    assert client.post(f"{address}//api/v1/build", json={}).status_code == 422
    assert client.get(f"{address}//json//v1/latest.json").json() == {"latest": [VERSION]}


def test_asu_lists(client_of: ClientOf) -> None:
    client = client_of()
    profile = client.get(f"/json/v1/releases/{VERSION}/targets/{TARGET}/{PROFILE}.json").json()
    assert (profile["id"], profile["target"], profile["arch_packages"]) == (PROFILE, TARGET, "mips_24kc")
    assert profile["device_packages"] == ["-dnsmasq", "rssileds"]
    assert profile["supported_devices"] == ["tplink,tl-wr740n-v4", "tl-wr741nd-v4"]
    assert client.get(f"/json/v1/releases/{VERSION}/targets/{TARGET}/other.json").json() == {}
    (branch,) = client.get("/json/v1/branches.json").json()
    assert (branch["name"], branch["path"]) == ("23.05", "releases/{version}")
    assert {"source": "firewall", "target": "firewall4", "revision": 18611} in branch["package_changes"]
    assert "opkg" not in {each["source"] for each in branch["package_changes"]}  # renamed later
    assert client.get(f"/releases/{VERSION}/.targets.json").json() == {TARGET: "mips_24kc"}
    assert "TP-Link TL-WR740N/ND v4" in client.get("/").text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from([*of_owut(), *of_the_selector(), "rootfs_size_mb", "distro"])


def test_no_body_is_an_error_of_the_servers(client_of: ClientOf) -> None:
    """Whatever comes, the answer is one that clients can show: below 500, with a text."""
    scheduler = Here()
    scheduler.gate.clear()
    client = client_of(scheduler)

    @given(
        st.binary(max_size=300)
        | _JSON.map(lambda value: json.dumps(value).encode())
        | st.dictionaries(_KEYS, _JSON, max_size=8).map(lambda more: json.dumps({**asked(), **more}).encode())
    )
    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    def check(body: bytes) -> None:
        answer = client.post("/api/v1/build", content=body)
        assert answer.status_code < 500
        assert isinstance(answer.json()["detail"], str)

    check()
