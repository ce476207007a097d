"""Where make runs: in a sandbox, on a private view of the tree.

The view: make writes into it, the user's own tree stays as it was. Where the kernel allows it the view is an
overlay mount in a mount namespace (and a user namespace, where we are not root), which exists for one
program only. Elsewhere the tree is copied. The sandbox: bubblewrap, inside the view's namespace, so that
neither make nor a package's script sees anything else (see host/bubblewrap.py).

Why bubblewrap cannot shut programs in, each kind of system says in its own way. Sources: user_namespaces(7)
for user.max_user_namespaces; Debian's kernels up to 10 for kernel.unprivileged_userns_clone; Ubuntu's
AppArmor, from 23.10 on, for kernel.apparmor_restrict_unprivileged_userns: a program without a profile that
allows `userns` gets a namespace in which it may do nothing, and bubblewrap says `setting up uid map:
Permission denied`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from imagebuilder.errors import HostError
from imagebuilder.host import bubblewrap
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.host.handover import shared_folder, temporary_folder
from imagebuilder.host.limits import LIMITS, SandboxLimits, Watch, bounded_argv
from imagebuilder.host.run import (
    CLEAN_PATH,
    ProgramError,
    ProgramTimeoutError,
    check_words,
    find_program,
    run,
)
from imagebuilder.host.tree_kinds import PROBE, knows_every_user, some_of, top_names, tree_kinds
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Log

PROBE_SECONDS = 20.0

# $1: this process, rest: arguments. A child that asks to be told when the process above it dies (prctl(2),
# PR_SET_PDEATHSIG) is not told where that has died already: so this process must still be above, or above
# unshare, which is in between
_STILL_ABOVE = """
set -e
while read -r key value; do case $key in PPid:) between=$value;; esac; done < /proc/self/status
while read -r key value; do case $key in PPid:) above=$value;; esac; done < "/proc/$between/status"
test "$above" = "$1" || test "$between" = "$1"
shift
"""
# in a process namespace: bubblewrap looks its child up in /proc by the number that it has in there, which may
# be nobody's outside (bubblewrap.c: namespace_ids_read). Where the kernel allows no proc here (user
# namespaces in containers) it may still be somebody's
_OWN_PROC = """
if [ $$ = 1 ]; then mount -t proc proc /proc || :; fi
"""
# mount(8) splits options at commas and make splits words at blanks: in the namespace every path is a plain
# one, whatever the user's folders are called. $1: mount point, $2: tree, $3: work folder, $4: the folder of
# what changes, rest: the program
_MOUNT = """
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/lower" "$1/tree" "$1/work" "$1/changes"
mount --bind "$2" "$1/lower"
mount --bind "$3" "$1/work"
mount --bind "$4" "$1/changes"
mount -t overlay overlay \
    -o "userxattr,lowerdir=$1/lower,upperdir=$1/changes/upper,workdir=$1/changes/overlay" "$1/tree"
cd "$1/tree"
unset OLDPWD
shift 4
"""
# the shell stays: the kernel keeps from the first process of a process namespace what asks it to end
_PROGRAM = """
"$@"
exit 0
"""

# where every user has a number. sh's own test says that root may write to a read-only file system
_PROBE = ("sh", "-c", 'env test -w Makefile || { echo "the tree cannot be written to" >&2; exit 1; }')

_OTHER_NAMES = range(2, 10)
_OVERLAY = ("upper", "overlay")
_ARGUMENTS = 500  # paths that a program is given at once

_MOUNTS = ("unshare", "--mount")
_USER_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
# When this process dies, even by kill -9, nothing of make goes on: with the first process of a process
# namespace all others end. bubblewrap has one of its own, but where bubblewrap is killed while it makes that,
# the first one in there waits for it for ever (bubblewrap.c: child_wait_fd)
_PROCESSES = ("--pid", "--fork", "--kill-child")
_NAMESPACES = ((*_MOUNTS, *_PROCESSES), (*_USER_MOUNTS, *_PROCESSES), _USER_MOUNTS)
_TIED_TO_US = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True)
class PrivateView:
    """A tree that may be written to, and a work folder beside it, as programs in the view see them.

    tree, work: paths inside the view. changed: the folder outside of it in which files that a program
    wrote into the tree are found afterwards (for a copy: the whole tree). sandboxed: whether programs see
    nothing else; they then see of the work folder what bubblewrap.WRITABLE and READABLE name, no more.
    """

    kind: Literal["overlay", "copy"]
    tree: Path
    work: Path
    changed: Path
    sandboxed: bool = False
    _prefix: tuple[str, ...] = ()
    _folder: Path | None = None
    _limits: SandboxLimits = LIMITS
    _in_memory: Path | None = None

    def watch(self, doing: str) -> Watch | None:
        """What holds one run of a program in the view to its limits; None outside the sandbox, where there
        are none. doing: what is done, in words that begin a sentence."""
        if not self.sandboxed:
            return None
        return Watch(doing, self._folder or self.changed, self._limits, in_memory=self._in_memory)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The argv that runs a program in the view, with the tree as its working folder."""
        return [*self._prefix, *argv]


