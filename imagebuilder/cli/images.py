"""`build.py build`, `plan`, `fetch`, `lock` and `outdated`: what is done with the images of a config."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from imagebuilder.cli.guard import USER_FAULT, RefusedError, guarded
from imagebuilder.cli.image_options import AskedImages, BuiltImages, DecidedImages, FetchedImages
from imagebuilder.cli.many import of_each, show_each
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagebuilder.config.request import Request
    from imagebuilder.config.toml import TomlFile
    from imagebuilder.fleet.job import HandedOver
    from imagebuilder.log import Log
    from imagebuilder.model.budget import Budgets, Fit
    from imagebuilder.tree.plan import Plan

NotChanged = dict[str, object]  # of a config that --fit would change: its file, the change, and its steps


@guarded
def build(
    images: BuiltImages,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build twice; the images must be the same.")
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", "--force", help="Build also what is up to date, or kept in the cache."),
    ] = False,
) -> None:
    """Build the images of configs, for each of their boards; those that are up to date stay as they are."""
    began = time.monotonic()
    from imagebuilder.cli import show_built

    if not (check_reproducible or rebuild or images.against or images.reports):
        standings = images.all_up_to_date()
        if standings and show_built.up_to_date(standings, as_json=images.as_json, began=began):
            return
    from imagebuilder.cli import show
    from imagebuilder.cli.at_once import build_all, write_reports

    def text(built: list[HandedOver]) -> None:
        for each in built:
            show.result(each.folder, each.result(), each.state)

    outcomes = build_all(images, twice=check_reproducible, rebuild=rebuild or images.against is not None)
    write_reports(images, outcomes)
    show_each(
        images,
        outcomes,
        facts=lambda built: show_built.facts(
            built.folder, built.result().model_dump(mode="json"), built.state, built.rebuilt
        ),
        text=text,
        detail=lambda built: str(built.folder),
    )


@guarded
def plan(
    images: DecidedImages,
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Show the least change to the config that fits, and ask to make it."),
    ] = False,
    fit_any: Annotated[
        bool, typer.Option("--fit-any", help="As --fit, and the family of Python may change too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fit: change the config without asking.")] = False,
    packages: Annotated[
        bool, typer.Option("--packages", help="A line a package: version, size, feed, and why.")
    ] = False,
) -> None:
    """Show whether it fits, which Python goes in and why, and what was asked for; 2 if it cannot fit.

    With --verbose also where the figures about RAM are from.
    """
    from imagebuilder.cli import show, show_plan

    def text(planned: list[tuple[Plan, Budgets] | NotChanged]) -> None:
        plans = [each for each in planned if not isinstance(each, dict)]
        for number, each in enumerate(plans):
            print("\n" * bool(number), end="")
            show_plan.plan(*each, packages=packages, sources=images.verbose)

    if yes and not (fit or fit_any):
        raise UserError("--yes says that --fit may write", hint="give it with --fit or --fit-any")
    asked = images.requests()
    refused = _fit_each(images, asked, any_interpreter=fit_any, yes=yes) if fit or fit_any else {}

    def work(request: Request, log: Log) -> tuple[Plan, Budgets] | NotChanged:
        error = refused.get((request.config_name(), request.board))
        if error is not None:
            raise error
        return _plan(request, log)

    show_each(
        images,
        of_each(images, asked, work, "planned"),
        facts=lambda found: found if isinstance(found, dict) else show.plan_facts(*found),
        text=text,
        detail=lambda found: "" if isinstance(found, dict) else _free(found[1]),
    )


def _fit_each(
    images: DecidedImages, asked: Sequence[Request], *, any_interpreter: bool, yes: bool
) -> dict[tuple[str, str], UserError]:
    """Change the configs so that the images fit. Of several, one that cannot be fitted, or is not to be
    changed, does not keep the others from it, unless images.fail_fast; the reason, by config and board."""
    refused: dict[tuple[str, str], UserError] = {}
    to = sys.stderr if images.as_json else sys.stdout
    for request in asked:
        name = (request.config_name(), request.board)
        try:
            with images.reporter() as log:
                file, found = _fitting(request, log, any_interpreter=any_interpreter)
            if found.diff:
                if len(asked) > 1:
                    print(f"{' for '.join(name)}:", file=to)
                _change(file, found, yes=yes, to=to)
        except UserError as error:
            if len(asked) == 1:
                raise
            refused[name] = error
            if images.fail_fast:
                break
    return refused


def _free(budgets: Budgets) -> str:
    """How much of the flash stays free, in a few words; "" where that is not known."""
    from imagebuilder.model.size import human_size

    flash = budgets.flash
    return "" if flash is None or flash.free is None else f"{human_size(max(0, flash.free))} of flash free"


def _plan(request: Request, log: Log) -> tuple[Plan, Budgets]:
    """RefusedError with both for what cannot fit."""
    from imagebuilder.ask import plan_and_budgets
    from imagebuilder.budget.budget import refusal

    found = plan_and_budgets(request, log)
    error = refusal(*found)
    if error is not None:
        raise RefusedError(error, found)
    return found


def _fitting(request: Request, log: Log, *, any_interpreter: bool) -> tuple[TomlFile, Fit]:
    """The config's file, and the least change to it that makes the image fit. BudgetError where there is
    none."""
    from imagebuilder.ask import fit_config
    from imagebuilder.budget.budget import BudgetError

    file, found = fit_config(request, log, any_interpreter=any_interpreter)
    if not found.fits:
        another = not any_interpreter and any(each.changes_interpreter for each in found.alternatives)
        others = "".join(f"\n  {each.text}" for each in found.alternatives)
        raise BudgetError(
            f"no change that leaves {request.config} what its config, overlays and apps ask for makes it fit"
            f" {request.board}; what each would gain:{others}",
            hint="--fit-any may also change the interpreter's family" if another else None,
        )
    return file, found


def _change(file: TomlFile, found: Fit, *, yes: bool, to: TextIO) -> None:
    """Show a change to a config and what it costs, and make it if somebody wants it. RefusedError where
    nobody says so."""
    from imagebuilder.ask import write_fit
    from imagebuilder.cli import show

    show.fit(found, to)
    if not yes:
        facts = {"file": file.path, "diff": found.diff, "steps": found.advice}
        if not sys.stdin.isatty():
            unasked = f"{file.path} is not changed: nobody is there to be asked"
            raise RefusedError(UserError(unasked, hint="--yes changes it without asking"), facts)
        if not _agreed(f"change {file.path} so?"):
            raise RefusedError(UserError(f"{file.path} is not changed"), facts)
    write_fit(file, found)


def _agreed(question: str) -> bool:
    """Whether somebody at the terminal says yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@guarded
