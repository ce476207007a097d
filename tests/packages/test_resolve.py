"""Which packages an image holds, and why."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.model.package import Dependency, Package, Wish, shown_way
from imagebuilder.packages.apk.resolve import resolve as apk_resolve
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.opkg.resolve import NEWEST, OpkgRules, opkg_rules, resolve
from imagebuilder.packages.package_list import package_list, read_list
from imagebuilder.packages.resolution import PlanError, Resolution, ResolutionError, Steps, every_chain
from imagebuilder.packages.universe import Universe, clash


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


def why(resolution: Resolution, name: str) -> tuple[str, ...]:
    """The names from what was asked for down to a package."""
    return {each.name: tuple(each.why[1:]) for each in resolution.selected}[name]


def failing(
    requested: list[str], packages: tuple[Package, ...], rules: OpkgRules = NEWEST
) -> ResolutionError:
    with pytest.raises(ResolutionError) as caught:
        resolve(Wish.of(requested), packages, rules)
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
    trees = {"busybox": "t", "base-files": "t", "kernel": "t", "kmod-usb": "p"}
    made = package_list(trees, Wish({"zlib": "u", "busybox": "u"}))
    assert made == Wish({"zlib": "u", "busybox": "u", "base-files": "t", "kernel": "t", "kmod-usb": "p"})
    assert made.names == ("zlib", "busybox", "base-files", "kernel", "kmod-usb")


def test_a_minus_removes_the_literal_name_from_all_lists() -> None:
    wish = read_list(["dnsmasq-full", "-ppp", "ppp", "-rssileds"])
    assert wish == Wish.of(["dnsmasq-full", "ppp"], ["ppp", "rssileds"])
    made = package_list(dict.fromkeys(["dnsmasq", "ppp", "-dnsmasq", "rssileds"], "t"), wish)
    assert made == Wish({"dnsmasq-full": ""}, ("ppp", "rssileds"))
    assert made.words == ("dnsmasq-full", "-ppp", "-rssileds")


def test_a_removed_name_need_not_be_there_and_doubles_go() -> None:
    made = package_list({"a": "t"}, Wish.of(["b", "b", "a"], ["none", "c"]))
    assert made.names == ("b", "a")


@pytest.mark.parametrize(
    ("release", "there"),
    [("17.01.7", False), ("19.07.10", False), ("21.02.0", True), ("22.03.7", True), ("23.05.5", True)],
)
def test_what_a_profile_removes_a_user_can_have_from_21_02_on(release: str, there: bool) -> None:
    trees = dict.fromkeys(["dnsmasq", "ppp", "-dnsmasq", "-ppp"], "t")
    made = package_list(trees, Wish.of(["dnsmasq"]), release=release)
    assert made.names == (("dnsmasq",) if there else ())


# what goes in


def test_dependencies_come_first_and_each_says_why() -> None:
    resolution = resolve(Wish.of(["python3"]), PYTHON)
    assert names(resolution) == [
        *["libc", "libpython3-3.11", "python3-base", "zlib", "python3-light", "python3-email"],
        *["python3-nossl", "python3"],
    ]
    assert why(resolution, "libpython3-3.11") == (
        "python3",
        "python3-light",
        "python3-base",
        "libpython3-3.11",
    )
    assert why(resolution, "python3") == ("python3",)
    by_name = {each.package.name: each for each in resolution.selected}
    assert (by_name["python3"].by, by_name["python3"].wanted) == (None, "python3")
    assert (by_name["zlib"].by, by_name["zlib"].wanted) == ("python3-light", "zlib (>= 1.1)")
    assert by_name["python3-nossl"].wanted == "python3-ssl | python3-nossl"
    with pytest.raises(KeyError):
        why(resolution, "python3-ssl")


def test_a_removed_name_is_not_asked_for_but_a_dependency_brings_it_back() -> None:
    resolution = resolve(
        Wish.of(["python3-email", "zlib", "libc"], ["zlib", "python3-email", "libc"]), PYTHON
    )
    assert names(resolution) == []
    resolution = resolve(Wish.of(["python3-light", "zlib"], ["zlib"]), PYTHON)
    assert "zlib" in names(resolution)
    assert resolution.back == {"zlib": ("", "python3-light", "zlib")}


def test_the_newest_version_that_fits_is_taken() -> None:
    packages = feed("a 1.9", "a 1.10", "a 1.2", "b 1; Depends: a (<= 1.9)", "c 1; Depends: a (= 1.2)")
    assert resolve(Wish.of(["a"]), packages).packages[0].version == "1.10"
    assert resolve(Wish.of(["b"]), packages).packages[0].version == "1.9"
    assert resolve(Wish.of(["c"]), packages).packages[0].version == "1.2"


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_versions_the_one_for_the_boards_architecture_goes_before_all(order: int) -> None:
    packages = feed(
        *["a 1; Architecture: all", "a 1; Architecture: mips_24kc", "x 1; Depends: a"],
        "y 1; Depends: any",
        *["b 1; Architecture: mips_24kc; Provides: any", "b 1; Architecture: all; Provides: any"],
    )[::order]
    for wanted in ("a", "x", "y"):
        assert resolve(Wish.of([wanted]), packages).packages[0].architecture == "mips_24kc", wanted


def test_two_versions_of_one_package_cannot_be_in_one_image() -> None:
    packages = feed("a 1", "a 2", "b 1; Depends: a (>= 2)", "c 1; Depends: a (<= 1)")
    error = failing(["b", "c"], packages)
    assert error.message == "c wants a (<= 1), but b -> a is there with version 2"
    assert error.chain == ("c", "a")
    # opkg puts the newer one over the older: that c is left with the wrong one is an error here
    error = failing(["c", "b"], packages)
    assert error.message == "c wants a (<= 1), but c -> a is there with version 2"
    assert (
        resolve(Wish.of(["c", "c2"]), (*packages, *feed("c2 1; Depends: a (<= 1.5)"))).packages[0].version
        == "1"
    )


def test_strictly_older_means_as_old_too_to_opkg() -> None:
    packages = feed("a 1", "a 2", "x 1; Depends: a (<< 2)")
    assert resolve(Wish.of(["x"]), packages).packages[0].version == "2"


def test_a_version_is_tested_against_the_providers_own() -> None:
    packages = feed("new 3; Provides: lib", "old 1; Provides: lib", "x 1; Depends: lib (>= 2)")
    assert names(resolve(Wish.of(["x"]), packages)) == ["new", "x"]


ANY = feed(
    *["b-any 1; Provides: net, web", "z-any 1; Provides: net", "net 1", "a-any 1; Provides: net, web"],
    "x 1; Depends: net, web",
)


def test_of_providers_the_last_by_name_is_taken_and_later_ones_prefer_the_package_of_the_name() -> None:
    assert names(resolve(Wish.of(["x"]), ANY)) == ["net", "b-any", "x"]
    assert names(resolve(Wish.of(["x"]), ANY, opkg_rules("21.02.7"))) == ["net", "b-any", "x"]
    assert names(resolve(Wish.of(["x"]), ANY, opkg_rules("19.07.10"))) == ["z-any", "b-any", "x"]


def test_what_is_on_the_command_line_is_preferred_from_22_03() -> None:
    assert names(resolve(Wish.of(["x", "a-any"]), ANY)) == ["net", "a-any", "x"]
    assert names(resolve(Wish.of(["x", "a-any"]), ANY, opkg_rules("21.02"))) == ["net", "b-any", "x", "a-any"]
    assert names(resolve(Wish.of(["a-any", "x"]), ANY, opkg_rules("17.01.7"))) == ["a-any", "x"]


def test_a_provided_name_that_is_asked_for_means_the_first_provider() -> None:
    packages = feed("b 1; Provides: web", "a 2; Provides: web", "a 1; Provides: web", "c 1; Provides: web")
    assert [str((each.name, each.version)) for each in resolve(Wish.of(["web"]), packages).packages] == [
        "('a', '1')"
    ]
    own = feed("b 1; Provides: web; Architecture: mips", "a 1; Provides: web; Architecture: all")
    assert names(resolve(Wish.of(["web"]), own)) == ["b"]
    assert names(resolve(Wish.of(["a", "web"]), own)) == ["a"]


def test_asking_for_a_name_means_the_package_of_that_name() -> None:
    packages = feed("dnsmasq 1", "dnsmasq-full 1; Provides: dnsmasq; Conflicts: dnsmasq")
    error = failing(["dnsmasq-full", "dnsmasq"], packages)
    assert error.message == "dnsmasq-full and dnsmasq cannot be in one image"
    assert error.hint == 'leave one of them out: packages.remove = ["dnsmasq"]'
    assert error.facts == ("dnsmasq", "dnsmasq-full, which conflicts with dnsmasq")
    made = package_list({"dnsmasq": "t"}, Wish.of(["dnsmasq-full"], ["dnsmasq"]))
    assert names(resolve(made, packages)) == ["dnsmasq-full"]


def test_the_first_alternative_that_has_a_candidate_is_taken() -> None:
    packages = feed("b 1; Depends: d", "c 1", "d 1; Conflicts: x", "x 1; Depends: none | b | c")
    assert failing(["x"], packages).message == "x -> b -> d and x cannot be in one image"
    assert names(resolve(Wish.of(["c", "x"]), packages)) == ["c", "x"]


def test_looking_ahead_passes_over_a_version_that_lacks_something() -> None:
    packages = feed("a 2; Depends: gone", "a 1", "x 1; Depends: a")
    assert resolve(Wish.of(["a"]), packages[::-1]).packages[0].version == "1"
    # read the other way round, opkg looks at the good one alone
    assert "gone" in failing(["a"], packages).message
    assert "gone" in failing(["a"], packages, opkg_rules("19.07")).message


def test_a_package_that_conflicts_and_replaces_stands_in() -> None:
    packages = feed("old 1", "new 1; Provides: old; Conflicts: old; Replaces: old", "x 1; Depends: old")
    assert names(resolve(Wish.of(["x"]), packages)) == ["new", "x"]
    assert names(resolve(Wish.of(["old"]), packages)) == ["new"]
    unread = feed("old 1", "new 1; Conflicts: old; Replaces: old")
    assert "no feed has old" in failing(["old"], unread).message


def test_what_is_given_is_installed_first() -> None:
    packages = feed("kernel 1; Depends: libc", "libc 1", "libc 2", "x 1; Depends: libc, kernel")
    resolution = resolve(Wish.of(["x", "kernel"]), packages, given=(packages[1], packages[0]))
    assert [(each.name, each.version) for each in resolution.packages] == [
        *[("libc", "1"), ("kernel", "1"), ("x", "1")],
    ]
    assert why(resolution, "libc") == ("libc",)


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
    assert clash(*feed("old 2", "other 1; Conflicts: old (<< 2)"))
    assert not clash(*feed("old 2", "other 1; Conflicts: old (<= 1)"))
    one = feed("one 1; Conflicts: two; Replaces: two", "two 1")
    assert not clash(*one)
    assert "cannot be in one image" in failing(["other", "old"], (old, other)).message
    assert "with itself" in failing(["self"], feed("self 1; Conflicts: self (>= 1)")).message


def test_packages_may_need_one_another() -> None:
    packages = feed("a 1; Depends: b", "b 1; Depends: c", "c 1; Depends: a", "self 1; Depends: self")
    assert sorted(names(resolve(Wish.of(["a"]), packages))) == ["a", "b", "c"]
    assert names(resolve(Wish.of(["self"]), packages)) == ["self"]


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
    assert error.facts == ("ap -> wpad", "app -> hostapd, which conflicts with wpad")
    assert error.asked == ("app", "ap")


def test_a_conflict_is_found_from_either_side() -> None:
    packages = feed("hostapd 1; Conflicts: wpad", "wpad 1")
    # opkg would put wpad beside a hostapd that is there already
    assert failing(["hostapd", "wpad"], packages).facts == ("wpad", "hostapd, which conflicts with wpad")
    assert failing(["hostapd", "wpad"], packages, opkg_rules("17.01.7")).asked == ("hostapd", "wpad")


# every chain


def test_every_chain_shortest_first() -> None:
    packages = feed(
        *[
            "app 1; Depends: b, c",
            "b 1; Depends: d",
            "c 1; Depends: d, e",
            "d 1; Provides: any",
            "e 1; Depends: d",
        ],
        "f 1; Depends: any",
    )
    resolution = resolve(Wish.of(["app", "f", "d"]), packages)
    chains = every_chain(resolution, "d")
    assert chains[0] == ("d",)
    assert set(chains) == {
        *{("d",), ("f", "d"), ("app", "b", "d"), ("app", "c", "d"), ("app", "c", "e", "d")},
    }
    assert [len(chain) for chain in chains] == sorted(len(chain) for chain in chains)
    assert every_chain(resolution, "any") == chains
    assert every_chain(resolution, "d", limit=2) == chains[:2]
    with pytest.raises(KeyError):
        every_chain(resolution, "none")


def test_chains_through_circles_end() -> None:
    circle = feed(
        *[f"p{a} 1; Depends: " + ", ".join(f"p{b}" for b in range(12) if b != a) for a in range(12)]
    )
    chains = every_chain(resolve(Wish.of(["p0"]), circle), "p11")
    assert len(chains) == 100
    assert chains[0] == ("p0", "p11")
    assert all(len(set(chain)) == len(chain) for chain in chains)


# the rules of a tree


def test_which_rules_a_tree_has() -> None:
    assert opkg_rules("24.10.4") == opkg_rules("snapshot") == opkg_rules("embedded")
    assert opkg_rules("17.01.7") != opkg_rules("18.06.9") != opkg_rules("21.02.0")
    assert opkg_rules("18.06.9") == opkg_rules("19.07.10")


def test_what_a_profile_removes_a_user_can_have_from_21_02() -> None:
    trees = dict.fromkeys(["ath10k-ct", "busybox", "-ath10k-ct", "ath10k"], "t")
    wish, nothing = Wish.of(["ath10k-ct"]), Wish({})
    assert package_list(trees, wish).names == ("ath10k-ct", "ath10k", "busybox")
    assert package_list(trees, nothing) == package_list(trees, nothing, release="19.07")
    assert package_list(trees, wish, release="19.07.10").names == ("ath10k", "busybox")


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


RULES: list[OpkgRules] = [*map(opkg_rules, ("17.01.7", "19.07.10", "21.02.7", "24.10.4"))]


@settings(deadline=None, max_examples=400)
@given(feeds(), st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=3), st.sampled_from(RULES))
def test_what_goes_in_is_complete_peaceful_ordered_and_explained(
    packages: tuple[Package, ...], requested: list[str], rules: OpkgRules
) -> None:
    with contextlib.suppress(ResolutionError):
        resolution = resolve(Wish.of(requested), packages, rules)
        chosen = resolution.packages
        assert len({package.name for package in chosen}) == len(chosen)
        for package in chosen:
            for alternatives in package.depends:
                universe = Universe(chosen)
                assert any(list(universe.candidates(term)) for term in alternatives)
            assert not any(clash(package, other) for other in chosen)
            assert why(resolution, package.name)[-1] == package.name
        for name in requested:  # for opkg all versions of a package provide what one of them does
            providers = {name} | {package.name for package in packages if name in package.provides}
            assert any(package.name in providers for package in chosen)
        assert resolve(Wish.of(requested), packages, rules) == resolution


@settings(deadline=None)
@given(feeds(), st.sampled_from("abcdefgh"))
def test_a_missing_package_is_one_that_nothing_provides(packages: tuple[Package, ...], name: str) -> None:
    universe = Universe(packages)
    missing = None
    try:
        resolve(Wish.of([name]), universe)
    except ResolutionError as error:
        missing = error.missing
    groups = [group for package in packages for group in package.depends]
    for group in groups:
        if " | ".join(map(str, group)) == missing:
            assert not any(list(universe.candidates(term)) for term in group)


def test_long_chains_end() -> None:
    chain = feed(*[f"p{number} 1; Depends: p{number + 1}" for number in range(5000)], "p5000 1")
    resolution = resolve(Wish.of(["p0"]), chain)
    assert names(resolution)[0] == "p5000"
    assert len(resolution.selected) == 5001
    assert len(why(resolution, "p5000")) == 5001


@pytest.mark.parametrize("solve", [resolve, apk_resolve])
def test_the_ways_of_a_long_chain_share_their_memory(
    solve: Callable[[Wish, tuple[Package, ...]], Resolution],
) -> None:
    count = 4000
    chain = feed(*[f"p{number} 1; Depends: p{number + 1}" for number in range(count)], f"p{count} 1")
    tracemalloc.start()
    try:
        resolution = solve(Wish.of(["p0"], ["p1"]), chain)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * 10_000  # a way of its own for each would take count * count * 8 / 2
    last = {each.name: each for each in resolution.selected}[f"p{count}"]
    assert (last.by, last.why[0], last.why[1], last.why[-1]) == (f"p{count - 1}", "", "p0", f"p{count}")
    assert len(last.why) == len(tuple(last.why)) == count + 2
    assert resolution.back == {"p1": ("", "p0", "p1")}


def test_a_long_way_is_shown_by_its_ends() -> None:
    chain = feed(*[f"p{number} 1; Depends: p{number + 1}" for number in range(200)], "p200 1")
    ways = {each.name: each.why for each in resolve(Wish.of(["p0"]), chain).selected}
    assert shown_way(ways["p2"]) == ("", "p0", "p1", "p2")
    shown = shown_way(ways["p200"])
    assert (shown[0], shown[1], shown[-1]) == ("", "... 139 more ...", "p200")
    assert shown[2:] == tuple(f"p{number}" for number in range(139, 201))


def test_feeds_made_to_keep_the_resolver_busy_end_in_an_error() -> None:
    steps = Steps(10)
    steps.take(10)
    with pytest.raises(PlanError, match="takes more than 10 steps"):
        steps.take(1)


def test_apk_chooses_by_its_own_rules() -> None:
    liba = Package("liba2", "2.0-r1", provides=("liba",), provided_versions=(("liba", "2.0-r1"),))
    older = replace(liba, name="liba1", provided_versions=(("liba", "1.0-r1"),))

    def wanting(operator: str, version: str) -> Package:
        return Package("x", "1-r0", depends=((Dependency("liba", operator, version),),))

    def found(*packages: Package) -> list[str]:
        return names(apk_resolve(Wish.of(["x"]), packages))

    assert found(wanting("~", "2.0"), liba, older) == ["liba2", "x"]
    assert found(wanting("<", "2"), liba, older) == ["liba1", "x"]
    assert found(wanting("~", "1.0"), liba, older) == ["liba1", "x"]
    with pytest.raises(ResolutionError, match=r"no feed has liba \(> 3\), which x needs"):
        apk_resolve(Wish.of(["x"]), (wanting(">", "3"), liba))
    with pytest.raises(ResolutionError, match="liba1 and liba2 cannot be in one image") as both:
        apk_resolve(Wish.of(["liba2", "liba1"]), (liba, older))
    assert both.value.facts == ("liba2", "liba1", "both provide a name that only one can have")
    high = replace(older, extra={"Provider-Priority": "10"})
    either = Package("x", "1-r0", depends=((Dependency("liba"),),))
    assert found(either, liba, high) == ["liba1", "x"]
    assert names(apk_resolve(Wish.of(["x", "liba2"]), (either, liba, high))) == ["liba2", "x"]
    against = replace(either, conflicts=(Dependency("liba", "<", "2"),))
    assert found(against, liba, high) == ["liba2", "x"]
