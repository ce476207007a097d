"""A client's request as a config of this project: the served config, and what the request says besides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from imagebuilder.config.request import Request
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import write_whole
from imagebuilder.host.walk import remove_tree
from imagebuilder.service.asked import BuildRequest
from imagebuilder.service.served import Served

OVERLAY = "request-defaults"
# where asu puts it too: owut tells by it that an image has one
SCRIPT = "etc/uci-defaults/99-asu-defaults"
ASKED = "asked.json"


def config_of(served: Served, asked: BuildRequest, folder: Path) -> dict[str, Any]:
    """What the config's file says. folder: in which write_recipe() puts the overlay."""
    config: dict[str, Any] = {
        "extends": served.request.config,
        "boards": [served.board.id],
        "packages": {"add": list(asked.add), "remove": served.left_out(asked)},
    }
    if asked.rootfs_size_mb is not None:
        config["image"] = {"rootfs_partsize": asked.rootfs_size_mb}
    if asked.defaults:
        config["overlay"] = [{"name": OVERLAY, "path": str(folder / "files")}]
    return config


def write_recipe(served: Served, asked: BuildRequest, number: str, folder: Path, store: Path) -> Request:
    """Write the config and its overlay into a folder of the request's own, whatever is there goes, and give
    the request for its image, whose result appears in the store under the request's number. HostError."""
    import tomlkit  # noqa: PLC0415 - only where something is built

    with disk_errors_explained(folder):
        if folder.exists():
            remove_tree(folder)
        folder.mkdir(mode=0o700, parents=True)
        if asked.defaults:
            write_whole(folder / "files" / SCRIPT, asked.defaults.encode())
        write_whole(folder / ASKED, asked.model_dump_json().encode())
        config = folder / f"{number}.toml"
        write_whole(config, tomlkit.dumps(config_of(served, asked, folder)).encode())
    private = bool(asked.defaults)  # a script for the first start often sets a password
    return replace(served.request, config=str(config), output=store, private=private, once=None)
