"""What the requests of one command share: had once, and then taken as it was, also the error that it gave."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from imagebuilder.errors import UserError
from imagebuilder.log import Event, Log, Warned

T = TypeVar("T")


@dataclass
class _Had:
    """warnings: what was warned of meanwhile."""

    value: object = None
    error: UserError | None = None
    warnings: list[Warned] = field(default_factory=list)

    def notice(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event)


class Once:
    """Keeps what was had, in memory, as long as the command runs. Not for several threads at once."""

    def __init__(self) -> None:
        self._had: dict[tuple[str, Hashable], _Had] = {}
        self.given_up: set[str] = set()  # servers that did not answer: see host.transfer.Transfers

    def get(
        self,
        what: str,
        key: Hashable,
        have: Callable[[Log], T],
        log: Log,
        *,
        most: int | None = None,
    ) -> T:
        """What `have` gives, called once for each `key` of a kind of thing; whoever takes it later is told
        what it warned of. A UserError that it raises is raised again each time: what could not be had once is
        not tried again for the next board.

        what: the kind of thing, whose type is always the same. most: how many of its kind are kept, for large
        things; the oldest goes first.
        """
        place = (what, key)
        had = self._had.get(place)
        if had is None:
            had = _Had()
            try:
                had.value = have(log.also(had.notice))
            except UserError as error:
                had.error = error
            self._had[place] = had
            self._drop(what, most)
        elif had.error is None:
            for event in had.warnings:
                log.emit(event)
        if had.error is not None:
            raise had.error
        return cast("T", had.value)

    def _drop(self, what: str, most: int | None) -> None:
        mine = [place for place in self._had if place[0] == what]
        for place in mine[: 0 if most is None else max(0, len(mine) - most)]:
            del self._had[place]
