"""A tree for a small NOR flash, for tests: its make installs packages, packs them and follows a recipe.

Nothing in it is OpenWrt's. It looks like an 18.06 ImageBuilder for ar71xx/generic, whose images need no
metadata: a kernel that it has, makefiles that say how its image is made and how large that may be, and some
packages, Python among them, which compress as those of a real feed do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.budget.flash_kinds import kind_of, ratio_for
from imagebuilder.model.control import parse_depends
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import FileTree, file_of, symlink
from tests.support import firmware_writers as writers

BOARD = "nor-test"
PROFILE = "nor"
RELEASE = "18.06.9"
ARCH = "mips_24kc"
BLOCK = 64 << 10
FIRMWARE = 24 * BLOCK  # of a flash of 2 MiB
IMAGE = f"openwrt-{RELEASE}-ar71xx-generic-{PROFILE}-squashfs-sysupgrade.bin"
EPOCH = 1_600_000_000
_PIECE = 64 << 10  # four of them are a block of the squashfs
_KDIR = "build_dir/target-x/linux-ar71xx_generic"

BOARD_TOML = f"""\
name  = "A board of the tests"
soc   = "none"
ram   = "64M"
flash = "2M"

[layout]
firmware = {FIRMWARE}

[[profile]]
releases = "18.06"
target   = "ar71xx/generic"
name     = "{PROFILE}"
arch     = "{ARCH}"

[images]
sysupgrade = {{ format = "uimage-squashfs", required = true }}
"""


@dataclass(frozen=True)
class Content:
    """A package. pieces: how many times 64 KiB its one file has."""

    name: str
    pieces: int
    section: str = "base"
    depends: str = "libc"
    version: str = "1"


PACKAGES = (
    Content("base-files", 0),
    Content("libc", 1, "libs", ""),
    Content("busybox", 2),
    Content("dropbear", 1),
    Content("kmod-wifi", 2, "kernel", "kernel"),
    Content("kernel", 0, "sys", ""),
    Content("ppp", 1, depends="libc, libppp"),
    Content("libppp", 1, "libs"),
    Content("micropython", 2, "lang"),
    Content("python3-base", 4, "lang"),
    Content("python3-light", 5, "lang", "python3-base"),
    Content("python3", 22, "lang", "python3-light"),
)
DEFAULTS = ("base-files", "busybox", "dropbear", "libc", "ppp")
PROFILE_PACKAGES = ("kmod-wifi",)

_INSTALL = """\
#!/bin/sh
# install ROOT MANIFEST NAME...: packages and all that they need, remembered as opkg does
set -e
root="$1" records="$1/usr/lib/opkg" manifest="$2"
shift 2
mkdir -p "$records/info"
install() {
	local name="$1" file each
	[ ! -f "$records/info/$name.control" ] || return 0
	file="$(echo packages/"$name"_*.ipk)"
	[ -f "$file" ] || { echo " * opkg_install_cmd: Cannot install package $name."; exit 255; }
	tar -xzOf "$file" ./control.tar.gz | tar -xzO ./control > "$records/info/$name.control"
	for each in $(sed -n 's/^Depends: //p' "$records/info/$name.control" | tr -d ,); do install "$each"; done
	tar -xzOf "$file" ./data.tar.gz | tar -xz -C "$root"
	tar -xzOf "$file" ./data.tar.gz | tar -tz | sed -n 's|^[.]\\(/.*[^/]\\)$|\\1|p' \\
		> "$records/info/$name.list"
	sed '/^$/d' "$records/info/$name.control" >> "$records/status"
	printf 'Status: install user installed\\n\\n' >> "$records/status"
	echo "$name - $(sed -n 's/^Version: //p' "$records/info/$name.control")" >> "$manifest"
}
for name; do install "$name"; done
"""
_MAKEFILE = """\
KERNEL_BUILD_DIR := $(CURDIR)/@KDIR@
LINUX_DIR := $(KERNEL_BUILD_DIR)/linux-4.9.243
TARGET_DIR := $(CURDIR)/build_dir/target-x/root-ar71xx
PACKAGE_DIR := $(CURDIR)/packages
BIN_DIR ?= $(CURDIR)/bin
IMAGE := $(BIN_DIR)/@IMAGE@
ROOTFS := $(KERNEL_BUILD_DIR)/root.squashfs
taken = $(patsubst -%,%,$(filter -%,$(1)))
left = $(filter-out -% $(call taken,$(1)),$(1))
DEFAULTS := @DEFAULTS@ kernel @PROFILE_PACKAGES@
info:
	@echo 'Current Target: "ar71xx/generic"'
	@echo 'Default Packages: @DEFAULTS@'
	@echo 'Available Profiles:'
	@echo
	@echo '@PROFILE@:'; echo '    A board of the tests'; echo '    Packages: @PROFILE_PACKAGES@'
