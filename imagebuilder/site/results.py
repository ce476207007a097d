"""Result folders, read to be published: what of them is missing, damaged, or not for everybody."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagebuilder.errors import Fault, UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.host.handover import is_temporary, names
from imagebuilder.model.base import Many
from imagebuilder.model.result import DeviceTitle
from imagebuilder.site.facts import Digest, content_of

RESULT = "result.json"
MOST_RESULT = 64 << 20  # bytes; one with ten thousand files of filespecs has 2 MiB
MOST_SUMS = 1 << 20
MANIFEST, SUMS = "manifest", "sha256sums"
# what may stand beside the images, and everybody may read: not build.log, in which make says what it likes of
# the machine that built
BESIDE = (RESULT, MANIFEST, SUMS, f"{SUMS}.sig", "lock.toml", "report.html", "sbom.cdx.json")
_SUMMED = tuple(name for name in BESIDE if not name.startswith(SUMS))
OURS = ("index.html", "packages.json")  # what the site lays beside them
_MOST_NAME = 200  # bytes, so that a name can be part of another
_CONTROL = re.compile(r"[\x00-\x1f\x7f/]")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class _Seen(BaseModel):
    """What a result says, as far as a site wants to know it: those of other versions say other things too."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _SeenPackage(_Seen):
    name: str
    version: str


class _SeenImage(_Seen):
    file: str
    type: str
    size: Annotated[int, Field(ge=0)]
    sha256: Digest


class _SeenStored(_Seen):
    name: str
    stored: int


class _SeenRootfs(_Seen):
    stored: int
    packages: Many[_SeenStored]


class _SeenFlash(_Seen):
    free: int | None


class _SeenTree(_Seen):
    distribution: str
    version: Annotated[str, Field(min_length=1)]
    target: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    arch: str


class _SeenDevice(_Seen):
    titles: Many[DeviceTitle] = ()
    supported_devices: Many[str] = ()
    default_packages: Many[str] = ()
    device_packages: Many[str] = ()
    revision: str = ""
    epoch: int | None = None
    kernel: str = ""
    filesystems: dict[str, str] = Field(default_factory=dict)


class SeenResult(_Seen):
    """A result.json; see model.result.Result."""

    builder: str
    config: str
    board: str
    profile: Annotated[str, Field(min_length=1)]
    python: str
    tree: _SeenTree
    packages: Many[_SeenPackage]
    images: Annotated[Many[_SeenImage], Field(min_length=1)]
    rootfs: _SeenRootfs | None = None
    flash: _SeenFlash | None = None
    secrets: Many[str]
    signed: dict[str, str] = Field(default_factory=dict)
    device: _SeenDevice = _SeenDevice()

    @property
    def key(self) -> tuple[str, str]:
        """Board and config."""
        return self.board, self.config

    @property
    def content(self) -> str:
        """As PublishedBuild has it."""
        return content_of((image.file, image.sha256) for image in self.images)


@dataclass(frozen=True)
class FoundResult:
    """A result's folder. status: which folder that was, when it was read; sums: SHA-256 by file, of images,
    of what stands beside them, and of the sums themselves; beside: those of BESIDE that are there."""

    folder: Path
    status: tuple[int, int]
    said: SeenResult
    sums: dict[str, str]
    beside: tuple[str, ...]

    @property
    def replaced(self) -> bool:
        """Whether another build has put its result there since."""
        return _status(self.folder) != self.status


class ResultsError(UserError):
    """There is nothing to publish."""


def read_results(out: Path) -> tuple[list[FoundResult], list[Fault]]:
    """All results in a folder of results, or in one of its folders, by board and config; and what is wrong
    with any of them. ResultsError where there are none."""
    try:
        folders = sorted(place for place in _looked_into(out) if (place / RESULT).exists())
    except OSError as error:
        hint = "have it made readable, or publish another folder"
        raise ResultsError(f"cannot read {error.filename}: {error.strerror}", hint=hint) from error
    if not folders:
        raise ResultsError(f"there are no results in {out}", hint="build something first: it fills out/")
    found: dict[tuple[str, str], FoundResult] = {}
    faults: list[Fault] = []
    for folder in folders:
        result = read_again(folder)
        if isinstance(result, list):
            faults += result
            continue
        other = found.setdefault(result.said.key, result)
        if other is not result:
            named = f"{result.said.config} for {result.said.board}"
            faults.append(_fault(folder, "", f"is a second result of {named}: {other.folder}"))
        faults += _refused(result)
    return [found[key] for key in sorted(found)], faults


