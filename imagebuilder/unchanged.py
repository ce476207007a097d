"""Whether what was built still is what a build would give, told without loading what builds: from the
`inputs.json` beside the images.

It says what decided the result and can change without anybody's doing (`direct`), each with a stamp
(host/stamps.py): this program and the libraries that it uses, the files of the project and of what comes
along that the config, its board and its overlays are read from, places where others would win if they were
there, apps and recipes, the ImageBuilder, feeds in folders, the lock, keys that are trusted, the user's
signing key, secrets (keyed), variables of the environment, and the host's programs. Where all of it is the
same and the result's files have the sums that were written down, the result is up to date.

What depends on a server has no such record: `indirect` says why. Then everything is decided anew, as for a
build, and the key tells whether the result is the same (made_of.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

import tomli

from imagebuilder.config.places import (
    FAILED_LOG,
    INPUTS,
    PROJECT_FILE,
    SECRETS,
    cache_folder,
    results_folder,
    shipped_folder,
)
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.host.handover import is_temporary
from imagebuilder.host.stamps import BUILDS, Looks, Stamp, read_key

if TYPE_CHECKING:
    from imagebuilder.config.request import Request

INPUTS_SCHEMA = 1
PACKAGE = Path(__file__).parent
NO_CODE = ("__pycache__",)  # of it: what Python compiles
MAX_INPUTS_BYTES = 64 << 20
RESULT = "result.json"
_DAMAGED = f"its {INPUTS} is damaged"
_INSTALLED = (".dist-info", ".egg-info")
State = Literal["up to date", "from the cache", "built"]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a request and a command line say alike, as config.request.Request has it."""

    imagebuilder: str | None = None
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    sandbox: bool = True
    locked: bool = False
    release: str | None = None
    accept_unchecked: bool = False
    python: str | None = None
    trial: bool = True


_WANTED = tuple(each.name for each in fields(_Wanted))


@dataclass(frozen=True, kw_only=True)
class ImageAsked(_Wanted):
    """What somebody asked for, in plain values. config: the absolute path of its file; imagebuilder: of a
    folder or archive here, else the address."""

    project: str
    config: str
    board: str
    output: str
    cache: str

    @property
    def place(self) -> Path:
        """Where its result is, or would be."""
        return Path(self.output) / Path(self.config).stem / self.board

    @property
    def failure_log(self) -> Path:
        """Where the log of a build of it that failed is, or would be."""
        return self.place.with_name(f"{self.place.name}{FAILED_LOG}")

    def facts(self) -> dict[str, Any]:
        """As inputs.json has it: all but where results are, which decides nothing of one."""
        return {**asdict(self), "mirrors": list(self.mirrors), "output": ""}


class DirectRecord(TypedDict):
    """What decided a result and can be looked at again (`direct` of inputs.json). asked: ImageAsked.facts();
    boards: those that the config names; environment: keyed digests of variables; libraries: as
    installed_libraries(); path: where programs are looked for before PATH; programs: as found_program() has
    each; stamps: of files and folders."""

    asked: dict[str, Any]
    boards: list[str]
    environment: dict[str, str]
    libraries: str
    path: str
    programs: dict[str, list[str]]
    stamps: list[Stamp]


def asked_for(request: Request) -> ImageAsked:
    """What a request asks for. UserError for an unknown config."""
    library = request.library
    return ImageAsked(
        project=str(library.root),
        config=str(library.config_path(request.config).absolute()),
        board=request.board,
        output=str(request.output.absolute()),
        cache=str(request.cache.absolute()),
        **_wanted(request),
    )


def _wanted(said: Request | Options) -> dict[str, Any]:
    """What either says, by the names that ImageAsked has for it."""
    wanted = {name: getattr(said, name) for name in _WANTED}
    python = None if said.python is None else str(said.python)
    return {**wanted, "imagebuilder": absolute_tree(said.imagebuilder), "python": python}


def absolute_tree(given: str | None) -> str | None:
    """An ImageBuilder that was given, whatever the current folder is later. A `..` stays: behind a link it is
    not the folder before it."""
    if given is None or "://" in given:
        return given
    return str(expand_home(given).absolute())


@dataclass(frozen=True)
class Standing:
    """Whether the result of what was asked for is up to date. why: what is not, or why that cannot be told
    without deciding everything anew; "" where it is."""

    asked: ImageAsked
    up_to_date: bool
    why: str = ""

    def result(self) -> dict[str, Any]:
        """What its result.json says. OSError, ValueError where that is gone by now."""
        return cast("dict[str, Any]", json.loads((self.asked.place / RESULT).read_bytes()))


