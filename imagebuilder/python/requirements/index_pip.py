"""pip, which speaks to package indexes for us: which one, by what certificate, with which password is the
user's pip configuration (pip.conf, PIP_INDEX_URL, ...) and nothing of ours.

pip resolves and downloads; with wheels alone nothing of what it downloads is run.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from imagebuilder.errors import HostError, UserError
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import Completed, clean_environment, run
from imagebuilder.log import Log
from imagebuilder.python.wheels.target import WheelTarget

HELPER, SOURCES = "index_markers.py", "index_sources.py"  # run as texts by another process, not imported
PIP_SECONDS = 600.0
_COMMON = ("--no-input", "--disable-pip-version-check", "--no-color")
# what says how an index is reached; other settings of pip would change what it does
_SETTINGS = frozenset(
    f"PIP_{name}"
    for name in (
        *(
            "INDEX_URL",
            "EXTRA_INDEX_URL",
            "FIND_LINKS",
            "NO_INDEX",
            "CONFIG_FILE",
            "CACHE_DIR",
            "NO_CACHE_DIR",
        ),
        *("CERT", "CLIENT_CERT", "TRUSTED_HOST", "PROXY", "TIMEOUT", "DEFAULT_TIMEOUT", "RETRIES"),
        *("KEYRING_PROVIDER", "USE_FEATURE"),
    )
)
_PASSED = frozenset(
    (
        *("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_CACHE_HOME", "NETRC", "TMPDIR"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    )
)
_NO_MATCH = re.compile(r"^ERROR: No matching distribution found for (.+?)(?: \(from .*\))?$", re.MULTILINE)
_CONFLICT = re.compile(r"^The conflict is caused by:\n(?: .*\n)+", re.MULTILINE)
_CAUSE = re.compile(
    r"^ +(?:(?P<by>\S+) \S+ depends on |The user requested (?!\(constraint\)))(?P<wanted>.+?) *$",
    re.MULTILINE,
)
_UNREACHABLE = re.compile(
    r"Retrying \(|Could not fetch URL|NewConnectionError|ConnectTimeoutError|SSLError|HTTP error 5\d\d"
)
_NOISE = re.compile(r"^(WARNING: .*|\[notice\].*|\s*)$")


class PythonIndexError(UserError):
    """What a package index, or pip, could not do."""


class UnreachableIndexError(PythonIndexError):
    """No package index answers."""


class NoMatchError(PythonIndexError):
    """An index has no file that fits. requirement: the one, as pip writes it."""

    def __init__(self, requirement: str) -> None:
        super().__init__(
            f"no package index has a file of '{requirement}' that fits",
            hint="is the name right, and is it for the target's Python? pip config list names the index",
        )
        self.requirement = requirement


class ConflictError(PythonIndexError):
    """Requirements that go together in no way that pip found. wanted: what is asked for, by each that asks
    in its newest release (pip names all that it tried, newest first); both as pip writes them."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="see what it says")
        newest: dict[str, str] = {}
        for cause in _CAUSE.finditer(message):
            newest.setdefault(cause["by"] or cause["wanted"], cause["wanted"])
        self.wanted = tuple(dict.fromkeys(newest.values()))


