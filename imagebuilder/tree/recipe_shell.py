"""The bash that recipes run in, named at once: OpenWrt has env look for it, for each line of a recipe and in
each wrapper of a program. Of the 4 s that 17.01.7 takes for an image, that is 0.15 s."""

from __future__ import annotations

import os
import re
from pathlib import Path

from imagebuilder.host.beneath import write_beneath
from imagebuilder.host.files import opened_plain
from imagebuilder.host.fs import text_of
from imagebuilder.host.run import find_program
from imagebuilder.host.sandbox import PrivateView

_SHELL_MK = "override SHELL := {bash}\n"
_ASKS_ENV = re.compile(r"(?m)^(export )?SHELL:=/usr/bin/env bash$")
_PROGRAMS = Path("staging_dir/host/bin")
# before this machine's in the PATH of rules.mk: the link that the host check of a used tree has made, and one
# that no tree is known to have
_OWN_BASH, _BEFORE_IT = _PROGRAMS / "bash", "staging_dir/toolchain-*/bin/bash"
# what scripts of packages call once for each package (add_group_and_user() of functions.sh, from 17.01 on)
_OFTEN_CALLED = ("sed",)
_MAX_WRAPPER_BYTES = 4096
_LONGEST_SHEBANG = 120  # of 127 bytes that Linux reads before 5.1
# how scripts/bundle-libraries.sh and forks of it begin a wrapper: "$0" is the path that it was called by
_ENV_BASH = b"#!/usr/bin/env bash\n"
_FOLDER = b'dir="$(dirname "$0")"\n'
_SAME_FOLDER = b'case "$0" in */*) dir="${0%/*}" ;; *) dir=. ;; esac\n'
_NAME, _SAME_NAME = b'bin="$(basename "$0")"\n', b'bin="${0##*/}"\n'


def recipe_shell(tree: Path, shown: Path) -> Path | None:
    """The bash that env would find in the recipes of a tree; None where its rules.mk does not have env look
    for one, or where nobody can tell which it is. shown: where make sees the tree."""
    if _ASKS_ENV.search(text_of(tree / "rules.mk")) is None or any(tree.glob(_BEFORE_IT)):
        return None
    own = tree / _OWN_BASH
    if not os.path.lexists(own):
        return Path(find_program("bash"))
    return shown / _OWN_BASH if own.is_file() and os.access(own, os.X_OK) else None


def shell_text(bash: Path | None) -> str:
    """The makefile that says so."""
    return "" if bash is None else _SHELL_MK.format(bash=bash)


def lay_quick_wrappers(tree: Path, view: PrivateView, bash: Path | None) -> tuple[str, ...]:
    """Lay wrappers that do the same without env and dirname into the view, for those of the tree's programs
    that are called often and whose wrapper is known; their names."""
    laid = []
    for name in _OFTEN_CALLED:
        text = quick_wrapper(_wrapper(tree / _PROGRAMS / name), bash)
        if text is not None:
            write_beneath(view.changed, str(_PROGRAMS / name), text, 0o755)
            laid.append(name)
    return tuple(laid)


def quick_wrapper(text: bytes, bash: Path | None) -> bytes | None:
    """A wrapper that starts no other program than this one does at its end; None for a text that does not
    begin as OpenWrt's wrappers do. bash: as recipe_shell() says."""
    if not text.startswith(_ENV_BASH + _FOLDER):
        return None
    first, rest = _ENV_BASH, text[len(_ENV_BASH + _FOLDER) :]
    if bash is not None and len(os.fsencode(bash)) < _LONGEST_SHEBANG and not re.search(r"\s", str(bash)):
        first = b"#!%b\n" % os.fsencode(bash)
    if rest.startswith(_NAME):
        rest = _SAME_NAME + rest[len(_NAME) :]
    return first + _SAME_FOLDER + rest


def _wrapper(program: Path) -> bytes:
    """What a file holds, if it is small; nothing where there is none, or one that this user may only run."""
    if not (program.is_file() and os.access(program, os.R_OK)):
        return b""
    with opened_plain(program) as stream:
        text = stream.read(_MAX_WRAPPER_BYTES + 1)
    return text if len(text) <= _MAX_WRAPPER_BYTES else b""
