"""What is wrong in a system that has started: its kernel's messages and its services, told by what the guest
answers.

procd says by `ubus call service list` which instances run, and with which process; a kit's services are kept
by /usr/libexec/supervise, a process for each. Both are asked twice, some seconds apart: what then runs as
another process, or does not run although it is to be started again, dies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagebuilder.model.trial import TrialCheck, TrialFinding, TrialLevel
from imagebuilder.trial.judged import Question, counted, finding

# -r leaves each line's level in front of it, where busybox has that
ASK_KERNEL = "dmesg -r 2>/dev/null || dmesg"
_LEVEL = re.compile(r"<(\d+)>")
_TIME = re.compile(r"\[\s*\d+\.\d+\]\s*")
# what the kernel says of faults, whatever level it has
_GRAVE = re.compile(
    r"\bOops\b|\bBUG: |kernel BUG at|Kernel panic|Unable to handle kernel|general protection fault"
    r"|segfault at|traps: .* trap|I/O error|SQUASHFS error|EXT4-fs error|UBIFS error|JFFS2 error"
    r"|Out of memory: Kill|soft lockup|rcu_\w+ detected stalls|hung_task|blocked for more than \d+ seconds"
    r"|do_page_fault\(\): sending SIGSEGV|unhandled page fault"
)
# said at each first start of a disk's overlay, before it is there: OpenWrt's fstools with Linux 4.14. What
# cannot be read, or fails once its file system is mounted, is a fault like any other
_USUAL = re.compile(r"I/O error, dev (loop\d+), sector 0\b(?!.*\(READ\))")
_OVERLAY = re.compile(r"(?:EXT4|F2FS)-fs \((loop\d+)\): [Mm]ounted ")
_WORSE = re.compile(r"WARNING: CPU")
_CRITICAL, _ERROR = 2, 3  # levels of syslog(2): emergency, alert and critical; error

SERVICES_APART = 4.0
ASK_SERVICES = """\
if command -v ubus > /dev/null && ubus -S list service > /dev/null 2>&1; then
	echo procd
	ubus -S call service list
	logread 2> /dev/null | grep 'in a crash loop'
	exit 0
