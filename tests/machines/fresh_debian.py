#!/usr/bin/env python3
"""The README's commands on machines that have never seen them: Debian with python3 and ca-certificates.

    sudo python3 tests/machines/fresh_debian.py [SUITE...] [--steps demo,again] [--keep] [--base FOLDER]

Needs root, a network, 4 GB below --base for each root, and debootstrap, git and util-linux (of Debian:
apt-get install debootstrap debian-archive-keyring git util-linux). SUITE is any of Debian's that debootstrap
can make; bookworm and trixie where none is named, forky for the Python to come.

Each suite's root is made by debootstrap once and kept in FOLDER/bases (--remake makes it anew), and copied
for each run; into the copy goes a clone of the commit that is checked out here. The steps, in this order:

    demo    python3 build.py demo, with an empty cache
    again   the same once more
    test    python3 build.py test
    user    demo as an ordinary user, with a clone and an empty cache of its own
    no-apt  demo with apt's and dpkg's programs hidden and an empty cache; its kit must be the one of `demo`

In the end comes a table of exit codes and seconds; each step's output is in FOLDER/logs. The exit code is
0 if every step passed, 1 if one failed, 2 if the machines could not be made. A root has its own mounts and
processes, which end with this script, however it ends. It has the network, name servers and CA certificates
of this machine, and the settings for proxies and pip that this script was started with.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
SUITES = ("bookworm", "trixie")
STEPS = ("demo", "again", "test", "user", "no-apt")
WANTS = {"again": "demo", "user": "demo", "no-apt": "demo"}  # no use where that failed
PROGRAMS = {"debootstrap": "debootstrap", "git": "git", "unshare": "util-linux", "setpriv": "util-linux"}
KEYRINGS = Path("/usr/share/keyrings")
SCRIPTS = Path("/usr/share/debootstrap/scripts")
MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
WITHOUT_UPDATES = ("sid", "unstable", "experimental")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# files that are copied to where the variable says, so that it is true in the root as well
CERTIFICATE_SETTINGS = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
SETTINGS = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY"),
    *("PIP_DEFAULT_TIMEOUT", "PIP_RETRIES"),
)
CLONE = "/srv/clone"
USER = "builder"
USER_HOME = f"/home/{USER}"
NO_APT_CACHE = "/root/cache-without-apt"
KITS = "openwrt-python-imagebuilder/kits"
TAIL_LINES = 25


class MachineError(Exception):
    """A root could not be made. The message is for whoever runs this."""


@dataclass(frozen=True)
class Row:
    """A line of the table. code: the exit code, None where the step was not run."""

    suite: str
    step: str
    code: int | None
    seconds: float
    note: str = ""  # what is wrong beyond the exit code

    @property
    def passed(self) -> bool:
        return self.code == 0 and not self.note


@dataclass(frozen=True)
class Machine:
    """A root to run things in. root: its folder; log: what is said goes to its end."""

    root: Path
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, *argv: str, cwd: str = "/", masked: Sequence[str] = (), **environment: str) -> int:
        """Run a program in it; the exit code. masked: files that are empty and not executable meanwhile."""
        known = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", **self.settings}
        given = [f"{name}={value}" for name, value in {**known, **environment}.items()]
        enter = ["/bin/sh", str(HERE / "enter.sh"), str(self.root), "\n".join(masked)]
        return shut_in([*enter, "/usr/bin/env", "-i", "-C", cwd, *given, *argv], self.log)


def shut_in(argv: Sequence[str], log: Path) -> int:
    """Run a program with mounts and processes of its own, which end with it or with this script; the exit
    code. log: the file to whose end its output goes."""
    own = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--"]
    with log.open("ab") as stream:
        running = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *own, *argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C comes to this script alone, which ends all of it
        )
        try:
            return running.wait()
        finally:
            running.kill()
            running.wait()


def call(*argv: str) -> str:
    """The standard output of a program of this machine. MachineError where it fails."""
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise MachineError(f"{' '.join(argv)} exited with {ended.returncode}: {ended.stderr.strip()}")
    return ended.stdout


def check_machine() -> None:
    """MachineError that says what this machine lacks."""
    if os.geteuid() != 0:
        raise MachineError("roots are made by root: sudo python3 tests/machines/fresh_debian.py")
    lacking = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not list(KEYRINGS.glob("debian-archive-keyring.*")):
        lacking.append("debian-archive-keyring")
    if lacking:
        raise MachineError(f"this machine lacks {', '.join(lacking)}: apt-get install {' '.join(lacking)}")


def host_mirror(label: str, default: str) -> str:
    """Where this machine's apt has Debian's packages from; the default where it does not say. label: as in
    the mirror's Release files, Debian or Debian-Security."""
    if shutil.which("apt-get") is None:
        return default
    for line in call("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)").splitlines():
        origin, its_label, address = line.split("|", 2)
        if (origin, its_label) == ("Debian", label) and address.startswith("http"):
            return address
    return default


