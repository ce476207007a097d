"""A board: hardware facts about one device, `boards/NAME.toml`. Never what to install."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from imagebuilder.model.base import Many, Model, Size, Word
from imagebuilder.model.release import ReleaseRange, covers, lower_bound
from imagebuilder.model.size import parse_size

UNKNOWN = "unknown"
REMOVABLE = "removable"
# formats of images of which nobody here knows what has to lie where, and of those that no flash holds as they
# are: a vendor's updater or boot loader takes the image out of them
NOT_OPENED = (UNKNOWN, "vendor")
TAKEN_APART = (
    *("vendor", "buffalo", "cybertan", "edimax", "netgear-chk", "netgear-dni", "openmesh", "safeloader"),
    *("ubiquiti", "xiaomi"),
)

# Images as OpenWrt makes them. uimage-squashfs: kernel and root file system one behind the other.
# vendor-uimage-squashfs: the same where the boot loader wants another magic. kernel-squashfs: the same with
# a kernel that has no U-Boot header (ELF, LZMA, in JFFS2, behind its device tree), or with something between
# them. squashfs-kernel: the root file system first. ubi-factory, kernel-ubi: uimage-squashfs and
# kernel-squashfs with UBI in place of the squashfs. sd-card: a boot partition with FAT, then the root file
# system. kernel, filesystem: one part alone. vendor: in a header or an archive of the vendor's that this
# program does not open; which one the recipe says. The others are vendors' headers, see docs/formats.md.
# unknown: nobody has said yet, nothing looks into it.
ImageFormat = Literal[
    "tplink-v1",
    "uimage-squashfs",
    "sysupgrade-tar",
    "ubi-factory",
    "uimage",
    "ubi",
    "sd-card",
    "bios-disk",
    "efi-disk",
    "kernel",
    "filesystem",
    "vendor-uimage-squashfs",
    "kernel-squashfs",
    "fit",
    "trx",
    "safeloader",
    "tplink-v2",
    "netgear-dni",
    "netgear-chk",
    "model-header",
    "cybertan",
    "combined",
    "edimax",
    "seama",
    "ubiquiti",
    "openmesh",
    "xiaomi",
    "buffalo",
    "myloader",
    "zcomax",
    "kernel-ubi",
    "squashfs-kernel",
    "vendor",
    "unknown",
]
Target = Annotated[str, Field(pattern=r"^[a-z0-9_]+/[a-z0-9_-]+$")]
FileName = Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9._+-]|\{fs\})+$")]
Tail = Annotated[str, Field(pattern=r"^[!-~]+$")]
DeviceName = Annotated[str, Field(pattern=r"^[!-~]+$")]
CompatVersion = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$")]
Unsigned32 = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]


def _size_or_unknown(value: Any) -> int | None:
    return None if value is None or value == UNKNOWN else parse_size(value)


def _flash(value: Any) -> int | str | None:
    return REMOVABLE if value == REMOVABLE else _size_or_unknown(value)


def _schema(*words: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": ["string", "integer"], "pattern": r"^[0-9.]+[KMGkmg]?$"}, {"enum": [*words]}]}
    )


# None where the file says "unknown"
Ram = Annotated[int | None, BeforeValidator(_size_or_unknown), _schema(UNKNOWN)]
# "removable": a card or a disk that its owner chooses
Flash = Annotated[int | Literal["removable"] | None, BeforeValidator(_flash), _schema(REMOVABLE, UNKNOWN)]


class Partition(Model):
    """A part of the flash. Parts may overlap."""

    name: Word = Field(description="The partition's name, as the device tree has it: `firmware`.")
    offset: Size = Field(
        description="Where it begins in the flash, in bytes, or with K, M or G: `128K`.",
    )
    size: Size = Field(description="How long it is, in bytes, or with K, M or G: `3904K`.")


class Layout(Model):
    """What limits an image."""

    firmware: Size | None = Field(
        default=None,
        description="The partition that a sysupgrade may fill, in bytes, or with K, M or G: `3904K`. No"
        " image may be larger, unless it states a `limit` of its own. Left out: not known, so that what"
        " stays free cannot be told, and only the limits of the tree's own recipes count.",
    )
    kernel: Size | None = Field(
        default=None,
        description="The part of the firmware partition that the kernel may fill, in bytes, or with K, M or"
        " G: `1536K`. In a `ubi-factory` image UBI begins behind it. Left out: the kernel's size is not"
        " checked.",
    )
    kernel_and_rootfs: Size | None = Field(
        default=None,
        description="What the image tool (mktplinkfw) accepts for kernel and root file system together, in"
        " bytes, or with K, M or G: `3669504`. Left out: there is no such limit.",
    )
    partitions: Many[Partition] = Field(
        default=(),
        description="The flash from its beginning, for the data sheet, and for `boards check`, which"
        " compares them with the tree's. Left out: they are not known.",
    )


class TplinkHeader(Model):
    """What TP-Link's boot loader and OpenWrt's sysupgrade compare."""

    hwid: Unsigned32 = Field(description="The hardware id: `0x07400004`.")
    hwrev: Unsigned32 = Field(
        default=1, description="The hardware revision. Left out: 1, as in most of OpenWrt's recipes."
    )
    flash_layout: Word = Field(
        description="The name of the flash's layout in the header tool (mktplinkfw), which says what"
        " firmware length the header has to state: `4Mlzma`."
    )
    header_version: Annotated[int, Field(ge=1, le=255)] = Field(
        default=1, description="The version of the header, mktplinkfw's option -m. Left out: 1."
    )


class Image(Model):
    """An image that an ImageBuilder makes for the board; its key is the type that ends the file's name."""

    format: ImageFormat = Field(
        description="How OpenWrt puts this image together, by which it is read and verified before it is"
        " handed over: `tplink-v1`. With `unknown`, as `boards add` writes it where no recipe tells, nothing"
        " is built unless `build --accept-unchecked` says so."
    )
    required: bool = Field(
        default=False,
        description="Whether a build without this image fails. Left out: false, it may be missing.",
    )
    file: FileName | None = Field(
        default=None,
        description="What the file's name ends in, up to `.img` or `.bin`, where that is not"
        " `PROFILE-FILESYSTEM-TYPE`; `{fs}` stands for the file system: `combined-{fs}`. Left out: the usual"
        " ending, with this table's name as its type.",
    )
    limit: Size | None = Field(
        default=None,
        description="The most that this image may have, in bytes, or with K, M or G, where make's own recipe"
        " accepts something else than the firmware partition: `7616K`. Left out: `layout.firmware`.",
    )
    tail: Tail | None = Field(
        default=None,
        description="A text that the recipe puts behind everything else, for a vendor's boot loader. Left"
        " out: nothing stands there.",
    )


