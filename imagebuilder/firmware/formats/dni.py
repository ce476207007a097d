"""NETGEAR's factory header: 128 bytes of `key:value` lines, the image, and one byte that makes the sum right.

Source: OpenWrt's firmware-utils, mkdniimg.c, and images that LEDE 17.01.4's made.
"""

from __future__ import annotations

from imagebuilder.firmware.checks import equal
from imagebuilder.firmware.formats.padding import filled
from imagebuilder.firmware.reader import View, printable
from imagebuilder.firmware.reading import Reading
from imagebuilder.model.firmware import Field, Part

KIND = "dni"
HEADER_BYTES = 128
_BEGINNING = b"device:"
_KEYS = {"device": "device", "version": "version", "region": "region", "hd_id": "hardware id"}
_SUM = 0xFF


def detect(view: View) -> bool:
    """The first line, and room for more than the header."""
    return view.has(_BEGINNING) and view.size > HEADER_BYTES + 1


def parse(view: View, reading: Reading) -> Part:
    """The header, the image and the last byte: all that there is."""
    text = bytes(view.take(0, HEADER_BYTES)).partition(b"\0")[0]
    values = dict(printable(line).split(":", 1) for line in text.split(b"\n") if b":" in line)
    header = Part("dni-header", "NETGEAR header", view.start, HEADER_BYTES, data=view.first(HEADER_BYTES).raw)
    last = view.part(view.size - 1)
    tail = Part("dni-checksum", "checksum", last.start, 1, data=last.raw)
    body = filled(view.part(HEADER_BYTES, view.size - HEADER_BYTES - 1), reading, "image")
    check = equal("checksum of the NETGEAR image (sum of its bytes)", _SUM, sum(view.raw) & _SUM)
    fields = {name: Field(values[key]) for key, name in _KEYS.items() if key in values}
    return Part(
        KIND, "NETGEAR image", view.start, view.size, fields, (header, *body, tail), (check,), data=view.raw
    )
