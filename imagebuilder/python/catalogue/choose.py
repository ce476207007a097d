"""`auto`: the smallest set of packages that gives apps what they import.

Packages of third-party modules are known by their names alone: those of lang/python in openwrt/packages
(branches openwrt-19.07 to master).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from imagebuilder.errors import Fault, FaultsError
from imagebuilder.python.apps.apps import AppScan
from imagebuilder.python.catalogue.catalogue import Catalogue, known_series, load_catalogue
from imagebuilder.python.imports.imports import NEEDED, Import, ImportGraph, Kind, SourceLine, import_graph
from imagebuilder.python.imports.needs import needs

_PREFIX = "python3-"
# where the package is not called as the module is: what follows `python3-`, the newer name first
DIFFERENT: Mapping[str, tuple[str, ...]] = {
    "Crypto": ("cryptodome", "crypto"),
    "Cryptodome": ("cryptodomex",),
    "MySQLdb": ("mysql",),
    "OpenSSL": ("pyopenssl",),
    "PIL": ("pillow",),
    "attr": ("attrs",),
    "corsheaders": ("django-cors-headers",),
    "elftools": ("pyelftools",),
    "google.protobuf": ("protobuf",),
    "jwt": ("pyjwt",),
    "nacl": ("pynacl",),
    "paho.mqtt": ("paho-mqtt",),
    "pubsub": ("pypubsub",),
    "pycurl": ("curl",),
    "pylibmodbus": ("libmodbus",),
    "rest_framework": ("django-restframework",),
    "rtslib": ("rtslib-fb",),
    "ruamel.yaml": ("ruamel-yaml",),
    "serial": ("pyserial",),
    "socks": ("pysocks",),
    "usb": ("pyusb",),
    "websocket": ("websocket-client",),
    "yaml": ("yaml", "pyyaml"),
    "zope.interface": ("zope-interface",),
}


@dataclass(frozen=True, slots=True, order=True)
class Want:
    """One import that wants a package. via: the chain of modules from the one that is imported to the one
    that the package brings, as `ssl` comes with `_ssl`; by: what the source does, where it is no import."""

    file: str
    line: int
    module: str
    kind: Kind
    via: tuple[str, ...]
    by: str = ""


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """An import that an app does without. package: the one that packages.add would have to name; None if no
    package brings the module."""

    package: str | None
    want: Want


@dataclass(frozen=True, slots=True, order=True)
class Lazy:
    """A module of the standard library that may import another one later, whose package is not there: some
    of its functions fail then, or do without."""

    module: str
    missing: str
    package: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What `auto` found. wanted: the packages to install, what they depend on left out, the interpreter
    first, and for each of them who wants it (nobody names the interpreter); computed: imports that cannot be
    read."""

    wanted: Mapping[str, tuple[Want, ...]]
    left_out: tuple[LeftOut, ...]
    lazy: tuple[Lazy, ...]
    computed: tuple[SourceLine, ...]

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages' names, in order."""
        return tuple(self.wanted)


