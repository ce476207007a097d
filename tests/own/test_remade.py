"""python.compile: packages of sources become packages of bytecode, when it is asked for or makes sense."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from imagebuilder.config.model_config import Python
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.package import Package
from imagebuilder.own.remade import compiled_packages, is_compiled
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.opkg.version import compare_versions
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
MAGIC = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
LIB = f"/usr/lib/python{VERSION}"


def content(name: str, **files: str) -> LocalPackage:
    tree = {path.replace("__", "/"): file_of(text.encode()) for path, text in files.items()}
    return LocalPackage(
        Package(name, "3.6.0-2", filename=f"{name}.ipk", size=9, sha256="a"),
        FileTree({f"{LIB}/{path}": entry for path, entry in tree.items()}),
        {"postinst": b"#!/bin/sh\n"},
    )


def compiled(
    tmp_path: Path, contents: list[LocalPackage], python: Python | None = None, log: Log | None = None
) -> dict[str, LocalPackage]:
    compiler = Compiler(
        Interpreter((sys.executable,), VERSION, MAGIC), tmp_path / "pyc", 0, VERSION, log or Log()
    )
    named = {each.package.name: each for each in contents}
    return compiled_packages(named, python or Python(), compiler, LIB, Opkg())


def test_sources_are_left_out_and_the_version_sorts_right_after(tmp_path: Path) -> None:
    light = content("python3-light", **{"json.py": "x = 1\n", "lib-dynload__a.so": "elf"})
    (made,) = compiled(tmp_path, [light, content("python3-data", **{"a.txt": "1"})]).values()
    files = [path for path, entry in made.tree.items() if entry.kind == "file"]
    assert files == [f"{LIB}/json.pyc", f"{LIB}/lib-dynload/a.so"]
    assert made.package.version.startswith("3.6.0-2+compiled.")
    assert compare_versions(made.package.version, "3.6.0-2") > 0
    assert compare_versions(made.package.version, "3.6.0-3") < 0
    assert (made.package.filename, made.package.size, made.package.sha256) == ("", 0, "")
    assert made.scripts == light.scripts


def test_what_has_bytecode_and_twins_of_sources_stay_as_they_are(tmp_path: Path) -> None:
    both = content("python3-base", **{"os.py": "x = 1\n", "os.pyc": "bytecode"})
    twin = content("python3-base-src", **{"stat.py": "x = 1\n"})
    assert compiled(tmp_path, [both, twin]) == {}


def test_a_source_that_does_not_compile_stays_with_a_warning(tmp_path: Path) -> None:
    said: list[Event] = []
    whole = content("python3-lib2to3", **{"good.py": "x = 1\n", "bad.py": "print 'two'\n"})
    (made,) = compiled(tmp_path, [whole], log=Log([said.append])).values()
    assert {path.rpartition("/")[2] for path, entry in made.tree.items() if entry.kind == "file"} == {
        *("bad.py", "good.pyc")
    }
    assert [event.text for event in said if isinstance(event, Warned)] == [
        f"python3-lib2to3: not compiled, for it does not compile: {LIB}/bad.py"
    ]


def test_sources_that_are_asked_for_stay_beside_their_bytecode(tmp_path: Path) -> None:
    (made,) = compiled(tmp_path, [content("p", **{"a.py": "x = 1\n"})], Python(source=True)).values()
    tag = VERSION.replace(".", "")
    assert f"{LIB}/a.py" in made.tree
    assert f"{LIB}/__pycache__/a.cpython-{tag}.pyc" in made.tree


@pytest.mark.parametrize(
    ("series", "python", "expected"),
    [
        ("17.01", Python(variant="auto"), True),
        ("17.01", Python(variant="light", requirements=("bottle",)), True),
        ("17.01", Python(variant="light"), False),
        ("17.01", Python(variant="light", compile=True), True),
        ("17.01", Python(variant="auto", compile=False), False),
        ("17.01", Python(variant="auto", source="only"), False),
        ("18.06", Python(variant="auto"), False),
        ("23.05", Python(variant="auto", compile=True), True),
    ],
)
def test_when_feed_packages_are_compiled(series: str, python: Python, expected: bool) -> None:
    assert is_compiled(python, load_catalogue(series)) is expected


def test_bytecode_and_only_sources_contradict_one_another() -> None:
    with pytest.raises(ValidationError, match="contradict"):
        Python(compile=True, source="only")
