"""Packages of feeds of which an image gets another form than the feed has: bytecode for sources
(python.compile), CPython's library cut (python.shake), files dropped (filespecs). Their content is fetched
before the plan is done, so that it is planned and counted as it will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imagebuilder.config.model_config import Config
from imagebuilder.errors import UserError
from imagebuilder.model.package import Package
from imagebuilder.own.compiled import compiled_packages, is_compiled
from imagebuilder.own.local import Local, Maker
from imagebuilder.packages.supply import LOCAL, Job
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.python.catalogue.variants import catalogue_series
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.tree.plan import Plan

_INTERPRETER = "python3-base"


class RemadeError(UserError):
    """python.shake or python.compile where there is no CPython 3."""


def remakes_python(plan: Plan, config: Config) -> bool:
    """Whether Python packages get another form. RemadeError where that is asked for and there is none."""
    python = config.python
    has_python = any(each.name == _INTERPRETER for each in plan.install)
    if has_python:
        return python.shake or is_compiled(python, _catalogue(plan))
    for key, does in (("shake", "cuts"), ("compile", "compiles the packages of")):
        if getattr(python, key):
            raise RemadeError(
                f"config {config.name}: python.{key} {does} CPython 3, and this image has none",
                hint='leave it out, or say variant = "auto"',
            )
    return False


def _catalogue(plan: Plan) -> Catalogue:
    return load_catalogue(catalogue_series(plan.tree.release))


def remade_plan(
    job: Job,
    plan: Plan,
    local: Local,
    config: Config,
    *,
    contents: Mapping[str, LocalPackage],
    installed: Sequence[Package],
) -> tuple[Plan, Local]:
    """The plan without what nobody needs any more, and the packages in their new form, to be resolved again.
    contents: of feeds' packages in the plan; installed: all packages of the plan.

    ShakeError, RootError; what compiling, tracing and making the image's own packages raises.
    """
    catalogue, manager = _catalogue(plan), plan.tree.package_manager
    userland = {name: each for name, each in contents.items() if not is_kernel(name)}
    maker = Maker(job, local, plan, config, lambda root: _unpack(userland, root))
    ours = [each.name for each in plan.install if each.feed == LOCAL and each.name not in local.originals]
    made = {name: maker.content(name, _no_original)[0] for name in ours}
    local = replace(local, made=made, contents=contents)
    gone: frozenset[str] = frozenset()
    if config.python.shake:
        from imagebuilder.own.shaken import shaken_plan  # noqa: PLC0415 - few images are shaken

        interpreter = maker.shut_in(maker.interpreter(catalogue), "shake")
        plan, local, gone = shaken_plan(
            job, plan, local, config, interpreter, contents=userland, installed=installed
        )
    if is_compiled(config.python, catalogue):  # what was shaken off need not be compiled
        job.log.progress("compiling the feeds' Python packages")
        left = {name: each for name, each in {**userland, **local.ready}.items() if name not in gone}
        compiler = maker.compiler(catalogue)
        compiled = compiled_packages(left, config.python, compiler, catalogue.library, manager)
        local = replace(local, ready={**local.ready, **compiled})
    return plan, local


def is_kernel(package: str) -> bool:
    """Whether a package holds the kernel or a module of it: nothing that userland needs to be read."""
    return package == "kernel" or package.startswith("kmod-")


def _no_original(package: Package) -> Path:
    raise LookupError(f"{package.name} is repacked, not made")


def _unpack(contents: Mapping[str, LocalPackage], root: Path) -> None:
    for each in contents.values():
        write_tree(each.tree, root)
