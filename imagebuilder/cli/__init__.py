"""The command line: arguments, printing, exit codes; no logic."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer


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
            _asked_alone(app)(prog_name=program())
        finally:
            sys.stdout.flush()  # of --help, which no command guards
    except OSError as error:
        told = unprintable(error)
        if told is None:
            raise
        print(f"error: {told.message}", file=sys.stderr)
        sys.exit(2)


def _asked_alone(app: Typer) -> Typer:
    """The command line with no other command than the one that the first word names, if it names one: typer
    makes all that there are at each start, which takes 0.02 s."""
    from typer.main import get_command_name

    asked = [
        each
        for each in app.registered_commands
        if each.callback and [each.name or get_command_name(each.callback.__name__)] == sys.argv[1:2]
    ]
    if not asked or any(name.endswith("_COMPLETE") for name in os.environ):
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = asked, []
    return alone


def run_and_leave() -> None:
    """As main(), in a process of its own: what a start loads, and what a build makes of it (150,000 objects),
    stays until the end. Searching it for what could be freed would take 0.05 s each time, taking it apart at
    the end 0.04 s; by then everything is closed and written."""
    gc.set_threshold(300_000)
    # nobody's plugin has a say in what configs mean, and looking for one reads what is installed
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        raise
