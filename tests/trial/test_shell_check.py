"""Scripts of a root file system are read by its own shell, and never run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.tree import FileTree, file_of, symlink
from imagebuilder.trial import shell_check as shell_check_module
from imagebuilder.trial.runnable import why_not_run
from imagebuilder.trial.shell_check import interpreter_of, parse_ended, scripts_of, shell_check
from tests.support.elf_maker import EM_MIPS, ElfPlan, make_elf
from tests.support.native_root import add_files, add_program

GOOD = "#!/bin/sh /etc/rc.common\nSTART=50\nstart() {\n\techo up > /tmp/ran\n}\nstart\nexit 3\n"
INIT = "/etc/init.d/node"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a shell and a good script."""
    place = tmp_path / "root"
    add_program(place, "sh", "/bin/sh")
    add_files(place, **{INIT: GOOD})
    return place


def checked(root: Path, owners: dict[str, str] | None = None, unable: str = "") -> TrialCheck:
    work = root.parent / "work"
    work.mkdir(exist_ok=True)
    return shell_check(Root(root, ""), read_tree(root), owners or {}, work, unable=unable)


def test_good_scripts_pass_and_are_counted_and_none_is_run(root: Path) -> None:
    defaults = "uci set a.b='c'\ntouch /tmp/ran\nexit 0\n"
    add_files(
        root, **{"/etc/uci-defaults/90-own": defaults, "/etc/hotplug.d/iface/10-own": "[ x ] && {\n:\n}\n"}
    )
    check = checked(root)
    assert (check.outcome, check.found, check.findings) == ("ok", "3 scripts", ())


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (
            INIT,
            "#!/bin/sh /etc/rc.common\nstart() {\n\tif true; then\n\t\techo\n}\n",
            "line 5: .*(yntax|unexpected)",
        ),
        ("/etc/uci-defaults/50-x", "uci set 'a\n", "line .*(nterminated|EOF|unexpected)"),
        ("/etc/rc.button/reset", "#!/bin/sh\ncase $BUTTON in\nesac esac\n", "line 3: "),
        ("/etc/hotplug.d/net/10-x", "#!/bin/sh\nfor x in a b; don\n", "line"),
        ("/lib/functions/own.sh", "x() {\n", "line"),
        ("/lib/netifd/proto/own.sh", "x() {\n", "line"),
    ],
)
def test_a_syntax_error_fails_by_file_package_and_line(root: Path, path: str, text: str, said: str) -> None:
    add_files(root, **{path: text})
    check = checked(root, {path: "own"})
    assert check.outcome == "failed"
    (finding,) = check.findings
    assert (finding.file, finding.package, finding.level) == (path, "own", "error")
    assert_matches(said, finding.text)
    assert path in check.found


def assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


def test_the_line_is_the_scripts_own(root: Path) -> None:
    add_files(root, **{"/etc/uci-defaults/50-x": "echo 1\necho 2\nesac\n"})
    assert checked(root).findings[0].text.startswith("line 3: ")


def test_windows_line_ends_that_break_a_script_are_named(root: Path) -> None:
    add_files(root, **{INIT: "#!/bin/sh\r\nif true; then\r\n\techo\r\nfi\r\n"})
    check = checked(root)
    assert check.outcome == "failed"
    assert "Windows' line ends" in check.found


def test_a_script_for_another_program_is_not_read_and_lacks_nothing_but_its_program(root: Path) -> None:
    add_files(root, **{"/etc/init.d/lua": "#!/usr/bin/lua\nfunction (\n", "/usr/bin/lua": "x"})
    add_files(root, **{"/etc/rc.button/py": "#!/usr/bin/env -S python3 -I\ndef x(:\n"})
    check = checked(root)
    assert {each.file: (each.level, each.text) for each in check.findings} == {
        "/etc/init.d/lua": ("note", "a script for /usr/bin/lua, not for the shell: not read"),
        "/etc/rc.button/py": ("error", "its first line names python3, which is not in the image"),
    }


def test_what_a_shell_reads_in_is_read_whatever_its_first_line_says(root: Path) -> None:
    add_files(root, **{"/etc/uci-defaults/50-x": "#!/usr/bin/python3\nif (x == 1):\n    pass\n"})
    check = checked(root)
    assert check.outcome == "failed"
    assert "although its first line names /usr/bin/python3" in check.found


def test_a_program_without_a_first_line_is_worth_a_word_and_one_that_is_no_text_is_left_alone(
    root: Path,
) -> None:
    add_files(root, **{"/etc/init.d/bare": "echo\n", "/etc/init.d/binary": b"\x7fELF\0\0"})
    check = checked(root)
    assert (check.outcome, [each.file for each in check.findings]) == ("warned", ["/etc/init.d/bare"])
    add_files(root, **{"/etc/uci-defaults/50-x": b"a\0b"})
    assert checked(root).outcome == "failed"


