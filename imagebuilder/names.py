"""Names that a config or an overlay gives to packages and services, and that nothing has: all at once, each
with its file and line, and with the name that is meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from imagebuilder.config.config import LoadedConfig
from imagebuilder.config.overlay import LoadedOverlay
from imagebuilder.config.toml import KeyPath, TomlFile, read_toml
from imagebuilder.errors import Fault, FaultsError
from imagebuilder.log import Log
from imagebuilder.model.package import Package, Selected
from imagebuilder.model.tree import Tree
from imagebuilder.packages.names import known_services, much_like, names_of_any_release, offered_as
from imagebuilder.packages.package_list import read_list
from imagebuilder.packages.universe import Universe

_INIT = "/etc/init.d/"
_DRIVER = "kmod-"  # each target has its own


@dataclass(frozen=True)
class Names:
    """What the names of one image are held against. made: packages that are made here."""

    loaded: LoadedConfig
    overlays: Sequence[LoadedOverlay]
    board: str
    tree: Tree
    profile: str
    universe: Universe
    made: Mapping[str, Package]

    def places(self, table: str, key: str) -> Iterator[tuple[str, TomlFile, KeyPath]]:
        """(name, file, where in it) for each name of a list that counts for this board."""
        for file in self.loaded.files:
            differences = file.values.get("board", {}).get(self.board, {})
            for place, given in (((), file.values), (("board", self.board), differences)):
                for index, name in enumerate(given.get(table, {}).get(key, ())):
                    yield name, file, (*place, table, key, index)

    @cached_property
    def known(self) -> frozenset[str]:
        """Names that a package manager finds something for."""
        plain = (each.plain_name for each in self.universe.packages if each.abi_version)
        return frozenset((*self.universe.names, *self.universe.unusable, *self.made, *plain))

    @cached_property
    def unknown(self) -> frozenset[str]:
        """Names of packages that config or overlays add, and that nothing has."""
        asked = (
            *self.loaded.config.packages.add,
            *(n for each in self.overlays for n in each.overlay.packages),
        )
        return frozenset(asked) - self.known


def package_faults(names: Names, log: Log) -> list[Fault]:
    """Every name of a package that config or overlays add and no feed has, and every one that the config
    removes and that nothing is called. A driver of another target is only told of."""
    return [*_added(names), *_removed(names, log)]


def _added(names: Names) -> Iterator[Fault]:
    wanted = names.unknown.intersection(names.loaded.config.packages.add)
    for name, file, key in names.places("packages", "add"):
        if name in wanted:
            yield file.fault(key, f"no feed has '{name}'", _meant(name, names))
    for each in names.overlays:
        if not names.known.issuperset(each.overlay.packages):
            file = read_toml(each.folder / "overlay.toml")
            for index, name in enumerate(each.overlay.packages):
                if name not in names.known:
                    key = ("packages", index)
                    yield file.fault(key, f"no feed has '{name}'", _meant(name, names))


def _meant(name: str, names: Names) -> str:
    return offered_as(name, names.universe) or "is a feed missing, or the name wrong?"


def _removed(names: Names, log: Log) -> Iterator[Fault]:
    lists = read_list((*names.tree.default_packages, *names.tree.profiles[names.profile].packages))
    defaults = {*lists.add, *lists.remove}
    unknown = {*names.loaded.config.packages.remove} - names.known - defaults - names_of_any_release()
    for name, file, key in names.places("packages", "remove"):
        if name not in unknown:
            continue
        near = much_like(name, defaults) or much_like(name, {*names.known, *names_of_any_release()})
        hint = f"did you mean '{near}'?" if near else offered_as(name, names.universe)
        if name.startswith(_DRIVER):
            what = f"no feed of this target has '{name}', which is to stay out"
            log.warn(str(file.fault(key, what, hint)))
            continue
        yield file.fault(
            key, f"nothing is called '{name}', which is to stay out", hint or "leave it out of the list"
        )


# what a package brings below /etc/init.d, None where that is not known before it is fetched
Scripts = Callable[[Package], Collection[str] | None]


def init_scripts(paths: Iterable[str]) -> set[str]:
    """The names of the init scripts among paths of a root file system."""
    return {path.removeprefix(_INIT) for path in paths if path.startswith(_INIT)}


def service_faults(
    names: Names, own: Collection[str], scripts: Scripts, log: Log, selected: Sequence[Selected]
) -> list[Fault]:
    """Every service that the config names and that nothing is called. Where packages that are not fetched yet
    could bring it, and it looks like no other, that is only told of.

    selected: all packages of the image; own: services that apps and overlays bring.
    """
    services = names.loaded.config.services
    known = {*known_services(), *names_of_any_release(), *own, *names.known}
    unknown = {*services.disabled, *services.enabled} - known
    if not unknown:
        return []
    found = [scripts(each.package) for each in selected if each.name not in names.made]
    here = {name for each in found for name in each or ()}
    likely = {*known_services(), *own, *here, *(each.name for each in selected)}
    faults = []
    for name, file, key in _services(names):
        if name not in unknown - here:
            continue
        near = much_like(name, likely)
        if near is None and None in found:
            log.warn(str(file.fault(key, f"whether there is a service '{name}' shows when all is fetched")))
            continue
        faults.append(file.fault(key, f"there is no service '{name}'", _meant_service(near, here)))
    return faults


def unknown_overlays(overlays: Sequence[LoadedOverlay], there: Collection[str]) -> Iterator[Fault]:
    """The overlays that one of the image's conflicts with, and that cannot be had here. It is no error: an
    overlay is used in several projects, and the other one may be in another. there: the names of all."""
    known = {*there, *(each.overlay.name for each in overlays)}
    for each in overlays:
        if known.issuperset(each.overlay.conflicts):
            continue
        file = read_toml(each.folder / "overlay.toml")
        for index, name in enumerate(each.overlay.conflicts):
            if name not in known:
                near = much_like(name, known)
                hint = f"did you mean '{near}'?" if near else None
                yield file.fault(("conflicts", index), f"there is no overlay '{name}' here", hint)


def check_scripts(names: Names, selected: Sequence[Selected], scripts: Collection[str]) -> None:
    """FaultsError with what service_faults() gives, when all packages are there. scripts: all that the image
    has. What other images have is no fault, but for the name of a package that is there without one."""
    there = {each.name for each in selected}
    elsewhere = {*known_services(), *((names.known | names_of_any_release()) - there)}
    faults = [
        file.fault(key, f"there is no service '{name}'", _meant_service(much_like(name, scripts), scripts))
        for name, file, key in _services(names)
        if name not in scripts and name not in elsewhere
    ]
    if faults:
        raise FaultsError(faults)


def _services(names: Names) -> Iterator[tuple[str, TomlFile, KeyPath]]:
    services = names.loaded.config.services
    for key, left in (("disabled", services.disabled), ("enabled", services.enabled)):
        yield from (each for each in names.places("services", key) if each[0] in left)


def _meant_service(near: str | None, here: Collection[str]) -> str:
    if near is not None:
        return f"did you mean '{near}'?"
    return f"the image has {', '.join(sorted(here))}" if here else "leave it out of the list"
