"""Requirements (PEP 508) on a target: from the feeds where a package there satisfies them, otherwise from the
package index, with all that they depend on.

python3-requests 2.31.0-1 of a feed is requests 2.31.0: names are PYPI_NAME of the makefiles in lang/python of
openwrt/packages (branches openwrt-21.02 to master). pip resolves. What the feeds have it is told of by wheels
without content, of the feed's version with `+feed` behind it, which it must take; what has no wheel is built
of its source (index_build.py). What is wanted without its native code is found first, and pip has to take
that very wheel.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from imagebuilder.config.app import PinnedRequirement, ResolvedRequirements
from imagebuilder.errors import UserError
from imagebuilder.host.cache import OfflineError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.model.package import Package
from imagebuilder.python.requirements.direct import Direct
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.requirements.index_build import PURE
from imagebuilder.python.requirements.index_pip import NoMatchError, PythonIndexError
from imagebuilder.python.wheels.target import WheelTarget, marker_holds
from imagebuilder.python.wheels.wheels import Wheel, read_wheel

_STUB = "+feed"
MAX_ROUNDS = 100
_CONSTRAINT = re.compile(r"\(constraint\) ([A-Za-z0-9][A-Za-z0-9._-]*)")
PREFIX = "python3-"
# where what follows `python3-` is not the distribution's name
_DISTRIBUTIONS = {
    "augeas": "python-augeas",
    "cryptodome": "pycryptodome",
    "cryptodomex": "pycryptodomex",
    "curl": "pycurl",
    "dateutil": "python-dateutil",
    "django-jsonfield": "jsonfield",
    "django-postoffice": "django-post-office",
    "django-restframework": "djangorestframework",
    "django-restframework39": "djangorestframework",
    "django1": "django",
    "dns": "dnspython",
    "dotenv": "python-dotenv",
    "engineio": "python-engineio",
    "gnupg": "python-gnupg",
    "libmodbus": "pylibmodbus",
    "pkg-resources": "setuptools-pkg-resources",  # cut from setuptools, which has a package of its own
    "pymysql-sha-pwd": "pymysql-sha-pwd",  # an addition to PyMySQL without files
    "slugify": "python-slugify",
    "socketio": "python-socketio",
    "uci": "pyuci",
    "yaml": "pyyaml",
}
_REVISION = re.compile(r"-r?\d+$")


class RequirementError(UserError):
    """A requirement that cannot be had."""


@dataclass(frozen=True, slots=True)
class FeedDistribution:
    """A distribution that a feed's package is."""

    name: NormalizedName
    version: Version
    package: str


Feed = Mapping[NormalizedName, FeedDistribution]


def distribution_of(package: Package) -> FeedDistribution | None:
    """The distribution that a package is; None for other packages, and for versions that are none of
    Python's."""
    if not package.name.startswith(PREFIX) or package.name.endswith("-src"):
        return None
    name = package.name.removeprefix(PREFIX)
    upstream = _REVISION.sub("", package.version).replace("~", "")
    try:
        version = Version(upstream)
    except InvalidVersion:
        return None
    return FeedDistribution(canonicalize_name(_DISTRIBUTIONS.get(name, name)), version, package.name)


def feed_distributions(
    packages: Iterable[Package], *, without: Iterable[str] = ()
) -> dict[NormalizedName, FeedDistribution]:
    """The newest of each distribution that feeds have. without: names of packages that are none, as those
    that the standard library is cut into."""
    left_out = frozenset(without)
    found: dict[NormalizedName, FeedDistribution] = {}
    for package in packages:
        each = distribution_of(package)
        if each is not None and package.name not in left_out:
            known = found.get(each.name)
            if known is None or known.version < each.version:
                found[each.name] = each
    return found


