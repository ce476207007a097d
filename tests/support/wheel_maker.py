"""Wheels, source distributions, ELF files and a package index of one's own, for tests."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    *,
    files: Mapping[str, bytes] | None = None,
    requires: Iterable[str] = (),
    extras: Iterable[str] = (),
    scripts: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
    pure: bool = True,
    python: str = "",
    record: bool = True,
    more: Mapping[str, bytes] | None = None,
    executable: Iterable[str] = (),
    known: bool = False,
) -> Path:
    """A wheel. scripts: console entry points; record: whether RECORD is right; more: other files, or the same
    in place of the wheel's own; known: whether RECORD knows these."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: A demonstration"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    lines += [f"Provides-Extra: {each}" for each in extras]
    lines += [f"Requires-Python: {python}"] if python else []
    content = dict(files if files is not None else {f"{name.replace('-', '_')}.py": b"ANSWER = 42\n"})
    content[f"{info}/METADATA"] = "\n".join([*lines, "", "A long description.", ""]).encode()
    content[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {str(pure).lower()}\nTag: {tag}\n".encode()
    )
    content[f"{info}/LICENSE"] = b"free\n"
    if scripts:
        text = "[console_scripts]\n" + "".join(f"{key} = {value}\n" for key, value in scripts.items())
        content[f"{info}/entry_points.txt"] = text.encode()
    if known:
        content |= more or {}
    if record:
        rows = [record_line(path, data) for path, data in content.items()]
        content.setdefault(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]).encode())
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {**content, **(more or {})}.items():
            info_of = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            info_of.external_attr = (0o100755 if path in executable else 0o100644) << 16
            archive.writestr(info_of, data)
    return place


