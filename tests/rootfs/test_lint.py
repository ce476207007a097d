"""Overlays looked through: what a device would trip over is said before anything is built."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.overlay import Overlay
from imagebuilder.rootfs.lint import Flaw, Known, lint
from imagebuilder.rootfs.tree import FileTree, file_of, symlink

RC = "#!/bin/sh /etc/rc.common\nSTART=50\n"
IMAGE = frozenset(
    {"/bin/sh", "/bin/busybox", "/usr/bin/env", "/usr/bin/lua", "/etc/passwd", "/usr/bin/python3"}
)
BOM = codecs.BOM_UTF8
PYTHON = (3, 9)
NEWER = (3, sys.version_info[1] + 1)


def flaws(
    tmp_path: Path, path: str, text: str | bytes, mode: int = 0o755, python: tuple[int, int] | None = PYTHON
) -> list[Flaw]:
    """Of one file, whose name on this machine is told as `files` + its path."""
    file = tmp_path / path[1:]
    file.parent.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    file.write_bytes(data)
    tree = FileTree({path: file_of(data, mode)})
    return list(lint(tree, Known(tmp_path, python, IMAGE)))


GRAVE = {
    "a shell script that does not parse": (
        "/usr/bin/x",
        "#!/bin/sh\nif true; then\necho\n",
        "line",
        "no shell script",
    ),
    "without a shebang, by its place": ("/etc/uci-defaults/10-x", "echo 'open\n", "line", "no shell script"),
    "of rc.common": ("/etc/init.d/x", f"{RC}start() {{\n", "line", "no shell script"),
    "CR LF in a script": ("/usr/bin/x", "#!/bin/sh\r\necho\r\n", ":1", "Windows"),
    "CR LF later": ("/etc/rc.local", "true\nexit 0\r\n", ":2", "Windows"),
    "CR LF in settings": ("/etc/config/network", "config x\r\n", ":1", "uci"),
    "bash is not there": (
        "/usr/bin/x",
        "#!/bin/bash\necho\n",
        ":1",
        "for bash, which the image does not have",
    ),
    "python by env": ("/usr/bin/x", "#!/usr/bin/env perl\n", ":1", "for perl, which the image does not have"),
    "an init script that is not executable": ("/etc/init.d/x", RC, "", "not executable"),
    "Python that is none": ("/usr/lib/x.py", "x = 1\ndef f(:\n", ":2", "Python 3.9 cannot read it"),
    "Python that is too new": ("/usr/bin/x", "#!/usr/bin/python3\nmatch 1:\n    case 1: pass\n", ":3", "3.9"),
    "Python with a NUL's escape in a codec": (
        "/usr/lib/x.py",
        "# -*- coding: nothing -*-\n",
        ":1",
        "cannot read it: Python knows no encoding nothing",
    ),
    "Python in no encoding": ("/usr/lib/x.py", b"x = 1\ny = '\xfc'\n", ":2", "it says no encoding"),
    "a mark before a shebang": ("/usr/bin/x", BOM + b"#!/bin/sh\necho\n", ":1", "the kernel does not read"),
    "a mark before a sourced script": ("/etc/uci-defaults/x", BOM + b"true\n", ":1", "no shell reads so"),
    "a mark before settings": ("/etc/config/network", BOM + b"config x\n", ":1", "uci does not read"),
}


@pytest.mark.parametrize(("path", "text", "line", "says"), GRAVE.values(), ids=GRAVE)
def test_what_would_not_work_is_grave(
    tmp_path: Path, path: str, text: str | bytes, line: str, says: str
) -> None:
    mode = 0o644 if "not executable" in says else 0o755
    found = [flaw for flaw in flaws(tmp_path, path, text, mode) if flaw.grave]
    assert len(found) == 1, found
    assert says in found[0].text
    assert found[0].place.startswith(f"{tmp_path}{path}")
    if line.startswith(":"):
        assert found[0].place.endswith(line)


SLIPS = {
    "an init script without START": (
        "/etc/init.d/x",
        "#!/bin/sh /etc/rc.common\nstart() { :; }\n",
        "no START=",
    ),
    "an init script of its own": ("/etc/init.d/x", "#!/bin/sh\ntrue\n", "not enabled"),
    "a first start that fails": ("/etc/uci-defaults/x", "uci commit\nexit 1\n\n", "again at every start"),
    "CR LF elsewhere in /etc": ("/etc/dnsmasq.conf", "a\r\n", "Windows"),
    "another place of the interpreter": ("/usr/bin/x", "#!/opt/bin/lua\n", "the image has /usr/bin/lua"),
    "an interpreter that a script may link": ("/usr/bin/x", "#!/usr/bin/strange\n", "does not have"),
}


@pytest.mark.parametrize(("path", "text", "says"), SLIPS.values(), ids=SLIPS)
def test_what_is_likely_a_slip_is_none_of_these(tmp_path: Path, path: str, text: str, says: str) -> None:
    (flaw,) = flaws(tmp_path, path, text)
    assert says in flaw.text
    assert not flaw.grave


RIGHT = {
    "an init script": ("/etc/init.d/x", f"{RC}start() {{ :; }}\n"),
    "bash's words in a shell": ("/usr/bin/x", "#!/bin/sh\n[[ $a == b ]] && echo\nlocal_() { local a=1; }\n"),
    "a first start that ends well": ("/etc/uci-defaults/x", "uci -q get x || exit 1\nexit 0\n"),
    "an exit within": ("/etc/uci-defaults/x", "[ -f /x ] || exit 1\nuci commit\n"),
    "python by env": ("/usr/bin/x", "#!/usr/bin/env python3\nprint(f'{1}')\n"),
    "Python in its own encoding": ("/usr/lib/x.py", b"# coding: latin-1\nx = '\xfc'\n"),
    "Python with a mark": ("/usr/lib/x.py", BOM + b"x = 1\r\n"),
    "data with CR LF": ("/usr/share/x.txt", "a\r\nb\r\n"),
    "a picture": ("/www/x.png", "\x89PNG\r\n\x1a\n\0\0"),
    "a shebang in an odd place": ("/www/x", "text\n#!/bin/bash\n"),
}


@pytest.mark.parametrize(("path", "text"), RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_let_be(tmp_path: Path, path: str, text: str | bytes) -> None:
    assert flaws(tmp_path, path, text) == []


def test_a_newer_python_than_this_one_is_not_judged_by_it(tmp_path: Path) -> None:
    (flaw,) = flaws(tmp_path, "/usr/lib/x.py", "x = = 1\n", python=NEWER)
    assert not flaw.grave
    assert flaws(tmp_path, "/usr/lib/x.py", "x = = 1\n", python=None) == []


def test_a_templates_line_is_that_of_what_it_renders_to(tmp_path: Path) -> None:
    tree = FileTree({"/etc/rc.local": file_of(b"if\n")})
    (flaw,) = lint(tree, Known(tmp_path))
    assert flaw.place.startswith(f"{tmp_path}/etc/rc.local.j2 (line ")


def test_what_holds_a_secret_is_not_quoted(tmp_path: Path) -> None:
    tree = FileTree({"/etc/rc.local": file_of(b"true\n)hidden\n")})
    (shown,) = lint(tree, Known(tmp_path))
    (kept,) = lint(tree, Known(tmp_path, secrets={"/etc/rc.local"}))
    assert "`)'" in shown.text or "unexpected" in shown.text
    assert kept.text.endswith("can read")


@pytest.mark.parametrize(
    ("target", "says", "grave"),
    [
        ("/etc/passwd", None, False),
        ("../etc/passwd", None, False),
        ("/tmp/resolv.conf", None, False),
        ("/var/run/x", None, False),
        ("/etc/none", "does not have", False),
        ("{home}/key", "a place of this machine", True),
        ("{root}/etc/passwd", "a place of this machine", True),
        ("/home/me/key", "a place of this machine", True),
    ],
)
def test_links(tmp_path: Path, target: str, says: str | None, grave: bool) -> None:
    target = target.format(home=Path.home(), root=tmp_path)
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/x").symlink_to(target)
    found = list(lint(FileTree({"/usr/x": symlink(target)}), Known(tmp_path, image=IMAGE)))
    assert [(says in flaw.text, flaw.grave) for flaw in found if says] == [(True, grave)] * len(found)
    assert len(found) == (says is not None)


def test_nothing_is_said_of_an_image_that_is_not_known(tmp_path: Path) -> None:
    tree = FileTree({"/usr/x": symlink("/etc/none"), "/usr/y": file_of(b"#!/bin/bash\n", 0o755)})
    assert list(lint(tree, Known(tmp_path))) == []


@given(
    data=st.binary(max_size=60) | st.binary(max_size=40).map(lambda data: b"#!/usr/bin/python3\n" + data),
    path=st.sampled_from(["/etc/config/x", "/usr/x.py", "/www/x"]),
)
def test_any_file_is_looked_through(data: bytes, path: str) -> None:
    for flaw in lint(FileTree({path: file_of(data)}), Known(Path("/nowhere"), PYTHON, IMAGE)):
        assert flaw.text


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("/etc/.gitkeep", True),
        ("/etc/x~", True),
        ("/www/.DS_Store", True),
        ("/usr/lib/__pycache__/x.pyc", True),
        ("/docs/read.me", True),
        ("/usr/docs/read.me", False),
        ("/usr/x.orig", True),
        ("/etc/config/network", False),
        ("/etc/.marker", False),
    ],
)
def test_what_is_not_meant_for_the_device(path: str, out: bool) -> None:
    assert Overlay(name="test", ignore=("docs/*", "*.orig")).ignores(path) is out
