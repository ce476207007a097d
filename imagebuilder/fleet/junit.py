"""What became of the boards of a command as JUnit XML: a test suite a board, with a test case for each step
of its build, each image that was checked, and each trial.

There is no standard: what GitLab and Jenkins read is a `testsuites` with `testsuite`s, which have `name`,
`tests`, `failures`, `errors`, `skipped` and `time`, and `testcase`s with `name`, `classname` and `time`, in
which a `failure`, an `error` or a `skipped` says so. Sources: docs.gitlab.com/ci/testing/unit_test_reports,
and jenkins-junit.xsd of Jenkins' xunit plugin.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from imagebuilder.fleet.job import Ended, HandedOver
from imagebuilder.fleet.outcomes import Outcomes
from imagebuilder.model.result import Result
from imagebuilder.model.trial import TrialCheck

# what XML 1.0 cannot hold, escaped or not
_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


@dataclass(frozen=True)
class _Case:
    """A test case. kind: what of it is said, None where it passed; text: what it says, with the message first
    where it did not. Names stay the same from night to night: they tell its history."""

    group: str
    name: str
    seconds: float = 0.0
    kind: Literal["failure", "error", "skipped"] | None = None
    text: str = ""


def junit_xml(outcomes: Outcomes[HandedOver]) -> str:
    """The document."""
    suites = Element("testsuites", name="build")
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for each in outcomes.all:
        cases = list(_cases(each, outcomes.state(each)))
        own = {
            "tests": len(cases),
            "failures": sum(case.kind == "failure" for case in cases),
            "errors": sum(case.kind == "error" for case in cases),
            "skipped": sum(case.kind == "skipped" for case in cases),
        }
        counts = {key: counts[key] + number for key, number in own.items()}
        name = "/".join(filter(None, (each.job.config, each.job.board)))
        suite = SubElement(suites, "testsuite", name=_said(name), time=f"{each.seconds:.3f}")
        suite.attrib.update({key: str(number) for key, number in own.items()})
        for case in cases:
            _add(suite, name, case)
    suites.attrib.update({key: str(number) for key, number in counts.items()})
    suites.set("time", f"{sum(each.seconds for each in outcomes.all):.3f}")
    indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suites, "unicode")}\n'


def _add(suite: Element, board: str, case: _Case) -> None:
    classname = f"{board.replace('.', '_').replace('/', '.')}.{case.group}"
    one = SubElement(suite, "testcase", classname=_said(classname), name=_said(case.name))
    one.set("time", f"{case.seconds:.3f}")
    if case.kind is None:
        if case.text:
            SubElement(one, "system-out").text = _said(case.text)
    else:
        told = SubElement(one, case.kind, message=_said(case.text.partition("\n")[0]))
        if case.kind != "skipped":
            told.set("type", case.kind)
            told.text = _said(case.text)


def _said(text: str) -> str:
    return _NO_XML.sub("?", text)


def _cases(each: Ended[HandedOver], state: str) -> Iterator[_Case]:
    if each.failure is not None:
        failure = each.failure
        hint = f"hint: {failure.hint}" if failure.hint else ""
        text = "\n".join(filter(None, (failure.message, *failure.notes, hint, failure.trace)))
        kind: Literal["failure", "error"] = "error" if failure.ours else "failure"
        yield _Case("build", each.step or "build", each.seconds, kind, text)
    elif each.found is None:
        yield _Case("build", "build", 0.0, "skipped", state)
    else:
        yield from _passed(each.found.result())


def _passed(result: Result) -> Iterator[_Case]:
    """What a build that handed something over went through."""
    for step in result.steps:
        yield _Case("build", step.step, step.seconds)
    for image in result.images:
        if image.file in result.unchecked:
            text = "nothing but the size could be checked: nobody knows its format, or it is not opened"
            yield _Case("checks", image.file, 0.0, "skipped", text)
        else:
            count = result.checks.get(image.file, 0)
            said = f"{count} check{'' if count == 1 else 's'} passed; {image.size} bytes"
            yield _Case("checks", image.file, text=said)
    for start in result.starts:
        said = f"{start.modules} modules, {start.look_ups} look-ups"
        yield _Case("trials", start.command, start.seconds, text=said)
    yield from _trial_cases(() if result.trial is None else result.trial.checks)
    if result.bytecode is not None:
        said = f"{result.bytecode.files} files, loaded by {result.bytecode.by}"
        yield _Case("trials", "bytecode", text=said)


def _trial_cases(checks: Iterable[TrialCheck]) -> Iterator[_Case]:
    """The checks of an image that stood its trial: what fails one fails the build. No two have one name."""
    seen: Counter[str] = Counter()
    for check in checks:
        seen[check.what] += 1
        name = check.what if seen[check.what] == 1 else f"{check.what} ({seen[check.what]})"
        if check.outcome == "not run":
            yield _Case("trials", name, 0.0, "skipped", check.why)
        else:
            found = (each for each in check.findings if each.level != "note")
            lines = (f"{each.level}: {each.file} {each.text}" for each in found)
            yield _Case("trials", name, text="\n".join((check.found, *lines)))
