#!/usr/bin/env python3
"""Builds OpenWrt firmware with Python. Needs nothing but Python 3.11: the first run makes a virtual
environment beside this file, installs the project into it, and starts again from there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
OLDEST = (3, 11)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def main() -> None:
    if sys.version_info < OLDEST:
        fail(f"this is Python {sys.version.split()[0]}; the builder needs {OLDEST[0]}.{OLDEST[1]} or newer")
    extras = "[test]" if sys.argv[1:2] == ["test"] else ""
    if not is_installed(extras):
        folder = os.open(HERE, os.O_RDONLY)  # two first runs at once: one installs, the other waits
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not is_installed(extras):
            install(extras)
        os.close(folder)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execve(PYTHON, [str(PYTHON), "-m", "imagebuilder", *sys.argv[1:]], environment)


def wanted_stamp() -> str:
    """What an up-to-date environment was made from: the project's dependencies and this Python."""
    digest = hashlib.sha256((HERE / "pyproject.toml").read_bytes())
    digest.update(f"{HERE} {sys.version_info[:2]}".encode())
    return digest.hexdigest()


def is_installed(extras: str) -> bool:
    lines = STAMP.read_text().splitlines() if STAMP.is_file() and PYTHON.exists() else []
    return lines[:1] == [wanted_stamp()] and extras in lines


def install(extras: str) -> None:
    """Make the environment, or bring it up to date. The stamp is written last, so that an interrupted
    installation is simply done again."""
    known = STAMP.read_text().splitlines()[1:] if STAMP.is_file() else []
    say("preparing the virtual environment beside build.py (the first run only)")
    STAMP.unlink(missing_ok=True)
    if not PYTHON.exists():
        make_environment()
    all_extras = sorted({*known, "", extras})
    target = f"{HERE}{''.join(each for each in all_extras if each)}"
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", target)
    STAMP.write_text("\n".join([wanted_stamp(), *all_extras]) + "\n")


def make_environment() -> None:
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian keeps it in a package of its own
    except ImportError:
        install_venv_package()
    run(sys.executable, "-m", "venv", "--clear", VENV)


def install_venv_package() -> None:
    """Debian and Ubuntu split `venv` from Python."""
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        fail("this Python cannot make virtual environments", f"sudo apt-get install {package}")
    say(f"installing {package}, which this Python needs to make a virtual environment")
    settings = {name: os.environ[name] for name in PROXIES if name in os.environ}
    environment = {"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive", **settings}
    run(apt, "-qq", "update", env=environment)
    quiet = (apt, "-qq", "-o", "Dpkg::Use-Pty=0")
    run(*quiet, "install", "--yes", "--no-install-recommends", package, env=environment)


def run(*argv: object, env: dict[str, str] | None = None) -> None:
    command = [str(each) for each in argv]
    ended = subprocess.run(command, env=env, check=False, stdout=sys.stderr)
    if ended.returncode != 0:
        fail(f"{command[0]} exited with {ended.returncode}", f"run by hand: {' '.join(command)}")


def say(text: str) -> None:
    print(text, file=sys.stderr)


def fail(text: str, hint: str = "") -> None:
    say(f"error: {text}")
    if hint:
        say(f"hint: {hint}")
    sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
