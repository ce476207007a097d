"""The ImageBuilder tree itself: its Makefile, what it says of itself, its packages, and the parts of the disk
that every image shares: the ESP with kernel and initramfs, and the empty overlay.

The initramfs is cpio in the `newc` form, as the kernel's documentation (buffer-format) describes it.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagebuilder
from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import temporary_folder
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.feed import write_index
from imagebuilder.kit.image import esp_size, genimage, make_overlay
from imagebuilder.kit.layout import (
    ARCHITECTURE,
    BOARD,
    DISK_CONFIG,
    DISTRIBUTION,
    LINUX_DIR,
    MANIFEST_OF_KIT,
    OVERLAY,
    PACKAGES_DIR,
    PROFILE,
    PROFILE_TITLE,
    TreeConfig,
    config_text,
)
from imagebuilder.kit.materials import Materials, load_order, module_file
from imagebuilder.kit.packages import BUSYBOX, Content, applet_links, guest_tree
from imagebuilder.kit.recipe import GUEST
from imagebuilder.model.edition import Edition
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry, FileTree, file_at, file_of, folder

SYSTEMD_BOOT = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_MOUNT_POINTS = ("/dev", "/overlay", "/proc", "/rom", "/root", "/sys")


def initramfs_tree(materials: Materials) -> FileTree:
    """What puts the root together: init, busybox, and the modules in the order of /lib/modules/load."""
    busybox, kernel = materials.main_stage[BUSYBOX], materials.kernel
    order = load_order(kernel, materials.recipe.initramfs_modules)
    entries: dict[str, Entry] = {path: folder() for path in _MOUNT_POINTS}
    entries |= {BUSYBOX: busybox, **applet_links(busybox)}
    entries |= {f"/lib/modules/{name}.ko": file_at(module_file(kernel, name)) for name in order}
    entries["/lib/modules/load"] = file_of("".join(f"{name}\n" for name in order).encode())
    return guest_tree("initramfs").merged(entries)


def make_boot_parts(materials: Materials, into: Path) -> None:
    """Write the ESP and the overlay's file system into a folder.

    Equal input gives equal bytes. ProgramError where genimage, mtools, mkdosfs or mke2fs fail.
    """
    into.mkdir(parents=True, exist_ok=True)
    with disk_errors_explained(into), temporary_folder("scratch", into) as inputs:
        (inputs / "initrd").write_bytes(initramfs(initramfs_tree(materials)))
        shutil.copyfile(materials.kernel.image, inputs / "vmlinuz")
        shutil.copyfile(materials.boot / SYSTEMD_BOOT, inputs / "systemd-bootx64.efi")
        for text in ("loader.conf", "openwrt.conf"):
            shutil.copyfile(GUEST / "tree" / text, inputs / text)
        size = esp_size(list(inputs.iterdir()))
        config = (GUEST / "tree/esp.cfg").read_text("utf-8")
        genimage(config, {"ESP_SIZE": str(size)}, inputs, into, materials.epoch)
    make_overlay(into / OVERLAY, materials.epoch)


_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4
_TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
# without it, init could not say anything before /dev is mounted
_CONSOLE = ("dev/console", stat.S_IFCHR | 0o600, (5, 1))


def _member(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    text = name.encode("utf-8", "surrogateescape") + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(text), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + text
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)


def _data_of(entry: Entry) -> bytes:
    if entry.kind == "file":
        return content(entry)
    return entry.target.encode("utf-8", "surrogateescape")


def _members(tree: FileTree) -> Iterator[bytes]:
    number = 0
    for number, (path, entry) in enumerate(tree.items(), 1):
        yield _member(number, path[1:], _TYPES[entry.kind] | entry.mode, _data_of(entry))
    name, mode, device = _CONSOLE
    yield _member(number + 1, name, mode, device=device)
    yield _member(0, _TRAILER, 0)


def initramfs(tree: FileTree) -> bytes:
    """A gzip-compressed initramfs of the tree and /dev/console, all owned by root and dated 1970:
    equal trees, equal bytes. The tree must hold /dev."""
    return gzip.compress(b"".join(_members(tree)), 9, mtime=0)


KIT_SCHEMA = 1


class KitError(UserError):
    """The kit's packages do not fit together."""


def _index_names(contents: Iterable[Content]) -> dict[str, str]:
    """Every name that something can depend on, to the package that has it. KitError for two of one name."""
    names: dict[str, str] = {}
    for package in contents:
        for name in (package.name, *package.provides):
            if names.setdefault(name, package.name) != package.name:
                raise KitError(f"both {names[name]} and {package.name} of the kit are called {name}")
    return names


def _package(planned: Content, names: Mapping[str, str]) -> Package:
    """The facts of a package, its dependencies by the names of the index, as OpenWrt's have them."""
    missing = [name for name in planned.depends if name not in names]
    if missing:
        raise KitError(f"{planned.name} needs {', '.join(missing)}, which the kit does not have")
    depends = dict.fromkeys(names[name] for name in planned.depends if names[name] != planned.name)
    return Package(
        name=planned.name,
        version=planned.version,
        architecture=ARCHITECTURE,
        depends=tuple((Dependency(name),) for name in depends),
        provides=planned.provides,
        section=planned.section,
        description=planned.summary,
        abi_version=planned.abi_version,
        essential=planned.name in ("base-files", "busybox", "libc"),
    )


def write_packages(contents: Sequence[Content], tree: Path, *, epoch: int, jobs: int) -> None:
    """Write all packages and their index into the tree, `jobs` at a time. epoch: seconds since 1970."""
    names = _index_names(contents)
    packages = [_package(planned, names) for planned in contents]
    folder = tree / PACKAGES_DIR

    def write(number: int) -> Package:
        planned = contents[number]
        written = write_ipk(folder, packages[number], planned.tree, epoch=epoch, conffiles=planned.conffiles)
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
