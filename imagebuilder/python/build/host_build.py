"""Building Python projects on this machine: a folder or an sdist becomes a wheel, or what setup.py installs.

The project's own code runs, so it runs in the sandbox: without network, without anything of the user's, with
this machine's Python and nothing but what the build requires. Requirements are fetched before, as wheels, so
that none of their code runs outside either. A compiler is to be had where a bench has one, for the target;
elsewhere a project with C code fails, or leaves out what it can do without.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from imagebuilder.config.app import PythonPackageUse
from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.files import read_plain
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import appear, temporary_folder
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import TAIL_LINES, Completed, clean_environment, run
from imagebuilder.host.sandbox import scratch_folder, shut_in
from imagebuilder.log import Log
from imagebuilder.model.filespec import site_packages
from imagebuilder.python.requirements.index_pip import pip

if TYPE_CHECKING:
    from pyproject_hooks import BuildBackendHookCaller

    from imagebuilder.python.build.zig import Toolchain

# runs a script with what the build requires: not PYTHONPATH, since .pth files there count, as setuptools' do
_WITH_SITE = """
import os, runpy, site, sys
place, *sys.argv = sys.argv[1:]
site.addsitedir(place)
sys.path[:0] = [os.path.dirname(os.path.abspath(sys.argv[0])), place]
"""
# what Python runs as it starts: programs of the build that start it once more get the same
_CHILD = """
import os, site, sys
place = {site!r}
site.addsitedir(place)
sys.path.insert(0, place)
"""
_RUN = 'runpy.run_path(sys.argv[0], run_name="__main__")'
# setuptools asks this before it builds extensions, and before it tells a wheel's tags
_WITHOUT_EXTENSIONS = """
import setuptools
setuptools.Distribution.has_ext_modules = lambda self: False
"""
_FOR_MACHINE = """
here = os.uname()
os.uname = lambda: os.uname_result((*here[:4], {machine!r}))
"""
BUILD_SECONDS = 1800.0
# what clang and zig's linker say
_LACKING = re.compile(r"fatal error: '([^']+)' file not found|unable to find \w+ system library '([^']+)'")
_NESTED = "error: function definition is not allowed here"  # clang's words
# what a project without pyproject.toml, or without a build backend in it, is built with (PEP 517)
LEGACY_BACKEND, LEGACY_REQUIRES = "setuptools.build_meta:__legacy__", ("setuptools>=40.8.0",)
SETUP_ARGS = ("--single-version-externally-managed",)
_PROJECT_TEXTS = ("pyproject.toml", "setup.cfg")
_NO_COMPILER = dict.fromkeys(("CC", "CXX", "LD", "LDSHARED", "CPP"), "false")


class HostBuildError(UserError):
    """A project that cannot be built here. output: all that the build said, where a program of it failed."""

    def __init__(self, message: str, *, hint: str | None = None, output: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output = output


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a project is built, see PythonPackageUse. folder: within its source; requires: what it needs
    besides what it states."""

    folder: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    setup_py: bool = False
    global_args: tuple[str, ...] = ()
    args: tuple[str, ...] = SETUP_ARGS
    settings: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """Where building goes on. cache: keeps what builds require; scratch: an empty folder, which must stay as
    long as the result is used. epoch: SOURCE_DATE_EPOCH in seconds since 1970; offline: fetch nothing.
    compiler: for the target; extensions: whether setuptools builds them at all."""

    cache: Path
    scratch: Path
    epoch: int
    offline: bool = False
    compiler: Toolchain | None = None
    extensions: bool = True


@dataclass(frozen=True, slots=True)
class BuildBackend:
    """How a project is built (PEP 517). requires: what its build needs."""

    name: str
    path: tuple[str, ...]
    requires: tuple[str, ...]


def options_of(use: PythonPackageUse) -> BuildOptions:
    """A recipe's options."""
    return BuildOptions(
        folder=use.setup_dir,
        variables=use.setup_vars,
        setup_py=use.setup_py,
        global_args=use.setup_global_args,
        args=use.setup_args if "setup_args" in use.model_fields_set else SETUP_ARGS,
        settings=use.config_settings,
        requires=use.build_requires,
    )


