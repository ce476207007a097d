"""apk 3's packages, from 25.12 on: made by the tree's own `apk mkpkg`, as OpenWrt's build makes them.

Source: include/package-pack.mk of 25.12; apk-tools 3, src/app_mkpkg.c.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from imagebuilder.host.beneath import is_plain
from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.host.handover import whole_file
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.sandbox import PrivateView, scratch_folder
from imagebuilder.log import Log
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.apk.reader import SCRIPTS
from imagebuilder.packages.opkg.ipk import NAME, PackageFile, PackageFileError
from imagebuilder.rootfs.files import content_size, write_tree
from imagebuilder.rootfs.tree import LocalPackage

PROGRAM = "staging_dir/host/bin/apk"
MKPKG_SECONDS = 300.0
ANY_ARCHITECTURES = {"all": "noarch"}
ABI_TAG = "openwrt:abiversion="
# what Package.extra holds under opkg's names
_EXTRA = {
    **{"License": "license", "Source": "origin", "Maintainer": "maintainer", "URL": "url"},
    **{"Provider-Priority": "provider-priority", "Install-If": "install-if"},
}


def apk_name(package: Package) -> str:
    """The file name that OpenWrt gives a package."""
    return f"{package.name}-{package.version}.apk"


def package_info(package: Package) -> dict[str, str]:
    """What mkpkg is told of a package, by apk's names. PackageFileError for facts that apk cannot hold."""
    if not NAME.fullmatch(package.name):
        raise PackageFileError(
            f"{package.name!r} cannot be the name of a package", hint="letters, digits, + . _ -"
        )
    several = next((group for group in package.depends if len(group) != 1), None)
    if several is not None:
        raise PackageFileError(
            f"{package.name}: apk knows no alternatives such as {' | '.join(map(str, several))}",
            hint="depend on one of them",
        )
    versions = dict(package.provided_versions)
    depends = [
        *(_term(group[0]) for group in package.depends),
        *(f"!{_term(each)}" for each in package.conflicts),
    ]
    provides = [f"{name}={versions[name]}" if name in versions else name for name in package.provides]
    info = {
        "name": package.name,
        "version": package.version,
        "tags": f"{ABI_TAG}{package.abi_version}" if package.abi_version else "",
        "description": package.description,
        "arch": ANY_ARCHITECTURES.get(package.architecture, package.architecture),
        **{apks: package.extra.get(name, "") for name, apks in _EXTRA.items()},
        "provides": " ".join(provides),
        "replaces": " ".join(map(_term, package.replaces)),
        "depends": " ".join(depends),
    }
    return {name: value for name, value in info.items() if value}


def _term(dependency: Dependency) -> str:
    """As apk writes it."""
    return f"{dependency.name}{dependency.operator or ''}{dependency.version or ''}"


def write_apk(
    folder: Path, made: LocalPackage, view: PrivateView, work: Path, log: Log, *, epoch: int
) -> PackageFile:
    """Write NAME-VERSION.apk into a folder, by the apk of the tree in the view.

    work: the folder that the view shows as view.work. epoch: the time of everything in it, in seconds since
    1970 (SOURCE_DATE_EPOCH). Raises PackageFileError for bad facts or scripts and in apk's own words,
    HostError for a full disk.
    """
    if not view.sandboxed and os.geteuid() != 0:
        raise PackageFileError(
            f"{made.package.name}: apk takes the owners of files as they are, and here they are not root's",
            hint="build in the sandbox, without --no-sandbox",
        )
    unknown = sorted(made.scripts.keys() - set(SCRIPTS))
    if unknown:
        raise PackageFileError(
            f"{made.package.name}: {unknown[0]} is no script of apk", hint=f"they are {', '.join(SCRIPTS)}"
        )
    with scratch_folder(work) as scratch:
        _mkpkg(made, view, scratch, log, epoch=epoch)
        place = folder / apk_name(made.package)
        with disk_errors_explained(folder), whole_file(place) as new:
            shutil.copyfile(scratch / "made", new)
    unpacked = sum(map(content_size, made.tree.values()))
    size, sha256 = place.stat().st_size, sha256_of(place)
    package = replace(made.package, filename=place.name, size=size, installed_size=unpacked, sha256=sha256)
    return PackageFile(place, package)


def _mkpkg(made: LocalPackage, view: PrivateView, scratch: Path, log: Log, *, epoch: int) -> None:
    """Run mkpkg; the package is `made` in the scratch folder."""
    info = package_info(made.package).items()
    inside = view.work / "tmp" / scratch.name
    write_tree(made.tree, scratch / "files", mtime=epoch)
    (scratch / "scripts").mkdir()
    for name, script in made.scripts.items():
        (scratch / "scripts" / name).write_bytes(script)
    argv = [PROGRAM, "mkpkg", "--no-xattrs"]
    argv += ["--files", str(inside / "files"), "--output", str(inside / "made")]
    argv += [word for name, value in info for word in ("--info", f"{name}:{value}")]
    argv += [word for name in made.scripts for word in ("--script", f"{name}:{inside}/scripts/{name}")]
    env = clean_environment(SOURCE_DATE_EPOCH=str(epoch), HOME=str(inside))
    watch = view.watch(f"making the package {made.package.name}")
    done = run(view.command(argv), env=env, timeout=MKPKG_SECONDS, check=False, log=log, watch=watch)
    if done.code != 0 or not is_plain(scratch, "made"):
        raise PackageFileError(
            f"the tree's apk cannot make {apk_name(made.package)}:\n{done.stderr or done.stdout}",
            hint="put right what it names",
        )