@dataclass
class Standings:
    """Tells standings for one command: what several results depend on is looked at once."""

    cache: Path
    _looks: Looks | None = field(default=None, repr=False)
    _programs: dict[tuple[str, str], list[str]] = field(default_factory=dict, repr=False)
    _libraries: str = field(default="", repr=False)

    def looks(self) -> Looks | None:
        """None where the cache has no key: nothing was built with it yet."""
        if self._looks is None:
            key = read_key(self.cache)
            self._looks = None if key is None else Looks(key)
        return self._looks

    def standing(self, asked: ImageAsked) -> Standing:
        """Whether its result is up to date. Nothing is printed, fetched or written."""
        why = self._difference(asked)
        return Standing(asked, why is None, why or "")

    def _difference(self, asked: ImageAsked) -> str | None:
        record = read_inputs(asked.place)
        if record is None:
            return no_inputs(asked.place)
        direct, looks = record.get("direct"), self.looks()
        if looks is None:
            return "the cache that it was built with is gone"
        if not isinstance(direct, dict):
            return str(record.get("indirect") or "it has to be decided anew")
        try:
            changed = next(self._changes(direct, asked, looks), None)
            return changed or next(damaged(asked.place, record), None)
        except (KeyError, TypeError, AttributeError, ValueError):
            return _DAMAGED

    def _changes(self, direct: Mapping[str, Any], asked: ImageAsked, looks: Looks) -> Iterator[str]:
        """What is not as it was, in words."""
        old, new = direct["asked"], asked.facts()
        yield from (f"it was built with another {name}" for name in new if old.get(name) != new[name])
        for name, value in direct["environment"].items():
            if looks.keyed(os.environ.get(name, "").encode("utf-8", "surrogateescape")) != value:
                yield f"the environment's {name} is another one"
        self._libraries = self._libraries or installed_libraries()
        if direct["libraries"] != self._libraries:
            yield "the libraries that this program uses are others"
        where = f"{direct['path']}:{os.environ.get('PATH', '')}"
        for name, found in direct["programs"].items():
            if (name, where) not in self._programs:
                self._programs[name, where] = list(found_program(name, where))
            if self._programs[name, where] != found:
                yield f"the host's {name} is another one"
        for stamp in cast("list[Stamp]", direct["stamps"]):
            if not looks.same(stamp):
                yield f"{stamp['path']} {'is there' if stamp['kind'] == 'absent' else 'changed'}"


def standing(asked: ImageAsked) -> Standing:
    """Whether one result is up to date; Standings for several of one command."""
    return Standings(Path(asked.cache)).standing(asked)


def read_inputs(place: Path) -> dict[str, Any] | None:
    """What inputs.json of a result says; None where there is none that this version can read."""
    record = _read(place)
    return record if record.get("schema_version") == INPUTS_SCHEMA else None


def no_inputs(place: Path) -> str:
    """Why read_inputs() finds nothing in a place."""
    if not os.path.lexists(place / RESULT):
        return "there is no result yet"
    if not os.path.lexists(place / INPUTS):
        return "it was built by a version that kept no record"
    is_other = isinstance(_read(place).get("schema_version"), int)
    return "it was built by another version of this program" if is_other else _DAMAGED


