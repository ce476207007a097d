"""One config for one board with every Python, side by side: what each takes and what it gives.

What a plan can tell (packages, flash, memory) is told of every variant; what only an image shows (how long
its interpreter takes to start, with how many modules) of those that were built, whose sizes are measured
then, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from imagebuilder.ask import plan_and_budgets
from imagebuilder.budget.budget import refusal
from imagebuilder.config.python_form import PythonForm, has_own
from imagebuilder.config.request import Request, sharing
from imagebuilder.decide import load_inputs
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.log import Log
from imagebuilder.model.budget import FlashBudget, RamBudget
from imagebuilder.model.package import Selected, shown_way
from imagebuilder.model.result import Result
from imagebuilder.model.variant import Variant
from imagebuilder.model.variant_table import VariantFigure, VariantRow, VariantTable
from imagebuilder.own.remade import RemadeError
from imagebuilder.own.sources import OwnPythonError
from imagebuilder.packages.resolution import PlanError
from imagebuilder.python.catalogue.catalogue import CatalogueError
from imagebuilder.python.catalogue.variants import VariantError, family_of
from imagebuilder.report.flash_bar import answer

# what these say is true of a variant; other errors are of this machine, of a server, of this moment
NOT_OFFERED = (
    CatalogueError,
    FaultsError,
    OwnPythonError,
    PlanError,
    RemadeError,
    VariantError,
)
_INTERPRETERS = ("python3-base", "python-base", "python3", "python", "micropython")
_KIB = 1 << 10
_VERSION = re.compile(r"[0-9.]*[0-9]")  # what follows is the package's own number
_MEMORY_OF = "the interpreter"  # among what takes RAM (budget/ram.py)


@dataclass(frozen=True)
class Candidate:
    """A variant as it was planned. request: for its image; None where there is nothing to build."""

    row: VariantRow
    request: Request | None = None
    tree: str = ""


@dataclass(frozen=True)
class TrialFigures:
    """What a program of one line took in an image: seconds, modules that were loaded in the end, look-ups in
    its file system, and bytes of memory; None for what its interpreter or its emulator does not tell."""

    seconds: float
    modules: int | None
    look_ups: int | None
    memory: int | None


def trial_figures(result: Result) -> TrialFigures | None:
    """What a result's trial says of hello world, with the library as the image has it. None where no
    interpreter was tried, or there is none."""
    figures = () if result.trial is None else result.trial.figures
    first = next((each for each in figures if each.way == "bytecode"), None)
    if first is None:
        return None
    memory = None if first.memory is None else first.memory * _KIB
    return TrialFigures(first.seconds, first.modules, first.look_ups, memory)


def _untried(result: Result) -> str:
    """Why a trial measured no interpreter."""
    why = "" if result.trial is None else result.trial.why
    return f"its interpreter was not measured{f': {why}' if why else ' on this machine'}"


def planned_variants(request: Request, forms: Sequence[PythonForm], log: Log) -> Iterator[Candidate]:
    """Plan each variant, one after the other.

    What a release, a board or a config does not have is a row that says why. FaultsError for faults of the
    config itself; UserError where nothing can be planned for another reason, the first one's.
    """
    own = has_own(load_inputs(request).loaded.config)
    failed: list[UserError] = []
    (shared,) = sharing([request])
    for form in forms:
        try:
            found = _planned(shared, form, own=own, log=log)
        except NOT_OFFERED as error:
            found = Candidate(VariantRow(variant=form.name, state="not offered", why=_words(error)))
        except UserError as error:
            failed.append(error)
            if len(failed) == len(forms):
                raise failed[0] from None
            why = f"{_words(error)} ({error.hint})" if error.hint else _words(error)
            found = Candidate(VariantRow(variant=form.name, state="failed", why=why))
        yield found


def _planned(request: Request, form: PythonForm, *, own: bool, log: Log) -> Candidate:
    """A variant with what the config has of its own, or without it, where it cannot have that: `none` runs
    nothing, and MicroPython not everything."""
    if form.is_cpython or not own:
        return _plan(request, form, (), log)
    if form.variant != "none":
        try:
            return _plan(request, form, (), log)
        except NOT_OFFERED as error:
            reason = _words(error)
    else:
        reason = "nothing would run it"
    remark = f"without what the config has of its own: {reason}"
    return _plan(request, replace(form, own=False), (remark,), log)


def _plan(request: Request, form: PythonForm, remarks: tuple[str, ...], log: Log) -> Candidate:
    wanted = replace(request, python=form, accept_unchecked=True)
    plan, budgets = plan_and_budgets(wanted, log)
    python, other = _interpreters(plan.install, form.variant)
    if other is not None:
        remarks = (*remarks, f"{other.name} is in it all the same: {' → '.join(shown_way(other.why))}")
        python = python or other
    fits = refusal(plan, budgets) is None
    row = VariantRow(
        variant=form.name,
        state="planned" if fits else "does not fit",
        why="" if fits else answer(budgets).text,
        remarks=remarks,
        python="" if python is None else _version(python),
        packages=VariantFigure(value=len(plan.install), measured=False),
        **_flash(budgets.flash),
        memory=_memory(budgets.ram) if python is not None else None,
        budget=budgets.flash,
        ram=budgets.ram,
    )
    tree = f"{plan.tree.distribution} {plan.tree.version}"
    return Candidate(row, replace(wanted, once=None) if fits else None, tree)


def shown_error(message: str) -> str:
    """A message of several lines in one."""
    lines = filter(None, (" ".join(line.split()) for line in message.splitlines()))
    return "; ".join(lines).replace(":; ", ": ")  # a line that announces those below it


def _words(error: UserError) -> str:
    """What is wrong, in one line."""
    faults = error.faults if isinstance(error, FaultsError) else ()
    return "; ".join(dict.fromkeys(fault.message for fault in faults)) or shown_error(error.message)


def _interpreters(packages: Sequence[Selected], variant: Variant) -> tuple[Selected | None, Selected | None]:
    """The interpreter that the variant asks for, and one of another kind that somebody else does."""
    named = {each.name: each for each in packages}
    short = [name for name in named if name.startswith("micropython")]
    found = [named[name] for name in dict.fromkeys((*_INTERPRETERS, *short)) if name in named]
    kind = "none" if variant == "none" else family_of(variant) or "micropython"
    own = next((each for each in found if _kind(each.name) == kind), None)
    return own, next((each for each in found if _kind(each.name) != kind), None)


def _kind(name: str) -> str:
    """The family of an interpreter's package, or `micropython`."""
    first = name.partition("-")[0]
    return "python2" if first == "python" else first


