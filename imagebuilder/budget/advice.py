"""What would make an image smaller, and by how much: ranked, each computed from this very plan."""

from __future__ import annotations

from collections.abc import Iterator

from imagebuilder.budget.advice_moves import Predict, Resolve, Situation, Trial, Tried, moves
from imagebuilder.model.budget import Advice, FlashBudget
from imagebuilder.model.size import human_size

_BIG_FILE = 16 << 10
_LEAST_GAIN = 2 << 10  # less is no help


def advise(situation: Situation, resolve: Resolve, predict: Predict) -> tuple[Advice, ...]:
    """Ranked: first what alone is enough, the least missed first, then the rest by what it gains.

    resolve, predict: see advice_moves. Nothing that an app imports is ever advised away; another family of
    interpreter is marked (changes_interpreter). Raises what resolve() raises for the plan as it is.
    """
    trial = Trial(situation, resolve, predict)
    return advice_of(trial, trial.start)


def advice_of(trial: Trial, start: Tried) -> tuple[Advice, ...]:
    """Advice from a point that some moves have led to, ranked as advise() ranks it."""
    asked = set(start.wish.add)
    ranked: list[tuple[tuple[bool, int, int], Advice]] = []
    for move in moves(trial.situation):
        if move.drops and not move.drops & asked:
            continue
        tried = trial.after(start, move)
        if tried is None or start.bytes - tried.bytes < _LEAST_GAIN:
            continue
        advice = told_advice(trial.situation, start, tried)
        ranked.append(((not advice.fits, move.harm if advice.fits else 0, -advice.gain), advice))
    for advice in _beside_the_config(trial.situation, start.budget):
        ranked.append(((not advice.fits, 9 if advice.fits else 0, -advice.gain), advice))
    # the same packages may go by more than one name
    found: dict[tuple[str, ...], Advice] = {}
    for _, advice in sorted(ranked, key=lambda each: each[0]):
        found.setdefault(advice.gone or (advice.text,), advice)
    return tuple(found.values())


def told_advice(situation: Situation, start: Tried, tried: Tried) -> Advice:
    move = tried.moves[-1]
    left = {each.name for each in tried.packages}
    gone = tuple(sorted(each.name for each in start.packages if each.name not in left))
    gain = start.bytes - tried.bytes
    also = sorted(move.drops - set(move.words.split()) - {word.rstrip(":,") for word in move.words.split()})
    words = move.words
    if also and move.kind in ("drop", "drop default"):
        words += f" (and {', '.join(also)}, which need{'s' if len(also) == 1 else ''} it)"
    return Advice(
        kind=move.kind,
        text=f"{words}: {human_size(gain)} less",
        gain=gain,
        fits=tried.fits,
        gone=gone,
        changes_interpreter=move.kind == "micropython",
        change=move.change(situation),
    )


def _beside_the_config(situation: Situation, budget: FlashBudget) -> Iterator[Advice]:
    """What no key of the config's own lists says: large files of overlays, and older releases."""
    share = budget.rootfs.bytes and next((part.bytes for part in budget.parts if part.name == "files"), 0)
    total = sum(situation.files.values())
    for path, size in sorted(situation.files.items(), key=lambda each: -each[1])[:5]:
        gain = round(share * size / total) if total else 0
        if size >= _BIG_FILE:
            yield Advice(
                kind="files",
                text=f"without the overlay's file {path}: about {human_size(gain)} less",
                gain=gain,
                fits=0 < budget.excess <= gain,
            )
    for release, less in situation.older.items():
        if less is None or less >= _LEAST_GAIN:
            planned = f"`plan --release {release}` says how much less"
            how_much = f"{human_size(less)} less" if less is not None else planned
            yield Advice(
                kind="release",
                text=f"release {release}, which knows this board too: {how_much}; without security fixes",
                gain=less or 0,
                fits=less is not None and 0 < budget.excess <= less,
            )
