"""Errors become messages and exit codes, here and nowhere else."""

from __future__ import annotations

import functools
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from imagebuilder.cli.groups import expanded, gathered
from imagebuilder.cli.output import UnprintableError, give_up, unprintable
from imagebuilder.cli.terminal import harmless
from imagebuilder.errors import REPORT, FaultsError, FoundError, TerminatedError, UserError

USER_FAULT = 2
OUR_FAULT = 1
CANNOT_BE_TOLD = 3  # `verify`: the image is whole, and nothing in it says what it is for
# EX_TEMPFAIL of sysexits.h. `test --lowest`: no package index can be reached; `test --as-user`: nobody to be
NOT_TRIED = 75
INTERRUPTED = 130
TERMINATED = 143
NOBODY_READS = 141  # as a program that SIGPIPE ends, `| head` for one


class RefusedError(FoundError):
    """What a command found is an error; --json puts the facts into the error's own document, so that there is
    one. code: what the process ends with; kind: the word before the message."""

    def __init__(
        self, error: UserError, found: Any, *, code: int = USER_FAULT, kind: str = "error: "
    ) -> None:
        super().__init__(error, found)
        self.code, self.kind = code, kind


class NotTriedError(UserError):
    """What a command was to try cannot be tried here, or could not be fetched: nothing is said of it."""


def guarded(command: Callable[..., None], *, passes_on: bool = False) -> Callable[..., None]:
    """A command whose errors end the process with a message and the right exit code, and whose groups of
    options (cli/options.py, cli/image_options.py) are options of its own. passes_on: as for expanded()."""

    signature, groups = expanded(command, passes_on=passes_on)

    @functools.wraps(command)
    def wrapper(**options: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, _terminate)
        as_json = bool(options.get("as_json"))
        try:
            try:
                command(**gathered(groups, options))
            finally:
                sys.stdout.flush()  # while it can still be told from a fault that nobody reads it
        except RefusedError as error:
            report(error, as_json=as_json, kind=error.kind)
            sys.exit(error.code)
        except UserError as error:
            report(error, as_json=as_json)
            sys.exit(NOT_TRIED if isinstance(error, NotTriedError) else USER_FAULT)
        except (
            KeyboardInterrupt,
            typer.Abort,
        ):  # the latter for Ctrl-C and Ctrl-D where typer asks something
            again = "the same command can simply be run again"
            report(UserError(f"interrupted; nothing was handed over, and {again}"), as_json=as_json, kind="")
            sys.exit(INTERRUPTED)
        except TerminatedError:
            report(UserError("terminated; nothing was handed over"), as_json=as_json, kind="")
            sys.exit(TERMINATED)
        except Exception as error:  # noqa: BLE001 - the last stop: whatever arrives here is a bug of ours
            told = _not_ours(error)
            if told is not None:
                report(told, as_json=as_json and not isinstance(told, UnprintableError))
                sys.exit(USER_FAULT)
            traceback.print_exc()
            if as_json:
                _print_document(_our_fault(error))
            _say(REPORT)
            sys.exit(OUR_FAULT)

    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return wrapper


def _our_fault(error: Exception) -> UserError:
    return UserError(f"{type(error).__name__}: {error}", hint=REPORT)


def _not_ours(error: Exception) -> UserError | None:
    """What the system's error says to the user, or None for a bug of ours."""
    if not isinstance(error, OSError):
        return None
    leave_if_unread(error)
    from imagebuilder.host.fs import explained_error

    return unprintable(error) or explained_error(error)


def leave_if_unread(error: OSError) -> None:
    """End where standard output leads nowhere any more, if that is what the error is about."""
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        sys.exit(NOBODY_READS)


def _nobody_reads() -> bool:
    """Whether standard output leads nowhere any more; then Python is not to try once more at its end."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        give_up()
    return gone


def _terminate(number: int, _frame: object) -> None:
    if number == signal.SIGHUP:  # the shell of a window that is closed sends it once more when it ends
        signal.signal(number, signal.SIG_IGN)
    raise TerminatedError


def error_facts(error: UserError) -> dict[str, object]:
    """An error for machines."""
    faults = error.faults if isinstance(error, FaultsError | FoundError) else ()
    notes = getattr(error, "__notes__", [])
    return {"error": error.message, "hint": error.hint, "notes": notes, "faults": faults}


def error_lines(error: UserError, kind: str = "error: ") -> list[str]:
    """What is said of an error: what went wrong, and what to do next. kind: what the first line begins
    with."""
    hint = [f"hint: {error.hint}"] if error.hint else []
    return [f"{kind}{error.message}", *getattr(error, "__notes__", ()), *hint]


def _print_document(error: UserError) -> None:
    """The one document that a command with --json prints when it fails."""
    from imagebuilder.cli import show

    facts = error_facts(error)
    show.as_json({**facts, "found": error.found} if isinstance(error, RefusedError) else facts)


def report(error: UserError, *, as_json: bool = False, kind: str = "error: ") -> None:
    """Say what went wrong, and what to do next, on standard error; as JSON on standard output too."""
    if as_json:
        _print_document(error)
    for line in error_lines(error, kind):
        _say(line)


def _say(text: str) -> None:
    with suppress(OSError):  # nobody can be told
        lines = [harmless(text)]
        if sys.stderr.isatty():
            from imagebuilder.cli.screen import complaint

            lines = complaint(text)
        print("\n".join(lines), file=sys.stderr)
