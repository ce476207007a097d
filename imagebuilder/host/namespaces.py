"""Why bubblewrap cannot shut programs in here, and what helps: each kind of system refuses in its own way.

Sources: user_namespaces(7) for user.max_user_namespaces; Debian's kernels up to 10 for
kernel.unprivileged_userns_clone; Ubuntu's AppArmor, from 23.10 on, for
kernel.apparmor_restrict_unprivileged_userns: a program without a profile that allows `userns` gets a
namespace in which it may do nothing, and bubblewrap says `setting up uid map: Permission denied`.
"""

from __future__ import annotations

import os
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.run import CLEAN_PATH, find_program

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