def open_view(
    tree: Path, work: Path, log: Log, *, sandbox: bool = True, limits: SandboxLimits = LIMITS
) -> PrivateView:
    """A private view of `tree`; what changes is kept below the existing folder `work`.

    sandbox: shut programs into bubblewrap. limits: what each program there may take. HostError where that
    does not work, and where neither an overlay nor a copy can be had.
    """
    with opening_view(tree, work, log, sandbox=sandbox, limits=limits) as opened:
        return opened()


@contextmanager
def opening_view(
    tree: Path,
    work: Path,
    log: Log,
    *,
    sandbox: bool = True,
    limits: SandboxLimits = LIMITS,
    in_memory: Path | None = None,
) -> Iterator[Callable[[], PrivateView]]:
    """As open_view(), for who has other work meanwhile: what gives the view, as often as it is asked, and
    raises what open_view() does. Nothing of it goes on any more when the block has ended.

    in_memory: a folder_in_memory(), for what changes, which lies in `work` otherwise."""
    if sandbox:
        bubblewrap.check_present()
        bubblewrap.write_settings(work)
    places = (work,) if in_memory is None else (in_memory, work)
    for place in places:
        _empty_overlay(place)
    kinds = None if os.geteuid() == 0 and knows_every_user() else tree_kinds(tree)
    probe = _PROBE if kinds is None else ("sh", "-c", PROBE, "probe", *kinds.examples)
    ways = [
        (place, view)
        for place in places
        for view in _overlay_views(tree, work, limits, sandbox=sandbox, place=place)
    ]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_refusal, ways[0][1].command(probe))

        @cache
        def opened() -> PrivateView:
            refusals: list[str] = []
            for place, view in ways:
                refusal = first.result() if view is ways[0][1] else _refusal(view.command(probe))
                if kinds is not None:
                    _empty_overlay(place)
                if refusal is None:
                    return view
                refusals.append(
                    f"{kinds.foreign}; {refusal}" if kinds is not None and kinds.foreign else refusal
                )
            copied = _sandboxed_copy if sandbox else _copied_view
            return copied(tree, work, refusals[-1], log, limits)

        yield opened


def _overlay_views(
    tree: Path, work: Path, limits: SandboxLimits, *, sandbox: bool, place: Path
) -> tuple[PrivateView, ...]:
    """The views that an overlay mount gives, where one can be had: the best first. place: where what changes
    is kept."""
    mount_point = _mount_point(work)
    views = []
    for namespace in _candidates():
        prefix = (
            *_around(namespace, _MOUNT),
            *(str(mount_point), str(tree.resolve()), str(work.resolve()), str(place.resolve())),
        )
        inside = mount_point / "tree", mount_point / "work"
        if sandbox:
            shut = bubblewrap.argv(inside[0], work.resolve(), readable=_own_python(tree))
            prefix = (*prefix, *shut, *bounded_argv(limits))
            inside = bubblewrap.TREE, bubblewrap.WORK
        own = None if place == work else place
        views.append(PrivateView("overlay", *inside, place / "upper", sandbox, prefix, work, limits, own))
    return tuple(views)


def _around(namespace: Sequence[str], script: str = "") -> tuple[str, ...]:
    """The argv of a shell in namespaces, up to the script's own arguments and the program's."""
    script = f"{_STILL_ABOVE}{_OWN_PROC}{script}{_PROGRAM}"
    return (*_TIED_TO_US, *namespace, "--", "sh", "-c", script, "around", str(os.getpid()))


def _candidates() -> Sequence[tuple[str, ...]]:
    """The ways to a mount namespace, the best first; a user namespace only where we are not root."""
    return _NAMESPACES if os.geteuid() == 0 else _NAMESPACES[1:]


