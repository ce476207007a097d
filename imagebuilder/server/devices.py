"""The devices that a release builds for, from what the server publishes of them.

Formats: `profiles.json` in a target's folder (21.02 on; OpenWrt's scripts/json_add_image_info.py and
json_overview_image_info.py), which `sha256sums` there covers; `.overview.json` in a release's folder, all
targets together, as OpenWrt's firmware selector reads it. The latter is not signed: good for a search, not
for a build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from imagebuilder.config.library import all_occur
from imagebuilder.errors import UserError

PROFILES_FILE = "profiles.json"
OVERVIEW_FILE = ".overview.json"

_TARGET = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+,-]*")
_IMAGE_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
_NO_ROOTFS = ("", "initramfs")
_MAX_LIMIT = 1 << 50


class DeviceListError(UserError):
    """A list of devices that cannot be read."""


@dataclass(frozen=True)
class ListedDevice:
    """A device as a release lists it. id: the profile's name; titles: what people call it; supported_devices,
    packages, images: empty where the list does not say. images: the types (`sysupgrade`) of those with a root
    file system, which an ImageBuilder makes; image_size, kernel_size: the limits in bytes (25.12 on)."""

    id: str
    target: str
    titles: tuple[str, ...]
    supported_devices: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    image_size: int | None = None
    kernel_size: int | None = None

    def matches(self, words: Iterable[str]) -> bool:
        """Whether every word occurs in one of its names, whatever the case and the punctuation."""
        return all_occur(words, (self.id, *self.titles, *self.supported_devices))


@dataclass(frozen=True)
class TargetDevices:
    """What a target's profiles.json says. arch: of its packages ("" in older files, which do not say)."""

    target: str
    version: str
    arch: str
    devices: tuple[ListedDevice, ...]

    def device(self, profile: str) -> ListedDevice | None:
        """The device with this profile's name."""
        return next((each for each in self.devices if each.id == profile), None)


def parse_profiles(data: bytes, origin: str) -> TargetDevices:
    """A target's profiles.json. DeviceListError for anything else."""
    facts = _object(data, origin)
    target, profiles = facts.get("target"), facts.get("profiles")
    if not isinstance(target, str) or not _TARGET.fullmatch(target) or not isinstance(profiles, dict):
        raise DeviceListError(f"{origin} is no list of devices: it has no `target` or no `profiles`")
    devices = [_device(name, target, each, origin) for name, each in profiles.items()]
    return TargetDevices(
        target, _text(facts.get("version_number")), _text(facts.get("arch_packages")), tuple(devices)
    )


def parse_overview(data: bytes, origin: str) -> tuple[ListedDevice, ...]:
    """A release's `.overview.json`, by target and name. DeviceListError for anything else."""
    profiles = _object(data, origin).get("profiles")
    if not isinstance(profiles, list):
        raise DeviceListError(f"{origin} is no list of devices: it has no list `profiles`")
    devices = []
    for each in profiles:
        facts = each if isinstance(each, dict) else {}
        target = _text(facts.get("target"))
        if not _TARGET.fullmatch(target):
            raise DeviceListError(f"{origin} lists a device without a target")
        devices.append(_device(_text(facts.get("id")), target, facts, origin))
    return tuple(sorted(devices, key=lambda device: (device.target, device.id)))


def _device(name: str, target: str, facts: object, origin: str) -> ListedDevice:
    if not _ID.fullmatch(name) or not isinstance(facts, dict):
        raise DeviceListError(f"{origin} lists a device that has no name: {name[:80]!r}")
    titles = facts.get("titles")
    named = [_title(each) for each in titles] if isinstance(titles, list) else []
    return ListedDevice(
        name,
        target,
        tuple(title for title in named if title) or (name,),
        _texts(facts.get("supported_devices")),
        _texts(facts.get("device_packages")),
        _images(facts.get("images")),
        _limit(facts.get("file_size_limits"), "image"),
        _limit(facts.get("file_size_limits"), "kernel"),
    )


def _images(images: object) -> tuple[str, ...]:
    """Types, each once. An image without a root file system (a kernel, a boot loader) names none; the
    initramfs is made with the kernel, by no ImageBuilder. Source: OpenWrt's include/image.mk."""
    listed = [each for each in images if isinstance(each, dict)] if isinstance(images, list) else []
    types = (_text(each.get("type")) for each in listed if _text(each.get("filesystem")) not in _NO_ROOTFS)
    return tuple(dict.fromkeys(each for each in types if _IMAGE_TYPE.fullmatch(each)))


def _limit(limits: object, name: str) -> int | None:
    size = limits.get(name) if isinstance(limits, dict) else None
    return size if type(size) is int and 0 < size < _MAX_LIMIT else None


def _title(title: object) -> str:
    """`{"title": …}`, or vendor, model and variant apart."""
    if not isinstance(title, dict):
        return ""
    parts = [_text(title.get(key)) for key in ("vendor", "model", "variant")]
    return _text(title.get("title")) or " ".join(part for part in parts if part)


def _object(data: bytes, origin: str) -> dict[str, object]:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DeviceListError(f"{origin} is no list of devices: it is not JSON") from error
    if not isinstance(facts, dict):
        raise DeviceListError(f"{origin} is no list of devices")
    return facts


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, value))) if isinstance(value, list) else ()
