"""What is required for one image, of configs, apps and files of requirements together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.app import ResolvedRequirements
from imagebuilder.python.requirements.requirements import wanted_distributions
from imagebuilder.python.requirements.requirements_file import Stated
from imagebuilder.python.wheels.target import WheelTarget, marker_holds


@dataclass(frozen=True, slots=True)
class Asked:
    """What counts on the target. texts: requirements by names (PEP 508); direct: those by addresses, each
    once; pure: the distributions among texts that are wanted without native code; constraints: as texts;
    hashes: the files that may be taken, by distributions."""

    texts: tuple[str, ...]
    direct: tuple[Stated, ...]
    pure: frozenset[str]
    constraints: tuple[str, ...]
    hashes: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, stated: Iterable[Stated], constraints: Iterable[Stated], target: WheelTarget) -> Asked:
        """What several state. FaultsError where no file could have the hashes that two of them give."""
        variables = target.markers()
        counting = [
            each
            for each in stated
            if not each.written.marker or marker_holds(each.written.marker, variables, ())
        ]
        limits = list(constraints)
        named = [each for each in counting if each.written.address is None]
        direct: dict[tuple[str, Path], Stated] = {}
        for each in counting:
            if each.written.address is not None:
                direct.setdefault((each.written.text, each.folder), each)
        hashes: dict[str, frozenset[str]] = {}
        for each in (*named, *limits):
            theirs, name = each.written.hashes, each.written.name
            if theirs:
                hashes[name] = hashes.get(name, theirs) & theirs
                if not hashes[name]:
                    raise each.fault(
                        f"'{name}' has other hashes here than where it was required before",
                        "leave one of the two out",
                    )
        return cls(
            tuple(each.written.text for each in named),
            tuple(direct.values()),
            frozenset(each.written.name for each in named if each.pure),
            tuple(each.written.text for each in limits),
            hashes,
        )

    def answered_by(
        self, locked: ResolvedRequirements, target: WheelTarget, project: Path
    ) -> ResolvedRequirements:
        """A lock as it would be of this, for comparison: what it does not know has its own name."""
        wanted = wanted_distributions(self.texts, target)
        sources = {pin.name for pin in locked.pins if pin.source}
        for each in self.direct:
            key = each.key(project)
            name = locked.wanted.get(key, "")
            wanted[key if name in sources or not name else f"{key}, from another place"] = name or key
        return locked.model_copy(update={"wanted": wanted})
