"""What the standard library's own modules import of one another, as far as OpenWrt may have put it into
another package. From data/imports-*.json, one file a Python version, made with python.imports on CPython's
own sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class ImportGraph:
    """One Python version. eager: by module the modules that come with it at once, without which it cannot be
    imported; lazy: by module those that it may import later, or does without."""

    python: str
    eager: Mapping[str, tuple[str, ...]]
    lazy: Mapping[str, tuple[str, ...]]

    def reached(self, module: str) -> dict[str, tuple[str, ...]]:
        """All modules that come with one at once, itself first, each with the chain of modules that leads to
        it. A package comes before its modules."""
        chains: dict[str, tuple[str, ...]] = {}
        waiting: list[tuple[str, tuple[str, ...]]] = [(module, ())]
        for name, chain in waiting:  # grows while it is walked
            for each in with_parents(name):
                if each not in chains:
                    chains[each] = (*chain, each)
                    waiting += [(target, chains[each]) for target in self.eager.get(each, ())]
        return chains


def with_parents(module: str) -> Iterator[str]:
    """'a.b.c' gives 'a', 'a.b' and 'a.b.c': Python imports a package before what is in it."""
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


@cache
def import_graph(python: str) -> ImportGraph:
    """The graph of a Python version such as '3.11', which a catalogue names."""
    text = (resources.files(__package__) / "data" / f"imports-{python}.json").read_text("utf-8")
    facts = json.loads(text)

    def tuples(kind: str) -> dict[str, tuple[str, ...]]:
        return {module: tuple(others) for module, others in facts[kind].items()}

    return ImportGraph(python=facts["python"], eager=tuples("eager"), lazy=tuples("lazy"))