def pip_environment() -> dict[str, str]:
    """What pip needs of the user's environment, and nothing else of it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name in _SETTINGS or name.lower().endswith("_proxy")
    }
    return clean_environment(**kept, PIP_PROGRESS_BAR="off")


def index_settings(log: Log) -> dict[str, str]:
    """The user's pip configuration, files and environment together, as PIP_* variables: for where its files
    cannot be seen. Only what says how an index is reached."""
    listed = pip(["config", "list"], "reading its configuration", cwd=Path("/"), log=log).stdout
    found: dict[str, str] = {}
    for section in ("global.", "install.", "download.", ":env:."):
        for line in listed.splitlines():
            name, equals, value = line.removeprefix(section).partition("=")
            variable = f"PIP_{name.upper().replace('-', '_')}"
            if line.startswith(section) and equals and variable in _SETTINGS:
                found[variable] = str(ast.literal_eval(value))
    return {**found, "PIP_CONFIG_FILE": os.devnull}


def local_places(settings: Mapping[str, str]) -> list[Path]:
    """Files and folders of this machine that pip's settings name: certificates; of an index's folder the one
    above it, where its files usually are."""
    found = []
    for word in (word for value in settings.values() for word in value.split()):
        path = Path(urllib.parse.unquote(word.removeprefix("file://")))
        if word.startswith("file:///"):
            path = path.parent
        if path.is_absolute() and len(path.parts) > 2 and path.exists() and word != os.devnull:
            found.append(path)
    return found


def for_target(target: WheelTarget, *, pure: bool = False) -> list[str]:
    """pip's options that make it choose wheels for a target. pure: none with native code."""
    platforms = ("any",) if pure else (*target.platforms(), target.own_platform)
    return [
        *("--only-binary", ":all:", "--python-version", target.python, "--implementation", "cp"),
        *("--abi", "none" if pure else target.abis()[0]),
        *(word for platform in platforms for word in ("--platform", platform)),
    ]


def pip_argv(
    arguments: Sequence[str], markers: Mapping[str, str] | None = None, *, sources: bool = False
) -> list[str]:
    """pip in the Python that runs us. markers: the target's variables of environment markers; sources: it
    fetches a source distribution, of which it is to run nothing."""
    command, *rest = arguments
    if sources:
        text = (resources.files(__package__) / SOURCES).read_text("utf-8")
        return [sys.executable, "-c", text, command, *_COMMON, *rest]
    if markers is None:
        return [sys.executable, "-m", "pip", command, *_COMMON, *rest]
    helper = (resources.files(__package__) / HELPER).read_text("utf-8")
    return [sys.executable, "-c", helper, json.dumps(dict(markers)), command, *_COMMON, *rest]


def said(done: Completed) -> str:
    """What pip said at its end, without warnings and notices; of requirements that conflict, which."""
    conflict = _CONFLICT.search(done.stdout)
    if conflict is not None:
        return conflict[0].strip()
    lines = [line for line in (done.stderr or done.stdout).splitlines() if not _NOISE.match(line)]
    return "\n".join(lines[-12:])


def check(done: Completed, doing: str) -> None:
    """Raise what pip's answer means: UnreachableIndexError, NoMatchError, ConflictError, HostError where
    there is no pip, PythonIndexError for all else. doing: what pip was to do, for the message."""
    if done.code == 0:
        return
    text = f"{done.stdout}\n{done.stderr}"
    if "No module named pip" in text:
        raise HostError(
            f"pip is not there for {sys.executable}, which is needed for {doing}",
            hint=f"{sys.executable} -m ensurepip",
        )
    if _UNREACHABLE.search(text):
        raise UnreachableIndexError(
            f"no package index could be reached for {doing}: {said(done)}",
            hint="try again with a network, or --offline with the cache; pip config list names the index",
        )
    missing = _NO_MATCH.search(text)
    if missing is not None:
        raise NoMatchError(missing[1])
    failed = f"pip failed at {doing}:\n{said(done)}"
    if _CONFLICT.search(done.stdout):
        raise ConflictError(failed)
    raise PythonIndexError(failed, hint="see what it says")


def pip(
    arguments: Sequence[str],
    doing: str,
    *,
    cwd: Path,
    log: Log,
    markers: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    prefix: Iterable[str] = (),
    sources: bool = False,
    watch: Watch | None = None,
) -> Completed:
    """Run pip in a folder. prefix: what it is run in, a sandbox; sources: as for pip_argv(); watch: holds it
    to its limits there. Raises as check() and Watch.check() do, and ProgramTimeoutError after PIP_SECONDS."""
    done = run(
        [*prefix, *pip_argv(arguments, markers, sources=sources)],
        cwd=cwd,
        env={**pip_environment(), **(environment or {})},
        timeout=PIP_SECONDS,
        check=False,
        watch=watch,
    )
    log.command(("pip", *arguments))
    check(done, doing)
    return done
