"""An environment of the lowest versions that pyproject.toml allows, for the tests.

pip takes the highest version of everything and has no option for the lowest, so the lower bounds are given to
it as constraints. A bound that is too low shows itself there, and not on a user's machine.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from imagebuilder.errors import HostError, UserError
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone, write_whole
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.refusals import explain_refusal
from imagebuilder.host.run import TAIL_LINES, ProgramError, run
from imagebuilder.log import Log

INSTALL_SECONDS = 900.0
# as build.py does it: a network that answers nothing is given up after half a minute. Nothing is compiled:
# what these versions have no package for takes long to build and fails late.
_PIP = {"PIP_RETRIES": "1", "PIP_TIMEOUT": "15", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
_INSTALL = ("install", "--only-binary", ":all:")


class NoIndexError(HostError):
    """No package index can be reached, and the environment is not there yet."""


def lowest_versions(pyproject: str) -> tuple[str, ...]:
    """pip's constraints `name==version` for what a project and its tests depend on. pyproject: the text of
    its pyproject.toml. UserError for a dependency without one lower bound."""
    project = tomllib.loads(pyproject)["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return tuple(dict.fromkeys(f"{each.name}=={_lowest(each)}" for each in map(Requirement, wanted)))


def _lowest(requirement: Requirement) -> str:
    bounds = [each.version for each in requirement.specifier if each.operator in (">=", "==", "~=")]
    if len(bounds) != 1 or bounds[0].endswith(".*") or not requirement.specifier.contains(bounds[0]):
        raise UserError(
            f"pyproject.toml: '{requirement}' does not say which version is the lowest that will do",
            hint=f"write {requirement.name}>=VERSION",
        )
    return bounds[0]


def lowest_environment(project: Path, cache: Path, log: Log) -> Path:
    """The Python of the environment in the cache, made where it is not there or not of these versions. The
    project is installed into it as it lies in its folder.

    NoIndexError where it would have to be fetched and cannot be; UserError and HostError where it cannot be
    made for another reason.
    """
    text = (project / "pyproject.toml").read_text("utf-8")
    versions = lowest_versions(text)
    folder = cache / "lowest"
    python, stamp = folder / "bin/python", folder / "installed"
    digest = hashlib.sha256(f"{project.resolve()}\n{sys.version}\n{text}".encode()).hexdigest()
    if stamp.is_file() and stamp.read_text("utf-8") == digest and python.exists():
        return python
    ready_cache(cache)

    def waiting() -> None:
        log.note("another process makes the same environment: waiting for it")

    with log.step("lowest versions"), disk_errors_explained(folder), alone(folder, waiting):
        if stamp.is_file() and stamp.read_text("utf-8") == digest and python.exists():
            return python
        run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], env=os.environ, log=log)
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(versions) + "\n", "utf-8")
        _install(python, constraints, f"{project}[test]", log)
        write_whole(stamp, digest.encode())  # last: what was interrupted is made anew
    return python


def _install(python: Path, constraints: Path, project: str, log: Log) -> None:
    """Call the pip that is at hand: this environment's, or that of the Python that it was made with."""
    host = sys.executable if find_spec("pip") else getattr(sys, "_base_executable", sys.executable)
    argv = [host, "-m", "pip", "--python", str(python), *_INSTALL]
    argv += ["--constraint", str(constraints), "--editable", project, "pip"]  # the builder calls its own pip
    environment = {**_PIP, **os.environ}
    done = run(argv, env=environment, timeout=INSTALL_SECONDS, check=False, log=log)
    if done.code == 0:
        return
    said = f"{done.stdout}\n{done.stderr}"
    refusal = explain_refusal(said, environment)
    if refusal is None:
        raise ProgramError(argv, done.code, "\n".join(said.splitlines()[-TAIL_LINES:]))
    said = f"the lowest versions cannot be had: {refusal.message}"
    if refusal.no_network:
        raise NoIndexError(said, hint=refusal.hint)
    raise HostError(said, hint=f"{refusal.hint}; versions that old are packaged for CPython 3.11 to 3.13")
