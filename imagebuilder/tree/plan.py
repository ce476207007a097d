"""Everything decided before anything is built."""

from __future__ import annotations

from typing import Any

from pydantic import Field, InstanceOf, model_serializer

from imagebuilder.config.board import Profile
from imagebuilder.model.base import Many, Model
from imagebuilder.model.package import Selected, Swap, Wish, shown_way
from imagebuilder.model.result import ShakenPackage, TrimmedDistribution
from imagebuilder.model.tree import Tree


class Imports(Model):
    """What the apps import. wanted: for each package that `auto` chose, the imports that want it; left_out:
    imports that apps do without; lazy: what functions of the standard library may want later; computed: the
    places of imports that only show when they run. All in words, with file and line."""

    wanted: dict[str, Many[str]] = Field(default_factory=dict)
    left_out: Many[str] = ()
    lazy: Many[str] = ()
    computed: Many[str] = ()


class Plan(Model):
    """One image to be. Made once, when all of it is decided.

    wish: what the config, its overlays and its Python ask for, which make gets as PACKAGES. wanted: what make
    then asks the package manager for, before dependencies. taken: what was taken of flat apps, in words.
    install: all packages of the image, dependencies
    first; back: names that were to stay out and are there all the same, and why; swaps: defaults in whose
    place others go in, or should. make: the command, all but its paths. unchecked: images of which neither
    board nor tree say what they are.
    """

    config: str
    board: str
    tree: Tree
    profile: Profile
    python: str
    wish: InstanceOf[Wish]
    wanted: InstanceOf[Wish]
    imports: Imports = Imports()
    taken: Many[str] = ()
    install: Many[InstanceOf[Selected]]
    trimmed: Many[TrimmedDistribution] = ()
    shaken: Many[ShakenPackage] = ()
    back: dict[str, Many[str]] = Field(default_factory=dict)
    swaps: Many[InstanceOf[Swap]] = ()
    disabled_services: Many[str]
    overlays: Many[str]
    make: Many[str]
    unchecked: Many[str] = ()

    @model_serializer
    def facts(self) -> dict[str, Any]:
        """As `plan --json` shows it: packages are words of PACKAGES, and each package that goes in is one
        table with why it does."""
        facts = {name: getattr(self, name) for name in type(self).model_fields}
        asked = {
            "packages": self.wish.words,
            "wanted": self.wanted.names,
            "reasons": dict(self.wanted.add),
            "install": tuple(map(_shown, self.install)),
        }
        order = (name for field in facts for name in _SHOWN.get(field, (field,)))
        return {name: asked[name] if name in asked else facts[name] for name in order}


_SHOWN = {"wish": ("packages",), "wanted": ("wanted", "reasons")}  # for fields that are shown as others
_FIELDS = ("filename", "size", "installed_size", "sha256", "identity", "abi_version", "section")


def _shown(selected: Selected) -> dict[str, Any]:
    facts = {name: getattr(selected.package, name) for name in ("name", "version", "feed", *_FIELDS)}
    return {**facts, "sha256": selected.package.sha256.lower(), "why": shown_way(selected.why)}
