#!/usr/bin/env python3
"""Builds OpenWrt firmware with Python. Needs nothing but Python 3.11: the first run makes a virtual
environment beside this file, installs the project into it, and starts again from there."""

# Any Python 3 reads this file, so that an old one can say that it is too old: no newer syntax up to main()'s
# first check, annotations included.

# Every command starts here: what only the first run needs is imported there.

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
LOG = VENV / "install.log"
OLDEST = (3, 11)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
MIB = 1 << 20
# what the environment takes, without and with what the tests need, and what pip unpacks on the way; measured
# with CPython 3.11 and rounded up
VENV_MIB, TEST_MIB, UNPACKED_MIB = 120, 120, 80
# a network that answers nothing is given up after half a minute, not after pip's several minutes
PIP = {"PIP_RETRIES": "1", "PIP_TIMEOUT": "15", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
APT = ("-q", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
# what brings pip, by the words that /etc/os-release uses
PIP_PACKAGES = (
    ("fedora", "dnf install python3-pip"),
    ("rhel", "dnf install python{0}.{1}-pip"),
    ("arch", "pacman -S python-pip"),
    ("suse", "zypper install python{0}{1}-pip"),
    ("alpine", "apk add py3-pip"),
)


def main() -> None:
    if sys.version_info < OLDEST:
        fail_with_old_python()
    extras = "[test]" if sys.argv[1:2] == ["test"] else ""
    if not is_installed(extras):
        import fcntl

        folder = os.open(HERE, os.O_RDONLY)  # two first runs at once: one installs, the other waits
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not is_installed(extras):
            install(extras)
        os.close(folder)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = "owrt-python-called=" + called()  # imagebuilder/called.py reads it
    os.execve(PYTHON, [str(PYTHON), "-X", said, "-m", "imagebuilder", *sys.argv[1:]], environment)


def called() -> str:
    """What was typed, for the messages: by its own name, or behind an interpreter's."""
    import shlex

    interpreter, script = sys.orig_argv[0], sys.argv[0]
    if interpreter == "python3" and os.sep in script and os.access(script, os.X_OK):
        return shlex.quote(script)
    return shlex.quote(interpreter) + " " + shlex.quote(script)


def fail_with_old_python() -> None:
    import shutil

    wanted = ".".join(map(str, OLDEST))
    newer = [name for name in (f"python3.{minor}" for minor in range(30, 10, -1)) if shutil.which(name)]
    hint = f"{newer[0]} {' '.join(sys.argv)}" if newer else f"install Python {wanted} or newer"
    fail(f"this is Python {sys.version.split()[0]}; the builder needs {wanted} or newer", hint)


def wanted_stamp() -> str:
    """What an up-to-date environment was made from: this Python and the project's dependencies, as they are
    written."""
    return f"{HERE} {sys.version_info[:2]}\n{(HERE / 'pyproject.toml').read_text('utf-8')}"


def read_stamp() -> tuple:
    """The extras that the environment was made with, and what it was made from; nothing of an interrupted
    installation."""
    if not STAMP.is_file():
        return [], ""
    first, _, made_from = STAMP.read_text("utf-8", "replace").partition("\n")
    return first.split(","), made_from


def is_installed(extras: str) -> bool:
    known, made_from = read_stamp()
    return extras in known and made_from == wanted_stamp() and PYTHON.exists()


def install(extras: str) -> None:
    """Make the environment, or bring it up to date. The stamp is written last, so that an interrupted
    installation is simply done again."""
    known, _ = read_stamp()
    if not os.access(HERE, os.W_OK):
        fail(
            f"{HERE} cannot be written to, and the environment goes there",
            "copy the project to where you may",
        )
    # a stamp of an older build.py holds no extras that are ours
    all_extras = sorted({*({"[test]"}.intersection(known)), "", extras})
    if not PYTHON.exists():
        check_room("[test]" in all_extras)
    say("preparing the virtual environment beside build.py (the first run only)")
    STAMP.unlink(missing_ok=True)
    has_pip = (VENV / "bin" / "pip").exists()  # not where making it was interrupted
    if not PYTHON.exists() or not (has_pip or has_module("pip")):
        make_environment()
    target = f"{HERE}{''.join(each for each in all_extras if each)}"
    pip = (
        [PYTHON, "-m", "pip"]
        if (VENV / "bin" / "pip").exists()
        else [sys.executable, "-m", "pip", "--python", PYTHON]
    )
    run("the environment could not be made", [*pip, "install", "--prefer-binary", "--editable", target], PIP)
    STAMP.write_text(",".join(all_extras) + "\n" + wanted_stamp(), "utf-8")


def check_room(with_tests: bool) -> None:
    """Say what the environment needs before it is fetched."""
    import shutil
    import tempfile

    scratch = Path(tempfile.gettempdir())
    own = VENV_MIB + (TEST_MIB if with_tests else 0)
    needs = [(HERE, own), (scratch, UNPACKED_MIB)]
    if HERE.stat().st_dev == scratch.stat().st_dev:
        needs = [(HERE, own + UNPACKED_MIB)]
    for place, wanted in needs:
        free = shutil.disk_usage(place).free // MIB
        if free < wanted:
            hint = "free some space" if place == HERE else "free some space, or set TMPDIR to another folder"
            fail(f"the environment needs {wanted} MiB below {place}, and {free} MiB are free", hint)


def make_environment() -> None:
    """A virtual environment. Debian keeps what puts pip into it in a package of its own; where there is a pip
    already, that one will do."""
    options = ["--clear"]
    if not has_module("ensurepip"):
        if has_module("pip"):
            options.append("--without-pip")
        else:
            install_venv_package()
    run("no virtual environment could be made", [sys.executable, "-m", "venv", *options, VENV], {})


def has_module(name: str) -> bool:
    import subprocess

    found = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False)
    return found.returncode == 0


def install_venv_package() -> None:
    """Debian and Ubuntu split `venv` from Python; elsewhere pip brings what is needed."""
    import shutil

    major, minor = sys.version_info[:2]
    system = system_words()
    apt = shutil.which("apt-get")
    package = f"python{major}.{minor}-venv"
    if apt is None or not {"debian", "ubuntu"}.intersection(system):
        commands = [text for word, text in PIP_PACKAGES if word in system]
        command = commands[0].format(major, minor) if commands else "install Python's ensurepip, or pip"
        fail("this Python has neither ensurepip nor pip, which a virtual environment is made with", command)
    if os.geteuid() != 0:
        fail("this Python cannot make virtual environments", f"sudo apt-get install {package}")
    say(f"installing {package}, which this Python needs to make a virtual environment")
    settings = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    failed = f"{package} could not be installed"
    run(failed, [apt, *APT, "update"], settings, inherited=("PATH", *PROXIES))
    quiet = [apt, *APT, "install", "--yes", "--no-install-recommends", package]
    run(failed, quiet, settings, inherited=("PATH", *PROXIES))


def system_words() -> set:
    """What /etc/os-release says of ID and ID_LIKE, in lower-case words."""
    file = Path("/etc/os-release")
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    told = [line.split("=", 1)[1].strip("\"'") for line in lines if line.startswith(("ID=", "ID_LIKE="))]
    return {part for word in " ".join(told).lower().split() for part in (word, word.split("-")[0])}


def run(failed: str, argv: list, settings: dict, inherited: tuple = ()) -> None:
    """Run a program; what it prints is kept, and shown only where it fails and nothing better is known.
    inherited: the variables that it gets of ours, all where none are named."""
    import subprocess

    command = [str(each) for each in argv]
    ours = {name: value for name, value in os.environ.items() if not inherited or name in inherited}
    environment = {**settings, **ours}
    ended = subprocess.run(
        command,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
    )
    if ended.returncode != 0:
        explain(failed, command, ended.stdout, environment)


def explain(failed: str, command: list, output: str, environment: dict) -> None:
    """End with one error that says why, and where the program's own words are."""
    sys.path.insert(0, str(HERE))
    from imagebuilder.host.refusals import explain_refusal  # an old Python cannot read it

    place = ""
    if VENV.is_dir():
        LOG.write_text(output)
        place = f"; what it printed: {LOG}"
    refusal = explain_refusal(output, environment)
    if refusal is not None:
        fail(f"{failed}: {refusal.message}", f"{refusal.hint}, and run this again{place}")
    last = "\n".join(output.splitlines()[-5:])
    fail(f"{failed}:\n{last}", f"run by hand: {' '.join(command)}{place}")


def say(text: str) -> None:
    print(text, file=sys.stderr)


def fail(text: str, hint: str) -> None:
    say(f"error: {text}")
    say(f"hint: {hint}")
    sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
