"""`build.py build`, `plan`, `fetch`, `lock` and `outdated`: what is done with the images of a config."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from imagebuilder.cli.guard import USER_FAULT, RefusedError, guarded
from imagebuilder.cli.options import AskedImages, BuiltImages, FetchedImages, PlannedImages

if TYPE_CHECKING:
    from imagebuilder.config.request import Request
    from imagebuilder.log import Log


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
    images: PlannedImages,
    fit: Annotated[
        bool, typer.Option("--fit", help="Change the config so that it fits, and show how.")
    ] = False,
    fit_any: Annotated[
        bool, typer.Option("--fit-any", help="As --fit, and the family of Python may change too.")
    ] = False,
    packages: Annotated[
        bool, typer.Option("--packages", help="A line a package: version, size, feed, and why.")
    ] = False,
) -> None:
    """Show whether it fits, which Python goes in and why, and what was asked for; 2 if it cannot fit.

    With --verbose also where the figures about RAM are from.
    """
    from imagebuilder.ask import plan_and_budgets
    from imagebuilder.budget.budget import BudgetError, refusal
    from imagebuilder.cli import show, show_plan

    as_json = images.as_json
    with images.asked() as (asked, log):
        if fit or fit_any:
            for request in asked:
                _fit(request, log, any_interpreter=fit_any, to=sys.stderr if as_json else sys.stdout)
        plans = [plan_and_budgets(request, log) for request in asked]
    facts = [show.plan_facts(each, budgets) for each, budgets in plans] if as_json else []
    errors = list(filter(None, (refusal(each, budgets) for each, budgets in plans)))
    if as_json and not errors:
        show.as_json(facts)
    elif not as_json:
        for number, (each, budgets) in enumerate(plans):
            print("\n" * bool(number), end="")
            show_plan.plan(each, budgets, packages=packages, sources=images.verbose)
    if errors:
        whole = BudgetError("\n".join(each.message for each in errors), hint=errors[0].hint)
        raise RefusedError(whole, facts)


def _fit(request: Request, log: Log, *, any_interpreter: bool, to: TextIO) -> None:
    """Change the config's file by the least that makes the image fit, and show the change."""
    from imagebuilder.ask import fit_config, write_fit
    from imagebuilder.budget.budget import BudgetError

    file, found = fit_config(request, log, any_interpreter=any_interpreter)
    if not found.fits:
        others = "".join(f"\n  {each.text}" for each in found.alternatives)
        raise BudgetError(
            f"nothing makes {request.config} for {request.board} fit without another kind of change:{others}",
            hint=None if any_interpreter else "--fit-any may also change the interpreter's family",
        )
    if found.diff:
        write_fit(file, found)
        print(found.diff, end="", file=to)


@guarded
def fetch(images: FetchedImages) -> None:
    """Fetch all that building a config takes, so that it can be built --offline later."""
    from imagebuilder.ask import fetch_image
    from imagebuilder.cli import show, show_plan

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
        show_plan.budget(each)


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
