"""What can go wrong while something that was built is tried out."""

from __future__ import annotations

from imagebuilder.errors import UserError

TAIL_LINES = 30


class TrialError(UserError):
    """A guest that did not start, did not answer, or ended too early. tail: what its console said last."""

    def __init__(self, message: str, console: str = "", *, hint: str | None = None) -> None:
        self.tail = "\n".join(console.replace("\r", "").splitlines()[-TAIL_LINES:])
        said = f"; its console said last:\n{self.tail}" if self.tail.strip() else ""
        super().__init__(message + said, hint=hint)
