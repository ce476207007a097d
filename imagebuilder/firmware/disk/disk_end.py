"""Where the file of a disk may end: with its last partition, or inside of it where a recipe of OpenWrt's
ends.

Each recipe writes its partitions with `dd` into a file that ptgen began, and few write the last one to its
end (target/linux/*/image and scripts/gen_image_generic.sh). x86 up to 19.07 has 128 KiB of zeros behind the
squashfs, so that no overlay of an older system is taken for this one's; sunxi, omap, zynq, mxs and RISC-V end
with the root file system's last byte; Raspberry Pi fills its last sector, and from 24.10 on 1 MiB more. What
a partition lacks there is not of the file system: sysupgrade and `dd` write what there is.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.reader import View
from imagebuilder.model.firmware import Check, Part

SECTOR = 512
OVERLAY_ZEROS = 128 << 10
_WHOLE = ("squashfs", "ext4", "fat", "fit")  # what states its own length


def content_end(partition: Part | None) -> int | None:
    """Where the contents of a partition end, in bytes of what the partition lies in; None where they do not
    say, or are cut."""
    if partition is None or not partition.children or partition.children[0].kind not in _WHOLE:
        return None
    if partition.children[0].problems:
        return None
    return max(
        part.offset + part.size for part in partition.children if part.kind not in ("padding", "end-marker")
    )


def is_recipe_end(end: int, contents: int | None) -> bool:
    """Whether a recipe ends a file there that ends inside of its last partition. contents: where that
    partition's contents end; all in bytes."""
    return contents is not None and end in (contents, contents + OVERLAY_ZEROS)


def is_card(view: View) -> bool:
    """Whether nothing in the first sector is run: processors with a boot ROM of their own look elsewhere."""
    return view.u8(0) == 0


def end_checks(view: View, latest: int, *, recipe_end: bool) -> Iterator[Check]:
    """The file's length. latest: where it may end at the latest, in bytes."""
    size = f"{view.size} bytes"
    whole = view.size % SECTOR == 0 or recipe_end
    yield holds("length of the disk image", whole, expected="whole sectors", found=size)
    ends = view.size <= latest
    yield holds("end of the disk image", ends, expected=f"at {latest} bytes at the latest", found=size)
