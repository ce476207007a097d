"""What the parts of an image say of themselves, given what the board's image has to be: a text of the
recipe's behind it is no fault, and in a vendor's format nobody here knows what has to lie where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats import Read
from imagebuilder.firmware.reader import printable
from imagebuilder.model.board import NOT_OPENED, Image
from imagebuilder.model.firmware import Check


def part_checks(read: Read, image: Image) -> Iterator[Check]:
    """The checks of all parts. Other bytes than padding fail theirs, but for the board's own `tail`, and that
    has to be the last of the image."""
    tail = (image.tail or "").encode("ascii")
    ended = b""
    for part in read.part.walk():
        for check in part.checks:
            foreign = part.kind == "data" and not check.ok
            if foreign and tail and part.data is not None and bytes(part.data) == tail:
                ended = tail
            elif check.refuses and image.format in NOT_OPENED:
                yield replace(check, level="unsure")
            else:
                yield check
    if tail:
        end = read.image.offset + read.body_size
        at_the_end = b"" if read.part.data is None else bytes(read.part.data[max(0, end - len(tail)) : end])
        found = printable(at_the_end)
        yield holds("text behind the image", ended == tail, expected=tail.decode(), found=found)
