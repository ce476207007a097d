"""Native code of source distributions: compiled for the target, left out, or refused before a build.
No network, and no zig but where its own part is tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import util
from pathlib import Path

import pytest

from imagebuilder.config.model_config import Python
from imagebuilder.host.cache import Cache
from imagebuilder.host.elf import read_elf
from imagebuilder.host.elf_symbols import read_symbols
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.python.build import zig as zig_module
from imagebuilder.python.build.native_source import source_facts
from imagebuilder.python.build.zig import (
    NoCompilerError,
    Toolchain,
    find_zig,
    has_time32,
    lay_compiler,
    parse_pyconfig,
    zig_options,
)
from imagebuilder.python.requirements import index as index_module
from imagebuilder.python.requirements import index_build
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.requirements.index_build import (
    PURE,
    CompilerChangedError,
    NativeSourceError,
    SourceBuilds,
    no_compiler,
)
from imagebuilder.python.requirements.requirements import (
    feed_distributions,
    resolve_requirements,
    wheels_of,
)
from imagebuilder.python.wheels.target import wheel_target
from imagebuilder.python.wheels.tree import NativeCodeError
from imagebuilder.python.wheels.wheels import read_wheel
from tests.support.native_maker import (
    HEADERS,
    fake_zig,
    make_native_sdist,
    make_setuptools,
    make_setuptools_sdist,
    make_toolchain,
    mips_module,
)
from tests.support.wheel_maker import make_sdist, make_wheel, only_index

MIPS = wheel_target("3.11.7", "mips_24kc", "23.05")
OLD_MIPS = wheel_target("3.11.7", "mips_24kc", "21.02")
X86 = wheel_target("3.11.7", "x86_64", "23.05")
Compiler = Callable[[], Toolchain]
UseIndex = Callable[..., PackageIndex]
has_zig = pytest.mark.skipif(
    util.find_spec("ziglang") is None, reason="the wheel ziglang (100 MB) is not installed: the extra native"
)


@pytest.fixture
def use_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseIndex:
    """Makes these files the only package index there is."""

    def use(files: Iterable[Path], compiler: Compiler = no_compiler) -> PackageIndex:
        only_index(monkeypatch, tmp_path / "index", files)
        return PackageIndex(Cache(tmp_path / "cache"), Log(), compiler=compiler)

    return use


@pytest.mark.parametrize(
    ("arch", "triple", "cpu"),
    [
        ("mips_24kc", "mips-linux-musleabi", "mips32r2+soft_float"),
        ("mipsel_24kc", "mipsel-linux-musleabi", "mips32r2+soft_float"),
        ("mipsel_24kc_24kf", "mipsel-linux-musleabihf", "mips32r2"),
        ("arm_cortex-a9_vfpv3-d16", "arm-linux-musleabihf", "cortex_a9-neon-d32"),
        ("arm_cortex-a7_neon-vfpv4", "arm-linux-musleabihf", "cortex_a7"),
        ("arm_cortex-a9", "arm-linux-musleabi", "cortex_a9+soft_float"),
        ("aarch64_cortex-a53", "aarch64-linux-musl", "cortex_a53"),
        ("x86_64", "x86_64-linux-musl", "x86_64"),
    ],
)
def test_how_zig_calls_a_target(arch: str, triple: str, cpu: str) -> None:
    assert zig_options(wheel_target("3.11.7", arch, "23.05")) == (triple, cpu)


def test_targets_that_are_not_compiled_for() -> None:
    with pytest.raises(NoCompilerError, match="it is not known how zig calls powerpc_8548"):
        zig_options(wheel_target("3.11.7", "powerpc_8548", "23.05"))
    with pytest.raises(NoCompilerError, match="its C library is glibc"):
        zig_options(wheel_target("3.11.2", "x86_64", "23.05", glibc=(2, 36)))


def test_where_time_t_has_32_bits() -> None:
    found = {
        (arch, series): has_time32(wheel_target("3.11.7", arch, series))
        for arch in ("mips_24kc", "arm_cortex-a9", "x86_64", "aarch64_generic")
        for series in ("17.01", "21.02", "22.03")
    }
    assert {each for each, old in found.items() if old} == {
        (arch, series) for arch in ("mips_24kc", "arm_cortex-a9") for series in ("17.01", "21.02")
    }


def test_what_pyconfig_defines() -> None:
    assert parse_pyconfig(HEADERS["pyconfig.h"]) == {"HAVE_FORK": 1, "SIZEOF_LONG": 4, "NAME": "x"}


def test_what_a_compiled_wheel_depends_on_is_in_its_key(tmp_path: Path) -> None:
    one = make_toolchain(tmp_path / "a", MIPS, fake_zig(tmp_path / "zig"))
    assert one.key.startswith("zig 0.1 -target mips-linux-musleabi -mcpu=mips32r2+soft_float -Os ")
    assert one.key.endswith(", python3-dev 3.11.7-1 abc")
    others = [
        make_toolchain(tmp_path / "b", MIPS, fake_zig(tmp_path / "zig", version="0.2")),
        make_toolchain(tmp_path / "c", OLD_MIPS, fake_zig(tmp_path / "zig")),
        make_toolchain(tmp_path / "d", X86, fake_zig(tmp_path / "zig")),
    ]
    assert len({one.key, *(each.key for each in others)}) == 4


def test_what_setuptools_is_told_of_the_target(tmp_path: Path) -> None:
    toolchain = make_toolchain(tmp_path / "headers", OLD_MIPS, fake_zig(tmp_path / "zig"))
    (tmp_path / "files").mkdir()
    told = lay_compiler(toolchain, tmp_path / "files", sys.executable)
    assert told["CC"] == "/builder/work/files/compiler/cc"
    assert told["LDSHARED"] == "/builder/work/files/compiler/cc -shared -s"
    assert told["_PYTHON_HOST_PLATFORM"] == "linux-mips"
    code = "import sysconfig, json; print(json.dumps(sysconfig.get_config_vars()))"
    variables = {**told, "PYTHONPATH": str(tmp_path / "files/compiler"), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, check=True)
    known = json.loads(done.stdout)
    assert (known["EXT_SUFFIX"], known["CC"], known["HAVE_FORK"]) == (".so", told["CC"], 1)
    assert (known["INCLUDEPY"], known["SIZEOF_LONG"]) == ("/builder/work/files/compiler/include", 4)
    assert (tmp_path / "files/compiler/include/Python.h").is_file()


def run_wrapper(tmp_path: Path, toolchain: Toolchain, *arguments: str) -> list[str]:
    """What zig is called with when a build calls its compiler so."""
    if not (tmp_path / "files").exists():
        (tmp_path / "files").mkdir()
        lay_compiler(toolchain, tmp_path / "files", sys.executable)
    (tmp_path / "called").unlink(missing_ok=True)
    wrapper = tmp_path / "files/compiler/compile.py"
    argv = [sys.executable, str(wrapper), *arguments]
    subprocess.run(argv, env={"TMPDIR": str(tmp_path)}, cwd=tmp_path, check=True)
    return (tmp_path / "called").read_text().splitlines()


def test_what_lies_on_this_machine_does_not_reach_the_compiler(tmp_path: Path) -> None:
    toolchain = make_toolchain(tmp_path / "headers", OLD_MIPS, fake_zig(tmp_path / "zig"))
    given = [
        "-I/usr/include/python3.11",
        "-I",
        "/usr/include",
        "-Iinclude",
        "-L/usr/lib",
        "-isystem",
        "/opt/x",
    ]
    (line,) = run_wrapper(tmp_path, toolchain, "cc", *given, "-I/usrlocal", "-c", "a.c", "-o", "a.o")
    words = line.split()
    assert words[:4] == ["cc", "-target", "mips-linux-musleabi", "-mcpu=mips32r2+soft_float"]
    assert [word for word in words if "/usr" in word or "/opt" in word] == ["-I/usrlocal"]
    assert {"-Iinclude", "-c", "a.c", "-g0", "-ffile-prefix-map=/builder/tree=."} <= set(words)
    assert words[words.index("-include") + 1].endswith("/time32.h")
    assert "-I" not in words
    assert run_wrapper(tmp_path, toolchain, "ar", "rcs", "a.a", "/usr/a.o") == ["ar rcs a.a /usr/a.o"]


def test_cpp_is_linked_with_its_library_where_it_has_names_of_it(tmp_path: Path) -> None:
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig"))
    made = str(tmp_path / "made.so")
    assert [line.split()[0] for line in run_wrapper(tmp_path, toolchain, "c++", "-shared", "-o", made)] == [
        "cc"
    ]
    fake_zig(tmp_path / "zig", mips_module(wants=["_Znwj"]))
    called = run_wrapper(tmp_path, toolchain, "c++", "-shared", "-o", made)
    assert [line.split()[0] for line in called] == ["cc", "c++"]


def test_a_c_extension_is_compiled_for_the_target_and_locked(tmp_path: Path, use_index: UseIndex) -> None:
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig"))
    index = use_index([make_native_sdist(tmp_path / "files")], lambda: toolchain)
    resolved = resolve_requirements(["fast"], MIPS, {}, index)
    (pin,) = resolved.pins
    assert (pin.filename, pin.built) == ("fast-1.0.tar.gz", toolchain.key)
    wheel = wheels_of(resolved, MIPS, index)["fast"]
    assert wheel.path.name == "fast-1.0-cp311-cp311-openwrt_mips_24kc.whl"
    assert wheel.files["fast_ext.so"].data == mips_module()
    assert not wheel.pure
    newer = make_toolchain(tmp_path / "newer", MIPS, fake_zig(tmp_path / "zig", version="0.2"))
    offline = PackageIndex(index.cache, Log(), offline=True, compiler=lambda: newer)
    with pytest.raises(CompilerChangedError, match=r"compiled by zig 0\.1 .* and here is zig 0\.2 "):
        wheels_of(resolved, MIPS, offline)
    with pytest.raises(NoCompilerError):
        wheels_of(resolved, MIPS, PackageIndex(index.cache, Log(), offline=True))
    assert [pin.built for pin in resolve_requirements(["fast"], MIPS, {}, index).pins] == [toolchain.key]


def test_two_builds_give_the_same_bits(tmp_path: Path) -> None:
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig"))
    sdist = make_native_sdist(tmp_path / "files")
    one, other = (
        PackageIndex(Cache(tmp_path / name), Log(), compiler=lambda: toolchain).wheel_of(
            sdist, "fast 1", MIPS
        )
        for name in ("one", "other")
    )
    assert one.read_bytes() == other.read_bytes()
    assert one.resolve() != other.resolve()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"flags": 0x80001007}, "instructions that mips_24kc lacks"),
        ({"mips_float": 1}, "floating point"),
        ({"little": True}, "for another processor"),
        (
            {"wants": ["__clock_gettime64"]},
            "calls __clock_gettime64, and neither the device's C library nor its",
        ),
    ],
)
def test_what_is_compiled_must_fit(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig", mips_module(**changes)))
    index = PackageIndex(Cache(tmp_path / "cache"), Log(), compiler=lambda: toolchain)
    with pytest.raises(NativeCodeError, match=problem):
        index.wheel_of(make_native_sdist(tmp_path / "files"), "fast 1", MIPS)


def test_what_musl_before_1_2_writes_otherwise_is_refused(tmp_path: Path) -> None:
    made = mips_module(wants=["shmctl"])
    sdist = make_native_sdist(tmp_path / "files")
    for target, fits in ((OLD_MIPS, False), (MIPS, True)):
        zig, place = fake_zig(tmp_path / "zig", made), tmp_path / target.libc_version.__repr__()
        toolchain = make_toolchain(place, target, zig, exports=("shmctl",))
        index = PackageIndex(Cache(place / "cache"), Log(), compiler=lambda made=toolchain: made)  # type: ignore[misc]
        if fits:
            assert index.wheel_of(sdist, "fast 1", target).is_symlink()
        else:
            with pytest.raises(
                NativeCodeError, match=r"calls shmctl, whose times musl 1\.1 writes otherwise"
            ):
                index.wheel_of(sdist, "fast 1", target)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "1:10: fatal error: 'yaml.h' file not found",
            "it wants yaml.h, and of libraries only the C library is there",
        ),
        (
            "87:4: error: function definition is not allowed here",
            "it has functions within functions, which GCC alone compiles",
        ),
    ],
)
def test_what_does_not_compile_says_what_it_lacks(tmp_path: Path, said: str, told: str) -> None:
    zig = fake_zig(tmp_path / "zig")
    zig.program.write_text(f'#!/bin/sh\necho "fast_ext.c:{said}" >&2; exit 1\n')
    toolchain = make_toolchain(tmp_path / "headers", MIPS, zig)
    index = PackageIndex(Cache(tmp_path / "cache"), Log(), compiler=lambda: toolchain)
    with pytest.raises(NativeSourceError, match=re.escape(said)) as caught:
        index.wheel_of(make_native_sdist(tmp_path / "files"), "fast 1", MIPS)
    assert told in (caught.value.hint or "")
    assert "OpenWrt's SDK" in (caught.value.hint or "")


def test_what_does_not_compile_is_told_in_a_few_lines_and_not_compiled_again(
    tmp_path: Path, counted: list[str]
) -> None:
    zig = fake_zig(tmp_path / "zig")
    noise = "; ".join(f'echo "fast_ext.c:{n}:1: error: no member {n} in x" >&2' for n in range(40))
    zig.program.write_text(f"#!/bin/sh\n{noise}; exit 1\n")
    toolchain = make_toolchain(tmp_path / "headers", MIPS, zig)
    index = PackageIndex(Cache(tmp_path / "cache"), Log(), compiler=lambda: toolchain)
    sdist = make_native_sdist(tmp_path / "files")
    with pytest.raises(NativeSourceError, match="it does not compile:") as caught:
        index.wheel_of(sdist, "fast 1", MIPS)
    first, *lines, log = caught.value.message.splitlines()
    assert "fast_ext.c" in first
    assert lines == [f"fast_ext.c:{number}:1: error: no member {number} in x" for number in range(3)]
    assert "no member 39 in x" in Path(log.removeprefix("the whole log: ")).read_text()
    with pytest.raises(NativeSourceError) as again:
        index.wheel_of(sdist, "fast 1", MIPS)
    assert (again.value.message, again.value.hint) == (caught.value.message, caught.value.hint)
    assert counted.count("build") == 1
    with pytest.raises(NativeSourceError):
        index.wheel_of(sdist, "fast 2", MIPS)  # another source
    assert counted.count("build") == 2


@pytest.mark.parametrize("said", ["x.c:1:1: error: Cannot allocate memory", "Killed"])
def test_what_may_be_this_machines_fault_is_tried_again(
    tmp_path: Path, counted: list[str], said: str
) -> None:
    zig = fake_zig(tmp_path / "zig")
    zig.program.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    toolchain = make_toolchain(tmp_path / "headers", MIPS, zig)
    index = PackageIndex(Cache(tmp_path / "cache"), Log(), compiler=lambda: toolchain)
    sdist = make_native_sdist(tmp_path / "files")
    for _ in range(2):
        with pytest.raises(NativeSourceError, match=said):
            index.wheel_of(sdist, "fast 1", MIPS)
    assert counted.count("build") == 2


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of pip, and each build."""
    found: list[str] = []
    pip, build = index_module.pip, index_build.build_wheel

    def counting_pip(arguments: list[str], *rest: object, **named: object) -> object:
        found.append(f"pip {arguments[0]}")
        return pip(arguments, *rest, **named)  # type: ignore[arg-type]

    def counting_build(*given: object, **named: object) -> object:
        found.append("build")
        return build(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "pip", counting_pip)
    monkeypatch.setattr(index_build, "build_wheel", counting_build)
    return found


