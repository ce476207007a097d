"""`build.py inspect`, `verify`, `extract`, `ls`, `cat`, `diff`: what an image is, and may it be flashed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.guard import CANNOT_BE_TOLD, USER_FAULT, guarded
from imagebuilder.cli.options import FlashedBoard, Json, Root, Shown, open_library
from imagebuilder.cli.output import named
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from imagebuilder.config.board import Board
    from imagebuilder.config.library import Library
    from imagebuilder.model.firmware import Check

_EXIT_CODES = {"passed": 0, "refused": USER_FAULT, "cannot be told": CANNOT_BE_TOLD}
ImagePath = Annotated[
    Path, typer.Argument(help="An image file: factory, sysupgrade, disk, kernel, squashfs, …")
]
ImageOrResult = Annotated[
    Path, typer.Argument(metavar="IMAGE|FOLDER", help="An image file, or the folder of a build's result.")
]
InnerPath = Annotated[str, typer.Argument(help="A path in its root file system.")]


@guarded
def inspect(image: ImagePath, as_json: Json = False) -> None:
    """Show what an image is made of: parts, offsets and sizes, header fields, kernel, packages, Python."""
    from imagebuilder.cli import screen, show
    from imagebuilder.firmware.inspection import inspect as inspect_image
    from imagebuilder.report.firmware import STRIP_SIGNS, inspection_text, plain

    found = inspect_image(image)
    if as_json:
        show.as_json(plain(found))
    else:
        room = (screen.columns() or sys.maxsize) - len("[]")
        screen.say_lines(inspection_text(found, signs=min(STRIP_SIGNS, room)))


@guarded
def verify(
    shown: Shown,
    image: ImageOrResult,
    board: FlashedBoard = None,
    release: Annotated[
        str, typer.Option("--release", help="Of OpenWrt; by default what the image says.")
    ] = "",
    image_type: Annotated[
        str, typer.Option("--type", help="sysupgrade, factory, …; by default what its name says.")
    ] = "",
    start: Annotated[
        bool, typer.Option("--start", help="Also start the interpreter in it, under emulation if need be.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Of a result's folder: the public key that has to have signed its sums."),
    ] = None,
    project: Root = None,
) -> None:
    """Check whether an image may be flashed on a board: a line for each check.

    Of a folder with a result every file is held against its sha256sums, that against its signature if it has
    one, and each image is checked for the result's board.

    Exit code 0 if it may, 2 if it may not, 3 if nothing in the image says what it is for.
    """
    from imagebuilder.cli import screen, show
    from imagebuilder.model.firmware import outcome_of
    from imagebuilder.report.firmware import checks_text, plain

    library = open_library(project, quiet=shown.quiet, verbose=shown.verbose)
    if image.is_dir():
        if start or image_type:
            raise UserError("--start and --type are for one image, not for a result's folder")
        sys.exit(_verify_result(shown, library, image, board=board, key=key, release=release))
    if key is not None:
        raise UserError(f"--key {key} is for a result's folder, and {image} is none")
    if board is None:
        raise UserError(f"for which board is {image}?", hint="--board says what it should be flashed on")
    checks = _image_checks(shown, image, library.board(board), kind=image_type, release=release, start=start)
    outcome = outcome_of(checks)
    if shown.as_json:
        facts = {"image": image.name, "board": board, "outcome": outcome}
        show.as_json({**facts, "checks": [plain(check) for check in checks]})
    else:
        screen.say_lines(checks_text(checks))
    sys.exit(_EXIT_CODES[outcome])


def _image_checks(
    shown: Shown, image: Path, board: Board, *, kind: str, release: str, start: bool
) -> tuple[Check, ...]:
    """Those of one image. kind, release: where it does not say them itself; start: its interpreter too."""
    from imagebuilder.firmware.verify import verify as verify_image
    from imagebuilder.model.firmware import Check
    from imagebuilder.trial.image import start_checks

    checks = verify_image(image, board, image=kind, release=release)
    if start and any(check.refuses for check in checks):
        why = "nothing was started: the image must not be flashed anyway"
        checks = (*checks, Check("the interpreter starts", "a Python", why, False, "warning"))
    elif start:
        with shown.reporter() as log:
            checks = (*checks, *start_checks(image, board, log))
    return checks


def _verify_result(
    shown: Shown, library: Library, folder: Path, *, board: str | None, key: Path | None, release: str
) -> int:
    """Show the checks of a result's folder; the exit code."""
    from imagebuilder.cli import show
    from imagebuilder.handed import check_result
    from imagebuilder.model.firmware import outcome_of
    from imagebuilder.report.firmware import checks_text, plain

    found = check_result(folder, library, board=board, key=key, release=release)
    outcome = outcome_of(found.checks)
    if shown.as_json:
        images = {file: [plain(check) for check in checks] for file, checks in found.images.items()}
        sums = [plain(check) for check in found.sums]
        facts = {"folder": str(folder), "board": found.board.id, "outcome": outcome}
        show.as_json({**facts, "checks": sums, "images": images})
    else:
        for name, checks in {"": found.sums, **found.images}.items():
            print(f"{name}\n" * bool(name) + checks_text(checks), end="")
    return _EXIT_CODES[outcome]


