"""`build.py inspect`, `verify`, `extract`, `ls`, `cat`, `diff`: what an image is, and may it be flashed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.guard import CANNOT_BE_TOLD, USER_FAULT, guarded
from imagebuilder.cli.options import FlashedBoard, Json, Root, Shown, open_library
from imagebuilder.cli.output import named

_EXIT_CODES = {"passed": 0, "refused": USER_FAULT, "cannot be told": CANNOT_BE_TOLD}
ImagePath = Annotated[
    Path, typer.Argument(help="An image file: factory, sysupgrade, disk, kernel, squashfs, …")
]
InnerPath = Annotated[str, typer.Argument(help="A path in its root file system.")]


@guarded
def inspect(image: ImagePath, as_json: Json = False) -> None:
    """Show what an image is made of: parts, offsets and sizes, header fields, kernel, packages, Python."""
    from imagebuilder.cli import show
    from imagebuilder.firmware.inspection import inspect as inspect_image
    from imagebuilder.report.firmware import inspection_text, plain

    found = inspect_image(image)
    show.as_json(plain(found)) if as_json else print(inspection_text(found), end="")


@guarded
def verify(
    shown: Shown,
    image: ImagePath,
    board: FlashedBoard,
    release: Annotated[
        str, typer.Option("--release", help="Of OpenWrt; by default what the image says.")
    ] = "",
    image_type: Annotated[
        str, typer.Option("--type", help="sysupgrade, factory, …; by default what its name says.")
    ] = "",
    start: Annotated[
        bool, typer.Option("--start", help="Also start the interpreter in it, under emulation if need be.")
    ] = False,
    project: Root = None,
) -> None:
    """Check whether an image may be flashed on a board: a line for each check.

    Exit code 0 if it may, 2 if it may not, 3 if nothing in the image says what it is for.
    """
    from imagebuilder.cli import show
    from imagebuilder.firmware.verify import verify as verify_image
    from imagebuilder.model.firmware import outcome_of
    from imagebuilder.report.firmware import checks_text, plain
    from imagebuilder.trial.start_check import start_checks

    its_board = open_library(project, quiet=shown.quiet, verbose=shown.verbose).board(board)
    checks = verify_image(image, its_board, image=image_type, release=release)
    if start and not any(check.refuses for check in checks):
        with shown.reporter() as log:
            checks = (*checks, *start_checks(image, its_board, log))
    outcome = outcome_of(checks)
    if shown.as_json:
        facts = {"image": image.name, "board": its_board.id, "outcome": outcome}
        show.as_json({**facts, "checks": [plain(check) for check in checks]})
    else:
        print(checks_text(checks), end="")
    sys.exit(_EXIT_CODES[outcome])


@guarded
def extract(
    image: ImagePath,
    folder: Annotated[
        Path, typer.Argument(help="Where its parts and its root file system go; a new folder.")
    ],
    as_json: Json = False,
) -> None:
    """Take an image apart into a folder: its parts, and the files of its root file system."""
    from imagebuilder.cli import show
    from imagebuilder.firmware.extract import extract as extract_image

    taken = extract_image(image, folder)
    paths = [str(path) for path in taken.written]
    show.as_json(paths) if as_json else print(f"{len(paths)} files in {folder}")
    if taken.not_kept:
        print(f"not as in the image: {', '.join(taken.not_kept)}", file=sys.stderr)


@guarded
def ls(image: ImagePath, path: InnerPath = "/", as_json: Json = False) -> None:
    """List the files of an image's root file system, with the bytes that each takes compressed."""
    from imagebuilder.cli import show
    from imagebuilder.firmware.extract import list_files

    found = list_files(image, path)
    if as_json:
        show.as_json(found)
        return
    for each in found:
        arrow = f" -> {each.target}" if each.target else ""
        print(f"{each.kind:8} {each.mode:04o} {each.size:>9} {each.stored:>9} {each.path}{arrow}")


@guarded
def cat(image: ImagePath, path: InnerPath) -> None:
    """Print a file of an image's root file system."""
    from imagebuilder.firmware.extract import read_file

    data = read_file(image, path)
    with named():
        sys.stdout.buffer.write(data)


@guarded
def formats(as_json: Json = False) -> None:
    """List the firmware formats that are known: opened, or named only; docs/formats.md is its output."""
    from imagebuilder.cli import show
    from imagebuilder.firmware.formats.formats import UNKNOWN_STEPS, format_rows
    from imagebuilder.report.firmware import formats_text

    rows = format_rows()
    if as_json:
        show.as_json(rows)
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
    from imagebuilder.cli import show
    from imagebuilder.firmware.inspection import diff as diff_images
    from imagebuilder.report.firmware import MOST_LINES, difference_html, difference_text, plain

    found = diff_images(before, after)
    if as_json:
        show.as_json(plain(found))
    elif html:
        print(difference_html(found), end="")
    else:
        print(difference_text(found, most=None if whole else MOST_LINES), end="")
