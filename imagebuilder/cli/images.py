"""`build.py build`, `plan`, `fetch`, `lock` and `outdated`: what is done with the images of a config."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from imagebuilder.cli.guard import USER_FAULT, Failure, RefusedError, guarded
from imagebuilder.cli.many import of_each, show_each
from imagebuilder.cli.options import AskedImages, BuiltImages, DecidedImages, FetchedImages
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from imagebuilder.config.request import Request
    from imagebuilder.config.toml import TomlFile
    from imagebuilder.log import Log
    from imagebuilder.model.budget import Budgets, Fit
    from imagebuilder.model.result import Result
    from imagebuilder.tree.plan import Plan


@guarded
def build(
    images: BuiltImages,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build twice; the images must be the same.")
    ] = False,
) -> None:
    """Build the images of configs, for each of their boards."""
    from imagebuilder.build import build_image, build_twice
    from imagebuilder.cli import show

    def text(built: list[tuple[Path, Result]]) -> None:
        for each in built:
            show.result(*each)

    work = build_twice if check_reproducible else build_image
    show_each(
        images,
        of_each(images, images.requests(), work, "built"),
        facts=lambda built: {"folder": built[0], **built[1].model_dump(mode="json")},
        text=text,
        detail=lambda built: str(built[0]),
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

    def text(planned: list[tuple[Plan, Budgets]]) -> None:
        for number, each in enumerate(planned):
            print("\n" * bool(number), end="")
            show_plan.plan(*each, packages=packages, sources=images.verbose)

    if yes and not (fit or fit_any):
        raise UserError("--yes says that --fit may write", hint="give it with --fit or --fit-any")
    asked = images.requests()
    for request in asked if fit or fit_any else ():
        with images.reporter() as log:
            file, found = _fitting(request, log, any_interpreter=fit_any)
        if found.diff:
            _change(file, found, yes=yes, to=sys.stderr if images.as_json else sys.stdout)
    show_each(
        images,
        of_each(images, asked, _plan, "planned"),
        facts=lambda planned: show.plan_facts(*planned),
        text=text,
        detail=lambda found: _free(found[1]),
    )


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
    from imagebuilder.config.lock import write_lock

    if check:
        if any(_compare(images)):
            sys.exit(USER_FAULT)
        return
    asked = images.requests()
    outcomes = of_each(images, asked, lock_image, "locked")
    for name in dict.fromkeys(each.config for each in outcomes.all):
        entries = {each.board: each.found for each in outcomes.all if each.config == name and each.found}
        if not entries:
            continue
        try:
            written = write_lock(asked[0].library, name, entries)
        except UserError as error:
            outcomes = outcomes.failed(name, Failure(error, USER_FAULT))
        else:
            if not images.as_json:
                print(f"wrote {written}")
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

    outcomes = of_each(images, images.requests(), compare_lock, "compared")

    def text(_: list[tuple[str, ...]]) -> None:
        for each in outcomes.all:
            if each.found is not None:
                print(f"{outcomes.name(each)}: {'' if each.found else 'nothing would change'}".rstrip())
                for line in each.found:
                    print(f"  {line}")

    show_each(
        images,
        outcomes,
        facts=lambda changes: {"changes": changes},
        text=text,
        detail=lambda changes: f"{len(changes)} changes" if changes else "nothing would change",
    )
    return [line for changes in outcomes.found for line in changes]
