"""bubblewrap's arguments: what make and package scripts see, which is no more than they need.

No network but a loopback of their own, the host's programs read-only, nothing of anybody's home, the same
paths, host name and user on every machine. A package's script runs as whoever builds; here it is root of
nothing: without the capabilities that could undo a mount, and without new privileges (bubblewrap sets
no_new_privs itself).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import imagebuilder
from imagebuilder.called import typed
from imagebuilder.errors import HostError
from imagebuilder.host.run import CLEAN_PATH, find_program

TREE = Path("/builder/tree")
WORK = Path("/builder/work")
HOST_NAME = "builder"
_ETC_FOLDER = "etc"
# of the work folder, if they are there; nothing else of it, since the results and the build log lie there too
WRITABLE = ("bin", "home", "tmp", "dl")
READABLE = ("files", "feed", "make")

USER_NAMESPACE = ("--unshare-user", "--uid", "0", "--gid", "0")
_NAMESPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
# what root is used to: files of any owner and mode. Not: mounts, devices, other processes, the network
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID")
_PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# how programs are found and linked, time zones, file(1)'s types; no accounts, no keys, no host names
_SETTINGS = (
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "magic.mime"),
    *("perl", "mke2fs.conf"),
)
# the same everywhere, so that no name of this machine or of its users gets into an image
_ETC = {
    "passwd": f"root:x:0:0:root:{WORK}/home:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def check_present() -> None:
    """HostError if bubblewrap is not on this machine."""
    try:
        find_program("bwrap", CLEAN_PATH)
    except HostError as error:
        raise HostError(
            "make runs in a sandbox, and bubblewrap (bwrap) is not on this machine",
            hint=f"install bubblewrap ({typed('doctor --fix')}), or build without it: --no-sandbox",
        ) from error


def own_python() -> tuple[Path, ...]:
    """Where the Python that runs now lies, with its libraries, and this project's package.

    A folder of sys.path counts as libraries if something is installed there. It may lie beside the
    environment: pipx's environments have a common one, which a .pth file names, and pip finds there what it
    does not install again. A folder with sources alone, as the current one may be, is not shown.
    """
    places = [Path(sys.prefix), Path(sys.base_prefix)]
    folders = [folder for folder in map(Path, sys.path) if folder.is_absolute()]
    places += [folder for folder in folders if any(folder.glob("*.dist-info"))]
    program = Path(sys.executable)
    while program.is_symlink():  # a virtualenv's python, then perhaps another one, until the real program
        places.append(program.parent)
        program = program.parent / program.readlink()
    package = Path(imagebuilder.__file__).parent
    return tuple(dict.fromkeys([*places, program.parent, package]))


def write_settings(work: Path) -> None:
    """Write what the sandbox has in /etc of its own into the folder `work`, for argv()."""
    (work / _ETC_FOLDER).mkdir()
    for name, text in _ETC.items():
        (work / _ETC_FOLDER / name).write_text(text, "utf-8")


def argv(tree: Path, work: Path, *, readable: Sequence[Path] = (), more: Sequence[str] = ()) -> list[str]:
    """bubblewrap's argv up to the program's: `tree` at TREE, writable, and of the folder `work` at WORK what
    WRITABLE and READABLE name. readable: further folders, shown where they are. more: further options."""
    shown = [
        *("--ro-bind", "/usr", "/usr"),
        *_programs(),
        *(word for name in _SETTINGS for word in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")),
        *(word for name in _ETC for word in ("--ro-bind", str(work / _ETC_FOLDER / name), f"/etc/{name}")),
        # the kernel lets root write there without any capability, core_pattern for one
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *("--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/var/tmp"),  # noqa: S108
        *_read_only(readable),
        *("--bind", str(tree), str(TREE), "--dir", str(WORK)),
        *(word for name in WRITABLE for word in ("--bind-try", str(work / name), str(WORK / name))),
        *(word for name in READABLE for word in ("--ro-bind-try", str(work / name), str(WORK / name))),
    ]
    allowed = [word for name in _CAPABILITIES for word in ("--cap-add", name)]
    return [
        *("bwrap", "--die-with-parent", *_NAMESPACES, *more),
        *("--hostname", HOST_NAME, "--cap-drop", "ALL", *allowed),
        *shown,
        *("--remount-ro", "/", "--chdir", str(TREE), "--"),
    ]


def _programs() -> Iterator[str]:
    """/bin and its like: links into /usr on newer systems, folders on others."""
    for name in _PROGRAMS:
        place = Path("/", name)
        if place.is_symlink():
            yield from ("--symlink", str(place.readlink()), str(place))
        elif place.is_dir():
            yield from ("--ro-bind", str(place), str(place))


def _read_only(places: Sequence[Path]) -> Iterator[str]:
    for place in places:
        if not place.is_relative_to("/usr"):
            yield from ("--ro-bind", str(place), str(place))
