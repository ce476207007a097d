"""A new board file from what a tree, or a release's list, knows of a device. What a person must fill in is
marked, and listed."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.board import REMOVABLE, UNKNOWN, Board, Profile
from imagebuilder.config.device import DeviceFacts, ImageFacts
from imagebuilder.config.library import UNSUPPORTED, Library
from imagebuilder.config.toml import parse_toml
from imagebuilder.errors import UserError
from imagebuilder.host.handover import write_new, write_whole
from imagebuilder.model.release import EMBEDDED, SNAPSHOT, Release, is_embedded
from imagebuilder.model.size import format_size, parse_size

FILL_IN = "FILL IN"
UNCHECKED = "until then build wants --accept-unchecked"
SCHEMA = "#:schema ../schemas/board.schema.json"

_DISKS = {"sd-card", "bios-disk", "efi-disk"}
_WIDTH = 35  # of what stands before a comment
# package architectures, by their beginnings, the longer ones first: QEMU's names for the processor, and the
# board that stands in. A processor of QEMU's that runs all that the compiler may use; sources: the targets'
# CPU_TYPE and CPU_SUBTYPE, include/target.mk, and `qemu-BINARY -cpu help` of QEMU 7.2
_PROCESSORS: tuple[tuple[str, str, str, str | None], ...] = (
    # DSP instructions: 24KEc and 34Kf have the first revision, 74Kf the second
    ("mips_24kec", "mips", "24KEc", "qemu-malta-be"),
    ("mips_34kc", "mips", "34Kf", "qemu-malta-be"),
    ("mips_74kc", "mips", "74Kf", "qemu-malta-be"),
    ("mips_24kc", "mips", "24Kc", "qemu-malta-be"),
    ("mips_4kec", "mips", "24Kc", "qemu-malta-be"),
    ("mips_mips32", "mips", "24Kc", "qemu-malta-be"),
    ("mipsel_1004kc", "mipsel", "34Kf", None),
    ("mipsel_24kec", "mipsel", "24KEc", None),
    ("mipsel_34kc", "mipsel", "34Kf", None),
    ("mipsel_74kc", "mipsel", "74Kf", None),
    ("mipsel_24kc_24kf", "mipsel", "24Kf", None),
    ("mipsel_24kc", "mipsel", "24Kc", None),
    ("mipsel_mips32", "mipsel", "24Kc", None),
    ("mips64_octeon", "mips64", "Octeon68XX", None),
    ("mips64_mips64r2", "mips64", "MIPS64R2-generic", None),
    ("mips64el_mips64r2", "mips64el", "MIPS64R2-generic", None),
    ("arm_arm1176", "arm", "arm1176", "qemu-armsr-armv7"),
    ("arm_arm926", "arm", "arm926", None),
    ("arm_cortex-a15", "arm", "cortex-a15", "qemu-armsr-armv7"),
    ("arm_cortex-a5", "arm", "cortex-a7", "qemu-armsr-armv7"),
    ("arm_cortex-a7", "arm", "cortex-a7", "qemu-armsr-armv7"),
    ("arm_cortex-a8", "arm", "cortex-a8", "qemu-armsr-armv7"),
    ("arm_cortex-a9", "arm", "cortex-a9", "qemu-armsr-armv7"),
    ("arm_fa526", "arm", "arm926", None),  # ARMv4, of which the arm926 knows all
    ("arm_mpcore", "arm", "arm11mpcore", None),
    ("arm_xscale", "arm", "pxa255", None),
    ("armeb_xscale", "armeb", "pxa255", None),
    ("aarch64_cortex-a72", "aarch64", "cortex-a72", "qemu-armsr-armv8"),
    ("aarch64_cortex-a76", "aarch64", "cortex-a76", "qemu-armsr-armv8"),
    ("aarch64_cortex-a53", "aarch64", "cortex-a53", "qemu-armsr-armv8"),
    ("aarch64_generic", "aarch64", "cortex-a53", "qemu-armsr-armv8"),
    ("aarch64_armv8-a", "aarch64", "cortex-a53", "qemu-armsr-armv8"),
    ("powerpc_464fp", "ppc", "460ex", None),
    ("powerpc_8540", "ppc", "mpc8540", None),
    ("powerpc_8548", "ppc", "mpc8548e", None),
    ("powerpc64_e5500", "ppc64", "e5500", None),
    ("i386_pentium4", "i386", "n270", None),
    ("i386_pentium-mmx", "i386", "pentium", None),
    ("i386_geode", "i386", "pentium3", None),
    ("riscv64_", "riscv64", "rv64", None),
    ("x86_64", "x86_64", "qemu64", "x86-64"),
)


@dataclass(frozen=True)
class WrittenBoard:
    """A board file that was written, and its places to fill in: (line from 1, what is wanted)."""

    path: Path
    fill_in: tuple[tuple[int, str], ...]


def board_id(profile: str) -> str:
    """The name that a board gets if nobody gives one: the profile's, in the way of board files."""
    return profile.lower().replace("_", "-")


