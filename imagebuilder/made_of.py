"""What a result is made of, its key, and what differs between two: `inputs.json`.

The key is one SHA-256 over all that decides the images and what is said of them:

- the program: its version, the bytes of its package (a changed checkout is another program), Python's
  version, and the versions of the libraries that it names (pyproject.toml)
- the lock that `lock` would write now: the tree with all that is in it, or its archive; make's variables and
  what make reads first; the board's keys; what overlays lay; every package with version, feed and SHA-256,
  those that are made here too (apps, wheels, recipes, shaken and repacked packages)
- what links in the tree lead to outside of it (trust/tree_identity.py, behind_tree())
- what is laid over the root file system in the end, with modes; of files that hold secrets a keyed digest,
  so that such a result is found again in the same cache alone
- the config, merged: filespecs, `trace`, budgets, names of images; and the board's file, merged with what the
  tree knows: how what was built is tried depends on it
- what somebody asked for that changes what is handed over: --no-sandbox, --accept-unchecked
- the host's programs that a build may call, by size and time
- the user's signing key, by its public half, where it signs images or the result's sums, or is what a
  tree's key is derived from

What a server, a feed or a folder says counts by what was taken of it. Not in it: where things lie, how long
they took, and the environment, of which make sees nothing (host/run.py, clean_environment()).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from pydantic import Field

from imagebuilder import __version__
from imagebuilder.config.model_config import Config
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.decide import Decided, Inputs, entry_of
from imagebuilder.host.run import CLEAN_PATH
from imagebuilder.host.stamps import Looks
from imagebuilder.host.tree_look import TreeLook
from imagebuilder.host.walk import walk
from imagebuilder.model.base import Model
from imagebuilder.model.package import Package
from imagebuilder.packages.lock import differences
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry
from imagebuilder.stage import Staged
from imagebuilder.tree.tree import settings_of
from imagebuilder.trust.signing_key import takes_a_key, user_keys, user_pair
from imagebuilder.trust.tree_identity import behind_tree, tree_identity
from imagebuilder.unchanged import INPUTS_SCHEMA, NO_CODE, PACKAGE, found_program

PROJECT = "openwrt-python-imagebuilder"
SIGN = "sign"  # of the options: firmware.toml's
# keys of configs that say where something is from, or are words for people, and why they decide nothing
CONFIG_LEFT_OUT: Mapping[str, str] = {
    "description": "words for people",
    "boards": "each has a result of its own",
    "release": "the tree that it came to is in the lock",
    "imagebuilder": "the tree is in the lock",
    "series": "what the tree is taken for shows in what is decided",
    "mirror": "what was fetched is in the lock",
    "trust": "the tree that was trusted is in the lock",
    "overlay": "what overlays lay is in it, with their secrets",
}


class ResultFile(Model):
    """A file of a result, beside inputs.json. size: bytes; mode: permission bits."""

    size: int
    sha256: str
    mode: int


class MadeOf(Model):
    """What a result is made of. program: the program and its libraries, by their versions or digests; lock:
    what `lock` would have written; behind: behind_tree() of a tree that somebody gave; laid: a digest of all
    that overlays lay but secrets, with modes; secrets: of each file that holds secrets, a keyed digest;
    config, board: digests of the keys of the merged config and of the board's file; options: what was asked
    for; host: programs, by size and time; signing: the number and the digest of the user's public key, ""
    where it signs nothing."""

    program: dict[str, str]
    lock: LockedBoard
    behind: str
    laid: str
    secrets: dict[str, str]
    config: dict[str, str]
    board: dict[str, str]
    options: dict[str, bool]
    host: dict[str, str]
    signing: str

    def key(self) -> str:
        """One SHA-256, in hex, over all of it."""
        facts = {**self.model_dump(mode="json", exclude={"lock"}), "lock": self.lock.digest}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class BuildInputs(Model):
    """The content of inputs.json. key: MadeOf.key(), "" where something changed while it was built,
    as `indirect` then says; files: the result's, by name; direct: what can be looked at to see that nothing
    changed (unchanged.DirectRecord), None where `indirect` says why there is none."""

    schema_version: int = INPUTS_SCHEMA
    builder: str = __version__
    key: str
    made_of: MadeOf
    files: dict[str, ResultFile]
    direct: dict[str, object] | None = None
    indirect: str = Field(default="")


def made_of(
    inputs: Inputs,
    decided: Decided,
    over: Staged,
    made: Mapping[str, Package],
    looks: Looks,
    *,
    options: Mapping[str, bool],
    programs: Iterable[str],
    look: TreeLook | None = None,
) -> MadeOf:
    """What the image that was decided so will be made of. over: what overlays lay; made: packages that were
    made here, by name; options: as MadeOf has them, with SIGN; programs: names of the host's; look: as
    tree_identity() takes it. Raises what entry_of() does, and for a damaged signing key what user_pair()
    does."""
    source, tree = decided.source, Path(decided.plan.tree.folder)
    sha256 = source.sha256 or tree_identity(tree, decided.job.cache, look=look)
    words = {path: _words(entry) for path, entry in over.tree.items()}
    path = f"{CLEAN_PATH}:{os.environ.get('PATH', '')}"
    return MadeOf(
        program=_program(looks),
        lock=entry_of(inputs, decided, made, tree_sha256=sha256),
        behind="" if source.sha256 else behind_tree(tree, look),
        laid=_digest({path: _sha256(each) for path, each in words.items() if path not in over.secrets}),
        secrets={path: looks.keyed(words[path]) for path in sorted(over.secrets)},
        config=_config_keys(inputs.loaded.config, looks),
        board={name: _digest(value) for name, value in decided.board.model_dump(mode="json").items()},
        options=dict(options),
        host={name: _program_words(*found_program(name, path)) for name in programs},
        signing=_signing(tree, sums=options[SIGN]),
    )


def _program_words(place: str, version: str) -> str:
    """Where a program is and what tells its version, as JSON can have it: a folder's name may be no UTF-8."""
    return os.fsencode(f"{place} {version}").decode("utf-8", "backslashreplace")