def test_links_to_scripts_are_no_scripts_of_their_own() -> None:
    tree = FileTree({INIT: file_of(b"#!/bin/sh\n"), "/etc/init.d/other": symlink("node")})
    assert [each.path for each in scripts_of(tree)[0]] == [INIT]


def test_scripts_beyond_the_bound_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_check_module, "MOST", 1)
    files = {f"/etc/init.d/{name}": file_of(b"#!/bin/sh\n") for name in ("a", "b")}
    scripts, faults = scripts_of(FileTree(files))
    assert [each.path for each in scripts] == ["/etc/init.d/a"]
    assert [(each.path, each.level) for each in faults] == [("/etc/init.d/b", "warning")]


def test_lists_and_data_that_lie_beside_scripts_are_none() -> None:
    files = (
        "/lib/upgrade/keep.d/base",
        "/lib/network/config.json",
        "/etc/config/network",
        "/lib/functions/a.awk",
    )
    assert scripts_of(FileTree({path: file_of(b"a'b") for path in files})) == ((), ())


def test_a_shell_that_runs_what_it_should_read_gets_no_script(root: Path) -> None:
    (root / "bin/sh").write_bytes(b"#!/bin/dash\nexit 0\n")
    (root / "bin/sh").chmod(0o755)
    add_program(root, "dash" if Path("/bin/dash").exists() else "sh", "/bin/dash")
    check = checked(root)
    assert (check.outcome, check.findings) == ("not run", ())
    assert "/bin/sh" in check.why


def test_without_a_shell_or_scripts_or_what_runs_it_the_check_says_why_it_was_not_run(root: Path) -> None:
    check = checked(root, unable="qemu-mips is not on this machine")
    assert (check.outcome, check.why) == ("not run", "qemu-mips is not on this machine")
    (root / "bin/sh").unlink()
    assert checked(root).why == "the image has no /bin/sh"


def test_what_can_be_told_without_the_shell_is_told_all_the_same(root: Path) -> None:
    add_files(root, **{"/etc/init.d/py": "#!/usr/bin/python3\n"})
    assert checked(root, unable="no emulator").outcome == "failed"


def test_a_shell_for_another_processor_is_not_tried(tmp_path: Path) -> None:
    tree = FileTree(
        {"/bin/busybox": file_of(make_elf(ElfPlan(machine=EM_MIPS))), "/bin/sh": symlink("busybox")}
    )
    why = why_not_run(Root(tmp_path, ""), tree, "/bin/sh")
    assert "mips, 32 bits, big endian" in why
    assert "[emulation] user" in why
    assert why_not_run(Root(tmp_path, "", ("qemu-mips",)), tree, "/bin/sh") == ""
    assert why_not_run(Root(tmp_path, ""), FileTree({"/bin/sh": file_of(b"#!")}), "/bin/sh") == ""


def test_a_script_cannot_speak_for_another_one(root: Path) -> None:
    add_files(
        root, **{"/etc/init.d/liar": "#!/bin/sh\necho @3 0\n@3 0\nif\n", "/etc/init.d/z": "#!/bin/sh\nif\n"}
    )
    assert [each.file for each in checked(root).findings] == ["/etc/init.d/liar", "/etc/init.d/z"]


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("#!/bin/sh", "/bin/sh"),
        ("#! /bin/sh -e", "/bin/sh"),
        ("#!/usr/bin/env python3", "python3"),
        ("#!/usr/bin/env -S A=1 python3 -I", "python3"),
        ("#!/usr/bin/env", "/usr/bin/env"),
        ("#!", ""),
        ("# a comment", ""),
    ],
)
def test_the_program_of_a_first_line(line: str, program: str) -> None:
    assert interpreter_of(f"{line}\nrest\n".encode()) == program


@given(st.binary(max_size=200))
def test_any_bytes_are_a_script_or_something_else(data: bytes) -> None:
    scripts, faults = scripts_of(FileTree({INIT: file_of(b"#!" + data), "/etc/rc.local": file_of(data)}))
    assert len(scripts) + len(faults) <= 4


@given(st.text(max_size=300), st.integers(0, 5))
def test_any_answer_is_read_and_tells_of_no_more_scripts_than_there_are(text: str, number: int) -> None:
    assert all(script < number for script in parse_ended(text, number))


def test_an_answer_is_read_by_number() -> None:
    assert parse_ended("@0 0\nnoise\n@1 2\n@9 1\n@x 1\n", 3) == {0: 0, 1: 2}
