"""What init scripts say of their start: told as rc.common does it, and only where no shell is needed."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.init_script import links_of, started, surely_started

HEAD = b"#!/bin/sh /etc/rc.common\n"
PLAIN = HEAD + b"# Copyright\n\nSTART=50\nSTOP=10\nUSE_PROCD=1\n\nstart_service() {\n\treturn 0\n}\n"

SURE = {
    "plain": PLAIN,
    "quoted, with a comment": HEAD + b'START="95" # late\n',
    "after settings and functions": HEAD
    + b"PROG=$(which x)\nhelp() { return 1; }\nstop()\n{\n\texit 1\n}\nSTART=9\n",
    "extra commands": PLAIN + b'EXTRA_COMMANDS="a"\n[ -n "$X" ] || Y=1\n',
}
UNSURE = {
    "of no rc.common": b"#!/bin/sh\nSTART=50\n",
    "none": HEAD + b"start() {\n\tSTART=50\n}\n",
    "only stopped": HEAD + b"STOP=10\n",
    "in a condition": HEAD + b"if [ -f /etc/x ]; then\n\tSTART=50\nfi\n",
    "ended before": HEAD + b"[ -f /etc/x ] || exit 0\nSTART=50\n",
    "ended behind": HEAD + b"START=50\n[ -f /etc/x ] || exit 0\n",
    "ended in a block behind": HEAD + b"START=50\nif ! [ -f /etc/x ]; then\n\texit 0\nfi\n",
    "taken back": HEAD + b"START=50\nSTART=\n",
    "enabled its own way": PLAIN + b"enable() {\n\ttrue\n}\n",
    "computed": HEAD + b"START=$((40 + 2))\n",
    "Windows' line ends": PLAIN.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("name", SURE)
def test_what_rc_common_links_for_the_start(name: str) -> None:
    assert surely_started(SURE[name])


@pytest.mark.parametrize("name", UNSURE)
def test_what_only_a_shell_could_tell_is_not_sure(name: str) -> None:
    assert not surely_started(UNSURE[name])


def test_the_links_are_those_of_both_numbers() -> None:
    assert links_of("x", PLAIN) == {"/etc/rc.d/S50x": "../init.d/x", "/etc/rc.d/K10x": "../init.d/x"}


def test_what_lacks_its_link_is_named_and_what_is_not_wanted_is_not() -> None:
    scripts = {"boot": PLAIN, "cron": PLAIN, "own": UNSURE["ended before"], "S20old": PLAIN, "6in4": PLAIN}
    all_linked = ["S10boot", "K10boot", "S50cron", "S50old", "S506in4"]
    assert started(scripts, all_linked).lacking == ()
    found = started(scripts, ["S10boot", "K10cron", "S50old", "S506in4"])
    assert (found.none, found.lacking) == (False, ("cron",))
    assert started(scripts, ["S10boot", "S50old", "S506in4"], {"cron"}).lacking == ()
    assert started(scripts, ["K10boot"]).none
    assert not started({"own": UNSURE["none"]}, []).none
    assert not started({"cron": PLAIN}, [], {"cron"}).none


LINES = st.sampled_from(
    [
        *(
            b"START=50",
            b"STOP=5",
            b"START=",
            b"START='7'",
            b"",
            b"# x",
            b"A=1",
            b'A="$B"',
            b"enable() {",
            b"f() {",
        ),
        *(
            b"}",
            b"\texit 0",
            b"exit 0",
            b"f() { return 1; }",
            b"\tSTART=3",
            b"if false; then",
            b"fi",
            b"unset START",
        ),
    ]
)


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    surely_started(data)
    surely_started(HEAD + data)
    links_of("x", data)


@given(st.lists(LINES, max_size=8))
def test_what_is_sure_has_a_start_when_a_shell_reads_it(lines: list[bytes]) -> None:
    """A shell that reads the script in, as rc.common does, comes to its end and knows a START."""
    script = HEAD + b"\n".join(lines) + b"\n"
    shell = shutil.which("sh") or "/bin/sh"
    if surely_started(script):
        asks = script + b'\ncase "$START" in [0-9]*) echo yes ;; esac\n'
        done = subprocess.run([shell], input=asks, capture_output=True, check=False)
        # a function that nobody ends is no script at all, and the device's shell says so
        assert b"yes" in done.stdout or done.returncode == 2