def apt_settings() -> str:
    """What this machine's apt is told about proxies, certificates and dates, as lines of apt.conf."""
    if shutil.which("apt-config") is None:
        return ""
    wanted = re.compile(r"Acquire::(https?::|Check-|Retries)")
    return "".join(f"{line}\n" for line in call("apt-config", "dump").splitlines() if wanted.match(line))


def make_base(bases: Path, suite: str, mirror: str, log: Path) -> Path:
    """The suite's root as debootstrap makes it, made if it is not there. MachineError where it cannot be."""
    base = bases / suite
    if base.is_dir():
        return base
    partial = bases / f"{suite}.partial"
    remove(partial)
    script = [] if (SCRIPTS / suite).exists() else [str(SCRIPTS / "sid")]
    options = ["--variant=minbase", "--include=python3,ca-certificates", "--force-check-gpg"]
    argv = ["debootstrap", *options, suite, str(partial), mirror, *script]
    code = shut_in(argv, log)
    if code != 0:
        raise MachineError(f"debootstrap of {suite} exited with {code}:\n{tail(log)}")
    partial.rename(base)
    return base


def prepare(root: Path, suite: str, mirror: str) -> dict[str, str]:
    """Let a root reach what this machine reaches; the environment that goes with it."""
    suites = [suite] if suite in WITHOUT_UPDATES else [suite, f"{suite}-updates"]
    sources = [f"deb {mirror} {name} main" for name in suites]
    if suite not in WITHOUT_UPDATES:
        sources.append(f"deb {host_mirror('Debian-Security', SECURITY)} {suite}-security main")
    (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
    (root / "etc/apt/apt.conf.d/90host").write_text(apt_settings())
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        copy_into(root, name)
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    for name in CERTIFICATE_SETTINGS:
        if name in os.environ:
            settings[name] = os.environ[name]
            copy_into(root, os.environ[name])
    copy_into(root, CERTIFICATES)
    return settings


def copy_into(root: Path, name: str) -> None:
    """Put a file of this machine, if there is one, at the same place of a root."""
    place = root / name.lstrip("/")
    if Path(name).is_file():
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, place)


def clone(commit: str, place: Path) -> None:
    """A clone of this project, with that commit checked out."""
    call("git", "clone", "--quiet", "--no-hardlinks", "--no-checkout", str(PROJECT), str(place))
    call("git", "-C", str(place), "checkout", "--quiet", "--detach", commit)


def packagers(root: Path) -> list[str]:
    """The programs of apt and dpkg in a root, as paths in it."""
    found = [path for name in ("apt*", "dpkg*") for path in sorted((root / "usr/bin").glob(name))]
    return [f"/usr/bin/{path.name}" for path in found if path.is_file()]


def digests(root: Path, cache: str) -> dict[str, str]:
    """Digests of the kits in a cache of the root, by the names of their folders."""
    kits = (root / cache.lstrip("/") / KITS).glob("*/kit.json")
    return {kit.parent.name: json.loads(kit.read_text("utf-8"))["digest"] for kit in kits}


def kits_differ(root: Path) -> str:
    """What is wrong with the kit that was made without apt; nothing where it is the one that apt made."""
    first, second = digests(root, "/root/.cache"), digests(root, NO_APT_CACHE)
    if not second:
        return "no kit was made"
    differing = [name for name in second if first.get(name) != second[name]]
    return "; ".join(f"kit {name} is {second[name]}, apt's {first.get(name)}" for name in differing)


def run_step(machine: Machine, step: str, commit: str) -> tuple[int, str]:
    """The exit code of a step, and what else is wrong."""
    demo = ("python3", "build.py", "demo")
    if step == "test":
        return machine.run("python3", "build.py", "test", cwd=CLONE), ""
    if step == "user":
        mine = f"{USER_HOME}/clone"
        clone(commit, machine.root / mine.lstrip("/"))
        add = f"useradd --home-dir {USER_HOME} {USER} && chown -R {USER}: {USER_HOME}"
        if machine.run("/bin/sh", "-c", add) != 0:
            raise MachineError(f"no user could be added:\n{tail(machine.log)}")
        become = ("setpriv", "--reuid", USER, "--regid", USER, "--init-groups")
        return machine.run(*become, *demo, cwd=mine, HOME=USER_HOME), ""
    if step == "no-apt":
        hidden = packagers(machine.root)
        code = machine.run(*demo, cwd=CLONE, masked=hidden, XDG_CACHE_HOME=NO_APT_CACHE)
        return code, "" if code else kits_differ(machine.root)
    return machine.run(*demo, cwd=CLONE), ""