@dataclass(slots=True)
class _Chooser:
    catalogue: Catalogue
    graph: ImportGraph
    feed: Collection[str]
    own: frozenset[str]
    alone: Mapping[str, frozenset[str]]  # by file of an app, what else that app alone can import
    providers: Mapping[str, str]
    wanted: dict[str, list[Want]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def is_own(self, imported: Import, top: str) -> bool:
        """Whether a module is one of the apps' own that the file of an import sees."""
        return top in self.own or top in self.alone.get(imported.file, ())

    def sources(self, imported: Import, module: str) -> dict[str, tuple[str, ...]] | None:
        """The packages that a module comes from, with the chains of modules; {} for the apps' own modules,
        None where no package brings it."""
        top = module.partition(".")[0]
        if self.is_own(imported, top):
            return {}
        if top not in self.providers:
            names = (f"{module}.{name}" for name in imported.names)  # from google import protobuf
            found = (feed_package(name, self.feed) for name in (module, *names))
            package = next((each for each in found if each is not None), None)
            return None if package is None else {package: (module,)}
        taken = (f"{module}.{name}" for name in imported.names if module == imported.module)
        return self.brings(module, *(name for name in taken if name in self.graph.eager))

    def brings(self, *modules: str) -> dict[str, tuple[str, ...]]:
        """The packages of the catalogue that the standard library's modules come from, and what these need
        at once, with the chains of modules."""
        packages: dict[str, tuple[str, ...]] = {}
        for module in modules:
            for reached, chain in self.graph.reached(module).items():
                provider = self.providers.get(reached.partition(".")[0])
                if provider is not None:
                    packages.setdefault(provider, chain)
        return packages

    def used(
        self, scan: AppScan, distributions: Collection[str], *, library: bool = False
    ) -> Iterator[Import]:
        """The modules that calls in a source import, as imports, where more than the interpreter's own
        package has to bring them. library: of an app's requirement."""
        base = self.catalogue.variants["base"]
        for use in scan.uses:
            need = needs()[use.need]
            if library and not need.libraries:
                continue
            for module in use.modules(distributed=need.distribution in distributions):
                if self.brings(module).keys() - {base}:
                    by = f"{use.words}, which imports"
                    yield Import(use.file, use.line, module, "always", by=by)

    def installed(self) -> set[str]:
        """All packages that are there with what has been found so far."""
        known = [name for name in self.wanted if name in self.catalogue.packages]
        base = self.catalogue.variants["base"]
        return {package.name for package in self.catalogue.closure([base, *known])} | set(self.wanted)

    def add(self, imported: Import, packages: Mapping[str, tuple[str, ...]]) -> None:
        for package, chain in packages.items():
            self.wanted.setdefault(package, []).append(_want(imported, chain))

    def need(self, imported: Import) -> None:
        """The module, or what takes its place: rather what is there already than a new package, rather one
        of Python's own than a feed's, rather the one that is tried first."""
        found = [self.sources(imported, module) for module in (imported.module, *imported.instead)]
        there = [packages for packages in found if packages is not None]
        if there:
            self.add(imported, min(there, key=self.cost))
        else:
            self.faults.append(self.fault(imported))

    def has(self, imported: Import) -> bool:
        """Whether Python itself has a module that a library imports, or one that takes its place."""
        found = (self.sources(imported, module) for module in (imported.module, *imported.instead))
        return any(each is not None and each.keys() <= self.catalogue.packages.keys() for each in found)

    def cost(self, packages: Mapping[str, tuple[str, ...]]) -> int:
        if packages.keys() <= self.installed():
            return 0
        return 1 if packages.keys() <= self.catalogue.packages.keys() else 2

    def fault(self, imported: Import) -> Fault:
        top, python, series = imported.top, self.catalogue.python, self.catalogue.series
        if not top:
            message = f"the relative import of '{imported.module}' leads out of the app"
            hint = "name the folder that holds the whole package in python.apps"
        elif top in self.catalogue.shipped_in_no_package:
            message = f"OpenWrt {series} leaves the module '{top}' out of Python {python}"
            hint = f"import '{top}' where ImportError is caught, or bring the module with the app"
        elif others := _series_with(top):
            message = f"Python {python} of OpenWrt {series} has no module '{top}'"
            hint = f"OpenWrt {', '.join(others)} has it; or import it where ImportError is caught"
        else:
            message = f"no package brings the module '{top}'"
            hint = "name its distribution in python.requirements, or its package in packages.add"
        return Fault(imported.file, imported.line, "", message, hint)

    def left_out(self, imports: Iterable[Import]) -> tuple[LeftOut, ...]:
        there = self.installed()
        found: set[LeftOut] = set()
        for imported in imports:
            packages = self.sources(imported, imported.module)
            if packages is None:
                found.add(LeftOut(None, _want(imported, (imported.module,))))
            else:
                missing = packages.keys() - there
                found |= {LeftOut(name, _want(imported, packages[name])) for name in missing}
        return tuple(sorted(found, key=lambda each: (each.package or "", each.want)))

    def lazy(self, imports: Iterable[Import]) -> tuple[Lazy, ...]:
        there = self.installed()
        found: dict[tuple[str, str, str], Lazy] = {}
        for imported in imports:
            names = (f"{imported.module}.{name}" for name in imported.names)
            for module in (imported.module, *names) if not self.is_own(imported, imported.top) else ():
                for missing in self.graph.lazy.get(module, ()):
                    for package in self.brings(missing).keys() - there:
                        lazy = Lazy(module, missing, package, imported.file, imported.line)
                        found.setdefault((module, missing, package), lazy)
        return tuple(sorted(found.values()))


def _want(imported: Import, chain: tuple[str, ...]) -> Want:
    return Want(imported.file, imported.line, imported.module, imported.kind, chain, imported.by)


def _series_with(top: str) -> tuple[str, ...]:
    """The release series whose Python has a module."""
    return tuple(series for series in known_series() if top in load_catalogue(series).providers())


def choose_packages(
    catalogue: Catalogue,
    scans: Sequence[AppScan],
    *,
    feed_packages: Collection[str] = (),
    libraries: Sequence[AppScan] = (),
    distributions: Collection[str] = (),
) -> Choice:
    """The smallest set of packages for these apps, which see one another's modules, but for those of flat
    apps. catalogue: of Python 3;
    feed_packages: names of the feeds' packages, for third-party modules. libraries: what the apps require;
    these say themselves which distributions they need, so that what else they import in vain, for servers
    and platforms that are not there, is left out. distributions: names of those that go in: data of some are
    read by modules that nobody imports.

    Imports in functions and on conditions count as needed. One whose absence is caught does not, unless what
    catches it imports another one under its name: then one of them is needed. A module that the standard
    library itself needs at once comes with the one that needs it.

    Raises FaultsError naming file and line of every module that no package brings.
    """
    own = frozenset(name for scan in (*scans, *libraries) if not scan.alone for name in scan.own)
    alone = {each.file: scan.own for scan in scans if scan.alone for each in scan.imports}
    libpython, base = catalogue.builtin_modules_in, catalogue.variants["base"]
    providers = {
        module: base if name == libpython else name for module, name in catalogue.providers().items()
    }
    feed = set(feed_packages) - catalogue.packages.keys()
    chooser = _Chooser(catalogue, import_graph(catalogue.python), feed, own, alone, providers)
    imports = sorted(
        imported for scan in scans for imported in (*scan.imports, *chooser.used(scan, distributions))
    )
    theirs = sorted(
        imported
        for scan in libraries
        for imported in (*scan.imports, *chooser.used(scan, distributions, library=True))
    )
    imports += [each if chooser.has(each) else replace(each, kind="optional", instead=()) for each in theirs]
    needed = [each for each in imports if each.kind in NEEDED]
    either = [each for each in imports if each.kind == "optional" and each.instead]
    for imported in (*needed, *either):  # the latter may find that there is enough already
        chooser.need(imported)
    if chooser.faults:
        raise FaultsError(chooser.faults)
    order = [base, *(name for name in catalogue.packages if name in chooser.wanted and name != base)]
    packages = (*order, *sorted(chooser.wanted.keys() - catalogue.packages.keys()))
    replacements = {module for each in either for module in each.instead}
    maybe = [each for each in imports if each.kind == "optional"]
    maybe += [each for each in imports if each.kind == "fallback" and each.module not in replacements]
    return Choice(
        wanted={name: tuple(sorted(set(chooser.wanted.get(name, ())))) for name in packages},
        left_out=chooser.left_out(maybe),
        lazy=chooser.lazy(needed),
        computed=tuple(place for scan in (*scans, *libraries) for place in scan.computed),
    )


def _candidates(module: str) -> Iterator[str]:
    """Package names to look for, the likeliest first: by the table, for the longest part of the name that is
    in it, then by the rule that `_` becomes `-` and capitals small letters."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        yield from (_PREFIX + name for name in DIFFERENT.get(".".join(parts[:end]), ()))
    yield _PREFIX + parts[0].lower().replace("_", "-")
    yield _PREFIX + parts[0]  # python3-et_xmlfile


def feed_package(module: str, packages: Collection[str]) -> str | None:
    """The one of these packages that brings a module, by its name alone; None if none is called so."""
    return next((name for name in _candidates(module) if name in packages), None)
