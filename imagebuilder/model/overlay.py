"""An overlay: files laid over the root file system, some of them templates, `overlays/NAME/`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from imagebuilder.model.base import Model
from imagebuilder.model.config import VariableName, VariableValue


class Variable(Model):
    """A value that a config may give; without a default it must."""

    type: Literal["string", "integer", "number", "boolean", "list"] = "string"
    default: VariableValue | None = None
    description: str = ""


class Overlay(Model):
    """What `overlay.toml` declares. The files lie beside it in `files/`."""

    name: str
    description: str = ""
    variables: dict[VariableName, Variable] = Field(default_factory=dict)
