"""All packages of all feeds, to be looked up by name and by what they provide. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.version import Key, satisfies, version_key

ANY_ARCHITECTURE = "all"


def fits(dependency: Dependency, package: Package) -> bool:
    """Whether a package, by its name or what it provides, satisfies one dependency. As in opkg a version is
    tested against the package's own, whatever name it is wanted by."""
    if dependency.name != package.name and dependency.name not in package.provides:
        return False
    return fits_version(dependency, package)


def fits_version(dependency: Dependency, package: Package) -> bool:
    """Whether a package's version is one that the dependency accepts."""
    if dependency.operator is None or dependency.version is None:
        return True
    return satisfies(package.version, dependency.operator, dependency.version)


def quarrels(one: Package, other: Package) -> bool:
    """Whether `one` says that it cannot stand beside `other`: Conflicts means the packages of that name, not
    those that provide it, and who Replaces a name, in whatever version, has no quarrel with it."""
    return other in Quarrels(one)


class Quarrels:
    """Whom one package cannot stand beside, to be asked for many others; see quarrels()."""

    def __init__(self, package: Package) -> None:
        replaced = {each.name for each in package.replaces}
        self.names: dict[str, list[Dependency]] = {}  # in the order of its Conflicts
        for each in package.conflicts:
            if each.name not in replaced:
                self.names.setdefault(each.name, []).append(each)

    def __contains__(self, other: Package) -> bool:
        return any(fits_version(each, other) for each in self.names.get(other.name, ()))


def clash(one: Package, other: Package) -> bool:
    """Whether the two cannot be in one image, by what either of them says."""
    return one.name != other.name and (quarrels(one, other) or quarrels(other, one))


class Universe:
    """What the feeds hold. Of packages equal in name, version and architecture the one that was given first
    counts: opkg takes the one that it reads last, so give the feeds in the reverse of repositories.conf.
    unusable: by the name of a package that cannot be used, a sentence that says why."""

    def __init__(self, packages: Iterable[Package], unusable: Mapping[str, str] | None = None) -> None:
        self.packages = tuple(packages)
        self.unusable = unusable or {}
        self._named: dict[str, list[Package]] = {}
        self._providers: dict[str, dict[str, None]] = {}
        self._nearest: dict[str, list[str]] = {}  # looking through ten thousand names takes its time
        self.replacers: dict[str, str] = {}  # a name, and the package that conflicts with it and replaces it
        for package in reversed(self.packages):
            name = package.name
            self._named.setdefault(name, []).append(package)
            self._providers.setdefault(name, {})[name] = None
            for provided in package.provides:
                self._providers.setdefault(provided, {})[name] = None
            if package.replaces:
                foes = {each.name for each in package.conflicts}
                for each in package.replaces:
                    if each.name in foes and each.name != name:
                        self.replacers.setdefault(each.name, name)
        for name, versions in self._named.items():
            if len(versions) > 1:
                self._named[name] = distinct(versions)
        self.several = any(len(versions) > 1 for versions in self._named.values())

    @property
    def names(self) -> Collection[str]:
        """All names that packages have or provide."""
        return self._providers.keys()

    def named(self, name: str) -> Sequence[Package]:
        """The packages of that name, in the order of reading."""
        return self._named.get(name, ())

    def providers(self, name: str) -> Mapping[str, None]:
        """The names of packages that satisfy a name, in the order of reading."""
        return self._providers.get(name, {})

    def candidates(self, dependency: Dependency) -> Iterator[Package]:
        """Who satisfies a dependency: packages of that name, newest first, then those that provide it."""
        named = sorted(self.named(dependency.name), key=rank, reverse=True)
        yield from (each for each in named if fits_version(dependency, each))
        for provider in sorted(self.providers(dependency.name)):
            if provider != dependency.name:
                yield from (each for each in self.named(provider) if fits(dependency, each))

    def versions(self, name: str) -> list[str]:
        """The versions of a package that the feeds hold, newest first."""
        return [package.version for package in sorted(self.named(name), key=rank, reverse=True)]

    def nearest(self, name: str) -> list[str]:
        """Names that look like this one."""
        if name not in self._nearest:
            self._nearest[name] = get_close_matches(name, [*self._providers], n=3, cutoff=0.7)
        return self._nearest[name]


def distinct(versions: Iterable[Package]) -> list[Package]:
    """Packages of one name; of those equal in version and architecture the last one, at the first's place."""
    return list({(version_key(each.version), each.architecture): each for each in versions}.values())


def rank(package: Package) -> tuple[str, Key, bool]:
    """opkg's order: by name, oldest first, of equal versions `all` before the board's own architecture."""
    return package.name, version_key(package.version), package.architecture != ANY_ARCHITECTURE
