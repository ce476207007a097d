"""git, which fetches one commit of a repository, in the sandbox: it sees nothing of the user's, asks nobody
for a password, and is bounded as builds are. What a password is stands in no argument and no message."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from imagebuilder.config.requirement import shown_address
from imagebuilder.errors import HostError, UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.files import read_plain
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import CLEAN_PATH, Completed, clean_environment, find_program, run
from imagebuilder.host.sandbox import shut_in
from imagebuilder.log import Log

GIT_SECONDS = 600.0
_SHOWN_LINES = 6
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
# how servers are reached and known; what else the user's environment tells git would change what it does
_PASSED = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH")
_CERTIFICATES = "SSL_CERT_FILE"
_VERSIONED = re.compile(r"\b(setuptools[-_]scm|hatch[-_]vcs|pbr|pdm\.scm|use_scm_version)\b")
MAX_TEXT_BYTES = 4 << 20


class GitError(UserError):
    """A repository, or what is wanted of it, that cannot be had."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of a commit. folder: with a `.git` of its own; commit: its whole name; version: what the
    repository's tags say where the build asks for that, "" where it does not or there are none."""

    folder: Path
    commit: str
    version: str = ""


def is_commit(revision: str) -> bool:
    """Whether it is the whole name of a commit, which always means the same."""
    return _COMMIT.fullmatch(revision) is not None


