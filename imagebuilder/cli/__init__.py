"""The command line: arguments, printing, exit codes; no logic."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0, 2 for the user's fault, 1 for ours, 130 when interrupted."""
    try:
        from imagebuilder.cli.app import app  # here: importing imagebuilder.cli must cost nothing
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)

    app(prog_name="build.py")
