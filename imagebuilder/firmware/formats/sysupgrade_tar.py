"""The tar that sysupgrade takes on NAND and eMMC: `sysupgrade-BOARD/` with CONTROL, kernel, root and perhaps
dtb.

POSIX ustar as GNU tar writes it; OpenWrt's scripts/sysupgrade-tar.sh.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import equal, holds
from imagebuilder.firmware.formats.padding import padding
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Check, Field, Part

RECORD = 512
MEMBERS = ("CONTROL", "dtb", "kernel", "root")
_PREFIX = b"sysupgrade-"
_MOST_MEMBERS = 64
_OCTAL = re.compile(rb"[0-7]{1,12}[ \0]*")
_PADDED = {"root": "rootfs"}
_FOLDER, _FILE = (b"5",), (b"0", b"\0")


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the archive. data: None for a folder."""

    name: str
    data: View | None


def detect(view: View) -> bool:
    """A first member below sysupgrade-BOARD."""
    return view.has(_PREFIX) and view.has(b"ustar", 257)


def _octal(view: View, at: int, size: int, what: str) -> int:
    text = view.take(at, size).strip(b" \0")
    if _OCTAL.fullmatch(text) is None:
        raise ImageFormatError(f"the archive is damaged: {what} is {printable(text)!r}, no octal number")
    return int(text, 8)


def _member(header: View, rest: View) -> Member:
    name = header.text(0, 100)
    raw = header.take(0, RECORD)
    total = sum(raw) - sum(raw[148:156]) + 8 * ord(" ")
    if _octal(header, 148, 8, "a checksum") != total:
        raise ImageFormatError(f"the archive is damaged at the member {name}: its checksum does not match")
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or ".." in parts or "" in parts:
        raise ImageFormatError(f"the archive names {name!r}, which leads out of it")
    kind = header.take(156, 1)
    if kind in _FOLDER:
        return Member(name, None)
    if kind not in _FILE:
        raise ImageFormatError(f"the member {name} is neither a file nor a folder")
    size = _octal(header, 124, 12, f"the size of {name}")
    return Member(name, rest.part(0, size, f"the member {name}"))


def _members(view: View) -> tuple[list[Member], int]:
    """The members, and where the archive's end begins."""
    members: list[Member] = []
    at = 0
    while True:
        header = view.part(at, RECORD, "the archive")
        if header.filled_with(0):
            return members, at
        if len(members) >= _MOST_MEMBERS:
            raise ImageFormatError(f"the archive has more than {_MOST_MEMBERS} members")
        member = _member(header, view.part(at + RECORD))
        members.append(member)
        size = 0 if member.data is None else member.data.size
        slack = -size % RECORD
        if size and not view.part(at + RECORD + size, slack, "the archive").filled_with(0):
            raise ImageFormatError(f"the archive is damaged behind the member {member.name}")
        at += RECORD + size + slack


def _structure_checks(view: View, members: list[Member], end: int) -> Iterator[Check]:
    folders = sorted({member.name.split("/")[0] for member in members})
    yield holds("boards in the archive", len(folders) == 1, expected="one", found=", ".join(folders))
    entry = [member.name for member in members if member.data is None]
    yield holds(
        "folder of the archive",
        entry == [f"{folders[0]}/"],
        expected=f"{folders[0]}/",
        found=", ".join(entry) or "none",
    )
    names = [member.name.partition("/")[2] for member in members if member.data is not None]
    strangers = [name for name in names if name not in MEMBERS or names.count(name) > 1]
    yield holds(
        "members of the archive",
        not strangers,
        expected="CONTROL, dtb, kernel, root, each once",
        found=", ".join(names),
    )
    rest = view.part(end)
    whole = rest.size >= 2 * RECORD and rest.size % RECORD == 0 and rest.filled_with(0)
    yield holds(
        "end of the archive", whole, expected="two empty records and nothing else", found=f"{rest.size} bytes"
    )


def _part(member: Member, data: View, reading: Reading) -> Part:
    base = member.name.partition("/")[2]
    name = _PADDED.get(base, base)
    if base not in ("kernel", "root", "dtb") or data.size == 0:
        return data.to_part("tar-member", name)
    content = reading.inside(data, name)
    if content.size == data.size:
        return content
    rest = padding(data.part(content.size))
    return data.to_part("tar-member", name, {}, (content, *rest))


def parse(view: View, reading: Reading) -> Part:
    """The archive: all of the view."""
    members, end = _members(view)
    files = {member.name.partition("/")[2]: member.data for member in members if member.data is not None}
    control = files.get("CONTROL")
    text = "" if control is None else control.text(0, min(control.size, 256)).strip()
    folder = members[0].name.split("/")[0]
    board = folder.removeprefix("sysupgrade-")
    checks = [*_structure_checks(view, members, end)]
    stated = [
        line for line in bytes(control.raw if control else b"").split(b"\n") if line.startswith(b"BOARD=")
    ]
    checks.append(equal("board in CONTROL", f"BOARD={board}", printable(stated[0]) if stated else text))
    for name in ("kernel", "root"):
        found = files.get(name)
        size = 0 if found is None else found.size
        checks.append(holds(f"{name} in the archive", size > 0, expected="not empty", found=f"{size} bytes"))
    children = [_part(member, member.data, reading) for member in members if member.data is not None]
    fields = {"board": Field(board), "control": Field(text)}
    return view.to_part(SYSUPGRADE_TAR.kind, "sysupgrade archive", fields, children, checks)


SYSUPGRADE_TAR = Format(
    "sysupgrade-tar", "sysupgrade archive", detect, parse, steps="sysupgrade-tar sysupgrade-emmc"
)
