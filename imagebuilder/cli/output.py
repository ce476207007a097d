"""Standard output, which says of its own errors that they are its own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from imagebuilder.errors import UserError

NAME = "standard output"  # in the place of a file's name in an OSError


class UnprintableError(UserError):
    """Standard output takes nothing more: its disk is full, for one."""


@contextmanager
def named() -> Iterator[None]:
    """Have what goes wrong while something is printed carry NAME: write(2) knows no names, and a full disk
    below a file that is written elsewhere looks the same."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = NAME
        raise


class _Output(io.TextIOWrapper):
    """What print() writes to."""

    def write(self, text: str, /) -> int:
        """As TextIOWrapper does it."""
        with named():
            return super().write(text)

    def flush(self) -> None:
        """As TextIOWrapper does it."""
        with named():
            super().flush()


def own_output() -> None:
    """Have standard output name itself in its errors, from now on."""
    old = sys.stdout
    if type(old) is io.TextIOWrapper:
        # names of files are what bytes they are
        form = {"encoding": old.encoding, "errors": "surrogateescape"}
        sys.stdout = _Output(old.detach(), **form, line_buffering=old.line_buffering)  # type: ignore[arg-type]


def plain_where_piped() -> None:
    """Have help and usage errors colour a terminal alone, or where FORCE_COLOR or PY_COLORS say so: typer
    colours them also wherever GITHUB_ACTIONS is set, and so in what a workflow keeps in a file."""
    if os.environ.get("GITHUB_ACTIONS") and not (
        os.environ.get("FORCE_COLOR") or os.environ.get("PY_COLORS")
    ):
        from typer import rich_utils  # nothing that a start elsewhere should wait for

        rich_utils.FORCE_TERMINAL = None


def unprintable(error: BaseException) -> UnprintableError | None:
    """What is wrong with standard output, if the error is one of its own. What was not printed yet goes
    nowhere then: Python is not to try once more at its end."""
    if not isinstance(error, OSError) or error.filename != NAME:
        return None
    give_up()
    return UnprintableError(f"cannot write {NAME}: {error.strerror}")


def give_up() -> None:
    """Print nothing more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