def build_wheel(source: Path, options: BuildOptions, bench: Bench, log: Log) -> Path:
    """Build the project in the folder `source`, of which nobody else has need: building writes into it.

    Returns the wheel's file. HostBuildError with what the build said last, and, offline, for requirements
    that the cache has not; PythonIndexError for those that cannot be had as wheels; HostError where there is
    no sandbox or no pip.
    """
    backend = build_backend(source, options)
    job = _Job(source, options, bench, log)
    job.install((*backend.requires, *options.requires))
    hooks, settings = job.hooks(backend), dict(options.settings) or None
    more: object = hooks.get_requires_for_build_wheel(settings)  # the project's own code says what it likes
    if not isinstance(more, list) or not all(isinstance(each, str) for each in more):
        raise HostBuildError(f"{source}: its build backend asks for {more!r}", hint="that is a fault of it")
    job.install(tuple(more))
    made: object = hooks.build_wheel(str(bubblewrap.WORK / "bin"), settings)
    wheel = bench.scratch / "work/bin" / str(made)
    if not isinstance(made, str) or "/" in made or not wheel.is_file():
        raise HostBuildError(f"{source}: its build backend made no wheel", hint="that is a fault of it")
    return wheel


def install_setup_py(source: Path, options: BuildOptions, bench: Bench, log: Log, *, python: str) -> Path:
    """Run setup.py of the project in the folder `source`, as build_wheel() builds; the folder that stands
    for the device's root. python: the target's, "3.11". Errors as of build_wheel()."""
    if not (source / options.folder / "setup.py").is_file():
        raise HostBuildError(
            f"{source / options.folder} has no setup.py",
            hint="leave out setup_py, or say where it is: setup_dir",
        )
    job = _Job(source, options, bench, log)
    job.install((*LEGACY_REQUIRES, *options.requires))
    root = bubblewrap.WORK / "bin"
    places = ["--prefix=/usr", f"--root={root}", f"--install-lib={site_packages(python)}"]
    places += ["--install-scripts=/usr/bin", "--install-data=/usr"]
    arguments = [*options.global_args, "install", *places, *options.args]
    job.run("setup.py", arguments)
    return bench.scratch / "work/bin"


