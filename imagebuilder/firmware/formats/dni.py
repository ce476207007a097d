"""NETGEAR's factory header: 128 bytes of `key:value` lines, the image, and one byte that makes the sum right.

Source: OpenWrt's firmware-utils, mkdniimg.c, and images that LEDE 17.01.4's made.
"""

from __future__ import annotations

from imagebuilder.firmware.checks import equal
from imagebuilder.firmware.formats.padding import filled
from imagebuilder.firmware.reader import Reading, View, printable
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
    header = view.first(HEADER_BYTES).to_part("dni-header", "NETGEAR header")
    last = view.part(view.size - 1)
    tail = last.to_part("dni-checksum", "checksum")
    body = filled(view.part(HEADER_BYTES, view.size - HEADER_BYTES - 1), reading, "image")
    check = equal("checksum of the NETGEAR image (sum of its bytes)", _SUM, sum(view.raw) & _SUM)
    fields = {name: Field(values[key]) for key, name in _KEYS.items() if key in values}
    return view.to_part(KIND, "NETGEAR image", fields, (header, *body, tail), (check,))
