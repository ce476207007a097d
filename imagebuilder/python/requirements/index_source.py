"""Sources that wheels are built of: what they hold, and which of it would have to be compiled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.python.build.host_build_source import LEFT_OUT

NATIVE_ENDINGS = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs", ".f90", ".f")
MAX_PROJECT_BYTES = 256 << 20
_NOT_BUILT = ("test", "doc", "example", "bench")  # folders whose C code is not the package's own


class NativeSourceError(UserError):
    """A source distribution with code that has to be compiled for the target. files: such files in it."""

    def __init__(self, name: str, files: Sequence[str], hint: str) -> None:
        shown = f" ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})" if files else ""
        super().__init__(
            f"'{name}' is to be had as a source distribution only, and has code to compile for the "
            f"target{shown}",
            hint=hint,
        )
        self.files = tuple(files)


class ProjectError(UserError):
    """A project's folder that cannot be taken."""


def _files(folder: Path) -> Iterator[Path]:
    for current, folders, files in os.walk(folder):
        here = Path(current)
        folders[:] = sorted(
            name
            for name in folders
            if name not in LEFT_OUT
            and not name.endswith(".egg-info")
            and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(files))


def native_files(folder: Path) -> tuple[str, ...]:
    """Files of a source that a C compiler or its like would have to see, those of tests and examples left
    out."""
    names = (str(path.relative_to(folder)) for path in _files(folder) if path.name.endswith(NATIVE_ENDINGS))
    return tuple(name for name in names if not name.startswith(_NOT_BUILT))


def project_digest(folder: Path) -> str:
    """SHA-256 over a project's files, with their paths. ProjectError beyond MAX_PROJECT_BYTES."""
    whole, total = hashlib.sha256(), 0
    for path in _files(folder):
        if not path.is_file():
            continue
        total += path.stat().st_size
        if total > MAX_PROJECT_BYTES:
            raise ProjectError(
                f"{folder}: more than {MAX_PROJECT_BYTES >> 20} MiB",
                hint="point python.apps at the app's own folder",
            )
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        executable = "x" if path.stat().st_mode & 0o100 else "-"
        line = f"{path.relative_to(folder)}\0{executable}{content}\0"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
