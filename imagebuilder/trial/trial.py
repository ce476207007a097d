"""A root file system tried on the building machine: its programs are run in the sandbox, by this machine or
under emulation, and what that shows is told as checks.

What stands where: checks that need no config in root_checks.py, the start of interpreters in hello.py, all
modules in load.py and module_check.py, commands in command_check.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.config.board import Board
from imagebuilder.config.model_config import Trial
from imagebuilder.errors import HostError, UserError
from imagebuilder.log import Log
from imagebuilder.model.result import LoadedBytecode, Start
from imagebuilder.model.trial import TrialCheck, TrialFigure, TrialReport
from imagebuilder.python.bytecode.bytecode import InterpreterError
from imagebuilder.python.bytecode.interpreter import emulation
from imagebuilder.python.bytecode.versions import known_versions
from imagebuilder.python.shake.commands import Root, prove, start_facts
from imagebuilder.rootfs.files import read_tree
from imagebuilder.trial.command_check import TriedRoot, program_checks, trial_check
from imagebuilder.trial.hello import (
    RUNS,
    InterpreterTold,
    TriedInterpreter,
    figures,
    hello_check,
    interpreters_of,
    prepared,
)
from imagebuilder.trial.judged import Question
from imagebuilder.trial.load import LoadError, load_bytecode
from imagebuilder.trial.module_check import (
    LOADED,
    MODULES,
    Owners,
    Reasons,
    loaded_bytecode,
    loaded_check,
    modules_check,
)
from imagebuilder.trial.processors import emulation_of
from imagebuilder.trial.root_checks import root_checks
from imagebuilder.trial.runnable import why_not_run

SHELL = "/bin/sh"
NATIVE = "this machine"
# packages of interpreters: which version is planned
_INTERPRETERS = ("python3-base", "python-base", "micropython", "micropython-mbedtls", "micropython-nossl")
_CRASHED = (
    "the interpreter dies under emulation, which says nothing of the image: [emulation] user in the board's"
    " file has to name a processor that knows all instructions of the packages' architecture"
)


@dataclass(frozen=True, slots=True)
class TrialAsked:
    """What is asked of a trial beside what every image has to stand. trials: the config's; traces: commands
    of python.trace; dropped: modules that were shaken off, for messages; owners: whose files are whose;
    versions: of packages, by their names; disabled: services that are not to start, None where
    nobody knows."""

    trials: Sequence[Trial] = ()
    traces: Sequence[str] = ()
    dropped: Collection[str] = ()
    owners: Owners = field(default_factory=Owners)
    versions: Mapping[str, str] = field(default_factory=dict)
    disabled: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class TrialFound:
    """What a trial gave. starts: of the interpreter, and of the commands of python.trace; bytecode: None
    where nobody loaded it."""

    report: TrialReport
    starts: tuple[Start, ...] = ()
    bytecode: LoadedBytecode | None = None


class TrialFailedError(UserError):
    """An image that does not stand its trial. report: all of it."""

    def __init__(self, report: TrialReport) -> None:
        self.report = report
        lines = [f"{check.what}: {check.found}" for check in report.failed]
        super().__init__(
            f"the image does not stand its trial:\n{chr(10).join(lines)}",
            hint="what is wrong with it comes from a package, an overlay or an app that is named above;"
            " --no-trial hands it over all the same",
        )


def not_tried(why: str) -> TrialFound:
    """An image of which nothing was tried."""
    return TrialFound(TrialReport(by="", why=why, checks=()))


def try_root(root: Path, board: Board | None, asked: TrialAsked, work: Path, log: Log) -> TrialFound:
    """Try a root file system. board: says how its programs are emulated; None: their own words do. work: a
    folder of this machine for what is needed meanwhile.

    What is wrong with the image is in the report. UserError for what cannot be read as a tree.
    """
    return _Trying(root, board, asked, work, log).run()


class _Trying:
    def __init__(self, root: Path, board: Board | None, asked: TrialAsked, work: Path, log: Log) -> None:
        self._asked, self._work, self._log = asked, work, log
        self._tree = read_tree(root)
        self._unable, emulated = "", tuple[str, ...]()
        try:
            emulated = emulation_of(self._tree) if board is None else emulation(board, Path("/"))
        except HostError as error:
            self._unable = error.message
        self._pythons = interpreters_of(self._tree)
        self._cpython = next((each for each in self._pythons if each.python.startswith("3.")), None)
        self._root = prepared(
            Root(root, self._cpython.python if self._cpython else "", emulated), work / "ours"
        )
        self._unable = self._unable or why_not_run(self._root, self._tree, SHELL)
        self._dead = False  # CPython does not start
        self._starts: list[Start] = []
        self._bytecode: LoadedBytecode | None = None
        self._figures: tuple[TrialFigure, ...] = ()

    def run(self) -> TrialFound:
        checks = [*self._interpreters(), *self._python_checks()]
        self._log.progress("looking at programs, libraries and scripts")
        whose = self._asked.owners.packages
        checks += root_checks(
            self._root,
            self._tree,
            self._work,
            owners=whose,
            versions=self._asked.versions,
            off=self._asked.disabled,
            unable=self._unable,
        )
        checks += self._commands()
        report = TrialReport(
            by=self._by(),
            why=self._unable,
            checks=tuple(checks),
            figures=self._figures,
            made=tuple(sorted(self._asked.owners.made or ())),
        )
        return TrialFound(report, tuple(self._starts), self._bytecode)

    def _by(self) -> str:
        if self._unable:
            return ""
        program, *options = self._root.emulated or (NATIVE,)
        name = program.rpartition("/")[2]
        return " ".join([name, *(options[:2] if "-cpu" in options else ())])

    def _tried(self, reasons: Reasons) -> TriedRoot:
        return TriedRoot(self._root, self._tree, self._asked.owners, reasons, self._work / "run")

    def _interpreters(self) -> list[TrialCheck]:
        """Each Python, started; what it takes is measured."""
        checks = []
        for each in self._pythons:
            self._log.progress(f"starting {each.name}")
            planned = self._planned(each)
            if not self._unable:
                told = hello_check(self._root, each, planned, self._work / "run")
                if told.crashed and self._root.emulated:
                    self._unable = _CRASHED
                    self._log.warn(f"the image's programs were not tried: {told.check.found}")
                else:
                    checks.append(told.check)
                    self._measure(each, told)
                    continue
            checks.append(Question("interpreter", f"{each.name} starts", planned).not_run(self._unable))
        return checks

    def _planned(self, interpreter: TriedInterpreter) -> str:
        kind = (
            "micropython"
            if not interpreter.python
            else "python3-base"
            if interpreter.python.startswith("3.")
            else "python-base"
        )
        versions = self._asked.versions
        return next((versions[name] for name in _INTERPRETERS if name in versions and kind in name), "")

    def _measure(self, interpreter: TriedInterpreter, told: InterpreterTold) -> None:
        if interpreter == self._cpython and not told.version:
            self._dead = True
        if not told.version or (interpreter.python and interpreter != self._cpython):
            return
        found = figures(self._tried(Reasons("")), interpreter, told, self._log)
        self._figures += found
        self._starts += [
            Start(command=each.command, modules=each.modules, look_ups=each.look_ups, seconds=each.seconds)
            for each in found[:1]
            if each.modules is not None and each.look_ups is not None
        ]

    def _python_checks(self) -> list[TrialCheck]:
        """All bytecode and all modules of CPython 3."""
        if self._cpython is None:
            return []
        python = self._cpython.python
        why = ""
        if self._dead:
            why = "the interpreter does not start"
        elif python not in known_versions():
            why = f"nothing is known of the bytecode of Python {python}"
        return [LOADED.not_run(why), MODULES.not_run(why)] if why else self._modules(python)

    def _modules(self, python: str) -> list[TrialCheck]:
        self._log.progress("importing all modules")
        # what cannot be run here can be loaded by a Python of this machine whose bytecode is the same
        root = replace(self._root, emulated=()) if self._unable else self._root
        owners = self._asked.owners
        try:
            loading = load_bytecode(root, self._tree, self._work / "bytecode")
        except LoadError as error:
            return [LOADED.failed("", error.message), MODULES.not_run(error.message)]
        except UserError as error:
            return [LOADED.not_run(error.message), MODULES.not_run(error.message)]
        if loading is None:
            why = f"this machine runs no Python whose bytecode is that of Python {python}"
            return [LOADED.not_run(why), MODULES.not_run(why)]
        self._bytecode = loaded_bytecode(loading, owners)
        return [loaded_check(loading, owners), modules_check(loading, owners, Reasons.of(python))]

    def _commands(self) -> list[TrialCheck]:
        """The config's commands, and the programs of which it says nothing."""
        asked = [*self._asked.traces, *(trial.run for trial in self._asked.trials)]
        if self._unable:
            return [
                Question("command", f"`{command}`", "it works").not_run(self._unable) for command in asked
            ]
        reasons = Reasons.of(self._cpython.python) if self._cpython is not None else Reasons("")
        tried = self._tried(reasons)
        checks = [self._traced(command) for command in self._asked.traces]
        for trial in self._asked.trials:
            self._log.progress(f"trying {trial.run}")
            checks.append(trial_check(tried, trial))
        self._log.progress("starting Python programs")
        return [*checks, *program_checks(tried, asked)]

    def _traced(self, command: str) -> TrialCheck:
        """A command of python.trace, which must work with what was left of Python."""
        question = Question("trace", f"`{command}`", "it ends with 0")
        self._log.progress(f"trying {command}")
        work, dropped = self._work / "run", self._asked.dropped
        try:
            (traced,) = prove(self._root, [command], work, self._log, dropped=dropped)
            start = start_facts(self._root, command, work, self._log, runs=RUNS, traced=traced)
        except (InterpreterError, HostError) as error:
            return question.not_run(error.message)
        except UserError as error:
            return question.failed("", f"{error.message}\n{error.hint}" if error.hint else error.message)
        self._starts.append(start)
        return question.answered(f"it does, with {start.modules} modules")
