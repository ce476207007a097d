"""Reading devices out of image makefiles: inheritance, conditionals, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.board import ImageFormat
from imagebuilder.config.device import make_size, parse_mtdparts
from imagebuilder.tree.device_facts import parse_targetinfo
from imagebuilder.tree.image_makefile import DeviceDefinition, ImageMakefiles, read_image_makefiles
from imagebuilder.tree.recipes import device_images, recipe_image

# in the way of OpenWrt's, not theirs
MAKEFILE = """
LOADER := gz
define Device/Init
  NAME := $(1)
  SUPPORTED_DEVICES := $(subst _,$(comma),$(1))
  IMAGE_SIZE :=
endef
define Device/Default
  KERNEL := kernel-bin | lzma | uImage lzma
  IMAGES := sysupgrade.bin
  IMAGE/sysupgrade.bin = append-kernel | pad-to $$$$(BLOCK) | append-rootfs | check-size $$(IMAGE_SIZE)
  BLOCK := 64k   # a comment
endef
define Device/vendor
  VENDOR := $(1), $(2)
  IMAGES += factory.bin
  IMAGE/factory.bin := $$(IMAGE/sysupgrade.bin) | vendor-header
endef
define Device/acme_one
  $(call Device/vendor,Acme,$(1))
  IMAGE_SIZE := 7936k
  SUPPORTED_DEVICES += \\
\tone uno
  LOADER_FOR := $(LOADER)
  SIZE := $(shell wc -c < somewhere)
  KEPT ?= 1
  KEPT ?= 2
  ifeq ($(SUBTARGET),tiny)
    SMALL := y
  else ifeq ($(SUBTARGET),generic)
    SMALL := n
  endif
  ifneq ($(filter a,$(b)),)
    PERHAPS := 1
  endif
  ifdef CONFIG_GZIP
    PACKED := y
  endif
endef
TARGET_DEVICES += acme_one
ifeq ($(SUBTARGET),generic)
define Device/acme_two
  $(Device/acme_one)
  IMAGE_SIZE := 16000k
  ORIGIN := $(1)
endef
TARGET_DEVICES += acme_two acme_none
endif
"""


def read(text: str, **settings: str) -> ImageMakefiles:
    makefiles = ImageMakefiles({"SUBTARGET": "generic", **settings})
    makefiles.read(text, lambda _: None)
    return makefiles


def device(text: str, name: str, **settings: str) -> DeviceDefinition:
    found = read(text, **settings).device(name)
    assert found is not None
    return found


# the way of ramips in 19.07: what every device takes in names a size that most of them change
LATER = """
small := 8060928
kernel_and_root = append-kernel | append-rootfs
define Device/Default
  IMAGE_SIZE := $(small)
  IMAGES := sysupgrade.bin
  IMAGE/sysupgrade.bin := $(kernel_and_root) | pad-rootfs | check-size $$$$(IMAGE_SIZE)
  FIXED := $$(IMAGE_SIZE)
endef
define Device/plain
endef
define Device/large
  IMAGE_SIZE := 16064k
endef
define Device/header
  IMAGES += factory.bin
  IMAGE/factory.bin := $$(IMAGE/sysupgrade.bin) | header | check-size $$$$(IMAGE_SIZE)
endef
define Device/largest
  $(Device/header)
  IMAGE_SIZE := 33226752
  IMAGE/sysupgrade.bin += | append-metadata $$$$(IMAGE_SIZE)