def _refusal(argv: Sequence[str]) -> str | None:
    """Why a program does not run here; None if it does."""
    try:
        run(argv, timeout=PROBE_SECONDS)
    except (ProgramError, ProgramTimeoutError, HostError) as error:
        return error.message.splitlines()[-1]
    return None


def _own_python(tree: Path) -> tuple[Path, ...]:
    """This project's Python, where the tree's Makefile calls it: the embedded kit's does."""
    makefile = tree / "Makefile"
    try:
        called = makefile.is_file() and b"-m imagebuilder.kit" in read_plain(makefile)
    except PlainFileError as error:
        hint = f"have the tree made readable (chmod -R a+rX {tree})"
        raise HostError(error.message, hint=hint) from error
    return bubblewrap.own_python() if called else ()


def _empty_overlay(work: Path) -> None:
    """Nothing is in the view of what was tried in it."""
    for name in _OVERLAY:
        remove_tree(work / name)
        (work / name).mkdir()


def _copy(tree: Path, work: Path, refusal: str, log: Log) -> Path:
    unreadable = tree_kinds(tree).unreadable
    if unreadable:
        raise HostError(
            f"{tree} has what this user cannot read: {some_of(unreadable)}. So it cannot be copied for this"
            f" build, and no overlay mount works on it ({refusal})",
            hint=f"have it made readable (chmod -R a+rX {tree}), or build on a copy without it",
        )
    log.warn(f"no overlay mount here, so the tree is copied for this build ({refusal})")
    copy = work.resolve() / "tree"
    copy.mkdir()
    entries = [str(tree.resolve() / name) for name in top_names(tree)]
    for first in range(0, len(entries), _ARGUMENTS):
        argv = ["cp", "-a", "--reflink=auto", "--", *entries[first : first + _ARGUMENTS], str(copy)]
        run(argv, log=log)
    shutil.copystat(tree, copy)
    return copy


def shut_in(folder: Path, work: Path, *, readable: Sequence[Path] = (), network: bool = False) -> list[str]:
    """The argv that shuts a program into bubblewrap, up to the program's: `folder` is bubblewrap.TREE, which
    it may write to, and of `work` it sees what bubblewrap.argv() says. network: it may use this machine's.
    HostError where that does not work."""
    bubblewrap.check_present()
    bubblewrap.write_settings(work)
    around, own = _namespaces(folder, work)
    more = [*own, *(["--share-net"] if network else [])]
    shut = bubblewrap.argv(folder.resolve(), work.resolve(), readable=readable, more=more)
    return [*around, *shut, *(bounded_argv() if own else ())]


def check_sandbox() -> None:
    """HostError, with what helps, where make cannot be shut into a sandbox on this machine."""
    with temporary_folder("scratch") as place:
        folder, work = place / "tree", place / "work"
        folder.mkdir()
        work.mkdir()
        shut_in(folder, work)


def _namespaces(folder: Path, work: Path) -> tuple[Sequence[str], Sequence[str]]:
    """What stands before bubblewrap, and its options, without a view's namespaces around it: a user
    namespace, unless it works without one (for root, or where bubblewrap is setuid); for root a process
    namespace around it, where that can be had."""
    user = bubblewrap.USER_NAMESPACE
    alone = _around((*_MOUNTS, *_PROCESSES))
    ways: Sequence[tuple[Sequence[str], Sequence[str]]] = (
        ((_TIED_TO_US, user), (_TIED_TO_US, ()))
        if os.geteuid()
        else ((alone, ()), (_TIED_TO_US, ()), (_TIED_TO_US, user))
    )
    check_words(bubblewrap.argv(folder.resolve(), work.resolve()))  # no sandbox's fault, and no way helps
    for around, more in ways:
        sandbox = bubblewrap.argv(folder.resolve(), work.resolve(), more=more)
        reason = _refusal((*around, *sandbox, "true"))
        if reason is None:
            return around, more
    raise sandbox_error(reason or "")


def _sandboxed_copy(tree: Path, work: Path, refusal: str, log: Log, limits: SandboxLimits) -> PrivateView:
    """The tree copied, and bubblewrap without our own namespaces around it."""
    around, more = _namespaces(tree, work)
    copy = _copy(tree, work, refusal, log)
    sandbox = bubblewrap.argv(copy, work.resolve(), readable=_own_python(tree), more=more)
    inside = bubblewrap.TREE, bubblewrap.WORK
    prefix = (*around, *sandbox, *(bounded_argv(limits) if more else ()))
    return PrivateView("copy", *inside, copy, True, prefix, work, limits)