class UserEmulation(Model):
    """How a program of the board runs on another machine."""

    binary: Word = Field(description="QEMU's name for the processor, as in the program qemu-mips: `mips`.")
    cpu: Word = Field(description="The processor's model, as QEMU's option -cpu takes it: `24Kc`.")


class SystemEmulation(Model):
    """The machine of QEMU that the board is."""

    binary: Word = Field(description="The processor in the name of QEMU's program qemu-system-mips: `mips`.")
    machine: Word = Field(description="The machine, as QEMU's option -machine takes it: `malta`.")
    cpu: Word | None = Field(
        default=None,
        description="The processor's model, as QEMU's option -cpu takes it: `24Kc`. Left out: what QEMU"
        " gives this machine by itself.",
    )
    memory: Size = Field(description="The machine's memory, in bytes, or with K, M or G: `256M`.")


class Emulation(Model):
    """How what was built is tried without the device."""

    user: UserEmulation | None = Field(
        default=None,
        description="How QEMU runs a program of the board on this machine, so that an image's interpreter"
        " and commands can be tried. Left out: this machine's own processor has to run them.",
    )
    system: SystemEmulation | None = Field(
        default=None,
        description="The machine of QEMU that the board is, in which its images boot. Left out: it is none.",
    )
    twin: Word | None = Field(
        default=None,
        description="The board, a `qemu-*` one with the same packages, that is built and booted in this"
        " one's place, with this one's RAM: `qemu-malta-be`. Left out: there is none.",
    )


class Profile(Model):
    """What an ImageBuilder of certain releases calls this device."""

    releases: ReleaseRange = Field(
        description="The releases for which this table holds: `>=19.07`, `>=18.06,<21.02`, `17.01` (the"
        " whole series), `snapshot`, or `embedded` (every edition of the kit)."
    )
    target: Target = Field(description="Target and subtarget, as on the download server: `ath79/tiny`.")
    name: Word = Field(
        description="The device's profile in the ImageBuilder, what make gets as PROFILE:"
        " `tplink_tl-wr740n-v4`."
    )
    arch: Word = Field(description="The architecture of the packages: `mips_24kc`.")
    supported_devices: Many[DeviceName] = Field(
        default=(),
        description="The names that the metadata of an image may have, which the device's sysupgrade looks"
        ' for its own among: `["tplink,tl-wr740n-v4", "tl-wr741nd-v4"]`. Left out: images have no metadata,'
        " or the profile's name in it.",
    )
    boardname: DeviceName | None = Field(
        default=None,
        description="What the kernel's command line calls the device (`board=`, BOARDNAME of ar71xx), where"
        " it does: `TL-WR740N-v4`. Left out: it is not compared.",
    )
    compat_version: CompatVersion = Field(
        default="1.0",
        description="The version of the device's layout that the metadata of an image must state; a device"
        " of another major version refuses the image. Left out: `1.0`.",
    )
    images: dict[Word, Image] | None = Field(
        default=None,
        description="The images of these releases, all of them, in place of the board's. Left out: the"
        " board's `images`.",
    )
    layout: Layout | None = Field(
        default=None,
        description="What limits an image of these releases, in place of all that the board's `layout` says."
        " Left out: the board's `layout`.",
    )
    emulation: Emulation | None = Field(
        default=None,
        description="How what these releases build is tried, in place of all that the board's `emulation`"
        " says. Left out: the board's `emulation`.",
    )
    note: str = Field(
        default="",
        description="What somebody who builds with these releases should know; the data sheet has it. Left"
        " out: nothing.",
    )


