"""The JSON that clients read: what is built, in asu's layout (`/json/v1/`) and in that of the download server
(`profiles.json`, `.overview.json`, `.versions.json`), and what became of a request.

Sources: asu's routers/api.py, main.py and build.py; OpenWrt's scripts/json_overview_image_info.py; what owut,
LuCI's attended sysupgrade and the firmware selector read of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from imagebuilder import __version__
from imagebuilder.model.result import ProfileFacts, Result
from imagebuilder.service.asked import BuildRequest
from imagebuilder.service.served import Served, ServedBoards, branch_of, folder_of

Document = dict[str, Any]

_FILESYSTEM = re.compile(r"(?:^|[-.])(squashfs|ubifs|ext4|jffs2-64k|jffs2-128k|erofs|initramfs)(?=[-.]|$)")
_DISKS = ("sd-card", "bios-disk", "efi-disk")
_REVISION = re.compile(r"r(\d+)")
# which packages OpenWrt renamed or brought, and at which revision, for clients that carry a list of packages
# over from an older release. Source: OpenWrt's commits of that number; asu's config.py has the same facts
_CHANGES: tuple[Document, ...] = (
    {"source": "firewall", "target": "firewall4", "revision": 18611},
    {"source": "kmod-nft-nat6", "revision": 20282, "mandatory": True},
    {"source": "libustream-wolfssl", "target": "libustream-mbedtls", "revision": 21994},
    {"source": "px5g-wolfssl", "target": "px5g-mbedtls", "revision": 21994},
    {"source": "wpad-basic-wolfssl", "target": "wpad-basic-mbedtls", "revision": 21994},
    {"source": "luci-app-diag-core", "revision": 25984, "mandatory": True},
    {"source": "auc", "target": "owut", "revision": 26792},
    {"source": "luci-app-opkg", "target": "luci-app-package-manager", "revision": 27897},
    {"source": "opkg", "target": "apk-mbedtls", "revision": 28056},
)


def filesystem_of(file: str) -> str:
    """The file system that an image's name says, "" where it says none."""
    found = _FILESYSTEM.search(file)
    return found[1] if found else ""


def stamped(seconds: float) -> str:
    """A time as clients read it: `2024-09-23T12:34:46.000000Z`. seconds: since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def versions(catalogue: ServedBoards) -> Document:
    """`.versions.json`."""
    latest = _latest(catalogue)
    return {
        "versions_list": [name for name in catalogue.versions if name != "SNAPSHOT"],
        "stable_version": latest[0] if latest else "",
        "oldstable_version": latest[1] if len(latest) > 1 else "",
        "upcoming_version": "",
    }


def _latest(catalogue: ServedBoards) -> list[str]:
    """The newest release of each branch, the newest first."""
    found: dict[str, str] = {}
    for name in catalogue.versions:
        if name != "SNAPSHOT":
            found.setdefault(branch_of(name), name)
    return list(found.values())


def latest(catalogue: ServedBoards) -> Document:
    """`latest.json`."""
    return {"latest": _latest(catalogue)}


def branches(catalogue: ServedBoards) -> dict[str, Document]:
    """What overview.json says of each branch."""
    found: dict[str, Document] = {}
    for name in catalogue.versions:
        here = catalogue.of_version(name)
        branch = found.setdefault(
            branch_of(name),
            {
                "name": branch_of(name),
                "enabled": True,
                "snapshot": name == "SNAPSHOT",
                "path": folder_of("{version}" if name != "SNAPSHOT" else name),
                "path_packages": "DEPRECATED",
                "versions": [],
                "targets": {},
                "package_changes": _changes(here),
            },
        )
        branch["versions"].append(name)
        branch["targets"] |= {each.tree.target: each.tree.arch for each in here}
    return found


def _changes(served: Sequence[Served]) -> list[Document]:
    """Those that a branch of these trees has; a tree that does not say its revision has none."""
    numbers = [int(match[1]) for each in served if (match := _REVISION.match(each.facts.revision))]
    return [dict(each) for each in _CHANGES if numbers and each["revision"] <= max(numbers)]


def overview(catalogue: ServedBoards, address: str) -> Document:
    """`overview.json`. address: of this server, which has the lists of devices too."""
    options = catalogue.options
    return {
        **latest(catalogue),
        "branches": branches(catalogue),
        "upstream_url": address,
        "server": {
            "version": __version__,
            "contact": "",
            "allow_defaults": options.defaults,
            "repository_allow_list": [],
            "max_custom_rootfs_size_mb": options.rootfs_size,
            "max_defaults_length": options.defaults_size,
        },
    }


def release_overview(catalogue: ServedBoards, version: str) -> Document:
    """`.overview.json` of a release, which the firmware selector searches devices in."""
    devices = [
        {"id": each.profile.name, "target": each.tree.target, "titles": _titles(each.facts)}
        for each in catalogue.of_version(version)
    ]
    return {"release": version, "profiles": devices}


def target_facts(served: Sequence[Served]) -> Document:
    """A target's `profiles.json`. served: of one target of one release."""
    return {
        **_tree_facts(served[0], served[0].facts),
        "profiles": {each.profile.name: _profile_facts(each, each.facts) for each in served},
    }


