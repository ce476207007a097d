"""From a config, a board and a tree to what make is asked for, and who asked for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from imagebuilder.config.board import Profile
from imagebuilder.config.model_config import Config
from imagebuilder.config.overlay import Overlay
from imagebuilder.model.tree import Tree
from imagebuilder.own.choice import ChosenPython
from imagebuilder.packages.resolve import package_list
from imagebuilder.tree.plan import Plan


def make_plan(
    config: Config,
    board: str,
    tree: Tree,
    profile: Profile,
    *,
    python: ChosenPython,
    own: Mapping[str, str],
    overlays: Sequence[Overlay],
    origins: Mapping[str, tuple[str, ...]],
) -> Plan:
    """The plan for one image, before its packages are resolved. own: packages that are made here, and
    the key of the config that asks for each. origins: the files that gave each key of the config."""
    needed = {name: overlay.name for overlay in overlays for name in overlay.packages}
    added = tuple(dict.fromkeys((*python.packages, *own, *needed, *config.packages.add)))
    removed = config.packages.remove
    packages = (*added, *(f"-{name}" for name in removed))
    device = tree.profiles[profile.name].packages
    wanted = package_list(
        (*tree.default_packages, "kernel"), device, added, removed, release=tree.release
    ).names
    asked = dict.fromkeys(tree.default_packages, f"the default packages of {tree.target}")
    asked |= dict.fromkeys(device, f"the profile {profile.name}")
    asked |= {name: f"the overlay '{overlay}'" for name, overlay in needed.items()}
    asked |= dict.fromkeys(config.packages.add, f"packages.add in {_files(origins, 'packages.add')}")
    asked |= {name: _asked_by(python.asked_by[name], config, origins) for name in python.packages}
    asked |= {name: f"{key} in {_files(origins, key)}" for name, key in own.items()}
    return Plan(
        config=config.name,
        board=board,
        tree=tree,
        profile=profile,
        python=config.python.variant,
        packages=packages,
        wanted=wanted,
        reasons={name: asked.get(name, "the ImageBuilder itself") for name in wanted},
        disabled_services=config.services.disabled,
        overlays=tuple(overlay.name for overlay in overlays),
        imports=python.imports,
        make=(),
    )


def _asked_by(key: str, config: Config, origins: Mapping[str, tuple[str, ...]]) -> str:
    """`python.pip` becomes `python.pip = true in FILE`; an import's place stays as it is."""
    table, _, name = key.partition(".")
    if table != "python" or name not in type(config.python).model_fields:
        return key
    value = json.dumps(getattr(config.python, name))
    return f"{key} = {value} in {_files(origins, key)}"


def _files(origins: Mapping[str, tuple[str, ...]], key: str) -> str:
    return ", ".join(origins.get(key, ("the defaults",)))
