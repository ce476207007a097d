"""The squashfs of an image as the tree itself would make it: its options, and a run of its own mksquashfs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.run import clean_environment, find_program, run
from imagebuilder.model.tree import Places
from imagebuilder.tree.tree import config_settings, settings_of

SQUASHFS_SECONDS = 600.0
_KIB = 1 << 10
# which names CONFIG_ARCH gives a kernel's own name (include/kernel.mk); every other is the kernel's own
_KERNEL_ARCH = {
    **dict.fromkeys(("aarch64", "aarch64_be"), "arm64"),
    **dict.fromkeys(("mipsel", "mips64", "mips64el"), "mips"),
    **dict.fromkeys(("i386", "i686", "x86_64"), "x86"),
    **{"armeb": "arm", "powerpc64": "powerpc", "riscv64": "riscv", "arceb": "arc"},
}
_BCJ = re.compile(r"\$\(filter ([a-z0-9 ]+),\$\(LINUX_KARCH\)\)")
_XZ = re.compile(r"(?m)^LZMA_XZ_OPTIONS\s*:=\s*(.+)$")
_PSEUDO = re.compile(r"-p '([^'\n]+)'")
_COMMAND = re.compile(r"mksquashfs4 .*?(?=\nendef|\n\n)", re.DOTALL)
_PLAIN = ("-nopad", "-noappend", "-root-owned", "-xattrs", "-no-xattrs", "-all-root")

Wrap = Callable[[Sequence[str]], list[str]]


class MeasureError(UserError):
    """The tree does not say how it makes a squashfs, or its mksquashfs fails."""


@dataclass(frozen=True)
class SquashfsOptions:
    """How a tree makes its squashfs. program: relative to the tree, or a host program's name. compressor:
    xz, gzip or zstd; block: bytes; filters: whether machine code is filtered (-Xbcj); arguments: all but
    the folder and the image."""

    program: str
    compressor: str
    block: int
    filters: bool
    arguments: tuple[str, ...]


def squashfs_options(tree: Path, places: Places) -> SquashfsOptions:
    """What include/image.mk and .config of a tree say. Source: include/image.mk, which in this is the same
    from 17.01 to 25.12. MeasureError where they do not say it."""
    settings = settings_of(tree)
    block = settings.get("TARGET_SQUASHFS_BLOCK_SIZE", "")
    if not re.fullmatch(r"[0-9]{1,5}", block) or not int(block):
        raise MeasureError(
            f"{tree}/.config does not say how large the blocks of a squashfs are",
            hint="CONFIG_TARGET_SQUASHFS_BLOCK_SIZE is missing: this tree makes no squashfs",
        )
    makefile = tree / "include/image.mk"
    if "KIT_SQUASHFS_COMPRESSOR" in settings:
        return _kit_options(settings, int(block) * _KIB)
    if not makefile.is_file():
        raise MeasureError(f"{makefile} is missing", hint="is that an ImageBuilder's tree?")
    # whether the target's kernel reads xz stands in its own .config, which make reads too
    config = tree / places.linux / ".config"
    known = bool(places.linux) and config.is_file()
    kernel = config.read_text("utf-8", "replace") if known else "CONFIG_SQUASHFS_XZ=y"
    settings = {**settings, "SQUASHFS_XZ": config_settings(kernel).get("SQUASHFS_XZ", "n")}
    return _makefile_options(makefile.read_text("utf-8", "replace"), settings, int(block) * _KIB)


def _makefile_options(text: str, settings: dict[str, str], block: int) -> SquashfsOptions:
    """The options of a tree of OpenWrt's."""
    command = _COMMAND.search(text)
    if command is None:
        raise MeasureError("include/image.mk has no call of mksquashfs4", hint="is the tree whole?")
    plain = [word for word in command[0].split() if word in _PLAIN]
    if "CONFIG_SELINUX" in text:
        plain.append("-xattrs" if settings.get("SELINUX") == "y" else "-no-xattrs")
    more: list[str] = []
    compressor, filters = "gzip", False
    if settings["SQUASHFS_XZ"] == "y":
        found, bcj = _XZ.search(text), _BCJ.search(text)
        arch = settings.get("ARCH", "")
        arch = _KERNEL_ARCH.get(arch, arch)
        compressor, more = "xz", found[1].split() if found else []
        filters = bcj is not None and arch in bcj[1].split()
        more += ["-Xbcj", arch] if filters else []
    pseudo = [word for definition in _PSEUDO.findall(text) for word in ("-p", definition)]
    arguments = (*plain, "-comp", compressor, *more, "-b", str(block), *pseudo, "-processors", "1")
    return SquashfsOptions("staging_dir/host/bin/mksquashfs4", compressor, block, filters, arguments)


def _kit_options(settings: dict[str, str], block: int) -> SquashfsOptions:
    """The embedded kit's: the host's own mksquashfs (kit/disk.py)."""
    name, *more = shlex.split(settings["KIT_SQUASHFS_COMPRESSOR"])
    arguments = ("-noappend", "-no-xattrs", "-all-root", "-comp", name, *more, "-b", str(block))
    return SquashfsOptions("mksquashfs", name, block, False, arguments)


def measure_squashfs(
    tree: Path,
    options: SquashfsOptions,
    root: Path,
    image: Path,
    *,
    epoch: int = 0,
    wrap: Wrap = list,
    seen_tree: Path | None = None,
    seen: Callable[[Path], Path] = Path,
) -> int:
    """Make a squashfs of the folder `root` and say how many bytes it has.

    image: is written over. epoch: the time that images are dated (tree.reproducible); what is in root has
    that time too, as in the image. wrap, seen_tree, seen: how the program runs in a private view, where the
    tree is there, and where a path of ours is. MeasureError, with what mksquashfs said last, if it fails.
    """
    program = options.program
    program = str((seen_tree or tree) / program) if "/" in program else find_program(program)
    image.unlink(missing_ok=True)
    argv = [program, str(seen(root)), str(seen(image)), *options.arguments]
    env = clean_environment(SOURCE_DATE_EPOCH=str(epoch))  # the stand-ins for tools of old trees want it
    done = run(wrap(argv), env=env, timeout=SQUASHFS_SECONDS, check=False)
    if done.code != 0 or not image.is_file():
        last = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
        raise MeasureError(
            f"{program} made no squashfs:\n{last}", hint="does `make image` work in this tree?"
        )
    return image.stat().st_size
