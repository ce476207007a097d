"""Names and paths as configs write them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._+-]*$")]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Mode = Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3}$")]


def _check_place(path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError("expected a plain absolute path such as /etc/banner")
    return path


TargetPath = Annotated[str, AfterValidator(_check_place)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
