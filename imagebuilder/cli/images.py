"""`build.py build`, `plan`, `fetch`, `lock` and `outdated`: what is done with the images of a config."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from imagebuilder.cli.guard import USER_FAULT, RefusedError, guarded
from imagebuilder.cli.options import AskedImages, BuiltImages, DecidedImages, FetchedImages
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from imagebuilder.config.request import Request
    from imagebuilder.config.toml import TomlFile
    from imagebuilder.log import Log
    from imagebuilder.model.budget import Fit


@guarded
def build(
    images: BuiltImages,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build twice; the images must be the same.")
    ] = False,
) -> None:
    """Build the images of a config, for each of its boards."""
    from imagebuilder.build import build_image, build_twice
    from imagebuilder.cli import show

    with images.asked() as (asked, log):
        work = build_twice if check_reproducible else build_image
        built = [work(request, log) for request in asked]
    if images.as_json:
        show.as_json([{"folder": place, **result.model_dump(mode="json")} for place, result in built])
    else:
        for place, result in built:
            show.result(place, result)


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
) -> None:
    """Show what would be built: packages and why, flash and RAM, and the make command; 2 if it cannot fit."""
    from imagebuilder.ask import plan_and_budgets
    from imagebuilder.budget.budget import BudgetError, refusal
    from imagebuilder.cli import show

    if yes and not (fit or fit_any):
        raise UserError("--yes says that --fit may write", hint="give it with --fit or --fit-any")
    as_json = images.as_json
    for request in images.requests() if fit or fit_any else ():
        with images.reporter() as log:
            file, found = _fitting(request, log, any_interpreter=fit_any)
        if found.diff:
            _change(file, found, yes=yes, to=sys.stderr if as_json else sys.stdout)
    with images.asked() as (asked, log):
        plans = [plan_and_budgets(request, log) for request in asked]
    facts = [show.plan_facts(each, budgets) for each, budgets in plans] if as_json else []
    errors = list(filter(None, (refusal(each, budgets) for each, budgets in plans)))
    if as_json and not errors:
        show.as_json(facts)
    elif not as_json:
        for each, budgets in plans:
            show.plan(each, budgets)
    if errors:
        whole = BudgetError("\n".join(each.message for each in errors), hint=errors[0].hint)
        raise RefusedError(whole, facts)


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
    """Fetch all that building a config takes, so that it can be built --offline later."""
    from imagebuilder.ask import fetch_image
    from imagebuilder.cli import show

    with images.asked() as (asked, log):
        plans, budgets = zip(*(fetch_image(request, log) for request in asked), strict=True)
    rows = [
        {
            "config": each.config,
            "board": each.board,
            "tree": f"{each.tree.distribution} {each.tree.version}",
            "packages": sum(1 for package in each.install if package.feed),
            "bytes": sum(one.package.size for one in each.install if one.feed),
        }
        for each in plans
    ]
    if images.as_json:
        show.as_json([{**row, "budgets": budget} for row, budget in zip(rows, budgets, strict=True)])
        return
    show.rows(rows)
    for each in budgets:
        show.budget(each)


@guarded
def lock(
    images: AskedImages,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a fresh lock would differ.")
    ] = False,
) -> None:
    """Write down exactly what a config's images are made of, in locks/CONFIG.lock."""
    from imagebuilder.ask import compare_lock, lock_image
    from imagebuilder.cli import show
    from imagebuilder.config.lock import write_lock

    with images.asked() as (asked, log):
        if check:
            changes = {request.board: compare_lock(request, log) for request in asked}
        else:
            entries = {request.board: lock_image(request, log) for request in asked}
            written = write_lock(asked[0].library, asked[0].config_name(), entries)
    if not check:
        facts = {
            "file": written,
            "boards": {name: len(entry.parts.package) for name, entry in entries.items()},
        }
        show.as_json(facts) if images.as_json else print(f"wrote {written}")
        return
    _show_changes(changes, as_json=images.as_json)
    if any(changes.values()):
        sys.exit(USER_FAULT)


@guarded
def outdated(images: AskedImages) -> None:
    """List what a fresh lock of a config would change."""
    from imagebuilder.ask import compare_lock

    with images.asked() as (asked, log):
        changes = {request.board: compare_lock(request, log) for request in asked}
    _show_changes(changes, as_json=images.as_json)


def _show_changes(changes: dict[str, tuple[str, ...]], *, as_json: bool) -> None:
    from imagebuilder.cli import show

    if as_json:
        show.as_json(changes)
        return
    for board, lines in changes.items():
        print(f"{board}: {'nothing would change' if not lines else ''}".rstrip())
        for line in lines:
            print(f"  {line}")