def test_what_is_missing_is_said_before_anything_is_built(
    tmp_path: Path, use_index: UseIndex, counted: list[str]
) -> None:
    """Asked once, fetched once, built never; nothing of the source runs, also not for its name."""
    broken = b"from setuptools import Extension\nraise SystemExit('this was run')\next_modules = []\n"
    index = use_index([make_setuptools_sdist(tmp_path / "files", setup=broken)])
    with pytest.raises(NativeSourceError) as caught:
        resolve_requirements(["fast"], MIPS, {}, index)
    assert counted == ["pip download", "pip download"]
    assert "has code to compile for the target (fast_ext.c): " in caught.value.message
    assert '{ name = "fast", pure = true }' in (caught.value.hint or "")
    assert "python3-fast for mips_24kc" in (caught.value.hint or "")


def test_the_message_names_the_extra_that_brings_the_compiler(
    tmp_path: Path, use_index: UseIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zig_module.util, "find_spec", lambda name: None)

    def find() -> Toolchain:
        raise AssertionError(find_zig())

    index = use_index([make_setuptools_sdist(tmp_path / "files")], find)
    with pytest.raises(NativeSourceError, match="the compiler, zig, is not installed") as caught:
        resolve_requirements(["fast"], MIPS, {}, index)
    assert f"{sys.executable} -m pip install ziglang" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("requires", "tools"),
    [
        ("maturin>=1", "Rust (maturin)"),
        ("meson-python", "meson (meson-python)"),
        ("scikit_build_core", "cmake"),
    ],
)
def test_a_build_that_wants_more_than_c_is_refused_at_once(
    tmp_path: Path, use_index: UseIndex, counted: list[str], requires: str, tools: str
) -> None:
    project = f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "x"\n'.encode()
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig"))
    index = use_index([make_setuptools_sdist(tmp_path / "files", project=project)], lambda: toolchain)
    with pytest.raises(NativeSourceError) as caught:
        resolve_requirements(["fast"], MIPS, {}, index)
    assert f"its build wants {tools}" in caught.value.message
    assert "build" not in counted


