"""zig as the C compiler of a target: its options, and what a build in the sandbox is given of it.

`zig cc` is clang with musl's headers and start files for each of its targets; what it links wants the
device's own libc.so, and brings what compilers call of libgcc. PyPI's `ziglang` brings the program.
setuptools asks sysconfig for everything else, which is told here: of the target only its pyconfig.h counts,
since the rest of its sysconfig names programs and folders of the machine on which OpenWrt was built.

Sources: zig's `zig targets`; OpenWrt's include/target.mk and target/linux for processors and float ABIs (the
same flags stand in the files of its feeds); CPython's Lib/sysconfig.py for the names of variables.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources, util
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.walk import copy_tree
from imagebuilder.python.wheels.target import WheelTarget

INSTALL = f"{sys.executable} -m pip install ziglang (100 MB; the extra `native` of this project)"
COMPILE, TIME32 = "compile.py", "data/time32.h"  # texts, not imported
_PLACE = bubblewrap.WORK / "files" / "compiler"
_VARIABLES = "_sysconfigdata_of_the_target"
# small code, as OpenWrt's own; no traps for undefined behaviour, which zig adds where nobody optimizes
FLAGS = ("-Os", "-DNDEBUG", "-fPIC", "-fno-strict-aliasing", "-fwrapv")
_ALWAYS = ("-fno-sanitize=undefined", "-g0", f"-ffile-prefix-map={bubblewrap.TREE}=.", "-Wno-date-time")
_FOREIGN = ("/usr", "/lib", "/lib64", "/opt", "/etc")
_DEFINE = re.compile(r"^#define\s+(\w+)\s+(.*?)\s*(?:/\*.*)?$", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+")

# by OpenWrt's names: zig's target and processor
_TARGETS: tuple[tuple[str, str, str], ...] = (
    (r"mips_(24kc|74kc|4kec)", "mips-linux-musleabi", "mips32r2+soft_float"),
    (r"mipsel_(24kc|74kc|4kec)", "mipsel-linux-musleabi", "mips32r2+soft_float"),
    (r"mipsel_24kc_24kf", "mipsel-linux-musleabihf", "mips32r2"),
    (r"mips_mips32", "mips-linux-musleabi", "mips32+soft_float"),
    (r"mipsel_mips32", "mipsel-linux-musleabi", "mips32+soft_float"),
    (r"arm_cortex-a(\d+)_vfpv3(-d16)?", "arm-linux-musleabihf", r"cortex_a\1-neon-d32"),
    (r"arm_cortex-a(\d+)_(neon|vfpv4|neon-vfpv4)", "arm-linux-musleabihf", r"cortex_a\1"),
    (r"arm_cortex-a(\d+)", "arm-linux-musleabi", r"cortex_a\1+soft_float"),
    (r"arm_arm1176jzf-s_vfp", "arm-linux-musleabihf", "arm1176jzf_s"),
    (r"arm_arm926ej-s", "arm-linux-musleabi", "arm926ej_s+soft_float"),
    (r"aarch64_cortex-a(53|72|76)", "aarch64-linux-musl", r"cortex_a\1"),
    (r"aarch64_generic", "aarch64-linux-musl", "generic"),
    (r"x86_64", "x86_64-linux-musl", "x86_64"),
    (r"i386_pentium4", "x86-linux-musl", "pentium4"),
    (r"riscv64.*", "riscv64-linux-musl", "baseline_rv64"),
)


class NoCompilerError(UserError):
    """C code cannot be compiled for a target. lacking: what is not there."""

    def __init__(self, lacking: str, *, hint: str) -> None:
        super().__init__(f"C code cannot be compiled for the target: {lacking}", hint=hint)
        self.lacking = lacking


@dataclass(frozen=True, slots=True)
class Zig:
    """The program, and its version, which the digest of what it makes counts."""

    program: Path
    version: str


@dataclass(frozen=True, slots=True)
class Headers:
    """Python's headers. folder: with Python.h; source: the package and its SHA-256; variables: what
    pyconfig.h defines."""

    folder: Path
    source: str
    variables: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """All that compiling for a target takes. exports: names that its C library and its Python have for
    modules."""

    zig: Zig
    target: WheelTarget
    headers: Headers
    exports: frozenset[str] = field(repr=False)

    @property
    def key(self) -> str:
        """What a compiled wheel depends on besides its source, as a lock says it."""
        ours = hashlib.sha256("".join(map(_text, (COMPILE, TIME32))).encode()).hexdigest()[:8]
        words = [
            f"zig {self.zig.version}",
            *self.options(),
            *FLAGS,
            "time32" if has_time32(self.target) else "",
            ours,
        ]
        return f"{' '.join(filter(None, words))}, {self.headers.source}"

    @property
    def machine(self) -> str:
        """What uname says there."""
        return self.target.markers()["platform_machine"]

    def options(self) -> tuple[str, ...]:
        """zig's, for the processor. NoCompilerError as of zig_options()."""
        triple, cpu = zig_options(self.target)
        return ("-target", triple, f"-mcpu={cpu}")


