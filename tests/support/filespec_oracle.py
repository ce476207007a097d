"""Random trees and filespecs, what OpenWrt's own script makes of them, and what the builder does."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.rootfs.files import content, read_tree, write_tree
from imagebuilder.rootfs.filespec import FilespecError, apply, parse
from imagebuilder.rootfs.tree import Entry, FileTree, file_of, folder, symlink

NAMES = ("a", "b", "c.py", "d.so", ".e", "f1")
GLOBS = ("*", "?", "*.py", "[ab]", "[!a]*", "f?", "*.s*")
FILE_MODES, FOLDER_MODES = (0o644, 0o755, 0o600), (0o755, 0o700, 0o711)


@dataclass(frozen=True)
class FilespecCase:
    """What is installed, what the package's hook made, and the filespec."""

    stage: FileTree
    package: FileTree
    text: str


def random_filespec(seed: int) -> FilespecCase:
    """A few files, folders and links, and rules that mostly name some of them.

    What is a file in one of the two trees is no folder or link in the other: such clashes are left out.
    """
    rng = random.Random(seed)
    whole = _tree(rng, rng.randint(4, 10))
    paths = [*whole]
    stage = FileTree({path: whole[path] for path in paths if whole[path].kind == "dir" or rng.random() < 0.9})
    hook: dict[str, Entry] = {}
    for path in rng.sample(paths, min(len(paths), rng.randint(0, 3))) if rng.random() < 0.4 else ():
        for each in (*(parent for parent in paths if path.startswith(f"{parent}/")), path):
            hook[each] = (
                file_of(b"hook", rng.choice(FILE_MODES)) if whole[each].kind == "file" else whole[each]
            )
    there = {*hook}
    rules = []
    for _ in range(rng.randint(1, 5)):
        op = rng.choice(["+", "+", "-", "=", "=="]) if there else "+"
        rule, path = _rule(rng, op, sorted(stage if op == "+" else there) or paths)
        rules.append(rule)
        below = {each for each in stage if each == path or each.startswith(f"{path}/")}
        there = there | below if op == "+" else there - below if op == "-" else there
    return FilespecCase(stage, FileTree(hook), "\n".join(rules))


def _tree(rng: random.Random, count: int) -> FileTree:
    entries: dict[str, Entry] = {}
    for _ in range(count):
        parts = [rng.choice(NAMES) for _ in range(rng.randint(1, 3))]
        parents = ["/" + "/".join(parts[:end]) for end in range(1, len(parts))]
        path = "/" + "/".join(parts)
        if path in entries or any(entries.get(parent, folder(0)).kind != "dir" for parent in parents):
            continue
        entries |= {each: folder(rng.choice(FOLDER_MODES)) for each in parents if each not in entries}
        if rng.random() < 0.1:
            entries[path] = symlink(rng.choice(NAMES))
        elif rng.random() < 0.1:
            entries[path] = folder(rng.choice(FOLDER_MODES))
        else:
            entries[path] = file_of(b"stage", rng.choice(FILE_MODES))
    return FileTree(entries)


def _rule(rng: random.Random, op: str, paths: Sequence[str]) -> tuple[str, str]:
    """A line, and the path that it names."""
    path = rng.choice(paths) if rng.random() < 0.97 else "/nothing"
    if rng.random() < 0.3:
        path = f"{path.rpartition('/')[0]}/{rng.choice(GLOBS)}"
    modes = [rng.choice(["", "", "600", "755", "0644"]), rng.choice(["", "", "700", "0755"])]
    if op in ("=", "==") and not any(modes) and rng.random() < 0.9:
        modes[0] = "640"
    blank = " " if rng.random() < 0.1 else ""
    odd = rng.random()
    if odd < 0.03:
        return f"# {op}|{path}\n", ""
    if odd < 0.05:
        return f"*|{path}", ""
    return f"{blank}{op}{blank}|{blank}{path}{blank}|{'|'.join(modes)}".rstrip("|"), path


def digest_of(cases: Iterable[FilespecCase]) -> str:
    """SHA-256 over what the cases are."""
    whole = hashlib.sha256()
    for case in cases:
        whole.update(f"{shown(case.stage)}\n{shown(case.package)}\n{case.text}\n\n".encode())
    return whole.hexdigest()


def shown(tree: FileTree) -> str:
    """A tree in one line: each path with its kind, mode and where its content is from, or a link's target."""
    words = []
    for path, entry in sorted(tree.items()):
        if entry.kind == "symlink":
            words.append(f"{path} >{entry.target}")
        else:
            origin = f" {(entry.data or b'').decode()}" if entry.kind == "file" else ""
            words.append(f"{path} {entry.kind[0]}{entry.mode:o}{origin}")
    return ", ".join(words)


def ours(case: FilespecCase) -> str:
    """What the builder makes of it, as shown() has it; `!` for an error."""
    try:
        return shown(apply(parse(case.text), case.stage, case.package).tree)
    except FilespecError:
        return "!"


def genuine(
    script: Path,
    case: FilespecCase,
    work: Path,
    *,
    wrap: Callable[[Sequence[str]], Sequence[str]],
    seen: Path,
) -> str:
    """What the script makes of it. wrap, seen: how it runs in a sandbox, and where `work` is there."""
    for name, tree in (("stage", case.stage), ("package", case.package)):
        write_tree(tree, work / name)
        (work / name).chmod(0o755)
    argv = [
        "sh",
        "-c",
        'umask 022; exec sh "$@"',
        "sh",
        str(script),
        f"{seen}/stage",
        f"{seen}/package",
        case.text,
    ]
    ended = subprocess.run(wrap(argv), capture_output=True, timeout=60, check=False)
    if ended.returncode:
        return "!"
    read = read_tree(work / "package")
    return shown(FileTree({path: _loaded(entry) for path, entry in read.items()}))


def _loaded(entry: Entry) -> Entry:
    return file_of(content(entry), entry.mode) if entry.kind == "file" else entry
