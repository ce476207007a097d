"""Whether an image may be flashed on a board: would the device's own sysupgrade take it, is it whole, does
it fit; and the same of all images of a build, before they are handed over.

Each check is a line of its own. What sysupgrade itself leaves out (sizes, checksums, the root file system)
is checked too: OpenWrt's `mtd write` looks at no length before it erases.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from imagebuilder.config.board import Board, Profile
from imagebuilder.errors import UserError
from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats.formats import (
    CONTAINERS,
    FORMATS,
    Read,
    UnknownFormatError,
    read_image,
)
from imagebuilder.firmware.inspection import root_part, view_of
from imagebuilder.firmware.reader import ImageFormatError, Kernels, Reading, View, open_view
from imagebuilder.firmware.rootfs import NO_RULES, RootFs, SystemRules, read_rules, root_facts
from imagebuilder.firmware.squashfs.squashfs import MAGIC
from imagebuilder.firmware.subject import (
    Subject,
    choose_image,
    choose_profile,
    may_be_unknown,
    target_of,
)
from imagebuilder.firmware.verify_device import (
    identity_checks,
    metadata_checks,
    name_checks,
    tplink_checks,
    tplink_v2_checks,
)
from imagebuilder.firmware.verify_layout import (
    Shell,
    disk_checks,
    nor_checks,
    partition_checks,
    program_checks,
    read_shell,
    required_checks,
    service_checks,
    size_checks,
)
from imagebuilder.firmware.verify_machine import kernel_machine, machine_checks
from imagebuilder.host.beneath import BeneathError, head_beneath, read_beneath
from imagebuilder.host.files import read_plain
from imagebuilder.host.walk import Item, listed
from imagebuilder.log import Log
from imagebuilder.model.firmware import Check, Level, Outcome, Part, RootFacts, outcome_of
from imagebuilder.model.result import ImageFile, PackageSize, RootfsSizes

_LOOK_SECONDS = 0.02
_MOST_AHEAD = 64 << 20  # bytes: a larger one would be waited for too long when a build is interrupted
_ROOTLESS = ("kernel", "uimage")  # formats of images that have no root file system


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one image. root: of its root file system; None where it has none that can be read."""

    checks: tuple[Check, ...]
    root: RootFacts | None

    @property
    def outcome(self) -> Outcome:
        """Whether it may be flashed, and whether that can be told."""
        return outcome_of(self.checks)


def verify(path: Path, board: Board, *, image: str = "", release: str = "") -> tuple[Check, ...]:
    """Every check of an image file for a board; outcome_of says what they come to.

    image: its key in the board's file (`sysupgrade`), release: of OpenWrt; where they are not given, the
    file's name and contents tell. Raises UserError where the file cannot be read, HostError without
    squashfs-tools; whatever is wrong with the image is a check that failed.
    """
    return verify_all({path: image}, board, release=release)[0].checks


def verify_all(
    images: Mapping[Path, str],
    board: Board,
    *,
    release: str = "",
    ahead: Ahead | None = None,
) -> tuple[Verified, ...]:
    """As verify(), for several images of one build, by their files: what each is, in that order. A root file
    system that several of them hold is unpacked and looked through once, and so is a kernel. ahead: those
    that were before."""
    before = Ahead() if ahead is None else ahead
    with ThreadPoolExecutor() as pool:  # most of it is unpacking
        reads = list(pool.map(partial(_read, kernels=before.kernels), images))
    claims = {
        path: _Claim(read, board, path.name, image, release)
        for (path, image), read in zip(images.items(), reads, strict=True)
        if isinstance(read, Read)
    }
    roots: dict[bytes, SeenRoot] = {}
    contents: dict[Path, bytes] = {}
    for path, claim in claims.items():
        part = root_part(claim.read)
        contents[path] = b"" if part is None or part.data is None else hashlib.sha256(part.data).digest()
        if contents[path] not in roots:
            roots[contents[path]] = _looked(contents[path], part, before.roots)
    found = []
    for (path, image), read in zip(images.items(), reads, strict=True):
        if isinstance(read, ImageFormatError):
            unknown = isinstance(read, UnknownFormatError) and may_be_unknown(board, path.name, image)
            level: Level = "unsure" if unknown else "error"
            check = Check("format of the image", "one that is known", read.message, False, level)
            found.append(Verified((check,), None))
            continue
        root = roots[contents[path]]
        subject, own_checks = _subject(claims[path], root)
        of_parts = read_checks(read, subject.image.tail)
        if subject.image.format not in CONTAINERS:  # nobody knows what has to lie where in such a file
            of_parts = tuple(replace(one, level="unsure") if one.refuses else one for one in of_parts)
        checks = (
            *of_parts,
            *root.checks,
            *program_checks(root.shell, claims[path].profile(root.facts)[0].arch),
            *own_checks,
            *_subject_checks(subject),
        )
        found.append(Verified((*checks, *identity_checks(checks, board)), root.facts))
    return tuple(found)


