"""The UEFI firmware that QEMU starts an x86-64 machine with, found as QEMU's own descriptors say.

Distributions keep the firmware under names of their own, and describe it in JSON files in three folders.
Source: QEMU's docs/interop/firmware.json, which says how the folders are searched and what the keys mean;
`mode` of a flash mapping is there since QEMU 7.0. Where no descriptor serves, known file names do.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from imagebuilder.called import typed
from imagebuilder.errors import HostError

DESCRIPTOR_BYTES = 1 << 20  # genuine ones have some 1,000 bytes
ARCHITECTURE = "x86_64"
# SMM wants a secured flash, which `-machine q35` by itself does not give; enrolled keys start signed kernels
# only, and no kernel of ours is
_UNFIT_FEATURES = frozenset({"requires-smm", "enrolled-keys"})

Mode = Literal["split", "combined", "stateless", "memory"]


@dataclass(frozen=True)
class FirmwareFile:
    """A file of the firmware, and what QEMU calls its format (`raw`, `qcow2`)."""

    path: Path
    format: str = "raw"


@dataclass(frozen=True)
class Uefi:
    """Firmware that fits. mode: `split` has its variables in a file of their own, `combined` in the program's
    own, `stateless` and `memory` (not in a flash at all) keep none. origin: the descriptor's path, or "" for
    a known file name."""

    program: FirmwareFile
    variables: FirmwareFile | None
    mode: Mode
    origin: str

    def arguments(self) -> list[str]:
        """QEMU's options for it. The files stay as they are: what the machine writes is thrown away."""
        if self.mode == "memory":
            return ["-bios", str(self.program.path)]
        kept = "snapshot=on" if self.mode == "combined" else "readonly=on"
        options = ["-drive", _flash(self.program, kept)]
        return [*options, "-drive", _flash(self.variables, "snapshot=on")] if self.variables else options


# code and variables as packages without a descriptor call them; the 4 MiB builds are the current ones
KNOWN_FILES: tuple[tuple[str, str], ...] = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),  # Debian 13, Ubuntu 24.04
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),  # Debian 11 and 12, Alpine
    ("/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2", "/usr/share/edk2/ovmf/OVMF_VARS_4M.qcow2"),  # Fedora
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),  # Arch
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),  # openSUSE
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),  # QEMU's own builds
)


class _UnfitError(Exception):
    """A descriptor that cannot be read, or whose files are not there."""


