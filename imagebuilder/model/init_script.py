"""What OpenWrt's init scripts say of when they start, and which of them have links by which they do.

An init script is for `/etc/rc.common`, which its first line names; `rc.common SCRIPT enable` links it as
/etc/rc.d/S50name by its START and as K50name by its STOP, and procd starts what is linked there, in the order
of the names. ImageBuilder enables every script in which it finds that line (prepare_rootfs in
include/rootfs.mk), and nothing fails where its grep does not run. Sources: base-files' rc.common, procd's
rcS.c.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

INIT, RC, RC_COMMON = "/etc/init.d", "/etc/rc.d", "/etc/rc.common"
_OF_RC_COMMON = b"#!/bin/sh /etc/rc.common"
_NUMBER = re.compile(rb"^(START|STOP)=(\d\d)\s*$", re.MULTILINE)
_START = re.compile(rb"START=([\"']?)\d+\1[ \t]*(#.*)?")
_ASSIGNMENT = re.compile(rb"[A-Za-z_]\w*=.*")
_FUNCTION = re.compile(rb"([\w-]+)[ \t]*\(\)[ \t]*(?P<body>\{.*|)")
_ENDS = re.compile(rb"\b(exit|return|unset|exec|START)\b")  # what may keep a script from being linked
_OTHERWISE = frozenset({b"enable", b"disable", b"enabled"})
_NAME_PREFIX = re.compile(r"S\d\d")  # which rc.common takes off a script's name


def is_init_script(data: bytes) -> bool:
    """Whether rc.common reads a script when it is started."""
    return data.startswith(_OF_RC_COMMON)


def links_of(name: str, data: bytes) -> dict[str, str]:
    """The links by which an init script is started and stopped, by their paths, as rc.common makes them; what
    only a shell could tell is left out."""
    found = ((b"S" if kind == b"START" else b"K", number) for kind, number in _NUMBER.findall(data))
    return {f"{RC}/{(letter + number).decode()}{name}": f"../init.d/{name}" for letter, number in found}


def surely_started(data: bytes) -> bool:
    """Whether rc.common links a script for the start, whatever machine enables it.

    True for what is read without a shell: from its first line to START there are only comments, plain
    settings and functions, and enabling is not the script's own. False says nothing.
    """
    if not is_init_script(data):
        return False
    has_start = inside = False
    for line in data.split(b"\n")[1:]:
        function = _FUNCTION.fullmatch(line)
        if inside:
            inside = line[:1] != b"}"
        elif not line.strip() or line.startswith(b"#"):
            continue
        elif function is not None:
            if function[1] in _OTHERWISE:
                return False
            inside = not function["body"].rstrip().endswith(b"}")
        elif _START.fullmatch(line) is not None:
            has_start = True
        elif _ENDS.search(line) is not None or not (has_start or _ASSIGNMENT.fullmatch(line)):
            return False
    return has_start


@dataclass(frozen=True, slots=True)
class Started:
    """Which of a root file system's services start with it. surely: names of scripts that surely_started();
    none: nothing at all is linked for the start; lacking: those of `surely` that have no link."""

    surely: tuple[str, ...]
    none: bool
    lacking: tuple[str, ...]


def started(scripts: Mapping[str, bytes], links: Iterable[str], off: Collection[str] = ()) -> Started:
    """What starts of a root's init scripts, their contents by their names. links: the names in /etc/rc.d;
    off: scripts that somebody does not want."""
    linked = {link[1:].lstrip("0123456789") for link in links if link.startswith("S")}
    surely = tuple(sorted(name for name, data in scripts.items() if name not in off and surely_started(data)))
    bare = {
        name: _NAME_PREFIX.sub("", name, count=1) if _NAME_PREFIX.match(name) else name for name in surely
    }
    lacking = tuple(name for name in surely if bare[name].lstrip("0123456789") not in linked)
    return Started(surely, bool(surely) and not linked, lacking)