def _words(entry: Entry) -> bytes:
    text = content(entry) if entry.kind == "file" else os.fsencode(entry.target)
    return f"{entry.kind} {entry.mode:o} ".encode() + text


def _program(looks: Looks) -> dict[str, str]:
    """The versions of the program, of Python and of the libraries; the digest of the package's files."""
    return {
        PROJECT: __version__,
        "code": looks.kept(PACKAGE, NO_CODE, "code_digest", partial(code_digest, PACKAGE)),
        "Python": platform.python_version(),
        **_libraries(),
    }


def code_digest(folder: Path) -> str:
    """SHA-256, in hex, over the names, programs' bits and contents of a folder's files, without what
    Python compiles of them."""
    whole = hashlib.sha256()
    for item in walk(folder, enter=lambda path: path.rpartition("/")[2] not in NO_CODE):
        if item.is_file:
            program = item.status.st_mode & 0o111 != 0
            whole.update(f"{item.path}\0{program}\0{item.sha256()}\0".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _libraries() -> dict[str, str]:
    try:
        named = [Requirement(text) for text in metadata.requires(PROJECT) or ()]
    except metadata.PackageNotFoundError:  # run from sources that nobody installed
        return {each.name: each.version for each in metadata.distributions() if each.name}
    wanted = [each.name for each in named if each.marker is None]
    return {name: metadata.version(name) for name in wanted}


def _config_keys(config: Config, looks: Looks) -> dict[str, str]:
    """A digest of each key; keyed where an address stands in it, which can hold a password."""
    values = config.model_dump(mode="json", exclude=set(CONFIG_LEFT_OUT))
    texts = {name: json.dumps(value, sort_keys=True).encode() for name, value in values.items()}
    return {name: looks.keyed(text) if b"://" in text else _sha256(text) for name, text in texts.items()}


def _digest(value: object) -> str:
    return _sha256(json.dumps(value, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _signing(tree: Path, *, sums: bool) -> str:
    """sums: it signs those of the result."""
    if not sums and not takes_a_key(tree, settings_of(tree)):
        return ""
    pair = user_pair(user_keys())
    return f"{pair.number} {hashlib.sha256(pair.public()).hexdigest()}"


def changes(before: MadeOf, now: MadeOf) -> Iterator[str]:
    """Why what was built before does not do any more, a line each."""
    for name in sorted(before.program.keys() | now.program.keys()):
        old, new = before.program.get(name), now.program.get(name)
        if old != new and name == "code":
            if before.program.get(PROJECT) == now.program.get(PROJECT):
                yield f"{PROJECT} was changed"
        elif old != new:
            yield f"{name} is {new or 'gone'} now" + (f", and was {old}" if old else "")
    yield from differences(_without_builder(before), _without_builder(now))
    if before.behind != now.behind:
        yield "what links in the tree lead to is not what it was"
    yield from _changed("what overlays bring of secrets", before.secrets, now.secrets)
    if before.laid != now.laid and before.secrets == now.secrets and not _overlays_differ(before, now):
        yield "a mode of what overlays lay changed"
    yield from _keys("the config's", before.config, now.config)
    yield from _keys("the board's", before.board, now.board)
    for name, value in now.options.items():
        if before.options.get(name, False) != value:
            yield f"it is built {'with' if value else 'without'} {name} now"
    yield from _keys("this machine's", before.host, now.host)
    if before.signing != now.signing:
        yield "the signing key is another one"


def _without_builder(made: MadeOf) -> LockedBoard:
    """The lock as it is compared: the program's version is told above, the board's keys below."""
    parts = made.lock.parts.model_copy(update={"builder": "", "board": {}})
    return made.lock.model_copy(update={"parts": parts, "digest": parts.digest()})


def _overlays_differ(before: MadeOf, now: MadeOf) -> bool:
    return before.lock.parts.overlays != now.lock.parts.overlays


def _changed(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{what} changed: {name}"


def _keys(whose: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{whose} {name} changed"
