"""Overlays looked through before anything is built: what a device would trip over, and nobody would see.

A shell script that does not parse, a line that ends as on Windows, an init script that cannot be started: the
image is made all the same, and the device does not come up. What would not work is an error, what is likely
to be a slip a warning.
"""

from __future__ import annotations

import ast
import codecs
import posixpath
import re
import shutil
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.run import run
from imagebuilder.model.init_script import RC_COMMON
from imagebuilder.model.python_source import EncodingError, source_text
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry, FileTree

MOST_READ = 1 << 20  # bytes; what is larger is no script
PARSE_SECONDS = 20.0
_SHEBANG = re.compile(rb"#!\s*(\S+)[ \t]*([^\r\n]*)")
_SHELLS = frozenset({"sh", "ash", "dash", "busybox"})
# run or sourced by a shell although nothing in them says so (base-files: /etc/init.d/boot, hotplug-call,
# /etc/profile, /etc/preinit, sysupgrade)
_SHELL_PLACES = (
    "/etc/uci-defaults/",
    "/etc/hotplug.d/",
    "/etc/profile.d/",
    "/etc/rc.button/",
    "/lib/preinit/",
    "/lib/upgrade/",
)
_SHELL_FILES = frozenset({"/etc/rc.local", "/etc/profile", "/etc/shinit", "/etc/preinit", "/etc/diag.sh"})
_START = re.compile(rb"^\s*START=", re.MULTILINE)
_FAILS = re.compile(rb"(exit|return)\s+0*[1-9][0-9]*\s*;?|false")
_LINE = re.compile(r"line (\d+)")
# what an image has only when the device runs, or what is made there
_MADE_THERE = ("/tmp", "/var", "/proc", "/sys", "/dev", "/run", "/overlay", "/rom", "/mnt")  # noqa: S108
_FOLDERS_OF_PROGRAMS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")


@dataclass(frozen=True)
class Flaw:
    """Something that is wrong with an overlay's file. place: the file, with its line where there is one.
    grave: the device would not work as it is meant."""

    place: str
    text: str
    grave: bool = True

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class Known:
    """What an overlay's files are held against. root: where they lie on this machine. python: version of the
    image's interpreter, None where it has none. image: all paths of the image, the overlays' included; None
    where they are not known yet. secrets: paths whose contents are not shown."""

    root: Path
    python: tuple[int, int] | None = None
    image: Collection[str] | None = None
    secrets: Collection[str] = ()


def lint(tree: FileTree, known: Known) -> Iterator[Flaw]:
    """All flaws of what an overlay brings, its templates rendered, by path."""
    for path, entry in tree.items():
        if entry.kind == "symlink":
            yield from _link(path, entry.target, known)
        elif entry.kind == "file":
            data = content(entry)
            if len(data) <= MOST_READ and b"\0" not in data:
                yield from _file(path, entry, data, known)


def _place(path: str, known: Known, line: int = 0) -> str:
    """The overlay's file, also of a template, whose own lines are other ones."""
    file = known.root / path[1:]
    if not file.is_symlink() and not file.exists():
        said = f" (line {line} of what it renders to)" if line else ""
        return f"{file}.j2{said}"
    return f"{file}:{line}" if line else str(file)


def _file(path: str, entry: Entry, data: bytes, known: Known) -> Iterator[Flaw]:
    marked = data.startswith(codecs.BOM_UTF8)
    shebang = _SHEBANG.match(data.removeprefix(codecs.BOM_UTF8))
    command = shebang[1].decode("utf-8", "replace") if shebang else ""
    words = shebang[2].decode("utf-8", "replace").split() if shebang else []
    program = posixpath.basename(words[0] if command.endswith("/env") and words else command)
    shell = program in _SHELLS or (not shebang and (path in _SHELL_FILES or path.startswith(_SHELL_PLACES)))
    yield from _line_ends(path, data, known, script=bool(shebang) or shell)
    if marked and (shebang or shell or path.startswith("/etc/config/")):
        reader = "uci" if path.startswith("/etc/config/") else "the kernel" if shebang else "no shell"
        text = f"the mark of UTF-8 (BOM) stands before its first line, which {reader} does not read so"
        yield Flaw(_place(path, known, 1), text.replace("no shell does not read so", "no shell reads so"))
        return  # everything else that is wrong may follow from that
    if b"\r\n" in data and (shebang or shell):
        return  # everything else that is wrong follows from that
    if shebang:
        yield from _interpreter(path, command, program, known)
    if shell or program == "bash":
        yield from _shell(path, data, known, by="bash" if program == "bash" else "")
    if path.startswith("/etc/init.d/"):
        yield from _init_script(path, entry, data, known, common=RC_COMMON in words)
    if path.startswith("/etc/uci-defaults/"):
        yield from _first_start(path, data, known)
    if path.endswith(".py") or re.fullmatch(r"python3?(\.\d+)?", program):
        yield from _python(path, data, known)


