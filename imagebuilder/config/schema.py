"""JSON schemas of the files that users write, and of locks, for editors that complete and check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagebuilder.config.board import Board
from imagebuilder.config.model_config import ConfigFile
from imagebuilder.config.model_lock import Lock
from imagebuilder.config.model_overlay import Overlay
from imagebuilder.model.base import Model

# keys of a model that its file need not hold: the file's own name says them
_IMPLIED: Mapping[type[Model], str] = {Board: "id", Overlay: "name"}
KINDS: Mapping[str, type[Model]] = {"board": Board, "config": ConfigFile, "overlay": Overlay, "lock": Lock}


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a kind of file: one of KINDS."""
    model = KINDS[kind]
    schema = model.model_json_schema()
    implied = _IMPLIED.get(model)
    if implied is not None:
        schema["required"] = [key for key in schema.get("required", []) if key != implied]
    if model is Board:
        del schema["properties"]["id"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"A {kind} file"}
