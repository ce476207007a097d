"""The shared libraries that wheels want of the image: which package has each, as far as a plan can know it,
and whether it is there once the packages are.

A plan looks into the packages that are at hand: the tree's, those in folders, those in the cache. One that is
in none of these is taken by its name (python/wheels/libraries.py). Before it gives up it fetches what the
config asks for anyhow, with all that this needs, and looks into it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from imagebuilder.config.app import PythonPackageUse
from imagebuilder.model.package import LOCAL, Dependency, Package, Selected
from imagebuilder.packages.check_contents import ContentsError, package_file
from imagebuilder.packages.contents import (
    LIBRARY_FOLDERS,
    Contents,
    contents_of,
    contents_of_tree,
    library_in,
    like_library,
)
from imagebuilder.packages.feed import in_folder
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.packages.universe import rank
from imagebuilder.python.wheels.libraries import abi_of, package_names
from imagebuilder.python.wheels.target import WheelTarget, native_hint
from imagebuilder.python.wheels.tree import NativeCodeError, NativeFiles, own_libraries, wanted_libraries
from imagebuilder.rootfs.tree import FileTree

_SHOWN = 5
_MAX_CLOSURE = 500  # packages that are fetched to be looked into
_NO_LIBRARIES = ("kmod-", "luci-", "python3-")  # how packages are called that have none in these folders


@dataclass(frozen=True, slots=True)
class LibraryUse:
    """A library (its SONAME) that wheels want. package: that has it, "" for an overlay;
    wanted_by: distributions, each with its first file that wants it. in_wheel: another wheel has it among its
    own files, where its modules find it."""

    library: str
    package: str
    wanted_by: Mapping[str, str]
    in_wheel: bool = False

    @property
    def reason(self) -> str:
        """Why the package goes in."""
        return f"needed by {', '.join(self.wanted_by)} ({self.library})"


def find_libraries(
    job: Job,
    supply: Supply,
    target: WheelTarget,
    natives: Iterable[NativeFiles],
    *,
    laid: Mapping[str, str],
    asked: Collection[str],
) -> tuple[LibraryUse, ...]:
    """Who has each library that these native files want, and which of them want it; what comes with one of
    them is none. laid: names of libraries that overlays ("") and recipes (the package's name) bring; asked:
    the packages that are asked for.

    NativeCodeError for a file that does not fit the target, and for a library that nothing has: it says what
    was looked at. PackageFileError, and what fetching raises.
    """
    natives = tuple(natives)
    wanted: dict[str, dict[str, NativeFiles]] = {}
    files: dict[tuple[str, str], str] = {}
    for native in natives:
        for library, file in wanted_libraries(native, target).items():
            wanted.setdefault(library, {})[native.distribution] = native
            files[library, native.distribution] = file
    if not wanted:
        return ()
    theirs = {name for native in natives for name in own_libraries(native)}
    search = _Search(job, supply, asked)
    uses = []
    for library, who in sorted(wanted.items()):
        if library in laid or library in theirs:
            package: str | None = laid.get(library, "")
        else:
            package = search.package_with(library)
        if package is None:
            name, native = next(iter(who.items()))
            raise NativeCodeError(
                f"{native.where.name}: {files[library, name]} wants the library {library}, which neither it"
                f" nor the image brings: {search.told(library)}",
                hint=f"name the package that has it in packages.add (a feed with it in [[feed]]); or"
                f" {native_hint(native.distribution, target)}",
            )
        uses.append(
            LibraryUse(library, package, {name: files[library, name] for name in who}, library in theirs)
        )
    return tuple(uses)


def brought_by(recipes: Iterable[PythonPackageUse]) -> dict[str, str]:
    """The names of libraries among the files that recipes name, and whose package has each."""
    places = ((PurePosixPath(path), recipe.name) for recipe in recipes for path in recipe.files)
    return {place.name: name for place, name in places if str(place.parent) in LIBRARY_FOLDERS}


@dataclass(slots=True)
class _Search:
    """Looks for libraries. looked: for each, what was looked into in vain."""

    job: Job
    supply: Supply
    asked: Collection[str]
    looked: dict[str, list[str]] = field(default_factory=dict)

    def package_with(self, library: str) -> str | None:
        """The name of a package that has a library, or of the likeliest one that may; None where there is
        none."""
        told = self.looked.setdefault(library, [])
        unseen, doubtful = list[Package](), list[Package]()
        for package, likely in self.named(library):
            held = self.held([package], fetch=False).get(package.name)
            if held is None:
                (unseen if likely else doubtful).append(package)
            elif library_in(held, library) is not None:
                return package.name
            else:
                told.append(_without(package, held, library))
        if unseen:
            return unseen[0].name
        offline = self.job.offline
        ways = (
            (self.needed(doubtful), not offline, "asked for, and what they need"),
            (self.at_hand(), False, "at hand"),
        )
        for packages, fetch, what in ways:
            held_by = self.held(packages, fetch=fetch)
            for package in packages:
                if package.name in held_by and library_in(held_by[package.name], library) is not None:
                    return package.name
            if held_by:
                told.append(f"{len(held_by)} packages that are {what}")
        return None

    def named(self, library: str) -> Iterator[tuple[Package, bool]]:
        """Packages that may have it by their names, and whether they are likely to: those whose ABI is
        another one are not, unless the table says that it does not tell."""
        universe = self.supply.offers.universe
        names = {each.name for each in universe.packages}
        abi, seen = abi_of(library), set[str]()
        for name in package_names(library):
            found = [*name.matching(names), *universe.providers(name.name)]
            for each in dict.fromkeys(found):
                versions = [one for one in universe.named(each) if one.feed != LOCAL]
                if each in seen or not versions:
                    continue
                seen.add(each)
                package = max(versions, key=rank)
                own = package.abi_version.strip("-")
                exact = not own or not abi or abi == own or abi.startswith(f"{own}.")
                yield package, exact or (name.stated and "*" in name.name)

    def needed(self, first: Sequence[Package]) -> list[Package]:
        """The packages that are asked for, and those that they need, after some others."""
        universe = self.supply.offers.universe
        found = {package.name: package for package in first}
        waiting = [Dependency(name) for name in self.asked]
        for dependency in waiting:  # grows while it is walked
            package = next(universe.candidates(dependency), None)
            if package is None or package.name in found or package.feed == LOCAL:
                continue
            if len(found) >= _MAX_CLOSURE:
                break
            found[package.name] = package
            waiting += [alternatives[0] for alternatives in package.depends if alternatives]
        return [each for each in found.values() if not each.name.startswith("kmod-")]

    def at_hand(self) -> list[Package]:
        """Packages of the tree and of feeds that are folders."""
        folders = (
            feed.packages for feed in self.supply.feeds if feed.folder is not None and not feed.mirrors
        )
        every = (package for packages in (self.supply.own, *folders) for package in packages)
        return [each for each in every if not each.name.startswith(_NO_LIBRARIES)]

    def held(self, packages: Sequence[Package], *, fetch: bool) -> dict[str, Contents]:
        """What lies in packages, by their names; those that are not here, and may not be fetched, are
        left out."""
        job, supply = self.job if fetch else replace(self.job, offline=True), self.supply
        finders = [
            *job.manager.fetch(job, supply, packages),
            in_folder(supply.tree / "packages"),
            lambda package: supply.base.get(package.filename),
        ]
        found: dict[str, Contents] = {}
        for package in packages:
            file, _ = job.manager.checked(package, finders)
            if file is not None:
                found[package.name] = contents_of(job, package, file)
        return found

    def told(self, library: str) -> str:
        """What was looked at, in words."""
        names = ", ".join(each.name for each in package_names(library))
        return f"no package of {names} has it; looked into " + "; ".join(self.looked[library])


def _without(package: Package, held: Contents, library: str) -> str:
    like = like_library(held, library)
    has = f"which has {', '.join(like[:_SHOWN])}" if like else "which has no such file"
    return f"{package.name} {package.version}, {has}"


def check_libraries(
    job: Job, supply: Supply, going: Sequence[Selected], over: FileTree, uses: Sequence[LibraryUse]
) -> None:
    """ContentsError names every library that a wheel wants and the image has not, now that its packages are
    here. going: all packages of the image, laid for make; over: what overlays hold. PackageFileError."""
    uses = [each for each in uses if not each.in_wheel]
    if not uses:
        return

    def held(each: Selected) -> Contents:
        return contents_of(job, each.package, package_file(job, supply, each))

    chosen = {each.package for each in uses}
    near = {each.name: held(each) for each in going if each.name in chosen}
    lacking = [
        use for use in uses if use.package not in near or library_in(near[use.package], use.library) is None
    ]
    if not lacking:
        return
    everything = _together([*(held(each) for each in going), contents_of_tree(over)])
    wrong = [use for use in lacking if library_in(everything, use.library) is None]
    if wrong:
        lines = []
        for use in wrong:
            files = ", ".join(f"{file} of {name}" for name, file in use.wanted_by.items())
            where = f"{use.package} should have it, and " if use.package else ""
            like = like_library(everything, use.library)
            there = f"has {', '.join(like[:_SHOWN])}" if like else "has nothing of that name"
            lines.append(
                f"the library {use.library}, which {files} wants, is not there: {where}the image {there}"
            )
        raise ContentsError(
            "\n".join(
                [*lines, f"looked at {', '.join(LIBRARY_FOLDERS)} of {len(going)} packages and overlays"]
            ),
            hint="name the package that has it in packages.add; or take another release of what wants it",
        )


def _together(contents: Iterable[Contents]) -> Contents:
    found = tuple(contents)
    return Contents(
        {path: held for each in found for path, held in each.held.items()},
        {path: code for each in found for path, code in each.code.items()},
    )
