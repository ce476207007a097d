"""`build.py why` and `build.py packages`: what an image holds and why, and what it could hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagebuilder.called import typed
from imagebuilder.cli.guard import guarded
from imagebuilder.cli.help import Commands
from imagebuilder.cli.image_options import AskedConfig

if TYPE_CHECKING:
    from imagebuilder.ask import Offered

packages_app = Commands(help="Search the packages that a config's boards can have, and show one.")
SHORTEST = 3  # chains that `why` shows
PackageName = Annotated[str, typer.Argument(help="A package's name.")]


@guarded
def why(
    images: AskedConfig,
    package: PackageName,
    whole: Annotated[
        bool, typer.Option("--all", help="Every line, not only the first of each kind.")
    ] = False,
) -> None:
    """Show the shortest chains that bring a package into an image: who asked, and the packages in between.

    --json has all of them, up to a hundred.
    """
    from imagebuilder.ask import why as chains_of
    from imagebuilder.cli import screen, show

    with images.asked() as (asked, log):
        found = {request.board: chains_of(request, package, log) for request in asked}
    if images.as_json:
        show.as_json({name: ways.chains for name, ways in found.items()})
        return
    for name, ways in found.items():
        screen.say_lines(f"{name}:")
        shown = ways.chains if whole else ways.chains[:SHORTEST]
        for chain in shown:
            screen.prose("  ", screen.near(" -> ".join(chain)))
        left = ways.count - len(shown)
        if left:
            least = "" if ways.exact else "at least "
            all_of_them = "" if len(shown) == len(ways.chains) else " (--all)"
            print(f"  and {least}{left:,} {'other' if left == 1 else 'others'}{all_of_them}")


@packages_app.command()
@guarded
def search(
    images: AskedConfig,
    words: Annotated[list[str], typer.Argument(help="Each must occur in the name or the description.")],
) -> None:
    """Search the packages that the boards of a config can have."""
    from imagebuilder.ask import search_packages
    from imagebuilder.cli import screen, show
    from imagebuilder.model.size import human_size

    with images.asked() as (asked, log):
        found = {request.board: search_packages(request, tuple(words), log) for request in asked}
    rows = _rows(found)
    if images.as_json:
        show.as_json(rows)
        return
    headings = ("package", "version", "size", "from", "boards", "description")
    lines = (
        (
            row["package"],
            row["version"],
            human_size(row["bytes"]),
            row["from"],
            ", ".join(row["boards"]),
            row["description"],
        )
        for row in rows
    )
    screen.table(headings, lines)


def _rows(found: Mapping[str, Sequence[Offered]]) -> list[dict[str, Any]]:
    """A row a package, from what boards can have."""
    boards: dict[tuple[str, str], list[str]] = {}
    offered: dict[tuple[str, str], Offered] = {}
    for name, those in found.items():
        for each in those:
            key = (each.package.name, each.package.version)
            offered.setdefault(key, each)
            boards.setdefault(key, []).append(name)
    return [
        {
            "package": each.package.name,
            "version": each.package.version,
            "bytes": each.package.size,
            "from": each.package.feed or "the tree",
            "boards": boards[key],
            "description": each.package.description.strip().partition("\n")[0],
        }
        for key, each in offered.items()
    ]


@packages_app.command(name="show")
@guarded
def show_package(images: AskedConfig, package: PackageName) -> None:
    """Show a package: description, size, what it needs, its files where they are known, which boards can have
    it."""
    from imagebuilder.ask import describe_package
    from imagebuilder.cli import screen, show
    from imagebuilder.errors import UserError

    with images.asked() as (asked, log):
        found = [(request.board, describe_package(request, package, log)) for request in asked]
    facts = [_facts(name, each) for name, those in found for each in those]
    if not facts:
        boards = ", ".join(name for name, _ in found)
        hint = typed(f"packages search {images.config} {package}")
        raise UserError(f"no feed has '{package}' for {boards}", hint=hint)
    if images.as_json:
        show.as_json(facts)
        return
    for each in facts:
        screen.facts((key, _shown(key, value)) for key, value in each.items() if value not in ("", []))
        print()


def _shown(key: str, value: str | int | bool | list[str]) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value} bytes" if key == "installed" else str(value)


def _facts(board: str, found: Offered) -> dict[str, str | int | bool | list[str]]:
    package = found.package
    files = ["not known before it is fetched"] if found.files is None else list(found.files)
    return {
        "board": board,
        "package": package.name,
        "version": package.version,
        "from": package.feed or "the tree",
        "in the plan": found.planned,
        "bytes": package.size,
        "installed": package.installed_size,
        "section": package.section,
        "needs": [" | ".join(str(one) for one in group) for group in package.depends],
        "provides": list(package.provides),
        "conflicts": [str(each) for each in package.conflicts],
        "description": package.description.strip(),
        "files": files,
    }