def run_suite(suite: str, steps: Sequence[str], commit: str, options: argparse.Namespace) -> Iterator[Row]:
    """Make the root, run the steps, remove it."""
    base: Path = options.base
    root = base / "roots" / suite
    logs = base / "logs"
    begun = time.monotonic()
    remove(root)
    log = fresh(logs / f"{suite}-root.log")
    made = make_base(base / "bases", suite, options.mirror, log)
    try:
        if shut_in(["cp", "-a", "--reflink=auto", str(made), str(root)], log) != 0:
            raise MachineError(f"the root could not be copied:\n{tail(log)}")
        settings = prepare(root, suite, options.mirror)
        clone(commit, root / CLONE.lstrip("/"))
        yield Row(suite, "root", 0, time.monotonic() - begun)
        failed: set[str] = set()
        for step in steps:
            if WANTS.get(step) in failed:
                failed.add(step)
                yield Row(suite, step, None, 0.0, f"not run, since {WANTS[step]} failed")
                continue
            machine = Machine(root, fresh(logs / f"{suite}-{step}.log"), settings)
            begun = time.monotonic()
            code, wrong = run_step(machine, step, commit)
            row = Row(suite, step, code, time.monotonic() - begun, wrong)
            if not row.passed:
                failed.add(step)
                print(f"--- the end of {machine.log}:\n{tail(machine.log)}\n---", flush=True)
            yield row
    finally:
        if not options.keep:
            remove(root)


def remove(folder: Path) -> None:
    """Remove a root, if it is there. MachineError where something is mounted below it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [place for place in mounts if Path(place).is_relative_to(folder)]
    if inside:
        raise MachineError(f"something is mounted below {folder}: {', '.join(inside)}")
    if folder.exists():
        shutil.rmtree(folder)


def fresh(log: Path) -> Path:
    log.write_bytes(b"")
    return log


def tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:])


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    print(f"{'root':<12}{'step':<8}{'exit':>5}{'seconds':>9}")
    for row in rows:
        code = "-" if row.code is None else row.code
        print(f"{row.suite:<12}{row.step:<8}{code:>5}{row.seconds:>9.1f}  {row.note}".rstrip())


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="Debian's name of a release")
    parser.add_argument("--steps", default=",".join(STEPS), help="some of the steps; all if not given")
    parser.add_argument("--keep", action="store_true", help="keep the roots, in FOLDER/roots, to look into")
    parser.add_argument("--remake", action="store_true", help="make the bases anew by debootstrap")
    parser.add_argument("--commit", default="HEAD", help="what to check out in the clones, HEAD if not given")
    parser.add_argument("--mirror", help="Debian's mirror; this machine's if not given")
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/openwrt-machines"), metavar="FOLDER")
    options = parser.parse_args()
    options.base = options.base.resolve()
    wanted = set(options.steps.split(","))
    if not wanted <= set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(wanted - set(STEPS)))}; there are {', '.join(STEPS)}")
    options.steps = [step for step in STEPS if step in wanted]
    return options


def main() -> int:
    """Run what was asked for; the exit code."""
    options = arguments()
    check_machine()
    options.mirror = options.mirror or host_mirror("Debian", MIRROR)
    commit = call("git", "-C", str(PROJECT), "rev-parse", "--verify", f"{options.commit}^{{commit}}").strip()
    if call("git", "-C", str(PROJECT), "status", "--porcelain"):
        print("what is not committed here is not tried: the roots get the commit", flush=True)
    for name in ("bases", "roots", "logs"):
        (options.base / name).mkdir(parents=True, exist_ok=True)
    folder = os.open(options.base, os.O_RDONLY)  # let go when this script ends
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MachineError(f"another run works in {options.base}: wait for it, or give --base") from None
    rows: list[Row] = []
    try:
        for suite in options.suites or SUITES:
            if options.remake:
                remove(options.base / "bases" / suite)
            for row in run_suite(suite, options.steps, commit, options):
                print(f"{suite} {row.step}: exit {row.code}, {row.seconds:.1f} s", flush=True)
                rows.append(row)
    finally:
        show(rows)
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
