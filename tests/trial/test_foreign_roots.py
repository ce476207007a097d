"""Root file systems of other processors, tried under user emulation in the sandbox: Debian's armhf with
Python and a shell, and big-endian MIPS, where what is said of a program's libraries is what the loader does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Trial
from imagebuilder.log import Log
from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.shake.commands import Root, run_in, start_facts
from imagebuilder.rootfs.files import read_tree
from imagebuilder.trial.root_checks import root_checks
from imagebuilder.trial.trial import TrialAsked, try_root
from tests.support.foreign_roots import add_mips_libraries, compile_mips, make_armhf_root, wants_emulator
from tests.support.native_root import add_files

pytestmark = pytest.mark.kit
GOOD = "#!/bin/sh /etc/rc.common\nstart() {\n\techo up > /tmp/ran\n}\n"
BAD = "#!/bin/sh /etc/rc.common\nstart() {\n\tif true; then\n}\n"


def checks_of(root: Root, work: Path) -> dict[str, TrialCheck]:
    work.mkdir(exist_ok=True)
    return {check.name: check for check in root_checks(root, read_tree(root.path), work)}


@pytest.fixture(scope="module")
def armhf_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The armhf root; tests that change it copy it."""
    root = tmp_path_factory.mktemp("armhf") / "root"
    make_armhf_root(root)
    add_files(root, **{"/etc/init.d/node": GOOD})
    return root


@pytest.fixture
def armhf(armhf_files: Path, tmp_path: Path) -> Root:
    """The armhf root, in a copy, with what runs it here."""
    emulated = wants_emulator("arm", "cortex-a7")
    shutil.copytree(armhf_files, tmp_path / "root", symlinks=True)
    return Root(tmp_path / "root", "3.11", emulated)


def test_an_armhf_root_passes_and_its_programs_run(armhf: Root, tmp_path: Path) -> None:
    found = checks_of(armhf, tmp_path / "work")
    assert {name: check.outcome for name, check in found.items()} == {
        "bytecode": "ok",
        "compiled-sources": "warned",  # Debian compiles when it installs
        "shared-libraries": "warned",
        "shell-scripts": "ok",
    }
    # Debian's library of Python brings modules whose libraries are packages that nobody asked for
    lacking = found["shared-libraries"].findings
    assert {each.file.rpartition("/")[0] for each in lacking} == {"/usr/lib/python3.11/lib-dynload"}
    assert all("no program is linked with this file" in each.text for each in lacking)
    code = "import sys, os; print(os.uname().machine, sys.byteorder, *sys.version_info[:2])"
    done = run_in(armhf, [armhf.interpreter, "-c", code], tmp_path / "work")
    assert (done.code, done.stdout.split()) == (0, ["armv7l", "little", "3", "11"])
    start = start_facts(armhf, "/usr/bin/python3.11 /dev/null", tmp_path / "work", Log(), runs=1)
    assert start.modules > 10


def test_an_armhf_root_that_is_broken_is_named(armhf: Root, tmp_path: Path) -> None:
    next(armhf.path.rglob("libexpat.so.1")).unlink()
    add_files(armhf.path, **{"/etc/uci-defaults/50-own": BAD})
    found = checks_of(armhf, tmp_path / "work")
    libraries, scripts = found["shared-libraries"], found["shell-scripts"]
    assert (libraries.outcome, libraries.findings[0].file) == ("failed", "/usr/bin/python3.11")
    assert libraries.findings[0].text.startswith("libexpat.so.1 is not in the image")
    done = run_in(armhf, [armhf.interpreter, "-c", ""], tmp_path / "work")
    assert (done.code, "libexpat.so.1" in done.stderr) == (127, True)
    assert (scripts.outcome, scripts.findings[0].file) == ("failed", "/etc/uci-defaults/50-own")
    assert scripts.findings[0].text.startswith("line 4: syntax error")


def test_an_armhf_root_is_not_run_without_an_emulator(armhf: Root, tmp_path: Path) -> None:
    check = checks_of(Root(armhf.path, "3.11"), tmp_path / "work")["shell-scripts"]
    assert check.outcome == "not run"
    assert "arm, 32 bits, little endian" in check.why


def test_a_command_whose_children_this_machine_cannot_run_is_no_fault(
    armhf: Root, library: Library, tmp_path: Path
) -> None:
    trials = [
        Trial(run="sh -c '/usr/bin/python3.11 -c 1 || exit 3'"),
        Trial(run="python3.11 -c 'print(6 * 7)'", expect="42"),
        Trial(run="sh -c 'exit 3'"),
    ]
    asked = TrialAsked(trials=trials)
    found = try_root(armhf.path, library.board("raspberrypi-2"), asked, tmp_path / "work", Log())
    child, alone, failing = [each for each in found.report.checks if each.name == "command"]
    assert child.outcome in ("ok", "not run")  # the former where the kernel knows the emulator
    assert child.outcome == "ok" or "binfmt_misc" in child.why
    assert (alone.outcome, failing.outcome) == ("ok", "failed")
    (start,) = [each for each in found.report.checks if each.name == "interpreter"]
    assert (start.outcome, start.found) == ("ok", "version 3.11.2")
    (modules,) = [each for each in found.report.checks if each.name == "loaded-bytecode"]
    assert modules.outcome != "failed"


