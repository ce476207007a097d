"""What is asked of a package manager for an image, and who asked for it: by config, overlays and Python, by
the profile and the tree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from imagebuilder.config.config import LoadedConfig
from imagebuilder.config.overlay import Overlay
from imagebuilder.model.package import Swap, Wish
from imagebuilder.model.tree import Tree
from imagebuilder.own.own import Own
from imagebuilder.packages.package_list import package_list, read_list
from imagebuilder.packages.supply import Job, Offers


def wish_of(loaded: LoadedConfig, overlays: Sequence[Overlay], own: Own) -> Wish:
    """What make gets as PACKAGES."""
    config, origins, python = loaded.config, loaded.origins, own.python
    added = config.packages.add
    needed = {name: overlay.name for overlay in overlays for name in overlay.packages}
    libraries = {**own.data, **_libraries(own)}
    asked = {**libraries, **{name: f"the overlay '{overlay}'" for name, overlay in needed.items()}}
    asked |= dict.fromkeys(added, f"packages.add in {_files(origins, 'packages.add')}")
    asked |= {name: _asked_by(python.asked_by[name], loaded) for name in python.packages}
    # a line of a file says all by itself
    asked |= {
        name: key if ":" in key else f"{key} in {_files(origins, key)}" for name, key in own.wanted.items()
    }
    order = dict.fromkeys((*python.packages, *own.wanted, *libraries, *needed, *added))
    return Wish({name: asked[name] for name in order}, config.packages.remove)


def _libraries(own: Own) -> dict[str, str]:
    """The packages with shared libraries that wheels want, and why each goes in."""
    reasons: dict[str, list[str]] = {}
    for use in own.libraries:
        if use.package and use.package not in own.wanted:
            reasons.setdefault(use.package, []).append(use.reason)
    return {package: ", ".join(why) for package, why in reasons.items()}


def whole_wish(wish: Wish, tree: Tree, profile: str) -> Wish:
    """What make then asks the package manager for: the same, and what tree and profile install."""
    trees = {"kernel": "the ImageBuilder itself"} | _defaults(tree, profile)
    return package_list(trees, wish, release=tree.release)


def _defaults(tree: Tree, profile: str) -> dict[str, str]:
    """The words of the tree's and the profile's lists, and whose each is."""
    words = dict.fromkeys(tree.default_packages, f"the default packages of {tree.target}")
    return words | dict.fromkeys(tree.profiles[profile].packages, f"the profile {profile}")


def swapped(wish: Wish, job: Job, offers: Offers, profile: str) -> tuple[Wish, tuple[Swap, ...]]:
    """The same without the defaults whose place other packages take, and all that could be said of such
    ones."""
    if not wish.add:
        return wish, ()
    from imagebuilder.packages.swap import find_swaps  # noqa: PLC0415 - many images add nothing

    swaps = find_swaps(
        wish,
        read_list(_defaults(job.tree, profile)),
        offers.universe,
        job.manager.quarrel,
        replace=job.config.packages.replace,
    )
    gone = tuple(each.gone for each in swaps if each.done)
    return replace(wish, remove=(*wish.remove, *gone)), swaps


def _asked_by(key: str, loaded: LoadedConfig) -> str:
    """`python.pip` becomes `python.pip = true in FILE`; an import's place stays as it is."""
    python = loaded.config.python
    table, _, name = key.partition(".")
    if table != "python" or name not in type(python).model_fields:
        return key
    return f"{key} = {json.dumps(getattr(python, name))} in {_files(loaded.origins, key)}"


def _files(origins: Mapping[str, tuple[str, ...]], key: str) -> str:
    return ", ".join(origins.get(key, ("the defaults",)))
