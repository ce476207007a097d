"""Shell scripts that a root file system runs by itself, read by its own shell without being run: what it
starts at boot, for settings of the first boot, buttons and events, and what these read in.

Which scripts those are, and whether their first line counts, is OpenWrt's: procd starts /etc/init.d and
/etc/rc.button as programs; base-files and netifd read the rest into a shell that runs already
(/lib/functions.sh, uci_apply_defaults(); /sbin/hotplug-call), whatever their first line says.

One process reads them all, each in a subshell that is told not to execute (`set -n`, POSIX) before its first
line. What it is told with is tried out first: a shell that runs what it should only read gets no script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import Completed, how_it_ended
from imagebuilder.model.trial import TrialCheck, TrialLevel
from imagebuilder.python.shake.commands import DEVICE_PATH, WORK, Root, run_in
from imagebuilder.rootfs.files import content, content_size
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.judged import Question, counted, finding
from imagebuilder.trial.paths import real_path

SCRIPTS = Question(
    "shell-scripts",
    "init scripts, uci-defaults and hotplug scripts parse",
    "scripts that the image's own shell reads to their end",
)
SHELL = "/bin/sh"
_PROGRAMS = ("/etc/init.d/*", "/etc/rc.button/*")
_READ_IN = (
    *("/etc/uci-defaults/*", "/etc/hotplug.d/*/*", "/etc/rc.common", "/etc/rc.local", "/etc/preinit"),
    *("/etc/profile", "/etc/profile.d/*.sh", "/lib/preinit/*", "/lib/functions.sh", "/lib/functions/*.sh"),
    *("/lib/upgrade/*.sh", "/lib/config/*.sh", "/lib/netifd/*.sh", "/lib/wifi/*.sh", "/lib/network/*.sh"),
)
_SHELLS = frozenset({"sh", "ash", "dash"})
_MOST_BYTES = 1 << 20
MOST = 5000  # scripts that are read; a root of 5,000 packages has 1,300
_DONT_RUN = b"set -n\n"
_READ_SECONDS = 60.0
_ENDED = re.compile(r"@(\d+) (\d+)")
# busybox and bash say `FILE: line 3: …`, dash says `OURS: 3: FILE: …`
_ERROR_LINE = re.compile(rf"(?:line|{WORK}/orders:) (\d+): (?:{WORK}/\d+: )?(.+)")
_GOOD, _BAD = b"echo run >&2\nif true; then echo run >&2; fi\n", b"if true; then\n"
_MOST_SAID = 200
_CARRIAGE = "it has Windows' line ends"


@dataclass(frozen=True, slots=True)
class ShellScript:
    """A script that the shell reads. read_in: into a shell that runs already."""

    path: str
    data: bytes
    read_in: bool


@dataclass(frozen=True, slots=True)
class ShellFault:
    """What is wrong with a script."""

    path: str
    text: str
    level: TrialLevel = "error"


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, each) for each in patterns)


def interpreter_of(data: bytes) -> str:
    """The program that a script's first line names, a path or, behind env, a name; "" without such a line."""
    if not data.startswith(b"#!"):
        return ""
    words = data[2:].partition(b"\n")[0].decode("utf-8", "replace").split()
    if len(words) > 1 and words[0].rpartition("/")[2] == "env":
        return next((word for word in words[1:] if not word.startswith("-") and "=" not in word), words[0])
    return words[0] if words else ""


def scripts_of(tree: FileTree) -> tuple[tuple[ShellScript, ...], tuple[ShellFault, ...]]:
    """The scripts that the shell of a root file system reads, by path, and what can be told of the others
    without it."""
    scripts, faults = [], []
    for path, entry in tree.items():
        read_in = _matches(path, _READ_IN)
        if entry.kind != "file" or not (read_in or _matches(path, _PROGRAMS)):
            continue
        if content_size(entry) > _MOST_BYTES:
            faults.append(ShellFault(path, f"it has more than {_MOST_BYTES >> 20} MiB: not read", "warning"))
            continue
        data = content(entry)
        if b"\0" in data:
            if read_in:
                faults.append(ShellFault(path, "it is no text, and a shell reads it"))
        elif read_in or _is_shell(data):
            scripts.append(ShellScript(path, data, read_in))
            if not read_in and not data.startswith(b"#!"):
                faults.append(ShellFault(path, "no first line #! says what starts it at boot", "warning"))
        else:
            faults += _other_script(tree, path, interpreter_of(data))
    faults += [ShellFault(each.path, "one script too many: not read", "warning") for each in scripts[MOST:]]
    return tuple(scripts[:MOST]), tuple(faults)


def _is_shell(data: bytes) -> bool:
    name = interpreter_of(data)
    return not name or name.rpartition("/")[2] in _SHELLS


