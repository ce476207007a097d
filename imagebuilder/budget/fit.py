"""The least change to a config that makes its image fit, as a diff of its text. Never applied here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import tomli

from imagebuilder.budget.advice import (
    Move,
    Predict,
    Resolve,
    Situation,
    Tried,
    Trying,
    advise,
    moves,
    told_advice,
)
from imagebuilder.model.budget import Advice, Fit

_MOST_MOVES = 12
_LINE = 100  # bytes of a list above which each of its values has a line of its own

Value = str | bool | Sequence[str]


def fit(
    situation: Situation,
    resolve: Resolve,
    predict: Predict,
    *,
    text: str,
    file: str,
    board: str | None = None,
    any_interpreter: bool = False,
) -> Fit:
    """The moves that are missed least and together make it fit. None takes what somebody asked for: the
    config, an overlay or an app.

    text: of the config file, file: its name for the diff. board: the board's name where the config is for
    several boards, so that only its differences change; None: the config as a whole. predict should count
    the uncertainty (flash.at_most), so that the image still fits when it is measured. any_interpreter: the
    family of the interpreter may change too. A plan that fits gives an empty diff, and one that nothing makes
    fit too, with fits=False. Raises what resolve() raises for the plan as it is.
    """
    trial = Trying(replace(situation, keep=situation.keep | _meant(situation)), resolve, predict)
    best = _least(trial, any_interpreter=any_interpreter)
    done = best if best is not None else trial.start
    new = changed_text(text, situation, done.moves, board)
    return Fit(
        fits=done.fits,
        advice=_told(trial, done),
        diff=_diff(text, new, file),
        text=new,
        budget=done.budget,
        alternatives=advise(situation, resolve, predict),
    )


def _meant(situation: Situation) -> frozenset[str]:
    """What the config adds, and what that is a part of: `ppp` of `ppp-mod-pppoe`, which does not say that it
    needs it (LEDE 17.01.7's index)."""
    whole = {
        name for name in situation.wish.add if any(each.startswith(f"{name}-") for each in situation.added)
    }
    return situation.added | whole


def _least(trial: Trying, *, any_interpreter: bool) -> Tried | None:
    """Of what fits, that which is missed least; then the fewest moves, then the fewest bytes that go."""
    if trial.start.fits:
        return trial.start
    single = [move for move in moves(trial.situation) if any_interpreter or move.kind != "micropython"]
    interpreters = [move for move in single if move.kind in ("variant", "micropython")]
    others = [move for move in single if move not in interpreters]
    starts = [trial.start, *filter(None, (trial.after(trial.start, move) for move in interpreters))]
    found = [each for start in starts if (each := _enough(trial, start, others)) is not None]
    return min(found, key=lambda each: (_harm(each), len(each.moves), -each.bytes), default=None)


def _harm(tried: Tried) -> int:
    return sum(move.harm for move in tried.moves)


def _enough(trial: Trying, start: Tried, others: Sequence[Move]) -> Tried | None:
    """Moves are added, the one that gains most for its harm first, until it fits; then those that were not
    needed after all are taken back."""
    here = start
    while not here.fits:
        if len(here.moves) >= _MOST_MOVES:
            return None
        asked = set(here.wish.add)
        tries = [
            each for move in others if move.drops <= asked and (each := trial.after(here, move)) is not None
        ]
        if not tries:
            return None
        enough = [each for each in tries if each.fits]
        if enough:
            here = min(enough, key=lambda each: (each.moves[-1].harm, -each.bytes))
        else:
            # the harm counts more than once: WiFi is not given up for bytes that smaller things give too
            base = here.bytes
            here = max(tries, key=lambda each: (base - each.bytes) / each.moves[-1].harm ** 2)
    return _without_needless(trial, here, keep=len(start.moves))


def _without_needless(trial: Trying, tried: Tried, *, keep: int) -> Tried:
    """Take back moves, the most missed first, as long as it still fits."""
    for move in sorted(tried.moves[keep:], key=lambda move: -move.harm):
        rest = [each for each in tried.moves if each is not move]
        again: Tried | None = trial.start
        for each in rest:
            again = trial.after(again, each) if again is not None else None
        if again is not None and again.fits:
            tried = again
    return tried


def _told(trial: Trying, done: Tried) -> tuple[Advice, ...]:
    """Each move with what it gained where it stands."""
    told: list[Advice] = []
    here = trial.start
    for move in done.moves:
        after = trial.after(here, move)
        if after is not None:
            told.append(told_advice(trial.situation, here, after))
            here = after
    return tuple(told)


def changed_text(text: str, situation: Situation, done: Iterable[Move], board: str | None = None) -> str:
    """The config file's text with these moves made. FaultsError is not raised: the text must be TOML."""
    prefix = ("board", board) if board is not None else ()
    removed: set[str] = set()
    for move in done:
        change = move.change(situation)
        removed |= {*change.remove}
        if change.variant is not None:
            text = with_value(text, (*prefix, "python", "variant"), change.variant)
        if change.source is not None:
            text = with_value(text, (*prefix, "python", "source"), change.source)
    return _with_removed(text, prefix, removed)


def _with_removed(text: str, prefix: tuple[str, ...], names: set[str]) -> str:
    if not names:
        return text
    before = [str(name) for name in _table(tomli.loads(text), (*prefix, "packages")).get("remove", ())]
    return with_value(text, (*prefix, "packages", "remove"), list(dict.fromkeys([*before, *sorted(names)])))


def _table(values: Mapping[str, object], path: Sequence[str]) -> Mapping[str, list[object]]:
    here: object = values
    for key in path:
        here = here.get(key, {}) if isinstance(here, Mapping) else {}
    return here if isinstance(here, Mapping) else {}


def _diff(before: str, after: str, file: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), file, f"{file} (fitting)"
    )
    unfinished = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + unfinished for line in lines)


def with_value(text: str, path: Sequence[str], value: Value) -> str:
    """The text with the value at a key path (`("packages", "remove")`) replaced or added; what stands around
    it stays, comments too. The text must be TOML."""
    import tomlkit  # noqa: PLC0415 (every plan loads this module, few change a text)

    document = tomlkit.parse(text)
    table: MutableMapping[str, Any] = document
    for key in path[:-1]:
        table = table.setdefault(key, tomlkit.table())
    if isinstance(value, str | bool):
        table[path[-1]] = value
    else:
        array = tomlkit.array()
        array.extend(value)
        table[path[-1]] = array.multiline(len(array.as_string()) > _LINE)
    return tomlkit.dumps(document)
