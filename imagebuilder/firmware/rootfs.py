"""The root file system of an image: its contents, and what it says of itself and of the sysupgrade it brings.

It is unpacked by squashfs-tools into a folder of our own that is gone afterwards. What is unpacked was looked
through before (squashfs/index.py): no name leads out of the folder, and only regular files are asked for, so
that links and devices are never made. OpenWrt's mksquashfs writes 12 bytes of options for xz where Debian's
squashfs-tools expect 8, which the latter take for an error; the copy that they get says it has none.

A running OpenWrt compares its board name (/tmp/sysinfo/board_name) with the names in an image's metadata. Up
to 19.07 scripts of the target say it (lib/ramips.sh: `*"GL-MT300N-V2") name="gl-mt300n-v2"`); where none
does, it is the first name in the device tree's `compatible` (base-files, lib/preinit/02_sysinfo).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.squashfs.index import SquashfsIndex, read_index
from imagebuilder.firmware.squashfs.squashfs import superblock
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import clean_environment, run
from imagebuilder.model.control import ControlError, paragraphs, parse_fields
from imagebuilder.model.firmware import PackageShare, PythonInside, RootFacts, RootFile

UNPACK_SECONDS = 120.0
_QUEUE_MIB = "32"
_FLAGS_AT, _HAS_OPTIONS = 0x18, 0x0400
_SHOWN_LINES = 3
_MODE_READABLE = 0o600


class RootFs:
    """A root file system: its files, and their contents when asked for."""

    def __init__(self, view: View) -> None:
        """ImageFormatError for a squashfs that is damaged or has names that no folder may have."""
        self.view = view.first(superblock(view).bytes_used)
        self.index: SquashfsIndex = read_index(self.view)

    def _copy(self, place: Path) -> None:
        head = bytearray(self.view.take(0, 96))
        flags = int.from_bytes(head[_FLAGS_AT : _FLAGS_AT + 2], "little") & ~_HAS_OPTIONS
        head[_FLAGS_AT : _FLAGS_AT + 2] = flags.to_bytes(2, "little")
        with place.open("wb") as stream:
            stream.write(head)
            stream.write(self.view.raw[len(head) :])

    @contextmanager
    def unpacked(self, files: Iterable[RootFile]) -> Iterator[Path]:
        """A folder that holds these regular files below their paths, and is gone afterwards.

        Raises ImageFormatError where one of them cannot be read whole, HostError without squashfs-tools or
        space.
        """
        wanted = [file for file in files if file.kind == "file"]
        with temporary_folder("scratch") as scratch, disk_errors_explained(scratch):
            image, names, root = (scratch / name for name in ("image", "names", "root"))
            root.mkdir()
            if wanted:
                self._copy(image)
                names.write_text("".join(f"{_pattern(file.path)}\n" for file in wanted), "utf-8")
                self._unsquash(image, names, root)
                image.unlink()
            for file in wanted:
                _check(root, file)
            yield root

    def _unsquash(self, image: Path, names: Path, root: Path) -> None:
        argv = ["unsquashfs", "-no-progress", "-no-xattrs", "-force", "-dest", str(root)]
        argv += ["-data-queue", _QUEUE_MIB, "-frag-queue", _QUEUE_MIB, "-ef", str(names), str(image)]
        ended = run(argv, env=clean_environment(), timeout=UNPACK_SECONDS, check=False)
        if ended.code != 0 or ended.stderr.strip():
            said = "; ".join(ended.stderr.replace(str(root), "").strip().splitlines()[:_SHOWN_LINES])
            reason = said or f"unsquashfs exited with {ended.code}"
            raise ImageFormatError(f"the root filesystem cannot be read to its last block: {reason}")

    def read(self, path: str) -> bytes:
        """A file's contents, links followed. UserError where there is no such file."""
        file = self.index.resolve(path)
        if file is None or file.kind != "file":
            near = ", ".join(
                sorted(other.path for other in self.index.files if other.path.startswith(path))[:5]
            )
            raise UserError(
                f"the image has no file {path}" if file is None else f"{path} in the image is a {file.kind}",
                hint=f"there is {near}" if near else "`ls` shows what is there",
            )
        with self.unpacked([file]) as root:
            return place_of(root, file).read_bytes()


def place_of(root: Path, file: RootFile) -> Path:
    """Where a file lies in a folder that it was unpacked into."""
    return root / file.path.lstrip("/")


def _pattern(path: str) -> str:
    """unsquashfs takes names for patterns of the shell."""
    return re.sub(r"([^A-Za-z0-9/._-])", r"\\\1", path)


