"""Whether an image may be flashed on a board: would the device's own sysupgrade take it, is it whole, does
it fit; and the same of all images of a build, before they are handed over.

Each check is a line of its own. What sysupgrade itself leaves out (sizes, checksums, the root file system)
is checked too: OpenWrt's `mtd write` looks at no length before it erases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from imagebuilder.config.board import Board, Profile
from imagebuilder.errors import UserError
from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats.formats import CONTAINERS, Read, UnknownFormatError, read_image
from imagebuilder.firmware.inspection import open_root, root_part
from imagebuilder.firmware.reader import ImageFormatError, open_view
from imagebuilder.firmware.rootfs import NO_RULES, SystemRules, read_rules, root_facts
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
    disk_checks,
    nor_checks,
    partition_checks,
    program_checks,
    required_checks,
    size_checks,
)
from imagebuilder.firmware.verify_machine import machine_checks
from imagebuilder.log import Log
from imagebuilder.model.firmware import Check, Level, Outcome, RootFacts, outcome_of
from imagebuilder.model.result import ImageFile, PackageSize, RootfsSizes

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


def verify_all(images: Mapping[Path, str], board: Board, *, release: str = "") -> tuple[Verified, ...]:
    """As verify(), for several images of one build, by their files: what each is, in that order. A root file
    system that several of them hold is unpacked and looked through once."""
    with ThreadPoolExecutor() as pool:  # most of it is unpacking
        reads = list(pool.map(_read, images))
    claims = {
        path: _Claim(read, board, path.name, image, release)
        for (path, image), read in zip(images.items(), reads, strict=True)
        if isinstance(read, Read)
    }
    groups: dict[bytes, list[Path]] = {}
    for path, claim in claims.items():
        part = root_part(claim.read)
        content = b"" if part is None or part.data is None else hashlib.sha256(part.data).digest()
        groups.setdefault(content, []).append(path)
    roots: dict[Path, _Root] = {}
    for paths in groups.values():
        roots.update(zip(paths, _roots([claims[path] for path in paths]), strict=True))
    found = []
    for (path, image), read in zip(images.items(), reads, strict=True):
        if isinstance(read, ImageFormatError):
            unknown = isinstance(read, UnknownFormatError) and may_be_unknown(board, path.name, image)
            level: Level = "unsure" if unknown else "error"
            check = Check("format of the image", "one that is known", read.message, False, level)
            found.append(Verified((check,), None))
            continue
        root = roots[path]
        subject, own_checks = _subject(claims[path], root)
        of_parts = read_checks(read, subject.image.tail)
        if subject.image.format not in CONTAINERS:  # nobody knows what has to lie where in such a file
            of_parts = tuple(replace(one, level="unsure") if one.refuses else one for one in of_parts)
        checks = (
            *of_parts,
            *root.checks,
            *own_checks,
            *_subject_checks(subject),
        )
        found.append(Verified((*checks, *identity_checks(checks, board)), root.facts))
    return tuple(found)


def _read(path: Path) -> Read | ImageFormatError:
    view = open_view(path)
    try:
        return read_image(view)
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
class _Root:
    """What a root file system says, and the checks of it."""

    facts: RootFacts | None = None
    rules: SystemRules = NO_RULES
    checks: tuple[Check, ...] = ()


def _roots(claims: Sequence[_Claim]) -> list[_Root]:
    """What the root file system that these images share says, with all of it read; no facts where there is
    none or it is damaged."""
    try:
        root = open_root(claims[0].read)
        if root is None:
            return [_Root() for _ in claims]
        with root.unpacked(root.index.files) as unpacked:
            count = sum(1 for file in root.index.files if file.kind == "file")
            facts, rules = root_facts(root, unpacked), read_rules(root, unpacked)
            checks = [Check("root filesystem", "readable to its last block", f"{count} files", True)]
            checks += required_checks(root)
            found = []
            for claim in claims:
                own = program_checks(root, unpacked, claim.profile(facts)[0].arch)
                found.append(_Root(facts, rules, (*checks, *own)))
            return found
    except ImageFormatError as error:
        failed = Check("root filesystem", "readable to its last block", error.message, False)
        return [_Root(checks=(failed,)) for _ in claims]


def _subject(claim: _Claim, root: _Root) -> tuple[Subject, tuple[Check, ...]]:
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
) -> dict[str, Verified]:
    """What was found of each image, by its file. UnsafeImageError, a line each, for what speaks against
    flashing one of them; HostError without squashfs-tools. An image of which no check could be made is a
    warning; one in which nothing says what it is for is a note: make has just made it for this profile.
    unread: types of
    images in which nobody knows what has to lie where: what speaks against them is a warning."""
    types = {folder / image.file: image.type for image in images}
    found = verify_all(types, board, release=release)
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
