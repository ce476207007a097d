"""What is shown on a terminal: text, and nothing that the terminal would obey.

makefiles, packages' scripts, feeds and mirrors choose words that end up in messages. A terminal takes control
characters among them for orders: to clear, to rename its window, on some to fill the clipboard
(ECMA-48, xterm's ctlseqs).
"""

from __future__ import annotations

import re

# C0 but for tab and line feed, DEL, C1, and what turns the direction of writing round
_ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text with `?` for each character that orders instead of showing. A carriage return at the end of a
    line, as some programs write it, goes."""
    return _ORDERS.sub("?", text.replace("\r\n", "\n").rstrip("\r"))