def test_native_code_is_left_out_where_that_is_asked_for(
    tmp_path: Path, use_index: UseIndex, counted: list[str]
) -> None:
    files = tmp_path / "files"
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig"))
    more = [make_setuptools(files), make_wheel(files, "user", requires=["fast>=1"])]
    index = use_index([make_setuptools_sdist(files), *more], lambda: toolchain)
    feed = feed_distributions([Package("python3-fast", "1.0-1")])
    resolved = resolve_requirements(["fast>=1", "user"], MIPS, feed, index, pure=["Fast"])
    assert resolved.feed == {}
    assert {pin.name: pin.built for pin in resolved.pins} == {"fast": PURE, "user": ""}
    wheel = wheels_of(resolved, MIPS, index)["fast"]
    assert (wheel.pure, list(wheel.files)) == (True, ["fast.py"])
    assert counted.count("build") == 1
    offline = PackageIndex(index.cache, Log(), offline=True)
    assert resolve_requirements(["fast>=1", "user"], MIPS, feed, offline, pure=["fast"]) == resolved


def test_a_wheel_without_native_code_is_taken_where_that_is_asked_for(
    tmp_path: Path, use_index: UseIndex
) -> None:
    files, tag = tmp_path / "files", "cp311-cp311-musllinux_1_2_x86_64"
    native = make_wheel(files, "fast", files={"fast.so": b"x"}, tag=tag, pure=False)
    index = use_index([native, make_wheel(files, "fast"), make_wheel(files, "fast", "0.9")])
    assert [pin.filename for pin in resolve_requirements(["fast"], X86, {}, index).pins] == [native.name]
    (pin,) = resolve_requirements(["fast"], X86, {}, index, pure=["fast"]).pins
    assert (pin.filename, pin.built) == ("fast-1.0-py3-none-any.whl", "")