def write_board(
    library: Library,
    facts: DeviceFacts,
    name: str | None = None,
    *,
    ram: int | None = None,
    flash: int | str | None = None,
    force: bool = False,
) -> WrittenBoard:
    """Write boards/NAME.toml; it is loaded first, so that what is written is known to load.

    name: that somebody chose; then there may be another board for this profile, which that one stands
    beside. ram, flash: bytes that somebody gave (flash: or "removable"), before what the tree says. Where
    that says nothing of images, those of a board for this profile are taken. UserError if there is such a
    board, or nobody chose a name and there is another one for this profile, and force is not set; FaultsError
    for figures that cannot be.
    """
    given, name = name, board_id(facts.profile) if name is None else name
    if not re.fullmatch(r"[a-z0-9][a-z0-9._+-]*", name) or name == UNSUPPORTED:
        raise UserError(f"'{name}' cannot be a board's name", hint="small letters, digits, and - inside")
    path, there = library.root / "boards" / f"{name}.toml", library.board_path(name)
    over = "puts yours in its place" if library.comes_along(there) else "writes over it"
    exists = UserError(
        f"there is a board '{name}' already: {there}",
        hint=f"--name gives it another name, --force {over}",
    )
    if there.exists() and not force:
        raise exists
    like = _board_for(library, facts)
    if like is not None and given is None and not force:
        raise UserError(
            f"profile '{facts.profile}' of {facts.target} is the board '{like[0].id}' already",
            hint=f"use --board {like[0].id}, or give a second file for it a name with --name",
        )
    facts = facts if facts.images or like is None else _with_images(facts, *like)
    text = board_text(facts, library.board_names(), ram=ram, flash=flash)
    text = text if library.has_schema("board") else text.removeprefix(f"{SCHEMA}\n\n")
    library.checked_board(name, parse_toml(text.encode(), path))
    try:
        (write_whole if force else write_new)(path, text.encode())
    except FileExistsError as error:
        raise exists from error
    return WrittenBoard(path, places_to_fill_in(text))


def _board_for(library: Library, facts: DeviceFacts) -> tuple[Board, Profile] | None:
    """A board for this profile that there is, those that come along first."""
    boards = sorted(library.boards(), key=lambda board: not library.comes_along(library.board_path(board.id)))
    return next(
        (
            (board, profile)
            for board in boards
            for profile in board.profiles_for(facts.version)
            if (profile.target, profile.name) == (facts.target, facts.profile)
        ),
        None,
    )


def _with_images(facts: DeviceFacts, board: Board, profile: Profile) -> DeviceFacts:
    """The facts with the images that a board's file states for the same profile: recipes of x86 before 21.02,
    for one, name their images in no way that is read."""
    by = (f"as in boards/{board.id}.toml",)
    images = {
        name: ImageFacts(format=image.format, file=image.file or "", tail=image.tail or "", by=by)
        for name, image in board.for_profile(profile).images.items()
        if image.required and image.format != UNKNOWN
    }
    return facts.model_copy(update={"images": images})


