"""Wheels that are built of sources: pure ones, ones without their extensions, and ones that are compiled for
the target; kept in the cache by what they were built of and with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.host.handover import temporary_folder
from imagebuilder.log import Log
from imagebuilder.python.build.host_build import Bench, BuildOptions, HostBuildError, build_wheel
from imagebuilder.python.build.host_build_source import lay_source
from imagebuilder.python.build.native_source import SourceFacts, source_facts
from imagebuilder.python.build.zig import NoCompilerError, Toolchain, has_time32
from imagebuilder.python.wheels.compiled import compiled_wheel
from imagebuilder.python.wheels.target import WheelTarget, native_hint
from imagebuilder.python.wheels.tree import NativeCodeError

BUILD_EPOCH = 1_577_836_800  # 2020: a wheel's files must not be older than 1980, and all else does not matter
PURE = "pure"
AS_IT_IS = BuildOptions()
_SHOWN_FILES = 3
# what a compiler or a linker says is wrong, and what setuptools says of it then
_WRONG = re.compile(r"(?:: (?:fatal )?error: |undefined symbol: )(?!command )")
_SHOWN_LINES, _MOST_LINE = 3, 300
# of this machine, not of the source: such a failure may be gone the next time
_PASSING = re.compile(r"No space left|[Oo]ut ?[Oo]f ?[Mm]emory|Cannot allocate|Killed|[Ss]ignal|Errno")
_REFUSAL = "refusal.json"
FilePlace = Callable[[str, str], Path]


def no_compiler() -> Toolchain:
    """Stands for a compiler where none is wanted. NoCompilerError, always."""
    raise NoCompilerError("nothing is compiled here", hint="build an image with it")


class NativeSourceError(UserError):
    """A source distribution with code that has to be compiled for the target. files: such files in it;
    lasting: it will not compile the next time either, with the same compiler."""

    def __init__(
        self, name: str, files: Sequence[str], why: str, hint: str, *, lasting: bool = False
    ) -> None:
        more = ", ..." if len(files) > _SHOWN_FILES else ""
        shown = f" ({', '.join(files[:_SHOWN_FILES])}{more})" if files else ""
        super().__init__(
            f"'{name}' is to be had as a source distribution only, and has code to compile for the "
            f"target{shown}: {why}",
            hint=hint,
        )
        self.files, self.why, self.lasting = tuple(files), why, lasting


class CompilerChangedError(UserError):
    """What a lock says of compiling is not what is here."""


@dataclass(frozen=True, slots=True)
class Built:
    """A wheel, and how it was made: "" of a source without native code, PURE without its extensions, else
    what it was compiled with (Toolchain.key)."""

    path: Path
    how: str


@dataclass(frozen=True, slots=True)
class SourceBuilds:
    """Builds wheels. compiler: the one for the target, NoCompilerError where there is none; named: a file of
    the cache under its own name."""

    cache: Cache
    log: Log
    offline: bool
    compiler: Callable[[], Toolchain]
    named: FilePlace

    def wheel(
        self, source: Path, key: str, target: WheelTarget, how: str = "", *, options: BuildOptions = AS_IT_IS
    ) -> Built:
        """The wheel of a project's folder or an sdist. key: what tells this source, and what of it is built,
        from all others, its name first; how: as it has to be made, "" for as it can be: compiled where it has
        native code, without it where it shows that it does without and nothing compiles here.

        NativeSourceError, before anything is built where the source tells, for native code that cannot be
        compiled, also where that was seen before; CompilerChangedError, NoCompilerError, HostBuildError,
        NativeCodeError, WheelError.
        """
        name = key.partition(" ")[0]
        toolchain = self._the_locked(name, how) if how not in ("", PURE) else None
        known = self.known(key, how)
        if known is not None:
            return known
        with (
            self.cache.lock(f"wheel of {key}", f"building {name}", self.log),
            temporary_folder("scratch") as scratch,
        ):
            laid = lay_source(source, scratch)
            facts = source_facts(laid / options.folder)
            refused: NoCompilerError | None = None
            if how == "" and facts.native:
                try:
                    toolchain = self._toolchain(name, facts, target)
                except NoCompilerError as error:
                    refused = error
                how = PURE if toolchain is None else toolchain.key
                known = self.known(key, how)
                if known is not None:
                    return known
            refusal = f"refusal of {_name(key, how)}"
            if toolchain is not None:
                self._refused_before(name, refusal)
            self.log.progress(f"building {name}" if toolchain is None else f"compiling {name}")
            job = _Build(name, laid, facts, target, scratch / "bench", toolchain, refused, options)
            try:
                path = job.run(self, pure=how == PURE)
            except NativeSourceError as error:
                if error.lasting:
                    told = {"files": error.files, "why": error.why, "hint": error.hint}
                    self.cache.remember(refusal, {_REFUSAL: self.cache.add(json.dumps(told).encode())})
                raise
            made = PURE if toolchain is not None and _is_pure(path) else how
            self._kept(key, how, path)  # so that what comes to nothing is not compiled again
            return self._kept(key, made, path)

    def known(self, key: str, how: str = "") -> Built | None:
        """What wheel() has built before, and the cache still has."""
        for wheel, sha256 in (self.cache.recall(_name(key, how), self.log) or {}).items():
            if self.cache.find(sha256, self.log) is not None:
                return Built(self.named(wheel, sha256), PURE if how and _is_pure(Path(wheel)) else how)
        return None

    def _refused_before(self, name: str, refusal: str) -> None:
        """NativeSourceError as it was raised when this source did not compile with this compiler."""
        sha256 = (self.cache.recall(refusal, self.log) or {}).get(_REFUSAL)
        data = None if sha256 is None else self.cache.read(sha256, self.log)
        if data is not None:
            told = json.loads(data)
            raise NativeSourceError(name, told["files"], told["why"], told["hint"], lasting=True)

    def log_of(self, name: str, output: str) -> Path:
        """Where all that a build said is kept."""
        return self.named(f"{name}-build.log", self.cache.add(output.encode("utf-8", "replace")))

    def _kept(self, key: str, how: str, path: Path) -> Built:
        sha256 = self.cache.add(path.read_bytes())
        self.cache.remember(_name(key, how), {path.name: sha256})
        return Built(self.named(path.name, sha256), how)

    def _the_locked(self, name: str, how: str) -> Toolchain:
        toolchain = self.compiler()
        if toolchain.key != how:
            raise CompilerChangedError(
                f"'{name}' is locked to be compiled by {how}, and here is {toolchain.key}",
                hint="install that version of ziglang, or resolve anew: lock, or build without --offline",
            )
        return toolchain

    def _toolchain(self, name: str, facts: SourceFacts, target: WheelTarget) -> Toolchain:
        """The compiler for a source with native code. NoCompilerError where the source may do without it,
        else NativeSourceError."""
        if facts.tools:
            why = f"its build wants {facts.tools}, and plain C alone is compiled here"
            raise NativeSourceError(name, facts.native, why, native_hint(name, target))
        try:
            return self.compiler()
        except NoCompilerError as error:
            if facts.needs_compiler:
                raise _lacking(name, facts, target, error) from error
            raise


def wrong_lines(output: str) -> list[str]:
    """The first few lines of a build's output in which a compiler or a linker says what is wrong."""
    wrong = (line.strip()[:_MOST_LINE] for line in output.splitlines() if _WRONG.search(line))
    return [*dict.fromkeys(wrong)][:_SHOWN_LINES]


