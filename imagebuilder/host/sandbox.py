"""A private view of an ImageBuilder tree: make writes into it, the user's own tree stays as it was.

Where the kernel allows it the view is an overlay mount in a mount namespace (and a user namespace, where
we are not root), which exists for one program only. Elsewhere the tree is copied.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagebuilder.errors import HostError
from imagebuilder.host.run import ProgramError, ProgramTimeoutError, run
from imagebuilder.log import Log

PROBE_SECONDS = 20.0

# mount(8) splits options at commas and make splits words at blanks: in the namespace every path is a plain
# one, whatever the user's folders are called. $1: mount point, $2: tree, $3: work folder, rest: the program.
_MOUNT = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/lower" "$1/tree" "$1/work"
mount --bind "$2" "$1/lower"
mount --bind "$3" "$1/work"
mount -t overlay overlay \
    -o "userxattr,lowerdir=$1/lower,upperdir=$1/work/upper,workdir=$1/work/overlay" "$1/tree"
cd "$1/tree"
shift 3
exec "$@"
"""

# in a user namespace root may not write files of users that have no number there; sh's own test says it may
_PROBE = ("sh", "-c", 'env test -w Makefile || { echo "the tree belongs to another user" >&2; exit 1; }')

# pdeathsig and kill-child: when this process dies, even by kill -9, nothing of make goes on
_NAMESPACES = (
    ("unshare", "--mount", "--pid", "--fork", "--kill-child"),
    ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"),
    ("unshare", "--user", "--map-root-user", "--mount"),
)


@dataclass(frozen=True)
class PrivateView:
    """A tree that may be written to, and a work folder beside it, as programs in the view see them.

    tree, work: paths inside the view. changed: the folder outside of it in which files that a program
    wrote into the tree are found afterwards (for a copy: the whole tree).
    """

    kind: Literal["overlay", "copy"]
    tree: Path
    work: Path
    changed: Path
    _prefix: tuple[str, ...] = ()

    def command(self, argv: Sequence[str]) -> list[str]:
        """The argv that runs a program in the view, with the tree as its working folder."""
        return [*self._prefix, *argv]


def open_view(tree: Path, work: Path, log: Log) -> PrivateView:
    """A private view of `tree`; what changes is kept below the existing folder `work`.

    HostError where neither an overlay nor a copy can be had.
    """
    for name in ("upper", "overlay"):
        (work / name).mkdir()
    mount_point = _mount_point()
    refusals: list[str] = []
    for namespace in _NAMESPACES if os.geteuid() == 0 else _NAMESPACES[1:]:
        prefix = (
            *("setpriv", "--pdeathsig", "KILL", "--", *namespace, "--", "sh", "-c", _MOUNT, "view"),
            *(str(mount_point), str(tree.resolve()), str(work.resolve())),
        )
        try:
            run([*prefix, *_PROBE], timeout=PROBE_SECONDS)
        except (ProgramError, ProgramTimeoutError, HostError) as error:
            refusals.append(error.message.splitlines()[-1])
            continue
        return PrivateView("overlay", mount_point / "tree", mount_point / "work", work / "upper", prefix)
    log.warn(f"no overlay mount here, so the tree is copied for this build ({refusals[-1]})")
    return _copied_view(tree, work, log)


def _copied_view(tree: Path, work: Path, log: Log) -> PrivateView:
    copy = work.resolve() / "tree"
    if any(character.isspace() for character in str(copy)):
        raise HostError(
            f"OpenWrt's make cannot work in a folder with blanks in its name: {copy}",
            hint="choose another place with --output",
        )
    run(["cp", "-a", "--reflink=auto", "--", str(tree.resolve()), str(copy)], log=log)
    return PrivateView("copy", copy, work.resolve(), copy, ("env", "--chdir", str(copy)))


def _mount_point() -> Path:
    """An empty folder of this user's, the same for every build: what is mounted on it shows in one
    program's namespace only."""
    path = Path("/tmp") / f"openwrt-imagebuilder-{os.geteuid()}"  # noqa: S108 - owner and mode are checked
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise HostError(f"{path} belongs to somebody else", hint="have it removed")
    return path
