"""[[filespec]]: rules of a config for a package or an overlay, and the record of what they did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from imagebuilder.model.base import Many, Model
from imagebuilder.model.filespec_rules import FilespecError, Rule, parse
from imagebuilder.model.names import Word


def _check_rules(rules: tuple[str, ...]) -> tuple[str, ...]:
    try:
        rules_of(with_python(rules, "3"), "rules")
    except FilespecError as error:
        raise ValueError(f"{error.message.removeprefix('rules, ')} ({error.hint})") from None
    return rules


RuleLines = Annotated[Many[str], AfterValidator(_check_rules)]


def rules_of(lines: Iterable[str], origin: str) -> tuple[Rule, ...]:
    """The rules in a config's lines, in the form of OpenWrt 23.05 and later, whatever the tree: the strict
    one, in which a rule that finds nothing is an error. origin: whose they are, for messages. Raises
    FilespecError."""
    return parse("\n".join(lines), origin=origin)


def with_python(lines: Iterable[str], python: str) -> tuple[str, ...]:
    """Rules for one Python, "3.11": {python} stands for its version, {site_packages} for the folder that
    OpenWrt's makefiles call PYTHON3_PKG_DIR."""
    places = {"{python}": python, "{site_packages}": site_packages(python)}
    return tuple(reduce(lambda text, name: text.replace(name, places[name]), places, line) for line in lines)


def site_packages(python: str) -> str:
    """Where packages of a Python, "3.11", are on the device."""
    return f"/usr/lib/python{python}/site-packages"


class FilespecUse(Model):
    """Rules for the files of one package from the tree or a feed, which is repacked, or of one overlay."""

    package: Word | None = Field(
        default=None,
        description="The package whose files the rules are for, one that goes into the image: `busybox`."
        " Left out: they are for an overlay.",
    )
    overlay: Word | None = Field(
        default=None,
        description="The overlay whose files the rules are for: `wifi-client`. Left out: they are for a"
        " package.",
    )
    rules: RuleLines = Field(
        default=(),
        description="The rules, run from top to bottom: `-|path` drops, `=|path|file-mode|folder-mode` sets"
        " modes with all below, `==|…` without, `+|path` takes back what an earlier rule dropped; `{python}`"
        " and `{site_packages}` stand for the device's. A rule that finds nothing is an error. Left out: an"
        " error too.",
    )

    @model_validator(mode="after")
    def _is_for_one(self) -> FilespecUse:
        if (self.package is None) == (self.overlay is None):
            raise ValueError("a filespec names one package = … or one overlay = …")
        if not rules_of(with_python(self.rules, "3"), "rules"):
            raise ValueError(f"the filespec of {self.owner} has no rules")
        return self

    @property
    def owner(self) -> str:
        """Whose files, for messages."""
        return f"the package {self.package}" if self.package else f"the overlay '{self.overlay}'"


class RuleDone(Model):
    """What one rule did. paths: what it took, dropped or gave a mode, sorted; size: bytes of the files among
    them, unpacked; warnings: what was done, but hardly was meant."""

    rule: str
    paths: Many[str]
    size: Annotated[int, Field(ge=0)]
    warnings: Many[str] = ()


class FilespecRecord(Model):
    """What a filespec did. owner: "package NAME" or "overlay NAME"; before, after: bytes of all its files,
    unpacked; links: those that lead nowhere since a rule dropped what they led to, as "link -> target"."""

    owner: str
    rules: Many[RuleDone]
    before: int
    after: int
    links: Many[str] = ()

    @property
    def saved(self) -> int:
        """Bytes, unpacked."""
        return self.before - self.after


def package_rules(uses: Sequence[FilespecUse]) -> dict[str, tuple[str, ...]]:
    """The rules for each package, those of several filespecs one after another."""
    return _collected((use.package, use.rules) for use in uses)


def overlay_rules(uses: Sequence[FilespecUse]) -> dict[str, tuple[str, ...]]:
    """The rules for each overlay, those of several filespecs one after another."""
    return _collected((use.overlay, use.rules) for use in uses)


def _collected(rules: Iterable[tuple[str | None, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, lines in rules:
        if name is not None:
            found[name] = (*found.get(name, ()), *lines)
    return found
