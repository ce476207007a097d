"""Partitions as a kernel's command line names them (`mtdparts`), and sizes as makefiles write them."""

from __future__ import annotations

import re

from imagebuilder.config.board import Partition
from imagebuilder.model.size import parse_size

_PARTITION = re.compile(
    r"(\d+[km]?)(?:@(0x[0-9a-f]+|\d+[km]?))?\(([A-Za-z0-9][\w.+-]*)\)(?:ro)?", re.IGNORECASE
)


def make_size(text: str | None) -> int | None:
    """Bytes of a size as makefiles write it: `3904k`, `16m`, `0x3d0000`, `8192`; None for anything else."""
    if not text:
        return None
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,12}", text):
        return int(text, 16)
    try:
        return parse_size(text)
    except ValueError:
        return None


def parse_mtdparts(text: str) -> tuple[Partition, ...]:
    """The partitions of a kernel command line's `spi0.0:256k(u-boot)ro,16000k(firmware),…`; none where it
    names several chips or leaves a size open (`-(firmware)`)."""
    chip, colon, parts = text.strip().partition(":")
    if not colon or ";" in parts or not chip:
        return ()
    found, offset = [], 0
    for part in parts.split(","):
        match = _PARTITION.fullmatch(part)
        size = make_size(match[1]) if match else None
        if match is None or size is None:
            return ()
        start = make_size(match[2]) if match[2] else offset
        if start is None:
            return ()
        found.append(Partition(name=match[3], offset=start, size=size))
        offset = start + size
    return tuple(found)