def check_out(address: str, revision: str, folder: Path, log: Log, *, readable: Sequence[Path]) -> Checkout:
    """Fetch a commit with its submodules below the empty folder `folder`. address: git's own, with the
    password if it takes one; revision: a branch, tag or commit, "" for the repository's HEAD; readable: what
    git has to see to speak to servers.

    GitError for what git cannot do, with what it says; HostError where there is no git or no sandbox.
    """
    if address.startswith("ssh:"):
        raise GitError(
            f"{shown_address(address)} asks for the keys of ssh, which nobody sees in the sandbox",
            hint="take the repository's https address, with ${TOKEN} for a password; or clone it, and name"
            " the clone's folder",
        )
    try:
        find_program("git", CLEAN_PATH)
    except HostError as error:
        raise HostError(
            "git is not on this machine, which fetches a requirement", hint="install git"
        ) from error
    work = _Git(address, folder, log, readable)
    work("init", "--quiet", "source")
    wanted = revision or "HEAD"
    if work.may("fetch", "--quiet", "--depth=1", "--no-tags", work.shown, wanted):
        work("checkout", "--quiet", "--detach", "FETCH_HEAD")
    else:  # a part of a commit's name, or a server that gives no single commits
        work(
            "fetch", "--quiet", work.shown, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"
        )
        names = [f"{each}^{{commit}}" for each in (f"origin/{wanted}", wanted)]
        name = next((each for each in names if work.may("rev-parse", "--quiet", "--verify", each)), None)
        if name is None:
            raise GitError(
                f"{work.shown} has no branch, tag or commit '{wanted}'", hint="git ls-remote lists them"
            )
        work("checkout", "--quiet", "--detach", name)
    source = folder / "tree/source"
    if (source / ".gitmodules").is_file():
        work("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    commit = work("rev-parse", "HEAD").stdout.strip()
    version = ""
    if _asks_tags(source):
        if (source / ".git/shallow").is_file():
            work(
                "fetch",
                "--quiet",
                "--unshallow",
                "--tags",
                work.shown,
                commit if is_commit(wanted) else wanted,
            )
        told = work.run("describe", "--tags", "--long", "--match", "*[0-9]*", "HEAD")
        version = version_of(told.stdout.strip()) if told.code == 0 else ""
    return Checkout(source, commit, version)


def _asks_tags(source: Path) -> bool:
    """Whether the build of a project takes its version from the repository, which a build does not see."""
    texts = (source / name for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    return any(
        _VERSIONED.search(read_plain(each, MAX_TEXT_BYTES).decode("utf-8", "replace"))
        for each in texts
        if each.is_file() and not each.is_symlink()
    )


def version_of(described: str) -> str:
    """The version that `git describe --long` tells, v1.2-0-g1a2b3c: that of the tag, or behind it the next
    one in the making with the number of commits, as setuptools-scm has it (guess-next-dev). "" for a tag that
    is none."""
    tag, _, rest = described.rpartition("-g")[0].rpartition("-")
    digits = re.search(r"\d.*", tag)
    try:
        version = Version(digits[0] if digits is not None else "")
    except InvalidVersion:
        return ""
    if rest == "0" or not rest.isdecimal():
        return str(version)
    if version.is_prerelease and version.pre is not None:
        kind, number = version.pre
        return f"{version.base_version}{kind}{number + 1}.dev{rest}"
    *first, last = version.release
    return f"{'.'.join(map(str, (*first, last + 1)))}.dev{rest}"


class _Git:
    """git in one folder of the sandbox."""

    def __init__(self, address: str, folder: Path, log: Log, readable: Sequence[Path]) -> None:
        self.log, self.folder, self.address = log, folder, address
        self.shown = _plain(address)
        tree, work = folder / "tree", folder / "work"
        for each in (tree, *(work / name for name in ("home", "tmp"))):
            each.mkdir(parents=True)
        # whose repository it is does not matter: nothing of it is run; the password is said here alone
        settings = ["[safe]", "\tdirectory = *", "[credential]", "\thelper ="]
        if self.shown != address:
            settings += [f'[url "{_quoted(address)}"]', f'\tinsteadOf = "{_quoted(self.shown)}"']
        (work / "home/.gitconfig").write_text("\n".join([*settings, ""]), "utf-8")
        (work / "home/.gitconfig").chmod(0o600)
        seen = [*readable, *_local(address), *(Path(each) for each in self.certificates().values())]
        self.prefix = shut_in(tree, work, readable=list(dict.fromkeys(seen)), network=True)

    def certificates(self) -> dict[str, str]:
        """Where certificates of servers lie, as git is told."""
        found = {name: os.environ[name] for name in _PASSED if os.environ.get(name)}
        if _CERTIFICATES in os.environ:
            found.setdefault("GIT_SSL_CAINFO", os.environ[_CERTIFICATES])
        return {name: place for name, place in found.items() if Path(place).exists()}

    def __call__(self, *arguments: str) -> Completed:
        """Run git. GitError where it fails."""
        done = self.run(*arguments)
        if done.code != 0:
            lines = self.blotted(done.stderr or done.stdout).strip().splitlines()
            said = "\n".join(lines[-_SHOWN_LINES:])
            raise GitError(
                f"git cannot fetch {self.shown} (git {arguments[0]}):\n{said}",
                hint="is the address right, and does it take a password? write that as ${NAME}",
            )
        return done

    def may(self, *arguments: str) -> bool:
        """Run git, which may fail."""
        return self.run(*arguments).code == 0

    def run(self, *arguments: str) -> Completed:
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        env = clean_environment(
            **proxies,
            **self.certificates(),
            HOME=str(bubblewrap.WORK / "home"),
            TMPDIR=str(bubblewrap.WORK / "tmp"),
            GIT_TERMINAL_PROMPT="0",
            GIT_ASKPASS="false",
            GIT_CONFIG_NOSYSTEM="1",
            GIT_ALLOW_PROTOCOL="file:git:http:https",
        )
        inside = [] if arguments[0] == "init" else ["-C", "source"]
        self.log.command(("git", *inside, *arguments))
        return run(
            [*self.prefix, "git", *inside, *arguments],
            env=env,
            timeout=GIT_SECONDS,
            check=False,
            watch=Watch(f"fetching {self.shown}", self.folder),
        )

    def blotted(self, text: str) -> str:
        """What git says, which may hold the address."""
        secret = self.address.partition("://")[2].partition("/")[0].rpartition("@")[0]
        for word in sorted({secret, *secret.split(":")} - {""}, key=len, reverse=True):
            text = text.replace(word, "****")
        return text


def _plain(address: str) -> str:
    """An address without user and password."""
    scheme, colon, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{colon}{host.rpartition('@')[2]}{slash}{path}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _local(address: str) -> list[Path]:
    """The repository itself, where it is on this machine."""
    place = Path(address.removeprefix("file://"))
    return [place.resolve()] if address.startswith("file:///") and place.is_dir() else []
