"""What became of the boards of a command, in Markdown as GitHub and GitLab show it on a job's page."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

from imagebuilder.fleet.job import Ended, HandedOver
from imagebuilder.fleet.outcomes import Outcomes
from imagebuilder.model.result import Result
from imagebuilder.model.size import human_size
from imagebuilder.report.trial import in_short

_MARKS = {"failed": "❌", "interrupted": "⏹️", "not run": "⏭️"}
_DONE = "✅"
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|~@:-])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
MOST_BYTES = 900_000  # GitHub shows 1 MiB of a step and refuses more


def markdown(outcomes: Outcomes[HandedOver]) -> str:
    """A table with a row a board; below, of each that failed, what is wrong. At most MOST_BYTES, of which the
    table comes first."""
    counts = Counter(outcomes.state(each) for each in outcomes.all)
    said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing to do"
    lines = [f"### Firmware: {said}", ""]
    if outcomes.all:
        lines += [
            "| board | state | time | images | flash free | trial |",
            "|---|---|---:|---|---:|---|",
        ]
        rows = [_row(outcomes, each) for each in outcomes.all]
        shown = _as_many(rows)
        lines += [*rows[:shown], ""]
        if shown < len(rows):
            lines += [f"{len(rows) - shown} more boards: see the log.", ""]
    whole = "\n".join(lines) + "\n"
    for number, each in enumerate(outcomes.failed):
        more = "\n".join(_why(outcomes.name(each), each)) + "\n"
        if len((whole + more).encode()) > MOST_BYTES:
            return f"{whole}\n{len(outcomes.failed) - number} more failed: see the log.\n"
        whole += more
    return whole


def _as_many(rows: Sequence[str]) -> int:
    """How many rows two thirds of the page hold."""
    sizes = accumulate(len(row.encode()) + 1 for row in rows)
    return sum(size <= MOST_BYTES * 2 // 3 for size in sizes)


def _row(outcomes: Outcomes[HandedOver], each: Ended[HandedOver]) -> str:
    state = outcomes.state(each)
    seconds = f"{each.seconds:.1f} s" if each.state in ("done", "failed") else ""
    images, free, trial = "", "", ""
    if each.failure is not None:
        images = plain(each.failure.message.partition("\n")[0][:200])
    elif each.found is not None:
        images, free, trial = _facts(each.found)
    mark = _MARKS.get(state, _DONE)
    return f"| {plain(outcomes.name(each))} | {mark} {state} | {seconds} | {images} | {free} | {trial} |"


def _facts(found: HandedOver) -> tuple[str, str, str]:
    """The images, how much of the flash they leave, and what their trial came to."""
    result = found.result()
    images = "<br>".join(f"{plain(each.type)} {human_size(each.size)}" for each in result.images)
    trial = "" if result.trial is None else plain(in_short(result.trial))
    return images, _free(result), trial


def _free(result: Result) -> str:
    free = None if result.flash is None else result.flash.free
    return "" if free is None else human_size(max(0, free))


def _why(name: str, each: Ended[HandedOver]) -> Iterator[str]:
    failure = each.failure
    if failure is None:
        return
    text = "\n".join(
        filter(
            None, (failure.trace, failure.message, *failure.notes, failure.hint and f"hint: {failure.hint}")
        )
    )
    where = f" in the step {each.step}" if each.step else ""
    yield f"<details><summary>{_escaped(f'{name} failed{where}')}</summary>"
    yield ""
    yield f"<pre>{_escaped(text)}</pre>"
    yield ""
    yield "</details>"


def _escaped(text: str) -> str:
    return html.escape(_CONTROLS.sub("?", text))


def plain(text: str) -> str:
    """Text that Markdown and HTML take for nothing else, in a cell of a table."""
    safe = html.escape(_CONTROLS.sub("?", text).replace("\n", " "), quote=False)
    return _SPECIAL.sub(r"\\\1", safe)
