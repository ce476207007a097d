"""Advice for an image that does not fit, the least change that makes it fit, and changing TOML text."""

from __future__ import annotations

import tomli
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.budget.advice import advise, moves
from imagebuilder.budget.fit import fit, with_value
from imagebuilder.model.package import Wish
from imagebuilder.packages.hardware import HARDWARE, serving, uses
from tests.support.budget_making import VARIANTS, index, predictor, resolved, situation

CONFIG = """\
# my router
extends = "base"
boards  = ["tplink-tl-wr740n-v4"]   # only this one

[python]
variant = "full"   # everything
"""


def test_a_wr740n_with_full_python_is_refused_with_numbers_and_advice() -> None:
    asked = situation("full")
    budget = predictor()(resolved(asked.wish))
    assert budget.verdict == "too big"
    assert 4_500_000 < budget.excess < 6_000_000
    advice = advise(asked, resolved, predictor())
    first = advice[0]
    assert (first.kind, first.fits, first.changes_interpreter) == ("micropython", True, True)
    assert [each.change.variant for each in advice if each.kind == "variant" and each.change] == [
        "base",
        "light",
    ]
    assert all(each.gain > 0 for each in advice)
    rest = [each.gain for each in advice if not each.fits]
    assert rest == sorted(rest, reverse=True)


def test_following_the_advice_fits_and_keeps_the_interpreter() -> None:
    found = fit(situation("full"), resolved, predictor(sure=True), text=CONFIG, file="configs/my.toml")
    assert found.fits
    assert found.budget.verdict == "fits"
    values = tomli.loads(found.text)
    assert values["python"]["variant"] == "base"
    assert "# my router" in found.text
    assert "# only this one" in found.text
    assert '-variant = "full"   # everything' in found.diff
    assert '+variant = "base"   # everything' in found.diff
    removed = values["packages"]["remove"]
    names = {each.name for each in resolved(Wish.of(situation("base").wish.add, removed))}
    assert "python3-base" in names
    asked = [name for name in situation("base").wish.add if name not in removed]
    after = resolved(Wish.of(asked, removed))
    assert not {each.name for each in after} & set(removed)
    # the very plan that the new text asks for fits, whether or not the uncertainty is counted
    assert predictor()(after).verdict == "fits"
    assert any(each.kind == "micropython" for each in found.alternatives)


def test_with_any_interpreter_one_line_is_enough() -> None:
    found = fit(
        situation("full"),
        resolved,
        predictor(sure=True),
        text=CONFIG,
        file="configs/my.toml",
        any_interpreter=True,
    )
    assert found.fits
    assert tomli.loads(found.text)["python"]["variant"] == "micropython"
    assert "packages" not in tomli.loads(found.text)


def test_what_apps_import_is_never_given_up() -> None:
    kept = frozenset({"python3-urllib", "python3-light"})
    asked = situation("full", keep=kept)
    for advice in advise(asked, resolved, predictor()):
        assert not kept & set(advice.gone), advice.text
    found = fit(asked, resolved, predictor(), text=CONFIG, file="x.toml")
    assert not found.fits
    assert found.diff == ""
    assert found.text == CONFIG
    assert found.alternatives


def test_a_plan_that_fits_is_left_alone() -> None:
    found = fit(situation("micropython"), resolved, predictor(), text=CONFIG, file="x.toml")
    assert (found.fits, found.diff, found.advice) == (True, "", ())


def test_what_settings_need_counts() -> None:
    wanted = predictor(wanted_free=850 << 10)
    assert wanted(resolved(situation("none").wish)).verdict == "too little left"
    found = fit(situation("none"), resolved, wanted, text="[python]\n", file="x.toml")
    assert found.fits
    assert (found.budget.free or 0) >= 850 << 10
    # the least that helps is not WiFi
    assert "kmod-ath9k" not in tomli.loads(found.text)["packages"]["remove"]


def test_a_package_that_others_bring_back_goes_with_them() -> None:
    advice = {each.text.split(":")[0]: each for each in advise(situation("none"), resolved, predictor())}
    iptables = next(each for text, each in advice.items() if text.startswith("without iptables"))
    assert set(iptables.change.remove if iptables.change else ()) == {"iptables", "ip6tables"}


def test_what_the_config_adds_is_advice_and_never_taken() -> None:
    """A plan that is refused says what it would gain; --fit leaves it to whoever wrote it."""
    text = CONFIG.replace("full", "none") + '\n[packages]\nadd = ["python3-light", "odhcpd"]\n'
    asked = situation("none", added=frozenset({"python3-light", "odhcpd"}))
    drops = {
        each.text.split(",")[0]: each for each in advise(asked, resolved, predictor()) if each.kind == "drop"
    }
    change = drops["without python3-light"].change
    assert change is not None
    assert change.unadd == ("python3-light",)
    found = fit(asked, resolved, predictor(), text=text, file="x.toml")
    assert (found.fits, found.text) == (False, text)
    assert any(each.kind == "drop" and each.fits for each in found.alternatives)


