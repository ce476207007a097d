"""A built root file system tried on this machine: its interpreter starts, the config's commands run in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from imagebuilder.config.board import Board
from imagebuilder.errors import HostError
from imagebuilder.firmware.extract import ROOT, extract
from imagebuilder.firmware.inspection import inspect
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import killed_by
from imagebuilder.log import Log
from imagebuilder.model.firmware import Check
from imagebuilder.model.result import LoadedBytecode, Start
from imagebuilder.python.bytecode.interpreter import emulation
from imagebuilder.rootfs.files import read_tree

RUNS = 3


def python_of(root: Path) -> str | None:
    """`3.11` where a root file system has /usr/bin/python3.11; None where it has no CPython 3."""
    found = sorted(root.glob("usr/bin/python3.[0-9]*"))
    names = [path.name.removeprefix("python") for path in found if path.is_file()]
    return next((name for name in names if name.replace(".", "").isdecimal()), None)


def tried(
    root: Path,
    board: Board,
    work: Path,
    log: Log,
    *,
    commands: Sequence[str] = (),
    dropped: Collection[str] = (),
) -> tuple[Start, ...]:
    """What starting the interpreter takes, and each of the commands, which must all end well. dropped:
    modules that were shaken off, for messages.

    ProofError naming what a command lacks; RootError. Nothing, with a note, where this machine has no
    emulator for the board's processor; with a warning, where the interpreter dies of a signal under it.
    """
    python = python_of(root)
    if python is None:
        return ()
    # many images have no Python, and what tries it takes a while to load
    from imagebuilder.python.shake.commands import (  # noqa: PLC0415
        CrashError,
        Root,
        prove,
        start_facts,
        trace,
    )

    try:
        emulated = emulation(board, Path("/"))
    except HostError as error:
        log.note(f"the image's programs were not tried: {error.message}")
        return ()
    place = Root(root, python, emulated)
    # an empty script: -c wants linecache from 3.13 on, which python3-base has not
    whole = [f"/usr/bin/python{python} /dev/null", *commands]
    try:
        prove(place, commands, work, log, dropped=dropped)
        return tuple(start_facts(place, command, work, log, runs=RUNS) for command in whole)
    except CrashError as error:
        (alone,) = trace(place, whole[:1], work, log)
        if not emulated or killed_by(alone.code) is None:
            raise
        # that says nothing of the image: the emulated processor may lack instructions that the device has
        log.warn(f"the image's programs were not tried: {error.message}\n{error.hint}")
        return ()


def loaded(
    root: Path,
    board: Board,
    wanted: Collection[str],
    work: Path,
    log: Log,
    *,
    native: Collection[str] = (),
) -> LoadedBytecode | None:
    """All bytecode of a built root file system, loaded by its own interpreter or by one of the same magic
    number; the modules among the files `wanted` imported, and the native ones among the files `native`. None
    without CPython, and where nothing here loads it. LoadError, VersionError."""
    python = python_of(root)
    if python is None:
        return None
    from imagebuilder.python.shake.commands import Root  # noqa: PLC0415
    from imagebuilder.trial.load import load_bytecode  # noqa: PLC0415 - as tried()

    try:
        emulated = emulation(board, Path("/"))
    except HostError:  # tried() says so
        emulated = ()
    place = Root(root, python, emulated)
    return load_bytecode(place, read_tree(root), wanted, work / "bytecode", log, native=native)


def start_checks(image: Path, board: Board, log: Log) -> tuple[Check, ...]:
    """Whether the interpreter in an image starts; none for an image without one."""
    found = inspect(image).root
    if found is None or found.python is None:
        return ()
    from imagebuilder.python.shake.commands import ProofError, RootError  # noqa: PLC0415

    what, expected = "the interpreter starts", f"Python {found.python.version}"
    with temporary_folder("scratch") as folder:
        extract(image, folder / "image")
        try:
            starts = tried(folder / "image" / ROOT, board, folder / "work", log)
        except (ProofError, RootError) as error:
            return (Check(what, expected, error.message, False),)
    if not starts:
        return (Check(what, expected, "not tried: this machine cannot run it", False, "warning"),)
    return (Check(what, expected, f"it does, with {starts[0].modules} modules", True),)
