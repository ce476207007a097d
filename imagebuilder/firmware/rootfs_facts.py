"""What a root file system says of itself: release, packages (opkg and apk), whose files take how much,
Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagebuilder.firmware.reader import ImageFormatError
from imagebuilder.firmware.rootfs import RootFs, place_of
from imagebuilder.model.control import ControlError, paragraphs, parse_fields
from imagebuilder.model.firmware import PackageShare, PythonInside, RootFacts, RootFile

OPKG = "/usr/lib/opkg"
APK_INSTALLED = "/lib/apk/db/installed"
RELEASE = "/etc/openwrt_release"
_MOST_STATUS = 16 << 20
_RELEASE_LINE = re.compile(r"DISTRIB_([A-Z]+)=(['\"]?)(.*)\2")
_INTERPRETER = re.compile(r"/usr/bin/python(\d\.\d+)")
# the package that stands for each variant, the largest first; what configs call it
_VARIANTS = (
    ("python3", "full"),
    ("python3-light", "light"),
    ("python3-base", "base"),
    ("python", "python2-full"),
    ("python-light", "python2-light"),
    ("python-base", "python2-base"),
)


def needed_files(root: RootFs) -> list[RootFile]:
    """The files that root_facts reads."""
    return [
        file
        for file in root.index.files
        if file.kind == "file"
        and (
            file.path in (RELEASE, APK_INSTALLED, f"{OPKG}/status")
            or (file.path.startswith(f"{OPKG}/info/") and file.path.endswith(".list"))
        )
    ]


def _text(place: Path) -> str:
    if not place.is_file():
        return ""
    if place.stat().st_size > _MOST_STATUS:
        raise ImageFormatError(f"{place.name} in the image has more than {_MOST_STATUS} bytes")
    return place.read_text("utf-8", "replace")


def parse_release(text: str) -> dict[str, str]:
    """/etc/openwrt_release as names, without DISTRIB_, to values."""
    found = (_RELEASE_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1]: match[3] for match in found if match is not None}


def parse_status(text: str) -> dict[str, str]:
    """opkg's list of installed packages as names to versions. ImageFormatError where it cannot be read."""
    packages: dict[str, str] = {}
    for _, paragraph in paragraphs(text):
        try:
            fields = parse_fields(paragraph)
        except ControlError as error:
            raise ImageFormatError(f"the image's package list {OPKG}/status: {error.message}") from error
        if fields.get("Status", "installed").split(" ")[-1] == "installed" and "Package" in fields:
            packages[fields["Package"]] = fields.get("Version", "")
    return packages


def parse_apk(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """apk's list of installed packages: names to versions, and paths to the packages that own them.

    Lines of one letter, a colon and a value (apk-tools, `apk-db`): P name, V version, F folder, R file in it.
    """
    packages: dict[str, str] = {}
    owners: dict[str, str] = {}
    name = folder = ""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            name = folder = ""
        elif key == "P":
            name = value
            packages[name] = ""
        elif key == "V" and name:
            packages[name] = value
        elif key == "F":
            folder = value
        elif key == "R" and name:
            owners[f"/{folder}/{value}".replace("//", "/")] = name
    return packages, owners


def _opkg_owners(root: RootFs, unpacked: Path) -> dict[str, str]:
    owners: dict[str, str] = {}
    for file in root.index.files:
        if file.path.startswith(f"{OPKG}/info/") and file.path.endswith(".list"):
            name = file.path.rpartition("/")[2].removesuffix(".list")
            for line in _text(place_of(unpacked, file)).splitlines():
                owners.setdefault("/" + line.split("\t")[0].strip().lstrip("/"), name)
    return owners


def shares(
    files: Iterable[RootFile], packages: Mapping[str, str], owners: Mapping[str, str]
) -> tuple[PackageShare, ...]:
    """What each package takes, the largest first; opkg's own files of a package count for it."""
    sums: dict[str, list[int]] = {}
    for file in files:
        if file.kind == "folder" and file.stored == 0:
            continue
        name = owners.get(file.path)
        if name is None and file.path.startswith(f"{OPKG}/info/"):
            base = file.path.rpartition("/")[2].rpartition(".")[0]
            name = base if base in packages else None
        total = sums.setdefault(name or "", [0, 0, 0])
        total[0] += file.stored
        total[1] += file.size
        total[2] += 1
    found = [PackageShare(name, packages.get(name, ""), *numbers) for name, numbers in sums.items()]
    return tuple(sorted(found, key=lambda share: (-share.stored, share.name)))


def python_inside(packages: Mapping[str, str], files: Iterable[RootFile]) -> PythonInside | None:
    """The interpreter: by the package list, and where that is missing by the interpreter's own name."""
    for name, variant in _VARIANTS:
        if name in packages:
            # the base is CPython itself; what stands above it may have a version of its own
            base = f"{name.split('-')[0]}-base"
            source = base if base in packages else name
            return PythonInside(re.split(r"[-~+]", packages[source])[0], variant, source)
    for name in sorted(packages):
        if name.split("-")[0] == "micropython":
            return PythonInside(packages[name], "micropython", name)
    for file in files:
        found = _INTERPRETER.fullmatch(file.path)
        if found is not None:
            return PythonInside(found[1], "", "")
    return None


def root_facts(root: RootFs, unpacked: Path) -> RootFacts:
    """The facts, from a folder that holds the needed_files. ImageFormatError for lists it cannot read."""

    def text(path: str) -> str:
        file = root.index.get(path)
        return "" if file is None else _text(place_of(unpacked, file))

    apk_packages, apk_owners = parse_apk(text(APK_INSTALLED))
    packages = {**apk_packages, **parse_status(text(f"{OPKG}/status"))}
    owners = {**apk_owners, **_opkg_owners(root, unpacked)}
    return RootFacts(
        parse_release(text(RELEASE)),
        dict(sorted(packages.items())),
        python_inside(packages, root.index.files),
        shares(root.index.files, packages, owners),
        root.index.files,
        root.index.tables,
        root.index.stored,
    )
