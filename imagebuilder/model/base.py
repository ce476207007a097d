"""What all models share, and names and paths as configs write them."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from imagebuilder.model.size import SIZE, parse_size

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Field(strict=False)]  # TOML has lists, frozen models hold tuples


class Model(BaseModel):
    """Frozen, strict about types, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _check_place(path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError("expected a plain absolute path such as /etc/banner")
    return path


PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._+-]*$")]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
TargetPath = Annotated[str, AfterValidator(_check_place)]
Mode = Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3}$")]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{SIZE.pattern}$", "minimum": 0}),
]
