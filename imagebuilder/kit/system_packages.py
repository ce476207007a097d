"""The kit's packages except Python's: base-files, busybox, kernel and modules, libraries, dropbear."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imagebuilder.host.run import run
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.kernel import Kernel, load_order, module_file
from imagebuilder.kit.layout import ARCHITECTURE, BOARD, DISTRIBUTION, SUBTARGET
from imagebuilder.kit.materials import Materials
from imagebuilder.kit.recipe import GUEST, Module, Part
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.filespec import apply, parse
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, file_at, file_of, folder, symlink

BASE_FILES_VERSION = "1"
BUSYBOX = "/bin/busybox"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_FOLDERS: Mapping[str, int] = {
    **dict.fromkeys(("/dev", "/etc/modules.d", "/etc/rc.d", "/etc/uci-defaults", "/mnt", "/overlay"), 0o755),
    **dict.fromkeys(("/proc", "/rom", "/sys", "/usr/bin", "/usr/sbin"), 0o755),
    "/root": 0o700,
    "/tmp": 0o1777,  # noqa: S108 - the guest's
}
_LINKS: Mapping[str, str] = {
    "/etc/mtab": "/proc/mounts",
    "/etc/os-release": "../usr/lib/os-release",
    "/etc/resolv.conf": "/tmp/resolv.conf",  # noqa: S108 - the guest's
    "/lib64": "lib",
    "/var": "tmp",
}
_SECRET = frozenset({"/etc/shadow"})
_CONFFILES = (
    *("/etc/config/", "/etc/group", "/etc/hosts", "/etc/inittab", "/etc/passwd", "/etc/profile"),
    *("/etc/shadow", "/etc/shells", "/etc/sysctl.conf"),
)


@dataclass(frozen=True)
class Content:
    """A package to be: its facts and its files. depends: names, also provided ones."""

    name: str
    version: str
    summary: str
    section: str
    tree: FileTree = EMPTY
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conffiles: tuple[str, ...] = ()
    abi_version: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


def guest_tree(name: str) -> FileTree:
    """One of the folders below kit/guest, with a device's modes: scripts can be run, secrets not read."""
    entries: dict[str, Entry] = {}
    for path, entry in read_tree(GUEST / name).items():
        if entry.source is not None:
            with entry.source.open("rb") as stream:
                script = stream.read(2) == b"#!"
            mode = 0o755 if script else 0o600 if path in _SECRET else 0o644
            entries[path] = file_at(entry.source, mode)
    return FileTree(entries)


def _release_files(version: str, version_code: str) -> dict[str, Entry]:
    target = f"{BOARD}/{SUBTARGET}"
    description = f"{DISTRIBUTION} {version} {version_code}"
    release = {
        "DISTRIB_ID": DISTRIBUTION,
        "DISTRIB_RELEASE": version,
        "DISTRIB_REVISION": version_code,
        "DISTRIB_TARGET": target,
        "DISTRIB_ARCH": ARCHITECTURE,
        "DISTRIB_DESCRIPTION": description,
        "DISTRIB_TAINTS": "",
    }
    system = {
        "NAME": DISTRIBUTION,
        "VERSION": version,
        "ID": DISTRIBUTION.lower(),
        "PRETTY_NAME": description,
        "VERSION_ID": version,
        "BUILD_ID": version_code,
        "OPENWRT_BOARD": target,
        "OPENWRT_ARCH": ARCHITECTURE,
        "OPENWRT_RELEASE": description,
    }
    files = {
        "/etc/openwrt_release": "".join(f"{key}='{value}'\n" for key, value in release.items()),
        "/etc/openwrt_version": f"{version_code}\n",
        "/usr/lib/os-release": "".join(f'{key}="{value}"\n' for key, value in system.items()),
    }
    return {path: file_of(text.encode()) for path, text in files.items()}


def base_files(version: str, version_code: str) -> Content:
    """The folders, configuration and scripts of the guest."""
    tree = guest_tree("base-files").merged(
        {
            **{path: folder(mode) for path, mode in _FOLDERS.items()},
            **{path: symlink(target) for path, target in _LINKS.items()},
            **_release_files(version, version_code),
        }
    )
    files = (path for path, entry in tree.items() if entry.kind == "file")
    return Content(
        name="base-files",
        version=f"{BASE_FILES_VERSION}-{version_code}",
        summary="Base files of the embedded kit's guest",
        section="base",
        tree=tree,
        depends=("libc", "busybox"),
        conffiles=tuple(path for path in files if path.startswith(_CONFFILES)),
    )


