"""What people have of an image they built or run, as what a config would say: a call of ImageBuilder's make,
a script with one, the list of an image's or a router's packages, a request to OpenWrt's build server. Pure.

Sources: target/imagebuilder/files/Makefile of each release's branch (make's variables); libopkg/opkg_cmd.c
(list-installed); apk-tools 3, src/app_list.c and src/app_info.c; openwrt/asu, asu/build_request.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from imagebuilder.config.script import Invocation, KnownText, ReadScript, read_invocations
from imagebuilder.errors import UserError
from imagebuilder.model.base import PackageName, ServiceName, Word
from imagebuilder.model.release import SNAPSHOT, check_release

MAX_BYTES = 1 << 20
MAX_PACKAGES = 20_000
MAX_PARTSIZE = 1 << 20  # MiB, as image.rootfs_partsize has it

_ARCHIVE = re.compile(
    r"(?P<maker>[A-Za-z]+)-imagebuilder-(?:(?P<release>[0-9]{2}\.[0-9]{2}(?:\.[0-9]+)?(?:-rc[0-9]+)?)-)?"
    r"(?P<target>[a-z0-9]+)-(?P<subtarget>[a-z0-9_]+)\.Linux",
    re.IGNORECASE,
)
_CONTAINER = re.compile(
    r"(?P<maker>[a-z]+)/imagebuilder:(?P<target>[a-z0-9]+)-(?P<subtarget>[a-z0-9_]+)"
    r"-v?(?P<release>[0-9]{2}\.[0-9]{2}(?:\.[0-9]+)?(?:-rc[0-9]+)?)"
)
_VERSION = r"[0-9][^\s-]*(?:-r[0-9]+)?"
_LISTS = (  # a line of each list, its first group the package
    re.compile(r"(\S+) - \S+(?: - .*)?"),  # opkg list-installed; a manifest
    re.compile(rf"(\S+)-{_VERSION} \S+ \{{[^}}]*\}} \([^)]*\) \[installed[^\]]*\].*"),  # apk list --installed
    re.compile(rf"(\S+)-{_VERSION}(?: - .*)?"),  # apk info -v
    re.compile(r"(\S+) [0-9a-f]?[0-9]\S*"),  # apk list --manifest
    re.compile(r"([a-z0-9][A-Za-z0-9._+-]*)"),  # apk info
)
_ALWAYS = ("kernel", "libc")  # ImageBuilder installs its own, whatever is asked for
_DISTRIBUTIONS = ("openwrt", "lede")


@dataclass(frozen=True)
class BroughtImage:
    """What a config is to say. source: where it is from, in words. profiles: as the ImageBuilder calls the
    devices. files: make's FILES. first_boot: a script that the device runs once. whole: whether add names all
    packages of the image, and not what is added to the defaults. notes: what could not be carried over."""

    source: str
    profiles: tuple[str, ...] = ()
    target: str | None = None
    release: str | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    extra_name: str | None = None
    rootfs_partsize: int | None = None
    files: KnownText | None = None
    first_boot: str | None = None
    whole: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CallChoice:
    """Which call of a script is meant, and values for what it takes from outside."""

    line: int | None = None
    profile: str | None = None
    given: Mapping[str, str] | None = None


def bring(text: str, source: str, choice: CallChoice | None = None) -> BroughtImage:
    """What a text says: a request's JSON, a list of packages, or else a script. source: the file's name.
    UserError for what is none of them."""
    chosen = choice or CallChoice()
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return from_request(text, source)
    names = _listed(text)
    if names:
        return replace(_packages(BroughtImage(source, whole=True), names), source=source)
    return from_script(text, source, chosen)


def from_script(script: str, source: str, choice: CallChoice) -> BroughtImage:
    """What a script's `make image` asks for. UserError where it has none, or several that differ."""
    read = read_invocations(script.removeprefix("\ufeff"), choice.given)
    calls = [each for each in read.invocations if choice.line in (None, each.line)]
    if choice.profile is not None:
        calls = [each for each in calls if _plain(each, "PROFILE") == choice.profile]
    if not calls:
        every = ", ".join(dict.fromkeys(_shown(each) for each in read.invocations[:20]))
        hint = f"it has: {every}" if every else "a list of packages and a request's JSON are read too"
        raise UserError(
            f"{source} has no such `make image`" if every else f"{source} has no `make image`", hint=hint
        )
    apart = {_apart(each) for each in calls}
    if len(apart) > 1:
        every = ", ".join(dict.fromkeys(map(_shown, calls[:20])))
        raise UserError(
            f"{source} calls make for several images that differ: {every}",
            hint="say which one: --line NUMBER, or --profile NAME",
        )
    line = calls[0].line
    found = _from_calls(calls, f"{source}, line {line}" if "\n" in script.strip() else source)
    return _with_tree(found, read)


