"""`build.py build`, `plan` and `fetch`: what is done with the images of a config."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from imagebuilder.cli.asking import asking
from imagebuilder.cli.guard import RefusedError, guarded
from imagebuilder.cli.options import (
    PROJECT,
    BoardName,
    Cache,
    ConfigName,
    Imagebuilder,
    Json,
    Locked,
    Mirrors,
    NoSandbox,
    Offline,
    Output,
    Quiet,
    Root,
    Verbose,
)

if TYPE_CHECKING:
    from imagebuilder.log import Log
    from imagebuilder.request import Request


@guarded
def build(
    config: ConfigName,
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
    mirror: Mirrors = None,
    offline: Offline = False,
    locked: Locked = False,
    no_sandbox: NoSandbox = False,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build twice; the images must be the same.")
    ] = False,
    accept_unchecked: Annotated[
        bool,
        typer.Option("--accept-unchecked", help="Hand over images too of which nobody knows what they are."),
    ] = False,
    output: Output = Path("out"),
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Build the images of a config, for each of its boards."""
    from imagebuilder.cli import show
    from imagebuilder.pipeline import build_image, build_twice

    with asking(
        project,
        config,
        board=board,
        imagebuilder=imagebuilder,
        cache=cache,
        mirror=mirror,
        verbose=verbose,
        quiet=quiet,
        output=output,
        offline=offline,
        locked=locked,
        no_sandbox=no_sandbox,
        accept_unchecked=accept_unchecked,
    ) as (asked, log):
        work = build_twice if check_reproducible else build_image
        built = [work(request, log) for request in asked]
    if as_json:
        show.as_json([{"folder": place, **result.model_dump(mode="json")} for place, result in built])
    else:
        for place, result in built:
            show.result(place, result)


@guarded
def plan(
    config: ConfigName,
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
    mirror: Mirrors = None,
    offline: Offline = False,
    locked: Locked = False,
    fit: Annotated[
        Literal["least", "any"] | None,
        typer.Option(
            "--fit", help="Change the config so that it fits, and show how. any: also the family of Python."
        ),
    ] = None,
    no_sandbox: NoSandbox = False,
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Show what would be built: packages and why, flash and RAM, and the make command; 2 if it cannot fit."""
    from imagebuilder.budgeting import BudgetError, refusal
    from imagebuilder.cli import show
    from imagebuilder.inquiry import plan_and_budgets

    with asking(
        project,
        config,
        board=board,
        imagebuilder=imagebuilder,
        cache=cache,
        mirror=mirror,
        verbose=verbose,
        quiet=quiet,
        offline=offline,
        locked=locked,
        no_sandbox=no_sandbox,
    ) as (asked, log):
        if fit:
            for request in asked:
                _fit(request, log, any_interpreter=fit == "any", to=sys.stderr if as_json else sys.stdout)
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


def _fit(request: Request, log: Log, *, any_interpreter: bool, to: TextIO) -> None:
    """Change the config's file by the least that makes the image fit, and show the change."""
    from imagebuilder.budgeting import BudgetError
    from imagebuilder.host.fs import write_whole
    from imagebuilder.inquiry import fit_config

    path, found = fit_config(request, log, any_interpreter=any_interpreter)
    if not found.fits:
        others = "".join(f"\n  {each.text}" for each in found.alternatives)
        raise BudgetError(
            f"nothing makes {request.config} for {request.board} fit without another kind of change:{others}",
            hint=None if any_interpreter else "--fit=any may also change the interpreter's family",
        )
    if found.diff:
        print(found.diff, end="", file=to)
        write_whole(path, found.text.encode())


@guarded
def fetch(
    config: ConfigName,
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
    mirror: Mirrors = None,
    locked: Locked = False,
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Fetch all that building a config takes, so that it can be built --offline later."""
    from imagebuilder.cli import show
    from imagebuilder.inquiry import fetch_image

    with asking(
        project,
        config,
        board=board,
        imagebuilder=imagebuilder,
        cache=cache,
        mirror=mirror,
        verbose=verbose,
        quiet=quiet,
        locked=locked,
    ) as (asked, log):
        plans, budgets = zip(*(fetch_image(request, log) for request in asked), strict=True)
    rows = [
        {
            "config": each.config,
            "board": each.board,
            "tree": f"{each.tree.distribution} {each.tree.version}",
            "packages": sum(1 for package in each.install if package.feed),
            "bytes": sum(package.size for package in each.install if package.feed),
        }
        for each in plans
    ]
    if as_json:
        facts = (each.model_dump(mode="json") for each in budgets)
        show.as_json([{**row, "budgets": budget} for row, budget in zip(rows, facts, strict=True)])
        return
    show.rows(rows)
    for each in budgets:
        show.budget(each)