def _version(python: Selected) -> str:
    """Of the interpreter, without the package's own number."""
    found = _VERSION.match(python.version)
    return python.version if found is None else found[0]


def _flash(budget: FlashBudget | None) -> dict[str, VariantFigure | None]:
    """What fills the flash, and what stays free, of a budget."""
    if budget is None:
        return {"flash": None, "free": None}
    doubt = 0 if budget.measured else budget.rootfs.uncertainty

    def figure(value: int | None) -> VariantFigure | None:
        if value is None:
            return None
        return VariantFigure(value=value, measured=budget.measured, uncertainty=doubt)

    filled = budget.rootfs.bytes if budget.used is None else budget.used
    too_much = budget.verdict == "too big"
    return {"flash": figure(filled), "free": figure(-budget.excess if too_much else budget.free)}


def _memory(budget: RamBudget | None) -> VariantFigure | None:
    """What the interpreter takes, as the figures of others have it."""
    needs = () if budget is None else budget.needs
    amount = next((need.amount for need in needs if need.name == _MEMORY_OF), None)
    if amount is None:
        return None
    return VariantFigure(value=amount.bytes, measured=False, uncertainty=amount.uncertainty)


def measured_row(row: VariantRow, result: Result) -> VariantRow:
    """A planned row with what the image that was built shows."""
    trial = trial_figures(result)
    count = None if result.bytecode is None else result.bytecode.files

    def figure(value: float | None) -> VariantFigure | None:
        return None if value is None else VariantFigure(value=value, measured=True)

    update: dict[str, object] = {"state": "measured", "packages": figure(len(result.packages))}
    if result.flash is not None:
        update |= {**_flash(result.flash), "budget": result.flash}
    if trial is not None:
        update |= {
            "start": figure(trial.seconds),
            "modules": figure(trial.modules),
            "look_ups": figure(trial.look_ups),
        }
        update |= {"memory": figure(trial.memory)} if trial.memory is not None else {}
    elif row.python:
        update["remarks"] = (*row.remarks, _untried(result))
    return row.model_copy(update={**update, "bytecode": figure(count)})


def unbuilt_row(row: VariantRow, why: str, *, failed: bool) -> VariantRow:
    """A planned row whose build failed, or was not run; what was planned stays."""
    return row.model_copy(update={"state": "failed" if failed else "not run", "why": why})


def table_of(request: Request, candidates: Sequence[Candidate], rows: Sequence[VariantRow]) -> VariantTable:
    """The table. rows: in place of the candidates' own."""
    budgets = [row.budget for row in rows if row.budget is not None]
    return VariantTable(
        config=request.config_name(),
        board=request.board,
        name=request.library.board(request.board).name,
        tree=next((each.tree for each in candidates if each.tree), ""),
        partition=next((each.partition for each in budgets if each.partition is not None), None),
        settings=next((each.settings for each in budgets if each.settings is not None), None),
        variants=tuple(rows),
    )
