"""Images of recipes that are shell text put together by macros, as old releases have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.ask import look_at_tree
from imagebuilder.log import Log
from imagebuilder.tree.device_facts import device_facts
from imagebuilder.tree.image_makefile import ImageMakefiles
from imagebuilder.tree.legacy_images import LegacyDevice, legacy_device

# the shapes of image/legacy.mk, in words of these tests' own
MAKEFILE = r"""
fstype=$(patsubst squashfs-%,squashfs,$(1))
define imagename
$(BIN_DIR)/$(IMG_PREFIX)-$(2)-$(call fstype,$(1))
endef
upgrade=$(call imagename,$(1),$(2))-sysupgrade.bin
shipped=$(call imagename,$(1),$(2))-factory.bin
define partsize
$(shell echo '$(2)' | sed -ne 's/$(1)//')
endef
# $(1): a comment about a macro
define OneProfile
  # $(1): what is done
  define Image/Build/Profile/$(3)
	$$(call Image/Build/Template/$(2)/$$(1),$(1),$(4),board=$(5) console=ttyS0$$(COMMA)$(6),$(7),$(8))
  endef
endef
define Template
  define Image/Build/Template/$(1)/buildkernel
    $$(call Image/Build/$$(1)/buildkernel,,$$(2),$$(3),$$(4),$$(5))
  endef
  define Image/Build/Template/$(1)/squashfs
    $$(call Image/Build/$$(1),squashfs$(2),$$(2),$$(3),$$(4),$$(5))
  endef
