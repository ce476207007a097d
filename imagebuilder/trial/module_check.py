"""What loading and importing all of an image's Python means for the image: two checks, and for each module
that cannot be imported the reason, as far as its own words tell.

Many modules of the standard library are there for nothing in an image without the packages of others, or on
this kind of system, and their release has them so: that is said and is no failure. A user's own package that
cannot be imported is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from imagebuilder.model.result import LoadedBytecode
from imagebuilder.model.trial import TrialCheck, TrialFinding, TrialLevel
from imagebuilder.python.catalogue.catalogue import known_series, load_catalogue
from imagebuilder.python.imports.needs import cure, said
from imagebuilder.python.wheels.libraries import package_names
from imagebuilder.trial.judged import Question, finding
from imagebuilder.trial.load import Loading

LOADED = Question("loaded-bytecode", "all bytecode can be loaded", "code that the interpreter reads")
MODULES = Question("modules", "every module can be imported", "an import without an error")
_SITE = re.compile(r"/usr/lib/python[0-9.]+/(site|dist)-packages/")
_NO_MODULE = re.compile(r"No module named '([A-Za-z0-9_.]+)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
# as glibc's linker says it, and musl's
_NO_LIBRARY = re.compile(
    r"ImportError: (\S+?\.so\S*): cannot open shared object file"
    r"|Error loading shared library ([^\s:]+\.so[^\s:]*): No such file"
)
_NO_SYMBOL = re.compile(r"undefined symbol: (\w+)|: (\w+): symbol not found")
# of Windows and of macOS: no other module of the standard library has such a name
_OTHER_SYSTEMS = frozenset(
    {"msvcrt", "winreg", "_winreg", "_winapi", "nt", "winsound", "_msi", "_overlapped", "_scproxy", "msilib"}
)


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose files are whose. packages: of files, by their paths; made: names of the packages that are the
    user's own, and were made for this image, None where nobody knows."""

    packages: Mapping[str, str] = field(default_factory=dict)
    made: Collection[str] | None = None

    def finding(self, path: str, text: str, level: TrialLevel) -> TrialFinding:
        """What was found of a file."""
        return finding(path, self.packages, text, level)

    def is_made(self, path: str) -> bool:
        """Whether a file is the user's own."""
        return self.packages.get(path, "") in (self.made or ())


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a module cannot be imported. providers: of standard modules, by the first part of their names;
    left_out: those that OpenWrt puts into no package."""

    python: str
    providers: Mapping[str, str] = field(default_factory=dict)
    left_out: Collection[str] = ()

    @classmethod
    def of(cls, python: str) -> Reasons:
        """Those for a version ("3.11"): by OpenWrt's newest series that has it, if one does."""
        pair = tuple(map(int, python.split(".")))
        for series in sorted(known_series(), reverse=True):
            book = load_catalogue(series)
            if book.version_pair == pair:
                return cls(python, book.providers(), book.shipped_in_no_package)
        return cls(python)

    def reason(self, why: str) -> str:
        """The reason in words, behind the interpreter's own; "" where these are all that is known."""
        if found := _NO_MODULE.search(why):
            return self._no_module(found[1])
        if found := _NO_NAME.search(why):
            return f"{found[2]} has no {found[1]} here: it was built without, or is of another version"
        if found := _NO_LIBRARY.search(why):
            library = (found[1] or found[2]).rpartition("/")[2]
            likely = " or ".join(each.name for each in package_names(library)[:2])
            return f"the library {library} is missing" + (f", perhaps of the package {likely}" * bool(likely))
        if found := _NO_SYMBOL.search(why):
            return f"no library of the image has {found[1] or found[2]}: they are of another version"
        if (known := said(why)) is not None:
            need, key = known
            ways = cure(need, key)
            return f"{need.name} are missing" + (f": {ways}" * bool(ways))
        return ""

    def _no_module(self, name: str) -> str:
        top = name.partition(".")[0]
        if top in _OTHER_SYSTEMS:
            return f"{top} is there on other systems alone"
        if top in self.left_out:
            return f"OpenWrt leaves {top} out of Python {self.python}"
        package = self.providers.get(top)
        return f"the package {package} brings {top}" if package is not None else ""

    def text(self, module: str, why: str) -> str:
        """What is said of a module."""
        reason = self.reason(why)
        return f"{module}: {why}" + (f" ({reason})" * bool(reason))


def loaded_check(loading: Loading, owners: Owners) -> TrialCheck:
    """Whether the interpreter reads all bytecode that it would find."""
    bad = list(loading.bad)
    # what is raised by the interpreter itself and not by a module: an instruction that it does not know
    broken = {name: why for name, why in loading.failing if why.startswith("SystemError")}
    bad += [(loading.modules[name], why) for name, why in broken.items()]
    findings = [owners.finding(path, why, "error") for path, why in bad]
    return LOADED.answered(f"{loading.loaded} files, loaded by {loading.by}", findings)


def modules_check(loading: Loading, owners: Owners, reasons: Reasons) -> TrialCheck:
    """Whether each module can be imported."""
    if not loading.modules:
        why = (
            "the image's own interpreter cannot be run here" if loading.files else "the image has no modules"
        )
        return MODULES.not_run(why if loading.files else "the image has no modules")
    findings = list(_module_findings(loading, owners, reasons))
    if loading.left:
        text = f"{loading.left} modules were not tried: the interpreter died {len(loading.ended)} times"
        findings.append(TrialFinding(file="", package="", text=text, level="warning"))
    others = len(loading.modules) - loading.imported
    rest = f", {others} are there for nothing in this image" if others else ""
    return MODULES.answered(f"{loading.imported} modules{rest}", findings)


def _module_findings(loading: Loading, owners: Owners, reasons: Reasons) -> Iterator[TrialFinding]:
    places = loading.modules
    for name, why in loading.lacking:
        text = reasons.text(name, why)
        yield owners.finding(places[name], text, _lacking(name, places[name], owners))
    for name, why in loading.refused:
        text = reasons.text(name, why)
        if owners.is_made(places[name]):
            text += "; take another release of what brings it, or do without its native code (pure = true)"
        yield owners.finding(places[name], text, "error" if owners.is_made(places[name]) else "warning")
    for name, why in loading.failing:
        if not why.startswith("SystemError"):
            level: TrialLevel = "warning" if _matters(places[name], owners) else "note"
            yield owners.finding(places[name], reasons.text(name, why), level)
    for name in loading.slow:
        text = f"{name}: its import does not come to an end: does it start its work unasked?"
        yield owners.finding(places[name], text, "warning" if _matters(places[name], owners) else "note")
    for name, why in loading.ended:
        level = "error" if owners.is_made(places[name]) else "warning"
        yield owners.finding(places[name], f"{name}: {why} while it imported this", level)


def _matters(path: str, owners: Owners) -> bool:
    """Whether a module is not of the standard library."""
    return owners.is_made(path) or _SITE.match(path) is not None


def _lacking(module: str, path: str, owners: Owners) -> TrialLevel:
    """How grave it is that a module lacks another: of parts of packages, that may be for some users alone."""
    if "." in module:
        return "warning" if owners.is_made(path) else "note"
    return "error" if owners.is_made(path) else "warning" if _SITE.match(path) else "note"


def loaded_bytecode(loading: Loading, owners: Owners) -> LoadedBytecode:
    """The same for a result."""
    lacking = tuple(name for name, _ in loading.lacking if owners.is_made(loading.modules[name]))
    by = loading.by if loading.files else ""
    return LoadedBytecode(files=loading.loaded, modules=loading.imported, by=by, lacking=lacking)
