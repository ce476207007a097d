"""Pythons that images are compared by: their names, and what becomes of a config with one."""

from __future__ import annotations

import pytest

from imagebuilder.config.model_config import Config, Trial
from imagebuilder.config.python_form import COMPARED, PythonForm, has_own, parse_forms, with_form
from imagebuilder.errors import UserError
from imagebuilder.model.variant import VARIANTS

CONFIG = Config.model_validate(
    {
        "name": "meter",
        "python": {
            "variant": "light",
            "shake": True,
            "pip": True,
            "optimize": 2,
            "keep": ["json"],
            "apps": ["apps/meter.py"],
            "requirements": ["bottle"],
            "trace": ["meter --check"],
        },
    }
)


def test_names_are_forms_and_back_each_once() -> None:
    assert [each.name for each in parse_forms([*COMPARED, "none"])] == list(COMPARED)
    assert parse_forms(["light+shake"]) == (PythonForm("light", shake=True),)
    assert [each.name for each in parse_forms(VARIANTS)] == list(VARIANTS)


@pytest.mark.parametrize(
    ("word", "hint"),
    [("ful", "did you mean 'full'?"), ("none+shake", None), ("micropython+shake", None), ("shake", None)],
)
def test_what_is_no_variant_is_refused(word: str, hint: str | None) -> None:
    with pytest.raises(UserError, match=f"there is no '{word.replace('+', '.')}'") as caught:
        parse_forms(["base", word])
    assert caught.value.hint
    assert hint is None or caught.value.hint == hint
    with pytest.raises(UserError, match="names none"):
        parse_forms([])


def test_a_cpython_keeps_what_the_config_has_of_its_own() -> None:
    python = with_form(CONFIG, PythonForm("auto", shake=True)).python
    assert python == CONFIG.python.model_copy(update={"variant": "auto"})
    whole = with_form(CONFIG, PythonForm("base")).python
    assert (whole.variant, whole.shake, whole.keep) == ("base", False, ()), "keep is shake's"
    assert whole.apps == CONFIG.python.apps
    assert [each.name for each in whole.requirements] == ["bottle"]
    assert whole.pip


def test_without_cpython_what_needs_it_is_left_out() -> None:
    for form, apps in ((PythonForm("none", own=False), 0), (PythonForm("micropython"), 1)):
        python = with_form(CONFIG, form).python
        assert (python.variant, len(python.apps), python.optimize) == (form.variant, apps, 2)
        assert (python.requirements, python.trace, python.keep) == ((), (), ())
        assert not python.pip
        assert not python.shake
    assert has_own(CONFIG)
    tried = Config(name="meter", trial=(Trial(run="uptime"),))
    assert has_own(tried)
    assert with_form(tried, PythonForm("micropython")).trial == tried.trial
    for config in (CONFIG, tried):
        assert not has_own(with_form(config, PythonForm("none", own=False)))


def test_forms_that_differ_are_called_otherwise() -> None:
    forms = [
        PythonForm("none"),
        PythonForm("none", own=False),
        PythonForm("auto"),
        PythonForm("auto", shake=True),
    ]
    assert len({str(each) for each in forms}) == len(forms), "inputs.json tells them apart by that"
