"""What lies in package files: paths, kinds, modes, and what programs and libraries among them are for.

A file is read once: what it holds is kept below the cache folder, by the file's SHA-256 or, of apk's
packages, by what the index knows them by, which stands for their content as well.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.host.handover import write_whole
from imagebuilder.host.processor import MachineCode, read_code
from imagebuilder.model.package import Package
from imagebuilder.packages.supply import Job
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import FileTree

_FORMAT = "imagebuilder package contents 1"
FILE, FOLDER, LINK = "f", "d", "l"
KINDS = {"file": FILE, "dir": FOLDER, "symlink": LINK}


# where the linkers of musl (its ldso/dynlink.c) and glibc look for libraries that no path is given for
LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_MAX_LINKS = 8


class Held(NamedTuple):
    """One thing in a package. kind: FILE, FOLDER or LINK; mode: the permission bits; mark: the SHA-256 of a
    file's content, in hex, or a link's text."""

    kind: str
    mode: int
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a package holds, by path. code: of programs, libraries and kernel modules, what they are for."""

    held: Mapping[str, Held]
    code: Mapping[str, MachineCode] = field(default_factory=dict)


def contents_of_tree(tree: FileTree) -> Contents:
    """Of files in memory or of this machine. OSError if one of them cannot be read."""
    held, code = {}, {}
    for path, entry in tree.items():
        mark = entry.target
        if entry.kind == "file":
            data = content(entry)
            mark = hashlib.sha256(data).hexdigest()
            found = read_code(data, path)
            if found is not None:
                code[path] = found
        held[path] = Held(KINDS[entry.kind], entry.mode, mark)
    return Contents(held, code)


def contents_of(job: Job, package: Package, file: Path) -> Contents:
    """Of a package's file, from the cache or read now. package: what its index says of it. PackageFileError
    for a damaged file, HostError where the cache cannot be written."""
    digest = package.identity or package.sha256.lower() or sha256_of(file)
    place = job.cache / "indexes" / f"{digest}.contents"
    known = unpack_contents(place.read_bytes(), digest) if place.is_file() else None
    if known is None:
        known = contents_of_tree(job.manager.read(file, package).tree)
        with disk_errors_explained(job.cache):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, pack_contents(known, digest))
    return known


def library_in(contents: Contents, name: str) -> str | None:
    """The path at which the device's linker finds a shared library of that name, a link to it mostly; None
    where it finds none."""
    for folder in LIBRARY_FOLDERS:
        path = place = f"{folder}/{name}"
        for _ in range(_MAX_LINKS):
            held = contents.held.get(place)
            if held is None or held.kind != LINK:
                break
            place = posixpath.normpath(posixpath.join(posixpath.dirname(place), held.mark))
        code = contents.code.get(place)
        if code is not None and code.linked:
            return path
    return None


def like_library(contents: Contents, name: str) -> list[str]:
    """The paths of libraries that are called so but for what follows `.so`."""
    stem = name.partition(".so")[0]
    return sorted(
        path
        for path in contents.held
        if posixpath.dirname(path) in LIBRARY_FOLDERS and posixpath.basename(path).startswith(f"{stem}.so")
    )


def pack_contents(contents: Contents, digest: str) -> bytes:
    """As bytes. digest: of the package's file."""
    columns = {
        "held": [[path, *each] for path, each in contents.held.items()],
        "code": [
            [path, each.machine, each.bits, each.little_endian, each.linked, each.module, each.hard_float]
            for path, each in contents.code.items()
        ],
    }
    body = json.dumps(columns, separators=(",", ":")).encode()
    return f"{_FORMAT} {digest} {crc32(body):08x}\n".encode() + body


def unpack_contents(data: bytes, digest: str) -> Contents | None:
    """What pack_contents() wrote for that digest; None for other bytes."""
    head, _, body = data.partition(b"\n")
    if head != f"{_FORMAT} {digest} {crc32(body):08x}".encode():
        return None
    columns: dict[str, Any] = json.loads(body)
    held = {path: Held(kind, mode, mark) for path, kind, mode, mark in columns["held"]}
    return Contents(held, {path: MachineCode(*facts) for path, *facts in columns["code"]})