def fetch(images: FetchedImages) -> None:
    """Fetch all that building configs takes, so that they can be built --offline later."""
    from imagebuilder.ask import fetch_image
    from imagebuilder.cli import show, show_plan

    def text(found: list[tuple[Plan, Budgets]]) -> None:
        show.rows([_fetched(each) for each, _ in found])
        for _, budgets in found:
            show_plan.budget(budgets)

    show_each(
        images,
        of_each(images, images.requests(), fetch_image, "fetched"),
        facts=lambda found: {**_fetched(found[0]), "budgets": found[1]},
        text=text,
        detail=lambda found: _free(found[1]),
    )


def _fetched(plan: Plan) -> dict[str, str | int]:
    return {
        "config": plan.config,
        "board": plan.board,
        "tree": f"{plan.tree.distribution} {plan.tree.version}",
        "packages": sum(1 for package in plan.install if package.feed),
        "bytes": sum(one.package.size for one in plan.install if one.feed),
    }


@guarded
def lock(
    images: AskedImages,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a fresh lock would differ.")
    ] = False,
) -> None:
    """Write down exactly what configs' images are made of, in locks/CONFIG.lock."""
    from imagebuilder.ask import lock_image
    from imagebuilder.cli import screen
    from imagebuilder.config.lock import write_lock
    from imagebuilder.fleet.job import JobFailure

    if check:
        if any(_compare(images)):
            sys.exit(USER_FAULT)
        return
    asked = images.requests()
    outcomes = of_each(images, asked, lock_image, "locked")
    for name in dict.fromkeys(each.job.config for each in outcomes.all):
        entries = {
            each.job.board: each.found for each in outcomes.all if each.job.config == name and each.found
        }
        if not entries:
            continue
        try:
            written = write_lock(asked[0].library, name, entries)
        except UserError as error:
            outcomes = outcomes.lost(name, JobFailure.of(error))
        else:
            if not images.as_json:
                screen.say_lines(f"wrote {written}")
    show_each(
        images,
        outcomes,
        facts=lambda entry: {"packages": len(entry.parts.package)},
        text=lambda _: None,
        detail=lambda entry: f"{len(entry.parts.package)} packages",
    )


@guarded
def outdated(images: AskedImages) -> None:
    """List what a fresh lock of configs would change."""
    _compare(images)


def _compare(images: AskedImages) -> list[str]:
    """Show what a fresh lock would change, and give all of it."""
    from imagebuilder.ask import compare_lock
    from imagebuilder.cli import screen

    outcomes = of_each(images, images.requests(), compare_lock, "compared")

    def text(_: list[tuple[str, ...]]) -> None:
        for each in outcomes.all:
            if each.found is not None:
                print(f"{outcomes.name(each)}: {'' if each.found else 'nothing would change'}".rstrip())
                for line in each.found:
                    screen.say_lines(f"  {line}")

    show_each(
        images,
        outcomes,
        facts=lambda changes: {"changes": changes},
        text=text,
        detail=lambda changes: f"{len(changes)} changes" if changes else "nothing would change",
    )
    return [line for changes in outcomes.found for line in changes]