fi
[ -x /usr/libexec/supervise ] || { echo none; exit 0; }
echo supervise
for file in /var/run/services/*.pid; do
	[ -f "$file" ] || continue
	keeper=$(cat "$file") name=${file##*/} alive=0
	name=${name%.pid}
	kill -0 "$keeper" 2> /dev/null && alive=1
	again=$( . "${file%.pid}"; [ -n "$respawn" ] && echo 1 )
	echo "service $name $alive ${again:-0}"
	for stat in /proc/[0-9]*/stat; do
		{ read -r line < "$stat"; } 2> /dev/null || continue
		set -- ${line##*) }
		[ "$2" = "$keeper" ] || continue
		pid=${line%% *}
		echo "child $name $pid $(tr '\\0' ' ' < "/proc/$pid/cmdline")"
	done
done
"""
# procd's own words
_LOOP = re.compile(r"Instance (\S+)::\S+ s in a crash loop")
# children of supervise that are not the service: its log, its wait before the next start, itself as it forks
_NOT_SERVICE = re.compile(r"logger -t |sleep \d+ ?$|\S*sh /usr/libexec/supervise |$")
SERVICES = Question("services", "services run", "none failed, and none is started again and again")


@dataclass(frozen=True, slots=True)
class GuestService:
    """A service at one moment. pid: of its process, None where it does not run; again: it is started again
    when it ends; over: who keeps it has given up; code: its last exit code, where that is known; program:
    what is run, where that is known."""

    name: str
    pid: int | None
    again: bool
    over: bool = False
    code: int | None = None
    program: str = ""

    @property
    def excuse(self) -> str:
        """Why its end says nothing of the image, in words; empty where it does. Busybox's ntpd ends where it
        reaches nothing outside, which a guest never does here, and then neither crashes nor is missing."""
        alone = self.name == "sysntpd" and self.program.endswith("/ntpd") and self.code in (None, 0, 1)
        return "it reaches no time server here" if alone else ""


ASK_PORTS = "cat /proc/net/tcp /proc/net/tcp6 /proc/net/fib_trie 2>/dev/null"
GUEST_ADDRESS = "192.168.1.1"  # where forwarded ports lead to: see machine.py
# a socket of proc_net_tcp(5): its number, its own address and port, the other end's, its state (0A: listens)
_LISTENS = re.compile(r"^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A ", re.MULTILINE)


def listened_ports(said: str) -> frozenset[int]:
    """The TCP ports at which programs of the guest listen; none while it has no address, where it says which
    it has. said: what ASK_PORTS gave."""
    if "|-- " in said and not re.search(rf"\|-- {re.escape(GUEST_ADDRESS)}$", said, re.MULTILINE):
        return frozenset()
    return frozenset(int(port, 16) for port in _LISTENS.findall(said))


def kernel_check(messages: str) -> TrialCheck:
    """Whether the kernel met faults. messages: what ASK_KERNEL gave."""
    question = Question("kernel", "the kernel met no faults", "no oops, crash or I/O error")
    lines = messages.splitlines()
    return question.answered(f"{counted(len(lines), 'message')}", _kernel_findings(lines))


def _kernel_findings(lines: Sequence[str]) -> Iterator[TrialFinding]:
    mounted: set[str] = set()
    for line in lines:
        match = _LEVEL.match(line)
        level = int(match[1]) & 7 if match is not None else _ERROR + 1
        text = _TIME.sub("", line[match.end() :] if match is not None else line, count=1)
        grave: TrialLevel | None = "error" if level <= _CRITICAL or _GRAVE.search(text) else None
        if (overlay := _OVERLAY.search(text)) is not None:
            mounted.add(overlay[1])
        if level > _CRITICAL and (usual := _USUAL.search(text)) is not None and usual[1] not in mounted:
            grave = "note"
        if grave is None and _WORSE.search(text):
            grave = "warning"
        if grave is None and level == _ERROR:
            grave = "note"
        if grave is not None:
            yield finding("", {}, text, grave)


def services_check(first: str, second: str) -> TrialCheck:
    """Whether services hold out. first, second: what ASK_SERVICES gave, SERVICES_APART seconds apart."""
    kind = second.partition("\n")[0]
    if kind not in ("procd", "supervise"):
        return SERVICES.not_run("nothing in the guest says which services it has")
    try:
        before, after = _services(first), _services(second)
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        return SERVICES.not_run(f"the guest's answer cannot be read: {error}")
    excused = {each.name for each in after.values() if each.excuse}
    loops = [
        line.strip()
        for line in second.splitlines()
        if (loop := _LOOP.search(line)) is not None and loop[1] not in excused
    ]
    findings = [*_service_findings(before, after), *(finding("", {}, each, "error") for each in loops)]
    return SERVICES.answered(counted(len(after), "service"), findings)


def _services(said: str) -> dict[str, GuestService]:
    kind, _, rest = said.partition("\n")
    found = _of_procd(rest) if kind == "procd" else _of_supervise(rest)
    return {each.name: each for each in found}


def _of_procd(said: str) -> Iterator[GuestService]:
    for service, facts in json.loads(said.partition("\n")[0] or "{}").items():
        for name, one in facts.get("instances", {}).items():
            yield GuestService(
                f"{service} ({name})" if len(facts["instances"]) > 1 else service,
                one.get("pid") if one.get("running") else None,
                bool(one.get("respawn")),
                code=one.get("exit_code"),
                program=next(iter(one.get("command") or ()), ""),
            )


def _of_supervise(said: str) -> Iterator[GuestService]:
    children: dict[str, int] = {}
    for line in said.splitlines():
        if line.startswith("child "):
            _, name, pid, command = line.split(" ", 3)
            if not _NOT_SERVICE.match(command):
                children[name] = int(pid)
    for line in said.splitlines():
        if line.startswith("service "):
            _, name, alive, again = line.split(" ")
            shown = name.removesuffix(".instance1")
            yield GuestService(shown, children.get(name), again == "1", over=alive == "0")


def _service_findings(
    before: dict[str, GuestService], after: dict[str, GuestService]
) -> Iterator[TrialFinding]:
    for name, now in after.items():
        was = before.get(name)
        code = "" if now.code is None else f" with {now.code}"
        if now.pid is None and now.again:
            what = "it was given up" if now.over else "it waits to be started again"
            yield finding("", {}, f"{name} dies{code}: {now.excuse or what}", _level(now))
        elif now.pid is None and now.code:
            yield finding("", {}, f"{name} ended{code}", "warning")
        elif was is not None and now.pid is not None and was.pid != now.pid and now.again:
            text = f"it ran as another process {SERVICES_APART:g} s before"
            yield finding("", {}, f"{name} dies and is started again: {now.excuse or text}", _level(now))


def _level(service: GuestService) -> TrialLevel:
    return "note" if service.excuse else "error"
