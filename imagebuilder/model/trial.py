"""What trying an image out gives: checks of its root file system, each with what it found."""

from __future__ import annotations

from typing import Literal

from imagebuilder.model.base import Many, Model

TrialOutcome = Literal["ok", "warned", "failed", "not run"]
# what a finding is: against using the image; worth knowing, since it costs or may lack something; or how the
# release has it, which is said so that nobody looks for it
TrialLevel = Literal["error", "warning", "note"]


class TrialFinding(Model):
    """One thing that a check found. file: its path in the image, "" where it is none's; package: that owns
    the file, "" where none does; text: what it is, and why, in words."""

    file: str
    package: str
    text: str
    level: TrialLevel = "error"


class TrialCheck(Model):
    """One thing that was tried of an image. name: for programs, `shared-libraries`; what: for people;
    expected, found: in words; outcome: `warned` where it holds but for things worth knowing; why: it was not
    run."""

    name: str
    what: str
    expected: str
    found: str
    outcome: TrialOutcome
    why: str = ""
    findings: Many[TrialFinding] = ()


# what `hello world` is of: the library as the image has it; its sources, compiled at each start; the library
# as it is, without what `site` and the environment bring (-I -S)
TrialWay = Literal["bytecode", "source", "isolated"]


class TrialFigure(Model):
    """What starting the image's Python for a program of one line takes. seconds: on the building machine, the
    median of some starts; modules: that it had in the end, look_ups: how often its import system went to the
    file system, None where the interpreter counts neither; memory: the most RAM that it took at once, in KiB,
    None under emulation, where that is the emulator's."""

    way: TrialWay
    command: str
    seconds: float
    modules: int | None
    look_ups: int | None
    memory: int | None


class TrialReport(Model):
    """How an image's root file system was tried. by: what ran its programs, `this machine` or an emulator
    with its processor; why: none was run, "" where some were; made: packages that were made for this image,
    the user's own."""

    by: str
    why: str
    checks: Many[TrialCheck]
    figures: Many[TrialFigure] = ()
    made: Many[str] = ()

    @property
    def failed(self) -> tuple[TrialCheck, ...]:
        """The checks that speak against using the image."""
        return tuple(check for check in self.checks if check.outcome == "failed")