class Board(Model):
    """One device."""

    id: Word = Field(description="The board's name, that of its file without `.toml`.")
    name: str = Field(description='Maker, model and version, as people say them: "TP-Link TL-WR740N/ND v4".')
    soc: str = Field(description='The chip, which `boards search` looks through as well: "Atheros AR9331".')
    ram: Ram = Field(
        description='The RAM, in bytes, or with K, M or G: `32M`. With "unknown" nobody can say whether a'
        " plan fits into it."
    )
    flash: Flash = Field(
        description='All of the flash, in bytes, or with K, M or G: `4M`. "removable" is a card or a disk'
        ' that its owner chooses; with "unknown" no image is measured against it.'
    )
    layout: Layout = Field(
        default=Layout(),
        description="What limits an image. Left out: nothing is known, and only the limits of the tree's own"
        " recipes count.",
    )
    tplink: TplinkHeader | None = Field(
        default=None,
        description="What the header of a TP-Link image must say. Left out: the board's images have no such"
        " header, and one that has it is refused.",
    )
    profile: Annotated[Many[Profile], Field(min_length=1)] = Field(
        description="What ImageBuilders call the device: a table for each span of releases in which target,"
        " name, arch, supported_devices or images differ. Where several hold, the one that begins latest"
        " counts."
    )
    images: dict[Word, Image] = Field(
        description="The images that are handed over, each under the type that ends its file's name, such as"
        " `sysupgrade` and `factory`; what else make leaves is not."
    )
    emulation: Emulation = Field(
        default=Emulation(),
        description="How what was built is tried without the device. Left out: only what this machine's own"
        " processor can run.",
    )

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What does not fit the flash: the place in the board's file, and a sentence."""
        if not isinstance(self.flash, int):
            return
        places: list[tuple[tuple[str | int, ...], int]] = [
            (("layout", "firmware"), self.layout.firmware or 0),
            (("layout", "kernel"), self.layout.kernel or 0),
        ]
        for index, part in enumerate(self.layout.partitions):
            places.append((("layout", "partitions", index), part.offset + part.size))
        for place, end in places:
            if end > self.flash:
                yield place, f"ends at {end} bytes, but the flash has {self.flash}"

    def profiles_for(self, release: str) -> tuple[Profile, ...]:
        """The profiles that cover a release, the newest first."""
        found = [profile for profile in self.profile if covers(profile.releases, release)]
        return tuple(sorted(found, key=lambda profile: lower_bound(profile.releases), reverse=True))

    @property
    def known_for(self) -> str:
        """For people: its targets, each once, with the releases that have it: `malta/be (>=26 or <26)`."""
        spans: dict[str, list[str]] = {}
        for profile in self.profile:
            spans.setdefault(profile.target, []).append(profile.releases)
        return ", ".join(f"{target} ({' or '.join(releases)})" for target, releases in spans.items())

    def for_profile(self, profile: Profile) -> Board:
        """The board as the releases of one of its profiles know it: that one's images, layout and emulation,
        where it has its own."""
        own = {"images": profile.images, "layout": profile.layout, "emulation": profile.emulation}
        return self.model_copy(update={key: value for key, value in own.items() if value is not None})


class UnsupportedDevice(Model):
    """A device that people ask for and no ImageBuilder makes images for."""

    id: Word = Field(description="The name by which people would ask for it as a board: `gumstix-verdex`.")
    name: str = Field(description='Maker and model, as people say them: "Openmoko Neo FreeRunner (GTA02)".')
    soc: str = Field(description='The chip: "Samsung S3C2442".')
    reason: Annotated[str, Field(min_length=1)] = Field(
        description="Why no image can be built, what `--board` says to whoever asks for the device."
    )


class UnsupportedFile(Model):
    """boards/unsupported.toml."""

    device: Many[UnsupportedDevice] = Field(default=(), description="The devices. Left out: none.")
