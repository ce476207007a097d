"""A board: hardware facts about one device, `boards/NAME.toml`. Never what to install."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from imagebuilder.model.base import Many, Model
from imagebuilder.model.release import ReleaseRange, covers, lower_bound
from imagebuilder.model.size import Size, parse_size

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
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
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
    """A part of the flash: where it begins and how long it is, in bytes. Parts may overlap."""

    name: Word
    offset: Size
    size: Size


class Layout(Model):
    """What limits an image, in bytes. firmware: the partition that a sysupgrade may fill. kernel: the
    part of it that the kernel may fill. kernel_and_rootfs: what the image tool accepts for both together.
    partitions: the flash from its beginning, where it is known."""

    firmware: Size | None = None
    kernel: Size | None = None
    kernel_and_rootfs: Size | None = None
    partitions: Many[Partition] = ()


class TplinkHeader(Model):
    """What TP-Link's boot loader and OpenWrt's sysupgrade compare: hardware id and revision. flash_layout:
    the header tool's (mktplinkfw) name for the flash's layout; header_version: of the header (its -m)."""

    hwid: Unsigned32
    hwrev: Unsigned32 = 1
    flash_layout: Word
    header_version: Annotated[int, Field(ge=1, le=255)] = 1


class Image(Model):
    """An image that an ImageBuilder makes for the board; its key is the type that ends the file's name.

    file: what the name ends in instead, up to `.img` or `.bin`, where it is not `PROFILE-FILESYSTEM-TYPE`
    (`{fs}`: the file system). limit: bytes that make's own recipe accepts, where that is not the firmware
    partition. tail: a text that the recipe puts behind everything else, for a vendor's boot loader.
    """

    format: ImageFormat
    required: bool = False
    file: FileName | None = None
    limit: Size | None = None
    tail: Tail | None = None


class UserEmulation(Model):
    """How a program of the board runs on another machine: QEMU's name for its processor, and the model."""

    binary: Word
    cpu: Word


class SystemEmulation(Model):
    """The machine of QEMU (qemu-system-BINARY) that the board is, with so many bytes of memory."""

    binary: Word
    machine: Word
    cpu: Word | None = None
    memory: Size


class Emulation(Model):
    """How what was built is tried without the device. twin: the board whose image is booted in its place."""

    user: UserEmulation | None = None
    system: SystemEmulation | None = None
    twin: Word | None = None


class Profile(Model):
    """What an ImageBuilder of certain releases calls this device.

    supported_devices: the names that a sysupgrade with metadata accepts; none where images have no metadata.
    boardname: what the kernel's command line calls the device (`board=`, BOARDNAME of ar71xx), where it does.
    compat_version: a device of another major version refuses the image. images, layout, emulation: in place
    of the board's, where these releases differ. note: what somebody who builds with them should know.
    """

    releases: ReleaseRange
    target: Target
    name: Word
    arch: Word
    supported_devices: Many[DeviceName] = ()
    boardname: DeviceName | None = None
    compat_version: CompatVersion = "1.0"
    images: dict[Word, Image] | None = None
    layout: Layout | None = None
    emulation: Emulation | None = None
    note: str = ""


class Board(Model):
    """One device. ram and flash in bytes (None: unknown); id is the file's name without `.toml`."""

    id: Word
    name: str
    soc: str
    ram: Ram
    flash: Flash
    layout: Layout = Layout()
    tplink: TplinkHeader | None = None
    profile: Annotated[Many[Profile], Field(min_length=1)]
    images: dict[Word, Image]
    emulation: Emulation = Emulation()

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

    def for_profile(self, profile: Profile) -> Board:
        """The board as the releases of one of its profiles know it: that one's images, layout and emulation,
        where it has its own."""
        own = {"images": profile.images, "layout": profile.layout, "emulation": profile.emulation}
        return self.model_copy(update={key: value for key, value in own.items() if value is not None})


class UnsupportedDevice(Model):
    """A device that people ask for and no ImageBuilder makes images for, and why."""

    id: Word
    name: str
    soc: str
    reason: Annotated[str, Field(min_length=1)]


class UnsupportedFile(Model):
    """boards/unsupported.toml."""

    device: Many[UnsupportedDevice] = ()
