"""The files that OpenWrt's download server has beside images, and what its build server answers to who only
looks: by these the firmware selector, owut and LuCI's attended sysupgrade find builds.

Sources: scripts/json_add_image_info.py and json_overview_image_info.py of OpenWrt (profiles.json);
www/js/main.js, models.js and images.js of the firmware selector (.versions.json, .overview.json of a version,
profiles.json of a target, and that images of one type are told apart by what differs in their names);
asu/main.py and util.py of asu (.targets.json, json/v1/overview.json, the indexes of packages); files/owut of
owut (overview.json, profiles.json, the indexes); overview.js of luci-app-attendedsysupgrade (api/overview,
api/v1/revision).

A target's profiles.json knows one entry for a device. Where several configs are built for it, all their
images are in that entry, the config that comes first by name first; in the names that images have there the
config and the build's number stand where make puts EXTRA_IMAGE_NAME.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from imagebuilder.model.release import Release
from imagebuilder.site.facts import Listing, PublishedBuild, PublishedImage, iso, title_text

SNAPSHOT = "SNAPSHOT"  # what the tip calls itself, and lies in snapshots/
Files = dict[str, Any]  # by path, what is written as JSON
_PLAIN = re.compile(r"[^A-Za-z0-9._+~-]+")


def plain_name(text: str) -> str:
    """A text as part of a file's name that stands in addresses unchanged."""
    return _PLAIN.sub("_", text).lstrip(".") or "_"


def version_folder(version: str) -> str:
    """Where a version's targets lie: `releases/23.05.5`, `snapshots`."""
    return "snapshots" if version == SNAPSHOT else f"releases/{plain_name(version)}"


def target_folder(listing: Listing, build: PublishedBuild) -> str:
    """Where a build's images lie: `releases/23.05.5/targets/ath79/tiny`."""
    return f"{version_folder(build.version)}/targets/{listing.target}"


def image_name(listing: Listing, build: PublishedBuild, image: PublishedImage) -> str:
    """The name of an image there: with config and build before the target, where make's EXTRA_IMAGE_NAME
    stands, or before all of it where the target does not stand in it."""
    mine = f"{plain_name(listing.config)}-{build.number}"
    file, target = plain_name(image.file), f"-{listing.target.replace('/', '-')}-"
    before, found, after = file.partition(target)
    return f"{before}-{mine}{found}{after}" if found else f"{mine}-{file}"


def release_files(listings: Sequence[Listing]) -> Files:
    """What a mirror of the download server has, but for the images."""
    files: Files = {".versions.json": _versions(listings)}
    for version, of_version in _by_version(listings).items():
        folder = version_folder(version)
        files[f"{folder}/.overview.json"] = {
            "release": plain_name(version),
            "profiles": [
                {"id": name, "target": target, "titles": _titles(same[0])}
                for (target, name), same in _by_profile(of_version)
            ],
        }
        files[f"{folder}/.targets.json"] = {each.target: each.arch for each in of_version}
        for target, same in _by_target(of_version):
            files[f"{folder}/targets/{target}/profiles.json"] = _profiles(same)
    return files


def _versions(listings: Iterable[Listing]) -> dict[str, Any]:
    """stable_version: the newest release, or what there is in its place; oldstable_version: the newest of
    an earlier series; upcoming_version: a candidate that is newer than all. "" for what there is not, where
    asu wants a key and LuCI no version."""
    names = {plain_name(each.newest.version) for each in listings}
    numbered = sorted((each for each in map(Release, names) if each.number), reverse=True)
    stable = [each for each in numbered if not each.candidate and not each.name.endswith(f"-{SNAPSHOT}")]
    older = [each for each in stable if each.series != stable[0].series]
    upcoming = [each for each in numbered if each.candidate and (not stable or each > stable[0])]
    rest = sorted(names - {each.name for each in numbered})
    listed = [*(each.name for each in numbered), *rest]
    return {
        "stable_version": stable[0].name if stable else next(iter(listed), ""),
        "oldstable_version": older[0].name if older else "",
        "upcoming_version": upcoming[0].name if upcoming else "",
        "versions_list": listed,
    }


def _by_version(listings: Iterable[Listing]) -> Mapping[str, list[Listing]]:
    found: defaultdict[str, list[Listing]] = defaultdict(list)
    for listing in listings:
        found[listing.newest.version].append(listing)
    return found


def _by_target(listings: Iterable[Listing]) -> list[tuple[str, list[Listing]]]:
    ordered = sorted(listings, key=lambda each: each.target)
    return [(target, list(same)) for target, same in groupby(ordered, lambda each: each.target)]