def test_no_cascade_takes_what_the_config_adds() -> None:
    """A default that it needs stays too, and what would go with one that is taken is not what it adds."""
    wanted = predictor(wanted_free=850 << 10)
    asked = situation("none", added=frozenset({"ip6tables", "ppp-mod-pppoe"}))
    found = fit(asked, resolved, wanted, text="[python]\n", file="x.toml")
    removed = tomli.loads(found.text).get("packages", {}).get("remove", [])
    names = {each.name for each in resolved(Wish.of(asked.wish.add, removed))}
    assert {"ip6tables", "iptables", "ppp", "ppp-mod-pppoe"} <= names


def test_the_driver_of_the_radio_is_missed_as_much_whatever_it_is_called() -> None:
    names = {each.name for each in index()}
    assert uses(index())["kmod-ath9k"] == "wifi"
    assert {"kmod-mac80211", "kmod-cfg80211"} <= names
    (move,) = (each for each in moves(situation("none")) if each.words == "without kmod-ath9k")
    assert move.harm == HARDWARE["wifi"].harm


def test_what_an_overlay_needs_of_the_hardware_stays() -> None:
    packages = [each.package for each in resolved(situation("none").wish)]
    kept = serving("wifi", packages)
    assert {"kmod-ath9k", "kmod-mac80211", "wpad-mini"} <= kept
    asked = situation("none", keep=kept)
    for wanted_free in range(850 << 10, 1800 << 10, 100 << 10):
        found = fit(asked, resolved, predictor(wanted_free=wanted_free), text="[python]\n", file="x.toml")
        assert not {"kmod-ath9k", "wpad-mini"} & {name for each in found.advice for name in each.gone}


def test_each_step_says_what_the_device_loses() -> None:
    found = fit(situation("none"), resolved, predictor(wanted_free=1500 << 10), text="[python]\n", file="x")
    assert found.fits
    lost = {use for each in found.advice for use in each.costs}
    assert all(each.costs for each in found.advice)
    assert {"dial-up by PPP", "WiFi"} & lost
    for each in found.advice:
        assert all(use in each.text for use in each.costs), each.text
    by_variant = fit(situation("full"), resolved, predictor(sure=True), text=CONFIG, file="x").advice[0]
    assert by_variant.costs[0].startswith("what programs use of ")
    assert "python3-email" in by_variant.costs[0]


def test_sources_are_the_first_to_go() -> None:
    asked = situation("base", sources=("python3-light",))
    wish = Wish.of((*asked.wish.add, "python3-light"))
    asked = type(asked)(wish, sources=("python3-light",), variants=VARIANTS)
    found = next(each for each in advise(asked, resolved, predictor()) if each.kind == "source")
    assert found.change is not None
    assert found.change.source is False


def test_large_files_and_older_releases_are_named() -> None:
    asked = situation("base", files={"/usr/share/map.bin": 500_000, "/etc/motd": 20}, older={"15.05": None})
    kinds = {each.kind: each for each in advise(asked, resolved, predictor())}
    assert "/usr/share/map.bin" in kinds["files"].text
    assert "15.05" in kinds["release"].text
    assert kinds["release"].gain == 0


def test_for_one_of_several_boards_only_its_differences_change() -> None:
    found = fit(
        situation("full"),
        resolved,
        predictor(sure=True),
        text=CONFIG,
        file="x.toml",
        board="tplink-tl-wr740n-v4",
    )
    values = tomli.loads(found.text)
    assert values["python"] == {"variant": "full"}
    assert values["board"]["tplink-tl-wr740n-v4"]["python"] == {"variant": "base"}
    assert values["board"]["tplink-tl-wr740n-v4"]["packages"]["remove"]


def test_dotted_keys_and_inline_tables() -> None:
    assert with_value('a.b = 1\n[c]\nd = "x"\n', ("a", "e"), "y") == 'a.b = 1\na.e = "y"\n[c]\nd = "x"\n'
    assert tomli.loads(with_value("a = {b = 1}\n", ("a", "c"), "y")) == {"a": {"b": 1, "c": "y"}}
    board = with_value(
        '[board."x 1"]\npython.variant = "full"\n', ("board", "x 1", "python", "variant"), "base"
    )
    assert board == '[board."x 1"]\npython.variant = "base"\n'
    assert with_value("", ("python", "source"), False) == "[python]\nsource = false\n"


_KEYS = st.sampled_from(["a", "b", "c d", "é", '"', "packages", "x-1"])
_VALUES = st.one_of(st.text(max_size=8), st.booleans(), st.lists(st.text(max_size=40), max_size=9))
_TABLES = st.recursive(
    st.dictionaries(_KEYS, _VALUES, max_size=3),
    lambda inner: st.dictionaries(_KEYS, st.one_of(_VALUES, inner), max_size=3),
    max_leaves=8,
)


@given(_TABLES, st.lists(_KEYS, min_size=1, max_size=3), _VALUES)
def test_any_value_in_any_text_is_what_is_read_back(
    values: dict[str, object], path: list[str], value: str | bool | list[str]
) -> None:
    import tomlkit  # noqa: PLC0415

    text = tomlkit.dumps(values)
    here: object = values
    for key in path[:-1]:
        here = here.get(key, {}) if isinstance(here, dict) else None
        if not isinstance(here, dict):
            return  # the path leads through a value
    read = tomli.loads(with_value(text, path, value))
    for key in path:
        read = read[key]
    assert read == value
