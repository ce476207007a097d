"""A root file system of this machine's own programs: what is tried of a root without any emulator."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from imagebuilder.host.run import find_program, run

_LIBRARY = re.compile(r"(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)")


def add_program(root: Path, name: str, place: str) -> None:
    """Put one of this machine's programs into a root at a path there, with all that it is linked with."""
    program = Path(find_program(name)).resolve()
    libraries = _LIBRARY.findall(run(["ldd", str(program)], check=False).stdout)
    for source, target in [
        (program, root / place.lstrip("/")),
        *((each, root / each[1:]) for each in libraries),
    ]:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(source).resolve(), target)


def add_files(root: Path, **files: str | bytes) -> None:
    """Write files by their paths."""
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        place.chmod(0o755)
