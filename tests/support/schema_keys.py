"""Every key of a kind of file, from its model, and another value for each: for tests that change one key at a
time and must not forget one."""

from __future__ import annotations

import copy
import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

Place = tuple[str | int, ...]
Document = dict[str, Any]
_WORDS = ("other", "1.5", "9", "/etc/other", "0700", "a/b", "64K", ">=17.01", "sha256:" + "a" * 64, "-Oother")


@dataclass(frozen=True)
class SchemaKey:
    """A key that a file may have. owner: the model of its table; place: where it stands; name: the same
    without numbers and words that an author chooses: `python.apps.user`, `images.format`."""

    owner: type[BaseModel]

    place: Place
    name: str
    field: FieldInfo


def keys_of(
    model: type[BaseModel], document: Document, place: Place = (), name: str = ""
) -> Iterator[SchemaKey]:
    """Each key that a file of the model may have, tables and lists of tables too. document: a file: what its
    tables hold is listed of those that are in it, of several the first."""
    for key, field in model.model_fields.items():
        own = SchemaKey(model, (*place, key), f"{name}.{key}" if name else key, field)
        yield own
        table, there, inner = _table(field.annotation), document.get(key), own.place
        if isinstance(there, list) and there:
            there, inner = there[0], (*inner, 0)
        elif isinstance(there, Mapping) and there and _is_map(field.annotation):
            first = next(iter(there))
            there, inner = there[first], (*inner, first)
        if table is not None and isinstance(there, Mapping):
            yield from keys_of(table, dict(there), inner, own.name)


def models_in(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The models of a file and of all tables in it."""
    found, waiting = {model}, [model]
    while waiting:
        for field in waiting.pop().model_fields.values():
            new = set(_models(field.annotation)) - found
            found |= new
            waiting += new
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for each in _bare(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield each
        for inner in typing.get_args(each):
            yield from _models(inner)


def _bare(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [each for member in typing.get_args(annotation) for each in _bare(member)]
    return [] if annotation is type(None) else [annotation]


def _table(annotation: Any) -> type[BaseModel] | None:
    """The model of a table, of a list of tables, or of tables by names."""
    for each in _bare(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
        if typing.get_origin(each) in (tuple, dict):
            return _table(typing.get_args(each)[-1 if typing.get_origin(each) is dict else 0])
    return None


def _is_map(annotation: Any) -> bool:
    return any(typing.get_origin(each) is dict for each in _bare(annotation))


def value_at(document: Document, place: Place) -> Any:
    """What stands there; None for nothing."""
    found: Any = document
    for part in place:
        try:
            found = found[part]
        except (KeyError, IndexError):
            return None
    return found


def with_value(document: Document, place: Place, value: Any) -> Document:
    """The document with another value at a key; None takes the key out."""
    changed = copy.deepcopy(document)
    table: Any = changed
    for part, following in itertools.pairwise(place):
        if isinstance(table, dict):
            table = table.setdefault(part, [] if isinstance(following, int) else {})
        else:
            table = table[part]
    if value is None:
        table.pop(place[-1])
    else:
        table[place[-1]] = value
    return changed


def another_value(field: FieldInfo, present: Any) -> Any:
    """A valid value of a key that is another than the present one (None: the default). LookupError where only
    the key's meaning tells one."""
    hint: Any = typing.Annotated[field.annotation, None, *field.metadata]
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    known = (
        field.get_default(call_default_factory=True)
        if present is None and not field.is_required()
        else present
    )
    schema = adapter.json_schema()
    for value in _candidates(schema, schema.get("$defs", {}), present if present is not None else known):
        try:
            made = adapter.validate_python(value)
            before = adapter.validate_python(known) if known is not None else None
        except ValidationError:
            continue
        if made != before:
            return value
    raise LookupError(f"no value can be made from the schema {schema}")


def _candidates(schema: Mapping[str, Any], defs: Mapping[str, Any], present: Any) -> Iterator[Any]:
    """Values that may be valid, those that are near to the present one first."""
    if "$ref" in schema:
        yield from _candidates(defs[schema["$ref"].rpartition("/")[2]], defs, present)
    for each in schema.get("anyOf", ()):
        yield from _candidates(each, defs, present)
    yield from schema.get("enum", ())
    kinds = schema.get("type", ())
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if "boolean" in kinds:
        yield from (True, False)
    if "integer" in kinds:
        low, high = schema.get("minimum", 0), schema.get("maximum", 1 << 20)
        now = present if isinstance(present, int) and not isinstance(present, bool) else low
        yield from (each for each in (now + 1, now - 1, now + 4096, low, high) if low <= each <= high)
    if "string" in kinds:
        yield from _texts(schema, present)
    if "array" in kinds and "items" in schema:
        now = list(present or ())
        for each in _candidates(schema["items"], defs, now[0] if now else None):
            yield [*now, each]
    if "object" in kinds:
        now = dict(present or {})
        inner = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
        for values in (each for each in inner if isinstance(each, Mapping)):
            for each in _candidates(values, defs, next(iter(now.values()), None)):
                yield {**now, "other": each}
                yield {**now, "/etc/other": each}


def _texts(schema: Mapping[str, Any], present: Any) -> Iterator[str]:
    pattern = schema.get("pattern", "")
    near = [f"{present}x", f"x{present}", f"{present}1"] if isinstance(present, str) and present else []
    yield from (each for each in (*near, *_WORDS) if re.search(pattern, each))
