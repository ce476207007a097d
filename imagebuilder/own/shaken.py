"""python.shake: CPython's packages cut to what the image's apps reach, before the plan is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.model.package import Package, Wish
from imagebuilder.model.result import ShakenPackage
from imagebuilder.own.local import Remade
from imagebuilder.packages.repack import shaken_package
from imagebuilder.packages.supply import Job
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.bytecode.interpreter import can_run, emulation
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.python.catalogue.variants import catalogue_series
from imagebuilder.python.shake.commands import Root, trace
from imagebuilder.python.shake.shake import Shaken, ShakeRequest, shake, standard_packages
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import LocalPackage


def shaken(
    job: Job,
    wanted: Wish,
    installed: Sequence[Package],
    interpreter: Interpreter,
    *,
    contents: Mapping[str, LocalPackage],
    made: Mapping[str, LocalPackage],
) -> Remade:
    """What is left of CPython's packages, and those that nobody needs any more, so that the rest is to be
    resolved again. wanted: what was asked for; installed: all packages of the image; interpreter: whose
    bytecode is the target's; contents: of feeds' packages among them, made: of one's own.

    ShakeError, RootError; what tracing raises.
    """
    config = job.config
    catalogue = load_catalogue(catalogue_series(job.tree.release))
    whole = {**contents, **made}
    place = _root(job, whole, catalogue.python)
    traced = _traced(job, place)
    standard = standard_packages(catalogue)
    asked = [name for name in wanted.add if name not in standard]
    apps = [
        *made,
        *(name for name in config.packages.add if name.startswith("python3-") and name not in standard),
    ]
    request = ShakeRequest(
        whole, installed, asked, apps, config.python.keep, traced, started=_started(job, place)
    )
    found = shake(request, catalogue, interpreter, job.work / "shake", job.log, cache=job.cache)
    ready = {
        name: shaken_package(
            whole[name], tree, found.depends.get(name, whole[name].package.depends), job.manager
        )
        for name, tree in found.trees.items()
        if name not in found.removable
    }
    return Remade(made, ready, frozenset(found.removable), found.dropped, _facts(found))


def _facts(found: Shaken) -> tuple[ShakenPackage, ...]:
    return tuple(
        ShakenPackage(
            name=each.name,
            kept=len(each.kept),
            dropped=len(each.dropped),
            saved=each.saved,
            saved_compressed=each.saved_compressed,
        )
        for each in found.packages
        if each.dropped
    )


def _unpack(contents: Mapping[str, LocalPackage], root: Path) -> None:
    for each in contents.values():
        write_tree(each.tree, root)


def _root(job: Job, contents: Mapping[str, LocalPackage], python: str) -> Root | None:
    """A root file system of all packages to run Python in; None where this machine cannot. HostError where a
    command is to be traced and there is no emulator."""
    try:
        emulated = emulation(job.board, Path("/"))
    except HostError as error:
        if job.config.python.trace:
            raise
        job.log.note(f"what the interpreter imports by itself was not tried: {error.message}")
        return None
    root = job.work / "traced"
    _unpack(contents, root)
    place = Root(root, python, emulated)
    return place if job.config.python.trace or can_run(root, python, emulated) else None


def _started(job: Job, place: Root | None) -> Collection[str] | None:
    """The modules that the interpreter imports before any program, as a run of it shows; None where it
    cannot be run here, so that what is known of its version has to do."""
    if place is None:
        return None
    (run,) = trace(place, [f"{place.interpreter} /dev/null"], job.work / "tracing", job.log)
    if run.code != 0:
        job.log.note(
            f"the interpreter does not start on this machine, before anything is shaken: {run.output}"
        )
        return None
    return run.modules


def _traced(job: Job, place: Root | None) -> set[str]:
    """What the config's commands import, run in a root of all packages."""
    if place is None or not job.config.python.trace:
        return set()
    runs = trace(place, job.config.python.trace, job.work / "tracing", job.log)
    return {name for run in runs for name in run.modules}
