"""What TP-Link's version 1 header and its tool know of flash."""

from __future__ import annotations

from collections.abc import Mapping

# mktplinkfw: the areas that its layouts give to firmware, in bytes. From its source; 4Mlzma was measured.
FLASH_LAYOUTS: Mapping[str, int] = {
    "4M": 0x3C0000,
    "4Mlzma": 0x3C0000,
    "8M": 0x7C0000,
    "8Mlzma": 0x7C0000,
    "8Mmtk": 0x7C0000,
    "16M": 0xF80000,
    "16Mlzma": 0xF80000,
    "16Mppc": 0xF80000,
}