def descriptor_folders(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where descriptors lie, from the general to the specific: the distribution's, the administrator's, the
    user's."""
    folders = [Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware")]
    home = environment.get("XDG_CONFIG_HOME") or (
        environment.get("HOME") and f"{environment['HOME']}/.config"
    )
    return (*folders, Path(home, "qemu/firmware")) if home else tuple(folders)


def find_uefi(folders: Sequence[Path] | None = None, known: Sequence[tuple[str, str]] = KNOWN_FILES) -> Uefi:
    """The firmware for `-machine q35`: of the descriptors that fit the first by file name, else a known file.

    Firmware with its variables in a file of their own comes first, as with libvirt: without them it is mostly
    made for encrypted machines, and starts only what is built into it. folders: by default
    descriptor_folders(). HostError if there is none, with every descriptor that could not be used, and why.
    """
    faults: list[str] = []
    fitting: list[Uefi] = []
    for place in _descriptors(descriptor_folders() if folders is None else folders):
        try:
            fitting += _read_descriptor(place)
        except _UnfitError as error:
            faults.append(f"{place}: {error}")
    named = [_known(code, variables) for code, variables in known if _are_files(code, variables)]
    for uefi in (*(each for each in fitting if each.mode == "split"), *named, *fitting):
        return uefi
    unusable = "".join(f"\n{fault}" for fault in faults)
    raise HostError(
        f"there is no UEFI firmware for QEMU on this machine{unusable}",
        hint=f"{typed('doctor')} says which package brings it",
    )


def has_uefi() -> bool:
    """Whether find_uefi() finds one."""
    try:
        find_uefi()
    except HostError:
        return False
    return True


def _descriptors(folders: Sequence[Path]) -> list[Path]:
    """The files that count, by file name. One in a later folder hides its namesake."""
    by_name: dict[str, Path] = {}
    for folder in folders:
        try:
            by_name.update({file.name: file for file in folder.iterdir() if file.suffix == ".json"})
        except OSError:  # not there, or not for us
            continue
    return [by_name[name] for name in sorted(by_name)]


def _read_descriptor(place: Path) -> Iterator[Uefi]:
    """The firmware of a descriptor, if it fits. _UnfitError if it is broken or its files are not there."""
    facts = _json(place)
    if facts is None or not _fits(facts):
        return
    mapping = _table(facts, "mapping")
    device = mapping.get("device")
    if device == "memory":
        yield Uefi(FirmwareFile(_file(mapping)), None, "memory", str(place))
    elif device == "flash":
        program = _flash_file(mapping, "executable")
        mode = mapping.get("mode", "split")
        if mode == "split":
            yield Uefi(program, _flash_file(mapping, "nvram-template"), "split", str(place))
        elif mode in ("combined", "stateless"):
            yield Uefi(program, None, "combined" if mode == "combined" else "stateless", str(place))
        else:
            raise _UnfitError(f"mapping.mode is {mode!r}, which is not known here")


def _json(place: Path) -> dict[str, object] | None:
    """What the file says; None for an empty one."""
    try:
        status = place.stat()
        if status.st_size == 0:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size > DESCRIPTOR_BYTES:
            raise _UnfitError(f"it is no file of up to {DESCRIPTOR_BYTES} bytes")
        facts = json.loads(place.read_bytes())
    except OSError as error:
        raise _UnfitError(f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _UnfitError(f"it is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise _UnfitError("it is no JSON object")
    return facts


def _fits(facts: Mapping[str, object]) -> bool:
    """Whether the firmware is UEFI for our machine and needs no more than that has."""
    targets = [each for each in _list(facts, "targets") if isinstance(each, dict)]
    return (
        "uefi" in _list(facts, "interface-types")
        and not _UNFIT_FEATURES.intersection(map(str, _list(facts, "features")))
        and any(
            target.get("architecture") == ARCHITECTURE
            and any(map(_is_our_machine, _list(target, "machines")))
            for target in targets
        )
    )


def _is_our_machine(pattern: object) -> bool:
    """Whether a glob of machine types takes in every version of q35, which stands for QEMU's newest."""
    return isinstance(pattern, str) and (fnmatchcase("pc-q35-", pattern) or pattern == "q35")


def _table(facts: Mapping[str, object], key: str) -> dict[str, object]:
    value = facts.get(key)
    if not isinstance(value, dict):
        raise _UnfitError(f"{key} is no object")
    return value


def _list(facts: Mapping[str, object], key: str) -> list[object]:
    value = facts.get(key, [])
    if not isinstance(value, list):
        raise _UnfitError(f"{key} is no list")
    return value


def _flash_file(mapping: Mapping[str, object], key: str) -> FirmwareFile:
    file = _table(mapping, key)
    form = file.get("format")
    if not isinstance(form, str) or not re.fullmatch(r"[a-z0-9-]+", form):
        raise _UnfitError(f"mapping.{key}.format is no format's name")
    return FirmwareFile(_file(file), form)


def _file(facts: Mapping[str, object]) -> Path:
    name = facts.get("filename")
    if not isinstance(name, str) or not name.startswith("/") or "\0" in name:
        raise _UnfitError("filename is no absolute path")
    try:
        there = Path(name).is_file()
    except (OSError, ValueError) as error:  # a name that no file can have: too long, no Unicode
        raise _UnfitError(f"there is no file {name!r}") from error
    if not there:
        raise _UnfitError(f"there is no file {name!r}")
    return Path(name)


def _are_files(*names: str) -> bool:
    return all(Path(name).is_file() for name in names)


def _known(code: str, variables: str) -> Uefi:
    form = "qcow2" if code.endswith(".qcow2") else "raw"
    return Uefi(FirmwareFile(Path(code), form), FirmwareFile(Path(variables), form), "split", "")


def _flash(file: FirmwareFile, use: str) -> str:
    """A pflash drive; a comma separates in QEMU's options, and is doubled where it is meant."""
    return f"if=pflash,format={file.format},{use},file={str(file.path).replace(',', ',,')}"