def _is_pure(wheel: Path) -> bool:
    return all(tag.platform == "any" for tag in parse_wheel_filename(wheel.name)[3])


def _name(key: str, how: str) -> str:
    return f"{'pure wheel' if how == PURE else 'plain wheel' if how == '' else 'wheel by ' + how} of {key}"


def _lacking(name: str, facts: SourceFacts, target: WheelTarget, error: NoCompilerError) -> NativeSourceError:
    hint = f"{error.hint}; or {native_hint(name, target)}"
    if facts.setuptools:
        hint += f'; or {{ name = "{name}", pure = true }}, if it is of use without its native code'
    return NativeSourceError(name, facts.native, error.lacking, hint)


@dataclass(frozen=True, slots=True)
class _Build:
    """One build. toolchain: None where nothing is compiled, and refused says why not."""

    name: str
    laid: Path
    facts: SourceFacts
    target: WheelTarget
    scratch: Path
    toolchain: Toolchain | None
    refused: NoCompilerError | None
    options: BuildOptions

    def run(self, builds: SourceBuilds, *, pure: bool) -> Path:
        """The wheel's file. Errors of SourceBuilds.wheel()."""
        self.scratch.mkdir()
        bench = Bench(
            builds.cache.folder,
            self.scratch,
            BUILD_EPOCH,
            builds.offline,
            self.toolchain,
            extensions=not (pure and self.facts.setuptools),
        )
        try:
            built = build_wheel(self.laid, self.options, bench, builds.log)
        except HostBuildError as error:
            if not self.facts.native:
                raise
            wrong = wrong_lines(error.output)
            if not wrong or self.toolchain is None:
                raise self.refusal(error.message, error.hint) from error
            why = "\n".join(["it does not compile:", *wrong])
            why += f"\nthe whole log: {builds.log_of(self.name, error.output)}"
            lasting = _PASSING.search(error.output) is None
            raise self.refusal(why, error.hint, lasting=lasting) from error
        if _is_pure(built):
            return built
        try:
            exports = self.toolchain.exports if self.toolchain is not None else ()
            finished = compiled_wheel(
                built,
                self.target,
                exports,
                self.scratch / "compiled",
                time32=has_time32(self.target),
            )
        except NativeCodeError as error:
            if self.toolchain is not None:
                raise
            raise self.refusal("it builds to a wheel for this machine", None) from error
        if self.toolchain is None and not _is_pure(finished):
            raise self.refusal("it builds to a wheel for this machine", None)
        return finished

    def refusal(self, why: str, hint: str | None, *, lasting: bool = False) -> NativeSourceError:
        """What came of it, with what would help."""
        if self.refused is not None:
            return _lacking(self.name, self.facts, self.target, self.refused)
        ways = [hint] if hint is not None and self.toolchain is not None else []
        ways.append(native_hint(self.name, self.target))
        return NativeSourceError(self.name, self.facts.native, why, "; or ".join(ways), lasting=lasting)