def uci(version_code: str) -> Content:
    """Our own writing of the program that reads and changes /etc/config, in busybox's awk."""
    return Content(
        name="uci",
        version=f"{BASE_FILES_VERSION}-{version_code}",
        summary="Utility for the Unified Configuration Interface",
        section="base",
        tree=guest_tree("uci"),
        depends=("busybox",),
    )


def applet_links(busybox: Entry) -> dict[str, Entry]:
    """A link for each applet of a busybox that runs on this machine, where busybox itself would put it."""
    places = run((str(busybox.source), "--list-full")).stdout.split()
    links: dict[str, Entry] = {}
    for place in places:
        path = f"/{place}"
        # not itself, and not /linuxrc, which is for old initial RAM disks
        if path != BUSYBOX and posixpath.dirname(path) != "/":
            links[path] = symlink(posixpath.relpath(BUSYBOX, posixpath.dirname(path)))
    return links


def ca_bundle(deb: Deb, tree: FileTree) -> Content:
    """All of Debian's CA certificates in one file, which OpenSSL reads by default."""
    certificates = [
        entry.source.read_bytes().rstrip() + b"\n"
        for path, entry in tree.items()
        if path.endswith(".crt") and entry.source is not None
    ]
    return Content(
        name="ca-bundle",
        version=deb.plain_version,
        summary="System CA certificates in one file",
        section="base",
        tree=FileTree({BUNDLE: file_of(b"".join(certificates))}),
        provides=("ca-certs",),  # single files would need hashed names, which Debian makes at installation
        depends=("libc",),
    )


def part_package(part: Part, deb: Deb, stage: FileTree, more: Sequence[str] = ()) -> Content:
    """A program or library by its rules in packages.toml; more: what it depends on besides. FilespecError
    where the stage lacks something."""
    own: dict[str, Entry] = dict(guest_tree(part.name)) if (GUEST / part.name).is_dir() else {}
    own |= {path: symlink(target) for path, target in part.links.items()}
    rules = parse("\n".join(part.rules), origin=f"packages.toml, {part.name}")
    tree = apply(rules, stage, FileTree(own), origin=f"packages.toml, {part.name}").tree
    if BUSYBOX in tree:
        tree = tree.merged(applet_links(tree[BUSYBOX]))
    libc = () if part.name in ("libc", "libgcc1") else ("libc",)
    plain = next((name for name in part.provides if part.name.startswith(name)), part.name)
    return Content(
        name=part.name,
        version=deb.plain_version,
        summary=part.summary,
        section=part.section,
        tree=tree,
        depends=(*libc, *part.depends, *more),
        provides=part.provides,
        abi_version=part.name.removeprefix(plain).lstrip("-"),
    )


def _modules_folder(kernel: Kernel) -> str:
    return f"/lib/modules/{kernel.release}"


def kernel_package(kernel: Kernel, version: str) -> Content:
    """What modules depend on. The kernel itself is in the ESP of the image."""
    builtin = kernel.folder / "modules.builtin"
    return Content(
        name="kernel",
        version=version,
        summary=f"Kernel {kernel.release}",
        section="sys",
        tree=FileTree({f"{_modules_folder(kernel)}/{builtin.name}": file_at(builtin)}),
    )


def module_package(module: Module, kernel: Kernel, version: str, loaded: Iterable[str]) -> Content:
    """Kernel modules and the list by which they are loaded at boot, without those that are loaded then."""
    there = set(loaded)
    names = [name for name in load_order(kernel, module.load) if name not in there]
    files: dict[str, Entry] = {
        f"{_modules_folder(kernel)}/{name}.ko": file_at(module_file(kernel, name)) for name in names
    }
    listed = "".join(f"{name}\n" for name in names)
    files[f"/etc/modules.d/{module.name.removeprefix('kmod-')}"] = file_of(listed.encode())
    return Content(
        name=module.name,
        version=version,
        summary=module.summary,
        section="kernel",
        tree=FileTree(files),
        depends=("kernel",),
    )


def system_packages(materials: Materials, version_code: str) -> list[Content]:
    """All of them. FilespecError where Debian lacks what packages.toml names."""
    plan, changes, debs = materials.recipe, materials.deviations, materials.debs
    kernel, version = materials.kernel, materials.kernel_version
    loaded = load_order(kernel, plan.initramfs_modules)
    return [
        base_files(materials.edition.release, version_code),
        uci(version_code),
        ca_bundle(debs[plan.certificates], materials.certificates),
        kernel_package(kernel, version),
        *(module_package(module, kernel, version, loaded) for module in plan.module),
        *(
            part_package(part, debs[part.debian], materials.main_stage, changes.dependencies_of(part.name))
            for part in plan.package
        ),
    ]
