"""Source distributions with C code, Python's headers, and a program that plays zig, for tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from imagebuilder.python.build.zig import Headers, Toolchain, Zig, parse_pyconfig
from imagebuilder.python.wheels.target import WheelTarget
from tests.support.wheel_maker import BACKEND as PURE_BACKEND
from tests.support.wheel_maker import make_elf, make_wheel

SOURCE = b"""#include <Python.h>
#include <stdio.h>
#include <time.h>

double fast_scale(double value, long long steps) { return value * (double)(steps / 3); }
const char *fast_built(void) { return __FILE__; }
long fast_now(void) { struct timespec now; return clock_gettime(CLOCK_MONOTONIC, &now) ? 0 : now.tv_sec; }
PyObject *PyInit_fast_ext(void) { puts("loaded"); return PyModule_Create2(0, PYTHON_API_VERSION); }
"""
HEADERS = {
    "Python.h": "typedef struct _object PyObject;\n#include <pyconfig.h>\n#define PYTHON_API_VERSION 1013\n"
    "PyObject *PyModule_Create2(void *module, int version);\n",
    "pyconfig.h": "#define HAVE_FORK 1\n#define SIZEOF_LONG 4\n/* #undef HAVE_NONE */\n"
    '#define NAME "x" /* y */\n',
    "patchlevel.h": '#define PY_VERSION "3.11.7"\n',
}
# a build with nothing but what it is given: what setuptools does for an extension, by the same variables
BACKEND = """
import base64, hashlib, os, subprocess, sysconfig, zipfile

NAME, VERSION = {name!r}, {version!r}
METADATA = "Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: " + VERSION


def build_wheel(folder, settings=None, metadata=None):
    variables = sysconfig.get_config_vars()
    source, made = NAME + "_ext.c", NAME + "_ext" + variables["EXT_SUFFIX"]
    compiler = os.environ["CC"].split() + variables["CFLAGS"].split() + variables["CCSHARED"].split()
    includes = ["-I" + variables["INCLUDEPY"], "-I/usr/include/python3.11", "-I", "/usr/include"]
    subprocess.run([*compiler, *includes, "-c", source, "-o", "x.o"], check=True)
    subprocess.run([*os.environ["LDSHARED"].split(), "x.o", "-L/usr/lib", "-o", made], check=True)
    stem = NAME + "-" + VERSION
    tag = "cp311-cp311-" + sysconfig.get_platform().replace("-", "_")
    files = {{
        NAME + ".py": b"import " + NAME.encode() + b"_ext\\n",
        made: open(made, "rb").read(),
        stem + ".dist-info/METADATA": METADATA.encode(),
        stem + ".dist-info/WHEEL": ("Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: " + tag).encode(),
    }}
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(path + ",sha256=" + digest + "," + str(len(data)))
    files[stem + ".dist-info/RECORD"] = "\\n".join(rows + [stem + ".dist-info/RECORD,,", ""]).encode()
    place = stem + "-" + tag + ".whl"
    with zipfile.ZipFile(os.path.join(folder, place), "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)  # with the time of this build
    return place
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
# what setuptools would do where it is asked whether there are extensions
SETUPTOOLS = """
class Distribution:
    def has_ext_modules(self):
        return True
"""
SETUPTOOLS_META = """
import os, sys

import setuptools


def build_wheel(folder, settings=None, metadata=None):
    if setuptools.Distribution().has_ext_modules():
        raise SystemExit("error: command 'false' failed with exit code 1")
    sys.path.insert(0, os.getcwd())
    import backend

    return backend.build_wheel(folder)
"""
# plays zig: writes down what it is called with, and gives the library that lies beside it
FAKE_ZIG = """#!/bin/sh
echo "$@" >> "$TMPDIR/called"
while [ $# -gt 0 ]; do
    [ "$1" = -o ] && cp "$(dirname "$0")/made.so" "$2"
    shift
done
"""


def make_native_sdist(
    folder: Path, name: str = "fast", version: str = "1.0", *, files: Mapping[str, bytes] | None = None
) -> Path:
    """A source distribution whose extension is plain C. files: more, or the same in place of its own."""
    content = {
        "pyproject.toml": PYPROJECT.encode(),
        "backend.py": BACKEND.format(name=name, version=version).encode(),
        f"{name}_ext.c": SOURCE,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        **(files or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(place, "w:gz") as archive:
        for path, data in content.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return place


SETUP = b"""from setuptools import Extension, setup
setup(ext_modules=[Extension("fast_ext", ["fast_ext.c"])])
"""
SETUPTOOLS_PROJECT = b"""[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""


def make_setuptools_sdist(folder: Path, *, setup: bytes = SETUP, project: bytes = SETUPTOOLS_PROJECT) -> Path:
    """A source distribution of setuptools, which builds without its extension if it is not asked for it.
    setup, project: its setup.py and pyproject.toml."""
    backend = PURE_BACKEND.format(name="fast", version="1.0", fails=False, tag="py3-none-any").encode()
    files = {"fast.py": b"ANSWER = 42\n", "pyproject.toml": project, "setup.py": setup, "backend.py": backend}
    return make_native_sdist(folder, files=files)


def make_setuptools(folder: Path) -> Path:
    """A wheel that plays setuptools, as far as extensions go."""
    files = {
        "setuptools/__init__.py": SETUPTOOLS.encode(),
        "setuptools/build_meta.py": SETUPTOOLS_META.encode(),
    }
    return make_wheel(folder, "setuptools", "99", files=files)


def write_headers(folder: Path) -> Headers:
    """Python's headers in a folder, as python3-dev has them."""
    folder.mkdir(parents=True)
    for name, text in HEADERS.items():
        (folder / name).write_text(text)
    return Headers(folder, "python3-dev 3.11.7-1 abc", parse_pyconfig(HEADERS["pyconfig.h"]))


def fake_zig(folder: Path, made: bytes | None = None, version: str = "0.1") -> Zig:
    """A program that plays zig. made: what it gives, by default a module for mips_24kc."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made.so").write_bytes(made if made is not None else mips_module())
    program = folder / "zig"
    program.write_text(FAKE_ZIG)
    program.chmod(0o755)
    return Zig(program, version)


def mips_module(**changes: object) -> bytes:
    """What zig makes for mips_24kc."""
    facts: dict[str, object] = {
        **{"machine": 8, "bits": 32, "little": False, "flags": 0x70001007, "mips_float": 3},
        **{"wants": ["PyModule_Create2", "puts"], "has": ["PyInit_fast_ext"]},
        **changes,
    }
    return make_elf(["libc.so"], **facts)  # type: ignore[arg-type]


def make_toolchain(
    folder: Path, target: WheelTarget, zig: Zig, exports: tuple[str, ...] = ("PyModule_Create2", "puts")
) -> Toolchain:
    """A compiler for a target with such headers. exports: what the device has."""
    return Toolchain(zig, target, write_headers(folder), frozenset(exports))