def _text(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def find_zig() -> Zig:
    """The one of the ziglang wheel in our own Python. NoCompilerError where it is not there."""
    found = util.find_spec("ziglang")
    program = Path(found.origin).parent / "zig" if found is not None and found.origin else None
    if program is None or not program.is_file():
        raise NoCompilerError("the compiler, zig, is not installed", hint=INSTALL)
    return Zig(program, metadata.version("ziglang"))


def zig_options(target: WheelTarget) -> tuple[str, str]:
    """zig's target and processor. NoCompilerError for a C library or a processor that are not known here."""
    if target.libc != "musl":
        raise NoCompilerError(
            f"its C library is {target.libc}, and zig is used for musl",
            hint="take a wheel of a package index",
        )
    for pattern, triple, cpu in _TARGETS:
        found = re.fullmatch(pattern, target.arch)
        if found is not None and target.machine is not None:
            return triple, found.expand(cpu)
    raise NoCompilerError(
        f"it is not known how zig calls {target.arch}", hint="build a feed package with OpenWrt's SDK"
    )


def has_time32(target: WheelTarget) -> bool:
    """Whether time_t has 32 bits there: musl before 1.2 on 32-bit processors."""
    machine = target.machine
    return machine is not None and machine.bits == 32 and target.libc_version < (1, 2)


def parse_pyconfig(text: str) -> dict[str, str | int]:
    """What pyconfig.h defines, as sysconfig has it: numbers as such."""
    return {
        name: int(value) if _NUMBER.fullmatch(value) else value.strip('"')
        for name, value in _DEFINE.findall(text)
    }


def lay_compiler(toolchain: Toolchain, files: Path, python: str) -> dict[str, str]:
    """Lay what a build needs of a compiler into the folder that it sees as bubblewrap.WORK / "files"; it has
    to see zig's own folder too. python: the program that runs there. Returns the variables of its
    environment."""
    folder = files / "compiler"
    folder.mkdir()
    copy_tree(toolchain.headers.folder, folder / "include", lambda _: True)
    (folder / COMPILE).write_text(_text(COMPILE), "utf-8")
    (folder / "time32.h").write_text(_text(TIME32), "utf-8")
    (folder / "settings.json").write_text(json.dumps(_settings(toolchain)), "utf-8")
    for tool in ("cc", "c++", "ar", "ranlib"):
        script = f'#!/bin/sh\nexec {python} -I -S {_PLACE}/{COMPILE} {tool} "$@"\n'
        (folder / tool).write_text(script, "utf-8")
        (folder / tool).chmod(0o755)
    known = _sysconfig(toolchain)
    (folder / f"{_VARIABLES}.py").write_text(f"build_time_vars = {known!r}\n", "utf-8")
    cache = str(bubblewrap.WORK / "tmp" / "zig")
    return {
        **{name: str(known[name]) for name in ("CC", "CXX", "LDSHARED", "LDCXXSHARED", "CPP", "AR")},
        **{"RANLIB": f"{_PLACE}/ranlib", "LD": f"{_PLACE}/cc", "SETUPTOOLS_EXT_SUFFIX": ".so"},
        **{"_PYTHON_SYSCONFIGDATA_NAME": _VARIABLES, "PYTHONPATH": str(_PLACE)},
        **{"_PYTHON_HOST_PLATFORM": f"linux-{toolchain.machine}"},
        **{"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, "ZERO_AR_DATE": "1"},
    }


def _settings(toolchain: Toolchain) -> dict[str, object]:
    # of what is linked without -O zig makes its own part for debugging, ten times as large
    first = [*toolchain.options(), *FLAGS, f"-I{_PLACE}/include"]
    if has_time32(toolchain.target):
        first += ["-include", f"{_PLACE}/time32.h"]
    foreign = dict.fromkeys((*_FOREIGN, sys.base_prefix, sys.prefix))
    return {
        "zig": str(toolchain.zig.program),
        "first": first,
        "last": list(_ALWAYS),
        "foreign": [each for each in foreign if each != "/"],
    }


def _sysconfig(toolchain: Toolchain) -> dict[str, str | int]:
    """The variables of sysconfig (get_config_vars) that building extensions asks for."""
    target = toolchain.target
    compiler, include = f"{_PLACE}/cc", f"{_PLACE}/include"
    flags, version = " ".join(FLAGS), "{}.{}".format(*target.version_pair)
    return {
        **toolchain.headers.variables,
        **{"CC": compiler, "CXX": f"{_PLACE}/c++", "CPP": f"{compiler} -E", "AR": f"{_PLACE}/ar"},
        **{"LDSHARED": f"{compiler} -shared -s", "LDCXXSHARED": f"{_PLACE}/c++ -shared -s"},
        **{"BLDSHARED": f"{compiler} -shared -s", "ARFLAGS": "rcs", "CCSHARED": "-fPIC", "LDFLAGS": ""},
        **{"OPT": flags, "CFLAGS": flags, "BASECFLAGS": "", "PY_CFLAGS": flags, "CONFIGURE_CFLAGS": flags},
        **{"SHLIB_SUFFIX": ".so", "EXT_SUFFIX": ".so", "SO": ".so", "SOABI": target.abis()[0]},
        **{"INCLUDEPY": include, "CONFINCLUDEPY": include, "Py_ENABLE_SHARED": 0, "MULTIARCH": ""},
        **{"prefix": "/usr", "exec_prefix": "/usr", "LIBDIR": "/usr/lib", "BINDIR": "/usr/bin"},
        **{"LIBDEST": f"/usr/lib/python{version}", "VERSION": version, "LIBRARY": "", "LDLIBRARY": ""},
        **{"abiflags": "m" if target.abis()[0].endswith("m") else "", "Py_DEBUG": 0, "Py_GIL_DISABLED": 0},
    }
