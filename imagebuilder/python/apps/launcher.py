"""What starts an app: small programs for /usr/bin, and the init script of a service.

A launcher holds what is needed and no more, because all of it runs at every start: it neither asks
importlib.metadata nor searches for its module. `-B` keeps the interpreter from writing bytecode, which
OpenWrt's does not by itself (its patch of Py_DontWriteBytecodeFlag), and others would.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imagebuilder.errors import UserError
from imagebuilder.python.wheels.entry_points import EntryPoint
from imagebuilder.rootfs.tree import Entry, file_of

PROGRAMS = "/usr/bin"
PROGRAM_MODE = 0o755
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


class LauncherError(UserError):
    """A program or a service that cannot be started as asked."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How an interpreter is started. site: whether `site` is imported (without it sitecustomize, *.pth files
    and `exit` are not there); isolated: without the environment's PYTHON* and the current folder on the
    path; optimize: 0, 1 or 2, for what is compiled on the device; interpreter: its path there."""

    site_packages: str
    interpreter: str = "/usr/bin/python3"
    site: bool = True
    isolated: bool = False
    optimize: int = 0

    def flags(self) -> str:
        """The interpreter's options, in the one word that a first line (#!) can pass on."""
        return "-B" + "I" * self.isolated + "S" * (not self.site) + "O" * self.optimize

    def first_line(self) -> str:
        """The first line of a program."""
        return f"#!{self.interpreter} {self.flags()}"

    def path_lines(self) -> list[str]:
        """What puts site-packages onto the path where `site` does not."""
        return [] if self.site else ["import sys", f"sys.path.append({self.site_packages!r})"]


@dataclass(frozen=True, slots=True)
class Service:
    """A program that procd keeps running. command: program and arguments; respawn_seconds: how long to wait
    before it is started again, however often it ends."""

    command: Sequence[str]
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    respawn_seconds: int = 5


def entry_point_program(entry: EntryPoint, start: StartOptions) -> Entry:
    """The program of a console entry point."""
    top = entry.attribute.partition(".")[0]
    lines = [start.first_line(), *(start.path_lines() or ["import sys"])]
    lines += [f"from {entry.module} import {top}", 'if __name__ == "__main__":']
    lines.append(f"    sys.exit({entry.attribute}())")
    return file_of(("\n".join(lines) + "\n").encode(), PROGRAM_MODE)


def bytecode_program(bytecode: str, start: StartOptions, header_bytes: int) -> Entry:
    """The program that runs a script's bytecode, at this path on the target, as the main module.
    header_bytes: what stands before the code in it."""
    lines = [start.first_line(), *start.path_lines(), *_loading(bytecode, header_bytes)]
    lines += ["__file__ = code.co_filename", "exec(code)"]
    return file_of(("\n".join(lines) + "\n").encode(), PROGRAM_MODE)


def _loading(bytecode: str, header_bytes: int) -> list[str]:
    return [
        "import marshal",
        f"with open({bytecode!r}, 'rb') as stream:",
        f"    stream.seek({header_bytes})",
        "    code = marshal.load(stream)",
    ]


@dataclass(frozen=True, slots=True)
class MainCode:
    """A main module on the target. source: where it is, or would be beside its bytecode; code: what is run, a
    .pyc or the source itself; header_bytes: what stands before the code in a .pyc."""

    source: str
    code: str
    header_bytes: int


def folder_program(folder: str, package: str, main: MainCode, start: StartOptions) -> Entry:
    """The program that runs a module of a folder on the target, as `python3 FOLDER/main.py` would: its
    modules are found before all others. package: the one that the module is in, which is imported before;
    "" for none."""
    lines = [start.first_line(), *(start.path_lines() or ["import sys"]), f"sys.path.insert(0, {folder!r})"]
    if main.code.endswith(".pyc"):
        lines += _loading(main.code, main.header_bytes)
    else:
        lines += [f"with open({main.code!r}, 'rb') as stream:"]
        lines += [f"    code = compile(stream.read(), {main.source!r}, 'exec')"]
    lines += [f"import {package}", f"__package__ = {package!r}"] if package else []
    lines += [f"__file__ = {main.source!r}", "exec(code)"]
    return file_of(("\n".join(lines) + "\n").encode(), PROGRAM_MODE)


def source_program(text: bytes, start: StartOptions) -> Entry:
    """The program that is a script's own source: its first line, if it has one, replaced. Without `site`
    the script must need nothing of site-packages: there is no place in it to say where that is."""
    body = text.partition(b"\n")[2] if text.startswith(b"#!") else text
    return file_of(start.first_line().encode() + b"\n" + body, PROGRAM_MODE)


def shell_word(text: str) -> str:
    """A word as a shell reads it, quoted only where it must be."""
    return text if _PLAIN_WORD.fullmatch(text) else shlex.quote(text)


def init_lines(start: int) -> list[str]:
    """How the init script of a procd service begins. start: its place in the order."""
    return ["#!/bin/sh /etc/rc.common", "", "USE_PROCD=1", f"START={start}", "STOP=10", ""]


def init_script(service: Service) -> Entry:
    """/etc/init.d/NAME: a procd service with respawn, user and environment."""
    if not service.command:
        raise LauncherError("a service has no command", hint="name the program that it runs")
    lines = [
        *init_lines(95),
        "start_service() {",
        "\tprocd_open_instance",
        "\tprocd_set_param command " + " ".join(map(shell_word, service.command)),
        "\tprocd_set_param user " + shell_word(service.user),
    ]
    if service.environment:
        settings = (f"{name}={value}" for name, value in sorted(service.environment.items()))
        lines.append("\tprocd_set_param env " + " ".join(map(shell_word, settings)))
    lines += [
        "\t# however often it ends, it is started again",
        f"\tprocd_set_param respawn 3600 {service.respawn_seconds} 0",
        "\tprocd_set_param stdout 1",
        "\tprocd_set_param stderr 1",
        "\tprocd_close_instance",
        "}",
    ]
    return file_of(("\n".join(lines) + "\n").encode(), PROGRAM_MODE)


# what OpenWrt's build gives every package: /lib/functions.sh of base-files enables init scripts, makes users
_SCRIPT = """\
#!/bin/sh
[ -s "${{IPKG_INSTROOT}}/lib/functions.sh" ] || exit 0
. "${{IPKG_INSTROOT}}/lib/functions.sh"
{function} "$0" "$@"
"""


def maintainer_scripts() -> dict[str, bytes]:
    """postinst and prerm of a package with a service."""
    return {
        "postinst": _SCRIPT.format(function="default_postinst").encode(),
        "prerm": _SCRIPT.format(function="default_prerm").encode(),
    }
