"""apk 3's package index, `packages.adb`, to packages.

Names and places of the fields: apk-tools 3, src/apk_adb.h and apk_adb.c. In OpenWrt an ABI version is part
of the name and stands in the tag `openwrt:abiversion`; section and CPE-ID stand in tags too
(include/package-pack.mk).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from imagebuilder.model.adb import Values, database, index_container
from imagebuilder.model.control import MAX_NAME, MAX_TEXT, MAX_WORD
from imagebuilder.model.package import MAX_PACKAGES, Dependency, Package, PackageList, UnusablePackage

ABI_TAG, SECTION_TAG, CPE_TAG = "openwrt:abiversion", "openwrt:section", "openwrt:cpe"
# where apk takes no other from the index: OpenWrt's indexes name none
FILE_NAME = "${name}-${version}.apk"

_FIELDS = (
    *("name", "version", "hashes", "description", "arch", "license", "origin", "maintainer", "url"),
    *("repo-commit", "build-time", "installed-size", "file-size", "provider-priority"),
    *("depends", "provides", "replaces", "install-if", "recommends", "layer", "tags"),
)
_EMPTY = (0,) * len(_FIELDS)
# apk's fields that have no place of their own in a Package, by the names that opkg's have
SOURCE = "Source"  # apk's origin: packages of one source may have the same files
_EXTRA = {"License": 5, SOURCE: 6, "Maintainer": 7, "URL": 8}
_OPERATORS = {
    **{0: "=", 1: "=", 2: "<", 3: "<=", 4: ">", 5: ">=", 6: "><"},
    **{8: "~", 9: "~", 11: "<~", 13: ">~"},
}
_CONFLICT = 16
# both become words of a command
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~+-]*")
_VARIABLE = re.compile(r"\$\{([^}:]*)(?::(\d{1,3}))?\}")

_Dependencies = tuple[tuple[Dependency, ...], tuple[Dependency, ...]]


class _UnusableError(Exception):
    """What an index says of one package makes no sense."""


def parse_index(data: bytes, *, origin: str = "the package index", feed: str = "") -> PackageList:
    """The packages of a `packages.adb`, in its order; one of which it says what cannot be costs that package.
    origin: whose it is, for messages; feed: its name. Nothing is verified (see trust/signature_adb.py).
    Raises AdbError for values that are damaged."""
    values = Values(database(index_container(data, origin))[0], origin)
    return _Index(values, feed).packages()


def with_abi_suffixes(names: Iterable[str], packages: Iterable[Package]) -> tuple[str, ...]:
    """The names as 25.12's ImageBuilder gives them to apk: `libexample` as `libexample12`, where a package
    that provides it has an ABI version (the first by name of those that have one).

    Source: FormatPackages and GetABISuffix in target/imagebuilder/files/Makefile.
    """
    suffixes: dict[str, tuple[str, str]] = {}
    for package in packages:
        if package.abi_version:
            for name in (package.name, *package.provides):
                known = suffixes.get(name)
                if known is None or package.name < known[0]:
                    suffixes[name] = package.name, package.abi_version
    return tuple(name + suffixes[name][1] if name in suffixes else name for name in names)


def picked(chosen: Iterable[tuple[str, str]], packages: Iterable[Package]) -> tuple[Package, ...]:
    """The packages of these names and versions, in that order. packages: of all indexes in apk's order; of
    equal versions apk takes the first. KeyError for one that no index has."""
    known: dict[tuple[str, str], Package] = {}
    for package in packages:
        known.setdefault((package.name, package.version), package)
    return tuple(known[each] for each in chosen)


def needed_by(asked: Sequence[str], chosen: Sequence[Package]) -> dict[str, str | None]:
    """For each package that apk chose, the one that needs it on the shortest way from a name that was asked
    for, None for one that was asked for itself; names of packages, of which ways_of() makes the ways. asked:
    as apk was asked, without versions; chosen: all that it installs."""
    by_name: dict[str, list[Package]] = {}
    for package in chosen:
        for name in dict.fromkeys((package.name, *package.provides)):
            by_name.setdefault(name, []).append(package)
    found: dict[str, str | None] = {}
    waiting: deque[tuple[str, str | None]] = deque((name, None) for name in asked)
    while waiting:
        name, above = waiting.popleft()
        for package in by_name.pop(name, ()):  # whoever wants it later is no nearer
            if package.name not in found:
                found[package.name] = above
                waiting.extend((group[0].name, package.name) for group in package.depends)
    return found


class _Index:
    """What has been read of an index: values that several packages name are read once."""

    def __init__(self, values: Values, feed: str) -> None:
        self._values, self._feed = values, feed
        self._texts: dict[int, str] = {0: ""}
        self._dependency: dict[int, tuple[Dependency, bool]] = {}
        self._dependencies: dict[int, _Dependencies] = {0: ((), ())}
        self._tags: dict[int, Mapping[str, str]] = {0: {}}
        self._spec = FILE_NAME

    def packages(self) -> PackageList:
        root = (*self._values.slots(self._values.root), 0, 0, 0)
        try:
            self._spec = self._text(root[2]) or FILE_NAME
        except _UnusableError as error:
            raise self._values.damaged(f"how its files are named: {error}") from None
        found = self._values.slots(root[1])
        if len(found) > MAX_PACKAGES:
            raise self._values.damaged(f"it lists {len(found)} packages, more than {MAX_PACKAGES}")
        packages: list[Package] = []
        unusable: list[UnusablePackage] = []
        for value in found:
            slots = self._values.slots(value)
            try:
                packages.append(self._package(slots + _EMPTY[len(slots) :]))
            except _UnusableError as error:
                name = self._texts.get((*slots, 0)[0], "")  # read first
                shown = "".join(each if each.isprintable() else "?" for each in name)[:60]
                unusable.append(UnusablePackage(shown, str(error)))
        return PackageList(packages, unusable)

    def _package(self, slots: tuple[int, ...]) -> Package:
        name, version, arch = self._text(slots[0]), self._text(slots[1]), self._text(slots[4])
        if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
            raise _UnusableError(f"{name[:40]!r} {version[:40]!r} is no name and version")
        if len(name) > MAX_NAME or len(version) > MAX_WORD:
            raise _UnusableError(f"its name or its version has more than {MAX_NAME} or {MAX_WORD} characters")
        identity = self._values.blob(slots[2]).hex()
        integer = self._values.integer
        depends, conflicts = self._terms(slots[14])
        provides, _ = self._terms(slots[15])
        extra = {key: self._text(slots[at]) for key, at in _EXTRA.items() if slots[at]}
        told = self._told(slots[20])
        if told.get(CPE_TAG):
            extra["CPE-ID"] = told[CPE_TAG]
        if slots[13]:
            extra["Provider-Priority"] = str(integer(slots[13]))
        if slots[17]:
            extra["Install-If"] = " ".join(_term(each) for each in self._terms(slots[17])[0])
        return Package(
            name=name,
            version=version,
            architecture=arch,
            depends=tuple((each,) for each in depends),
            provides=tuple(each.name for each in provides),
            provided_versions=tuple((each.name, each.version) for each in provides if each.version),
            conflicts=conflicts,
            replaces=self._terms(slots[16])[0],
            filename=self._filename(name, version, arch, identity),
            size=integer(slots[12]),
            installed_size=integer(slots[11]),
            description=self._text(slots[3]),
            section=told.get(SECTION_TAG, ""),
            abi_version=told.get(ABI_TAG, ""),
            extra=extra,
            identity=identity,
            feed=self._feed,
        )

    def _text(self, value: int) -> str:
        text = self._texts.get(value)
        if text is None:
            text = self._values.text(value)
            if len(text) > MAX_TEXT:
                raise _UnusableError(f"a field of it has {len(text)} characters, more than {MAX_TEXT}")
            self._texts[value] = text
        return text

    def _terms(self, value: int) -> _Dependencies:
        """A list of dependencies: those that must be there, and those that must not."""
        known = self._dependencies.get(value)
        if known is None:
            wanted: list[Dependency] = []
            unwanted: list[Dependency] = []
            for each in self._values.slots(value):
                term, against = self._dependency.get(each) or self._one(each)
                (unwanted if against else wanted).append(term)
            known = self._dependencies[value] = tuple(wanted), tuple(unwanted)
        return known

    def _one(self, value: int) -> tuple[Dependency, bool]:
        slots = (*self._values.slots(value), 0, 0, 0)
        name, version = self._text(slots[0]), self._text(slots[1])
        match = self._values.integer(slots[2])
        operator = _OPERATORS.get(match & ~_CONFLICT)
        if not name or (version and operator is None) or max(len(name), len(version)) > MAX_WORD:
            raise _UnusableError(f"{name[:40]!r} {version[:40]!r} is no dependency")
        term = Dependency(name, operator, version) if version else Dependency(name)
        self._dependency[value] = term, bool(match & _CONFLICT)
        return self._dependency[value]

    def _told(self, value: int) -> Mapping[str, str]:
        """What the tags of a package say, by their names."""
        told = self._tags.get(value)
        if told is None:
            tags = (self._text(each).partition("=") for each in self._values.slots(value))
            told = {name: text for name, equals, text in reversed(list(tags)) if equals}
            self._tags[value] = told
        return told

    def _filename(self, name: str, version: str, arch: str, identity: str) -> str:
        if self._spec == FILE_NAME:
            return f"{name}-{version}.apk"
        facts = {"name": name, "version": version, "arch": arch, "hash": identity}

        def fact(match: re.Match[str]) -> str:
            if match[1] not in facts:
                raise self._values.damaged(f"its files are named after an unknown '{match[1][:40]}'")
            return facts[match[1]][: int(match[2]) if match[2] else None]

        return _VARIABLE.sub(fact, self._spec)


def _term(dependency: Dependency) -> str:
    """As apk writes it."""
    return f"{dependency.name}{dependency.operator or ''}{dependency.version or ''}"
