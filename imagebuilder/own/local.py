"""The local feed: packages made here, from apps, wheels, recipes, and feed packages with filespecs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imagebuilder.called import typed
from imagebuilder.config.model_config import Config
from imagebuilder.errors import UserError
from imagebuilder.model.filespec import package_rules, with_python
from imagebuilder.model.package import LOCAL, Package, Selected
from imagebuilder.model.result import ShakenPackage
from imagebuilder.own.own import Own
from imagebuilder.packages.manager import PackageManager
from imagebuilder.rootfs.tree import FileTree, LocalPackage


class FilespecUseError(UserError):
    """A filespec of a config for a package that it cannot be applied to."""


@dataclass(frozen=True)
class Original:
    """A package of the tree or a feed that is repacked. rules: filled in."""

    package: Package
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Remade:
    """Packages whose content was made at plan time, by their names. made: of one's own; ready: feeds'
    packages that were compiled or shaken. gone: packages that nobody needs any more; dropped: the modules
    that were shaken off, and shaken what that saved."""

    made: Mapping[str, LocalPackage]
    ready: Mapping[str, LocalPackage]
    gone: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    shaken: tuple[ShakenPackage, ...] = ()

    @property
    def known(self) -> dict[str, LocalPackage]:
        """All of it."""
        return {**self.made, **self.ready}


NOTHING_REMADE = Remade({}, {})


@dataclass(frozen=True)
class Local:
    """What is made here for one image. originals: by the name of the package. contents: of feeds' packages,
    as far as they were looked into at plan time. taken: what was selected before packages got another
    form."""

    own: Own
    originals: Mapping[str, Original]
    remade: Remade
    contents: Mapping[str, LocalPackage]
    taken: tuple[Selected, ...]

    def known(self) -> dict[str, FileTree]:
        """What packages will hold, by their names, as far as that is known at plan time."""
        return {name: each.tree for name, each in {**self.contents, **self.remade.known}.items()}


def made_here(
    own: Own, originals: Mapping[str, Original], remade: Remade, manager: PackageManager
) -> tuple[Package, ...]:
    """All packages of the local feed, as a plan knows them."""
    ready = (each.package for each in remade.ready.values())
    if not originals:
        return (*own.declared.values(), *ready)
    from imagebuilder.packages.repack import declare  # noqa: PLC0415 - few configs have filespecs

    repacked = (declare(each.package, each.rules, manager) for each in originals.values())
    return (*own.declared.values(), *repacked, *ready)


def originals_of(selected: Iterable[Selected], own: Own, config: Config) -> dict[str, Original]:
    """The packages that filespecs are for, as they were selected. FilespecUseError for one that is not in the
    image."""
    there = {each.name: each.package for each in selected}
    python = own.sources.catalogue.python if own.sources is not None else _python_of(there)
    originals = {}
    for name, lines in package_rules(config.filespec).items():
        package = there.get(name)
        if package is None or package.feed == LOCAL:
            what = (
                "is not in the image" if package is None else "is one of your own: say filespec in its recipe"
            )
            raise FilespecUseError(
                f"config {config.name}: [[filespec]] names the package '{name}', which {what}",
                hint=f"{typed(f'plan {config.name}')} lists what is in it",
            )
        originals[name] = Original(package, with_python(lines, python))
    return originals


def _python_of(packages: Mapping[str, Package]) -> str:
    """`3.11`, of the interpreter among them; "" where there is none."""
    base = packages.get("python3-base")
    return ".".join(base.version.split(".")[:2]) if base is not None else ""
