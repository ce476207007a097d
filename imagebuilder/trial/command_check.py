"""Commands that an image has to answer: those of the config (`[[trial]]`, `python.trace`), and for each
Python program that nothing is said of, `--help`.

They are run in the root file system as it is: read-only, without a network, and without what a device that
has started has (ubus, the services of others, its hardware). A program that does not like that is not wrong,
so what it does when it is asked for `--help` is only held against it where it says itself that a part of the
image is missing; what a config expects is held to.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from imagebuilder.config.model_config import Trial
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.confined import BoundsError, confined
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import Completed, ProgramTimeoutError, how_it_ended, killed_by
from imagebuilder.model.trial import TrialCheck, TrialFinding, TrialLevel
from imagebuilder.python.shake.commands import (
    DEVICE_PATH,
    Root,
    command_words,
    program_argv,
    run_in,
)
from imagebuilder.rootfs.files import content, content_size
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.judged import Question, finding
from imagebuilder.trial.module_check import Owners, Reasons
from imagebuilder.trial.paths import real_path

HELP = "--help"
HELP_SECONDS, EMULATED_SECONDS = 3.0, 15.0
MOST_PROGRAMS = 40
_TAIL = 12  # lines of what a command said
_LONGEST = 2000
_HEAD_BYTES = 256
_MOST_SCRIPT = 1 << 20
_PYTHON = re.compile(rb"#!\s*\S*/(?:env\s+)?(micropython|python[0-9.]*)\b")
# what only an image without a part of Python, or a damaged program, makes an interpreter say
_BROKEN = re.compile(
    r"^(?:ModuleNotFoundError|ImportError|SyntaxError|IndentationError): .+"
    r"|^AttributeError: module .+|^(?:zipimport\.)?ZipImportError: .+"
    r"|Could not import runpy module|bad magic number in .+",
    re.MULTILINE,
)
_CANNOT_START = (126, 127)
_NOT_EXECUTED = "Exec format error"  # strerror(ENOEXEC), of every C library
_FORKED = (
    "under emulation the programs that it starts run only where this machine's kernel knows the emulator"
    " (binfmt_misc)"
)


@dataclass(frozen=True, slots=True)
class TriedRoot:
    """A root file system that is tried. tree: what is in it; work: a folder of this machine for what is
    needed meanwhile."""

    root: Root
    tree: FileTree
    owners: Owners
    reasons: Reasons
    work: Path


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """How a command ended. why: what kept it from an end of its own, "" where nothing did; said: its output
    and its errors; late: it was still running when its time was over."""

    code: int
    said: str
    why: str = ""
    late: bool = False

    @property
    def tail(self) -> str:
        """The last of what it said, for people."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return "\n".join(lines[-_TAIL:])[-_LONGEST:]

    def fault(self) -> str:
        """What is wrong with how it ended; "" where nothing is."""
        if self.why:
            return self.told(f"it {self.why}") if self.late else self.why
        return self.told(f"it {how_it_ended(self.code)}") if self.code else ""

    def told(self, what: str) -> str:
        """A message with what it said."""
        return f"{what}, saying last:\n{self.tail}" if self.tail else f"{what} and said nothing"


