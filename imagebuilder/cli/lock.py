"""`build.py lock` and `build.py outdated`: plans written down, and what has changed since."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from imagebuilder.cli.asking import asking
from imagebuilder.cli.guard import USER_FAULT, guarded
from imagebuilder.cli.options import AskedImages


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

    with asking(images) as (asked, log):
        if check:
            changes = {request.board: compare_lock(request, log) for request in asked}
        else:
            entries = {request.board: lock_image(request, log) for request in asked}
            written = write_lock(asked[0].library, asked[0].config_name(), entries)
    if not check:
        facts = {"file": written, "boards": {name: len(entry.package) for name, entry in entries.items()}}
        show.as_json(facts) if images.as_json else print(f"wrote {written}")
        return
    _show_changes(changes, as_json=images.as_json)
    if any(changes.values()):
        sys.exit(USER_FAULT)


@guarded
def outdated(images: AskedImages) -> None:
    """List what a fresh lock of a config would change."""
    from imagebuilder.ask import compare_lock

    with asking(images) as (asked, log):
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
