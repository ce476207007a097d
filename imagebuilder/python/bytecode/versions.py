"""What differs between versions of CPython: the header of their bytecode, what they carry inside, what they
import before a program begins. The facts, with their source, are in data/cpython.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from imagebuilder.errors import UserError

Seen = Literal["run", "read"]


class VersionError(UserError):
    """A version of CPython that nothing is known about."""


@dataclass(frozen=True, slots=True)
class PythonVersion:
    """One version of CPython. python: '3.11'. magic_number: the first two bytes of its bytecode;
    header_bytes: bytes before the code; hashed: whether bytecode can know its source by its hash (PEP 552,
    from 3.7 on). frozen: modules that it carries inside and that lie in its library too; startup: modules
    with files that it imports before a program, `name*` meaning all that begin so. seen: whether an
    interpreter of that version said so, or its sources."""

    python: str
    magic_number: int
    header_bytes: int
    hashed: bool
    frozen: frozenset[str]
    startup: tuple[str, ...]
    seen: Seen


@cache
def known_versions() -> Mapping[str, PythonVersion]:
    """All versions that there are facts of, by '3.11', oldest first."""
    text = (resources.files(__package__) / "data/cpython.json").read_text("utf-8")
    return {
        python: PythonVersion(
            python,
            **{**facts, "frozen": frozenset(facts["frozen"]), "startup": tuple(facts["startup"])},
        )
        for python, facts in json.loads(text)["versions"].items()
    }


def version_facts(python: str) -> PythonVersion:
    """The facts of a version, '3.11'. VersionError for one that is not known."""
    found = known_versions().get(python)
    if found is None:
        raise VersionError(
            f"nothing is known about the bytecode of Python {python}",
            hint=f"known are {', '.join(known_versions())}: data/cpython.json takes a new one",
        )
    return found
