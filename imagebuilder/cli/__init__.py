"""The command line: arguments, printing, exit codes; no logic."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit: 0, 2 for the user's fault, 1 for ours, 130 when interrupted."""
    from imagebuilder.cli.app import app  # noqa: PLC0415 - importing imagebuilder.cli must cost nothing

    app(prog_name="build.py")
