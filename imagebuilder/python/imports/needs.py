"""What calls of the standard library want that no import shows: data files (time zones, certificates,
locales), and modules that are imported by the way (codecs). The rules are in data/needs.toml. Pure."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib import resources
from typing import Any

from imagebuilder.python.shake.hidden import codecs_in

CODECS = "codecs"
_ADDRESS = "https:"
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
# where a codec's name stands among the arguments of what takes one; besides, all that take it as `encoding`
_CODEC_PLACES = {
    **dict.fromkeys(("codecs.lookup", "codecs.getencoder", "codecs.getdecoder", "codecs.getreader"), 0),
    **dict.fromkeys(("codecs.getwriter", "codecs.getincrementaldecoder", "codecs.getincrementalencoder"), 0),
    **dict.fromkeys(("codecs.encode", "codecs.decode", "codecs.iterdecode", "codecs.iterencode"), 1),
    **dict.fromkeys(("str", "bytes", "bytearray", "io.TextIOWrapper", "codecs.EncodedFile"), 1),
    "codecs.open": 2,
}
_CODEC_METHODS = frozenset({"encode", "decode"})


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call: its place, counted from 0, and its keyword."""

    place: int
    keyword: str


@dataclass(frozen=True, slots=True)
class Need:
    """A rule, its fields as data/needs.toml explains them."""

    name: str
    reason: str
    calls: tuple[str, ...] = ()
    by_address: tuple[str, ...] = ()
    argument: Argument | None = None
    not_with: tuple[str, ...] = ()
    not_beside: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    distribution: str = ""
    distribution_modules: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    libraries: bool = False
    says: str = ""

    @property
    def of_files(self) -> bool:
        """Whether it is data that has to lie on the device, and not modules alone."""
        return bool(self.paths or self.always)


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """A place in a source that wants what a rule is about. need: the rule's name; call: what is called; key:
    what is wanted by name, such as a time zone; "" where that only shows when it runs, or nothing is
    named."""

    file: str
    line: int
    need: str
    call: str
    key: str = ""

    @property
    def words(self) -> str:
        """What the source does, for people."""
        if self.need == CODECS:
            return f"uses the codec {self.key}"
        return f"calls {self.call}({self.key!r})" if self.key else f"calls {self.call}()"

    def modules(self, *, distributed: bool = False) -> tuple[str, ...]:
        """The modules that it imports. distributed: its data come with a distribution."""
        if self.need == CODECS:
            return tuple(codecs_in([self.key]))
        need = needs()[self.need]
        return (*need.modules, *(need.distribution_modules if distributed else ()))

    def packages(self) -> tuple[str, ...]:
        """The packages of OpenWrt's that have its data, the best first; () where none has, or nobody knows
        which."""
        need = needs()[self.need]
        if need.packages or not self.key or not need.distribution:
            return need.packages
        return zone_packages(self.key)

    def paths(self) -> tuple[str, ...]:
        """Where its data lie on the device, in files or folders of which one is enough."""
        need = needs()[self.need]
        return tuple(f"{path}/{self.key}" if need.distribution and self.key else path for path in need.paths)


@cache
def _data() -> Mapping[str, Any]:
    text = (resources.files(__package__) / "data" / "needs.toml").read_text("utf-8")
    return tomllib.loads(text)


def _need(facts: Mapping[str, Any]) -> Need:
    known: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in facts.items()
    }
    argument, data = known.pop("argument", None), known.pop("distribution", None)
    if data is not None:
        known |= {"distribution": data["name"], "distribution_modules": tuple(data["modules"])}
    return Need(**known, argument=Argument(**argument) if argument is not None else None)


@cache
def needs() -> Mapping[str, Need]:
    """The rules, by name."""
    return {each["name"]: _need(each) for each in _data()["need"]}


@cache
def _by_call() -> Mapping[str, tuple[Need, ...]]:
    found: dict[str, tuple[Need, ...]] = {}
    for need in needs().values():
        for call in need.calls:
            found[call] = (*found.get(call, ()), need)
    return found


def zone_packages(key: str) -> tuple[str, ...]:
    """The packages of OpenWrt's that have a time zone: `Europe/Berlin`."""
    return next(((name,) for pattern, name in _data()["zones"].items() if fnmatchcase(key, pattern)), ())


@dataclass
class SourceWords:
    """What the rules ask of a source as a whole, found once and only where it is asked."""

    tree: ast.Module

    @cached_property
    def names(self) -> frozenset[str]:
        """All names and attributes in it."""
        found = (getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(self.tree))
        return frozenset(name for name in found if isinstance(name, str))

    @cached_property
    def speaks_https(self) -> bool:
        """Whether an address that begins with https: stands in it."""
        return any(isinstance(node, ast.Constant) and _is_https(node.value) for node in ast.walk(self.tree))


def _is_https(value: object) -> bool:
    return isinstance(value, str) and value[: len(_ADDRESS)].lower() == _ADDRESS


def called_for(call: str, node: ast.Call, source: SourceWords) -> Iterator[tuple[str, str, str]]:
    """What a call wants: the rule's name, what is called, and the key, as Use has them. call: the whole name
    of what is called, "" where it is none."""
    codec = _codec(call, node)
    if codec:
        yield CODECS, call, codec
    for need in _by_call().get(call, ()):
        if any(each.arg in need.not_with for each in node.keywords) or source.names & set(need.not_beside):
            continue
        value = _value(node, need.argument) if need.argument is not None else None
        text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
        if call in need.by_address:
            if _is_https(text) or (text is None and source.speaks_https):
                yield need.name, call, ""
        elif need.always:
            if text is not None and text not in need.always:
                yield need.name, call, text
        elif need.distribution:
            yield need.name, call, text if text is not None and _ZONE.fullmatch(text) else ""
        else:
            yield need.name, call, ""


def _codec(call: str, node: ast.Call) -> str:
    """The codec that a call names by a text; "" where it names none."""
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    place = _CODEC_PLACES.get(call, 0 if method in _CODEC_METHODS else None)
    value = _value(node, Argument(place if place is not None else len(node.args), "encoding"))
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _value(node: ast.Call, argument: Argument) -> ast.expr | None:
    if len(node.args) > argument.place:
        return node.args[argument.place]
    return next((each.value for each in node.keywords if each.arg == argument.keyword), None)


def said(output: str) -> tuple[Need, str] | None:
    """The rule about what a program lacks by its own words, and the key that it names, "" for none; None for
    anything else."""
    for need in needs().values():
        found = re.search(need.says, output) if need.says else None
        if found is not None:
            return need, (found[1] or "") if found.re.groups else ""
    return None


def cure(need: Need, key: str, offered: Container[str] | None = None) -> str:
    """What to add to a config, in words: the key and its value. offered: names of the packages that there
    are, None where that is not known."""
    use = Use("", 0, need.name, "", key)
    packages = [each for each in use.packages() if offered is None or each in offered]
    ways = [f'add = ["{packages[0]}"] in [packages]'] if packages else []
    if need.distribution:
        ways.append(f'requirements = ["{need.distribution}"] in [python]')
    return ", or ".join(ways)
