"""Reading an ImageBuilder tree: what it was built for, what `make info` says of it, and of which OpenWrt
series it is.

Where the version does not name the series, what is in the tree does: a fork calls its releases as it likes
(`r460`, `4.1`, a commit's number), but its makefiles are OpenWrt's. Each series brought something that every
later one has. Source: the branches lede-17.01 to openwrt-25.12 of OpenWrt's repository, and their releases
from .0 on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from imagebuilder.config.board import Board, Profile
from imagebuilder.config.releases import shipped_releases
from imagebuilder.host.fs import text_of
from imagebuilder.host.run import ProgramError
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.release import SNAPSHOT, Release, is_embedded
from imagebuilder.model.tree import Places, ProfileError, Tree, TreeError, TreeProfile
from imagebuilder.tree.ask_make import PROFILE_LINE, MakeAnswer, ask_make

# not packages/: from 21.02 on make does without, and git keeps no empty folder
_NEEDED = ("Makefile", ".config", ".targetinfo")
COMPLAINTS_SHOWN = 5
_INFO_HINT = "does `make info` work in a copy of it? It must be an ImageBuilder as OpenWrt ships it"
_TOO_OLD = "its make writes no manifest, so that nobody could tell which packages went into an image"
_NEEDED_BY = {"opkg": ("repositories.conf",), "apk": ("staging_dir/host/bin/apk",)}


def check_tree(folder: Path) -> None:
    """TreeError unless the folder holds an ImageBuilder."""
    if not folder.is_dir():
        raise TreeError(f"there is no folder {folder}")
    missing = [
        name for name in (*_NEEDED, *_NEEDED_BY[package_manager(folder)]) if not (folder / name).exists()
    ]
    if missing:
        raise TreeError(
            f"{folder} is no OpenWrt ImageBuilder: it has no {', no '.join(missing)}",
            hint="--imagebuilder wants an unpacked ImageBuilder, or its .tar.xz or .tar.zst archive",
        )


def package_manager(folder: Path) -> Literal["opkg", "apk"]:
    """What the tree installs packages with: opkg up to 24.10, apk from 25.12 on."""
    return "apk" if settings_of(folder).get("USE_APK") == "y" else "opkg"


def read_tree(
    folder: Path, opened: Callable[[], PrivateView], cache: Path, log: Log, *, series: str | None = None
) -> Tree:
    """What the tree says of itself, in its files and by its make (run in a view: it may write).

    opened: gives the view, where make is asked. series: of OpenWrt, as somebody says who knows it. TreeError
    if make fails, a fact is missing or the tree is older than 17.01; IncompleteTreeError.
    """
    check_tree(folder)
    if series is not None and not names_a_series(series):
        raise TreeError(
            f'series = "{series}": OpenWrt has none of that name that can be built',
            hint=f"known: {', '.join(sorted(known_series(), key=Release))};"
            " or leave it out, and the makefiles tell",
        )
    settings, makefile = settings_of(folder), text_of(folder / "Makefile")
    try:
        answer = ask_make(folder, opened, cache, log)
    except ProgramError as error:
        raise TreeError(f"`make info` failed in {folder}:\n{error.tail}", hint=_INFO_HINT) from error
    default_packages, profiles = parse_info(answer.info)
    if not profiles:
        raise TreeError(
            f"`make info` lists no profiles in {folder}{_said(answer.complaints)}", hint=_INFO_HINT
        )
    board, subtarget = settings.get("TARGET_BOARD"), settings.get("TARGET_SUBTARGET") or "generic"
    arch = settings.get("TARGET_ARCH_PACKAGES")
    if not board or not arch:
        raise TreeError(f"{folder}/.config names no target: CONFIG_TARGET_BOARD or _ARCH_PACKAGES is missing")
    version_mk, manager = text_of(folder / "include/version.mk"), package_manager(folder)
    version = answer.variables.get("VERSION_NUMBER") or settings.get("VERSION_NUMBER")
    version = _release_name(version or _default_of("VERSION_NUMBER", version_mk))
    computed = (
        "" if names_a_series(version) else _series(folder, makefile, apk=settings.get("USE_APK") == "y")
    )
    return Tree(
        folder=str(folder),
        distribution=settings.get("VERSION_DIST") or _default_of("VERSION_DIST", version_mk) or "OpenWrt",
        version=version,
        target=f"{board}/{subtarget}",
        arch=arch,
        package_manager=manager,
        default_packages=default_packages,
        profiles=profiles,
        disables_services="DISABLED_SERVICES" in makefile,
        sizes_rootfs=re.search(r"(?<!\w)ROOTFS_PARTSIZE", makefile) is not None,
        forces_overwrite=_forces_overwrite(folder, makefile),
        places=_places(answer),
        series=series or computed,
    )


def _forces_overwrite(folder: Path, makefile: str) -> bool:
    """Whether make calls opkg with --force-overwrite, as in 17.01; from 18.06 on it is called as rootfs.mk
    says, and is not."""
    texts = (makefile, text_of(folder / "include/rootfs.mk"))
    lines = (line for text in texts for line in text.splitlines())
    return any("--force-overwrite" in line.split("#")[0] for line in lines)


def _places(answer: MakeAnswer) -> Places:
    return Places(
        kernel=answer.place("KERNEL_BUILD_DIR"),
        linux=answer.place("LINUX_DIR"),
        root=answer.place("TARGET_DIR"),
        packages=answer.place("PACKAGE_DIR") or "packages",
        bin=answer.place("BIN_DIR"),
    )


def _series(folder: Path, makefile: str, *, apk: bool) -> str:
    """Of a tree whose version does not name it."""
    found = series_by_parts(folder, makefile, apk=apk)
    if found is None:
        raise TreeError(
            f"{folder} is an ImageBuilder from before {OLDEST}: {_TOO_OLD}",
            hint=f"use the ImageBuilder of a newer release for the same device, {OLDEST} or later",
        )
    return found


def _said(complaints: str) -> str:
    lines = complaints.splitlines()[-COMPLAINTS_SHOWN:]
    return ", but says:\n" + "\n".join(lines) if lines else ""


def parse_info(text: str) -> tuple[tuple[str, ...], dict[str, TreeProfile]]:
    """The default packages and the profiles that `make info` prints: a name with a colon, then indented
    lines: the title (which may be missing), `Packages:` and, in newer trees, more with a key."""
    defaults: tuple[str, ...] = ()
    profiles: dict[str, TreeProfile] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("Default Packages:"):
            defaults = tuple(line.partition(":")[2].split())
        elif found := PROFILE_LINE.fullmatch(line):
            name = found[1]
            profiles[name] = TreeProfile(name=name, title=name)
        elif line.startswith("    ") and name:
            key, colon, value = line.strip().partition(":")
            if key == "Packages" and colon:
                profiles[name] = profiles[name].model_copy(update={"packages": tuple(value.split())})
            elif profiles[name].title == name and key not in ("hasImageMetadata", "SupportedDevices"):
                profiles[name] = profiles[name].model_copy(update={"title": line.strip()})
    return defaults, profiles


def choose_profile(board: Board, tree: Tree) -> Profile:
    """The board's profile in this tree. ProfileError if its target, release or profile do not fit."""
    candidates = [profile for profile in board.profiles_for(tree.release) if profile.target == tree.target]
    for profile in candidates:
        if profile.name in tree.profiles and profile.arch == tree.arch:
            return profile
    if not candidates:
        taken = f", which is taken for {tree.series}," if tree.series else ""
        raise ProfileError(
            f"board '{board.id}' is not built by {tree.distribution} {tree.version}{taken} for {tree.target}",
            hint=f"the board is known for: {board.known_for}",
        )
    wanted = candidates[0]
    if wanted.name in tree.profiles:
        raise ProfileError(
            f"board '{board.id}' wants packages for {wanted.arch}, but this tree installs {tree.arch}"
        )
    near = difflib.get_close_matches(wanted.name, tree.profiles, n=5, cutoff=0.5)
    raise ProfileError(
        f"this tree ({tree.distribution} {tree.version}, {tree.target}) has no profile '{wanted.name}'"
        f" for board '{board.id}'",
        hint=f"its nearest profiles: {', '.join(near or sorted(tree.profiles)[:5])}",
    )


