"""The files of a result that stand beside its images: their names, and result.json.

All that a build hands over lies in one folder, `out/CONFIG/BOARD/`; who reads results has the names
from here.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.model.result import Result

RESULT = "result.json"
MANIFEST = "manifest"
BUILD_LOG = "build.log"
SUMS = "sha256sums"
SIGNATURE = "sha256sums.sig"
SBOM = "sbom.cdx.json"  # the ending that CycloneDX recommends
LOCK = "lock.toml"
REPORT = "report.html"

_MOST_RESULT = 64 << 20  # bytes; those of genuine builds have some 100 KiB


class ResultError(UserError):
    """A folder that should hold a result, and does not."""


def write_result(result: Result, folder: Path) -> None:
    """`result.json`, whose JSON schema is that of model.result.Result."""
    (folder / RESULT).write_text(result.model_dump_json(indent=2) + "\n")


def read_result(folder: Path) -> Result:
    """What write_result() wrote. ResultError where there is none, or another version of this program's."""
    place = folder / RESULT
    try:
        return Result.model_validate_json(read_plain(place, _MOST_RESULT))
    except (OSError, PlainFileError) as error:
        raise ResultError(
            f"{folder} is no folder of a result: {RESULT} cannot be read there",
            hint="name the folder with the images, such as out/CONFIG/BOARD",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ResultError(
            f"{place} is of another version of this program, or damaged: {where}: {first['msg']}",
            hint="build it anew",
        ) from error
