"""All checks of a root file system that need no config: a good root passes each, and each is failed by a root
that is broken in its own matter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import read_tree
from imagebuilder.trial import root_checks as root_checks_module
from imagebuilder.trial.root_checks import root_checks
from tests.support.elf_maker import ElfPlan, make_elf
from tests.support.native_root import add_files, add_program

LIB = "/usr/lib/python3.11"
GOOD = version_facts("3.11").magic_number.to_bytes(2, "little") + b"\r\n" + bytes(40)
OTHER = version_facts("3.9").magic_number.to_bytes(2, "little") + b"\r\n" + bytes(40)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A good root."""
    place = tmp_path / "root"
    add_program(place, "sh", "/bin/sh")
    add_files(
        place,
        **{
            "/usr/bin/python3.11": "stands for one",
            f"{LIB}/os.pyc": GOOD,
            "/etc/rc.common": "# stands for one\n",
            "/etc/init.d/node": "#!/bin/sh /etc/rc.common\nSTART=50\nstart() { :; }\n",
        },
    )
    (place / "etc/rc.d").mkdir()
    (place / "etc/rc.d/S50node").symlink_to("../init.d/node")
    return place


def checked(root: Path, owners: Mapping[str, str] | None = None, **more: Any) -> dict[str, TrialCheck]:
    (root.parent / "work").mkdir(exist_ok=True)
    found = root_checks(Root(root, ""), read_tree(root), root.parent / "work", owners=owners, **more)
    return {check.name: check for check in found}


def outcomes(root: Path, **more: Any) -> dict[str, str]:
    return {name: check.outcome for name, check in checked(root, **more).items()}


ALL_GOOD = {
    "bytecode": "ok",
    "compiled-sources": "ok",
    "shared-libraries": "ok",
    "services": "ok",
    "shell-scripts": "ok",
}


def test_a_good_root_passes_all(root: Path) -> None:
    assert outcomes(root) == ALL_GOOD


def test_wrong_bytecode_a_source_a_library_that_lacks_and_a_syntax_error_are_each_named(root: Path) -> None:
    add_files(root, **{f"{LIB}/site-packages/a.pyc": OTHER})
    assert outcomes(root) == {**ALL_GOOD, "bytecode": "failed"}
    (root / f"{LIB}/site-packages/a.pyc"[1:]).unlink()
    add_files(root, **{f"{LIB}/site-packages/a.py": "x = 1\n"})
    assert outcomes(root) == {**ALL_GOOD, "compiled-sources": "warned"}
    (root / f"{LIB}/site-packages/a.py"[1:]).unlink()
    add_files(root, **{"/etc/uci-defaults/99-own": "if true; then\n"})
    assert outcomes(root) == {**ALL_GOOD, "shell-scripts": "failed"}
    (root / "etc/uci-defaults/99-own").unlink()
    next(path for path in root.rglob("libc.so.6")).unlink()
    broken = outcomes(root)
    assert (broken["shared-libraries"], broken["shell-scripts"]) == ("failed", "not run")


def test_the_order_is_that_of_the_names(root: Path) -> None:
    assert list(outcomes(root)) == list(ALL_GOOD)


def test_a_root_without_python_has_the_other_checks(root: Path) -> None:
    (root / "usr/bin/python3.11").unlink()
    assert list(outcomes(root)) == ["shared-libraries", "services", "shell-scripts"]


def test_a_root_that_takes_too_long_to_look_at_is_not_run_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(root_checks_module, "LOOK_SECONDS", 1)
    monkeypatch.setattr(root_checks_module, "library_check", endless)
    found = checked(root)
    assert found["shared-libraries"].outcome == "not run"
    assert "takes more than 1 s of processor time" in found["shared-libraries"].why
    assert found["shell-scripts"].outcome == "ok"


def test_libraries_that_all_want_many_others_are_looked_at_in_time(root: Path) -> None:
    lacking = tuple(f"libgone{number}.so" for number in range(400))
    wanting = ElfPlan(loader="/lib64/ld.so", needed=lacking, runpath=":".join(f"/opt/{n}" for n in range(50)))
    data = make_elf(wanting)
    add_files(root, **{f"/usr/bin/p{number}": data for number in range(30)}, **{"/lib64/ld.so": data})
    assert outcomes(root)["shared-libraries"] == "failed"


def test_names_that_are_no_utf_8_are_told_all_the_same(root: Path) -> None:
    name = os.fsdecode(b"\xff")
    add_files(root, **{f"{LIB}/{name}.pyc": OTHER, f"/etc/init.d/{name}": "#!/bin/sh\nif\n"})
    add_files(root, **{f"/usr/bin/{name}": make_elf(ElfPlan(loader="/lib/none"))})
    add_files(root, **{f"{LIB}/{name}.py": "x = 1\n"})
    add_files(root, **{f"/etc/init.d/{name}2": "#!/bin/sh /etc/rc.common\nSTART=1\n"})
    found = checked(root, off=()).values()
    assert [check.outcome for check in found] == ["ok", "warned", "failed", "failed", "failed"]
    told = [each.file for check in found for each in check.findings]
    assert told
    assert all(file.endswith(("\\udcff", "\\udcff.py", "\\udcff2")) for file in told)


def test_a_root_in_which_nothing_is_linked_for_the_start_fails(root: Path) -> None:
    """As a tree's grep leaves it that cannot load its library: make passes over every init script."""
    (root / "etc/rc.d/S50node").unlink()
    found = checked(root)["services"]
    assert found.outcome == "failed"
    assert "not one of 1 init script: the device would start no service" in found.found
    (root / "etc/rc.d").rmdir()
    assert outcomes(root)["services"] == "failed"


def test_a_service_without_its_link_fails_where_the_config_is_known(root: Path) -> None:
    add_files(root, **{"/etc/init.d/cron": "#!/bin/sh /etc/rc.common\nSTART=60\n"})
    assert outcomes(root, off=()) == {**ALL_GOOD, "services": "failed"}
    assert outcomes(root, off=["cron"]) == ALL_GOOD
    found = checked(root, owners={"/etc/init.d/cron": "busybox"})["services"]
    assert found.outcome == "ok"  # who built it may have disabled it
    assert [(each.file, each.package, each.level) for each in found.findings] == [
        ("/etc/init.d/cron", "busybox", "note")
    ]


def test_what_is_no_root_of_rc_common_has_no_such_check(root: Path) -> None:
    (root / "etc/rc.common").unlink()
    assert "services" not in outcomes(root)
