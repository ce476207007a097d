"""The ImageBuilder tree itself: its Makefile, what it says of itself, its packages and its boot parts."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagebuilder
from imagebuilder.errors import UserError
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.feed import write_index
from imagebuilder.kit.layout import (
    ARCHITECTURE,
    BOARD,
    DISK_CONFIG,
    DISTRIBUTION,
    LINUX_DIR,
    MANIFEST_OF_KIT,
    PACKAGES_DIR,
    PROFILE,
    PROFILE_TITLE,
    TreeConfig,
    config_text,
)
from imagebuilder.kit.recipe import GUEST
from imagebuilder.kit.system_packages import Content
from imagebuilder.model.edition import Edition
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.ipk import write_ipk

KIT_SCHEMA = 1


class KitError(UserError):
    """The kit's packages do not fit together."""


def _index_names(contents: Iterable[Content]) -> dict[str, str]:
    """Every name that something can depend on, to the package that has it. KitError for two of one name."""
    names: dict[str, str] = {}
    for content in contents:
        for name in (content.name, *content.provides):
            if names.setdefault(name, content.name) != content.name:
                raise KitError(f"both {names[name]} and {content.name} of the kit are called {name}")
    return names


def _package(content: Content, names: Mapping[str, str]) -> Package:
    """The facts of a package, its dependencies by the names of the index, as OpenWrt's have them."""
    missing = [name for name in content.depends if name not in names]
    if missing:
        raise KitError(f"{content.name} needs {', '.join(missing)}, which the kit does not have")
    depends = dict.fromkeys(names[name] for name in content.depends if names[name] != content.name)
    return Package(
        name=content.name,
        version=content.version,
        architecture=ARCHITECTURE,
        depends=tuple((Dependency(name),) for name in depends),
        provides=content.provides,
        section=content.section,
        description=content.summary,
        abi_version=content.abi_version,
        essential=content.name in ("base-files", "busybox", "libc"),
    )


def write_packages(contents: Sequence[Content], tree: Path, *, epoch: int, jobs: int) -> None:
    """Write all packages and their index into the tree, `jobs` at a time. epoch: seconds since 1970."""
    names = _index_names(contents)
    packages = [_package(content, names) for content in contents]
    folder = tree / PACKAGES_DIR

    def write(number: int) -> Package:
        content = contents[number]
        written = write_ipk(folder, packages[number], content.tree, epoch=epoch, conffiles=content.conffiles)
        return written.package

    with ThreadPoolExecutor(jobs) as pool:
        write_index(folder, pool.map(write, range(len(contents))))


def _quoted_for_make(text: str) -> str:
    """A word of a recipe that holds exactly this text."""
    return shlex.quote(text).replace("$", "$$").replace("#", "\\#")


def write_makefile(tree: Path) -> None:
    """Write the Makefile, which calls the Python that runs now, and the project where it is now."""
    text = (GUEST / "tree/Makefile").read_text("utf-8")
    parent = str(Path(imagebuilder.__file__).parents[1])
    text = text.replace("@PYTHON@", _quoted_for_make(sys.executable))
    text = text.replace("@PYTHONPATH@", parent.replace("$", "$$").replace("#", "\\#"))
    (tree / "Makefile").write_text(text, "utf-8")


def _target_info(config: TreeConfig) -> str:
    """`.targetinfo`, in the form that the genuine ImageBuilder's scripts write and read."""
    target = {
        "Source-Makefile": f"target/linux/{BOARD}/Makefile",
        "Target": config.target,
        "Target-Board": BOARD,
        "Target-Name": PROFILE_TITLE,
        "Target-Arch": ARCHITECTURE,
        "Target-Arch-Packages": config.architecture,
        "Target-Features": "ext4 squashfs",
        "Target-Depends": "",
        "Target-Optimization": "",
        "CPU-Type": "",
        "Linux-Version": config.kernel_version,
        "Linux-Release": "1",
        "Linux-Kernel-Arch": BOARD,
    }
    profile = {
        "Target-Profile": f"DEVICE_{PROFILE}",
        "Target-Profile-Name": PROFILE_TITLE,
        "Target-Profile-Packages": "",
        "Target-Profile-hasImageMetadata": "0",
        "Target-Profile-SupportedDevices": "",
    }
    lines = [f"{key}: {value}" for key, value in target.items()]
    lines += ["Target-Description:", "\tDebian's kernel, libraries and Python in OpenWrt's packages", "@@"]
    lines.append(f"Default-Packages: {' '.join(config.default_packages)}")
    lines += [f"{key}: {value}" for key, value in profile.items()]
    lines += ["Target-Profile-Description:", f"\tBuild firmware images for {PROFILE_TITLE}", "@@", "", ""]
    return "\n".join(lines)


def _profiles_mk() -> str:
    name = f"DEVICE_{PROFILE}"
    return f"PROFILE_NAMES = {name}\n{name}_NAME:={PROFILE_TITLE}\n{name}_PACKAGES:=\n"


def write_description(tree: Path, config: TreeConfig) -> None:
    """Write what the tree says of itself: .config, .targetinfo, .profiles.mk, repositories.conf."""
    (tree / ".config").write_text(config_text(config), "utf-8")
    (tree / ".targetinfo").write_text(_target_info(config), "utf-8")
    (tree / ".profiles.mk").write_text(_profiles_mk(), "utf-8")
    (tree / "repositories.conf").write_text(
        "## Further feeds can be named here: src NAME file:FOLDER\n\n"
        "## This is the local package repository, do not remove!\n"
        f"src imagebuilder file:{PACKAGES_DIR}\n",
        "utf-8",
    )
    (tree / LINUX_DIR).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(GUEST / "tree/disk.cfg", tree / LINUX_DIR / DISK_CONFIG)


def write_kit_manifest(
    tree: Path, edition: Edition, debs: Iterable[Deb], *, digest: str, key: str, config: TreeConfig
) -> None:
    """Write kit.json: the digest of the kit and all that went into it."""
    record = {
        "schema": KIT_SCHEMA,
        "what": f"{DISTRIBUTION} {config.version}: an ImageBuilder made from Debian packages",
        "debian_release": f"{edition.debian} ({edition.codename})",
        "digest": digest,
        "key": key,
        "python": sys.executable,
        "kernel": config.kernel_version,
        "source_date_epoch": config.source_date_epoch,
        "debian": [
            {"name": deb.name, "version": deb.version, "sha256": deb.sha256, "size": deb.size} for deb in debs
        ],
    }
    (tree / MANIFEST_OF_KIT).write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def fix_modes(tree: Path) -> None:
    """Give all of the tree plain modes, whatever this process's umask is."""
    for parent, folders, files in os.walk(tree):
        for name in folders:
            (Path(parent) / name).chmod(0o755)
        for name in files:
            (Path(parent) / name).chmod(0o644)
    tree.chmod(0o755)