def _apart(call: Invocation) -> tuple[tuple[str, str], ...]:
    """What makes two calls two configs: all but the device and where results go."""
    kept = ((name, value.text) for name, value in call.values.items() if name not in ("PROFILE", "BIN_DIR"))
    return tuple(sorted(kept))


def _shown(call: Invocation) -> str:
    profile = call.values.get("PROFILE")
    return f"line {call.line}" + (f" (PROFILE={profile.shown()})" if profile is not None else "")


def _plain(call: Invocation, name: str) -> str | None:
    value = call.values.get(name)
    return None if value is None else value.plain


def _from_calls(calls: Sequence[Invocation], source: str) -> BroughtImage:
    found = BroughtImage(source)
    if calls[0].conditional:
        found = _noted(found, "whether the script comes to this call depends on a condition")
    if calls[0].more:
        words = " ".join(calls[0].more)
        found = _noted(found, f"make gets these words beside its variables (quotes missing?): {words[:300]}")
    profiles = list(dict.fromkeys(each.values["PROFILE"] for each in calls if "PROFILE" in each.values))
    for profile in profiles:
        name = profile.plain
        found = _noted(found, *_reasons("PROFILE", profile))
        found = replace(found, profiles=(*found.profiles, name.strip())) if name and name.strip() else found
    readers: Mapping[str, Callable[[BroughtImage, KnownText], BroughtImage]] = {
        "PACKAGES": lambda brought, value: _packages(brought, value.words()),
        "DISABLED_SERVICES": _services,
        "EXTRA_IMAGE_NAME": _extra_name,
        "ROOTFS_PARTSIZE": _partsize,
        "CONFIG_TARGET_ROOTFS_PARTSIZE": _partsize,
        "FILES": lambda brought, value: replace(brought, files=value) if value.text.strip() else brought,
        "PROFILE": lambda brought, _: brought,
        "BIN_DIR": lambda brought, value: _noted(
            brought, f"BIN_DIR={value.shown()}: --output says where results go"
        ),
    }
    for name, value in calls[0].values.items():
        if name in readers:
            found = _noted(readers[name](found, value), *(_reasons(name, value) if name != "PROFILE" else ()))
        elif name not in ("V", "TOPDIR"):
            found = _noted(found, f"{name}={value.shown()} has no key here")
    return found


def _reasons(name: str, value: KnownText) -> list[str]:
    return [f"{name}: {hole.reason}" for hole in value.why()]


def _noted(found: BroughtImage, *notes: str) -> BroughtImage:
    return replace(found, notes=tuple(dict.fromkeys((*found.notes, *notes))))


def _with_tree(found: BroughtImage, read: ReadScript) -> BroughtImage:
    """With the release and the target of the ImageBuilder that the script names, if it names one."""
    matches = [*_ARCHIVE.finditer(read.text), *_CONTAINER.finditer(read.text)]
    trees = {
        (each["maker"].lower(), each["release"], f"{each['target']}/{each['subtarget']}") for each in matches
    }
    if len(trees) != 1:
        return found
    ((maker, release, target),) = trees
    if maker not in _DISTRIBUTIONS:
        return _noted(found, f"the ImageBuilder is {maker}'s: give it with --imagebuilder")
    return replace(_released(found, release or SNAPSHOT), target=target)


def _released(found: BroughtImage, text: str) -> BroughtImage:
    """With a release, if it is one."""
    name = SNAPSHOT if text.upper() == "SNAPSHOT" else text
    try:
        return replace(found, release=check_release(name))
    except ValueError as error:
        return _noted(found, f"the release: {error}")