def places_to_fill_in(text: str) -> tuple[tuple[int, str], ...]:
    """The lines of a board file that are marked, with what is wanted there."""
    marked = (
        (number, line.partition(f"{FILL_IN}:")[2].strip())
        for number, line in enumerate(text.splitlines(), 1)
        if f"{FILL_IN}:" in line
    )
    return tuple(marked)


def given_size(option: str, text: str | None) -> int | None:
    """Bytes of a size that an option gives; None where it was not given. UserError for what is none."""
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}") from error


def given_flash(option: str, text: str | None) -> int | str | None:
    """Bytes of the flash that an option gives, or "removable"; None where it was not given. UserError for
    what is neither."""
    return text if text == REMOVABLE else given_size(option, text)


def board_text(
    facts: DeviceFacts,
    boards: Collection[str],
    *,
    ram: int | None = None,
    flash: int | str | None = None,
) -> str:
    """The board file's text. boards: the names of those that there are, of which one may be its twin.

    UserError for a tree whose release no board file can name.
    """
    if flash is None and _DISKS & {image.format for image in facts.images.values()}:
        flash = REMOVABLE
    return "\n".join(_lines(facts, boards, ram, flash)) + "\n"


def _lines(
    facts: DeviceFacts, boards: Collection[str], ram: int | None, flash: int | str | None
) -> Iterator[str]:
    yield SCHEMA
    yield ""
    yield f"# Written by `boards add` from {_one_line(facts.distribution)} {facts.version}, {facts.target}."
    if facts.listed:
        yield f"# Facts: {', '.join(map(_one_line, facts.sources))} of the download server."
    elif facts.sources:
        yield f"# Figures: {facts.sources[0].rpartition('/')[0]} of that tree."
    yield f'# What it does not say is "unknown" and marked with {FILL_IN}; everything builds without it.'
    yield ""
    yield f"name  = {_text(facts.title)}"
    yield _line(f"soc   = {_text(facts.soc or UNKNOWN)}", None if facts.soc else 'the chip, "Atheros AR9331"')
    given = _size(ram)
    yield _line(f"ram   = {given or _text(UNKNOWN)}", None if given else 'the memory, "32M"')
    yield _flash_line(facts, flash)
    yield ""
    yield from _header(facts)
    yield from _layout(facts, disk=flash == REMOVABLE)
    yield from _profile(facts)
    yield ""
    yield from _images(facts)
    yield ""
    yield from _emulation(facts.arch, boards)


def _flash_line(facts: DeviceFacts, flash: int | str | None) -> str:
    if isinstance(flash, str):
        return f"flash = {_text(flash)}"
    given = _size(flash)
    if given:
        return f"flash = {given}"
    if facts.flash is not None:
        whence = f"flash layout {facts.tplink.flash_layout}" if facts.tplink else "where its partitions end"
        return f"{f'flash = {_size(facts.flash)}':<{_WIDTH}} # {whence}"
    return _line(f"flash = {_text(UNKNOWN)}", 'the flash, "8M", or "removable" for cards and disks')


def _header(facts: DeviceFacts) -> Iterator[str]:
    header = facts.tplink
    if header is not None:
        ids = f"hwid = 0x{header.hwid:08x}, hwrev = 0x{header.hwrev:x}"
        ids += f", header_version = {header.header_version}" if header.header_version != 1 else ""
        yield "# TPLINK_HWID, TPLINK_HWREV and TPLINK_FLASHLAYOUT: what the boot loader compares."
        yield f"tplink = {{ {ids}, flash_layout = {_text(header.flash_layout)} }}"
        yield ""


