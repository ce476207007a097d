"""Everything decided before anything is built."""

from __future__ import annotations

from pydantic import Field

from imagebuilder.config.board import Profile
from imagebuilder.model.base import Many, Model
from imagebuilder.model.result import ShakenPackage
from imagebuilder.model.tree import Tree


class PlannedPackage(Model):
    """A package that the image will hold. feed: the feed's name, "" for the tree's own packages. size: bytes
    of its file; installed_size: bytes, as the index states them. identity: what apk's index knows a package
    by. why: who asked, then the names of packages from the one that was asked for down to this one."""

    name: str
    version: str
    feed: str
    filename: str
    size: int
    installed_size: int
    sha256: str
    identity: str
    abi_version: str
    section: str
    why: Many[str]


class Imports(Model):
    """What the apps import. wanted: for each package that `auto` chose, the imports that want it; left_out:
    imports that apps do without; lazy: what functions of the standard library may want later; computed: the
    places of imports that only show when they run. All in words, with file and line."""

    wanted: dict[str, Many[str]] = Field(default_factory=dict)
    left_out: Many[str] = ()
    lazy: Many[str] = ()
    computed: Many[str] = ()


class Plan(Model):
    """One image to be.

    packages: what is passed to make, removals with a leading `-`. wanted: what make then asks the package
    manager for, before dependencies. reasons: for each wanted package, who asked for it. make: the command,
    all but its paths. unchecked: images of which neither board nor tree say what they are.
    """

    config: str
    board: str
    tree: Tree
    profile: Profile
    python: str
    packages: Many[str]
    wanted: Many[str]
    reasons: dict[str, str]
    imports: Imports = Imports()
    install: Many[PlannedPackage] = ()
    shaken: Many[ShakenPackage] = ()
    back: dict[str, Many[str]] = Field(default_factory=dict)
    disabled_services: Many[str]
    overlays: Many[str]
    make: Many[str]
    unchecked: Many[str] = ()
