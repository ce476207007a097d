"""The build server on the kit, and on a genuine tree: what the firmware selector asks for by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from imagebuilder.config.model_server import ServerOptions
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log
from imagebuilder.service.builds import Builds
from imagebuilder.service.served import asked_of_server, load_served
from tests.service.conftest import Here, ended, served

PROJECT = Path(__file__).resolve().parents[2]


def serve(tmp_path: Path, cache: Path, config: str, board: str, tree: Path | None = None) -> Builds:
    options = ServerOptions(defaults=True)
    asked = asked_of_server(
        PROJECT,
        options,
        [config],
        board=[board],
        imagebuilder=[] if tree is None else [str(tree)],
        cache=cache,
        output=tmp_path / "state/store",
    )
    builds = Builds(load_served(asked, options, Log()), tmp_path / "state", Here(), Log())
    builds.start()
    return builds


def built(client: httpx.Client) -> dict[str, Any]:
    """As the selector goes: the newest version, its first device, that one's own packages; and the images are
    what was said."""
    version = client.get("/.versions.json").json()["versions_list"][0]
    (device,) = client.get(f"/releases/{version}/.overview.json").json()["profiles"]
    facts = client.get(f"/releases/{version}/targets/{device['target']}/profiles.json").json()
    profile = facts["profiles"][device["id"]]
    request = {
        "profile": device["id"],
        "target": device["target"],
        "packages": [*facts["default_packages"], *profile["device_packages"]],
        "defaults": "uci set system.@system[0].hostname='served'\n",
        "version_code": facts["version_code"],
        "version": version,
        "diff_packages": True,
        "client": "ofs/6.2.0",
        "repositories": {},
        "repository_keys": [],
    }
    found = ended(client, client.post("/api/v1/build", json=request))
    assert found["http"] == 200, found
    promised = {(image["name"], image["type"], image["filesystem"]) for image in profile["images"]}
    assert {(image["name"], image["type"], image["filesystem"]) for image in found["images"]} <= promised
    for image in found["images"]:
        data = client.get(f"/store/{found['bin_dir']}/{image['name']}").content
        assert hashlib.sha256(data).hexdigest() == image["sha256"]
    assert found["version_code"] == facts["version_code"] != ""
    return found


@pytest.mark.kit
def test_an_image_of_the_kit(tmp_path: Path) -> None:
    builds = serve(tmp_path, user_cache(), "demo", "qemu-x86-64")
    try:
        with served(builds) as address, httpx.Client(base_url=address, trust_env=False) as client:
            found = built(client)
    finally:
        builds.stop()
    assert found["manifest"]["python3-light"].startswith("3.11")  # of the config, not of the request


@pytest.mark.genuine
def test_an_image_of_a_genuine_tree(tmp_path: Path, genuine_tree: Path) -> None:
    builds = serve(tmp_path, tmp_path / "cache", "router", "tplink-tl-wr740n-v4", genuine_tree)
    try:
        with served(builds) as address, httpx.Client(base_url=address, trust_env=False) as client:
            found = built(client)
    finally:
        builds.stop()
    assert found["manifest"]["base-files"].startswith("173.")
    assert {image["type"] for image in found["images"]} == {"sysupgrade", "factory"}
