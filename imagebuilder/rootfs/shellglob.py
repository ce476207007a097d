"""The shell's file name patterns on a file tree: `*`, `?` and `[...]`, one path component at a time."""

from __future__ import annotations

import re
from functools import lru_cache

from imagebuilder.rootfs.tree import FileTree

WILD = re.compile(r"[*?\[]")
CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "digit": "0-9",
    "lower": "a-z",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def is_pattern(text: str) -> bool:
    """Whether the text holds a character that a shell would expand."""
    return WILD.search(text) is not None


def _bracket(pattern: str, start: int) -> tuple[str, int] | None:
    """The `[...]` that begins at `start` as a regular expression and where it ends; None if it never ends."""
    at = start + 1
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    inner = ""
    first = True
    while at < len(pattern) and (first or pattern[at] != "]"):
        named = re.compile(r"\[:([a-z]+):\]").match(pattern, at)
        if named and named[1] in CLASSES:
            inner += CLASSES[named[1]]
            at = named.end()
        else:
            inner += "-" if pattern[at] == "-" else re.escape(pattern[at])
            at += 1
        first = False
    if at >= len(pattern):
        return None
    return f"[{'^' if negated else ''}{inner}]", at + 1


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    """A component's pattern as a regular expression. A leading dot must be written out."""
    result = "" if pattern.startswith(".") else r"(?!\.)"
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            result += ".*"
        elif character == "?":
            result += "."
        elif character == "[" and (bracket := _bracket(pattern, at - 1)) is not None:
            text, at = bracket
            result += text
        else:
            result += re.escape(character)
    try:
        return re.compile(result, re.DOTALL)
    except re.error:  # a range that runs backwards, [z-a]: to a shell it matches nothing
        return re.compile(r"(?!)")


def expand(tree: FileTree, pattern: str) -> list[str]:
    """The paths of the tree that an absolute pattern names, sorted. Without a match it stands for itself,
    as in a shell, and names the path that is spelled so. Links are not followed.
    A trailing slash asks for folders."""
    if not pattern.startswith("/"):
        return []
    places = [""]
    only_folders = pattern.endswith("/")
    for part in pattern.strip("/").split("/"):
        if is_pattern(part):
            fits = _expression(part).fullmatch
            places = [
                path
                for place in places
                for path in tree.children(place or "/")
                if fits(path[len(place) + 1 :])
            ]
        else:
            places = [path for place in places if (path := f"{place}/{part}") in tree]
    if not places and pattern.rstrip("/") in tree:
        places = [pattern.rstrip("/")]
    return sorted(path for path in places if not only_folders or tree[path].kind == "dir")
