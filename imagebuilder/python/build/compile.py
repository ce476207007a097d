"""The compiler of a build in the sandbox. Never imported: zig.py lays its text beside settings.json.

Arguments: zig's command (cc, c++, ar, ranlib) and what the build gives its compiler. Folders of this machine
are left out of them, since what lies there is for its own processor and C library; the target's flags are put
in.
"""

import json
import os
import sys
import typing

OF_FOLDERS = ("-I", "-L", "-isystem", "-idirafter", "-iquote", "-R", "-Wl,-rpath,", "-Wl,-rpath=")
COMPILERS = ("cc", "c++")
OF_CPP, OF_C = (b"_Z", b"__cxa_", b"__gxx_"), (b"__cxa_finalize", b"__cxa_atexit")


def kept(given: "list[str]", foreign: "tuple[str, ...]") -> "typing.Iterator[str]":
    """The arguments that count for the target. foreign: folders of this machine."""
    waiting = iter(given)
    for word in waiting:
        option = next((each for each in OF_FOLDERS if word.startswith(each)), "")
        place = word[len(option) :]
        after: tuple[str, ...] = ()
        if option and not place:
            place = next(waiting, "")
            after = (place,)
        if option and any(place == each or place.startswith(each + "/") for each in foreign):
            continue
        yield word
        yield from after


def wants_its_library(made: str) -> bool:
    """Whether a library that was linked has names of C++'s own in it."""
    with open(made, "rb") as stream:  # noqa: PTH123
        names = stream.read().split(b"\0")
    return any(name.startswith(OF_CPP) and name not in OF_C for name in names)


def main() -> None:
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "settings.json")  # noqa: PTH100, PTH118, PTH120
    with open(place) as stream:  # noqa: PTH123
        settings = json.load(stream)
    tool, given = sys.argv[1], sys.argv[2:]
    words = given
    if tool in COMPILERS:
        words = [*settings["first"], *kept(given, tuple(settings["foreign"])), *settings["last"]]
    if tool == "c++" and "-shared" in given and "-o" in given:
        # C++ in name alone, as Cython's often is, wants nothing of its library, which takes zig minutes
        code = os.spawnv(os.P_WAIT, settings["zig"], [settings["zig"], "cc", *words])  # noqa: S606
        if code:
            raise ChildProcessError(f"zig ended with {code}")
        if not wants_its_library(given[given.index("-o") + 1]):
            return
    os.execv(settings["zig"], [settings["zig"], tool, *words])  # noqa: S606


if __name__ == "__main__":
    main()
