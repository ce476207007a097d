"""The command line: arguments, printing, exit codes; no logic."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0, 2 for the user's fault, 1 for ours, 130 when interrupted."""
    from imagebuilder.cli.app import app  # here: importing imagebuilder.cli must cost nothing

    # an option with a value that may be left out is more than typer knows
    app([f"{word}=least" if word == "--fit" else word for word in sys.argv[1:]], prog_name="build.py")
