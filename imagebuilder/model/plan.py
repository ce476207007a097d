"""Everything decided before anything is built."""

from __future__ import annotations

from imagebuilder.model.base import Many, Model
from imagebuilder.model.board import Profile
from imagebuilder.model.tree import Tree


class Plan(Model):
    """One image to be.

    packages: what is passed to make, removals with a leading `-`. wanted: what make then asks the package
    manager for, before dependencies. reasons: for each wanted package, who asked for it. make: the command,
    all but its paths.
    """

    config: str
    board: str
    tree: Tree
    profile: Profile
    python: str
    packages: Many[str]
    wanted: Many[str]
    reasons: dict[str, str]
    disabled_services: Many[str]
    overlays: Many[str]
    make: Many[str]
