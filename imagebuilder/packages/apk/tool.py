"""The tree's own `apk` (3, from 25.12 on), run in the private view: it makes indexes, and says what goes in.

What 25.12's Makefile asks of it is written down here as well, so that a plan asks the same: names with their
ABI version (packages/apk/apk.py, with_abi_suffixes), and three packages pinned to the versions of the tree.
Source: target/imagebuilder/files/Makefile (BUILD_PACKAGES, FormatPackages, package_index, package_install).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.beneath import read_beneath
from imagebuilder.host.fs import text_of
from imagebuilder.host.run import Completed, clean_environment, run
from imagebuilder.host.sandbox import PrivateView, scratch_folder
from imagebuilder.log import Log
from imagebuilder.model.tree import TreeError
from imagebuilder.packages.resolution import PlanError

PROGRAM = "staging_dir/host/bin/apk"
INDEX = "packages.adb"
OWN_PACKAGES = "packages"  # in the tree
PRIVATE_KEY = "keys/local-private-key.pem"  # what the Makefile signs packages/packages.adb with
APK_SECONDS = 300.0
MOST_INDEX = 256 << 20  # bytes of an index that it makes
# what make installs whatever the lists say, each at the version that include/version.mk names
PINNED = {"base-files": "BASE_FILES_VERSION", "libc": "LIBC_VERSION", "kernel": "KERNEL_VERSION"}

_VERSION_LINE = re.compile(r"(?m)^([A-Z_]+_VERSION)[ \t]*:=[ \t]*(\S+)[ \t]*$")
_INSTALLING = re.compile(r"^\( *(\d+)/(\d+)\) Installing (\S+) \((\S+)\)$")
_UNREADABLE = "WARNING: opening "
_ERROR = "ERROR: "
# the database that apk asks for is made as the Makefile makes the root file system's
_SIMULATE = """\
set -e
"$@" --initdb >/dev/null
names="$(cat "$NAMES")"
exec "$@" --simulate --repositories-file "$REPOSITORIES" $names
"""


class ApkError(UserError):
    """The tree's apk did not do what it was asked for."""


class ApkRefusalError(ApkError, PlanError):
    """apk cannot install these packages together. words: what it says of that."""

    def __init__(self, words: str) -> None:
        self.words = words
        super().__init__(
            f"the tree's apk cannot install these packages together:\n{words}",
            hint="take one of those that it names out of the packages, or look whether a feed is missing",
        )


def pinned_versions(tree: Path) -> dict[str, str]:
    """The packages that the tree's Makefile pins, which cannot be removed, and their versions; none in a tree
    that pins nothing. TreeError where it does and does not say the version."""
    makefile = text_of(tree / "Makefile")
    place = tree / "include/version.mk"
    stated = _VERSION_LINE.findall(text_of(place))
    versions = dict(stated)
    pins = {name: key for name, key in PINNED.items() if f'"{name}=$({key})"' in makefile}
    missing = [key for key in pins.values() if key not in versions]
    if missing:
        raise TreeError(
            f"{place} has no line {missing[0]}:=…, which the Makefile pins a package to",
            hint="the tree is damaged: unpack it again",
        )
    return {name: versions[key] for name, key in pins.items()}


def stays_although_removed(removed: Iterable[str], pinned: Iterable[str]) -> tuple[str, ...]:
    """Of the names that were removed, those that make installs all the same."""
    pins = set(pinned)
    return tuple(name for name in removed if name in pins)


def words_for_apk(names: Iterable[str], pinned: Mapping[str, str], pins: Mapping[str, str]) -> list[str]:
    """What apk is asked for. names: in ImageBuilder's order, each as apk knows it; pinned: by the tree, see
    pinned_versions(); pins: versions that the user wants of some of the names."""
    wanted = [f"{name}={pins[name]}" if name in pins else name for name in names]
    return [*wanted, *(f"{name}={version}" for name, version in pinned.items())]


