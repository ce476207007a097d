"""How resolving grows with the packages: chains, fans and packages that provide one name for one another.

    python3 tests/benchmarks/resolve_scale.py [--packages 20000]

Each shape is resolved with a tenth of the packages and with all of them, in one run; the ratio of the times
is 10 where the work is linear, 100 where it is quadratic. Where the bound on steps ends it, that is said.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.model.package import Dependency, Package, Wish
from imagebuilder.packages.apk.resolve import resolve as apk_resolve
from imagebuilder.packages.opkg.resolve import resolve
from imagebuilder.packages.resolution import PlanError, Resolution
from imagebuilder.packages.universe import Universe


def _needs(*names: str) -> tuple[tuple[Dependency, ...], ...]:
    return tuple((Dependency(name),) for name in names)


def chain(count: int) -> list[Package]:
    """Each needs the next one."""
    return [
        Package(f"p{number}", "1", depends=_needs(f"p{number + 1}") if number + 1 < count else ())
        for number in range(count)
    ]


def read_chain(count: int) -> list[Package]:
    """The same with two versions of one package, for which opkg's order of reading counts."""
    return [*chain(count), Package("twice", "1"), Package("twice", "2")]


def fan_out(count: int) -> list[Package]:
    """One needs all others."""
    leaves = [Package(f"p{number}", "1") for number in range(1, count)]
    return [Package("p0", "1", depends=_needs(*(leaf.name for leaf in leaves))), *leaves]


def fan_in(count: int) -> list[Package]:
    """All need one name, and one needs all of them."""
    *leaves, base = fan_out(count)
    users = [Package(leaf.name, "1", depends=_needs(base.name)) for leaf in leaves[1:]]
    return [leaves[0], *users, base]


def providers(count: int) -> list[Package]:
    """All provide one name and need it, and one needs all of them."""
    first, *others = fan_out(count)
    return [first, *(Package(each.name, "1", depends=_needs("any"), provides=("any",)) for each in others)]


SHAPES: tuple[Callable[[int], list[Package]], ...] = (chain, read_chain, fan_out, fan_in, providers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=int, default=20_000)
    most = parser.parse_args().packages
    for shape in SHAPES:
        for name, solve in (("opkg", resolve), ("apk", apk_resolve)):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            try:
                few, many = (_seconds(solve, shape(count)) for count in (most // 10, most))
                said = f"{many:6.2f} s, ratio {many / few:5.1f}"
            except PlanError:
                said = "ended by the bound on steps"
            print(f"{shape.__name__:<11} {name:<5} {said}, {peak} MiB at most before")


def _seconds(solve: Callable[[Wish, Universe], Resolution], packages: list[Package]) -> float:
    universe = Universe(packages)
    began = time.perf_counter()
    found = solve(Wish.of(["p0"]), universe)
    seconds = time.perf_counter() - began
    assert len(found.selected) == len(packages) or universe.several
    return seconds


if __name__ == "__main__":
    main()
