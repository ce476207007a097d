"""FIT images: a device tree whose /images holds kernels, device trees and file systems with their hashes.

Data lies in the tree or behind it; U-Boot, doc/usage/fit/source_file_format.rst. On devices that boot FIT a
failed hash cannot be overridden (fit_check_sign).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

from imagebuilder.firmware.checks import equal, holds
from imagebuilder.firmware.formats.fdt import Node, read_tree
from imagebuilder.firmware.formats.fdt import detect as detect_tree
from imagebuilder.firmware.formats.padding import padding
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Check, Field, Part

_ALIGN = 3
_REFERENCES = ("kernel", "fdt", "loadables", "ramdisk", "firmware")


def detect(view: View) -> bool:
    """A device tree with the node /images."""
    if not detect_tree(view):
        return False
    try:
        return "images" in read_tree(view).children
    except ImageFormatError:
        # a damaged tree that names its images is a damaged FIT, and says so when it is parsed
        return b"\0images\0" in bytes(view.first(view.u32(4)).raw)


def is_loader(part: Part) -> bool:
    """Whether a part is a FIT without a kernel: U-Boot itself, on its way to its SPL, which asks for no hash
    and no kernel. OMAP's u-boot.img and the second partition of RISC-V's cards are such."""
    return part.kind == FIT.kind and part.find("fit-kernel") is None


def _digest(algorithm: str, data: View) -> str | None:
    if algorithm == "crc32":
        return f"{zlib.crc32(data.raw):08x}"
    if algorithm in ("md5", "sha1", "sha256", "sha384", "sha512"):
        return hashlib.new(algorithm, data.raw, usedforsecurity=False).hexdigest()
    return None


def _data(image: Node, view: View, name: str) -> View:
    if "data" in image.properties:
        return image.properties["data"]
    size, position, offset = (
        image.number("data-size"),
        image.number("data-position"),
        image.number("data-offset"),
    )
    if size is None or (position is None and offset is None):
        raise ImageFormatError(f"the image {name} of the FIT has no data")
    at = position if position is not None else ((view.u32(4) + _ALIGN) & ~_ALIGN) + (offset or 0)
    if at + size > view.size:
        raise ImageFormatError(
            f"the data of the image {name} lies outside of the file: it ends at {at + size}"
        )
    return view.part(at, size, f"the image {name}")


def _hash_checks(image: Node, name: str, data: View) -> Iterator[Check]:
    nodes = [(key, node) for key, node in sorted(image.children.items()) if key.startswith("hash")]
    if not nodes:
        yield Check(f"hash of the image {name}", "one at least", "none", False)
    for key, node in nodes:
        algorithm = node.text("algo")
        stored = bytes(node.properties["value"].raw).hex() if "value" in node.properties else "none"
        found = _digest(algorithm, data)
        if found is None:
            yield Check(f"{key} of the image {name}", "a hash that is known", algorithm or "none", False)
        else:
            yield equal(f"{key} of the image {name} ({algorithm})", stored, found)


def _configuration_checks(root: Node) -> Iterator[Check]:
    images = root.children["images"].children
    node = root.children.get("configurations")
    if node is None and all(image.text("type") != "kernel" for image in images.values()):
        # a script and what it writes to flash, as vendors' U-Boot takes it (OpenWrt's qsdk-ipq-factory)
        return
    if node is None or not node.children:
        yield Check("configurations of the FIT", "one at least", "none", False)
        return
    default = node.text("default")
    found = ", ".join(sorted(node.children))
    yield holds(
        "default configuration", default in node.children, expected=default or "a default", found=found
    )
    for name, configuration in sorted(node.children.items()):
        for reference in _REFERENCES:
            for image in configuration.texts(reference):
                yield holds(
                    f"{reference} of the configuration {name}",
                    image in images,
                    expected=image,
                    found=", ".join(sorted(images)),
                )
        kernel = configuration.text("kernel")
        named = bool(configuration.texts("kernel"))
        yield holds(
            f"kernel of the configuration {name}", named, expected="one", found=kernel if named else "none"
        )


def _image(name: str, node: Node, view: View, reading: Reading) -> Part:
    data = _data(node, view, name)
    kind = node.text("type")
    content = reading.inside(data, f"{name} data")
    rest = padding(data.part(content.size)) if content.kind == "squashfs" else ()
    fields = {key: Field(node.text(key)) for key in ("type", "arch", "os", "compression") if node.text(key)}
    for key in ("load", "entry"):
        number = node.number(key)
        if number is not None:
            fields[key] = Field(number, hex(number))
    checks = tuple(_hash_checks(node, name, data))
    return data.to_part(f"fit-{kind or 'image'}", name, fields, (content, *rest), checks)


def _all_of(view: View, images: list[Part]) -> int:
    """Where the FIT ends: behind its tree, or behind the last of the data outside of it."""
    ends = [view.u32(4), *(part.offset - view.start + part.size for part in images)]
    return max(ends)


def parse(view: View, reading: Reading) -> Part:
    """The tree, its images, hashes and references."""
    root = read_tree(view)
    if "images" not in root.children or not root.children["images"].children:
        raise ImageFormatError("the FIT has no images")
    images = [_image(name, node, view, reading) for name, node in root.children["images"].children.items()]
    images.sort(key=lambda part: part.offset)
    fields = {
        "description": Field(root.text("description")),
        "time": Field(root.number("timestamp") or 0, "seconds since 1970"),
        "tree": Field(view.u32(4), "bytes of the tree"),
    }
    configurations = root.children.get("configurations")
    if configurations is not None:
        devices = [text for node in configurations.children.values() for text in node.texts("compatible")]
        fields["compatible"] = Field(tuple(devices))
        fields["configurations"] = Field(tuple(printable(name.encode()) for name in configurations.children))
    size = _all_of(view, images)
    return view.first(size).to_part(FIT.kind, "FIT image", fields, images, _configuration_checks(root))


FIT = Format(
    "fit",
    "FIT",
    detect,
    parse,
    steps="fit fit-image simplefit traverse-fit traverse-fit-ls1088 uboot-fit qsdk-ipq-factory-nand "
    "qsdk-ipq-factory-nor gl-qsdk-factory zyxel-nwa-fit zyxel-nwa-fit-filogic "
    "fit-with-netgear-top-level-rootfs-node",
)
