"""What pydantic says of a file, in the words of somebody who writes that file."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from imagebuilder.config.toml import KeyPath, TomlFile
from imagebuilder.errors import Fault, FaultsError

ModelType = TypeVar("ModelType", bound=BaseModel)

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """A hint that names the known word nearest to a mistyped one, or lists them where none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(sorted(known))}" if known else None


def validate(model: type[ModelType], file: TomlFile, values: Mapping[str, Any] | None = None) -> ModelType:
    """The file's values as a model. FaultsError with every fault at once."""
    try:
        return model.model_validate(dict(file.values if values is None else values))
    except ValidationError as error:
        raise FaultsError(_faults(model, file, error)) from None


def _faults(model: type[BaseModel], file: TomlFile, error: ValidationError) -> list[Fault]:
    found: dict[tuple[KeyPath, str], Fault] = {}
    for detail in error.errors(include_url=False):
        kind = detail["type"]
        if kind == "too_short" and detail["input"]:
            continue  # pydantic counts what is valid: those that are not have faults of their own
        key = _in_file(tuple(detail["loc"]), kind, file.values)
        message, hint = _words(model, key, kind, detail)
        # a value that fits none of several types is one fault, not one for each type
        found.setdefault((key, "" if kind in _EXPECTED else message), file.fault(key, message, hint))
    return list(found.values())


def _in_file(loc: KeyPath, kind: str, values: Any) -> KeyPath:
    """The part of pydantic's location that exists in the file: it appends the names of union members.
    A missing key is named although it is not there."""
    path: KeyPath = ()
    for part in loc:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return (*path, part) if kind == "missing" else path
        path = (*path, part)
    return path


def _words(
    model: type[BaseModel], key: KeyPath, kind: str, detail: Mapping[str, Any]
) -> tuple[str, str | None]:
    found = _KINDS.get(type(detail["input"]), type(detail["input"]).__name__)
    if kind == "extra_forbidden":
        return "unknown key", nearest(str(key[-1]), _known_keys(model, key[:-1]))
    if kind == "missing":
        return "is missing", None
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found}", None
    if kind == "literal_error":
        return f"expected {detail['ctx']['expected']}, found {detail['input']!r}", None
    if kind == "string_pattern_mismatch":
        return f"{detail['input']!r} is no valid name here", f"it must match {detail['ctx']['pattern']}"
    return str(detail["msg"]).removeprefix("Value error, "), None


def _known_keys(model: type[BaseModel], key: KeyPath) -> Collection[str]:
    """The keys that a table of the file may have, found by walking the model's types."""
    current: Any = model
    for part in key:
        current = _step_into(current, part)
    return list(getattr(current, "model_fields", {})) if isinstance(current, type) else []


def _step_into(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return _plain(field.annotation) if field else None
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return _plain(arguments[1])
    if typing.get_origin(annotation) is tuple:
        return _plain(arguments[0])
    return None


def _plain(annotation: Any) -> Any:
    """An annotation without Annotated and without `| None`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [_plain(member) for member in typing.get_args(annotation) if member is not type(None)]
        models = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
        return (models or members)[0]
    return annotation
