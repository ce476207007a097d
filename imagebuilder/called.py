"""How this program was started, for messages that name a command of it: one reads what one types.

This is the one place that knows. build.py, which starts the program anew in its environment, says with
Python's option -X what was typed: a variable of the environment would reach the programs that are run here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

COMMAND = "owrt-python"
COMMANDS = (COMMAND, "openwrt-python-imagebuilder")  # as pyproject.toml has them
BOOTSTRAP = "build.py"
OPTION = "owrt-python-called"  # of -X; build.py says it


@cache
def called() -> str:
    """What was typed, up to the first argument, as a shell takes it: `python3 build.py`, `./build.py`,
    `owrt-python`, `python -m imagebuilder`; the command's name where another program loaded this one."""
    return how_called(sys.argv[0] if sys.argv else "", sys.orig_argv, sys._xoptions.get(OPTION))


def typed(words: str) -> str:
    """A command line of this program that can be typed as it was started. words: what follows the name."""
    return f"{called()} {words}"


def program() -> str:
    """The one word that a shell completes behind: the name of the program's file."""
    if OPTION in sys._xoptions:
        return BOOTSTRAP
    name = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - it need not be a path
    return name if name in COMMANDS else COMMAND


def how_called(script: str, argv: Sequence[str], said: object = None) -> str:
    """As called(). script: sys.argv[0]. argv: the process's own arguments. said: what build.py says."""
    if isinstance(said, str):
        return said
    path = Path(script)
    if path.name in COMMANDS:
        found = shutil.which(path.name)
        on_path = found is not None and os.path.realpath(found) == os.path.realpath(script)
        return path.name if on_path else shlex.quote(script)
    if path.name == "__main__.py" and path.parent.name == "imagebuilder" and argv:
        return f"{shlex.quote(argv[0])} -m imagebuilder"
    return COMMAND