def _line_ends(path: str, data: bytes, known: Known, *, script: bool) -> Iterator[Flaw]:
    line = data[: data.find(b"\r\n")].count(b"\n") + 1 if b"\r\n" in data else 0
    if not line:
        return
    if script:
        yield Flaw(_place(path, known, line), "the lines end as on Windows (CR LF): no shell runs that")
    elif path.startswith("/etc/config/"):
        yield Flaw(_place(path, known, line), "the lines end as on Windows (CR LF): uci does not read that")
    elif path.startswith("/etc/"):
        text = "the lines end as on Windows (CR LF), which few programs take"
        yield Flaw(_place(path, known, line), text, grave=False)


def _interpreter(path: str, command: str, program: str, known: Known) -> Iterator[Flaw]:
    """Packages' scripts make links of their own, so that only programs that come in packages of their own are
    known to be missing."""
    if known.image is None or program in _SHELLS:
        return
    by_name = command.endswith("/env")
    places = {f"{folder}/{program}" for folder in _FOLDERS_OF_PROGRAMS}
    if not by_name:
        places.add(command)
    if places.isdisjoint(known.image):
        packaged = re.fullmatch(
            r"(bash|zsh|python[0-9.]*|perl|ruby|node|php[0-9]*(-cli)?|lua|ucode)", program
        )
        text = f"it is a script for {program}, which the image does not have"
        yield Flaw(_place(path, known, 1), text, grave=packaged is not None)
    elif not by_name and command not in known.image:
        there = sorted(places & set(known.image))
        text = f"it is a script for {command}, and the image has {there[0]}"
        yield Flaw(_place(path, known, 1), text, grave=False)


def _shell(path: str, data: bytes, known: Known, *, by: str) -> Iterator[Flaw]:
    """busybox's shell is the device's; bash, which every ImageBuilder needs here, takes all that it takes."""
    argv = [by or "bash", "-n"] if by or not shutil.which("busybox") else ["busybox", "sh", "-n"]
    ended = run(argv, stdin=data, timeout=PARSE_SECONDS, check=False)
    if ended.code == 0:
        return
    said = ended.stderr.strip().splitlines()
    lines = [int(match[1]) for text in said if (match := _LINE.search(text))]
    # a shell quotes what it does not understand
    words = "" if path in known.secrets or not said else f": {said[0].rpartition(': ')[2]}"
    text = f"it is no shell script that {' '.join(argv)} can read{words}"
    yield Flaw(_place(path, known, lines[0] if lines else 0), text)


def _init_script(path: str, entry: Entry, data: bytes, known: Known, *, common: bool) -> Iterator[Flaw]:
    if known.image is not None and not entry.mode & 0o111:  # what it lies over may give it its mode
        text = "the init script is not executable, so that the device does not start it: chmod +x"
        yield Flaw(_place(path, known), text)
    if not common:
        text = f"the init script does not begin with #!/bin/sh {RC_COMMON}, so that it is not enabled"
        yield Flaw(_place(path, known, 1), text, grave=False)
    elif not _START.search(data):
        text = "the init script has no START=, so that nothing starts it when the device does"
        yield Flaw(_place(path, known), text, grave=False)


def _first_start(path: str, data: bytes, known: Known) -> Iterator[Flaw]:
    """Source: uci_apply_defaults() of base-files' /etc/init.d/boot: a script is removed only if it ends
    well."""
    lines = data.rstrip().split(b"\n")
    if _FAILS.fullmatch(lines[-1].strip()):
        text = "it ends in failure: the device keeps it, and runs it again at every start"
        yield Flaw(_place(path, known, len(lines)), text, grave=False)


def _python(path: str, data: bytes, known: Known) -> Iterator[Flaw]:
    if known.python is None:
        return
    told = sys.version_info[:2] >= known.python
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source_text(data), feature_version=known.python if told else None)
    except EncodingError as error:
        text = f"Python cannot read it: {error.problem}"
        yield Flaw(_place(path, known, error.line), text)
    except SyntaxError as error:
        version = ".".join(map(str, known.python if told else sys.version_info[:2]))
        text = f"Python {version} cannot read it: {error.msg}"
        yield Flaw(_place(path, known, error.lineno or 0), text, grave=told)
    except (ValueError, RecursionError, MemoryError) as error:  # as ast.parse() says of some texts
        yield Flaw(_place(path, known), f"Python cannot read it ({type(error).__name__})", grave=told)


def _link(path: str, target: str, known: Known) -> Iterator[Flaw]:
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    of_this_host = target.startswith("/") and (
        place.startswith(f"{Path.home()}/")
        or place.startswith(f"{known.root}/")
        or place.startswith("/home/")
    )
    inside = known.image is not None and place in known.image
    if of_this_host and not inside:
        yield Flaw(_place(path, known), f"the link leads to {target}, which is a place of this machine")
    elif known.image is not None and not (inside or _is_made_there(place)):
        text = f"the link leads to {target}, which the image does not have"
        yield Flaw(_place(path, known), text, grave=False)


def _is_made_there(place: str) -> bool:
    return any(place == folder or place.startswith(f"{folder}/") for folder in _MADE_THERE)