endef
"""


def test_a_size_that_a_device_changes_later_is_the_one_of_its_recipes() -> None:
    begin = "append-kernel | append-rootfs | pad-rootfs | check-size"
    for name, size in (("plain", "8060928"), ("large", "16064k")):
        found = device(LATER, name)
        assert found.recipes == {"sysupgrade.bin": f"{begin} {size}"}
        assert found.values["FIXED"] == "8060928"  # which is assigned at once
    largest = device(LATER, "largest")
    assert largest.recipes == {
        "sysupgrade.bin": f"{begin} 33226752 | append-metadata 33226752",
        "factory.bin": f"{begin} 33226752 | header | check-size 33226752",
    }


def test_a_device_and_what_it_takes_in() -> None:
    one = device(MAKEFILE, "acme_one", CONFIG_GZIP="y")
    assert one.values["NAME"] == "acme_one"
    assert one.values["VENDOR"] == "Acme, acme_one"
    assert one.values["IMAGE_SIZE"] == "7936k"
    assert one.words("SUPPORTED_DEVICES") == ["acme,one", "one", "uno"]
    assert one.values["LOADER_FOR"] == "gz"
    assert one.values["KEPT"] == "1"
    assert one.values["SMALL"] == "n"
    assert one.values["PACKED"] == "y"
    sysupgrade = "append-kernel | pad-to 64k | append-rootfs | check-size"
    assert one.recipes["sysupgrade.bin"] == f"{sysupgrade} 7936k"
    assert one.recipes["factory.bin"].endswith(" | vendor-header")


def test_what_is_not_known_is_not_there() -> None:
    one = device(MAKEFILE, "acme_one")
    assert not {"SIZE", "PERHAPS", "PACKED"} & set(one.values)
    assert one.words("SIZE") == []
    makefiles = read(MAKEFILE)
    assert makefiles.devices == ["acme_one", "acme_two", "acme_none"]
    assert makefiles.device("acme_none") is None


def test_a_device_of_another_subtarget() -> None:
    assert device(MAKEFILE, "acme_two").values["IMAGE_SIZE"] == "16000k"
    assert device(MAKEFILE, "acme_two").values["ORIGIN"] == "acme_two"
    assert device(MAKEFILE, "acme_two").values["VENDOR"] == "Acme, acme_two"
    tiny = read(MAKEFILE, SUBTARGET="tiny")
    assert tiny.device("acme_two") is None
    one = tiny.device("acme_one")
    assert one is not None
    assert one.values["SMALL"] == "y"


def test_what_a_recipe_says_of_itself_harms_nothing_else() -> None:
    """`$@` is known when a recipe runs; a file system may have a recipe of its own."""
    found = device(
        """
define Device/acme
  BOARDNAME := ACME
  CMDLINE = $$(if $$(BOARDNAME),board=$$(BOARDNAME)) $$(if $$(NONE),never,console=$$(empty)ttyS0)
  KERNEL := kernel-bin | fit none $$(shell pwd)/x.dtb
  IMAGES := sysupgrade.tar other.bin
  IMAGE/sysupgrade.tar/squashfs := append-rootfs | sysupgrade-tar rootfs=$$$$@ | append-metadata
  IMAGE/sysupgrade.tar := nothing
  IMAGE/other.bin := append-kernel