def ask(root: Root, command: str, work: Path, seconds: float) -> CommandAnswer:
    """Run a command in a root file system, whatever it does. HostError where nothing can be run here."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_folder("scratch", work) as folder:
            done: Completed = run_in(
                root, program_argv(root, command_words(command)), folder, timeout=seconds
            )
    except HostError:
        raise
    except ProgramTimeoutError as error:
        return CommandAnswer(-1, error.said, f"did not end within {seconds:g} s", late=True)
    except UserError as error:
        return CommandAnswer(-1, "", error.message)
    return CommandAnswer(done.code, "\n".join(filter(None, (done.stdout.rstrip("\n"), done.stderr))))


def is_said(pattern: str, text: str) -> bool:
    """Whether a regular expression is found in a text. BoundsError where that takes too long to tell: the
    pattern is a user's, the text a program's."""
    compiled = re.compile(pattern, re.MULTILINE)
    return confined(lambda: b"1" if compiled.search(text) else b"", 1) == b"1"


def trial_check(tried: TriedRoot, trial: Trial) -> TrialCheck:
    """Whether an image answers a command of the config."""
    question = Question("command", f"`{trial.run}`", expected_of(trial))
    answer = ask(tried.root, trial.run, tried.work, float(trial.timeout))
    fault = _fault(tried, answer)
    if fault and tried.root.emulated and _NOT_EXECUTED in answer.said:
        return question.not_run(f"it starts other programs: {_FORKED}")
    return judged_trial(question, trial, answer, fault)


def expected_of(trial: Trial) -> str:
    """What a command of the config is to do, in words."""
    wanted = "" if trial.expect is None else f" and says what matches {trial.expect}"
    return f"it ends with 0{wanted}"


def judged_trial(question: Question, trial: Trial, answer: CommandAnswer, fault: str) -> TrialCheck:
    """The check of a command of the config. fault: what is wrong with how it ended, "" for nothing; then what
    it said is searched."""
    if not fault and trial.expect is not None:
        try:
            if not is_said(trial.expect, answer.said):
                fault = answer.told("it did not say that")
        except BoundsError as error:
            fault = f"`expect` cannot be told: to search what it said {error}"
    return question.answered(_first_line(answer), _as_findings(fault, "error"))


def _fault(tried: TriedRoot, answer: CommandAnswer) -> str:
    """What is wrong with how a command ended; "" where nothing is."""
    text = answer.fault()
    if answer.why or not text:
        return text
    lines = reversed(answer.said.splitlines())
    reason = next(filter(None, map(tried.reasons.reason, lines)), "")
    if reason:
        text += f"\n({reason})"
    elif tried.root.emulated and answer.code in _CANNOT_START:
        text += f"\n({_FORKED})"
    return text


def _as_findings(
    fault: str, level: TrialLevel, file: str = "", owners: Mapping[str, str] = MappingProxyType({})
) -> list[TrialFinding]:
    return [finding(file, owners, fault, level)] if fault else []


def _first_line(answer: CommandAnswer) -> str:
    line = next((line.strip() for line in answer.said.splitlines() if line.strip()), "")
    return f"it says: {line[:120]}" if line else "it does"


def python_programs(tree: FileTree, owners: Owners) -> tuple[str, ...]:
    """The scripts for a Python among the programs that can be called by their names: of the user's own
    packages where it is known which these are, else of all; and of none that no package has, which are
    overlays'."""
    found = []
    for folder in DEVICE_PATH.split(":"):
        for path in tree.children(folder):
            place = real_path(tree, path)
            entry = None if place is None else tree[place]
            if place != path or entry is None or entry.kind != "file" or content_size(entry) > _MOST_SCRIPT:
                continue
            if owners.made is not None and not owners.is_made(path):
                continue
            if owners.packages and path not in owners.packages:
                continue
            if _PYTHON.match(content(entry)[:_HEAD_BYTES]):
                found.append(path)
    return tuple(found)


def program_checks(tried: TriedRoot, asked: Sequence[str]) -> Iterator[TrialCheck]:
    """Whether each Python program starts. asked: commands that are run anyway, whose programs are left to
    these."""
    named = {place for command in asked for place in _program_of(tried.root, command)}
    programs = [path for path in python_programs(tried.tree, tried.owners) if path not in named]
    for path in programs[:MOST_PROGRAMS]:
        yield _program_check(tried, path)
    if len(programs) > MOST_PROGRAMS:
        question = Question("program", "the other programs", "each answers --help")
        yield question.not_run(f"there are {len(programs) - MOST_PROGRAMS} more: name them in [[trial]]")


def _program_of(root: Root, command: str) -> Iterator[str]:
    try:
        argv = program_argv(root, command_words(command))
    except UserError:
        return
    yield from (word for word in argv if word.startswith("/"))


def _program_check(tried: TriedRoot, path: str) -> TrialCheck:
    name, root, owners = path.rpartition("/")[2], tried.root, tried.owners
    question = Question("program", f"{name} starts", f"it answers {HELP}, or runs")
    seconds = EMULATED_SECONDS if root.emulated else HELP_SECONDS
    answer = ask(root, f"{shlex.quote(path)} {HELP}", tried.work, seconds)
    if answer.late and not _BROKEN.search(answer.said):
        runs = f"it still ran after {seconds:g} s"
        if _is_service(tried.tree, name):
            return question.answered(f"{runs}, as a service does")
        text = f"{runs}: it takes no {HELP}. Say in [[trial]] what it answers"
        return question.answered("", _as_findings(text, "note", path, owners.packages)).model_copy(
            update={"found": runs}
        )
    fault = _fault(tried, answer)
    if not fault:
        return question.answered(_first_line(answer))
    broken = answer.why or answer.code in _CANNOT_START or _BROKEN.search(answer.said) is not None
    if killed_by(answer.code) is not None:
        broken = not root.emulated
    level: TrialLevel = "error" if broken and owners.is_made(path) else "warning"
    if not broken:
        fault += f"\nif that is as it should be, say in [[trial]] what {name} answers"
    return question.answered("", _as_findings(fault, level, path, owners.packages))


def _is_service(tree: FileTree, program: str) -> bool:
    """Whether an init script names a program."""
    whole = re.compile(rb"(?<![\w.-])" + re.escape(program.encode()) + rb"(?![\w.-])")
    places = filter(None, (real_path(tree, path) for path in tree.children("/etc/init.d")))
    scripts = (tree[place] for place in places if tree[place].kind == "file")
    return any(whole.search(content(each)) for each in scripts if content_size(each) <= _MOST_SCRIPT)