@pytest.mark.parametrize(
    ("setup", "needs"),
    [
        (b"ext_modules=[Extension('x', ['x.c'])]", True),
        (b"ext_modules=[Extension('x', ['x.c'], optional=True)]", False),
        (
            b"class B(build_ext):\n  def f(self):\n    try: 1\n    except CompileError: 1\next_modules=1",
            False,
        ),
        (b"try:\n  can_compile()\nexcept CompileError:\n  pass\next_modules=[Extension('x')]", True),
        (b"setup(name='x')", False),
    ],
)
def test_whether_a_source_does_without_its_extension(tmp_path: Path, setup: bytes, needs: bool) -> None:
    (tmp_path / "setup.py").write_bytes(setup)
    (tmp_path / "x.c").write_text("int x;")
    facts = source_facts(tmp_path)
    assert (facts.native, facts.setuptools, facts.tools, facts.needs_compiler) == (("x.c",), True, "", needs)


def test_a_source_that_does_without_its_extension_is_built_without(
    tmp_path: Path, use_index: UseIndex
) -> None:
    setup = b"from setuptools import Extension\nx = Extension('x', ['x.c'], optional=True)\n"
    files = tmp_path / "files"
    index = use_index([make_setuptools_sdist(files, setup=setup), make_setuptools(files)])
    resolved = resolve_requirements(["fast"], MIPS, {}, index)
    assert [(pin.name, pin.built) for pin in resolved.pins] == [("fast", PURE)]
    assert wheels_of(resolved, MIPS, index)["fast"].pure