def _looked_into(out: Path) -> Iterator[Path]:
    """Where results can be: builds make and remove folders there meanwhile."""
    yield out
    for name in names(out):
        if not is_temporary(name):
            yield out / name
            yield from (out / name / below for below in names(out / name) if not is_temporary(below))


def read_again(folder: Path) -> FoundResult | list[Fault]:
    """One result, or all that is wrong with it. A result that another build replaces meanwhile is read
    anew."""
    while True:
        status = _status(folder)
        found = _read(folder, status)
        if _status(folder) == status:
            return found


def _status(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _read(folder: Path, status: tuple[int, int]) -> FoundResult | list[Fault]:
    try:
        said = parse_result(read_plain(folder / RESULT, MOST_RESULT, follow=False))
    except PlainFileError as error:
        return [_fault(folder, "", error.problem)]
    except ValidationError as error:
        return [
            _fault(folder, ".".join(map(str, detail["loc"])), detail["msg"])
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    images = {image.file: image.sha256 for image in said.images}
    faults = [_fault(folder, key, problem) for key, problem in _odd_names(said)]
    faults += [fault for image in said.images for fault in _lacking(folder, image)]
    beside = tuple(name for name in BESIDE if os.path.lexists(folder / name))
    if SUMS not in beside:
        problem = f"there is no {SUMS} beside it: whether this is what was built cannot be told"
        return [*faults, _fault(folder, "", problem, "build it anew")]
    try:
        sums = _sums(folder)
    except PlainFileError as error:
        return [*faults, _fault(folder, "", f"{SUMS} {error.problem}")]
    faults += [
        _fault(folder, "images", f"{name}: {SUMS} has another SHA-256 than {RESULT}")
        for name, sha256 in images.items()
        if sums.get(name) != sha256
    ]
    faults += [
        _fault(folder, "", f"{SUMS} does not list {name}, which lies beside it", "build it anew")
        for name in beside
        if name in _SUMMED and name not in sums
    ]
    return faults or FoundResult(folder, status, said, {**sums, **images}, beside)


def parse_result(data: bytes) -> SeenResult:
    """A result.json. ValidationError for anything else."""
    return SeenResult.model_validate_json(data)


def _sums(folder: Path) -> dict[str, str]:
    """What they list, and their own."""
    data = read_plain(folder / SUMS, MOST_SUMS, follow=False)
    lines = filter(None, map(_LINE.fullmatch, data.decode("utf-8", "replace").splitlines()))
    return {line[2]: line[1] for line in lines} | {SUMS: hashlib.sha256(data).hexdigest()}


def _odd_names(said: SeenResult) -> Iterator[tuple[str, str]]:
    """Names that are to be a file's or a folder's, and cannot be."""
    named = [("config", said.config), ("board", said.board)]
    named += [(f"images.{index}.file", image.file) for index, image in enumerate(said.images)]
    for key, name in named:
        if not name or name.startswith(".") or _CONTROL.search(name) or len(os.fsencode(name)) > _MOST_NAME:
            yield key, f"{name[:80]!r} is no name of a file"
    for image in said.images:
        if image.file in (*BESIDE, *OURS):
            yield "images", f"{image.file} is the name of something else on the site"
    if len({image.file for image in said.images}) < len(said.images):
        yield "images", "names a file twice"


def _lacking(folder: Path, image: _SeenImage) -> Iterator[Fault]:
    try:
        there = (folder / image.file).lstat()
    except (OSError, ValueError):
        yield _fault(folder, "images", f"{image.file} is missing")
        return
    size = there.st_size
    if stat.S_ISLNK(there.st_mode):
        yield _fault(folder, "images", f"{image.file} is a link, where a file is expected")
    elif size != image.size:
        yield _fault(folder, "images", f"{image.file} is damaged: it has {size} of {image.size} bytes")


def _refused(found: FoundResult) -> Iterator[Fault]:
    names = found.said.secrets
    if names:
        yield _fault(
            found.folder,
            "secrets",
            f"the images of {found.said.config} for {found.said.board} hold secrets: {', '.join(names)}",
            "who fetches an image can read them; give such images to their owners by another way",
        )


def _fault(folder: Path, key: str, problem: str, hint: str | None = None) -> Fault:
    return Fault(str(folder / RESULT), None, key, problem, hint)
