"""A requirement with C code in a plan: the compiler's headers and what the device has, of the feeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.request import requests
from imagebuilder.errors import UserError
from imagebuilder.log import Log
from imagebuilder.model.control import parse_depends
from imagebuilder.model.package import Package
from imagebuilder.own import native
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.python.build.zig import NoCompilerError, Zig
from imagebuilder.python.requirements import index_build
from imagebuilder.python.requirements.index_build import NativeSourceError
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_of
from imagebuilder.tree.plan import Plan
from tests.support.native_maker import (
    HEADERS,
    SETUP,
    SETUPTOOLS_PROJECT,
    fake_zig,
    make_native_sdist,
    mips_module,
)
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_elf, make_index, only_index

BOARD = "tplink-tl-wr740n-v4"
INCLUDE = "/usr/include/python3.11"
AskedPlan = Callable[..., Plan]


def library(*names: str) -> FileTree:
    data = make_elf(
        machine=8, bits=32, little=False, flags=0x70001005, mips_float=3, has=names, gnu_hash=True
    )
    return FileTree({"/lib/ld-musl-mips-sf.so.1": file_of(data)})


def headers(version: str = "3.11.7") -> FileTree:
    files = {f"{INCLUDE}/{name}": file_of(text.encode()) for name, text in HEADERS.items()}
    files[f"{INCLUDE}/patchlevel.h"] = file_of(f'#define PY_VERSION "{version}"\n'.encode())
    return FileTree(files)


@pytest.fixture
def asked(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    add_config: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> AskedPlan:
    sdist = make_native_sdist(tmp_path / "files", files={"setup.py": b"ext_modules = []\n"})
    only_index(monkeypatch, tmp_path / "index", [sdist])
    monkeypatch.setattr(native, "find_zig", lambda: fake_zig(tmp_path / "zig"))
    packages = small_tree / "packages"
    for old in packages.glob("libc_*"):
        old.unlink()
    write_ipk(packages, Package("libc", "1.2.4-4", "mips_24kc"), library("puts"), epoch=1)
    write_ipk(
        packages,
        Package("libpython3-3.11", "3.11.7-1", "mips_24kc"),
        library("PyModule_Create2"),
        epoch=1,
    )

    def ask(development: FileTree | None = None, version: str = "3.11.7-1") -> Plan:
        base = Package("python3-base", "3.11.7-1", "mips_24kc", depends=parse_depends("libpython3-3.11"))
        write_ipk(packages, base, EMPTY, epoch=1)
        if development is not None:
            write_ipk(packages, Package("python3-dev", version, "mips_24kc"), development, epoch=1)
        add_config("mine", 'extends = "router"\n[python]\nvariant = "base"\nrequirements = ["fast"]\n')
        (request,) = requests(
            project, "mine", board=BOARD, imagebuilder=str(small_tree), cache=tmp_path / "cache"
        )
        return plan_image(request, Log())

    return ask


def test_a_requirement_is_compiled_with_the_feeds_headers(asked: AskedPlan) -> None:
    plan = asked(headers())
    (made,) = (each.package for each in plan.install if each.name == "python3-fast")
    assert (made.version, made.architecture) == ("1.0-1", "mips_24kc")
    assert "python3-dev" not in {each.name for each in plan.install}


def test_what_the_device_has_not_is_seen_before_anything_is_built(
    asked: AskedPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mips_module(wants=["PyModule_Create2", "puts", "__time64"])
    monkeypatch.setattr(native, "find_zig", lambda: fake_zig(tmp_path / "other", made))
    with pytest.raises(UserError, match=r"fast_ext\.so calls __time64, and neither"):
        asked(headers())


def test_another_c_library_than_musl_is_told(asked: AskedPlan, small_tree: Path) -> None:
    (libc,) = (small_tree / "packages").glob("libc_*")
    tree = FileTree({"/lib/libuClibc-1.0.14.so": library("puts")["/lib/ld-musl-mips-sf.so.1"]})
    libc.unlink()
    write_ipk(small_tree / "packages", Package("libc", "1.0.14-1", "mips_24kc"), tree, epoch=1)
    with pytest.raises(NativeSourceError, match=r"libc 1\.0\.14-1 is not musl"):
        asked(headers())


@pytest.mark.parametrize(
    ("development", "version", "why"),
    [
        (None, "", r"no feed has python3-dev, and python3-base is 3\.11\.7-1"),
        (headers(), "3.11.6-1", r"the feeds have python3-dev 3\.11\.6-1, and python3-base is 3\.11\.7-1"),
        (headers("3.10.1"), "3.11.7-1", r"has the headers of Python 3\.10\.1"),
        (EMPTY, "3.11.7-1", r"python3-dev 3\.11\.7-1 has no headers of Python"),
    ],
)
def test_headers_that_are_missing_or_others_are_told(
    asked: AskedPlan, development: FileTree | None, version: str, why: str
) -> None:
    with pytest.raises(NativeSourceError, match=why) as caught:
        asked(development, version)
    assert "python3-fast for mips_24kc" in (caught.value.hint or "")


@pytest.mark.parametrize("lacking", ["zig", "python3-dev"])
def test_what_is_missing_is_said_before_anything_is_built(
    asked: AskedPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """No build requirement is fetched or installed, and no program of the source is run."""
    setup = {"setup.py": SETUP, "pyproject.toml": SETUPTOOLS_PROJECT}
    sdist = make_native_sdist(tmp_path / "setuptools", files=setup)
    monkeypatch.setenv("PIP_INDEX_URL", make_index(tmp_path / "other", [sdist]))

    def absent() -> Zig:
        raise NoCompilerError("the compiler, zig, is not installed", hint="install it")

    def built(*_: object) -> Path:
        raise AssertionError("it was built")

    monkeypatch.setattr(index_build, "build_wheel", built)
    if lacking == "zig":
        monkeypatch.setattr(native, "find_zig", absent)
    with pytest.raises(NativeSourceError, match=lacking):
        asked(headers() if lacking == "zig" else None)


def test_without_zig_the_error_says_how_to_get_it(asked: AskedPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> Zig:
        raise NoCompilerError("the compiler, zig, is not installed", hint="install it")

    monkeypatch.setattr(native, "find_zig", lacking)
    with pytest.raises(NativeSourceError, match="zig, is not installed") as caught:
        asked(headers())
    assert "install it" in (caught.value.hint or "")
