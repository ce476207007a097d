"""All packages of an image, where each comes from, and who wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from imagebuilder.errors import UserError
from imagebuilder.model.package import Package
from imagebuilder.packages.explain import shortest_conflict
from imagebuilder.packages.fixed import FixedPackage, removed_in_vain
from imagebuilder.packages.resolve import Resolution, ResolutionError, Universe, resolve, rules_of
from imagebuilder.tree.plan import Plan, PlannedPackage


class PlanError(UserError):
    """What was asked for cannot be installed together, or at all."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package of an image that is only thought of. Sizes in bytes; why: names from the one that was asked
    for down to this one."""

    name: str
    section: str
    size: int
    installed_size: int
    why: tuple[str, ...]


@dataclass(frozen=True)
class Offers:
    """What an image can be made from. packages: of each feed; "" is the tree itself, and of equal versions
    the one that comes first counts. given: libc and kernel, which opkg trees install by their files.
    unusable: as for Universe."""

    packages: Mapping[str, Sequence[Package]]
    given: tuple[Package, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def universe(self) -> Universe:
        """All of them, to be looked up."""
        everything = (package for packages in self.packages.values() for package in packages)
        return Universe(everything, self.unusable)


def with_packages(plan: Plan, offers: Offers) -> Plan:
    """The plan with its `install` and `back`. PlanError, naming who asked for what cannot be had."""
    try:
        found = _resolve(plan, plan.wanted, _removed(plan), offers)
    except ResolutionError as error:
        raise _refused(plan, offers, error) from error
    # whichever of several equal ones was read last: the tree's own need not be fetched
    first: dict[tuple[str, str], tuple[Package, str]] = {}
    for feed, packages in offers.packages.items():
        for package in packages:
            first.setdefault((package.name, package.version), (package, feed))
    install = tuple(
        planned(*first[each.name, each.version], why(plan, found, each.name)) for each in found.packages
    )
    back = {name: why(plan, found, name) for name in found.back}
    back |= {each.name: (each.reason, each.name) for each in _fixed(plan)}
    return plan.model_copy(update={"install": install, "back": back})


def _refused(plan: Plan, offers: Offers, error: ResolutionError) -> PlanError:
    """The fewest of the names that cannot be had together, and who asked for each."""
    rules = rules_of(plan.tree.package_manager, plan.tree.release)
    conflict = shortest_conflict(plan.wanted, offers.universe, rules, given=offers.given)
    if conflict is None:
        return PlanError(error.message, hint=error.hint)
    asked = [f"  {name} was asked for by {plan.reasons.get(name, 'the tree')}" for name in conflict.names]
    return PlanError("\n".join([conflict.message, *asked]), hint=conflict.hint)


def _fixed(plan: Plan) -> list[FixedPackage]:
    """Packages that stay although they were removed. PlanError for one without which nothing starts."""
    vain = removed_in_vain(plan.tree.release, _removed(plan))
    for each in vain:
        if not each.stays:
            raise PlanError(
                f"'{each.name}' cannot be removed: {each.reason}", hint="take it out of packages.remove"
            )
    return list(vain)


def resolved(
    plan: Plan, requested: Sequence[str], removed: Sequence[str], offers: Offers
) -> tuple[Candidate, ...]:
    """What would go in, if a plan asked for other names. ResolutionError."""
    found = _resolve(plan, requested, removed, offers)
    return tuple(
        Candidate(each.name, each.section, each.size, each.installed_size, found.why(each.name))
        for each in found.packages
    )


def _removed(plan: Plan) -> list[str]:
    return [name.removeprefix("-") for name in plan.packages if name.startswith("-")]


def _resolve(plan: Plan, requested: Sequence[str], removed: Sequence[str], offers: Offers) -> Resolution:
    rules = rules_of(plan.tree.package_manager, plan.tree.release)
    return resolve(requested, removed, offers.universe, rules, given=offers.given)


def planned(package: Package, feed: str, why: tuple[str, ...]) -> PlannedPackage:
    """A package as the plan states it."""
    return PlannedPackage(
        name=package.name,
        version=package.version,
        feed=feed,
        filename=package.filename,
        size=package.size,
        installed_size=package.installed_size,
        sha256=package.sha256.lower(),
        identity=package.identity,
        abi_version=package.abi_version,
        section=package.section,
        why=why,
    )


def why(plan: Plan, found: Resolution, name: str) -> tuple[str, ...]:
    """Who asked, and the names from what was asked for down to this one."""
    chain = found.why(name)
    first = next((each.wanted for each in found.chosen if each.package.name == chain[0]), chain[0])
    return (plan.reasons.get(first, "the tree"), *chain)