def make_index(
    view: PrivateView, work: Path, files: Sequence[Path], log: Log, *, sign_with: str | None
) -> bytes:
    """A `packages.adb` of package files, made by the tree's apk. files: as programs in the view see them;
    sign_with: a private key's file, from the tree's folder, or None. ApkError, in apk's own words."""
    with scratch_folder(work) as scratch:
        inside = view.work / "tmp" / scratch.name
        argv = ["mkndx", "--allow-untrusted", "--output", str(inside / INDEX)]
        if sign_with is not None:
            argv += ["--sign", str(view.tree / sign_with)]
        done = _apk(view, [PROGRAM, *argv, *map(str, files)], log, HOME=str(inside))
        place = scratch / INDEX
        if done.code != 0 or not place.exists():
            raise ApkError(f"the tree's apk could not make an index:\n{_words(done)}")
        return read_beneath(scratch, INDEX, MOST_INDEX)


def plan_install(
    view: PrivateView, work: Path, indexes: Sequence[bytes], words: Sequence[str], log: Log, *, arch: str
) -> tuple[tuple[str, str], ...]:
    """Names and versions of what apk would install into an empty root for these words, in its order,
    dependencies first. Names have their ABI version.

    indexes: of the tree's own packages, then of the feeds; trusted by whoever gives them, so apk looks at no
    signature. work: the folder that the view shows as view.work. ApkRefusalError where the words cannot be
    had together; ApkError.
    """
    with scratch_folder(work) as scratch:
        inside = view.work / "tmp" / scratch.name
        lines = []
        for number, data in enumerate(indexes):
            place = scratch / "indexes" / str(number) / INDEX
            place.parent.mkdir(parents=True)
            place.write_bytes(data)
            lines.append(f"{inside}/indexes/{number}/{INDEX}\n")
        (scratch / "repositories").write_text("".join(lines), "utf-8")
        (scratch / "names").write_text("".join(f"{_plain(word)}\n" for word in words), "utf-8")
        (scratch / "root").mkdir()
        options = ["--root", str(inside / "root"), "--arch", arch, "--allow-untrusted", *_as_user(view)]
        options += ["--no-network", "--no-cache", "--no-logfile"]
        done = _apk(
            view,
            ["sh", "-c", _SIMULATE, "simulate", PROGRAM, "add", *options],
            log,
            HOME=str(inside),
            NAMES=str(inside / "names"),
            REPOSITORIES=str(inside / "repositories"),
        )
    return _planned(done)


def _planned(done: Completed) -> tuple[tuple[str, str], ...]:
    """What `apk add --simulate` says that it would do."""
    said = _words(done)
    if done.code != 0:
        first, _, more = said.removeprefix(_ERROR).partition("\n")
        if first.startswith("unable to select packages"):
            raise ApkRefusalError(more)
        raise ApkError(f"the tree's apk could not plan an installation:\n{said}")
    unreadable = [line for line in said.splitlines() if line.startswith(_UNREADABLE)]
    if unreadable:
        raise ApkError(f"the tree's apk cannot read an index: {unreadable[0].removeprefix(_UNREADABLE)}")
    found = [match for line in done.stdout.splitlines() if (match := _INSTALLING.match(line))]
    if [match[1] for match in found] != [str(number) for number in range(1, len(found) + 1)] or any(
        match[2] != str(len(found)) for match in found
    ):
        raise ApkError(f"the tree's apk says something that is not understood:\n{said}")
    return tuple((match[3], match[4]) for match in found)


def _plain(word: str) -> str:
    """A word for apk. ApkError where a shell or apk would take it for something else."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._~=<>:/,-]*", word):
        raise ApkError(f"'{word}' is no name of a package")
    return word


def _apk(view: PrivateView, argv: Sequence[str], log: Log, **variables: str) -> Completed:
    return run(
        view.command(argv),
        env=clean_environment(**variables),
        timeout=APK_SECONDS,
        check=False,
        log=log,
        watch=view.watch("apk"),
    )


def _words(done: Completed) -> str:
    """All that it printed, errors first."""
    return "\n".join(part.rstrip() for part in (done.stderr, done.stdout) if part.strip())


def _as_user(view: PrivateView) -> list[str]:
    """In namespaces of our own we are root; apk wants to be told where we are not."""
    plain = view.kind == "copy" and not view.sandboxed
    return ["--usermode"] if plain and os.geteuid() != 0 else []
