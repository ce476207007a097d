"""A Python that an image is to have in place of the one that its config says: `light`, `auto+shake`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.config.faults import nearest
from imagebuilder.config.model_config import Config, Python
from imagebuilder.errors import UserError
from imagebuilder.model.variant import VARIANTS, Variant

COMPARED = ("none", "micropython", "base", "light", "full", "auto", "auto+shake")
_SHAKEN = "+shake"
_WITHOUT = ("none", "micropython")  # of CPython


@dataclass(frozen=True, slots=True)
class PythonForm:
    """variant: as configs say it; shake: whether the standard library is cut; own: whether what the config
    has of its own stays (apps, requirements, recipes, commands to try), of which `none` runs nothing and
    MicroPython apps alone."""

    variant: Variant
    shake: bool = False
    own: bool = True

    def __str__(self) -> str:
        return f"{self.variant}{_SHAKEN if self.shake else ''}{'' if self.own else ', nothing of its own'}"

    @property
    def name(self) -> str:
        """As parse_forms() reads it."""
        return f"{self.variant}{_SHAKEN if self.shake else ''}"

    @property
    def is_cpython(self) -> bool:
        """Whether it is a CPython, of either family."""
        return self.variant not in _WITHOUT


def parse_forms(words: Sequence[str]) -> tuple[PythonForm, ...]:
    """The forms of these names, each once, in their order. UserError for what is none."""
    forms = [PythonForm(each) for each in VARIANTS]
    forms += [PythonForm(each, shake=True) for each in VARIANTS if _can_shake(each)]
    known = {form.name: form for form in forms}
    for word in words:
        if word not in known:
            said = nearest(word, known) or f"there are {', '.join(known)}"
            raise UserError(f"--variants: there is no '{word}'", hint=said)
    if not words:
        raise UserError("--variants names none", hint=f"by default: {','.join(COMPARED)}")
    return tuple(known[word] for word in dict.fromkeys(words))


def _can_shake(variant: Variant) -> bool:
    return variant not in _WITHOUT and not variant.startswith("python2")


def with_form(config: Config, form: PythonForm) -> Config:
    """A config with another Python; what that one cannot have is left out."""
    python = config.python
    if form.is_cpython and form.own:
        keep = python.keep if form.shake else ()
        other = python.model_copy(update={"variant": form.variant, "shake": form.shake, "keep": keep})
        return config.model_copy(update={"python": other})
    other = Python(variant=form.variant, optimize=python.optimize, apps=python.apps if form.own else ())
    return config.model_copy(update={"python": other, "trial": config.trial if form.own else ()})


def has_own(config: Config) -> bool:
    """Whether a config has programs of its own, or commands that are tried."""
    python = config.python
    return bool(python.apps or python.requirements or python.package or python.trace or config.trial)
