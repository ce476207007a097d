"""The image's interpreter, started for a program of one line: whether it does, which it is, what it takes."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from imagebuilder.host.run import killed_by
from imagebuilder.log import Log
from imagebuilder.model.trial import TrialCheck, TrialFigure, TrialWay
from imagebuilder.python.shake.commands import ProofError, Root, run_in, start_facts
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.command_check import CommandAnswer, TriedRoot, ask
from imagebuilder.trial.judged import Question
from imagebuilder.trial.paths import real_path

HELLO, TELL = "/.hello.py", "/.tell.py"  # in the sandbox
HELLO_SECONDS = 60.0
RUNS = 3
_BY_SHELL = 10  # starts of a MicroPython: one is over too soon to be measured
_PLAIN = re.compile(r"/usr/bin/python(\d\.\d+)")
_MICROPYTHON = ("/usr/bin/micropython", "/usr/bin/micropython-mbedtls", "/usr/bin/micropython-nossl")
_OF_PYTHON = re.compile(r"[0-9]\.[0-9]+(\.[0-9]+)*([a-z]+[0-9]+)?")
_SAID = re.compile(r"^(version|memory) ([0-9.]{1,20})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TriedInterpreter:
    """An interpreter in a root. program: its path; python: `3.11`, "" of a MicroPython."""

    program: str
    python: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"Python {self.python}" if self.python else "MicroPython"


def interpreters_of(tree: FileTree) -> tuple[TriedInterpreter, ...]:
    """The Pythons of a root file system, those of CPython first."""
    found = []
    for path in tree.children("/usr/bin"):
        match = _PLAIN.fullmatch(path)
        if match is not None and _is_program(tree, path):
            found.append(TriedInterpreter(path, match[1]))
    micro = next((path for path in _MICROPYTHON if _is_program(tree, path)), None)
    return (*found, *((TriedInterpreter(micro, ""),) if micro is not None else ()))


def _is_program(tree: FileTree, path: str) -> bool:
    place = real_path(tree, path)
    return place is not None and tree[place].kind == "file"


@dataclass(frozen=True, slots=True)
class InterpreterTold:
    """How an interpreter started. version: its own word for it, "" where it did not; memory: the most that it
    had, in KiB, None under emulation."""

    check: TrialCheck
    version: str = ""
    memory: int | None = None
    answer: CommandAnswer | None = None

    @property
    def crashed(self) -> bool:
        """Whether it died of a signal, as a program does that is for another processor."""
        return self.answer is not None and killed_by(self.answer.code) is not None


def prepared(root: Root, work: Path) -> Root:
    """The root with our programs in it. work: a folder for them."""
    work.mkdir(parents=True, exist_ok=True)
    hello, tell = work / "hello.py", work / "tell.py"
    hello.write_text('print("hello world")\n')
    tell.write_bytes((resources.files(__package__) / "tell.py").read_bytes())
    return replace(root, over={**root.over, HELLO: hello, TELL: tell})


def hello_check(root: Root, interpreter: TriedInterpreter, planned: str, work: Path) -> InterpreterTold:
    """Whether an interpreter starts, and is the version that the package manager knows. root: prepared();
    planned: the package's version, "" where nobody knows."""
    upstream = re.split(r"[-~+]", planned)[0]
    upstream = upstream if _OF_PYTHON.fullmatch(upstream) else ""  # else a vendor's own numbers
    question = Question(
        "interpreter",
        f"{interpreter.name} starts",
        f"version {upstream}" if upstream else f"it says that it is {interpreter.name}",
    )
    answer = ask(root, f"{interpreter.program} {TELL}", work, HELLO_SECONDS)
    facts = dict(_SAID.findall(answer.said))
    version = facts.get("version", "")
    memory = int(facts["memory"]) if "memory" in facts and not root.emulated else None
    if answer.code != 0 or not version:
        why = answer.why or answer.told(f"it exited with {answer.code}")
        return InterpreterTold(question.failed(interpreter.program, why), answer=answer)
    wanted = upstream or interpreter.python
    same = f"{version}.".startswith(f"{wanted}.") or f"{wanted}.".startswith(f"{version}.")
    if not same and interpreter.python:
        return InterpreterTold(
            question.failed(interpreter.program, f"it is version {version}"), version, memory
        )
    # MicroPython's number is git's word for its source, and 0.0.1 where OpenWrt made it without git
    told = f"version {version}" if same else f"it calls itself version {version}"
    return InterpreterTold(question.answered(told), version, memory)


def figures(
    tried: TriedRoot, interpreter: TriedInterpreter, told: InterpreterTold, log: Log
) -> tuple[TrialFigure, ...]:
    """What a start takes, in each way that the image can be started. tried: of a root that is prepared();
    told: of its check. None of what cannot be measured, which a note says."""
    root, tree, work = tried.root, tried.tree, tried.work
    if not interpreter.python:
        return () if root.emulated else (_by_shell(root, interpreter, told, work),)
    if interpreter.python.startswith("2."):
        return ()
    found = []
    for way, options in _ways(tree, interpreter.python):
        command = " ".join([interpreter.program, *options, HELLO])
        try:
            start = start_facts(root, command, work, log, runs=RUNS)
        except ProofError as error:
            log.note(f"{command} was not measured: {error.message}")
            continue
        memory = told.memory
        if options and not root.emulated:
            said = ask(root, " ".join([interpreter.program, *options, TELL]), work, HELLO_SECONDS).said
            memory = int(dict(_SAID.findall(said)).get("memory", 0)) or None
        found.append(
            TrialFigure(
                way=way,
                command=command,
                seconds=start.seconds,
                modules=start.modules,
                look_ups=start.look_ups,
                memory=memory,
            )
        )
    return tuple(found)


def _ways(tree: FileTree, python: str) -> Iterator[tuple[TrialWay, tuple[str, ...]]]:
    yield "bytecode", ()
    yield "isolated", ("-I", "-S")
    has_sources = f"/usr/lib/python{python}/os.py" in tree
    if has_sources and tuple(map(int, python.split("."))) >= (3, 8):
        # bytecode is looked for elsewhere, where there is none; what lies beside a source is passed by anyway
        yield "source", ("-X", "pycache_prefix=/.nothing")


def _by_shell(root: Root, interpreter: TriedInterpreter, told: InterpreterTold, work: Path) -> TrialFigure:
    """Of an interpreter that has no clock of its own: so many starts by the image's shell, less as many of
    nothing."""
    took = []
    for command in (f"{interpreter.program} {HELLO}", ":"):
        script = f"i=0; while [ $i -lt {_BY_SHELL} ]; do {command}; i=$((i+1)); done"
        seconds = []
        for _ in range(RUNS):
            began = time.perf_counter()
            run_in(root, ["/bin/sh", "-c", script], work / "run", timeout=HELLO_SECONDS)
            seconds.append(time.perf_counter() - began)
        took.append(statistics.median(seconds))
    return TrialFigure(
        way="bytecode",
        command=f"{interpreter.program} {HELLO}",
        seconds=max(took[0] - took[1], 0.0) / _BY_SHELL,
        modules=None,
        look_ups=None,
        memory=told.memory,
    )
