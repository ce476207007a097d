"""From the options that commands share to requests, and a log that shows what is being done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagebuilder.log import Log
    from imagebuilder.request import Request


@contextmanager
def asking(
    project: Path,
    config: str,
    *,
    board: str | None,
    imagebuilder: str | None,
    cache: Path | None,
    mirror: Sequence[str] | None,
    verbose: bool,
    quiet: bool,
    output: Path = Path("out"),
    offline: bool = False,
    no_sandbox: bool = False,
    locked: bool = False,
    accept_unchecked: bool = False,
) -> Iterator[tuple[list[Request], Log]]:
    """A request for each board, and the log, which shows what happens until this ends."""
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.request import requests

    with Reporter(quiet=quiet, verbose=verbose) as log:
        asked = requests(
            project,
            config,
            board=board,
            imagebuilder=imagebuilder,
            output=output,
            cache=cache,
            mirrors=mirror or (),
            offline=offline,
            sandbox=not no_sandbox,
            locked=locked,
            accept_unchecked=accept_unchecked,
        )
        yield asked, log
