"""From a config, a board and a tree to what make is asked for, and who asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagebuilder.feeds.resolve import package_list
from imagebuilder.model.board import Profile
from imagebuilder.model.config import Config
from imagebuilder.model.overlay import Overlay
from imagebuilder.model.plan import Plan
from imagebuilder.model.tree import Tree

# the names are the same from 17.01 on; `micropython` is provided by a variant of it from 22.03 on
VARIANT_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "micropython": ("micropython",),
    "base": ("python3-base",),
    "light": ("python3-light",),
    "full": ("python3",),
}


def make_plan(
    config: Config,
    board: str,
    tree: Tree,
    profile: Profile,
    *,
    overlays: Sequence[Overlay],
    origins: Mapping[str, tuple[str, ...]],
) -> Plan:
    """The plan for one image. origins: the files that gave each key of the config."""
    python_packages = VARIANT_PACKAGES[config.python.variant]
    needed = {name: overlay.name for overlay in overlays for name in overlay.packages}
    added = tuple(dict.fromkeys((*python_packages, *needed, *config.packages.add)))
    removed = config.packages.remove
    packages = (*added, *(f"-{name}" for name in removed))
    device = tree.profiles[profile.name].packages
    wanted = package_list((*tree.default_packages, "kernel"), device, added, removed).names
    asked = dict.fromkeys(tree.default_packages, f"the default packages of {tree.target}")
    asked |= dict.fromkeys(device, f"the profile {profile.name}")
    asked |= {name: f"the overlay '{overlay}'" for name, overlay in needed.items()}
    asked |= dict.fromkeys(config.packages.add, f"packages.add in {_files(origins, 'packages.add')}")
    variant = f'python.variant = "{config.python.variant}" in {_files(origins, "python.variant")}'
    asked |= dict.fromkeys(python_packages, variant)
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
        make=(),
    )


def _files(origins: Mapping[str, tuple[str, ...]], key: str) -> str:
    return ", ".join(origins.get(key, ("the defaults",)))
