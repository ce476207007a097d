"""The command line: arguments, printing, exit codes; no logic."""

from __future__ import annotations

import atexit
import gc
import os
import sys


def main() -> None:
    """Run the command line and exit: 0, 2 for the user's fault, 1 for ours, 130 when interrupted."""
    try:
        from imagebuilder.called import program
        from imagebuilder.cli.app import app  # here: importing imagebuilder.cli must cost nothing
        from imagebuilder.cli.output import own_output, plain_where_piped, unprintable
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)

    own_output()
    plain_where_piped()
    try:
        try:
            app(prog_name=program())
        finally:
            sys.stdout.flush()  # of --help, which no command guards
    except OSError as error:
        told = unprintable(error)
        if told is None:
            raise
        print(f"error: {told.message}", file=sys.stderr)
        sys.exit(2)


def run_and_leave() -> None:
    """As main(), in a process of its own: what a start loads stays until the end. Searching it for what could
    be freed would take 0.1 s, taking it apart at the end 0.04 s; by then everything is closed and written."""
    gc.set_threshold(100_000)
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        raise
