"""What can be told of a finished root file system without a config: whether its parts fit each other.

Each check looks at one matter and names what it found by file and package. It fails for what will not work on
the device; what a release's own packages have, too, and what nobody is hurt by is said and is no failure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from imagebuilder.host.confined import BoundsError, confined
from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.bytecode_check import BYTECODE, SOURCES, bytecode_check, source_check
from imagebuilder.trial.library_check import LIBRARIES, library_check
from imagebuilder.trial.mpy_check import MPY, mpy_check
from imagebuilder.trial.runnable import why_not_run
from imagebuilder.trial.service_check import SERVICES, service_check
from imagebuilder.trial.shell_check import SHELL, shell_check

LOOK_SECONDS, LOOK_BYTES = 120, 1 << 30  # a root of 5,000 packages takes 7 s
_MOST_TOLD = 16 << 20
_CHECKS = TypeAdapter(tuple[TrialCheck, ...])


def root_checks(
    root: Root,
    tree: FileTree,
    work: Path,
    *,
    owners: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    off: Collection[str] | None = None,
    unable: str = "",
) -> tuple[TrialCheck, ...]:
    """All checks of an unpacked root file system, in the order in which they are told. root: with what runs
    its programs here; its Python does not matter. tree: the same, as it was read. work: a folder for what is
    needed meanwhile. owners: the packages of files, by their paths (RootFacts.owners); versions:
    of packages, by their names. off: services that the
    config disables, None where nobody knows. unable: why nothing runs its programs here, such as the message
    of the HostError that emulation() raised.
    """
    whose = owners or {}
    why = unable or why_not_run(root, tree, SHELL)
    return (*_looked_at(tree, whose, versions or {}, off), shell_check(root, tree, whose, work, unable=why))


def _looked_at(
    tree: FileTree, owners: Mapping[str, str], versions: Mapping[str, str], off: Collection[str] | None
) -> tuple[TrialCheck, ...]:
    """The checks that run nothing. What an image has in it may be made so that nobody can say how long it
    takes: it is looked at in a child."""

    def work() -> bytes:
        found = (
            *(bytecode_check(tree, owners), source_check(tree, owners), mpy_check(tree, owners, versions)),
            *(library_check(tree, owners), service_check(tree, owners, off)),
        )
        return _CHECKS.dump_json(tuple(each for each in found if each is not None))

    try:
        return _CHECKS.validate_json(confined(work, _MOST_TOLD, seconds=LOOK_SECONDS, memory=LOOK_BYTES))
    except BoundsError as error:
        why = f"looking at all of it {error.what}"
        return tuple(question.not_run(why) for question in (BYTECODE, SOURCES, MPY, LIBRARIES, SERVICES))
