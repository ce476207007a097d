"""How a check comes to its outcome: by the gravest of what it found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imagebuilder.model.trial import TrialCheck, TrialFinding, TrialLevel, TrialOutcome

_MOST_FINDINGS = 200  # of one check: a root with a wrong C library has one for each program


@dataclass(frozen=True, slots=True)
class Question:
    """What a check asks, apart from what it found: see TrialCheck."""

    name: str
    what: str
    expected: str

    def answered(self, found: str, findings: Iterable[TrialFinding] = ()) -> TrialCheck:
        """The check. found: what is said where there is nothing grave, and how much was looked at."""
        ranks = {"error": 0, "warning": 1, "note": 2}
        told = sorted(findings, key=lambda each: (ranks[each.level], each.file, each.text))
        errors = sum(1 for each in told if each.level == "error")
        warnings = sum(1 for each in told if each.level == "warning")
        outcome: TrialOutcome = "failed" if errors else "warned" if warnings else "ok"
        words = found
        if errors or warnings:
            first = told[0]
            more = f", and {errors + warnings - 1} more" if errors + warnings > 1 else ""
            words = f"{first.file}: {first.text}{more}" if first.file else f"{first.text}{more}"
        return TrialCheck(
            name=self.name,
            what=self.what,
            expected=self.expected,
            found=words,
            outcome=outcome,
            findings=tuple(told[:_MOST_FINDINGS]),
        )

    def failed(self, file: str, text: str) -> TrialCheck:
        """The check, where one thing is wrong. file: "" for none."""
        return self.answered("", [TrialFinding(file=file, package="", text=text, level="error")])

    def not_run(self, why: str, findings: Iterable[TrialFinding] = ()) -> TrialCheck:
        """The check, where it could not be made. findings: what could be told all the same."""
        return TrialCheck(
            name=self.name,
            what=self.what,
            expected=self.expected,
            found="",
            outcome="not run",
            why=why,
            findings=tuple(findings)[:_MOST_FINDINGS],
        )


def counted(number: int, thing: str) -> str:
    """`1 program`, `2 programs`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def finding(file: str, owners: Mapping[str, str], text: str, level: TrialLevel) -> TrialFinding:
    """What a check found of a file. owners: the packages of files, by their paths. Names in an image may be
    any bytes: what is no UTF-8 is shown as `\\udcff`."""
    return TrialFinding(file=_plain(file), package=owners.get(file, ""), text=_plain(text), level=level)


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
