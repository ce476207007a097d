"""An overlay: files laid over the root file system, some of them templates, `overlays/NAME/`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from imagebuilder.config.model_config import OverlayUse, Secret, VariableValue
from imagebuilder.errors import UserError
from imagebuilder.model.base import Many, Model
from imagebuilder.model.names import Mode, PackageName, TargetPath, VariableName, Word

MAX_TEXT = 65536  # characters; a shell and a terminal cope with that

# what uci refuses on the device ("Parse error"), where nobody sees it; a line's end and a tab it keeps
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list, tuple),
}


class OverlayError(UserError):
    """An overlay that cannot be laid over a root file system."""


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class Variable(Model):
    """A value that a config may give."""

    type: Literal["string", "integer", "number", "boolean", "list"] = Field(
        default="string",
        description="What kind of value it takes; a list is one of texts. Left out: `string`.",
    )
    default: VariableValue | None = Field(
        default=None,
        description="The value where a config gives none. Left out: every config has to give one.",
    )
    description: str = Field(
        default="",
        description="What the value is for; the message has it when one is missing. Left out: nothing.",
    )
    secret: bool = Field(
        default=False,
        description="Whether the value is never shown, logged or recorded. Left out: false.",
    )
    pattern: Annotated[str, AfterValidator(_check_pattern)] | None = Field(
        default=None,
        description="A regular expression (Python's) that a text, or each text of a list, must match whole:"
        ' "[0-9]{1,3}". Left out: any text will do.',
    )

    def problem(self, value: VariableValue) -> str | None:
        """What is wrong with a value, in words that do not hold it if it is secret; None if nothing is."""
        wanted = _TYPES[self.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.type != "boolean"):
            return f"must be a {self.type}, not {_type_name(value)}"
        for text in value if isinstance(value, list | tuple) else (value,):
            shown = "(not shown)" if self.secret else repr(text)
            if not isinstance(text, str):
                continue
            if _CONTROL.search(text) or len(text) > MAX_TEXT:
                return f"{shown[:80]} holds a control character or more than {MAX_TEXT} characters"
            if self.pattern is not None and not re.fullmatch(self.pattern, text):
                return f"{shown[:200]} does not match {self.pattern}"
        return None


def _type_name(value: object) -> str:
    names = {bool: "boolean", str: "string", int: "integer", float: "number", list: "list"}
    return names.get(type(value), type(value).__name__)


class Overlay(Model):
    """What `overlay.toml` declares. The files lie beside it in `files/`."""

    name: Word = Field(description="The overlay's name, that of its folder. Left out: that name.")
    description: str = Field(default="", description="A line on what the overlay does. Left out: nothing.")
    packages: Many[PackageName] = Field(
        default=(),
        description='Packages that its files need in the image: `["wpad-basic"]`. Left out: none.',
    )
    conflicts: Many[Word] = Field(
        default=(), description="Overlays that it cannot stand beside in one image. Left out: none."
    )
    replaces: Many[TargetPath] = Field(
        default=(),
        description="Files of earlier overlays that it brings anew, by their places on the device:"
        ' `["/etc/banner"]`. Left out: a file that two overlays bring is an error.',
    )
    modes: dict[TargetPath, Mode] = Field(
        default_factory=dict,
        description='Modes of files and folders that it brings, in octal: `{ "/etc/wpa.conf" = "0600" }`.'
        " Left out: 0755 for folders and for what its author made executable, 0644 for all else.",
    )
    variables: dict[VariableName, Variable] = Field(
        default_factory=dict,
        description="The values that configs may give its templates, each in a table `[variables.NAME]`."
        " Left out: none.",
    )

    def problems(self, use: OverlayUse) -> Iterator[tuple[str, str]]:
        """(variable, what is wrong) for all that a config gives; '' for what is missing."""
        for name, value in use.variables.items():
            variable = self.variables.get(name)
            if variable is None:
                continue
            if isinstance(value, Secret):
                if variable.type != "string":
                    yield name, f"is a {variable.type}; only a string can be a secret"
            elif problem := variable.problem(value):
                yield name, problem
        for name, variable in self.variables.items():
            if variable.default is None and name not in use.variables:
                about = f": {variable.description}" if variable.description else ""
                yield "", f"overlay '{self.name}' wants the variable '{name}' ({variable.type}){about}"
