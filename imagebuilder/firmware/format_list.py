"""The table of formats with what OpenWrt's recipes make of each: what docs/formats.md is printed from.

The steps are those of `define Build/…` in OpenWrt's target/linux/*/image and include/image-commands.mk,
branches lede-17.01 to openwrt-25.12 and master, which put a header or a container around what they are
given. Steps that pad, append, patch or compress leave the format as it is, and are not listed.
"""

from __future__ import annotations

from imagebuilder.firmware.formats.formats import FORMATS
from imagebuilder.firmware.formats.padding import COMPOSED, ROOT_FIRST
from imagebuilder.firmware.squashfs import squashfs
from imagebuilder.firmware.subject import CONTAINERS
from imagebuilder.model.firmware import FormatRow

# kinds of parts to the steps that make them
STEPS: dict[str, str] = {
    "tplink-v1": "tplink-v1-header tplink-v1-image tplink-v1-okli-image mktplinkfw mktplinkfw-combined"
    " mktplinkfw-kernel tplink-header tplink-fw",
    "tplink-v2": "tplink-v2-header tplink-v2-image mktplinkfw2",
    "safeloader": "tplink-safeloader bcm53xx-tplink-safeloader",
    "uimage": "uImage multiImage MultiImage MuImage-initramfs uImage-tplink-c9 uImageHiWiFi create-uImage-dtb"
    " prepend-dtb-uImage",
    "vendor-uimage": "loader-okli append-loader-okli append-loader-okli-uimage netgear-uImage uImageArcher",
    "dni": "netgear-dni",
    "fit": "fit fit-image simplefit traverse-fit traverse-fit-ls1088 uboot-fit qsdk-ipq-factory-nand"
    " qsdk-ipq-factory-nor gl-qsdk-factory zyxel-nwa-fit zyxel-nwa-fit-filogic"
    " fit-with-netgear-top-level-rootfs-node",
    "netgear-chk": "netgear-chk",
    "cybertan": "linksys-bin usrobotics-bin addpattern cybertan-trx",
    "buffalo-tftp": "buffalo-tftp-header",
    "edimax": "edimax-header edimax-headers edimax-bin",
    "buffalo": "buffalo-tag",
    "combined": "combined-image",
    "openmesh": "openmesh-image",
    "seama": "seama seama-seal",
    "ubiquiti": "mkubntimage mkubntimage2 mkubntimage-split mkfwimage",
    "ubi": "append-ubi ubinize-image ubinize-kernel",
    "trx": "trx trx-nand trx-serial trx-with-loader trx-without-loader trx-v2-with-loader kernel-trx"
    " buffalo-trx asus-trx buffalo-kernel-trx",
    "sysupgrade-tar": "sysupgrade-tar sysupgrade-emmc",
    "jffs2": "jffs2 cfe-jffs2 cfe-jffs2-kernel buffalo-kernel-jffs2 zyxel-buildkerneljffs",
    "ubifs": "buffalo-kernel-ubifs package-kernel-ubifs",
    "elf": "loader-kernel loader-lzma loader-kernel-cmdline lzma-loader-elf prepend-with-elf"
    " elf-kernel rt-loader",
    "disk": "sdcard-img sdcard-img-ext4 sunxi-sdcard at91-sdcard omap-sdcard tegra-sdcard riscv-sdcard"
    " zynq-sdcard mxs-sdcard-vfat-ext4 mxs-sdcard-ext4-ext4 imx-sdcard pine64-img combined qemu-image hdd-img"
    " mt798x-gpt mt7622-gpt mt7623-mbr mt7988-mozart-gpt lan969x-gpt-emmc methode-gpt-emmc",
    "fat": "boot-img boot-common boot-2708 boot-2711",
    "ext4": "boot-img-ext4",
    "squashfs-old": "netgear-squashfs append-squashfs-fakeroot-be",
    "model-header": "",
    "xiaomi": "",
    "arm-fip": "bl31-uboot mt7981-bl31-uboot mt7986-bl31-uboot mt7987-bl31-uboot mt7988-bl31-uboot"
    " an7581-bl31-uboot an7583-bl31-uboot lan969x-fip",
    "mediatek-bl2": "bl2 mt7981-bl2 mt7986-bl2 mt7987-bl2 mt7988-bl2 preloader append-preloader",
    "dlink-shrs": "dlink-sge-image dlink-sge-signature",
    "dlink-jboot": "mkdlinkfw mkdlinkfw-factory mkdlinkfw-loader",
    "dlink-wrgg": "mkwrggimg wrgg-image",
    "dlink-wrg": "wrg-header",
    "eva": "eva-image",
    "zyxel-ras": "zyxel-ras-image zyxel-factory",
    "zyxel-zynos": "zynos-firmware",
    "zyxel-zytrx": "zytrx-header",
    "linksys-chdr": "linksys-addfwhdr",
    "zcomax": "",
    "jcg": "jcg-header",
    "myloader": "mkmylofw mkmylofw_16m mkmylofw_32m",
    "meraki": "meraki-header meraki-old-nand MerakiNAND MerakiNAND-old",
    "luxul": "luxul-lxl",
    "broadcom-tag": "cfe-bin cfe-old-bin cfe-bin-uboot cfe-spw303v-bin spw303v-bin zyxel-bin",
    "buffalo-encrypted": "buffalo-enc buffalo-enc-tag",
    "iptime-naspkg": "iptime-naspkg",
    "allwinner-spl": "",
    "android-boot": "",
    "yaffs2": "yaffs-filesystem kernel2minor",
    "tar": "senao-tar-gz wac5xx-netgear-tar wax610-netgear-tar wax6xx-netgear-tar",
    "redboot-fis": "redboot-bin",
}
# what these make is not known here by any name: `boards add` leaves such an image's format unknown
_UNKNOWN = (
    "apboot-addfwhdr arcadyan-trx bcm4908img bcm4908asus bcm4908kernel belkin-header buffalo-dhp-image "
    "buffalo-tag-dhp buffalo-wzr-header cameo-headers cameo-tag cetron-header cros-vboot ctera-firmware "
    "dap-header dgn3500-sercom-footer dlink-ai-recovery-header dlink-cameo dongwon-header dwl8610ap-image "
    "elecom-header elecom-product-header elecom-wrc-factory elecom-wrc-gs-factory elx-header "
    "fortigate-header gemtek-header h3c-image h3c-vfs hcs-initramfs hilink-header huawei-bin "
    "inteno-y3-header iodata-mstc-header iptime-crc32 kernel-pack-npk linksys-image mkbrnimg mkbuffaloimg "
    "mkdapimg2 mkrtn56uimg motorola-bin moxa-encode-fw nec-enc nec-fw nec-usbaterm-fw "
    "netgear-encrypted-factory netgear-header netis-tail onie-installer pkgtb poray-header qding-header "
    "scatterfile seama-nand seil-header senao-header sercom-footer sercomm-crypto sercomm-kernel-factory "
    "sercomm-part-tag tclinux-trx teltonika-v1-header tplink-image-2022 uDPU-firmware uimage-padhdr "
    "uimage-sgehdr umedia-header watchguard-cksum wiligear-image xikestor-nosimg xor-image "
    "yuncore-tftp-header-16m zip znet-header zyimage "
)
UNKNOWN_STEPS = tuple(_UNKNOWN.split())


def format_rows() -> tuple[FormatRow, ...]:
    """A row for each format of the table, in its order."""
    rows = []
    for form in FORMATS:
        kinds = {form.kind, COMPOSED.get(form.kind, "")}
        if form.kind == "disk":
            kinds = {"mbr-disk", "gpt-disk"}
        if form.kind == squashfs.KIND:
            kinds.add(ROOT_FIRST)
        boards = tuple(name for name, row in CONTAINERS.items() if kinds & set(row))
        steps = tuple(STEPS.get(form.kind, "").split())
        rows.append(FormatRow(form.kind, form.about, form.opened, boards, steps))
    return tuple(rows)