class _Job:
    """One build: its sandbox, and what was installed for it."""

    def __init__(self, source: Path, options: BuildOptions, bench: Bench, log: Log) -> None:
        self.source, self.options, self.bench, self.log = source, options, bench, log
        self.work = bench.scratch / "work"
        self.site = bench.scratch / "site"
        with disk_errors_explained(bench.scratch):
            for folder in (self.site, *(self.work / name for name in ("bin", "home", "tmp", "files"))):
                folder.mkdir(parents=True)
        readable, self.variables = [self.site, Path(sys.base_prefix)], dict(_NO_COMPILER)
        if bench.compiler is not None:
            from imagebuilder.python.build.zig import lay_compiler  # noqa: PLC0415 (few builds compile)

            self.variables = lay_compiler(bench.compiler, self.work / "files", base_python())
            readable.append(bench.compiler.zig.program.parent)
        _without_marks(source / options.folder)
        (self.work / "files" / "start").mkdir()
        child = "".join((_CHILD.format(site=str(self.site)), *self.changes()))
        (self.work / "files" / "start" / "sitecustomize.py").write_text(child, "utf-8")
        self.prefix = shut_in(source, self.work, readable=readable)

    def install(self, requires: Sequence[str]) -> None:
        """Install requirements of the build where the sandbox sees them."""
        wanted = sorted({each for each in requires if _counts(each, self.source)})
        if not wanted:
            return
        wheels = _fetched(wanted, self.bench, self.log)
        argv = ["install", "--no-index", "--find-links", str(wheels), "--target", str(self.site), "--upgrade"]
        doing = f"installing what building {self.source.name} requires"
        pip([*argv, "--no-compile", *wanted], doing, cwd=self.bench.scratch, log=self.log)

    def hooks(self, backend: BuildBackend) -> BuildBackendHookCaller:
        """The hooks of a build backend (PEP 517), which run in the sandbox."""
        from pyproject_hooks import BuildBackendHookCaller  # noqa: PLC0415 (a plan calls none)

        folder = str(bubblewrap.TREE / self.options.folder)
        try:
            return BuildBackendHookCaller(folder, backend.name, backend.path, self.run_hook)
        except ValueError as error:
            raise HostBuildError(
                f"{self.source}: its backend-path is not within it: {error}", hint="that is a fault of it"
            ) from error

    def run_hook(
        self,
        cmd: Sequence[str],
        cwd: str | None = None,  # noqa: ARG002 - where all of a build's programs run
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        """How pyproject_hooks runs programs. cmd: Python, a script of its own, the hook's name, and a folder
        with the hook's input.json, where its output.json is looked for. The sandbox sees none of these, so
        they are carried there and back; of the output, which the project's own code can write, what the hook
        gave goes on, and nothing else."""
        _, script, hook, control = cmd
        # a folder anew each time: into one that the project's code had, it could have put links that lead out
        with disk_errors_explained(self.work), scratch_folder(self.work) as outside:
            inside = bubblewrap.WORK / "tmp" / outside.name
            shutil.copyfile(script, outside / "hook.py")
            shutil.copyfile(Path(control, "input.json"), outside / "input.json")
            done = self.run(str(inside / "hook.py"), (hook, str(inside)), **(extra_environ or {}))
            answer = outside / "output.json"
            there = answer.is_file() and not answer.is_symlink()
            try:
                told = json.loads(read_plain(answer)) if there else {}
            except ValueError as error:
                raise self.failed(done) from error
        if not isinstance(told, dict) or "return_val" not in told:
            raise self.failed(done)
        if told.get("no_backend"):
            why = [told[key] for key in ("backend_error", "traceback") if told.get(key)]
            raise self.failed(done, "\n".join(map(str, why)))
        Path(control, "output.json").write_text(json.dumps({"return_val": told["return_val"]}), "utf-8")

    def run(self, script: str, arguments: Sequence[str], **variables: str) -> Completed:
        """Run a Python script in the sandbox, in the project's folder. HostBuildError if it fails."""
        folder = str(bubblewrap.TREE / self.options.folder)
        # -S: no site-packages of this machine; what is required is in a folder of its own
        python = ("env", "--chdir", folder, base_python(), "-S", "-c", self.start())
        argv = [*self.prefix, *python, str(self.site), script, *arguments]
        env = {**self.environment(), **variables}
        places = (str(bubblewrap.WORK / "files" / "start"), env.get("PYTHONPATH", ""))
        env["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        watch = Watch(f"building {self.source.name}", self.bench.scratch)
        done = run(argv, env=env, check=False, log=self.log, timeout=BUILD_SECONDS, watch=watch)
        if done.code != 0:
            raise self.failed(done)
        return done

    def environment(self) -> dict[str, str]:
        return clean_environment(
            **{
                **{"HOME": str(bubblewrap.WORK / "home"), "TMPDIR": str(bubblewrap.WORK / "tmp")},
                **{"SOURCE_DATE_EPOCH": str(self.bench.epoch), "PYTHONHASHSEED": "0"},
                **{"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"},
                **self.variables,
                **self.options.variables,
            }
        )

    def start(self) -> str:
        """The text that runs a script."""
        return "".join((_WITH_SITE, *self.changes(), _RUN))

    def changes(self) -> Iterator[str]:
        """Texts that change what Python and setuptools say of this machine."""
        if self.bench.compiler is not None:
            yield _FOR_MACHINE.format(machine=self.bench.compiler.machine)
        if not self.bench.extensions:
            yield _WITHOUT_EXTENSIONS

    def failed(self, done: Completed, why: str = "") -> HostBuildError:
        """why: what it says by another way than its output."""
        said = (why.strip() or done.stderr.strip() or done.stdout).splitlines()[-TAIL_LINES:]
        hint = "put right what it names"
        if any("'false'" in line or "command false" in line or "false failed" in line for line in said):
            hint = (
                "it has C code, which has to be compiled for the device with OpenWrt's SDK, as a feed package"
            )
        elif any("ModuleNotFoundError" in line for line in said):
            hint = "name what it lacks in build_requires"
        elif (lacking := _LACKING.search(done.stderr + done.stdout)) is not None:
            hint = (
                f"it wants {next(filter(None, lacking.groups()))}, and of libraries only the C library is"
                " there: build it as a feed package with OpenWrt's SDK"
            )
        elif _NESTED in done.stderr + done.stdout:
            hint = (
                "it has functions within functions, which GCC alone compiles, and zig is clang: build it as a"
                " feed package with OpenWrt's SDK"
            )
        told = f"{self.source} cannot be built, saying last:\n" + "\n".join(said)
        return HostBuildError(told, hint=hint, output=f"{done.stdout}\n{done.stderr}")


def _without_marks(folder: Path) -> None:
    """Take the mark of UTF-8 from a project's files that its build backend would not read with it."""
    for place in (folder / name for name in _PROJECT_TEXTS):
        if place.is_file() and not place.is_symlink():
            data = read_plain(place)
            if data.startswith(codecs.BOM_UTF8):
                place.write_bytes(data.removeprefix(codecs.BOM_UTF8))


def build_backend(source: Path, options: BuildOptions) -> BuildBackend:
    """What pyproject.toml says of building. HostBuildError where it says nothing of use, or there is none;
    FaultsError, with the line, where it is no TOML."""
    place = source / options.folder / "pyproject.toml"
    if not place.is_file():
        if not (source / options.folder / "setup.py").is_file():
            raise HostBuildError(
                f"{source / options.folder} has neither a pyproject.toml nor a setup.py",
                hint="name the folder of the project, or say where it is within: setup_dir",
            )
        return BuildBackend(LEGACY_BACKEND, (), LEGACY_REQUIRES)
    table = read_toml(place).values.get("build-system", {})
    if not isinstance(table, dict):
        raise HostBuildError(f"{place}: its [build-system] is none", hint="see PEP 517 and PEP 518")
    name = table.get("build-backend", LEGACY_BACKEND)
    path, requires = table.get("backend-path", []), table.get("requires", list(LEGACY_REQUIRES))
    texts = [name, *path, *requires] if isinstance(path, list) and isinstance(requires, list) else [None]
    if not all(isinstance(each, str) for each in texts):
        raise HostBuildError(f"{place}: its [build-system] is none", hint="see PEP 517 and PEP 518")
    return BuildBackend(name, tuple(path), tuple(requires))


def _counts(requirement: str, source: Path) -> bool:
    """Whether a requirement of a build is one on this machine."""
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement as error:
        raise HostBuildError(
            f"{source} needs {requirement!r} to be built: {error}", hint="see PEP 508"
        ) from error
    if parsed.url is not None:
        raise HostBuildError(
            f"{source} needs {requirement!r} to be built, and addresses are not fetched",
            hint="require it by name and version",
        )
    return parsed.marker is None or parsed.marker.evaluate()


def _fetched(requires: Sequence[str], bench: Bench, log: Log) -> Path:
    """A folder of the cache with the wheels of requirements and of all that these require."""
    key = hashlib.sha256(repr((sys.version_info[:2], *requires)).encode()).hexdigest()
    place = bench.cache / "build-requires" / key
    if place.is_dir():
        return place
    if bench.offline:
        raise HostBuildError(
            f"building needs {', '.join(requires)}, which the cache has not",
            hint="build once without --offline",
        )
    log.progress(f"fetching what the build needs: {', '.join(requires)}")
    with disk_errors_explained(bench.cache), temporary_folder("new", place.parent) as fresh:
        argv = ["download", "--only-binary", ":all:", "--dest", str(fresh), *requires]
        pip(argv, f"fetching what the build requires ({', '.join(requires)})", cwd=fresh, log=log)
        with suppress(FileExistsError):  # another build has fetched the very same meanwhile
            appear(fresh, place)
    return place


def base_python() -> str:
    """The Python that ours is, outside of any virtual environment."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
