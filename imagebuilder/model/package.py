"""A package, what is asked of a package manager, and what it selects."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Self, overload

LOCAL = "local"  # the feed of what is made here
MOST_SHOWN = 64  # of the names of one way; genuine ways have some ten

MAX_PACKAGES = 100_000  # of one index; of the genuine ones none has 5,000
MAX_INDEX_BYTES = 32 << 20  # of one index, unpacked; the largest genuine one has 2.4 MB


@dataclass(frozen=True, slots=True)
class Dependency:
    """One name that a package wants or clashes with; operator is one of << <= = >= >> (opkg's), of
    < <= = >= > ~ <~ >~ and >< (apk's; the last one means a hash), or None."""

    name: str
    operator: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.operator is None else f"{self.name} ({self.operator} {self.version})"


@dataclass(frozen=True, slots=True)
class Package:
    """A package as its index describes it. size: bytes of the package file. installed_size: what the
    index states, in bytes (up to 23.05 the compressed data archive, from 24.10 the unpacked files). feed:
    whose index that is, "" for the tree's own packages, LOCAL for what is made here."""

    name: str
    version: str
    architecture: str = "all"
    depends: tuple[tuple[Dependency, ...], ...] = ()  # all of these; each inner tuple: any one of them
    provides: tuple[str, ...] = ()
    conflicts: tuple[Dependency, ...] = ()
    replaces: tuple[Dependency, ...] = ()
    filename: str = ""
    size: int = 0
    installed_size: int = 0
    sha256: str = ""
    section: str = ""
    description: str = ""
    abi_version: str = ""
    essential: bool = False
    extra: dict[str, str] = field(default_factory=dict, hash=False, compare=False)
    identity: str = ""  # apk: what its index knows the package by, in hex
    provided_versions: tuple[tuple[str, str], ...] = ()  # apk: (name, version) of provides that have one
    feed: str = ""

    @property
    def plain_name(self) -> str:
        """The name as users write it: without the ABI version that it ends in, if it has one."""
        bare = self.name.removesuffix(self.abi_version)
        return bare.removesuffix("-") if bare and self.abi_version else self.name

    def remade(self, version: str, **changes: Any) -> Self:
        """The package that is made here of this one: of another version, and without a file by now. changes:
        of other fields."""
        return replace(
            self, version=version, filename="", size=0, sha256="", identity="", feed=LOCAL, **changes
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. add: packages by their names, also names that others provide, in order, and who
    asked for each; remove: names of packages that are to stay out, where none that goes in needs them."""

    add: Mapping[str, str]
    remove: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], remove: Iterable[str] = (), *, asker: str = "") -> Self:
        """What one asker wants."""
        return cls(dict.fromkeys(names, asker), tuple(remove))

    @property
    def names(self) -> tuple[str, ...]:
        """What is to go in."""
        return tuple(self.add)

    @property
    def removals(self) -> tuple[str, ...]:
        """What is to stay out, as OpenWrt's lists of packages write it."""
        return tuple(f"-{name}" for name in self.remove)

    @property
    def words(self) -> tuple[str, ...]:
        """All of it as make's PACKAGES has it."""
        return (*self.names, *self.removals)

    def without(self, names: Container[str]) -> Self:
        """What is left when some names are not asked for any more."""
        return replace(self, add={name: who for name, who in self.add.items() if name not in names})


@dataclass(frozen=True, slots=True)
class Swap:
    """A default package of tree or profile that another one stands in for. gone: the default, as the list
    names it; by: the name that was added, which brings what takes its place; reason: a clause. declared: they
    say that they cannot be in one image; done: the default does not go in, else somebody has to say so."""

    gone: str
    by: str
    reason: str
    declared: bool
    done: bool

    def __str__(self) -> str:
        if self.done:
            return f"{self.by} takes the place of the default {self.gone}: {self.reason}"
        return (
            f"{self.by} would take the place of the default {self.gone}, which goes in beside it:"
            f' {self.reason}; say remove = ["{self.gone}"], or replace = true, in [packages]'
        )


class Way(Sequence[str]):
    """Who asked for a package, then the names of packages from the one that was asked for down to it. It
    keeps who needs each package, which all ways of an image share, and is written out when it is looked at:
    those of packages that need one another in a chain would be of quadratic length together."""

    __slots__ = ("_asker", "_by", "_length", "_name")

    def __init__(self, asker: str, by: Mapping[str, str | None], name: str, length: int) -> None:
        """by: of a package the name of the one that needs it, None if it was asked for. length: of all, the
        asker included."""
        self._asker, self._by, self._name, self._length = asker, by, name, length

    def __reversed__(self) -> Iterator[str]:
        name: str | None = self._name
        while name is not None:
            yield name
            name = self._by[name]
        yield self._asker

    def __iter__(self) -> Iterator[str]:
        return reversed(tuple(reversed(self)))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._asker if index == 0 else tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Way | tuple) and len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def shown_way(why: Sequence[str]) -> tuple[str, ...]:
    """A way as people and programs are shown it: whole, or where it is longer than anybody reads who asked,
    how many names are left out, and the last ones."""
    if len(why) <= MOST_SHOWN:
        return tuple(why)
    last = tuple(islice(reversed(why), MOST_SHOWN - 2))[::-1]
    return (why[0], f"... {len(why) - 1 - len(last)} more ...", *last)


@dataclass(frozen=True, slots=True)
class Selected:
    """A package that goes into an image, and why. why: who asked, then the names of packages from the one
    that was asked for down to this one. wanted: the name that was asked for, or the dependency as the package
    before this one has it."""

    package: Package
    why: Sequence[str]
    wanted: str = ""

    @property
    def name(self) -> str:
        """The package's."""
        return self.package.name

    @property
    def version(self) -> str:
        """The package's."""
        return self.package.version

    @property
    def feed(self) -> str:
        """Where the package comes from: "" is the tree, LOCAL what is made here."""
        return self.package.feed

    @property
    def by(self) -> str | None:
        """The name of the package that needs this one; None if it was asked for."""
        return next(islice(reversed(self.why), 1, None)) if len(self.why) > 2 else None


@dataclass(frozen=True, slots=True)
class UnusablePackage:
    """A package of an index that cannot be used. name: "" where nothing tells it; reason: a clause; line: of
    the index's text, from 1, or 0."""

    name: str
    reason: str
    line: int = 0

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{self.name or 'a package without a name'} ({place}{self.reason})"


class PackageList(tuple[Package, ...]):
    """The packages of an index, in its order. unusable: those that are not among them, and why: what an index
    says of one package can cost that package, and no other."""

    unusable: tuple[UnusablePackage, ...]

    def __new__(cls, packages: Iterable[Package] = (), unusable: Iterable[UnusablePackage] = ()) -> Self:
        """Both in the order of the index."""
        made = super().__new__(cls, packages)
        made.unusable = tuple(unusable)
        return made