endef
""",
        "acme",
    )
    assert {name: image.format for name, image in device_images(found).items()} == {
        "sysupgrade": "sysupgrade-tar",
        "other": "fit",
    }
    assert "KERNEL" not in found.values
    assert "CMDLINE" not in found.values, "NONE is set nowhere that is read"


def test_the_shells_own_signs_stay_in_definitions() -> None:
    text = "define Build/x\n\tname=$${file##*.} # gone? no\nendef\ndefine Device/a\n  B := c # gone\nendef\n"
    found = read(text)
    assert found.definitions["Build/x"] == ("\tname=$${file##*.} # gone? no",)
    assert device(text, "a").values == {"B": "c"}


def test_cycles_end() -> None:
    text = "define Device/a\n$(Device/b)\nX := $(X) $(Y)\nY = $(Z)\nZ = $(Y)\nendef\n"
    text += "define Device/b\n$(call Device/a,$(1))\nW := 1\nendef\n"
    found = device(text, "a")
    assert found.values == {"W": "1"}


def test_doubling_ends() -> None:
    lines = "".join(f"  A{n + 1} = $(A{n})$(A{n})\n  B{n + 1} := $(B{n})$(B{n})\n" for n in range(60))
    text = f"define Device/x\n  A0 =\n  B0 := b\n{lines}  OK := 1\nendef\n"
    values = device(text, "x").values
    assert len("".join(values.values())) < 200_000


def test_files_and_what_they_include(tmp_path: Path) -> None:
    folder = tmp_path / "target/linux/acme/image"
    folder.mkdir(parents=True)
    (tmp_path / "include").mkdir()
    (tmp_path / "include/image.mk").write_text("include other.mk\ndefine Device/Init\n  INIT := 1\nendef\n")
    (folder / "Makefile").write_text(
        "include $(TOPDIR)/rules.mk\ninclude ./Makefile\ninclude ./$(SUBTARGET).mk\ninclude missing.mk\n"
        "include ../../../../../outside.mk\n"
    )
    (tmp_path.parent / "outside.mk").write_text("define Device/x\n  OUTSIDE := 1\nendef\n")
    (folder / "big.mk").write_text("define Device/x\n  IMAGE_SIZE := 1m\nendef\nTARGET_DEVICES += x\n")
    found = read_image_makefiles(tmp_path, "acme/big")
    assert found.files == ["target/linux/acme/image/Makefile", "target/linux/acme/image/big.mk"]
    definition = found.device("x")
    assert definition is not None
    assert definition.values == {"INIT": "1", "IMAGE_SIZE": "1m"}
    assert read_image_makefiles(tmp_path, "other/generic").devices == []


@given(
    st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                "define Device/a",
                "define Device/Default",
                "endef",
                "$(Device/a)",
                "$(call Device/a,$(1),(",
                "A := $(A",
                "A = $(A)$(B)",
                "B += $$(A) $(1)",
                "$(1) := x",
                "IMAGES := a.bin $(A)",
                "IMAGE/a.bin = $$$$(B) | x",
                "ifeq ($(A),",
                "ifdef A",
                "ifneq '1' \"2\"",
                "else",
                "else ifdef B",
                "endif",
                "\\",
                "# $(",
                "include $(A)",
                "TARGET_DEVICES += a",
                "C ?= $(subst a,$(B),$(strip $(A)))",
                "${A} = ${${B}}",
                "D := $(subst ,x,$(C))",
            ]
        ),
        max_size=25,
    ).map("\n".join)
)
def test_any_text_gives_a_result(text: str) -> None:
    makefiles = read(text)
    for name in (*makefiles.devices, "a"):
        found = makefiles.device(name)
        if found is not None:
            assert not [value for value in found.values.values() if "\0" in value or "$" in value]
            formats = {image.format for image in device_images(found).values()}
            assert formats <= {"unknown", "filesystem", "uimage", "uimage-squashfs"}


UIMAGE = "kernel-bin | append-dtb | lzma | uImage lzma"


@pytest.mark.parametrize(
    ("recipe", "kernel", "expected"),
    [
        ("append-rootfs | mktplinkfw factory", "", "tplink-v1"),
        ("tplink-v1-image sysupgrade | append-metadata", "", "tplink-v1"),
        ("sysupgrade-tar | append-metadata", "", "sysupgrade-tar"),
        ("append-kernel | pad-to 64k | append-rootfs | pad-rootfs | check-size", UIMAGE, "uimage-squashfs"),
        ("append-kernel | pad-to 64k | append-rootfs | pad-rootfs", "kernel-bin | lzma", "kernel-squashfs"),
        ("append-kernel | pad-to 64k | append-rootfs | pad-rootfs", "\0", "unknown"),
        ("append-kernel | append-rootfs", f"{UIMAGE} -M 0x4f4b4c49", "vendor-uimage-squashfs"),
        ("append-kernel | append-rootfs", f"{UIMAGE} | jffs2 kernel", "kernel-squashfs"),
        ("append-kernel | netgear-squashfs | append-rootfs | pad-rootfs", UIMAGE, "vendor-uimage-squashfs"),
        ("append-kernel | append-uImage-fakehdr filesystem | append-rootfs", UIMAGE, "uimage-squashfs"),
        ("append-kernel | kernel2minor -s 1024 | append-rootfs", "kernel-bin | append-dtb-elf", "vendor"),
        ("append-kernel | append-rootfs", "kernel-bin | append-dtb-elf", "kernel-squashfs"),
        ("append-kernel | append-rootfs", "kernel-bin | lzma | eva-image", "vendor"),
        ("append-kernel | append-rootfs", "kernel-bin | gzip | fit gzip x.dtb", "vendor"),
        ("append-kernel | pad-to 4m | append-ubi", "kernel-bin | lzma | loader-kernel", "vendor"),
        ("append-kernel | pad-to 4m | append-ubi", "kernel-bin | lzma | jffs2 kernel", "kernel-ubi"),
        ("append-dtb | pad-to 1m | append-kernel | append-ubi", UIMAGE, "kernel-ubi"),
        ("append-uboot | pad-to 1m | append-kernel | append-rootfs", UIMAGE, "vendor"),
        ("append-kernel | append-rootfs | pad-rootfs | seama | seama-seal", "kernel-bin | lzma", "seama"),
        ("append-rootfs | pad-rootfs | pad-to 8m | append-kernel", UIMAGE, "squashfs-kernel"),
        ("append-kernel", "kernel-bin | gzip | fit gzip x.dtb", "fit"),
        ("append-kernel | fit none x.dtb with-rootfs | append-metadata", "kernel-bin | gzip", "fit"),
        ("append-kernel", "kernel-bin | lzma", "kernel"),
        ("append-rootfs | tplink-safeloader sysupgrade | append-metadata", UIMAGE, "uimage-squashfs"),
        ("append-rootfs | tplink-safeloader sysupgrade", "kernel-bin | tplink-v1-header", "vendor"),
        ("append-rootfs | tplink-safeloader factory", UIMAGE, "safeloader"),
        ("pad-extra 64k | tplink-v2-image -s | append-metadata", "", "tplink-v2"),
        ("append-rootfs | trx-with-loader", "kernel-bin", "trx"),
        ("append-rootfs | trx-with-loader | asus-trx", "kernel-bin", "vendor"),
        ("append-rootfs | pad-rootfs | combined-image | check-size", "kernel-bin | lzma", "combined"),
        ("append-kernel | append-rootfs | uimage-padhdr | pad-rootfs", UIMAGE, "vendor"),
        ("append-dtb", UIMAGE, "unknown"),
        ("append-kernel | unheard-of", UIMAGE, "unknown"),
        ("append-kernel | append-ubi | pad-to 2048", f"{UIMAGE} | pad-to 6144k", "ubi-factory"),
        ("append-kernel", UIMAGE, "uimage"),
        ("append-ubi | check-size 32768k", "", "ubi"),
        ("append-rootfs | pad-to \0", "", "filesystem"),
        ("boot-common | sdcard-img | gzip", "", "sd-card"),
        ("sunxi-sdcard | append-metadata | gzip", "", "sd-card"),
        ("boot-scr-jh7110 | riscv-sdcard | append-metadata | gzip", "", "sd-card"),
        ("grub-config efi | combined efi | grub-install efi | gzip", "", "efi-disk"),
        ("grub-config pc | combined | grub-install", "", "bios-disk"),
        ("append-kernel | append-rootfs | netgear-dni", UIMAGE, "netgear-dni"),
        ("\0 | check-size 8m", UIMAGE, "unknown"),
        ("", "", "unknown"),
    ],
)
def test_what_recipes_make(recipe: str, kernel: str, expected: ImageFormat) -> None:
    assert recipe_image(recipe, kernel).format == expected


def test_variables_and_bodies_say_more_of_a_recipe() -> None:
    nor, loader = "append-kernel | append-rootfs", "kernel-bin | append-dtb | lzma | loader-kernel"
    assert recipe_image(nor, loader, values={"LOADER_TYPE": "elf"}).format == "kernel-squashfs"
    assert recipe_image(nor, loader, values={"LOADER_TYPE": "bin"}).format == "vendor"
    assert recipe_image(nor, UIMAGE, values={"UIMAGE_MAGIC": "0x1"}).format == "vendor-uimage-squashfs"
    assert recipe_image("append-ubi | trx-nand", "").format == "trx"
    builds = {"trx-nand": ("\totrx create $@.new \\ -M 0x32504844 -f $(IMAGE_KERNEL)",)}
    assert recipe_image("append-ubi | trx-nand", "", builds=builds).format == "vendor"


def test_a_recipe_of_a_fork_is_known_by_its_program() -> None:
    builds = {
        "acme-seal": ("\t$(STAGING_DIR_HOST)/bin/mkacme -k $(IMAGE_KERNEL) -o $@",),
        "acme-tar": ("\tsh $(TOPDIR)/scripts/sysupgrade-tar-old.sh --board x $@",),
        "acme-nothing": ("\t$(STAGING_DIR_HOST)/bin/padjffs2 $@", "\techo done"),
    }
    found = recipe_image("acme-seal | pad-rootfs | append-metadata", UIMAGE, builds=builds)
    assert (found.format, found.by) == ("vendor", ("acme-seal",))
    assert recipe_image("acme-tar | append-metadata", "", builds=builds).format == "sysupgrade-tar"
    assert recipe_image("append-kernel | acme-nothing", UIMAGE, builds=builds).format == "unknown"
    assert recipe_image("append-kernel | acme-seal", UIMAGE).format == "unknown"


def test_a_text_behind_an_image_is_remembered() -> None:
    nor = "append-kernel | append-rootfs | pad-rootfs"
    found = recipe_image(f"{nor} | append-string 00AP81-RT | append-metadata", UIMAGE)
    assert (found.format, found.tail) == ("uimage-squashfs", "00AP81-RT")
    for what in ("\0", "a b", "one | append-string two", '"x y"'):
        found = recipe_image(f"{nor} | append-string {what}", UIMAGE)
        assert (found.format, found.tail) == ("vendor", "")


def test_the_steps_that_make_a_vendors_format_are_named() -> None:
    encrypted = "append-kernel | append-rootfs | pad-rootfs | buffalo-enc a b | buffalo-tag-dhp"
    found = recipe_image(encrypted, UIMAGE)
    assert (found.format, found.by) == ("vendor", ("buffalo-enc", "buffalo-tag-dhp"))
    assert recipe_image("append-rootfs | buffalo-rootfs-cksum | sysupgrade-tar rootfs=\0", UIMAGE).by == ()


def test_sizes_in_makefiles() -> None:
    assert make_size("3904k") == 3997696
    assert make_size("16m") == 16777216
    assert make_size("0x3d0000") == 3997696
    assert make_size("8192") == 8192
    for text in (None, "", "big", "0x", "-1", "3904k x", "0x" + "f" * 40):
        assert make_size(text) is None


def test_partitions_of_a_command_line() -> None:
    found = parse_mtdparts("spi0.0:256k(u-boot)ro,64k(env)ro,16000k(firmware),64k(art)ro")
    assert [(part.name, part.offset, part.size) for part in found] == [
        ("u-boot", 0, 262144),
        ("env", 262144, 65536),
        ("firmware", 327680, 16384000),
        ("art", 16711680, 65536),
    ]
    again = parse_mtdparts("spi0.0:64k(a),128k@0x20000(b),1m@320k(c)")
    assert [part.offset for part in again] == [0, 131072, 327680]
    for text in ("", "spi0.0:", "spi0.0:64k(a),-(rest)", "spi0.0:64k(a);spi0.1:1m(b)", "64k(a)", "x:64k"):
        assert parse_mtdparts(text) == ()


@given(st.text(max_size=60) | st.text(alphabet="spi0.:;k@xm(),-roab1248", max_size=60))
def test_any_text_has_partitions_or_none(text: str) -> None:
    for part in parse_mtdparts(text):
        assert part.offset >= 0


TARGETINFO = """\
Target: omap
Target-Profile: DEVICE_x
Target-Profile-Name: X
Target-Profile-SupportedDevices: acme,x x
Target-Profile-hasImageMetadata: 1
Target-Profile-Description:
Target-Profile-hasImageMetadata: 0
Target: omap/other
Target-Profile: DEVICE_x
Target-Profile-Name: another
"""


def test_what_targetinfo_says_of_a_profile() -> None:
    found = parse_targetinfo(TARGETINFO, "omap/generic", "x")
    assert found == {
        "Name": "X",
        "SupportedDevices": "acme,x x",
        "hasImageMetadata": "1",
        "Description": "",
    }
    assert parse_targetinfo(TARGETINFO, "omap/other", "x") == {"Name": "another"}
    assert parse_targetinfo(TARGETINFO, "omap/generic", "y") == {}


@given(st.text(max_size=100))
def test_any_targetinfo_gives_a_result(text: str) -> None:
    assert parse_targetinfo("Target: a/b\n" + text, "a/b", "x") == parse_targetinfo(
        "Target: a/b\n" + text, "a/b", "x"
    )
