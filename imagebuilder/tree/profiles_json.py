"""What download servers tell of a device: make's profiles.json, or else what tree and board file say.

Source of the layout: scripts/json_add_image_info.py and json_overview_image_info.py of OpenWrt, which
ImageBuilders run from 19.07 on. Earlier ones, and some forks, write none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuilder.host.beneath import BeneathError, read_beneath
from imagebuilder.host.fs import text_of
from imagebuilder.log import Log
from imagebuilder.model.result import DeviceTitle, ProfileFacts
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.reproducible import source_date_epoch
from imagebuilder.tree.tree import settings_of

PROFILES_JSON = "profiles.json"
MOST_BYTES = 16 << 20  # a target of 300 devices has 0.4 MiB
_REVISION = re.compile(r"(?m)^REVISION:=(\S+)$")


class ProfilesJsonError(ValueError):
    """A profiles.json in which nothing is said of the device, or not as OpenWrt says it."""


def profile_facts(bin_dir: Path, plan: Plan, board_name: str, log: Log) -> ProfileFacts:
    """What is known of the plan's device. bin_dir: where make left its files; board_name: what the board's
    file calls it. A profiles.json that says something else than OpenWrt's is told to the log and not used."""
    known = facts_of_tree(plan, board_name)
    try:
        data = read_beneath(bin_dir, PROFILES_JSON, MOST_BYTES)
    except FileNotFoundError:
        return known
    except BeneathError as error:
        log.warn(f"make's {PROFILES_JSON} is not used: {error.message}")
        return known
    try:
        return read_profiles_json(data, plan.profile.name, known)
    except ProfilesJsonError as error:
        log.warn(f"make's {PROFILES_JSON} is not used: {error}")
        return known


def read_profiles_json(data: bytes, profile: str, known: ProfileFacts) -> ProfileFacts:
    """What it says of one profile; known: what counts for that of which it says nothing. ProfilesJsonError
    for any other bytes."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProfilesJsonError(f"it is no JSON: {error}") from error
    device = _table(_table(whole, "the file").get("profiles"), "profiles").get(profile)
    if device is None:
        raise ProfilesJsonError(f"it does not name {profile}")
    said = _table(device, profile)
    kernel = _table(whole.get("linux_kernel", {}), "linux_kernel").get("version")
    epoch = whole.get("source_date_epoch")
    images = [_table(image, "an image") for image in _list(said.get("images", []), "images")]
    return ProfileFacts(
        titles=_titles(said) or known.titles,
        supported_devices=_texts(said, "supported_devices") or known.supported_devices,
        default_packages=_texts(whole, "default_packages") or known.default_packages,
        device_packages=_texts(said, "device_packages"),
        revision=_text(whole.get("version_code")) or known.revision,
        epoch=epoch if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > 0 else known.epoch,
        kernel=_text(kernel) or known.kernel,  # named from 24.10 on
        filesystems={
            image["name"]: image["filesystem"]
            for image in images
            if _text(image.get("name")) and _text(image.get("filesystem"))
        },
    )


def facts_of_tree(plan: Plan, board_name: str) -> ProfileFacts:
    """What is known of the plan's device before make has said anything. board_name: as in profile_facts()."""
    tree, folder = plan.tree, Path(plan.tree.folder)
    listed = tree.profiles.get(plan.profile.name)
    stated = settings_of(folder).get("VERSION_CODE", "")
    found = _REVISION.search(text_of(folder / "include/version.mk"))
    kernel = next((package.version for package in plan.install if package.name == "kernel"), "")
    return ProfileFacts(
        titles=(DeviceTitle(title=board_name),),
        supported_devices=plan.profile.supported_devices,
        default_packages=tree.default_packages,
        device_packages=() if listed is None else listed.packages,
        revision=stated or (found[1] if found else ""),
        epoch=source_date_epoch(folder),
        kernel=kernel.partition("-")[0].partition("~")[0],
        filesystems={},
    )


def _titles(said: Mapping[str, Any]) -> tuple[DeviceTitle, ...]:
    tables = [_table(title, "a title") for title in _list(said.get("titles", []), "titles")]
    named = [{part: _text(table.get(part)) for part in DeviceTitle.model_fields} for table in tables]
    return tuple(DeviceTitle(**parts) for parts in named if any(parts.values()))


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, _list(table.get(key, []), key))))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _table(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ProfilesJsonError(f"{what} is no table")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ProfilesJsonError(f"{what} is no list")
    return value
