"""A program as an ordinary user, where this session is root: how a builder of images mostly is, and a session
in a container, or of CI, is not.

The user is one whom nobody has been made for, with no group but its own. Where Python or the project lies
below a folder that only root may enter, as below /root, the program sees these alone there: bubblewrap shows
them in a mount namespace of its own, on folders that everybody may enter. Nothing of this machine is changed.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.walk import walk

_NUMBERS = range(
    61_000, 65_000
)  # below them are the users of systemd and of most directories, above is nobody
_ENTER = stat.S_IXOTH
_PROBE_SECONDS = 60.0
_THIS_PYTHON = Path(sys.executable)


class NoOrdinaryUserError(HostError):
    """Nothing can be run as an ordinary user here."""


def unused_number() -> int:
    """A number that no user and no group of this machine has."""
    taken = {each.pw_uid for each in pwd.getpwall()} | {each.gr_gid for each in grp.getgrall()}
    return next(number for number in _NUMBERS if number not in taken)


def ordinary_user(home: Path, places: Iterable[Path], number: int, python: Path = _THIS_PYTHON) -> list[str]:
    """The argv that makes a program an ordinary user's, up to the program's own. home: an existing folder for
    it alone. places: what it must see wherever it lies, read-only. number: user and group. python: what has
    to run there, with this project and pytest.

    NoOrdinaryUserError where that cannot be: we are not root, or Python cannot be read by others.
    """
    if os.geteuid() != 0:
        raise NoOrdinaryUserError(
            "only root can run something as another user", hint="you are an ordinary user: leave it out"
        )
    for place in (home, *(home / item.path for item in walk(home))):
        os.chown(place, number, number, follow_symlinks=False)
    argv = [
        *("bwrap", "--die-with-parent", "--cap-add", "ALL", "--dev-bind", "/", "/"),
        *_shown([*places, home], writable=home),
        *("--", "setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "--"),
    ]
    probe = [*argv, str(python), "-c", "import imagebuilder, pytest"]
    done = run(probe, cwd=Path("/"), env=environment(home), timeout=_PROBE_SECONDS, check=False)
    if done.code != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.code}"]
        raise NoOrdinaryUserError(
            f"{python} does not run as an ordinary user here: {said[0]}",
            hint="make Python and the project readable for others (chmod -R o+rX)",
        )
    return argv


def own_places(project: Path, python: Path = _THIS_PYTHON) -> tuple[Path, ...]:
    """What the tests need of this session: the project, an environment by its Python, and the Python behind
    that."""
    places = [project, python.parent.parent, Path(sys.base_prefix), python.resolve().parent.parent]
    return tuple(dict.fromkeys(place.resolve() for place in places))


def environment(home: Path) -> dict[str, str]:
    """What an ordinary user's program finds in its environment."""
    return clean_environment(
        HOME=str(home), TMPDIR=str(home), USER="builder", LOGNAME="builder", PYTHONDONTWRITEBYTECODE="1"
    )


def _shown(places: Sequence[Path], *, writable: Path) -> list[str]:
    """bubblewrap's options for what lies below folders that others may not enter: such a folder is replaced
    by an empty one, in which there is what is wanted and nothing else."""
    argv: list[str] = []
    made: set[Path] = set()
    for place in sorted(places):
        closed = next((each for each in reversed(place.parents) if not each.stat().st_mode & _ENTER), None)
        if closed is None or any(place.is_relative_to(each) for each in places if each in made):
            continue
        if closed not in made:
            argv += ["--perms", "0755", "--tmpfs", str(closed)]
            made.add(closed)
        between = [each for each in reversed(place.parents) if each.is_relative_to(closed)]
        for folder in between:
            if folder not in made:
                argv += ["--perms", "0755", "--dir", str(folder)]
                made.add(folder)
        argv += ["--bind" if place == writable else "--ro-bind", str(place), str(place)]
        made.add(place)
    return argv
