"""An image tried by itself, whoever made it: its root file system is taken out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.board import Board
from imagebuilder.config.model_config import Trial
from imagebuilder.errors import HostError, UserError
from imagebuilder.firmware.disk.disk import cut_off
from imagebuilder.firmware.extract import extract_root
from imagebuilder.firmware.inspection import inspect
from imagebuilder.host.handover import temporary_folder
from imagebuilder.log import Log
from imagebuilder.model.firmware import Check, RootFacts
from imagebuilder.python.bytecode.interpreter import emulation
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import read_tree
from imagebuilder.trial.hello import hello_check, interpreters_of, prepared
from imagebuilder.trial.module_check import Owners
from imagebuilder.trial.runnable import why_not_run
from imagebuilder.trial.trial import TrialAsked, TrialFound, try_root


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """The root file system of an image, in a folder. facts: what it says of itself. cut_off: where its disk
    is, in a sentence; empty where it is not."""

    folder: Path
    facts: RootFacts
    cut_off: str


@contextmanager
def opened_root(image: Path) -> Iterator[ImageRoot]:
    """An image's root file system, as long as the block. UserError where it has none that can be read."""
    found = inspect(image)
    told = cut_off(image.name, found.problems)
    if found.root is None:
        why = f"nothing of it can be run; {told}" if told else "nothing of it can be run"
        raise UserError(
            f"{image.name} has no root file system that can be read: {why}",
            hint=f"`inspect {image.name}` shows what it has",
        )
    with temporary_folder("scratch") as folder:
        extract_root(image, folder / "rootfs")
        yield ImageRoot(folder / "rootfs", found.root, told)


def try_image(
    image: Path,
    board: Board | None,
    log: Log,
    *,
    trials: Sequence[Trial] = (),
    traces: Sequence[str] = (),
    made: Sequence[str] | None = None,
    disabled: Collection[str] | None = None,
) -> TrialFound:
    """Try an image. board: says how its programs are emulated; None: their own words do. trials, traces: of
    the config that it was made from; made: packages that are its user's own, disabled: services
    that are not to start; None where nobody knows.

    What is wrong with the image is in the report; UserError where nothing in it can be tried.
    """
    log.progress(f"taking the root file system out of {image.name}")
    with opened_root(image) as root, temporary_folder("scratch") as work:
        if root.cut_off:
            log.warn(root.cut_off)
        asked = TrialAsked(
            trials=trials,
            traces=traces,
            owners=Owners(root.facts.owners, made),
            versions=root.facts.packages,
            disabled=disabled,
        )
        return try_root(root.folder, board, asked, work, log)


def start_checks(image: Path, board: Board, log: Log) -> tuple[Check, ...]:
    """Whether each Python in an image starts; a warning where none was started, with the reason."""
    log.progress(f"taking the root file system out of {image.name}")
    try:
        with opened_root(image) as root, temporary_folder("scratch") as work:
            return tuple(_started(root, board, work))
    except UserError as error:
        return (_nothing_started(error.message),)


def _started(root: ImageRoot, board: Board, work: Path) -> Iterator[Check]:
    tree = read_tree(root.folder)
    pythons = interpreters_of(tree)
    if not pythons:
        yield _nothing_started("the image has no Python")
        return
    try:
        emulated = emulation(board, Path("/"))
    except HostError as error:
        yield _nothing_started(error.message)
        return
    place = prepared(Root(root.folder, pythons[0].python, emulated), work / "ours")
    why = why_not_run(place, tree, "/bin/sh")
    if why:
        yield _nothing_started(why)
        return
    for each in pythons:
        planned = root.facts.python.version if root.facts.python is not None and len(pythons) == 1 else ""
        told = hello_check(place, each, planned, work / "run").check
        yield Check(told.what, told.expected, told.found, told.outcome == "ok")


def _nothing_started(why: str) -> Check:
    return Check("the interpreter starts", "a Python", f"nothing was started: {why}", False, "warning")
