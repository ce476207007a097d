"""The demo: its image is booted with little memory, and the program that its overlay brings answers."""

from __future__ import annotations

import json
from pathlib import Path

from imagebuilder.log import Log
from imagebuilder.trial.guest import TrialError
from imagebuilder.trial.machines import booted_image

MEMORY = 128 << 20  # bytes: as a cheap router has; UEFI in QEMU wants more, so its kernel starts it
PROGRAM = "/usr/share/demo/demo.py"  # overlays/demo
ANSWER = {"greeting": str, "python": str, "machine": str, "free_memory_kib": int, "answer": int}


def ask_demo(image: Path, log: Log) -> dict[str, str | int | float]:
    """Boot the image by its kernel with 128 MiB and run the demo program in it.

    What the program said (the keys of ANSWER), and `boot_seconds`. TrialError if it said anything else;
    others as of booted_image().
    """
    with booted_image(image, log, memory=MEMORY, way="kernel") as guest:
        text = guest.check(f"python3 {PROGRAM}")
        try:
            said = json.loads(text)
        except ValueError as error:
            raise TrialError("the demo program did not answer in JSON", text) from error
        if not isinstance(said, dict) or {key: type(value) for key, value in said.items()} != ANSWER:
            raise TrialError("the demo program answered something else than it should", text)
        return {**said, "boot_seconds": round(guest.boot_seconds, 1)}