endef
define Joined
	kind="$(2)"; rest=$${kind##*\.}; if [ $(3) -gt 1 ]; then \
		( dd if=$(1) bs=$(3) conv=sync; dd if=$(2) ) > $(4); \
	else ( dd if=$(1) bs=$${rest} conv=sync;  cat $(2) ) > $(4); fi
endef
KernelFirst=$(call Joined,$(KDIR_TMP)/vmlinux-$(2).uImage,$(KDIR)/root.$(1),$(3),$(call upgrade,$(1),$(2)))
RootFirst=$(call Joined,$(KDIR)/root.$(1),$(KDIR_TMP)/vmlinux-$(2).uImage,$(3),$(call upgrade,$(1),$(2)))
define PatchIt
	$(STAGING_DIR_HOST)/bin/patch-cmdline $(KDIR_TMP)/vmlinux-$(1) "$(strip $(2))"
endef
Image/Build/Plain/buildkernel=$(call PatchIt,$(2),$(3) $(4))
define Image/Build/Plain
	$(eval size=$(call partsize,firmware,$(4)))
	$(call KernelFirst,$(1),$(2),$(if $(5),$(5),$(size)))
endef
define Image/Build/Root
	$(call RootFirst,$(1),$(2),4096)
	if [ -e "$(call upgrade,$(1),$(2))" ]; then \
		cd $(KDIR); $(TAR) zcf $(call shipped,$(1),$(2)) -C $(KDIR)/$(1) kernel root; \
		( echo MARK | dd bs=32 count=1 conv=sync; ) >> $(call shipped,$(1),$(2)); fi
endef
define Image/Build/Tail
	$(call KernelFirst,$(1),$(2),0)
	if [ -e "$(call upgrade,$(1),$(2))" ]; then \
		( dd if=$(call upgrade,$(1),$(2)) bs=$${size} conv=sync; echo -n $(5); \
		) > $(call shipped,$(1),$(2)); fi
endef
define Image/Build/Regions/buildkernel
	mkimage -A mips -M 0x32303033 -n 'x' \
		-d $(KDIR_TMP)/vmlinux-$(2).uImage.squashfs.tmp \
		$(KDIR_TMP)/vmlinux-$(2).uImage.squashfs
endef
define Image/Build/Regions
	$(call Joined,$(KDIR_TMP)/vmlinux-$(2).uImage.squashfs,$(KDIR)/root.$(1),0,$(call upgrade,$(1),$(2)))
	for r in $(5) ; do [ -n "$$r" ] && dashr="-$$r" || dashr= ; \
		$(STAGING_DIR_HOST)/bin/mkdniimg -B X -r "$$r" -i $(call upgrade,$(1),$(2)) \
			-o $(call imagename,$(1),$(2))-factory$$dashr.img; done
endef
define Image/Build/Two
	-sh $(TOPDIR)/scripts/combined-image.sh "$(call imagename,kernel,$(2)).bin" "$(KDIR)/root.$(1)" \
		$(call upgrade,$(1),$(2))
	$(call Joined,$(KDIR_TMP)/vmlinux-$(2).bin.lzma,$(KDIR)/root.$(1),0,$(call imagename,$(1),$(2))-web.bin)
	-sh $(TOPDIR)/scripts/combined-ext-image.sh "$(4)" "$(call shipped,$(1),$(2))" "$(KDIR)/root.$(1)"
	cp "$(call shipped,$(1),$(2))" "$(call imagename,$(1),$(2))-copy.bin"
	unheard-of -o $(call imagename,$(1),$(2))-odd.bin
endef
define Image/Build/Nand
	(cd "$(KDIR_TMP)"; $(TAR) cvf "$(BIN_DIR)/$(IMG_PREFIX)-$(2)-squashfs-sysupgrade.tar" sysupgrade-$(2) )
endef
$(eval $(call Template,64k,-64k))
$(eval $(call Template,raw,-raw))
layout=mtdparts=spi0.0:256k(u-boot)ro,7872k(firmware),64k(art)ro
$(eval $(call OneProfile,Plain,64k,ACME1,acme-one,ACME-ONE,115200,$$(layout)))
$(eval $(call OneProfile,Root,64k,ACME2,acme-two,ACME-TWO,115200,$$(layout)))
$(eval $(call OneProfile,Tail,raw,ACME3,acme-three,ACME-THREE,115200,$$(layout),"HW-03-RT"))
$(eval $(call OneProfile,Regions,raw,ACME4,acme-four,ACME-FOUR,115200,$$(layout),"" NA))
$(eval $(call OneProfile,Two,64k,ACME5,acme-five,ACME-FIVE,115200,$$(layout)))
$(eval $(call OneProfile,Nand,64k,ACME6,acme-six,ACME-SIX,115200,$$(layout)))
"""


def read(text: str = MAKEFILE) -> ImageMakefiles:
    makefiles = ImageMakefiles({"SUBTARGET": "generic"})
    makefiles.read(text, lambda _: None)
    return makefiles


def images(profile: str) -> dict[str, tuple[str, str, str]]:
    found = legacy_device(read(), profile)
    assert found is not None
    return {kind: (image.format, image.file, image.tail) for kind, image in found.images.items()}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("ACME1", {"sysupgrade": ("uimage-squashfs", "acme-one-{fs}-sysupgrade", "")}),
        (
            "ACME2",
            {
                "sysupgrade": ("squashfs-kernel", "acme-two-{fs}-sysupgrade", ""),
                "factory": ("vendor", "acme-two-{fs}-factory", ""),
            },
        ),
        (
            "ACME3",
            {
                "sysupgrade": ("uimage-squashfs", "acme-three-{fs}-sysupgrade", ""),
                "factory": ("uimage-squashfs", "acme-three-{fs}-factory", "HW-03-RT"),
            },
        ),
        (
            "ACME4",
            {
                "sysupgrade": ("vendor-uimage-squashfs", "acme-four-{fs}-sysupgrade", ""),
                "factory": ("netgear-dni", "acme-four-{fs}-factory", ""),
                "factory-NA": ("netgear-dni", "acme-four-{fs}-factory-NA", ""),
            },
        ),
        (
            "ACME5",
            {
                "sysupgrade": ("combined", "acme-five-{fs}-sysupgrade", ""),
                "web": ("kernel-squashfs", "acme-five-{fs}-web", ""),
                "factory": ("openmesh", "acme-five-{fs}-factory", ""),
                "copy": ("openmesh", "acme-five-{fs}-copy", ""),
                "odd": ("unknown", "acme-five-{fs}-odd", ""),
            },
        ),
        ("ACME6", {"sysupgrade": ("sysupgrade-tar", "acme-six-{fs}-sysupgrade", "")}),
    ],
)
def test_what_old_recipes_make(profile: str, expected: dict[str, tuple[str, str, str]]) -> None:
    assert images(profile) == expected


def test_the_kernels_command_line() -> None:
    found = legacy_device(read(), "ACME1")
    assert found is not None
    assert found.command_line == (
        "board=ACME-ONE console=ttyS0,115200 mtdparts=spi0.0:256k(u-boot)ro,7872k(firmware),64k(art)ro"
    )
    assert legacy_device(read(), "ACME9") is None


def test_a_board_of_an_old_recipe(small_tree: Path, tmp_path: Path) -> None:
    folder = small_tree / "target/linux/ath79/image"
    folder.mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE.replace("ACME3", "tplink_tl-wr741nd-v4"))
    tree = look_at_tree(str(small_tree), tmp_path / "cache", Log())
    facts = device_facts(tree, "tplink_tl-wr741nd-v4")
    assert facts.images["factory"].tail == "HW-03-RT"
    (folder / "Makefile").write_text(MAKEFILE.replace("ACME1", "tplink_tl-wr741nd-v4"))
    facts = device_facts(tree, "tplink_tl-wr741nd-v4")
    assert (facts.boardname, facts.image_size, facts.supported_devices) == ("ACME-ONE", 7872 << 10, ())
    assert [part.name for part in facts.partitions] == ["u-boot", "firmware", "art"]


def test_references_to_themselves_end() -> None:
    endless = "Image/Build/Profile/x=$(call Image/Build/Profile/x,$(1)$(1))\n"
    twice = "define Image/Build/Profile/x\n$(call a) $(call a)\nendef\na=$(call b)$(call b)\n"
    twice += "".join(f"{name}=$(call {name}{name})$(call {name}{name})\n" for name in ("b", "bb", "bbbb"))
    twice += "define macro\ndefine macro\n$$(eval $$(call macro,1))\nendef\nendef\n$(eval $(call macro,1))\n"
    for text in (endless, twice):
        found = legacy_device(read(text), "x")
        assert found is None or found == LegacyDevice()


LINES = MAKEFILE.splitlines()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(LINES) | st.text(alphabet="$(){}, \"'@;>|define\\#A1/-", max_size=40), max_size=60
    )
)
def test_any_text_gives_images_or_none(lines: list[str]) -> None:
    text = "\n".join([*lines, "define Image/Build/Profile/x", *lines, "endef"])
    found = legacy_device(read(text), "x")
    assert found is None or all(image.file for image in found.images.values())
