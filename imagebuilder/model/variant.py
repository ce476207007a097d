"""Which Pythons a config can ask for: the one list of them, cheap to import for the command line's help."""

from __future__ import annotations

from typing import Literal, get_args

Variant = Literal[
    "none", "micropython", "base", "light", "full", "auto", "python2-base", "python2-light", "python2-full"
]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
