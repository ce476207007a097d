"""Root file systems of other processors: an armhf one of Debian's packages, a big-endian MIPS one whose
programs Debian's cross compiler makes. Without the network, or without that compiler, whoever asks is
skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from imagebuilder.errors import UserError
from imagebuilder.host.fs import user_cache
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import clean_environment, find_program, run
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.debian.deb import unpack
from imagebuilder.python.bytecode.interpreter import emulator

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# a C library, a shell, and Python's smallest with what it is linked with
ARMHF_PACKAGES = (
    *("libc6", "libgcc-s1", "busybox", "python3.11-minimal", "libpython3.11-minimal"),
    *("libpython3.11-stdlib", "zlib1g", "libexpat1"),
)
MIPS_COMPILER = "mips-linux-gnu-gcc"
MIPS_LIBRARIES = Path("/usr/mips-linux-gnu/lib")
_FETCH_SECONDS = 300.0
_CONFIG = """\
APT::Architecture "armhf";
APT::Architectures {{ "armhf"; }};
APT::Sandbox::User "";
Acquire::http::Timeout "10";
Acquire::Retries "0";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
"""


def wants_emulator(binary: str, cpu: str) -> tuple[str, ...]:
    """What runs programs of a processor, see Root.emulated. Skipped without it."""
    try:
        return emulator(binary, cpu, Path("/"))
    except UserError as error:
        pytest.skip(error.message)


def _fetched(into: Path) -> None:
    """Fetch the packages through apt, which checks them, with a configuration of our own. UserError."""
    find_program("apt-get")
    if not KEYRING.is_file():
        raise UserError(f"{KEYRING} is not on this machine")
    with temporary_folder("scratch") as folder:
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "apt.conf").write_text(_CONFIG.format(folder=folder))
        (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
        env = clean_environment(APT_CONFIG=str(folder / "apt.conf"))
        run(["apt-get", "update", "--error-on=any"], env=env, timeout=_FETCH_SECONDS)
        run(["apt-get", "download", *ARMHF_PACKAGES], env=env, cwd=folder / "debs", timeout=_FETCH_SECONDS)
        into.mkdir(parents=True, exist_ok=True)
        for path in (folder / "debs").iterdir():
            shutil.copy(path, into / path.name)


def armhf_packages() -> tuple[Path, ...]:
    """Debian's packages for armhf, kept in the user's cache from one session to the next. Skipped where they
    are not there and cannot be fetched."""
    folder = user_cache() / "debian-armhf"
    if not all(any(folder.glob(f"{name}_*.deb")) for name in ARMHF_PACKAGES):
        try:
            _fetched(folder)
        except UserError as error:
            pytest.skip(f"Debian's armhf packages are not in the cache and cannot be had: {error.message}")
    return tuple(next(folder.glob(f"{name}_*.deb")) for name in ARMHF_PACKAGES)


def make_armhf_root(into: Path) -> None:
    """A root with a shell and a Python, as Debian has them for armhf."""
    files = {Deb(path.name, "", "", 0, ""): path for path in armhf_packages()}
    unpack(files, files, into)
    for name in ("sh", "ls", "cat"):
        (into / "bin" / name).symlink_to("busybox")


def compile_mips(source: str, into: Path, *options: str) -> Path:
    """Compile a source for big-endian MIPS. Skipped without the compiler."""
    if shutil.which(MIPS_COMPILER) is None or not (MIPS_LIBRARIES / "ld.so.1").exists():
        pytest.skip(f"{MIPS_COMPILER} is not here: apt install gcc-mips-linux-gnu libc6-dev-mips-cross")
    into.parent.mkdir(parents=True, exist_ok=True)
    file = into.with_name(f"{into.name}.c")
    file.write_text(source)
    run([MIPS_COMPILER, "-O1", "-o", str(into), str(file), *options], timeout=_FETCH_SECONDS)
    file.unlink()
    return into


def add_mips_libraries(root: Path, names: Sequence[str] = ("ld.so.1", "libc.so.6")) -> None:
    """Put the compiler's C library into a root."""
    (root / "lib").mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(MIPS_LIBRARIES / name, root / "lib" / name)