image:
	@rm -rf $(TARGET_DIR)
	@mkdir -p $(TARGET_DIR) $(BIN_DIR)
	@echo 'Installing packages...'
	@sh ./install $(TARGET_DIR) $(BIN_DIR)/all.manifest $(call left,$(DEFAULTS) $(PACKAGES))
	@test -z "$(FILES)" || cp -a $(FILES)/. $(TARGET_DIR)/
	@echo 'Building images...'
	@staging_dir/host/bin/mksquashfs4 $(TARGET_DIR) $(ROOTFS) -nopad -noappend -root-owned -comp xz -b 256k \\
		-no-xattrs >/dev/null
	@cp $(KERNEL_BUILD_DIR)/@PROFILE@-kernel.bin $(IMAGE)
	@truncate -s %@BLOCK@ $(IMAGE)
	@cat $(ROOTFS) >> $(IMAGE)
	@over=$$(( $$(stat -c %s $(IMAGE)) % @BLOCK@ )); [ $$over = 0 ] || \\
		head -c $$(( @BLOCK@ - over )) /dev/zero | tr '\\0' '\\377' >> $(IMAGE)
	@printf '\\336\\255\\300\\336' >> $(IMAGE)
	@size=$$(stat -c %s $(IMAGE)); [ $$size -le @LIMIT@ ] || { \\
		echo "WARNING: Image file $(IMAGE) is too big: $$size > @LIMIT@" >&2; rm $(IMAGE); }
"""
_IMAGE_MK = """\
define Image/mkfs/squashfs
	$(STAGING_DIR_HOST)/bin/mksquashfs4 $(TARGET_DIR) $@ -nopad -noappend -root-owned -comp xz -b 256k
endef
"""
_DEVICES = """\
define Device/Default
  BLOCKSIZE := 64k
  IMAGES := sysupgrade.bin
  IMAGE/sysupgrade.bin := append-kernel | pad-to $$$$(BLOCKSIZE) | append-rootfs | pad-rootfs | \\
	check-size $$$$(IMAGE_SIZE)
endef

define Device/@PROFILE@
  IMAGE_SIZE := @LIMIT@
endef
TARGET_DEVICES += @PROFILE@
"""


def content(package: Content) -> bytes:
    """Bytes that gzip cannot pack and xz can, by as much as it does with real packages of the kind: the
    beginning of each piece comes again at its end, further back than gzip looks."""
    kind = kind_of(package.name, package.section)
    ratio = ratio_for(kind, compressor="xz", block=256 << 10, filters=False, arch=ARCH).ratio
    noise = random.Random(package.name)
    unlike = round(_PIECE * ratio)
    pieces = (noise.randbytes(unlike) for _ in range(package.pieces))
    return b"".join(piece + piece[: _PIECE - unlike] for piece in pieces)


def files_of(package: Content) -> FileTree:
    """What a package holds; those without which no device starts have that too."""
    data = content(package)
    program = writers.program(writers.MIPS, 0)
    if package.name == "base-files":
        facts = writers.RELEASE.format(release=RELEASE, target="ar71xx/generic", arch=ARCH)
        return FileTree(
            {
                "/etc/openwrt_release": file_of(facts.encode()),
                "/sbin/init": file_of(writers.program(), 0o755),
            }
        )
    if package.name == "busybox":
        return FileTree({"/bin/busybox": file_of(program + data, 0o755), "/bin/sh": symlink("busybox")})
    if package.name == "libc":
        return FileTree({"/lib/libc.so": file_of(program + data, 0o755)})
    return FileTree({f"/usr/lib/{package.name}.bin": file_of(data)} if data else {})


def add_packages(tree: Path, packages: Sequence[Content]) -> None:
    """Put packages into the tree."""
    for each in packages:
        facts = Package(
            each.name, each.version, ARCH, parse_depends(each.depends), section=each.section, description="x"
        )
        write_ipk(tree / "packages", facts, files_of(each), epoch=EPOCH)


def make_nor_tree(tree: Path, *, limit: int = FIRMWARE) -> Path:
    """Write the tree. limit: bytes, what its recipe's check-size takes."""
    facts = {
        "@PROFILE@": PROFILE,
        "@LIMIT@": str(limit),
        "@KDIR@": _KDIR,
        "@IMAGE@": IMAGE,
        "@BLOCK@": str(BLOCK),
        "@DEFAULTS@": " ".join(DEFAULTS),
        "@PROFILE_PACKAGES@": " ".join(PROFILE_PACKAGES),
    }

    def write(path: str, text: str) -> Path:
        for name, value in facts.items():
            text = text.replace(name, value)
        place = tree / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    write("Makefile", _MAKEFILE)
    write("install", _INSTALL)
    write("include/image.mk", _IMAGE_MK)
    write("include/version.mk", f"VERSION_NUMBER:=$(if $(VERSION_NUMBER),$(VERSION_NUMBER),{RELEASE})\n")
    write("target/linux/ar71xx/image/Makefile", _DEVICES)
    write(".targetinfo", "Target: ar71xx/generic\n")
    write("repositories.conf", "src imagebuilder file:packages\n")
    write(
        ".config",
        'CONFIG_TARGET_BOARD="ar71xx"\nCONFIG_TARGET_SUBTARGET="generic"\nCONFIG_ARCH="mips"\n'
        f'CONFIG_TARGET_ARCH_PACKAGES="{ARCH}"\nCONFIG_VERSION_DIST="OpenWrt"\n'
        f'CONFIG_VERSION_NUMBER="{RELEASE}"\nCONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\n',
    )
    write("staging_dir/host/bin/mksquashfs4", '#!/bin/sh\nexec mksquashfs "$@"\n').chmod(0o755)
    kernel = writers.uimage(writers.kernel("console=ttyS0,115200"), name=b"MIPS OpenWrt Linux-4.9.243")
    (tree / _KDIR).mkdir(parents=True)
    (tree / _KDIR / f"{PROFILE}-kernel.bin").write_bytes(kernel)
    add_packages(tree, PACKAGES)
    return tree
