"""How tests start a program that is to heed signals."""

from __future__ import annotations

# a shell that starts the tests in the background has them, and what they start, ignore SIGINT; one without a
# terminal SIGHUP; and what ignores a signal when it starts cannot be interrupted by a terminal either
HEEDING = ("env", "--default-signal=HUP,INT,QUIT,TERM")