def _read(path: Path, kernels: Kernels) -> Read | ImageFormatError:
    view = open_view(path)
    try:
        return read_image(view, kernels)
    except ImageFormatError as error:
        return error


def read_checks(read: Read, tail: str | None = None) -> tuple[Check, ...]:
    """What the parts say of themselves: checksums, lengths, structure. tail: the text that has to end the
    image, for a vendor's boot loader."""
    wanted = (tail or "").encode("ascii")
    end = read.image.offset + read.body_size
    found: list[Check] = []
    ended = False
    for part in read.part.walk():
        data = bytes(part.data) if tail and part.kind == "data" and part.data is not None else b""
        if tail and data == wanted and part.offset + part.size == end:
            ended = True
        else:
            found += part.checks
    if tail:
        shown = tail if ended else "another one or none"
        found.append(holds("text at the end of the image", ended, expected=tail, found=shown))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Claim:
    """An image, and what somebody says that it is."""

    read: Read
    board: Board
    name: str
    image: str
    release: str

    def profile(self, facts: RootFacts | None) -> tuple[Profile, tuple[Check, ...]]:
        """The board's profile for it, and what speaks for that."""
        target, stated = target_of(self.read, facts)
        return choose_profile(self.board, target, self.release or stated)


@dataclass(frozen=True, slots=True)
class SeenRoot:
    """What a root file system says, all of it read, and the checks that no board is needed for."""

    facts: RootFacts | None = None
    rules: SystemRules = NO_RULES
    shell: Shell | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Ahead:
    """What was looked at while make ran. roots: file systems, by the SHA-256 of their squashfs."""

    roots: Mapping[bytes, SeenRoot] = field(default_factory=dict)
    kernels: Kernels = field(default_factory=Kernels)


def look_through(root: RootFs) -> SeenRoot:
    """Unpack a root file system and read it. ImageFormatError where it is damaged, HostError without
    squashfs-tools or space."""
    with root.unpacked(root.index.files) as unpacked:
        count = sum(1 for file in root.index.files if file.kind == "file")
        readable = Check("root filesystem", "readable to its last block", f"{count} files", True)
        return SeenRoot(
            root_facts(root, unpacked),
            read_rules(root, unpacked),
            read_shell(root, unpacked),
            (readable, *required_checks(root), *service_checks(root, unpacked)),
        )


def known_kernels(files: Iterable[Path]) -> Kernels:
    """The kernels in files that images are made of, where they are there and whole."""
    kernels = Kernels()
    for file in files:
        with suppress(UserError):
            reading = Reading(FORMATS, kernels=kernels)
            for part in reading.inside(View(read_plain(file, _MOST_AHEAD)), "kernel").walk():
                kernel_machine(part, kernels)
    return kernels


def look_ahead(tree: Path, folder: str, ended: threading.Event) -> dict[bytes, SeenRoot]:
    """The root file systems that make packs (root.squashfs) in a folder of its view, each looked through as
    soon as it is whole, while make goes on; by the SHA-256 of their bytes, so that one that changes later is
    read again.

    ended: set when make has ended; what is not found by then is left to verify_all(), and so is to say what
    is wrong with a damaged one.
    """
    seen: dict[bytes, SeenRoot] = {}
    known: set[tuple[str, int, int]] = set()
    while not ended.wait(_LOOK_SECONDS):
        for item in _packed(tree, folder):
            with suppress(UserError, FileNotFoundError):
                state = (item.path, item.status.st_mtime_ns, item.status.st_size)
                # mksquashfs writes the superblock last of all; what make still writes to is not mapped
                whole = state[2] <= _MOST_AHEAD and head_beneath(tree, item.path, len(MAGIC)) == MAGIC
                if state in known or not whole:
                    continue
                known.add(state)
                root = RootFs(View(read_beneath(tree, item.path, _MOST_AHEAD)))
                content = hashlib.sha256(root.view.raw).digest()
                if content not in seen:
                    seen[content] = look_through(root)
    return seen


def _packed(tree: Path, folder: str) -> list[Item]:
    try:
        found = listed(tree, folder)
    except (FileNotFoundError, NotADirectoryError, BeneathError):
        return []
    return [
        item for item in found if item.is_file and item.path.rpartition("/")[2].startswith("root.squashfs")
    ]


