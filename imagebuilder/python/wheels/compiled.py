"""A wheel that was compiled here, made the target's: each file checked, its tag that of the target, and the
same bytes whenever the same was compiled."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from imagebuilder.host.elf import is_elf
from imagebuilder.host.elf_symbols import read_symbols
from imagebuilder.python.wheels.target import WheelTarget
from imagebuilder.python.wheels.tree import NativeCodeError, natives_of, wanted_libraries
from imagebuilder.python.wheels.wheels import Wheel, WheelFile, read_wheel

_TIME = (2020, 1, 1, 0, 0, 0)
_SHOWN = 5
_OWN_LINES = re.compile(rb"^(Tag|Root-Is-Purelib):.*\r?\n?", re.MULTILINE | re.IGNORECASE)
# musl 1.2 has these for what has a time in it, and musl 1.1 writes less than they expect
OTHER_TIME = frozenset({"shmctl", "semctl", "msgctl"})


def compiled_wheel(
    built: Path, target: WheelTarget, exports: Collection[str], folder: Path, *, time32: bool = False
) -> Path:
    """The wheel of a build for a target, written anew into a folder, which is made: one of pure Python where
    the build left its native code out. exports: what the device's C library and Python have; time32: whether
    its time_t has 32 bits.

    NativeCodeError for a file that does not fit, or that wants what the device has not; WheelError.
    """
    wheel = read_wheel(built)
    wanted_libraries(
        natives_of(wheel), target
    )  # whether something has these is seen when all packages are known
    _check_symbols(wheel, exports, time32=time32)
    native = any(is_elf(file.data) for file in wheel.files.values())
    python = f"cp{''.join(map(str, target.version_pair))}"
    tag = f"{python}-{target.abis()[0]}-{target.own_platform}" if native else "py3-none-any"
    about = _OWN_LINES.sub(b"", wheel.dist_info["WHEEL"].data).rstrip(b"\r\n")
    about += f"\nRoot-Is-Purelib: {str(not native).lower()}\nTag: {tag}\n".encode()
    info = wheel.data_folder.removesuffix(".data/") + ".dist-info/"
    files = dict(wheel.files)
    files |= {info + name: file for name, file in wheel.dist_info.items() if name != "RECORD"}
    files[info + "WHEEL"] = WheelFile(about, 0o644)
    folder.mkdir()
    stem = wheel.data_folder.removesuffix(".data/")
    place = folder / f"{stem}-{tag}.whl"
    _write(place, files, info)
    return place


def _check_symbols(wheel: Wheel, exports: Collection[str], *, time32: bool) -> None:
    symbols = {name: read_symbols(file.data) for name, file in wheel.files.items() if is_elf(file.data)}
    own = {name for each in symbols.values() for name in each.defined}
    for name, each in symbols.items():
        lacking = sorted(each.wanted - own - set(exports))
        if lacking:
            more = ", ..." if len(lacking) > _SHOWN else ""
            raise NativeCodeError(
                f"{wheel.path.name}: {name} calls {', '.join(lacking[:_SHOWN])}{more}, and neither the"
                " device's C library nor its Python has that",
                hint="take an older release of it, or a newer release of OpenWrt",
            )
        other = sorted(each.wanted & OTHER_TIME) if time32 else []
        if other:
            raise NativeCodeError(
                f"{wheel.path.name}: {name} calls {other[0]}, whose times musl 1.1 writes otherwise than it"
                " was compiled for",
                hint="take a newer release of OpenWrt, or build it as a feed package with OpenWrt's SDK",
            )


def _write(place: Path, files: Mapping[str, WheelFile], info: str) -> None:
    record = []
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(file.data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(file.data)}\n")
            _add(archive, name, file)
        record.append(f"{info}RECORD,,\n")
        _add(archive, f"{info}RECORD", WheelFile("".join(record).encode(), 0o644))


def _add(archive: zipfile.ZipFile, name: str, file: WheelFile) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = (0o100000 | file.mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, file.data)
