"""What a client asks for: the body of `POST /api/v1/build`.

The keys are those that owut (files/owut, blob()), the firmware selector (www/js/asu.js) and LuCI's attended
sysupgrade send, and asu takes (asu/build_request.py). Keys that are not known are passed over, as asu does.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagebuilder.errors import UserError
from imagebuilder.model.base import PackageName

MOST_BODY = 512 << 10  # bytes; owut's list of 500 packages with their versions has some 30,000
_MOST_PACKAGES = 4000
_MOST_NAME = 128
_MOST_SHOWN = 3  # faults of a body
_SHOWN_OF_PLACE = 120  # characters
_MOST_DEFAULTS = 256 << 10  # characters, whatever the project allows

_Text = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,~+-]*$", max_length=_MOST_NAME)]
_Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,~+:-]*$", max_length=_MOST_NAME)]
_Package = Annotated[str, Field(pattern=r"^[+-]?[a-z0-9][A-Za-z0-9._+-]*$", max_length=_MOST_NAME)]
_Profile = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,+-]*$", max_length=_MOST_NAME)]
_Target = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$", max_length=_MOST_NAME)]


class RefusedRequestError(UserError):
    """A request that is not taken. status: of the answer; title: what asu calls it, where it has a word."""

    def __init__(self, message: str, *, status: int = 400, title: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.title = title


class BuildRequest(BaseModel):
    """One image that a client wants. version: `23.05.5`, `SNAPSHOT`. version_code: the revision that it
    expects (`r23630-842932a63d`), or "". packages: names, `-name` for one that is to stay out; in its place
    packages_versions names them with the versions that have to go in. diff_packages: these are all, and
    defaults that are not among them stay out. defaults: a script for the first start. rootfs_size_mb: of the
    root file system's partition. filesystem: of the image that it means to flash."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    distro: _Text = "openwrt"
    version: _Text
    version_code: _Text = ""
    target: _Target
    profile: _Profile
    packages: Annotated[tuple[_Package, ...], Field(max_length=_MOST_PACKAGES)] = ()
    packages_versions: Annotated[dict[_Package, _Version], Field(max_length=_MOST_PACKAGES)] = {}
    diff_packages: bool = False
    defaults: Annotated[str, Field(max_length=_MOST_DEFAULTS)] | None = None
    rootfs_size_mb: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    filesystem: _Text | None = None
    repositories: Annotated[dict[str, str], Field(max_length=_MOST_NAME)] = {}
    repositories_mode: Literal["append", "replace"] = "replace"
    repository_keys: Annotated[tuple[str, ...], Field(max_length=_MOST_NAME)] = ()
    client: Annotated[str, Field(max_length=_MOST_NAME)] | None = None

    @property
    def add(self) -> tuple[PackageName, ...]:
        """The packages that go in, each once, in the order of the request."""
        asked = self.packages_versions or self.packages
        names = (name.removeprefix("+") for name in asked if not name.startswith("-"))
        return tuple(dict.fromkeys(names))

    @property
    def remove(self) -> tuple[PackageName, ...]:
        """The packages that are named to stay out."""
        asked = self.packages_versions or self.packages
        return tuple(dict.fromkeys(name[1:] for name in asked if name.startswith("-")))

    @property
    def versions(self) -> dict[PackageName, str]:
        """The versions that packages have to have."""
        return {
            name.removeprefix("+"): version
            for name, version in self.packages_versions.items()
            if not name.startswith("-")
        }

    def number(self, basis: str) -> str:
        """The request's number: a SHA-256, in hex, over all that decides its image. Equal requests have the
        same, whoever sends them and in whatever order they name packages. basis: what the image is besides:
        another one when the config or the tree changes."""
        facts = {
            **self.model_dump(mode="json", exclude={"client", "packages", "packages_versions"}),
            "add": sorted(self.add),
            "remove": sorted(self.remove),
            "versions": self.versions,
            "defaults": self.defaults or None,
            "basis": basis,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def parse_request(body: bytes) -> BuildRequest:
    """The request in a body. RefusedRequestError, 422, for anything else: the first faults, each with its
    key, in one text, since clients show no more than that."""
    try:
        return BuildRequest.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = [_told(fault["loc"], fault["msg"]) for fault in faults[:_MOST_SHOWN]]
        more = len(faults) - len(told)
        rest = f"; and {more} more" if more else ""
        raise RefusedRequestError(f"Invalid request: {'; '.join(told)}{rest}", status=422) from None


def _told(place: tuple[int | str, ...], message: str) -> str:
    key = ".".join(map(str, place))[:_SHOWN_OF_PLACE]
    shown = message.encode("ascii", "backslashreplace").decode()[:_SHOWN_OF_PLACE]
    return f"{key.encode('ascii', 'backslashreplace').decode()}: {shown}" if key else shown