def _other_script(tree: FileTree, path: str, program: str) -> Iterator[ShellFault]:
    """What can be said of a script that is another program's: whether that is there."""
    places = [program] if "/" in program else [f"{each}/{program}" for each in DEVICE_PATH.split(":")]
    if any(real_path(tree, place) is not None for place in places):
        yield ShellFault(path, f"a script for {program}, not for the shell: not read", "note")
    else:
        yield ShellFault(path, f"its first line names {program}, which is not in the image")


def _orders(number: int) -> bytes:
    """The script that reads the scripts in."""
    lines = (f"( . {WORK}/{each} ) >{WORK}/{each}.out 2>&1; echo @{each} $?\n" for each in range(number))
    return "".join(lines).encode()


def parse_ended(text: str, number: int) -> dict[int, int]:
    """The exit codes that the shell says, by the scripts' numbers, of those below `number`; whatever else
    stands there is left out."""
    found = (_ENDED.fullmatch(line) for line in text.split("\n"))
    told = {int(each[1]): int(each[2]) for each in found if each is not None and len(each[0]) < 20}
    return {script: code for script, code in told.items() if script < number}


def _said(file: Path) -> str:
    """What the shell said of a script, with the script's own line."""
    text = file.read_bytes()[:65536].decode("utf-8", "replace") if file.is_file() else ""
    last = next((line for line in reversed(text.split("\n")) if line.strip()), "")
    found = _ERROR_LINE.search(last)
    if found is None:
        return last[-_MOST_SAID:] or "the shell does not read it to its end"
    # one line stands before the first of the script
    return f"line {int(found[1]) - 1}: {found[2][:_MOST_SAID]}"


class _CannotReadError(UserError):
    """A shell that does not do what it is asked."""


def _read(root: Root, scripts: tuple[ShellScript, ...], work: Path) -> dict[str, str]:
    """The scripts that the shell does not read to their end, and what it said."""
    whole = [_GOOD, _BAD, *(each.data for each in scripts)]
    with temporary_folder("scratch", work) as folder:
        for number, data in enumerate(whole):
            (folder / str(number)).write_bytes(_DONT_RUN + data)
        (folder / "try").write_bytes(_orders(2))
        (folder / "orders").write_bytes(_orders(len(whole)))
        done = run_in(root, [SHELL, f"{WORK}/try"], folder, timeout=_READ_SECONDS)
        codes = parse_ended(done.stdout, 2)
        if codes.get(0) != 0 or codes.get(1, 0) == 0 or (folder / "0.out").stat().st_size:
            raise _CannotReadError(_why_not(done, "it is no shell that reads scripts without running them"))
        done = run_in(root, [SHELL, f"{WORK}/orders"], folder, timeout=_READ_SECONDS)
        codes = parse_ended(done.stdout, len(whole))
        if len(codes) != len(whole):
            raise _CannotReadError(_why_not(done, f"it read {max(len(codes) - 2, 0)} of {len(scripts)}"))
        return {
            script.path: _said(folder / f"{number}.out")
            for number, script in enumerate(scripts, 2)
            if codes[number] != 0
        }


def _why_not(done: Completed, else_: str) -> str:
    said = next((line for line in reversed(done.stderr.split("\n")) if line.strip()), "")
    if done.code == 0:
        return f"of the image's {SHELL}, {else_}"
    return f"the image's {SHELL} {how_it_ended(done.code)}" + (f": {said[:_MOST_SAID]}" if said else "")


def _script_fault(script: ShellScript, said: str) -> ShellFault:
    text = said
    if b"\r\n" in script.data:
        text += f" ({_CARRIAGE})"
    if script.read_in and not _is_shell(script.data):
        text += f" (a shell reads it in, although its first line names {interpreter_of(script.data)})"
    return ShellFault(script.path, text)


def shell_check(
    root: Root, tree: FileTree, owners: Mapping[str, str], work: Path, *, unable: str = ""
) -> TrialCheck:
    """Whether the shell of a root file system reads its scripts to their end. tree: what is in it; owners:
    the packages of files, by their paths; unable: why its programs cannot be run here."""
    scripts, faults = scripts_of(tree)
    why = unable or ("" if real_path(tree, SHELL) is not None else f"the image has no {SHELL}")
    if not scripts:
        why = why or "the image has no such scripts"
    if not why:
        try:
            bad = _read(root, scripts, work)
        except UserError as error:
            why = error.message
        else:
            faults = (*faults, *(_script_fault(each, bad[each.path]) for each in scripts if each.path in bad))
    findings = [finding(each.path, owners, each.text, each.level) for each in faults]
    if why and not any(each.level == "error" for each in faults):
        return SCRIPTS.not_run(why, findings)
    return SCRIPTS.answered(counted(len(scripts), "script"), findings)
