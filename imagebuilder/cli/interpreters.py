"""`build.py interpreters`: which Python a release offers, what it takes, and what a board has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import BoardName, Json, Root, open_library

if TYPE_CHECKING:
    from imagebuilder.config.board import Board
    from imagebuilder.config.library import Library
    from imagebuilder.python.catalogue.overview import FlashNeed, OfferedInterpreter


@guarded
def interpreters(
    release: Annotated[
        str | None, typer.Option("--release", "-r", help="By default the newest stable release.")
    ] = None,
    board: BoardName = None,
    project: Root = None,
    as_json: Json = False,
) -> None:
    """Show the Python variants of a release: versions, packages, flash; and what is not offered, and why."""
    from imagebuilder.cli import screen, show
    from imagebuilder.python.catalogue.overview import NOT_OFFERED
    from imagebuilder.python.catalogue.overview import interpreters as offered
    from imagebuilder.python.catalogue.variants import catalogue_series

    wanted = _release(release)
    series = catalogue_series(wanted)
    its_board = None if board is None else _board(open_library(project), board, wanted)
    limit = None if its_board is None else _limit(its_board)
    found = offered(wanted)
    if as_json:
        show.as_json(
            {
                "release": wanted,
                "series": series,
                "board": None if its_board is None else {"name": its_board.id, "firmware_bytes": limit},
                "variants": [_facts(each, limit) for each in found],
                "not_offered": NOT_OFFERED,
            }
        )
    else:
        _print(wanted, found, its_board, limit)
        screen.table(("not offered", "why"), NOT_OFFERED.items())


def _release(wanted: str | None) -> str:
    from imagebuilder.config.releases import shipped_releases
    from imagebuilder.errors import UserError
    from imagebuilder.model.release import LATEST, check_release

    try:
        release = check_release(LATEST if wanted is None else wanted)
    except ValueError as error:
        raise UserError(f"--release: {error}") from error
    newest = shipped_releases().newest()
    return newest if release == LATEST and newest is not None else release


def _board(library: Library, name: str, release: str) -> Board:
    """The board as that release knows it. UserError where no profile of it covers the release."""
    from imagebuilder.errors import UserError

    board = library.board(name)
    profiles = board.profiles_for(release)
    if not profiles:
        ranges = "; ".join(profile.releases for profile in board.profile)
        raise UserError(f"{name} is not in OpenWrt {release}", hint=f"its releases: {ranges}")
    return board.for_profile(profiles[0])


def _limit(board: Board) -> int | None:
    """Bytes that kernel, root file system and settings of the board share; None where that is not known."""
    layout = board.layout
    known = [layout.kernel_and_rootfs, layout.firmware, board.flash if isinstance(board.flash, int) else None]
    return min((each for each in known if each is not None), default=None)


def _facts(each: OfferedInterpreter, limit: int | None) -> dict[str, object]:
    need = each.need
    return {
        "variant": each.variant,
        "version": each.version,
        "packages": each.packages,
        "squashfs_bytes": need and {"low": need.low, "high": need.high},
        "unpacked_bytes": need and need.unpacked,
        "source": need and need.source,
        "too_big": need is not None and limit is not None and need.low > limit,
        "ended": each.ended,
        "note": each.note,
    }


def _range(need: FlashNeed | None) -> str:
    from imagebuilder.model.size import human_size

    if need is None:
        return ""
    if need.high is None:
        return f"at least {human_size(need.low)}"
    return (
        human_size(need.low)
        if need.low == need.high
        else f"{human_size(need.low)} to {human_size(need.high)}"
    )


def _share(need: FlashNeed | None, limit: int | None) -> str:
    if need is None or limit is None:
        return ""
    if need.low > limit:
        return "too big"
    low, high = round(100 * need.low / limit), None if need.high is None else round(100 * need.high / limit)
    return f"{low} % and more" if high is None else f"{low} %" if low == high else f"{low} to {high} %"


def _print(
    release: str, found: tuple[OfferedInterpreter, ...], board: Board | None, limit: int | None
) -> None:
    from imagebuilder.cli import screen
    from imagebuilder.model.size import human_size

    rows: list[tuple[str, str]] = [("release", release)]
    if board is not None:
        room = "not known" if limit is None else f"{human_size(limit)} for kernel, system and settings"
        rows += [("board", f"{board.id}: {board.name}"), ("flash", room)]
    screen.facts(rows)
    screen.table(
        ("variant", "Python", "installs", "flash", "of the board's", "remark"),
        (
            (
                each.variant,
                each.version,
                ", ".join(each.packages),
                _range(each.need),
                _share(each.need, limit),
                each.ended or each.note,
            )
            for each in found
        ),
    )
    sources = dict.fromkeys(each.need.source for each in found if each.need is not None)
    screen.facts(("flash figures", source) for source in sources)
