"""What is other in a result than in an earlier one, by what both say of themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagebuilder.model.firmware import Change, SizeChange
from imagebuilder.model.result import Result


@dataclass(frozen=True)
class Changes:
    """From an earlier result to this one. same: every image has the same bytes. facts: what the build says of
    itself; packages: versions; sizes: what packages take of the root file system, compressed, in bytes, the
    largest difference first; images: sizes in bytes; inputs: in words, what it is made of."""

    same: bool
    facts: tuple[Change, ...]
    packages: tuple[Change, ...]
    sizes: tuple[SizeChange, ...]
    images: tuple[SizeChange, ...]
    inputs: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether nothing is other."""
        return not (self.facts or self.packages or self.sizes or self.images or self.inputs)


def changes(before: Result, after: Result, inputs: tuple[str, ...] = ()) -> Changes:
    """All differences. inputs: those of the locks, a line each."""
    images = [{image.type: image for image in result.images} for result in (before, after)]
    sums = [{kind: image.sha256 for kind, image in each.items()} for each in images]
    packages = [{each.name: each.version for each in result.packages} for result in (before, after)]
    stored = [
        {each.name: each.stored for each in result.rootfs.packages} if result.rootfs is not None else {}
        for result in (before, after)
    ]
    sizes = [{kind: image.size for kind, image in each.items()} for each in images]
    return Changes(
        same=sums[0] == sums[1],
        facts=_differing(_facts(before), _facts(after)),
        packages=_differing(*packages),
        sizes=_resized(*stored) if all(stored) else (),
        images=_resized(*sizes),
        inputs=inputs,
    )


def _facts(result: Result) -> dict[str, str]:
    tree = result.tree
    return {
        "release": f"{tree.distribution} {tree.version}",
        "target": tree.target,
        "profile": result.profile,
        "Python": result.python,
        "overlays": ", ".join(result.overlays),
        "services that do not start": ", ".join(result.disabled_services),
        "this program": result.builder,
    }


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in (dict.fromkeys((*before, *after)))
        if before.get(name) != after.get(name)
    )


def _resized(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[SizeChange, ...]:
    found = (SizeChange(name, before.get(name, 0), after.get(name, 0)) for name in {**before, **after})
    return tuple(
        sorted(
            (each for each in found if each.before != each.after),
            key=lambda each: (-abs(each.after - each.before), each.name),
        )
    )
