"""From the options that commands share to requests, and a log that shows what is being done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagebuilder.cli.options import Images
    from imagebuilder.config.request import Request
    from imagebuilder.log import Log


@contextmanager
def asking(images: Images) -> Iterator[tuple[list[Request], Log]]:
    """A request for each board, and the log, which shows what happens until this ends."""
    with images.reporter() as log:
        yield images.requests(), log
