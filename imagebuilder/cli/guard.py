"""Errors become messages and exit codes, here and nowhere else."""

from __future__ import annotations

import functools
import json
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from imagebuilder.errors import FaultsError, UserError

USER_FAULT = 2
OUR_FAULT = 1
INTERRUPTED = 130
TERMINATED = 143

Command = TypeVar("Command", bound=Callable[..., None])


class _TerminatedError(BaseException):
    """SIGTERM arrived: unwind, so that programs are stopped and folders removed."""


def guarded(command: Command) -> Command:
    """A command whose errors end the process with a message and the right exit code."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*args, **kwargs)
        except UserError as error:
            _report(error, as_json=bool(kwargs.get("as_json")))
            sys.exit(USER_FAULT)
        except KeyboardInterrupt:
            _say("interrupted; nothing was handed over, and the same command can simply be run again")
            sys.exit(INTERRUPTED)
        except _TerminatedError:
            _say("terminated; nothing was handed over")
            sys.exit(TERMINATED)
        except Exception:  # noqa: BLE001 - the last stop: whatever arrives here is a bug of ours
            traceback.print_exc()
            _say("this is a fault of the builder, not yours: please report it with the lines above")
            sys.exit(OUR_FAULT)

    return wrapper  # type: ignore[return-value]


def _terminate(_number: int, _frame: object) -> None:
    raise _TerminatedError


def _report(error: UserError, *, as_json: bool) -> None:
    notes = getattr(error, "__notes__", [])
    if as_json:
        faults = [vars(fault) for fault in error.faults] if isinstance(error, FaultsError) else []
        facts = {"error": error.message, "hint": error.hint, "notes": notes, "faults": faults}
        print(json.dumps(facts, indent=2))
    _say(f"error: {error.message}")
    for note in notes:
        _say(note)
    if error.hint:
        _say(f"hint: {error.hint}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
