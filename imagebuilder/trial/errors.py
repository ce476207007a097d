"""What can go wrong while something that was built is tried out."""

from __future__ import annotations

import re

from imagebuilder.errors import UserError

TAIL_LINES = 30
MARK = re.compile(
    r"@\d+\.[0-9a-f]{16}(<|>\d+)"
)  # what trial.guest has the guest's shell say around an answer


class TrialError(UserError):
    """A guest that did not start, did not answer, or ended too early. tail: what its console said last."""

    def __init__(self, message: str, console: str = "", *, hint: str | None = None) -> None:
        lines = MARK.sub("", console.replace("\r", "")).splitlines()
        self.tail = "\n".join([line for line in lines if line][-TAIL_LINES:])
        said = f"; its console said last:\n{self.tail}" if self.tail.strip() else ""
        super().__init__(message + said, hint=hint)