def test_a_requirement_in_a_config_may_be_a_table() -> None:
    found = Python.model_validate({"requirements": ["bottle>=0.13", {"name": "msgpack>=1", "pure": True}]})
    assert [(each.name, each.pure) for each in found.requirements] == [
        ("bottle>=0.13", False),
        ("msgpack>=1", True),
    ]
    with pytest.raises(ValueError, match="is no requirement such as"):
        Python.model_validate({"requirements": [{"name": "bottle>="}]})


@has_zig
@pytest.mark.parametrize(
    ("arch", "series", "flags", "old"),
    [
        ("mips_24kc", "17.01", 0x70001007, True),
        ("mipsel_24kc", "23.05", 0x70001007, False),
        ("arm_cortex-a9_vfpv3-d16", "21.02", 0x5000400, True),
        ("aarch64_cortex-a53", "21.02", 0, False),
    ],
)
def test_zig_compiles_for_the_target(tmp_path: Path, arch: str, series: str, flags: int, old: bool) -> None:
    target = wheel_target("3.11.7", arch, series)
    clock = "clock_gettime" if old or arch.startswith("aarch64") else "__clock_gettime64"
    toolchain = make_toolchain(
        tmp_path / "headers", target, find_zig(), exports=("PyModule_Create2", "puts", clock)
    )
    sdist = make_native_sdist(tmp_path / "files")
    built = [
        SourceBuilds(cache, Log(), True, lambda: toolchain, PackageIndex(cache, Log()).named).wheel(
            sdist, "fast 1", target
        )
        for cache in (Cache(tmp_path / "one"), Cache(tmp_path / "other"))
    ]
    assert [each.how for each in built] == [toolchain.key] * 2
    assert built[0].path.read_bytes() == built[1].path.read_bytes()
    module = read_wheel(built[0].path).files["fast_ext.so"].data
    assert read_elf(module).header.flags == flags
    assert read_elf(module).needed == ("libc.so",)
    assert read_symbols(module).wanted == {"PyModule_Create2", "puts", clock}
    assert b"/builder" not in module
    assert str(tmp_path).encode() not in module


@has_zig
def test_what_zig_cannot_compile_is_told(tmp_path: Path) -> None:
    toolchain = make_toolchain(tmp_path / "headers", MIPS, find_zig())
    index = PackageIndex(Cache(tmp_path / "cache"), Log(), compiler=lambda: toolchain)
    sdist = make_native_sdist(tmp_path / "files", files={"fast_ext.c": b"#include <yaml.h>\n"})
    with pytest.raises(NativeSourceError, match="'yaml.h' file not found"):
        index.wheel_of(sdist, "fast 1", MIPS)


def test_what_comes_to_no_native_code_is_compiled_once(
    tmp_path: Path, use_index: UseIndex, counted: list[str]
) -> None:
    toolchain = make_toolchain(tmp_path / "headers", MIPS, fake_zig(tmp_path / "zig"))
    sdist = make_sdist(tmp_path / "files", "slow", "1.0", more={"_speed.c": b"int x;"})
    index = use_index([sdist], lambda: toolchain)
    for _ in range(2):
        resolved = resolve_requirements(["slow"], MIPS, {}, index)
        assert [pin.built for pin in resolved.pins] == [PURE]
        assert wheels_of(resolved, MIPS, index)["slow"].pure
    assert counted.count("build") == 1