PROGRAM = """\
#include <stdio.h>
int own(void);
int main(void) {
    const unsigned word = 1;
    printf("%s %d\\n", *(const char *)&word ? "little" : "big", own());
    return 0;
}
"""
LIBRARY = "int own(void) { return 42; }\n"
OTHER = "int other(void) { return 1; }\n"


@pytest.fixture
def mips(tmp_path: Path) -> Root:
    """A big-endian MIPS root: a program with a library of its own, in a version of its own."""
    emulated = wants_emulator("mips", "24Kf")
    root, build = tmp_path / "root", tmp_path / "build"
    library = make_library(build, LIBRARY, "OWN_2")
    compile_mips(PROGRAM, root / "usr/bin/node", f"-L{library.parent}", "-lown")
    (root / "usr/lib").mkdir()
    shutil.copy(library, root / "usr/lib/libown.so.1")
    add_mips_libraries(root)
    return Root(root, "", emulated)


def make_library(build: Path, source: str, version: str) -> Path:
    build.mkdir(exist_ok=True)
    (build / "versions").write_text(f"{version} {{ global: *; }};\n")
    script = f"-Wl,--version-script={build}/versions"
    return compile_mips(source, build / "libown.so", "-shared", "-fPIC", "-Wl,-soname,libown.so.1", script)


def test_a_big_endian_program_runs_and_passes(mips: Root, tmp_path: Path) -> None:
    done = run_in(mips, ["/usr/bin/node"], tmp_path / "work")
    assert (done.code, done.stdout) == (0, "big 42\n")
    check = checks_of(mips, tmp_path / "work")["shared-libraries"]
    assert (check.outcome, check.findings) == ("ok", ())


def without(root: Path, build: Path) -> None:
    (root / "usr/lib/libown.so.1").unlink()


def elsewhere(root: Path, build: Path) -> None:
    (root / "opt").mkdir()
    (root / "usr/lib/libown.so.1").rename(root / "opt/libown.so.1")


def dangling(root: Path, build: Path) -> None:
    without(root, build)
    (root / "usr/lib/libown.so.1").symlink_to("libown.so.1.0")


def older(root: Path, build: Path) -> None:
    shutil.copy(make_library(build, LIBRARY, "OWN_1"), root / "usr/lib/libown.so.1")


def another_processors(root: Path, build: Path) -> None:
    shutil.copy(Path("/bin/sh").resolve(), root / "usr/lib/libown.so.1")


def cut_off(root: Path, build: Path) -> None:
    place = root / "usr/bin/node"
    place.write_bytes(place.read_bytes()[:700])


def without_a_loader(root: Path, build: Path) -> None:
    (root / "lib/ld.so.1").unlink()


BROKEN: dict[Callable[[Path, Path], None], str] = {
    without: "libown.so.1 is not in the image",
    elsewhere: "libown.so.1 is at /opt/libown.so.1, where the linker does not look by itself",
    dangling: "/usr/lib/libown.so.1 is a link to libown.so.1.0",
    older: "/usr/lib/libown.so.1 has no version OWN_2",
    another_processors: "/usr/lib/libown.so.1 is for another processor",
    cut_off: "it ends after 700",
    without_a_loader: "its loader /lib/ld.so.1 is not in the image",
}


@pytest.mark.parametrize("break_it", BROKEN)
def test_what_the_loader_refuses_is_named(
    mips: Root, tmp_path: Path, break_it: Callable[[Path, Path], None]
) -> None:
    break_it(mips.path, tmp_path / "build")
    assert run_in(mips, ["/usr/bin/node"], tmp_path / "work").code != 0
    check = checks_of(mips, tmp_path / "work")["shared-libraries"]
    assert check.outcome == "failed"
    assert any(each.file == "/usr/bin/node" and BROKEN[break_it] in each.text for each in check.findings)


def test_a_symbol_that_lacks_is_named_and_fails_when_it_is_called(mips: Root, tmp_path: Path) -> None:
    shutil.copy(make_library(tmp_path / "build", OTHER, "OWN_2"), mips.path / "usr/lib/libown.so.1")
    done = run_in(mips, ["/usr/bin/node"], tmp_path / "work")
    assert (done.code, "symbol lookup error" in done.stderr) == (127, True)
    check = checks_of(mips, tmp_path / "work")["shared-libraries"]
    assert (check.outcome, check.findings[0].text) == (
        "warned",
        "no library has the symbol own, which it may come to call",
    )
