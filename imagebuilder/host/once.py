"""What the requests of one command share: had once, and then taken as it was, also the error that it gave."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from imagebuilder.errors import UserError

T = TypeVar("T")


class Once:
    """Keeps what was had, in memory, as long as the command runs. Not for several threads at once."""

    def __init__(self) -> None:
        self._had: dict[tuple[str, Hashable], object] = {}

    def get(self, what: str, key: Hashable, have: Callable[[], T], *, most: int | None = None) -> T:
        """What `have` gives, called once for each `key` of a kind of thing. A UserError that it raises is
        raised again each time: what could not be had once is not tried again for the next board.

        what: the kind of thing, whose type is always the same. most: how many of its kind are kept, for large
        things; the oldest goes first.
        """
        place = (what, key)
        if place not in self._had:
            try:
                self._had[place] = have()
            except UserError as error:
                self._had[place] = error
            self._drop(what, most)
        found = self._had[place]
        if isinstance(found, UserError):
            raise found
        return cast("T", found)

    def _drop(self, what: str, most: int | None) -> None:
        mine = [place for place in self._had if place[0] == what]
        for place in mine[: 0 if most is None else max(0, len(mine) - most)]:
            del self._had[place]
