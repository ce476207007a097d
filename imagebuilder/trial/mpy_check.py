"""MicroPython's bytecode in a root file system: whether its interpreter reads each file. Nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from imagebuilder.host.elf import ElfError, read_header
from imagebuilder.model.trial import TrialCheck, TrialLevel
from imagebuilder.python.bytecode.bytecode import head_of
from imagebuilder.python.micropython.mpy import LIBRARY, MpyError, format_of, read_head, release_of
from imagebuilder.rootfs.files import content, content_size
from imagebuilder.rootfs.tree import Entry, FileTree
from imagebuilder.trial.hello import interpreters_of
from imagebuilder.trial.judged import Question, counted, finding
from imagebuilder.trial.paths import real_path

MPY = Question(
    "mpy-bytecode", "MicroPython reads its bytecode", "the version of the interpreter's .mpy files"
)
_MOST_BYTES = 32 << 20  # an interpreter has less than one MiB
_SMALL_INT = {32: 31, 64: 63}  # bits of a small integer, by those of the processor (MICROPY_OBJ_REPR_A)
_PACKAGES = ("micropython", "micropython-mbedtls", "micropython-nossl")


def mpy_check(tree: FileTree, owners: Mapping[str, str], versions: Mapping[str, str]) -> TrialCheck | None:
    """Whether MicroPython can read the .mpy files of a root file system; None where it has none, or no
    MicroPython. owners: the packages of files, by their paths; versions: of packages, by their names."""
    program = next((each.program for each in interpreters_of(tree) if not each.python), None)
    # of two files of one name the source is taken
    files = [path for path in tree if path.endswith(".mpy") and f"{path[:-4]}.py" not in tree]
    files = [path for path in files if tree[path].kind == "file"]
    if program is None or not files:
        return None
    place = real_path(tree, program)
    data = b"" if place is None or content_size(tree[place]) > _MOST_BYTES else content(tree[place])
    said = [release_of(data), *(versions[name] for name in _PACKAGES if name in versions)]
    formats = {release: number for release in said if (number := format_of(release)) is not None}
    if len(set(formats.values())) != 1:
        told = " and ".join(formats) or "nothing"
        return MPY.not_run(f"nobody knows which .mpy files {program} reads: {told} says its release")
    release, wanted = next(iter(formats.items()))
    bits = _small_int(data)
    findings = [
        finding(path, owners, text, level)
        for path in files
        for text, level in _faults(path, tree[path], f"MicroPython {release.removeprefix('v')}", wanted, bits)
    ]
    return MPY.answered(f"{counted(len(files), 'file')} of version {wanted}", findings)


def _small_int(program: bytes) -> int | None:
    try:
        return _SMALL_INT.get(read_header(program).bits)
    except ElfError:
        return None


def _faults(
    path: str, entry: Entry, interpreter: str, wanted: int, bits: int | None
) -> Iterator[tuple[str, TrialLevel]]:
    level: TrialLevel = "error" if path.startswith(f"{LIBRARY}/") else "warning"
    try:
        head = read_head(head_of(entry))
    except MpyError as error:
        yield str(error), level
        return
    if head.version != wanted:
        yield f"version {head.version} of .mpy files, where {interpreter} reads {wanted}", level
    elif bits is not None and head.small_int > bits:
        yield f"it needs small integers of {head.small_int} bits, where {interpreter} has {bits}", level
