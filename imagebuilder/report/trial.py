"""What a trial showed, as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagebuilder.model.trial import TrialCheck, TrialFigure, TrialReport

MOST_FINDINGS = 10  # of one check, where not all are wanted
WAYS = {
    "bytecode": "hello world",
    "source": "hello world, library as sources",
    "isolated": "hello world, isolated (-I -S)",
}


def trial_text(report: TrialReport, *, whole: bool = False) -> str:
    """A line a check, what was found below it, and what a start takes. whole: also what is as the release has
    it, and all that was found."""
    lines = [f"programs run by {report.by}" if report.by else f"no program was run: {report.why}"]
    for check in report.checks:
        lines += check_lines(check, whole=whole)
    lines += [f"{'':9}{line}" for line in figure_lines(report.figures)]
    lines.append(in_short(report))
    return "\n".join(lines) + "\n"


def in_short(report: TrialReport) -> str:
    """The whole in one line."""
    return counts_of(report.checks) if report.checks else f"not run, because {report.why}"


def counts_of(checks: Sequence[TrialCheck]) -> str:
    """How many checks came to what."""
    counts = {"failed": 0, "warned": 0, "not run": 0, "ok": 0}
    for check in checks:
        counts[check.outcome] += 1
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    return f"{len(checks)} checks: {told}"


def figure_lines(figures: tuple[TrialFigure, ...]) -> Iterator[str]:
    """What a start takes, a line each way."""
    for each in figures:
        parts = [f"{each.seconds * 1000:.0f} ms"]
        parts += [f"{each.modules} modules"] if each.modules is not None else []
        parts += [f"{each.look_ups} file look-ups"] if each.look_ups is not None else []
        parts += [f"{each.memory} KiB of memory"] if each.memory is not None else []
        yield f"{WAYS[each.way]}: {', '.join(parts)}"


def check_lines(check: TrialCheck, *, whole: bool) -> Iterator[str]:
    """A check, and what it found. whole: as of trial_text()."""
    word = {"failed": "FAILED", "warned": "warning"}.get(check.outcome, check.outcome)
    said = f"not run, because {check.why}" if check.outcome == "not run" else check.found
    findings = [each for each in check.findings if whole or each.level != "note"]
    if check.outcome not in ("failed", "warned") or not findings:
        yield f"{word:9}{check.what}: {_one_line(said)}"
    else:
        yield f"{word:9}{check.what}"
    shown = findings if whole else findings[:MOST_FINDINGS]
    for each in shown:
        place = " ".join(filter(None, (each.file, f"({each.package})" * bool(each.package))))
        mark = "" if each.level == "error" else f"{each.level}: "
        first, *rest = each.text.splitlines() or [""]
        yield f"{'':9}{mark}{place}{': ' * bool(place)}{first}"
        yield from (f"{'':11}{line}" for line in rest)
    if len(findings) > len(shown):
        yield f"{'':9}and {len(findings) - len(shown)} more: --all shows them"


def _one_line(text: str) -> str:
    return " ".join(text.split())
