"""Loads bytecode as the device will. Never imported: load.py hands its text to the target's Python.

Arguments: what stands before each path, and a file with lines `PATH`, `PATH TAB MODULE` or `TAB MODULE`.
Every .pyc is read by the interpreter's own loader: its header looked at, its code unmarshalled. What has a
module's name is imported too, when all has been read. Standard output: lines of fields between tabs, see
load.py. It needs nothing but what is inside the interpreter, and nothing that is newer than Python 3.6.
"""

import _frozen_importlib_external as external
import _signal  # type: ignore[import-not-found]  # it is in every interpreter
import posix
import sys

IMPORT_SECONDS = 20
LENGTH = 300
NATIVE, BYTECODE = ".so", ".pyc"


class SlowError(BaseException):
    """An import does not come to its end."""


def late(_number: int, _frame: object) -> None:
    raise SlowError


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\t", " ").replace("\n", " ")[:LENGTH]


def load(prefix: str, path: str) -> str:
    """What is wrong with a file of bytecode; "" if nothing is."""
    try:
        external.SourcelessFileLoader(path, prefix + path).get_code(path)
    except Exception as error:  # noqa: BLE001 - whatever stops the device's loader
        return told(error)
    return ""


def bring(module: str) -> "tuple[str, str]":
    """How importing a module ends: ok, slow, or lacks, refused and fails with the reason."""
    _signal.alarm(IMPORT_SECONDS)
    try:
        __import__(module)
    except SlowError:
        return "slow", ""
    except ImportError as error:
        # what the device's linker refuses has the file's path (CPython, Python/dynload_shlib.c)
        return "refused" if (error.path or "").endswith(NATIVE) else "lacks", told(error)
    except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too
        return "fails", told(error)
    finally:
        _signal.alarm(0)
    return "ok", ""


def main() -> None:
    prefix, listed = sys.argv[1:]
    with open(listed) as stream:  # noqa: PTH123 - pathlib is no part of python3-base
        rows = [line.rstrip("\n").split("\t") for line in stream]
    out = posix.dup(1)
    nothing = posix.open("/dev/null", posix.O_RDWR)
    for handle in (0, 1, 2):  # what modules say while they are imported is not ours
        posix.dup2(nothing, handle)

    def write(*fields: str) -> None:
        posix.write(out, ("\t".join(fields) + "\n").encode("utf-8", "replace"))

    for row in rows:
        if row[0].endswith(BYTECODE):
            write("L", row[0], load(prefix, row[0]))
    _signal.signal(_signal.SIGALRM, late)
    for row in rows:
        if len(row) > 1:
            write("T", row[1])
            write("I", row[1], *bring(row[1]))
    write("END")
    posix._exit(0)


main()