def feed_providers(packages: Iterable[Package], *, without: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """The names of all packages of feeds that are a distribution: python3-django and python3-django1 are two
    of Django's. without: as for feed_distributions()."""
    left_out = frozenset(without)
    found: dict[str, dict[str, None]] = {}
    for package in packages:
        each = distribution_of(package)
        if each is not None and package.name not in left_out:
            found.setdefault(each.name, {})[package.name] = None
    return {name: tuple(packages) for name, packages in found.items()}


def satisfying(
    requirement: Requirement, feed: Mapping[NormalizedName, FeedDistribution]
) -> FeedDistribution | None:
    """The feed package that satisfies a requirement. Nothing does where extras are asked for: feeds do not
    say which they bring."""
    found = feed.get(canonicalize_name(requirement.name))
    if found is None or requirement.extras:
        return None
    return found if requirement.specifier.contains(found.version, prereleases=True) else None


def parse_requirement(text: str) -> Requirement:
    """A requirement as PEP 508 writes it. RequirementError."""
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise RequirementError(
            f"{text[:200]!r} is no requirement: {error}", hint="one reads 'bottle>=0.13' (PEP 508)"
        ) from None


def counting(
    requirements: Iterable[Requirement], target: WheelTarget, extras: Iterable[str] = ()
) -> list[Requirement]:
    """Those whose environment markers hold on the target."""
    variables, wanted = target.markers(), tuple(extras)
    return [
        each
        for each in requirements
        if each.marker is None or marker_holds(str(each.marker), variables, wanted)
    ]


def _stub(folder: Path, each: FeedDistribution) -> str:
    """A wheel that stands for a feed's package; the constraint that makes pip take it."""
    stem = f"{each.name.replace('-', '_')}-{each.version.public}{_STUB}"
    info = f"{stem}.dist-info"
    version = f"{each.version.public}{_STUB}"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {each.name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},sha256={_digest(text)},\n" for name, text in files.items())
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return f"{each.name}=={version}"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@dataclass(slots=True)
class _Search:
    """One resolution. pinned: what pip must take from the feeds; built: sdists by the file names of the
    wheels that were built of them; own: the apps' own distributions; pure: which are wanted without native
    code; direct: which come from an address; constraints: of the user's own."""

    index: PackageIndex
    target: WheelTarget
    folder: Path
    own: Mapping[NormalizedName, Wheel]
    pinned: dict[NormalizedName, FeedDistribution]
    pure: Collection[NormalizedName] = ()
    direct: Mapping[NormalizedName, Direct] = field(default_factory=dict)
    constraints: Sequence[str] = ()
    built: dict[str, PinnedRequirement] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)

    def run(self, requirements: Sequence[str]) -> list[PinnedRequirement]:
        """Everything that is needed, with what the feeds and the apps bring."""
        for each in self.own.values():
            (self.folder / each.path.name).symlink_to(each.path.absolute())
        constraints = {name: _stub(self.folder, each) for name, each in self.pinned.items()}
        own = [f"{name}=={each.version}" for name, each in self.own.items()]
        named = [self.without_native(each) for each in requirements]
        # pip looks for a name in the index before it knows of an address that stands behind it
        requirements = [*(line for each in self.direct.values() for line in _at(each)), *named]
        for _ in range(MAX_ROUNDS):
            kept = [constraints[name] for name in self.pinned]
            try:
                found = self.index.resolve(
                    requirements,
                    self.target,
                    constraints=[*self.constraints, *own, *kept],
                    wheels=self.folder,
                )
            except NoMatchError as error:
                self.provide(error)
            except PythonIndexError as error:
                self.free(_CONSTRAINT.findall(error.message), error)
            else:
                extras = extras_of(requirements, found, self.target)
                wrong = [name for name in self.pinned if extras.get(name)]
                if not wrong:  # a feed's package does not say which extras it brings
                    return [self.pin_of(each, extras[each.name]) for each in found if each.name in extras]
                self.free(wrong, None)
        raise RequirementError(
            f"no end to resolving {', '.join(requirements)}", hint="state versions more exactly"
        )

    def free(self, names: Iterable[str], error: PythonIndexError | None) -> None:
        """Do without the feeds' versions of some distributions, which do not go with the rest."""
        wrong = [name for name in map(canonicalize_name, names) if self.pinned.pop(name, None) is not None]
        if not wrong and error is not None:
            raise error
        for name in wrong:
            for stub in self.folder.glob(f"{name.replace('-', '_')}-*{_STUB}-py3-none-any.whl"):
                stub.unlink()

    def provide(self, error: NoMatchError) -> None:
        """Bring what has no wheel: build it."""
        wanted = parse_requirement(error.requirement)
        name = canonicalize_name(wanted.name)
        if name in self.pinned:
            self.free([name], error)
            return
        if error.requirement in self.tried:
            raise error
        self.tried.add(error.requirement)
        wheel = self.build(f"{wanted.name}{wanted.specifier}", "")
        (self.folder / wheel.name).unlink(missing_ok=True)
        (self.folder / wheel.name).symlink_to(wheel)

    def build(self, requirement: str, how: str) -> Path:
        """The wheel of the newest source; how: as for SourceBuilds.wheel()."""
        pin = self.index.source(requirement, self.target)
        made = self.index.built_anyhow(pin, self.target, how)
        self.built[made.path.name] = pin.model_copy(update={"built": made.how})
        return made.path

    def without_native(self, text: str) -> str:
        """A requirement that names the one wheel to be taken, where it is wanted without native code."""
        wanted = Requirement(text)
        if canonicalize_name(wanted.name) not in self.pure:
            return text
        bare = f"{wanted.name}{wanted.specifier}"
        found = self.index.pure_wheel(bare, self.target)
        place = found.path if found is not None else self.build(bare, PURE)
        extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
        return f"{wanted.name}{extras} @ {place.as_uri()}"

    def pin_of(self, each: Wheel, extras: Iterable[str]) -> PinnedRequirement:
        requires = counting(each.requires, self.target, extras)
        names = {canonicalize_name(requirement.name) for requirement in requires} - {each.name}
        if each.name in self.direct:
            return self.direct[each.name].pin.model_copy(update={"requires": tuple(sorted(names))})
        source = self.built.get(each.path.name)
        return PinnedRequirement(
            name=each.name,
            version=str(each.version) if source is None else source.version,
            filename=each.path.name if source is None else source.filename,
            sha256=each.path.parent.name if source is None else source.sha256,
            requires=tuple(sorted(names)),
            built="" if source is None else source.built,
        )


