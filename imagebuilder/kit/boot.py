"""The parts of the disk that every image shares: the ESP with kernel and initramfs, the empty overlay."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.kit.cpio import initramfs
from imagebuilder.kit.disk import esp_size, genimage, make_overlay
from imagebuilder.kit.kernel import load_order, module_file
from imagebuilder.kit.layout import OVERLAY
from imagebuilder.kit.materials import Materials
from imagebuilder.kit.recipe import GUEST
from imagebuilder.kit.system_packages import BUSYBOX, applet_links, guest_tree
from imagebuilder.rootfs.tree import Entry, FileTree, file_at, file_of, folder

SYSTEMD_BOOT = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_MOUNT_POINTS = ("/dev", "/overlay", "/proc", "/rom", "/root", "/sys")


def initramfs_tree(materials: Materials) -> FileTree:
    """What puts the root together: init, busybox, and the modules in the order of /lib/modules/load."""
    busybox, kernel = materials.main_stage[BUSYBOX], materials.kernel
    order = load_order(kernel, materials.recipe.initramfs_modules)
    entries: dict[str, Entry] = {path: folder() for path in _MOUNT_POINTS}
    entries |= {BUSYBOX: busybox, **applet_links(busybox)}
    entries |= {f"/lib/modules/{name}.ko": file_at(module_file(kernel, name)) for name in order}
    entries["/lib/modules/load"] = file_of("".join(f"{name}\n" for name in order).encode())
    return guest_tree("initramfs").merged(entries)


def make_boot_parts(materials: Materials, into: Path) -> None:
    """Write the ESP and the overlay's file system into a folder.

    Equal input gives equal bytes. ProgramError where genimage, mtools, mkdosfs or mke2fs fail.
    """
    into.mkdir(parents=True, exist_ok=True)
    with disk_errors_explained(into), tempfile.TemporaryDirectory(dir=into) as name:
        inputs = Path(name)
        (inputs / "initrd").write_bytes(initramfs(initramfs_tree(materials)))
        shutil.copyfile(materials.kernel.image, inputs / "vmlinuz")
        shutil.copyfile(materials.boot / SYSTEMD_BOOT, inputs / "systemd-bootx64.efi")
        for text in ("loader.conf", "openwrt.conf"):
            shutil.copyfile(GUEST / "tree" / text, inputs / text)
        size = esp_size(list(inputs.iterdir()))
        config = (GUEST / "tree/esp.cfg").read_text("utf-8")
        genimage(config, {"ESP_SIZE": str(size)}, inputs, into, materials.epoch)
    make_overlay(into / OVERLAY, materials.epoch)
