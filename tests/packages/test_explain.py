"""The shortest set of names that cannot be installed, and what no image goes without."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.model.package import Package, Wish
from imagebuilder.packages.opkg.explain import shortest_conflict
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.opkg.resolve import resolve
from imagebuilder.packages.package_list import first_packages, fixed_packages, removed_in_vain
from imagebuilder.packages.resolution import ResolutionError


def feed(*lines: str) -> tuple[Package, ...]:
    """Packages of version 1 from 'name; Depends: x' lines."""
    paragraphs = (line.split("; ") for line in lines)
    texts = ("\n".join([f"Package: {name}", "Version: 1", *fields]) for name, *fields in paragraphs)
    return parse_index("\n\n".join(texts))


RADIO = feed(
    *["libc", "tools; Depends: libc", "more; Depends: tools"],
    *["ap; Depends: wpad, libc", "wpad; Depends: libc"],
    *["mesh; Depends: hostapd, tools", "hostapd; Depends: libc; Conflicts: wpad"],
)


def test_what_can_be_installed_has_no_conflict() -> None:
    assert shortest_conflict(["tools", "ap"], RADIO) is None


def test_the_fewest_names_and_both_chains() -> None:
    conflict = shortest_conflict(["tools", "ap", "libc", "more", "mesh"], RADIO)
    assert conflict is not None
    assert conflict.names == ("ap", "mesh")
    assert conflict.message == (
        "these cannot be installed together: ap, mesh\n"
        "  ap -> wpad\n"
        "  mesh -> hostapd, which conflicts with wpad"
    )
    assert conflict.hint == "leave one of them out: ap, mesh"
    assert conflict.order == ()


def test_one_name_is_enough_where_something_is_missing() -> None:
    conflict = shortest_conflict(["libc", "app", "tools"], (*RADIO, *feed("app; Depends: libx", "libxx")))
    assert conflict is not None
    assert conflict.names == ("app",)
    assert conflict.message == "app cannot be installed\n  app needs libx, which no feed has"
    assert conflict.hint == "did you mean libxx or libc?"
    typo = shortest_conflict(["libc", "tols"], RADIO)
    assert typo is not None
    assert typo.message == "tols cannot be installed\n  no feed has tols"


def test_an_order_that_works_is_named() -> None:
    packages = feed(
        *["app; Depends: any", "z-any; Provides: any; Conflicts: a-any"],
        *["a-any; Provides: any", "user; Depends: a-any"],
    )
    conflict = shortest_conflict(["app", "user"], packages)
    assert conflict is not None
    assert conflict.order == ("user", "app")
    assert conflict.hint == 'they can be in another order; say add = ["user", "app"]'


NAMES = "abcdefgh"


@st.composite
def packages_of(draw: st.DrawFn) -> tuple[Package, ...]:
    some = st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(", ".join)
    lines = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=8, unique=True)):
        depends, conflicts = draw(some), draw(st.one_of(st.just(""), st.sampled_from(NAMES)))
        fields = {"Depends": depends, "Conflicts": conflicts}
        lines.append("\n".join([name, *(f"{key}: {value}" for key, value in fields.items() if value)]))
    return parse_index("\n\n".join(f"Package: {line}\nVersion: 1" for line in lines))


@settings(deadline=None)
@given(packages_of(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
def test_no_name_of_a_conflict_can_be_left_out(packages: tuple[Package, ...], requested: list[str]) -> None:
    def works(names: tuple[str, ...] | list[str]) -> bool:
        try:
            resolve(Wish.of(names), packages)
        except ResolutionError:
            return False
        return True

    conflict = shortest_conflict(requested, packages)
    assert (conflict is None) == works(requested)
    if conflict is not None:
        assert not works(conflict.names)
        assert set(conflict.names) <= set(requested)
        for name in conflict.names:
            assert works(tuple(each for each in conflict.names if each != name))
        assert conflict.facts
        if conflict.order:
            assert works([*conflict.order, *requested])


def test_many_names_are_narrowed_down_quickly() -> None:
    packages = feed(
        *(f"p{number}; Depends: q{number}" for number in range(300)), *(f"q{n}" for n in range(298))
    )
    conflict = shortest_conflict([f"p{number}" for number in range(300)], packages)
    assert conflict is not None
    assert conflict.names == ("p298",)


def test_what_cannot_be_removed() -> None:
    old = {each.name: each.stays for each in fixed_packages("17.01.7")}
    assert old == {"libc": True, "kernel": True, "base-files": False}
    assert {each.name: each.stays for each in fixed_packages("24.10.4")} == old
    for release in ("25.12.0-rc1", "25.12.0", "25.12-SNAPSHOT", "snapshot"):
        assert all(each.stays for each in fixed_packages(release))
    assert fixed_packages("snapshot") == fixed_packages("25.12.0")
    (only,) = removed_in_vain("23.05.5", Wish.of((), ["dnsmasq", "libc"]))
    assert only.reason == "ImageBuilder installs its own libc before the list, whatever the list says"
    assert removed_in_vain("23.05.5", Wish.of((), ["dnsmasq"])) == ()


def test_libc_and_kernel_are_installed_first() -> None:
    own = [
        Package(name, version, filename=f"{name}_{version}_all.ipk")
        for name, version in (("kernel", "6"), ("zlib", "1"), ("libc", "2"), ("libc", "1"))
    ]
    assert [(each.name, each.version) for each in first_packages(own)] == [("libc", "1"), ("kernel", "6")]
    assert first_packages([]) == ()
