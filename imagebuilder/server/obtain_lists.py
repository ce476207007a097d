"""What a mirror can be asked without fetching an ImageBuilder: releases, their devices, facts of a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imagebuilder.called import typed
from imagebuilder.config.device import DeviceFacts, ImageFacts
from imagebuilder.config.releases import ReleaseError, ReleaseList, resolve_release, shipped_releases
from imagebuilder.host.cache import Cache
from imagebuilder.host.download import Downloads
from imagebuilder.host.transfer import Patience
from imagebuilder.log import Log
from imagebuilder.model.release import SNAPSHOT, Release, is_embedded
from imagebuilder.model.tree import ProfileError, nearest_profiles
from imagebuilder.server.devices import (
    PROFILES_FILE,
    DeviceListError,
    ListedDevice,
    TargetDevices,
    parse_profiles,
)
from imagebuilder.server.mirror import Mirror, TargetPlace, parse_mirrors
from imagebuilder.server.obtain import parse_pin, releases_for, trusted_keys
from imagebuilder.server.obtain_sums import (
    MAX_LIST_BYTES,
    SwappedFileError,
    listed_file,
    mirrors_releases,
    release_devices,
    target_devices,
)

# a list is worth less waiting than an image: there is another one at hand, or somebody sits before it
PATIENCE = Patience(attempts=2)

State = Literal["maintained", "end of life", "not released yet"]


@dataclass(frozen=True)
class Asking:
    """Whom to ask, and how. mirrors: as a user names them; none: OpenWrt's own server. offline: nobody that
    takes the network."""

    cache: Cache
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    log: Log = field(default_factory=Log)
    patience: Patience = PATIENCE

    def downloads(self) -> Downloads:
        """What fetches; a context manager."""
        return Downloads(self.cache, self.log, offline=self.offline, patience=self.patience)


@dataclass(frozen=True)
class ShownRelease:
    """A release, and the state of its series. latest: whether it is what `latest` means."""

    release: str
    series: str
    state: State
    latest: bool


@dataclass(frozen=True)
class ShownReleases:
    """All known releases, the newest first. origin: where the list is from, in words; asked: whether a mirror
    gave one just now."""

    releases: tuple[ShownRelease, ...]
    origin: str
    asked: bool


@dataclass(frozen=True)
class FoundDevices:
    """Devices of a release, as its list, which is not signed, names them."""

    release: str
    devices: tuple[ListedDevice, ...]


def list_releases(asking: Asking) -> ShownReleases:
    """The releases that a mirror names, together with the shipped list.

    Where OpenWrt's own server does not answer, or offline: the shipped list, with what was fetched before.
    DownloadError where the user named mirrors and none of those that were asked gives a list.
    """
    shipped = shipped_releases()
    with asking.downloads() as downloads:
        mirrors = parse_mirrors(asking.mirrors)
        own = mirrors_releases(downloads, mirrors, must_answer=bool(asking.mirrors))
    if own is None:
        return ShownReleases(_shown(shipped), shipped.origin, asked=False)
    asked = any(own.origin.startswith(f"{mirror.base}/") for mirror in mirrors)
    return ShownReleases(_shown(shipped.merged(own)), f"{own.origin} and {shipped.origin}", asked)


def _shown(known: ReleaseList) -> tuple[ShownRelease, ...]:
    latest, maintained = known.newest(), known.maintained_series()

    def state(release: str) -> State:
        if known.end_of_life(release) is not None:
            return "end of life"
        return "maintained" if Release(release).series in maintained else "not released yet"

    return tuple(
        ShownRelease(each, Release(each).series, state(each), each == latest) for each in known.versions
    )


def search_devices(release: str, words: Sequence[str], asking: Asking) -> FoundDevices:
    """The devices of a release in whose names every word occurs. release: as in a config (`24.10`, `latest`).

    ReleaseError, DownloadError, OfflineError, DeviceListError.
    """
    mirrors = parse_mirrors(asking.mirrors)
    with asking.downloads() as downloads:
        version = _listed_release(release, downloads, mirrors, asking.log)
        listed = release_devices(downloads, mirrors, version)
    return FoundDevices(version, tuple(device for device in listed if device.matches(words)))


def _listed_release(release: str, downloads: Downloads, mirrors: Sequence[Mirror], log: Log) -> str:
    """A release as a server calls it. ReleaseError for the kit, and as resolve_release()."""
    if is_embedded(release):
        raise ReleaseError(
            f"{release} is no release of a server's: the kit is made here",
            hint=f"what it builds for has a board: {typed('boards')}",
        )
    return resolve_release(release, releases_for(release, downloads, mirrors), log)


def listed_facts(
    profile: str,
    release: str,
    asking: Asking,
    *,
    target: str | None = None,
    trust: str | None = None,
    keys: Path | None = None,
) -> DeviceFacts:
    """What a release's profiles.json says of one device, its signature verified.

    target: `ath79/tiny`; without it the release's unsigned list says in which targets to look. trust:
    `sha256:…` of that profiles.json, in place of a signature. keys: a folder of keys that are trusted
    besides OpenWrt's own. ProfileError for a profile that is in no target or in several, naming the nearest;
    TrustError and its kinds, and as search_devices().
    """
    pinned = parse_pin(trust) if trust is not None else None
    mirrors, trusted = parse_mirrors(asking.mirrors), trusted_keys(keys)
    with asking.downloads() as downloads:
        version = _listed_release(release, downloads, mirrors, asking.log)
        if target is None:
            target = _target_of(profile, version, release_devices(downloads, mirrors, version))
        place = TargetPlace(version, target)
        path = f"{place.folder}/{PROFILES_FILE}"
        if pinned is None:
            listed = target_devices(downloads, mirrors, place, trusted)
        else:
            file = listed_file(downloads, mirrors, path, pinned, MAX_LIST_BYTES)
            listed = parse_profiles(file.read_bytes(), path)
    _check_is_of(listed, place, path)
    device = listed.device(profile)
    if device is None:
        raise _unknown(profile, f"OpenWrt {version} for {target}", listed.devices)
    return _facts(device, version, listed, path)


def _target_of(profile: str, release: str, devices: Sequence[ListedDevice]) -> str:
    """The one target that has the profile."""
    targets = sorted({device.target for device in devices if device.id == profile})
    if not targets:
        raise _unknown(profile, f"OpenWrt {release}", devices)
    if len(targets) > 1:
        raise ProfileError(
            f"profile '{profile}' of OpenWrt {release} is in {len(targets)} targets: {', '.join(targets)}",
            hint=f"say which one is meant: --target {targets[0]}",
        )
    return targets[0]


def _unknown(profile: str, where: str, devices: Sequence[ListedDevice]) -> ProfileError:
    near = nearest_profiles(profile, ((each.id, title) for each in devices for title in each.titles))
    return ProfileError(
        f"{where} has no profile '{profile}'",
        hint=f"its nearest profiles: {', '.join(near)}" if near else typed("boards search WORD --release R"),
    )


def _check_is_of(listed: TargetDevices, place: TargetPlace, path: str) -> None:
    """A verified list may still be another release's, or another target's, laid there by mistake."""
    versions = {place.release, ""} if place.release != SNAPSHOT else {listed.version}
    if listed.target != place.target or listed.version not in versions:
        raise SwappedFileError(
            f"{path} is that of {listed.target} in {listed.version}, and is not trusted here",
            hint="try another mirror; with --trust: is that the SHA-256 of this very file?",
        )


def _facts(device: ListedDevice, version: str, listed: TargetDevices, path: str) -> DeviceFacts:
    if not listed.arch:
        raise DeviceListError(
            f"{path} does not say which architecture its packages are for",
            hint="take the facts from the ImageBuilder itself: --imagebuilder PATH",
        )
    return DeviceFacts(
        profile=device.id,
        title=device.titles[0],
        distribution="OpenWrt",
        version=version,
        target=listed.target,
        arch=listed.arch,
        image_size=device.image_size,
        kernel_size=device.kernel_size,
        images=dict.fromkeys(device.images, ImageFacts(format="unknown")),
        supported_devices=device.supported_devices or None,
        sources=(path,),
        listed=True,
    )