BACKEND = """
import base64, hashlib, os, zipfile

NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}
METADATA = "Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: " + VERSION + "\\n"


def build_wheel(folder, settings=None, metadata=None):
    if {fails}:
        raise SystemExit("the compiler 'false' failed")
    stem = NAME + "-" + VERSION
    files = {{
        **{{n: open(n, "rb").read() for n in os.listdir(".") if n.endswith((NAME + ".py", ".so"))}},
        stem + ".dist-info/METADATA": METADATA.encode(),
        stem + ".dist-info/WHEEL": ("Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: " + TAG).encode(),
    }}
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(path + ",sha256=" + digest + "," + str(len(data)))
    files[stem + ".dist-info/RECORD"] = "\\n".join(rows + [stem + ".dist-info/RECORD,,", ""]).encode()
    place = stem + "-" + TAG + ".whl"
    with zipfile.ZipFile(os.path.join(folder, place), "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data)
    return place


def prepare_metadata_for_build_wheel(folder, settings=None):
    stem = NAME + "-" + VERSION + ".dist-info"
    os.mkdir(os.path.join(folder, stem))
    with open(os.path.join(folder, stem, "METADATA"), "w") as out:
        out.write(METADATA)
    return stem
"""
PYPROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def project_files(
    name: str,
    version: str,
    *,
    fails: bool = False,
    tag: str = "py3-none-any",
    more: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """A project that builds with nothing but what is in it. fails: like one without its compiler."""
    backend = BACKEND.format(name=name, version=version, fails=fails, tag=tag)
    return {
        "pyproject.toml": PYPROJECT.encode(),
        "backend.py": backend.encode(),
        f"{name}.py": b"ANSWER = 42\n",
        **(more or {}),
    }


def make_project(folder: Path, name: str = "demo", version: str = "1.0", **options: object) -> Path:
    folder.mkdir(parents=True)
    for path, data in project_files(name, version, **options).items():  # type: ignore[arg-type]
        (folder / path).write_bytes(data)
    return folder


def make_sdist(folder: Path, name: str = "demo", version: str = "1.0", **options: object) -> Path:
    """A source distribution of such a project."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}"
    content = project_files(name, version, **options)  # type: ignore[arg-type]
    content["PKG-INFO"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    place = folder / f"{stem}.tar.gz"
    with tarfile.open(place, "w:gz") as archive:
        for path, data in content.items():
            member = tarfile.TarInfo(f"{stem}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return place


def make_elf(
    needed: Iterable[str] = (),
    *,
    machine: int = 62,
    bits: int = 64,
    little: bool = True,
    flags: int = 0,
    soname: str = "",
    runpath: str = "",
    mips_float: int | None = None,
    wants: Iterable[str] = (),
    has: Iterable[str] = (),
    gnu_hash: bool = False,
) -> bytes:
    """A shared library with a header, program headers and a dynamic section, and no code. mips_float: how its
    ABI flags say that it passes floating point numbers; wants, has: dynamic symbols; gnu_hash: whether
    DT_GNU_HASH says how many there are, not DT_HASH."""
    order, word = "<" if little else ">", "Q" if bits == 64 else "I"
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        at = len(strings)
        strings.extend(value.encode() + b"\0")
        return at

    tags = [(1, text(name)) for name in needed]
    tags += [(14, text(soname))] if soname else []
    tags += [(29, text(runpath))] if runpath else []
    # undefined symbols first, as DT_GNU_HASH knows the others alone
    names = [("", 0), *((name, 0) for name in wants), *((name, 1) for name in has)]
    layout = f"{order}IIIBxH" if bits == 32 else f"{order}IBxHQQ"
    symbols = b"".join(
        struct.pack(layout, text(name), 0, 0, 0x12 if name else 0, section)
        if bits == 32
        else struct.pack(layout, text(name), 0x12 if name else 0, section, 0, 0)
        for name, section in names
    )
    hashed = struct.pack(f"{order}II", 1, len(names)) + bytes(4 * (1 + len(names)))
    if gnu_hash:
        first = len(names) - len(tuple(has))
        chain = [*([2] * (len(names) - first - 1)), *([3] if first < len(names) else [])]
        bucket = first if chain else 0
        hashed = struct.pack(f"{order}IIII", 1, first, 1, 0) + bytes(bits // 8)
        hashed += struct.pack(f"{order}{1 + len(chain)}I", bucket, *chain)
    abiflags = bytes(7) + bytes([mips_float or 0]) + bytes(16) if mips_float is not None else b""
    head, entry = (64, 56) if bits == 64 else (52, 32)
    count = 2 + bool(abiflags)
    parts = [bytes(strings), symbols, hashed, abiflags]
    places, at = [], head + count * entry
    for part in parts:
        places.append(at)
        at += len(part)
    tags += [(5, places[0]), (10, len(strings))]
    if len(names) > 1:
        tags += [(6, places[1]), (0x6FFFFEF5 if gnu_hash else 4, places[2])]
    dynamic = b"".join(struct.pack(f"{order}{word}{word}", *tag) for tag in (*tags, (0, 0)))

    def program(kind: int, offset: int, length: int) -> bytes:
        if bits == 64:
            return struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, offset, offset, length, length, 1)
        return struct.pack(f"{order}IIIIIIII", kind, offset, offset, offset, length, length, 4, 1)

    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if little else 2, 1]) + bytes(9)
    rest = struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH", 3, machine, 1, 0, head, 0, flags, head, entry, count, 0, 0, 0
    )
    headers = program(1, 0, at + len(dynamic)) + program(2, at, len(dynamic))
    headers += program(0x70000003, places[3], len(abiflags)) if abiflags else b""
    return ident + rest + headers + b"".join(parts) + dynamic


def only_index(monkeypatch: pytest.MonkeyPatch, folder: Path, files: Iterable[Path]) -> None:
    """Make these files the only package index there is, whatever pip is told on this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", make_index(folder, files))


def make_index(folder: Path, files: Iterable[Path]) -> str:
    """A package index in a folder (PEP 503), with hashes; its address."""
    root = folder / "simple"
    for file in files:
        name = file.name.partition("-")[0].replace("_", "-").lower()
        page = root / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        copy = folder / "files" / file.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
        link = f'<a href="{copy.absolute().as_uri()}#sha256={sha256}">{file.name}</a><br>\n'
        old = page.read_text() if page.exists() else "<!DOCTYPE html><html><body>\n"
        page.write_text(old + link)
    root.mkdir(parents=True, exist_ok=True)
    return root.as_uri()