@guarded
def extract(
    image: ImagePath,
    folder: Annotated[
        Path, typer.Argument(help="Where its parts and its root file system go; a new folder.")
    ],
    as_json: Json = False,
) -> None:
    """Take an image apart into a folder: its parts, and the files of its root file system."""
    from imagebuilder.cli import screen, show
    from imagebuilder.firmware.extract import extract as extract_image

    taken = extract_image(image, folder)
    paths = [str(path) for path in taken.written]
    show.as_json(paths) if as_json else screen.say_lines(f"{len(paths)} files in {folder}")
    if taken.not_kept:
        print(f"not as in the image: {', '.join(taken.not_kept)}", file=sys.stderr)


@guarded
def ls(image: ImagePath, path: InnerPath = "/", as_json: Json = False) -> None:
    """List the files of an image's root file system, with the bytes that each takes compressed."""
    from imagebuilder.cli import screen, show
    from imagebuilder.firmware.extract import list_files

    found = list_files(image, path)
    if as_json:
        show.as_json(found)
        return
    for each in found:
        arrow = f" -> {each.target}" if each.target else ""
        first = f"{each.kind:8} {each.mode:04o} {each.size:>9} {each.stored:>9} "
        for line in screen.hanging(first, [f"{each.path}{arrow}"], screen.columns()):
            screen.say(line)


@guarded
def cat(image: ImagePath, path: InnerPath) -> None:
    """Print a file of an image's root file system."""
    from imagebuilder.firmware.extract import read_file

    data = read_file(image, path)
    with named():
        sys.stdout.buffer.write(data)


@guarded
def formats(as_json: Json = False) -> None:
    """List the firmware formats that are known: opened, or named only; piped, a page of Markdown."""
    from imagebuilder.cli import screen, show
    from imagebuilder.firmware.formats.formats import UNKNOWN_STEPS, format_rows
    from imagebuilder.report.firmware import format_cells, formats_text

    rows = format_rows()
    if as_json:
        show.as_json(rows)
    elif screen.columns() is not None:  # the page is for files: its tables are as wide as their rows
        screen.table(("kind", "what it is", "", "in a board's file", "steps of recipes"), format_cells(rows))
        screen.say("")
        screen.prose("no kind: ", ", ".join(sorted(UNKNOWN_STEPS, key=str.lower)))
    else:
        print(formats_text(rows, UNKNOWN_STEPS), end="")


@guarded
def diff(
    before: ImagePath,
    after: ImagePath,
    as_json: Json = False,
    html: Annotated[bool, typer.Option("--html", help="A page for a browser.")] = False,
    whole: Annotated[
        bool, typer.Option("--all", help="Every line, not only the first of each kind.")
    ] = False,
) -> None:
    """Show how two images differ: packages, files, sizes by package, kernel, header fields."""
    from imagebuilder.cli import screen, show
    from imagebuilder.firmware.inspection import diff as diff_images
    from imagebuilder.report.firmware import MOST_LINES, difference_html, difference_text, plain

    found = diff_images(before, after)
    if as_json:
        show.as_json(plain(found))
    elif html:
        print(difference_html(found), end="")
    else:
        screen.say_lines(difference_text(found, most=None if whole else MOST_LINES))