def _check(root: Path, file: RootFile) -> None:
    place = place_of(root, file)
    if not place.is_file() or place.stat().st_size != file.size:
        raise ImageFormatError(
            f"the root filesystem cannot be read to its last block: {file.path} is not whole"
        )
    place.chmod(file.mode & 0o777 | _MODE_READABLE)


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


def owners_of(
    files: Iterable[RootFile], packages: Mapping[str, str], listed: Mapping[str, str]
) -> dict[str, str]:
    """Whose each path is; opkg's own files of a package are its too. listed: what packages say they have."""
    owners = dict(listed)
    for file in files:
        if file.path.startswith(f"{OPKG}/info/") and file.path not in owners:
            base = file.path.rpartition("/")[2].rpartition(".")[0]
            if base in packages:
                owners[file.path] = base
    return owners


def shares(
    files: Iterable[RootFile], packages: Mapping[str, str], owners: Mapping[str, str]
) -> tuple[PackageShare, ...]:
    """What each package takes, the largest first."""
    sums: dict[str, list[int]] = {}
    for file in files:
        if file.kind == "folder" and file.stored == 0:
            continue
        total = sums.setdefault(owners.get(file.path, ""), [0, 0, 0])
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
    owners = owners_of(root.index.files, packages, {**apk_owners, **_opkg_owners(root, unpacked)})
    return RootFacts(
        parse_release(text(RELEASE)),
        dict(sorted(packages.items())),
        python_inside(packages, root.index.files),
        shares(root.index.files, packages, owners),
        root.index.files,
        root.index.tables,
        root.index.stored,
        {file.path: owners[file.path] for file in root.index.files if file.path in owners},
    )


_PLATFORM = "/lib/upgrade/platform.sh"
_REQUIRED = re.compile(rb"^REQUIRE_IMAGE_METADATA=1\b", re.MULTILINE)
_SCRIPTS = re.compile(r"/lib/[a-z0-9_-]+\.sh|/lib/preinit/[0-9]+_sysinfo[a-z0-9_-]*")
_MOST_BYTES = 256 << 10
_PATTERNS = re.compile(r"""[*"'A-Za-z0-9].{0,200}""")
_NAME = re.compile(r"""(?:name|board)="([A-Za-z0-9][!#-~]{0,80})\"""")


@dataclass(frozen=True, slots=True)
class SystemRules:
    """What the system in an image does at the next sysupgrade. requires_metadata: None where it has no
    script that would say so. names: patterns of a shell's `case` over the model, to the board's name."""

    requires_metadata: bool | None = None
    names: tuple[tuple[str, str], ...] = ()

    def board_name(self, model: str) -> str:
        """What the device with this model in its device tree is called; empty where no script says it."""
        return next((name for pattern, name in self.names if _glob(pattern, model)), "")


NO_RULES = SystemRules()


def read_rules(root: RootFs, unpacked: Path) -> SystemRules:
    """The rules of a root file system whose files lie in a folder."""
    required: bool | None = None
    names: list[tuple[str, str]] = []
    for file in root.index.files:
        if file.kind != "file" or file.size > _MOST_BYTES:
            continue
        if file.path == _PLATFORM:
            required = _REQUIRED.search(place_of(unpacked, file).read_bytes()) is not None
        elif _SCRIPTS.fullmatch(file.path):
            names += cases_of(place_of(unpacked, file).read_text("utf-8", "replace"))
    return SystemRules(required, tuple(names))


def cases_of(script: str) -> list[tuple[str, str]]:
    """The arms of a shell's `case` that do nothing first but set `name` or `board`: pattern and name."""
    found: list[tuple[str, str]] = []
    patterns: list[str] = []
    whole = False
    for line in (text.strip() for text in script.splitlines()):
        named = _NAME.fullmatch(line.rstrip(";").rstrip())
        if whole and named is not None:
            found += [(pattern, named[1]) for pattern in patterns]
        begun = [] if whole else patterns
        patterns, whole = [], False
        more = line.removesuffix("\\").rstrip()
        if line.endswith(")") and _PATTERNS.fullmatch(line[:-1]):
            patterns, whole = [*begun, *_alternatives(line[:-1])], True
        elif more.endswith("|") and _PATTERNS.fullmatch(more):
            patterns = [*begun, *_alternatives(more[:-1])]
    return found


def _alternatives(text: str) -> list[str]:
    return [one.strip() for one in text.split("|") if one.strip(" *\"'")]


def _glob(pattern: str, text: str) -> bool:
    """Whether a shell's pattern fits; only `*` is special, and only outside of quotes."""
    quoted, pieces = "", [""]
    for sign in pattern:
        if sign in "\"'" and quoted in ("", sign):
            quoted = "" if quoted else sign
        elif sign == "*" and not quoted:
            pieces.append("")
        else:
            pieces[-1] += sign
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    at, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return at <= end