def _packages(found: BroughtImage, words: Iterable[str | KnownText]) -> BroughtImage:
    """With PACKAGES's words: `-name` removes, and wins over what is added, as in make's filter-out."""
    added: dict[str, None] = {}
    removed: dict[str, None] = {}
    odd: list[str] = []
    for word in words:
        text = word if isinstance(word, str) else word.plain
        if text is None or text in ("", "-"):
            continue  # why a word is not known is told by itself
        name = text.removeprefix("-")
        if not _fits(PackageName, name):
            odd.append(text)
        elif found.whole and name in _ALWAYS:
            continue
        else:
            (removed if text.startswith("-") else added)[name] = None
    if len(added) + len(removed) > MAX_PACKAGES:
        raise UserError(f"{found.source} names more than {MAX_PACKAGES} packages")
    notes = [f"PACKAGES: {word} is no package's name" for word in dict.fromkeys(odd)]
    notes += [f"PACKAGES: {name} is added and removed; removing wins" for name in added if name in removed]
    add = tuple(name for name in added if name not in removed)
    return _noted(replace(found, add=add, remove=tuple(removed)), *notes)


def _services(found: BroughtImage, value: KnownText) -> BroughtImage:
    words = [word.plain or "" for word in value.words()]
    good = tuple(dict.fromkeys(word for word in words if _fits(ServiceName, word)))
    odd = [word for word in words if word and not _fits(ServiceName, word)]
    notes = [f"DISABLED_SERVICES: {word} is no service's name" for word in odd]
    return _noted(replace(found, disabled=good), *notes)


def _extra_name(found: BroughtImage, value: KnownText) -> BroughtImage:
    name = (value.plain or "").strip()
    if not value.text.strip():
        return found
    if not _fits(Word, name):
        return _noted(found, f"EXTRA_IMAGE_NAME={value.shown()} is no word that can be in a file's name")
    return replace(found, extra_name=name)


def _partsize(found: BroughtImage, value: KnownText) -> BroughtImage:
    text = (value.plain or "").strip()
    if not value.text.strip():
        return found
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 0 < int(text) <= MAX_PARTSIZE:
        return _noted(found, f"ROOTFS_PARTSIZE={value.shown()} is no number of MiB")
    return replace(found, rootfs_partsize=int(text))


def _fits(kind: Any, text: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError:
        return False
    return True


def _listed(text: str) -> list[str]:
    """The packages of a list; none where it is no list."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "WARNING:"))]
    for form in _LISTS:
        matches = [form.fullmatch(line) for line in lines]
        names = [match[1] for match in matches if match is not None]
        if names and len(names) == len(lines):
            return names
    return []


def from_request(text: str, source: str) -> BroughtImage:
    """What a request to the build server says, of owut, the firmware selector or LuCI. UserError for JSON
    that is none."""
    try:
        values = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} begins as JSON and is none: {error}") from error
    wrong = UserError(
        f"{source} is no request to the build server", hint="it has version, target, profile and packages"
    )
    if not isinstance(values, dict) or not {"profile", "packages", "packages_versions"} & values.keys():
        raise wrong
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    names = values.get("packages") or values.get("packages_versions") or []
    if not isinstance(names, list | dict) or not all(isinstance(name, str) for name in names):
        raise wrong
    found = BroughtImage(source, whole=bool(values.get("diff_packages")))
    found = _packages(found, [name.strip().removeprefix("+") for name in names])
    profile = texts.get("profile", "").replace(",", "_")
    found = replace(found, profiles=(profile,) if profile else (), target=texts.get("target"))
    found = _released(found, texts["version"]) if texts.get("version") else found
    if texts.get("defaults", "").strip():
        found = replace(found, first_boot=texts["defaults"])
    if isinstance(size := values.get("rootfs_size_mb"), int):
        found = _partsize(found, KnownText(str(size)))
    for key in ("filesystem", "version_code", "repositories", "repository_keys"):
        if values.get(key):
            found = _noted(found, f"{key} = {json.dumps(values[key])[:300]} is not carried over")
    if values.get("packages_versions"):
        found = _noted(found, "the packages' versions: `lock` writes down those that a plan takes")
    return found
