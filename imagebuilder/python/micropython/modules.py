"""Which modules the MicroPython of a release can import, and what of an app it cannot. The facts are in
data/micropython.json, with their source."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from imagebuilder.errors import Fault, FaultsError
from imagebuilder.python.apps.apps import scan_app
from imagebuilder.python.catalogue.catalogue import CatalogueError, load_micropython
from imagebuilder.python.imports.imports import NEEDED, Import

SYNTAX = (3, 11)  # what sources are read by; MicroPython itself knows less, and says so
IMPLEMENTATION = "micropython"
_SOURCES = "-src"


@dataclass(frozen=True, slots=True)
class MicroPythonModules:
    """Modules by their whole names. upstream: the interpreter's version; tls: of an interpreter with TLS;
    library: of micropython-lib; library_unix: of micropython-lib-unix."""

    series: str
    upstream: str
    builtin: frozenset[str]
    tls: frozenset[str]
    library: frozenset[str]
    library_unix: frozenset[str]

    def importable(self, packages: Collection[str]) -> frozenset[str]:
        """What can be imported with these packages, an interpreter among them or not (then the release's own
        choice of one); parents of modules included."""
        facts = load_micropython(self.series)
        chosen = next((name for name in facts.interpreters if name in packages), facts.default)
        found = set(self.builtin)
        if facts.interpreters[chosen].tls is not False:
            found |= self.tls
        bare = {name.removesuffix(_SOURCES) for name in packages}
        found |= self.library if "micropython-lib" in bare else set()
        found |= self.library_unix if "micropython-lib-unix" in bare else set()
        return frozenset(parent for name in found for parent in _with_parents(name))


def _with_parents(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


@cache
def _facts() -> dict[str, Any]:
    file = resources.files(__package__) / "data" / "micropython.json"
    facts: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return facts


def load_modules(series: str) -> MicroPythonModules:
    """The modules of a release series. CatalogueError for an unknown one."""
    found = _facts().get(series)
    if found is None or series == "about":
        known = ", ".join(name for name in _facts() if name != "about")
        raise CatalogueError(
            f"the modules of MicroPython in OpenWrt {series} are not known", hint=f"known are {known}"
        )
    return MicroPythonModules(
        series,
        found["micropython"],
        *(frozenset(found[key]) for key in ("builtin", "tls", "library", "library_unix")),
    )


def check_imports(apps: Iterable[Path], series: str, packages: Collection[str]) -> None:
    """Refuse apps that import what MicroPython lacks with these packages. Imports whose absence is caught do
    not count. Apps see one another's modules.

    FaultsError naming file and line of each; AppError, SourceError, CatalogueError.
    """
    modules = load_modules(series)
    there = modules.importable(packages)
    scans = [scan_app(path, python=SYNTAX, implementation=IMPLEMENTATION) for path in apps]
    own = {name for scan in scans for name in scan.own}
    faults = [
        _fault(each, modules)
        for scan in scans
        for each in scan.imports
        if not _is_there(each, there, own) and (each.kind in NEEDED or _needed_instead(each, there, own))
    ]
    if faults:
        raise FaultsError(faults)


def _is_there(imported: Import, there: Collection[str], own: Collection[str]) -> bool:
    return imported.top in own or imported.module in there


def _needed_instead(imported: Import, there: Collection[str], own: Collection[str]) -> bool:
    """Whether an import with replacements has none that is there."""
    if imported.kind != "optional" or not imported.instead:
        return False
    return all(name not in there and name.partition(".")[0] not in own for name in imported.instead)


def _fault(imported: Import, modules: MicroPythonModules) -> Fault:
    name = imported.module
    message = f"MicroPython {modules.upstream} of OpenWrt {modules.series} has no module '{name}'"
    if f"u{name}" in modules.builtin | modules.tls:
        hint = f"import u{name}"
    elif name in modules.library:
        hint = "add the package micropython-lib"
    elif name in modules.library_unix:
        hint = "add the package micropython-lib-unix, and run it with micropython-unix"
    elif name in modules.tls:
        hint = "take the interpreter with TLS, micropython-mbedtls"
    else:
        hint = "bring the module with the app, or import it where ImportError is caught"
    return Fault(imported.file, imported.line, "", message, hint)