def _read(place: Path) -> dict[str, Any]:
    """What inputs.json of a result says; nothing where it cannot be read, or is no object."""
    try:
        with (place / INPUTS).open("rb") as stream:
            record = json.loads(stream.read(MAX_INPUTS_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def damaged(place: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """What of a result's files is not what was handed over, a line each; read side by side."""
    files: Mapping[str, Mapping[str, Any]] = record["files"]
    if not files:
        yield f"its {INPUTS} names no files"
        return

    def problem(name: str) -> str | None:
        try:
            with open(place / name, "rb") as stream:  # noqa: PTH123
                status = os.fstat(stream.fileno())
                known = files[name]
                if not stat.S_ISREG(status.st_mode) or status.st_size != known["size"]:
                    return f"{name} is not what was handed over"
                if hashlib.file_digest(stream, "sha256").hexdigest() != known["sha256"]:
                    return f"{name} is not what was handed over"
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        return None

    with ThreadPoolExecutor(2) as pool:
        yield from filter(None, pool.map(problem, files))


def found_program(name: str, path: str) -> tuple[str, str]:
    """Where a host program is in a PATH, and what tells it from another version: its size and its time, which
    distributions' packages bring along. Two empty texts where there is none."""
    place = shutil.which(name, path=path)
    if place is None:
        return "", ""
    status = os.stat(place)  # noqa: PTH116
    return place, f"{status.st_size} {status.st_mtime_ns}"


def installed_libraries() -> str:
    """A digest of the names and versions of all Python packages that are installed where this program looks
    for them, as the names of their folders say them."""
    names: set[str] = set()
    for folder in sys.path:
        if folder.endswith(("/site-packages", "/dist-packages")):
            with suppress(OSError), os.scandir(folder) as entries:
                names.update(entry.name for entry in entries if entry.name.endswith(_INSTALLED))
    text = "\n".join(sorted(names))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Options(_Wanted):
    """What a command line says of the images to be built, before a config is read."""

    output: Path | None = None
    cache: Path | None = None


def all_up_to_date(
    root: Path, configs: Sequence[str], boards: Sequence[str], options: Options
) -> list[Standing] | None:
    """The standings of all images that somebody asks for, if all of them are up to date; else None, and also
    where which images that are has to be read from files that changed. root: the project's folder; boards:
    those that were named, by default the configs' own. None also where a killed build left something behind,
    which the next one removes."""
    places = _folders(root, options)
    if places is None or not configs:
        return None
    output, cache = places
    if _left_behind(output, cache, configs):
        return None
    standings = Standings(cache)
    found: list[Standing] = []
    for name in dict.fromkeys(configs):
        known = _boards_known(root, output, name)
        if known is None:
            return None
        config, of_config = known
        for board in dict.fromkeys(boards or of_config):
            asked = ImageAsked(
                project=str(root),
                config=config,
                board=board,
                output=str(output),
                cache=str(cache),
                **_wanted(options),
            )
            found.append(standings.standing(asked))
            # the log of a failed one is removed by what builds
            if not found[-1].up_to_date or os.path.lexists(asked.failure_log):
                return None
    return found


def _folders(root: Path, options: Options) -> tuple[Path, Path] | None:
    """The folders for results and of the cache; None where firmware.toml cannot be read: whoever reads it
    well says why."""
    said: Mapping[str, Any] = {}
    place = root / PROJECT_FILE
    if os.path.lexists(place):
        try:
            said = tomli.loads(place.read_text("utf-8"))
        except (OSError, ValueError):
            return None
    words = [said.get(name) for name in ("output", "cache")]
    if not all(word is None or (isinstance(word, str) and word) for word in words):
        return None
    try:
        output = results_folder(root, words[0]) if options.output is None else options.output.absolute()
        cache = cache_folder(root, words[1]) if options.cache is None else options.cache.absolute()
    except UserError:
        return None
    return output, cache


def _left_behind(output: Path, cache: Path, configs: Sequence[str]) -> bool:
    """Whether something temporary lies where builds work, of one that was killed or of another that runs."""
    folders = [output, *(output / _stem(name) for name in configs), cache, cache / BUILDS]
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            if any(entry.name.startswith(".") and is_temporary(entry.name) for entry in entries):
                return True
    return False


def _stem(config: str) -> str:
    """The name of a config that is given by its name or its file."""
    return Path(config).stem if config.endswith(".toml") else config


def _boards_known(root: Path, output: Path, name: str) -> tuple[str, list[str]] | None:
    """The file of a config and the boards that it names, as one of its results says: that is true where the
    result is up to date. None where there is none."""
    stem = _stem(name)
    if "/" in stem:
        return None
    wanted = (
        {os.path.abspath(name)}  # noqa: PTH100
        if name.endswith(".toml")
        else {str(layer / f"configs/{name}.toml") for layer in (root, shipped_folder())}
    )
    for place in sorted((output / stem).glob(f"*/{INPUTS}")):
        direct = (read_inputs(place.parent) or {}).get("direct")
        if not isinstance(direct, dict):
            continue
        asked, boards = direct.get("asked"), direct.get("boards")
        config = str(asked.get("config")) if isinstance(asked, dict) else ""
        # of a result that is looked at itself: a board that was named by --board only says nothing
        if config in wanted and isinstance(boards, list) and place.parent.name in boards:
            return config, [str(board) for board in boards]
    return None


def shadowing(root: Path, files: Iterable[Path]) -> Iterator[Path]:
    """The places of a project at which a file would be read in place of each of those that come along, and
    its own file and its secrets where it has none."""
    shipped = shipped_folder()
    for path in files:
        if path.is_relative_to(shipped) and not path.is_relative_to(root):
            yield root / path.relative_to(shipped)
    yield from (root / name for name in (PROJECT_FILE, SECRETS))