def _looked(content: bytes, part: Part | None, ahead: Mapping[bytes, SeenRoot]) -> SeenRoot:
    """A root file system; no facts where there is none or it is damaged."""
    try:
        return ahead.get(content) or (SeenRoot() if part is None else look_through(RootFs(view_of(part))))
    except ImageFormatError as error:
        failed = Check("root filesystem", "readable to its last block", error.message, False)
        return SeenRoot(checks=(failed,))


def _subject(claim: _Claim, root: SeenRoot) -> tuple[Subject, tuple[Check, ...]]:
    """What the image is to be, and the checks of that."""
    profile, profile_checks = claim.profile(root.facts)
    part = claim.read.unwrapped
    kind, image, format_check = choose_image(claim.board, profile, part, claim.name, claim.image)
    board = claim.board.for_profile(profile)
    release = claim.release or target_of(claim.read, root.facts)[1]
    subject = Subject(claim.read, board, profile, kind, image, root.facts, root.rules, release)
    return subject, (format_check, *(profile_checks if image.format not in _ROOTLESS else ()))


def _subject_checks(subject: Subject) -> Iterator[Check]:
    part, image = subject.part, subject.image
    if part.kind == "tplink-v1" and (subject.board.tplink is not None or image.format in CONTAINERS):
        yield from tplink_checks(part, subject.board, kind=subject.kind)
    if part.kind == "tplink-v2":
        yield from tplink_v2_checks(part, subject.board)
    if subject.facts is None and image.format in CONTAINERS and image.format not in _ROOTLESS:
        other = part.find("ext4", "ubifs") is not None
        found = "another file system, which is not looked into" if other else "none"
        level: Level = "warning" if other else "error"
        yield Check("root filesystem", "a squashfs that can be read", found, False, level)
    yield from metadata_checks(subject)
    yield from name_checks(subject)
    yield from machine_checks(subject)
    yield from size_checks(subject)
    yield from partition_checks(subject)
    yield from nor_checks(subject)
    yield from disk_checks(subject)


class UnsafeImageError(UserError):
    """What was built must not be flashed on its board."""


def check_flashable(
    board: Board,
    images: Sequence[ImageFile],
    folder: Path,
    release: str,
    log: Log,
    *,
    unread: Collection[str] = (),
    ahead: Ahead | None = None,
) -> dict[str, Verified]:
    """What was found of each image, by its file. UnsafeImageError, a line each, for what speaks against
    flashing one of them; HostError without squashfs-tools. An image of which no check could be made is a
    warning; one in which nothing says what it is for is a note: make has just made it for this profile.
    unread: types of
    images in which nobody knows what has to lie where: what speaks against them is a warning. ahead: as for
    verify_all()."""
    types = {folder / image.file: image.type for image in images}
    found = verify_all(types, board, release=release, ahead=ahead)
    refused: list[str] = []
    untold: list[str] = []
    for image, verified in zip(images, found, strict=True):
        if not passed(verified):
            said = "; ".join(check.found for check in verified.checks)
            log.warn(f"{image.type}: not checked, but for its size: {said}")
        elif verified.outcome == "cannot be told":
            untold.append(image.type)
        against = [
            f"{image.type}: {check.what}: expected {check.expected}, found {check.found}"
            for check in verified.checks
            if check.refuses
        ]
        if image.type in unread:
            for line in against:
                log.warn(f"{line} (of a format that is not known here, so that this may be as it should)")
        else:
            refused += against
    if untold:
        log.note(f"{', '.join(untold)}: for {board.id} because make says so; the images themselves do not")
    if refused:
        raise UnsafeImageError(
            f"what make built must not be flashed on {board.id}:\n" + "\n".join(refused),
            hint="if the board's file is wrong, put it right; else the tree or the builder is at fault",
        )
    return dict(zip((image.file for image in images), found, strict=True))


def passed(verified: Verified) -> int:
    """How many checks an image passed."""
    return sum(check.ok for check in verified.checks)


def rootfs_sizes(images: Mapping[str, Verified]) -> RootfsSizes | None:
    """What each package takes of the real root file system, compressed; None where no image, by its file, has
    one that can be read."""
    for file, verified in images.items():
        root = verified.root
        if root is not None:
            sizes = [PackageSize(**asdict(share)) for share in root.shares]
            return RootfsSizes(image=file, stored=root.stored, tables=root.tables, packages=tuple(sizes))
    return None
