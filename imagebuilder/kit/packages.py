"""The kit's packages: base-files, busybox, kernel and modules, libraries, dropbear, and CPython with its
companions, cut by OpenWrt's filespecs and compiled to bytecode.

What users get to cut their own packages with is used here in earnest: rootfs.filespec, python.bytecode and
python.catalogue. Debian's deviations are those of the edition's file and no others.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.run import run
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.layout import ARCHITECTURE, BOARD, DISTRIBUTION, SUBTARGET
from imagebuilder.kit.materials import MAIN, Kernel, Materials, load_order, module_file
from imagebuilder.kit.recipe import GUEST, CutPackage, DeviationError, Deviations, Module, present_rules
from imagebuilder.log import Log
from imagebuilder.python.bytecode.bytecode import Interpreter, ship, source_tree
from imagebuilder.python.catalogue.catalogue import Catalogue, PythonPackage
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.filespec import apply, from_triples, parse
from imagebuilder.rootfs.shellglob import expand
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


def part_package(part: CutPackage, deb: Deb, stage: FileTree, more: Sequence[str] = ()) -> Content:
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


SECTION = "lang"
_LOADER = "ld-linux-x86-64.so.2"


def kit_interpreter(unpacked: Path, catalogue: Catalogue) -> Interpreter:
    """The kit's own Python, run on this machine through its own loader and libraries, straight out of the
    folder into which Debian's packages were unpacked."""
    # Debian 13 has all of /lib in /usr/lib
    folders = [unpacked / place / "x86_64-linux-gnu" for place in ("lib", "usr/lib")]
    loaders = [folder / _LOADER for folder in folders if (folder / _LOADER).exists()]
    if not loaders:
        raise DeviationError(f"Debian's libc6 has no {_LOADER} where it should be")
    return Interpreter(
        argv=(
            str(loaders[0]),
            "--library-path",
            ":".join(map(str, folders)),
            str(unpacked / f"usr/bin/python{catalogue.python}"),
        ),
        python=catalogue.python,
        magic_number=catalogue.magic_number,
        environment={"PYTHONHOME": str(unpacked / "usr")},
    )


def _hook_tree(package: PythonPackage, stage: FileTree, changes: Deviations) -> FileTree:
    """What a package's install hook makes, and what the kit adds to that. DeviationError where the stage
    lacks what is to be copied."""
    entries: dict[str, Entry] = changes.added_to(package.name)
    left_out = changes.hook_paths(package.name)
    unknown = left_out - {step.path for step in package.install_hook}
    if unknown:
        raise DeviationError(f"the hook of {package.name} has no step for {', '.join(sorted(unknown))}")
    if not package.standard_library:  # OpenWrt's generic hook: all programs
        entries |= {path: stage[path] for path in stage.children("/usr/bin")}
    for step in package.install_hook:
        if step.kind == "mkdir":
            entries[step.path] = folder()
        elif step.kind == "symlink":
            entries[step.path] = symlink(step.argument)
        else:
            found = expand(stage, step.path)
            if bool(found) == (step.path in left_out):
                raise DeviationError(
                    f"{package.name} copies {step.path}, of which Debian has {len(found)}, "
                    f"and its deviations say otherwise"
                )
            for path in found:
                entries[f"{step.argument.rstrip('/')}/{path.rpartition('/')[2]}"] = stage[path]
    return FileTree(entries)


def _cut(package: PythonPackage, stage: FileTree, changes: Deviations) -> FileTree:
    """A package's files before they are compiled. Raises FilespecError and DeviationError."""
    rules = from_triples(package.filespec, origin=f"the filespec of {package.name}")
    present = present_rules(package.name, rules, stage, changes)
    hook = _hook_tree(package, stage, changes)
    return apply(present, stage, hook, origin=f"the filespec of {package.name}").tree


def _content(
    package: PythonPackage, tree: FileTree, version: str, catalogue: Catalogue, changes: Deviations
) -> Content:
    def index_name(name: str) -> str:
        return catalogue.packages[name].name_in_index if name in catalogue.packages else name

    depends = (*map(index_name, package.depends), *changes.dependencies_of(package.name))
    return Content(
        name=package.name_in_index,
        version=version,
        summary=package.summary,
        section=SECTION,
        tree=tree,
        depends=("libc", *depends),
        provides=(package.name,) if package.name != package.name_in_index else (),
        abi_version=package.abi_version,
    )


def _source_content(package: PythonPackage, name: str, tree: FileTree, version: str) -> Content:
    return Content(
        name=name, version=version, summary=f"{package.summary} (sources)", section=SECTION, tree=tree
    )


def python_packages(materials: Materials, catalogue: Catalogue, log: Log) -> list[Content]:
    """Every Python package of the catalogue and its -src twin; their bytecode is in the scratch folder.

    Raises FilespecError and DeviationError where Debian's Python is not as stated, CompileError.
    """
    changes, debs = materials.deviations, materials.debs
    sites = {site.name: site for site in materials.recipe.site}
    cut = {
        name: _cut(package, materials.stages[name if name in sites else MAIN], changes)
        for name, package in catalogue.packages.items()
    }
    log.progress("compiling Python's standard library")
    # a package without a filespec is not processed: libpython3 keeps its empty lib-dynload
    processed = {name: tree for name, tree in cut.items() if catalogue.packages[name].filespec}
    interpreter = kit_interpreter(materials.main, catalogue)
    shipped = ship(processed, interpreter, materials.scratch / "bytecode", epoch=materials.epoch, log=log)
    contents = []
    for name, package in catalogue.packages.items():
        debian = sites[name].debian[0] if name in sites else materials.recipe.python[0]
        version = debs[debian].plain_version
        contents.append(_content(package, shipped.get(name, cut[name]), version, catalogue, changes))
        if package.src_name is not None:
            contents.append(_source_content(package, package.src_name, source_tree(cut[name]), version))
    return contents
