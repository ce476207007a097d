"""Which packages an image holds, and why."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.feeds.opkg import parse_index
from imagebuilder.feeds.resolve import Resolution, ResolutionError, Universe, clash, package_list, resolve
from imagebuilder.model.package import Package


def feed(*lines: str) -> tuple[Package, ...]:
    """Packages from 'name version; Depends: x; Provides: y' lines."""
    text = ""
    for line in lines:
        first, *fields = line.split("; ")
        name, version = first.split(" ")
        text += "\n".join([f"Package: {name}", f"Version: {version}", *fields]) + "\n\n"
    return parse_index(text)


def names(resolution: Resolution) -> list[str]:
    return [package.name for package in resolution.packages]


def failing(
    requested: list[str], packages: tuple[Package, ...], removed: tuple[str, ...] = ()
) -> ResolutionError:
    with pytest.raises(ResolutionError) as caught:
        resolve(requested, removed, packages)
    return caught.value


PYTHON = feed(
    "libc 1",
    "zlib 1.2; Depends: libc",
    "libpython3-3.11 3.11.7-1; Depends: libc; Provides: libpython3",
    "python3-base 3.11.7-1; Depends: libc, libpython3",
    "python3-light 3.11.7-1; Depends: python3-base (= 3.11.7-1), zlib (>= 1.1)",
    "python3-email 3.11.7-1; Depends: python3-light",
    "python3 3.11.7-1; Depends: python3-light, python3-email, python3-ssl | python3-nossl",
    "python3-nossl 3.11.7-1; Depends: python3-light",
)


# ImageBuilder's list


def test_the_list_is_the_users_packages_and_then_the_others_sorted() -> None:
    made = package_list(["busybox", "base-files", "kernel"], ["kmod-usb", "base-files"], ["zlib", "a"])
    assert made.names == ("zlib", "a", "base-files", "busybox", "kernel", "kmod-usb")
    assert made.removed == ()


def test_a_minus_removes_the_literal_name_from_all_lists() -> None:
    made = package_list(
        ["dnsmasq", "ppp"], ["-dnsmasq", "rssileds"], ["dnsmasq-full", "-ppp", "ppp"], ["rssileds"]
    )
    assert made.names == ("dnsmasq-full",)
    assert made.removed == ("dnsmasq", "ppp", "rssileds")


def test_a_removed_name_need_not_be_there_and_doubles_go() -> None:
    made = package_list(["a"], [], ["b", "b", "a"], ["none", "-c"])
    assert made.names == ("b", "a")
    assert made.removed == ("c", "none")


# what goes in


def test_dependencies_come_first_and_each_says_why() -> None:
    resolution = resolve(["python3"], [], PYTHON)
    assert names(resolution) == [
        *["libc", "libpython3-3.11", "python3-base", "zlib", "python3-light", "python3-email"],
        *["python3-nossl", "python3"],
    ]
    assert resolution.why("libpython3-3.11") == (
        "python3",
        "python3-light",
        "python3-base",
        "libpython3-3.11",
    )
    assert resolution.why("python3") == ("python3",)
    by_name = {each.package.name: each for each in resolution.chosen}
    assert (by_name["python3"].by, by_name["python3"].wanted) == (None, "python3")
    assert (by_name["zlib"].by, by_name["zlib"].wanted) == ("python3-light", "zlib (>= 1.1)")
    assert by_name["python3-nossl"].wanted == "python3-ssl | python3-nossl"
    with pytest.raises(KeyError):
        resolution.why("python3-ssl")


def test_a_removed_name_is_not_asked_for_but_a_dependency_brings_it_back() -> None:
    resolution = resolve(["python3-email", "zlib", "libc"], ["zlib", "python3-email", "libc"], PYTHON)
    assert names(resolution) == []
    resolution = resolve(["python3-light", "zlib"], ["zlib"], PYTHON)
    assert "zlib" in names(resolution)
    assert resolution.back == ("zlib",)


def test_the_newest_version_that_fits_is_taken() -> None:
    packages = feed("a 1.9", "a 1.10", "a 1.2", "b 1; Depends: a (<< 1.10)", "c 1; Depends: a (= 1.2)")
    assert resolve(["a"], [], packages).packages[0].version == "1.10"
    assert resolve(["b"], [], packages).packages[0].version == "1.9"
    assert resolve(["c"], [], packages).packages[0].version == "1.2"


def test_two_versions_of_one_package_cannot_be_in_one_image() -> None:
    packages = feed("a 1", "a 2", "b 1; Depends: a (>= 2)", "c 1; Depends: a (<< 2)")
    error = failing(["b", "c"], packages)
    assert error.message == "c wants a (<< 2), but b -> a is there with version 2"
    assert error.chain == ("c", "a")


def test_a_version_is_tested_against_the_providers_own() -> None:
    packages = feed("new 3; Provides: lib", "old 1; Provides: lib", "x 1; Depends: lib (>= 2)")
    assert names(resolve(["x"], [], packages)) == ["new", "x"]


def test_the_package_of_the_name_comes_before_a_provider_and_providers_go_by_name() -> None:
    packages = feed(
        "b-any 1; Provides: net, web", "a-any 1; Provides: net, web", "net 1", "x 1; Depends: net, web"
    )
    assert names(resolve(["x"], [], packages)) == ["net", "a-any", "x"]


def test_a_provider_that_is_asked_for_satisfies_whatever_the_order() -> None:
    packages = feed("a-any 1; Provides: web", "b-any 1; Provides: web", "x 1; Depends: web")
    assert names(resolve(["x", "b-any"], [], packages)) == ["b-any", "x"]
    assert names(resolve(["web"], [], packages)) == ["a-any"]


def test_asking_for_a_name_means_the_package_of_that_name() -> None:
    packages = feed("dnsmasq 1", "dnsmasq-full 1; Provides: dnsmasq; Conflicts: dnsmasq")
    error = failing(["dnsmasq-full", "dnsmasq"], packages)
    assert error.message == "dnsmasq and dnsmasq-full cannot be in one image"
    assert error.hint == "remove one of them: -dnsmasq-full in the packages"
    made = package_list(["dnsmasq"], [], ["dnsmasq-full"], ["dnsmasq"])
    assert names(resolve(made.names, made.removed, packages)) == ["dnsmasq-full"]


def test_the_first_alternative_that_works_is_taken() -> None:
    packages = feed(
        *["a 1; Depends: gone", "b 1; Conflicts: x", "c 1; Depends: d", "d 1; Depends: c"],
        "x 1; Depends: none | a | b | c",
    )
    assert sorted(names(resolve(["x"], [], packages))) == ["c", "d", "x"]


def test_conflicts_mean_packages_by_name_and_replaces_lifts_them() -> None:
    old, new, other = feed(
        "old 1; Provides: tool",
        "new 2; Provides: tool; Conflicts: old (<< 2), tool, new; Replaces: old",
        "other 1; Conflicts: old (<< 2)",
    )
    assert not clash(old, new)
    assert clash(old, other)
    assert clash(other, old)
    assert not clash(new, new)
    assert not clash(*feed("old 2", "other 1; Conflicts: old (<< 2)"))
    assert names(resolve(["old", "new"], [], (old, new, other))) == ["old", "new"]
    assert "cannot be in one image" in failing(["other", "old"], (old, new, other)).message


def test_packages_may_need_one_another() -> None:
    packages = feed("a 1; Depends: b", "b 1; Depends: c", "c 1; Depends: a", "self 1; Depends: self")
    assert sorted(names(resolve(["a"], [], packages))) == ["a", "b", "c"]
    assert names(resolve(["self"], [], packages)) == ["self"]


# what cannot be


def test_a_missing_package_is_named_with_the_chain_that_asked_for_it() -> None:
    packages = feed("app 1; Depends: python3-web", "python3-web 1; Depends: libfoo2 (>= 3)", "libfoo3 1")
    error = failing(["app"], packages)
    assert error.message == "no feed has libfoo2 (>= 3), which app -> python3-web needs"
    assert error.missing == "libfoo2 (>= 3)"
    assert error.chain == ("app", "python3-web", "libfoo2")
    assert error.hint == "did you mean libfoo3?"


def test_a_missing_name_that_was_asked_for() -> None:
    error = failing(["pyton3"], PYTHON)
    assert error.message == "no feed has pyton3, which was asked for"
    assert error.hint is not None
    assert "did you mean python3" in error.hint
    assert failing(["qqq"], PYTHON).hint == "a feed is missing, or the name is wrong"


def test_a_version_that_no_feed_has_says_which_there_are() -> None:
    error = failing(["x"], feed("kernel 5.15-a", "x 1; Depends: kernel (= 5.15-b)"))
    assert error.hint == "the feeds hold kernel 5.15-a"


def test_when_no_alternative_works_the_first_one_says_why() -> None:
    error = failing(["x"], feed("a 1; Depends: gone", "b 1; Depends: lost", "x 1; Depends: a | b"))
    assert error.chain == ("x", "a", "gone")


def test_a_conflict_names_both_ways() -> None:
    packages = feed("app 1; Depends: hostapd", "hostapd 1; Conflicts: wpad", "ap 1; Depends: wpad", "wpad 1")
    error = failing(["ap", "app"], packages)
    assert error.message == "app -> hostapd and ap -> wpad cannot be in one image"


# properties


@st.composite
def feeds(draw: st.DrawFn) -> tuple[Package, ...]:
    """Feeds of a few packages that need, provide and fight one another."""
    letters = "abcdefgh"
    name = st.sampled_from(letters)
    term = st.one_of(name, name.flatmap(lambda one: st.sampled_from([f"{one} (>= 2)", f"{one} (<< 2)"])))
    group = st.lists(term, min_size=1, max_size=2).map(" | ".join)
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        line = f"{draw(name)} {draw(st.sampled_from('123'))}"
        for field, value in (
            ("Depends", ", ".join(draw(st.lists(group, max_size=3)))),
            ("Provides", ", ".join(draw(st.lists(st.sampled_from("ghij"), max_size=1)))),
            ("Conflicts", ", ".join(draw(st.lists(term, max_size=1)))),
        ):
            line += f"; {field}: {value}" if value else ""
        lines.append(line)
    return feed(*lines)


@settings(deadline=None)
@given(feeds(), st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=3))
def test_what_goes_in_is_complete_peaceful_ordered_and_explained(
    packages: tuple[Package, ...], requested: list[str]
) -> None:
    with contextlib.suppress(ResolutionError):
        resolution = resolve(requested, [], packages)
        chosen = resolution.packages
        assert len({package.name for package in chosen}) == len(chosen)
        for package in chosen:
            for alternatives in package.depends:
                universe = Universe(chosen)
                assert any(list(universe.candidates(term)) for term in alternatives)
            assert not any(clash(package, other) for other in chosen)
            assert resolution.why(package.name)[-1] == package.name
        for name in requested:
            assert any(name == package.name or name in package.provides for package in chosen)
        assert resolve(requested, [], packages) == resolution


@settings(deadline=None)
@given(feeds(), st.sampled_from("abcdefgh"))
def test_a_missing_package_is_one_that_nothing_provides(packages: tuple[Package, ...], name: str) -> None:
    universe = Universe(packages)
    missing = None
    try:
        resolve([name], [], universe)
    except ResolutionError as error:
        missing = error.missing
    groups = [group for package in packages for group in package.depends]
    for group in groups:
        if " | ".join(map(str, group)) == missing:
            assert not any(list(universe.candidates(term)) for term in group)


def test_long_chains_and_large_feeds_are_no_burden() -> None:
    chain = feed(*[f"p{number} 1; Depends: p{number + 1}" for number in range(5000)], "p5000 1")
    began = time.perf_counter()
    resolution = resolve(["p0"], [], chain)
    assert names(resolution)[0] == "p5000"
    assert len(resolution.chosen) == 5001
    assert time.perf_counter() - began < 2.0
