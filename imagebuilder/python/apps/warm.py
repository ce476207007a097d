"""`service = "launcher"`: programs of apps that one warm interpreter runs, in children that it forks.

The interpreter is the package python-launcher (python_launcher.py), with a service for each user whose apps
ask for it. In place of such a program, /usr/bin has a shell script that asks it for a run: no Python starts.
A named pipe and a process number are the whole request, for of all that OpenWrt has everywhere, nothing else
reaches another process from a shell: its busybox opens no unix sockets, and procd starts nothing for them.
What Python would start by itself stays in WARM_FOLDER, and is run where the launcher cannot do it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.python.apps.apps import AppScan
from imagebuilder.python.apps.launcher import PROGRAM_MODE, PROGRAMS, init_lines, shell_word
from imagebuilder.python.bytecode.bytecode import WARM_FOLDER
from imagebuilder.rootfs.tree import Entry, file_of

LAUNCHER = "python-launcher"
LAUNCHER_SOURCE = Path(__file__).with_name("python_launcher.py")
RUN_FOLDER = "/var/run/python-launcher"
ANSWER_SECONDS = 5  # for the launcher to take a request up; who gets no answer starts Python

# read -t is busybox's; [ and read are built in, so that mkfifo is the only program that is started
_CLIENT = """\
#!/bin/sh
# Asks python-launcher to run a program, and runs it itself where that is not there, belongs to another user,
# or could not share a stream: where two processes are in a file is one place only if one got it of the other.
program={program}
here={here}
[ -p "$here/requests" ] && [ -O "$here" ] || exec "$program" "$@"
for each in 0 1 2; do
	[ -p /proc/self/fd/$each ] || [ -c /proc/self/fd/$each ] || exec "$program" "$@"
done
mkfifo "$here/$$" 2> /dev/null || exec "$program" "$@"
# the streams once more, for in a redirection of the shell's own they are others for a moment
exec 3<> "$here/$$" 4<> "$here/requests" 5<&0 6>&1 7>&2
# a signal that comes before it is known who runs is handed on then
told= child= answer=
tell() {{ [ -z "$child" ] || kill -$1 -$child 2> /dev/null || kill -$1 $child; }}
for each in HUP INT QUIT TERM; do
	trap "told=$each; tell $each" $each
done
echo $$ >&4
read -r -t {seconds} answer <&3 || ! rm "$here/$$" 2> /dev/null || answer=-
until [ -n "$answer" ]; do read -r answer <&3; done
if [ "$answer" = - ]; then
	trap - HUP INT QUIT TERM
	[ -z "$told" ] || kill -$told $$
	exec "$program" "$@" 3>&- 4>&- 5<&- 6>&- 7>&-
fi
child=$answer
[ -z "$told" ] || tell $told
exec 4< /proc/self/fd/3 3>&- # so that it ends when the launcher does
until told=; read -r code <&4; do
	kill -0 "$child" 2> /dev/null && {{ [ "$told" ] || sleep 1; }} && continue
	read -r code <&4 && break
	echo "$program: python-launcher ended, and how the program did is not known" >&2
	exit 1
done
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class WarmUser:
    """A user whose programs are run warm. modules: that its launcher imports beforehand."""

    user: str
    modules: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its launcher is asked."""
        return f"{RUN_FOLDER}/{self.user}"


def modules_to_warm(scans: Iterable[AppScan]) -> tuple[str, ...]:
    """What apps import of the library and of requirements whenever they start. Their own modules are not
    among it: they may do more than to define things, and two apps may have modules of one name."""
    found: dict[str, None] = {}
    scans = tuple(scans)
    own = {name for scan in scans for name in scan.own}
    for scan in scans:
        found |= dict.fromkeys(
            each.module
            for each in scan.imports
            if each.kind == "always" and each.top not in own and each.module != "__future__"
        )
    return tuple(sorted(found))


def asking_program(name: str, user: str) -> Entry:
    """The shell script in place of a program. user: the launcher's."""
    text = _CLIENT.format(
        program=shell_word(f"{WARM_FOLDER}/{name}"),
        here=shell_word(f"{RUN_FOLDER}/{user}"),
        seconds=ANSWER_SECONDS,
    )
    return file_of(text.encode(), PROGRAM_MODE)


def warm_programs(files: Mapping[str, Entry], names: Collection[str], user: str) -> dict[str, Entry]:
    """An app's programs, those of these names to be run warm: each goes to WARM_FOLDER, and the script that
    asks for it takes its place."""
    found = dict(files)
    for name in names:
        found[f"{WARM_FOLDER}/{name}"] = found[f"{PROGRAMS}/{name}"]
        found[f"{PROGRAMS}/{name}"] = asking_program(name, user)
    return found


def warm_services(users: Iterable[WarmUser]) -> Entry:
    """/etc/init.d/python-launcher: an instance for each user, whose folder nobody else may enter."""
    lines = ["start_service() {"]
    for each in users:
        folder, user = shell_word(each.folder), shell_word(each.user)
        command = [f"{PROGRAMS}/{LAUNCHER}", each.folder, WARM_FOLDER, *each.modules]
        lines += [
            f"\tmkdir -p {folder}",
            f"\tchmod 700 {folder}",
            f"\tchown {user} {folder}",
            f"\tprocd_open_instance {user}",
            "\tprocd_set_param command " + " ".join(map(shell_word, command)),
            f"\tprocd_set_param user {user}",
            "\tprocd_set_param respawn 3600 5 0",
            "\tprocd_set_param stdout 1",
            "\tprocd_set_param stderr 1",
            "\tprocd_close_instance",
        ]
    lines.append("}")
    return file_of(("\n".join([*init_lines(90), *lines]) + "\n").encode(), PROGRAM_MODE)