def _layout(facts: DeviceFacts, *, disk: bool) -> Iterator[str]:
    if disk:
        return
    yield "[layout]"
    if facts.image_size is not None:
        yield f"{f'firmware = {_size(facts.image_size)}':<{_WIDTH}} # IMAGE_SIZE"
    else:
        yield f'# firmware = "16000K"               # {FILL_IN}: the partition that a sysupgrade fills'
    if facts.kernel_size is not None:
        yield f"{f'kernel = {_size(facts.kernel_size)}':<{_WIDTH}} # KERNEL_SIZE"
    if facts.kernel_and_rootfs is not None:
        yield f"{f'kernel_and_rootfs = {facts.kernel_and_rootfs}':<{_WIDTH}} # what mktplinkfw accepts"
    if facts.partitions:
        yield "partitions = [                      # MTDPARTS"
        for part in facts.partitions:
            yield (
                f"    {{ name = {_text(part.name)}, offset = {_size(part.offset)},"
                f" size = {_size(part.size)} }},"
            )
        yield "]"
    yield ""


def _profile(facts: DeviceFacts) -> Iterator[str]:
    yield "[[profile]]"
    releases = _releases(facts.version)
    if facts.listed and releases != SNAPSHOT:
        releases = f">={facts.version}"
    yield f"{f'releases = {_text(releases)}':<{_WIDTH}} # widen it if others call it the same"
    yield f"target   = {_text(facts.target)}"
    yield f"name     = {_text(facts.profile)}"
    yield f"arch     = {_text(facts.arch)}"
    if facts.supported_devices is None:
        yield f"# supported_devices = []            # {FILL_IN}: the names in its images' metadata"
    elif facts.supported_devices:
        yield f"supported_devices = [{', '.join(map(_text, facts.supported_devices))}]"
    if facts.boardname:
        yield f"{f'boardname = {_text(facts.boardname)}':<{_WIDTH}} # board= of the kernel's command line"
    if facts.compat_version is None and facts.listed:
        yield f'# compat_version = "1.0"             # {FILL_IN}: DEVICE_COMPAT_VERSION, if it is another one'
    elif facts.compat_version not in (None, "1.0"):
        yield f"compat_version = {_text(str(facts.compat_version))}"


def _images(facts: DeviceFacts) -> Iterator[str]:
    yield "[images]"
    if not facts.images:
        yield _line(
            f'sysupgrade = {{ format = "{UNKNOWN}", required = true }}',
            f"which images the tree makes: it does not say; {UNCHECKED}",
        )
        return
    for name, image in facts.images.items():
        keys = [f"format = {_text(image.format)}", "required = true"]
        keys += [f"file = {_text(image.file)}"] if image.file else []
        keys += [f"tail = {_text(image.tail)}"] if image.tail else []
        line = f"{name} = {{ {', '.join(keys)} }}"
        if image.format == UNKNOWN:
            yield _line(line, f"{name}.format, of those that `formats` lists; {UNCHECKED}")
        else:
            yield f"{line:<{_WIDTH}} # {' | '.join(image.by)}" if image.by else line


def _emulation(arch: str, boards: Collection[str]) -> Iterator[str]:
    yield "[emulation]"
    for beginning, binary, cpu, twin in _PROCESSORS:
        if arch.startswith(beginning):
            yield f'user = {{ binary = "{binary}", cpu = "{cpu}" }}'
            if twin in boards:
                yield f'twin = "{twin}"'
            return
    yield f'# {FILL_IN}: QEMU\'s names for {arch}: user = {{ binary = "…", cpu = "…" }}, and a twin'


def _releases(version: str) -> str:
    """`17.01.7` is of the series 17.01; `embedded` are all editions of the kit."""
    if is_embedded(version):
        return EMBEDDED
    release = Release(version)
    if not release.numbered and version != SNAPSHOT:
        raise UserError(
            f"this tree calls its release '{version}', which no board file can name",
            hint="OpenWrt's own are 17.01.7, 24.10.4, snapshot and the like",
        )
    return release.series


def _line(text: str, wanted: str | None) -> str:
    return text if wanted is None else f"{text:<{_WIDTH}} # {FILL_IN}: {wanted}"


def _size(size: int | None) -> str:
    if size is None:
        return ""
    short = format_size(size)
    return short if short.isdecimal() else _text(short)


def _text(text: str) -> str:
    """TOML's basic string, which is JSON's but for DEL."""
    return json.dumps(_one_line(text), ensure_ascii=False)


def _one_line(text: str) -> str:
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