def _copied_view(tree: Path, work: Path, refusal: str, log: Log, _limits: SandboxLimits) -> PrivateView:
    if any(character.isspace() for character in str(work.resolve())):
        raise HostError(
            f"OpenWrt's make cannot work in a folder with blanks in its name: {work.resolve()}",
            hint="choose another place with --output",
        )
    copy = _copy(tree, work, refusal, log)
    return PrivateView("copy", copy, work.resolve(), copy, _prefix=("env", "--chdir", str(copy)))


def _mount_point(work: Path, place: Path = Path("/tmp")) -> Path:  # noqa: S108 - its owner is checked
    """An empty folder of this user's, the same for every build where nobody else has it, gone with the last
    of them: what is mounted on it shows in one program's namespace only. Somebody else has it where this user
    is root of a user namespace, and the machine's own root builds too, or where it was laid to be in the way.
    """
    name = f"openwrt-imagebuilder-view-{os.geteuid()}"  # another one than versions had that held no lock
    for path in (place / name, *(place / f"{name}-{number}" for number in _OTHER_NAMES)):
        if shared_folder(path, work):
            return path
    raise HostError(f"{path} and those before it belong to somebody else", hint="have them removed")


def scratch_folder(work: Path) -> AbstractContextManager[Path]:
    """A folder of its own below the `tmp` of a work folder, which programs in the view can write to; gone
    afterwards."""
    return temporary_folder("scratch", work / "tmp")


SETTINGS = Path("/proc/sys")
_OTHERWISE = "or build as root, or outside the sandbox with --no-sandbox"
_PROFILE = (
    r"abi <abi/4.0>,\ninclude <tunables/global>\n"
    r"profile bwrap {program} flags=(unconfined) {{\n  userns,\n}}\n"
)


def sandbox_error(reason: str, settings: Path = SETTINGS, user: int | None = None) -> HostError:
    """The error for a machine on which bubblewrap does not work. reason: what it said. settings: where the
    kernel's settings lie. user: who builds, by default this process's; nothing of this stops root."""
    start = "make cannot be shut into a sandbox here"
    root = (os.geteuid() if user is None else user) == 0
    if root:
        return HostError(
            f"{start}: {reason}",
            hint="in a container, give it the right to mount (docker: --privileged), or build outside the"
            " sandbox with --no-sandbox",
        )
    if not (settings / "user/max_user_namespaces").exists():
        return HostError(
            f"{start}: this kernel has no user namespaces ({reason})", hint=_OTHERWISE.removeprefix("or ")
        )
    if _setting(settings, "user/max_user_namespaces") == "0":
        return HostError(
            f"{start}: user namespaces are switched off, user.max_user_namespaces is 0 ({reason})",
            hint=f"as root: sysctl user.max_user_namespaces=15000; {_OTHERWISE}",
        )
    if _setting(settings, "kernel/unprivileged_userns_clone") == "0":
        return HostError(
            f"{start}: only root may make user namespaces, kernel.unprivileged_userns_clone is 0 ({reason})",
            hint=f"as root: sysctl kernel.unprivileged_userns_clone=1; {_OTHERWISE}",
        )
    if _setting(settings, "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return HostError(
            f"{start}: AppArmor keeps bubblewrap from user namespaces, as Ubuntu does since 23.10 ({reason})",
            hint=f"let AppArmor allow it for bubblewrap, as root:\n{_profile_command()}\n"
            "or for every program, as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0\n"
            f"{_OTHERWISE}",
        )
    return HostError(
        f"{start}: {reason}",
        hint="the kernel allows user namespaces, so something around us forbids them: a container (docker:"
        f" --privileged), or a security module; {_OTHERWISE}",
    )


def _profile_command() -> str:
    """The command that gives bubblewrap an AppArmor profile; profiles go by the program's path."""
    program = os.path.realpath(find_program("bwrap", CLEAN_PATH))
    text = _PROFILE.format(program=program)
    return f"printf '{text}' > /etc/apparmor.d/bwrap && apparmor_parser -r /etc/apparmor.d/bwrap"


def _setting(settings: Path, name: str) -> str:
    try:
        return (settings / name).read_text("utf-8", "replace").strip()
    except OSError:  # this kernel has no such setting
        return ""