def _by_profile(listings: Iterable[Listing]) -> list[tuple[tuple[str, str], list[Listing]]]:
    """By target and profile; those of one by config."""
    ordered = sorted(listings, key=lambda each: (each.target, each.profile, each.config, each.board))
    return [(key, list(same)) for key, same in groupby(ordered, lambda each: (each.target, each.profile))]


def _profiles(listings: Sequence[Listing]) -> dict[str, Any]:
    newest = max(listings, key=lambda each: each.newest.published)
    build = newest.newest
    found = {
        "metadata_version": 1,
        "target": newest.target,
        "version_number": plain_name(build.version),
        "version_code": build.revision,
        "source_date_epoch": build.epoch or build.published,
        "build_at": iso(build.published),
        "arch_packages": newest.arch,
        "default_packages": sorted(newest.default_packages),
        "profiles": {name: _profile(same) for (_, name), same in _by_profile(listings)},
    }
    if build.kernel:
        found["linux_kernel"] = {"version": build.kernel}
    return found


def _profile(same: Sequence[Listing]) -> dict[str, Any]:
    first = same[0]
    images = {
        name: _image(name, image)
        for each in same
        for image in each.newest.images
        for name in [image_name(each, each.newest, image)]
    }
    name = next(iter(images))
    return {
        "device_packages": list(first.device_packages),
        "image_prefix": name.partition(first.profile)[0] + first.profile if first.profile in name else name,
        "images": list(images.values()),
        "supported_devices": list(first.supported_devices),
        "titles": _titles(first),
    }


def _image(name: str, image: PublishedImage) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "type": image.type, "size": image.size, "sha256": image.sha256}
    if image.filesystem:
        found["filesystem"] = image.filesystem
    if not image.signed:
        found["sha256_unsigned"] = image.sha256
    return found


def _titles(listing: Listing) -> list[dict[str, str]]:
    titles = [title for title in listing.titles if title_text(title).strip()]
    return [title.model_dump(exclude_defaults=True) for title in titles] or [{"title": listing.names[0]}]


def overview_files(
    listings: Sequence[Listing], packages: Mapping[tuple[str, str], Mapping[str, str]], url: str, builder: str
) -> Files:
    """What the build server answers to who only looks. packages: names to versions, by board and config;
    url: where the site is, without / at its end."""
    by_version = _by_version(listings)
    versions = _versions(listings)
    latest = [versions[key] for key in ("upcoming_version", "stable_version", "oldstable_version")]
    branches: dict[str, Any] = {}
    for version, of_version in by_version.items():
        name = SNAPSHOT if version == SNAPSHOT else Release(version).series
        branch = branches.setdefault(name, _branch(name))
        branch["versions"].append(plain_name(version))
        branch["targets"] |= {each.target: each.arch for each in of_version}
    overview = {
        "latest": [each for each in latest if each],
        "branches": branches,
        "upstream_url": url,
        "server": {"version": builder, "allow_defaults": False},
    }
    files: Files = {
        "json/v1/overview.json": overview,
        "json/v1/latest.json": {"latest": overview["latest"]},
        "json/v1/branches.json": list(branches.values()),
        "api/overview": overview,
        "api/v1/overview": overview,
    }
    for version, of_version in by_version.items():
        files |= _version_files(version, of_version, packages)
    return files


def _branch(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "versions": [],
        "targets": {},
        "path": "snapshots" if name == SNAPSHOT else "releases/{version}",
        "snapshot": name == SNAPSHOT,
        "enabled": True,
        "package_changes": [],
    }


def _version_files(
    version: str, listings: Sequence[Listing], packages: Mapping[tuple[str, str], Mapping[str, str]]
) -> Files:
    folder, files = f"json/v1/{version_folder(version)}", Files()
    for target, same in _by_target(listings):
        profiles = _profiles(same)
        head = {key: value for key, value in profiles.items() if key != "profiles"}
        for name, profile in profiles["profiles"].items():
            files[f"{folder}/targets/{target}/{plain_name(name)}.json"] = {**head, **profile, "id": name}
        files[f"{folder}/targets/{target}/index.json"] = {
            "architecture": same[0].arch,
            "packages": _packages(same, packages),
        }
        files[f"api/v1/revision/{plain_name(version)}/{target}"] = {"revision": head["version_code"]}
    for arch in {each.arch for each in listings}:
        same = [each for each in listings if each.arch == arch]
        files[f"{folder}/packages/{plain_name(arch)}-index.json"] = _packages(same, packages)
    return files


def _packages(
    listings: Iterable[Listing], packages: Mapping[tuple[str, str], Mapping[str, str]]
) -> dict[str, str]:
    """What is in any of the images, the newest build's versions."""
    found: dict[str, str] = {}
    for listing in sorted(listings, key=lambda each: each.newest.published):
        found |= packages.get(listing.key, {})
    return dict(sorted(found.items()))