def profile_facts(served: Served) -> Document:
    """What asu says of one profile (`/json/v1/…/PROFILE.json`)."""
    return _flat(served, served.facts)


def _flat(served: Served, facts: ProfileFacts) -> Document:
    return {
        **_tree_facts(served, facts),
        **_profile_facts(served, facts),
        "id": served.profile.name,
        "build_at": stamped(facts.epoch),
    }


def _tree_facts(served: Served, facts: ProfileFacts) -> Document:
    return {
        "metadata_version": 1,
        "arch_packages": served.tree.arch,
        "default_packages": [name for name in facts.default_packages if not name.startswith("-")],
        **({"linux_kernel": {"version": facts.kernel}} if facts.kernel else {}),
        "source_date_epoch": facts.epoch,
        "target": served.tree.target,
        "version_code": facts.revision,
        "version_number": served.version,
    }


def _profile_facts(served: Served, facts: ProfileFacts) -> Document:
    """images: as they will be called, with no sums, since nothing is built by now."""
    return {
        "device_packages": list(facts.device_packages),
        "image_prefix": _prefix(served),
        "images": list(_images_to_be(served)),
        "supported_devices": list(facts.supported_devices) or [served.profile.name],
        "titles": _titles(facts),
    }


def _titles(facts: ProfileFacts) -> list[Document]:
    return [title.model_dump(exclude_defaults=True) for title in facts.titles]


def _prefix(served: Served) -> str:
    """Source: IMG_PREFIX of OpenWrt's include/image.mk."""
    parts = [served.tree.distribution.lower()]
    parts += [served.version.lower()] if served.version != "SNAPSHOT" else []
    return "-".join((*parts, served.tree.target.replace("/", "-"), served.profile.name))


def _images_to_be(served: Served) -> Iterator[Document]:
    filesystem = served.filesystem or "squashfs"
    for kind, image in served.board.images.items():
        ending = (image.file or f"{{fs}}-{kind}").replace("{fs}", filesystem)
        prefix = _prefix(served).removesuffix(served.profile.name if image.file else "").rstrip("-")
        after = ".img" if image.format in _DISKS else ".bin"
        yield {"name": f"{prefix}-{ending}{after}", "type": kind, "filesystem": filesystem}


def target_index(served: Served) -> Document:
    """The packages that come with a target, with their versions."""
    return {"architecture": served.tree.arch, "packages": dict(served.packages.own)}


def feeds_index(served: Sequence[Served]) -> Document:
    """The packages of the feeds of one architecture, with their versions."""
    found: Document = {}
    for each in served:
        found |= each.packages.feeds
    return found


def manifest_of(result: Result, plain: Mapping[str, str]) -> dict[str, str]:
    """The packages of an image by the names that clients know (make's STRIP_ABI)."""
    return {plain.get(each.name, each.name): each.version for each in result.packages}


def version_fault(wanted: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """What of the packages that a client wants is not as it wants it, in asu's words."""
    for name, version in wanted.items():
        if name not in there:
            return f"Impossible package selection: {name} not in manifest"
        if there[name] != version:
            return (
                f"Impossible package selection: {name} version not as requested: {version} vs. {there[name]}"
            )
    return None


def finished(served: Served, asked: BuildRequest, number: str, result: Result) -> Document:
    """What a client gets of an image that was built. The images are those of the file system that it asked
    for, where it asked for one."""
    facts = result.device or served.facts
    images = [
        {
            "name": image.file,
            "type": image.type,
            "filesystem": facts.filesystems.get(image.file) or filesystem_of(image.file),
            "size": image.size,
            "sha256": image.sha256,
            **({} if image.file in result.signed else {"sha256_unsigned": image.sha256}),
        }
        for image in result.images
    ]
    if asked.filesystem:
        images = [each for each in images if each["filesystem"] in ("", asked.filesystem)]
    packages = next((word for word in result.make if word.startswith("PACKAGES=")), "PACKAGES=")
    return {
        **_flat(served, facts),
        "images": images,
        "manifest": manifest_of(result, served.packages.plain),
        "bin_dir": number,
        "build_cmd": ["make", *result.make],
        "build_cmd_packages": packages.removeprefix("PACKAGES=").split(),
        "request": asked.model_dump(mode="json"),
        "detail": "done",
    }