def _release_name(version: str | None) -> str:
    """OpenWrt's main branch calls itself SNAPSHOT."""
    return SNAPSHOT if version in (None, "SNAPSHOT") else str(version)


def config_settings(text: str) -> dict[str, str]:
    """`CONFIG_NAME="value"` lines of a tree's .config."""
    return {match[1]: match[2].strip('"') for match in re.finditer(r"(?m)^CONFIG_(\w+)=(.*)$", text)}


def settings_of(tree: Path) -> dict[str, str]:
    """The settings of a tree; none where it has no .config. Read once as long as the file is the same: it has
    ten thousand lines, and all that looks at a tree asks for some of it."""
    place = tree / ".config"
    if not place.is_file():
        return {}
    status = place.stat()
    return dict(_settings(place, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)
def _settings(place: Path, *_state: int) -> dict[str, str]:
    return config_settings(text_of(place))


def _default_of(name: str, version_mk: str) -> str | None:
    """`VERSION_NUMBER:=$(if $(VERSION_NUMBER),$(VERSION_NUMBER),17.01.7)` in include/version.mk."""
    match = re.search(rf"(?m)^{name}:=\$\(if \$\({name}\),\$\({name}\),(.*)\)$", version_mk)
    return match[1].strip() if match and match[1].strip() else None


OLDEST = "17.01"
_NAMED = re.compile(r"\d{2}\.\d{2}(\.\d{1,2})?(-rc\d{1,2}|-SNAPSHOT)?")


@dataclass(frozen=True)
class _Parts:
    """What series are told apart by. makefile: the Makefile's text; apk: whether CONFIG_USE_APK is set."""

    include: Path
    makefile: str
    apk: bool

    def has(self, name: str) -> bool:
        return (self.include / name).is_file()


# the newest first: what a tree of the series has, and one of the series before has not
_BROUGHT: tuple[tuple[str, Callable[[_Parts], bool]], ...] = (
    ("25.12", lambda parts: parts.apk),
    ("24.10", lambda parts: parts.has("default-packages.mk")),
    ("23.05", lambda parts: parts.has("openssl-module.mk")),
    ("22.03", lambda parts: parts.has("bpf.mk")),
    ("21.02", lambda parts: "_check_keys:" in parts.makefile),
    ("19.07", lambda parts: "DISABLED_SERVICES" in parts.makefile),
    ("18.06", lambda parts: parts.has("image-commands.mk") and not parts.has("host.mk")),
    (OLDEST, lambda parts: parts.has("image-commands.mk")),
)


@cache
def known_series() -> frozenset[str]:
    """The series of OpenWrt that trees are taken of: those with releases that this version knows."""
    return frozenset(shipped_releases().series())


def names_a_series(version: str) -> bool:
    """Whether a version is OpenWrt's own way to name a release: of a series that is known, or of a newer one.
    A fork may say 14.09 or 19.02, which OpenWrt never had."""
    if version == SNAPSHOT or is_embedded(version):
        return True
    series, known = Release(version).series, known_series()
    newer = Release(series) > max(map(Release, known))
    return _NAMED.fullmatch(version) is not None and (series in known or newer)


def series_by_parts(folder: Path, makefile: str, *, apk: bool) -> str | None:
    """The series whose makefiles a tree has; None for one from before 17.01. makefile: the text of the tree's
    Makefile; apk: whether it installs with apk."""
    parts = _Parts(folder / "include", makefile, apk)
    return next((series for series, brought in _BROUGHT if brought(parts)), None)