def resolve_requirements(
    requirements: Sequence[str],
    target: WheelTarget,
    feed: Feed,
    index: PackageIndex,
    *,
    own: Sequence[Wheel] = (),
    pure: Iterable[str] = (),
    direct: Sequence[Direct] = (),
    constraints: Sequence[str] = (),
    hashes: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> ResolvedRequirements:
    """What requirements come to. feed: what the feeds have, which is preferred, also for what these
    depend on; own: wheels of the user's own apps, which are there and are not among the result's pins;
    pure: distributions among the requirements that are wanted without native code, and from no feed; direct:
    what comes from addresses; constraints: versions (PEP 508) of what goes in anyhow; hashes: of files that
    alone may be taken for a distribution, so that no feed's package is.

    Those whose markers do not hold on the target do not count. Offline the answer is the one that the cache
    keeps of the same question. Raises RequirementError, NoMatchError where neither wheel nor source fits,
    NativeSourceError for native code that cannot be compiled, PythonIndexError, OfflineError.
    """
    mine = {wheel.name: wheel for wheel in own}
    bare_names = frozenset(map(canonicalize_name, pure))
    addressed = _by_name(direct)
    limits = counting(map(parse_requirement, dict.fromkeys(constraints)), target)
    passed_by = {*bare_names, *addressed, *map(canonicalize_name, hashes)}
    feed = {name: each for name, each in feed.items() if name not in passed_by and _allowed(each, limits)}
    parsed = counting(map(parse_requirement, dict.fromkeys(requirements)), target)
    wanted = {**_wanted(parsed), **{each.key: each.wheel.name for each in direct}}
    from_feed: dict[str, str] = {
        found.name: found.package
        for each in parsed
        if canonicalize_name(each.name) not in mine and (found := satisfying(each, feed)) is not None
    }
    rest = [each for each in parsed if canonicalize_name(each.name) not in from_feed]
    bare = [str(_without_marker(each)) for each in rest]
    if not bare and not addressed:
        return ResolvedRequirements(wanted=wanted, feed=from_feed)
    limiting = [str(_without_marker(each)) for each in limits]
    asked = [*wanted, "", *bare, "", *limiting, *(repr(each.pin) for each in addressed.values())]
    key = _question(asked, target, feed, mine, bare_names)
    if index.offline:
        return _hashed(_remembered(key, bare, index), hashes)
    with temporary_folder("scratch") as folder:
        pinned = {name: each for name, each in feed.items() if name not in mine}
        needed = _Search(index, target, folder, mine, pinned, bare_names, addressed, limiting).run(bare)
    stubs = [canonicalize_name(each.name) for each in needed if each.version.endswith(_STUB)]
    also: dict[str, str] = {name: feed[name].package for name in stubs}
    pins = [each for each in needed if each.name not in also and each.name not in mine]
    resolved = ResolvedRequirements(
        wanted=wanted,
        feed={**from_feed, **also},
        pins=tuple(sorted(pins, key=lambda pin: pin.name)),
    )
    data = resolved.model_dump_json().encode()
    index.cache.remember(key, {"resolved.json": index.cache.add(data)})
    return _hashed(resolved, hashes)


def _at(direct: Direct) -> Iterator[str]:
    """A requirement that pip can meet by one wheel only, which is here. One with extras says to pip nothing
    of the distribution without them."""
    place, extras = direct.wheel.path.as_uri(), ",".join(sorted(direct.stated.written.extras))
    yield f"{direct.wheel.name} @ {place}"
    if extras:
        yield f"{direct.wheel.name}[{extras}] @ {place}"


def _by_name(direct: Sequence[Direct]) -> dict[NormalizedName, Direct]:
    """Requirements by addresses. FaultsError where two of them are one distribution from two places."""
    found: dict[NormalizedName, Direct] = {}
    for each in direct:
        known = found.setdefault(each.wheel.name, each)
        if known.pin.source != each.pin.source or known.pin.sha256 != each.pin.sha256:
            raise each.stated.fault(
                f"{each.wheel.name} is from {each.pin.source} here, and from {known.pin.source} in"
                f" {known.stated.file}",
                "leave one of them out",
            )
        if known is not each:
            written = known.stated.written
            both = replace(written, extras=written.extras | each.stated.written.extras)
            found[each.wheel.name] = replace(known, stated=replace(known.stated, written=both))
    return found


def _allowed(distribution: FeedDistribution, limits: Iterable[Requirement]) -> bool:
    """Whether no constraint is against a feed's version."""
    return all(
        each.specifier.contains(distribution.version, prereleases=True)
        for each in limits
        if canonicalize_name(each.name) == distribution.name
    )


def _hashed(resolved: ResolvedRequirements, hashes: Mapping[str, frozenset[str]]) -> ResolvedRequirements:
    """The same, if what was taken may be. RequirementError."""
    for pin in resolved.pins:
        allowed = hashes.get(pin.name)
        if allowed and pin.sha256 not in allowed:
            raise RequirementError(
                f"{pin.filename}, which is for the device, has the SHA-256 {pin.sha256}, and --hash allows"
                f" {len(allowed)} other" + ("s" if len(allowed) > 1 else ""),
                hint="add its hash, if that file is meant (pip hash FILE), or state another version",
            )
    return resolved


def wanted_distributions(requirements: Iterable[str], target: WheelTarget) -> dict[str, str]:
    """The distribution of each requirement that counts on the target, as ResolvedRequirements has it.
    RequirementError."""
    return _wanted(counting(map(parse_requirement, requirements), target))


def _wanted(requirements: Iterable[Requirement]) -> dict[str, str]:
    return {str(each): canonicalize_name(each.name) for each in requirements}


def extras_of(
    requirements: Iterable[str], found: Iterable[Wheel], target: WheelTarget
) -> dict[NormalizedName, frozenset[str]]:
    """Which distributions requirements really need on the target, and with which extras."""
    files = {each.name: each for each in found}
    extras: dict[NormalizedName, frozenset[str]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        each = waiting.pop()
        name = canonicalize_name(each.name)
        known = extras.get(name)
        asked = (known or frozenset()) | each.extras
        if name in files and asked != known:
            extras[name] = asked
            waiting += counting(files[name].requires, target, asked)
    return extras


def _without_marker(requirement: Requirement) -> Requirement:
    plain = Requirement(str(requirement))
    plain.marker = None
    return plain


def _question(
    requirements: Sequence[str],
    target: WheelTarget,
    feed: Feed,
    own: Mapping[NormalizedName, Wheel],
    pure: Iterable[str],
) -> str:
    """A name for the answer, for the cache."""
    parts = [*requirements, "", str(target)]
    parts += [f"{PURE} {name}" for name in sorted(pure)]
    parts += [f"{name} {each.version} {each.package}" for name, each in sorted(feed.items())]
    parts += [f"{name} {wheel.version} {sorted(map(str, wheel.requires))}" for name, wheel in own.items()]
    return "requirements " + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _remembered(key: str, requirements: Sequence[str], index: PackageIndex) -> ResolvedRequirements:
    known = index.cache.recall(key, index.log) or {}
    data = index.cache.read(known["resolved.json"], index.log) if "resolved.json" in known else None
    if data is None:
        raise OfflineError(requirements)
    return ResolvedRequirements.model_validate_json(data)


def wheels_of(
    resolved: ResolvedRequirements, target: WheelTarget, index: PackageIndex, direct: Sequence[Direct] = ()
) -> dict[NormalizedName, Wheel]:
    """The wheels of what was resolved, by their distributions: fetched, where the cache lacks them, and built
    where there are sources only; direct: those from addresses. Errors of PackageIndex.fetch() and .built();
    WheelError."""
    pins = [pin for pin in resolved.pins if not pin.source]
    index.fetch(pins, target)
    found = {each.wheel.name: each.wheel for each in direct}
    for pin in pins:
        path = index.named(pin.filename, pin.sha256) if pin.is_wheel else index.built(pin, target)
        found[canonicalize_name(pin.name)] = read_wheel(path)
    return found
