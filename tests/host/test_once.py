"""What is had once for all requests of a command."""

from __future__ import annotations

import pytest

from imagebuilder.errors import UserError
from imagebuilder.host.once import Once
from imagebuilder.log import Event, Log, Note, Warned


def test_a_thing_is_had_once_for_each_key_and_all_are_told_what_it_warned_of() -> None:
    once, had = Once(), []

    def have(log: Log) -> int:
        log.note("it goes on")
        log.warn("it is old")
        had.append(1)
        return len(had)

    for key, value in (("a", 1), ("a", 1), ("b", 2), ("a", 1)):
        told: list[Event] = []
        assert once.get("number", key, have, Log([told.append])) == value
        assert Warned("it is old") in told
    assert once.get("other", "a", lambda _: "text", Log()) == "text"
    assert len(had) == 2
    told = []
    once.get("number", "b", have, Log([told.append]))
    assert Note("it goes on") not in told


def test_what_could_not_be_had_is_not_tried_again() -> None:
    once, tried = Once(), []

    def have(log: Log) -> int:
        log.warn("trying again")
        tried.append(1)
        raise UserError("it is not there", hint="look elsewhere")

    for _ in range(3):
        with pytest.raises(UserError, match="it is not there") as refused:
            once.get("number", "a", have, Log())
        assert refused.value.hint == "look elsewhere"
    assert len(tried) == 1


def test_an_interruption_is_not_kept() -> None:
    once = Once()

    def interrupted(_: Log) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once.get("number", "a", interrupted, Log())
    assert once.get("number", "a", lambda _: 7, Log()) == 7


def test_of_large_things_the_last_few_are_kept() -> None:
    once, had = Once(), []
    for key in ("a", "b", "b", "c", "b", "a"):
        once.get("large", key, lambda _, key=key: had.append(key), Log(), most=2)
        once.get("small", "a", lambda _: had.append("small"), Log())
    assert had == ["a", "small", "b", "c", "a"]
