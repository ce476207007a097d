"""Every screen with a layout of its own, at three widths: nothing goes beyond the line but what somebody
copies, nothing is lost, no figure is cut from its unit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.test_screens import in_terminal, run

WIDTHS = (60, 100, 200)
BOARD = "tplink-tl-wr740n-v4"
TREE = ("--board", BOARD, "--imagebuilder", "TREE", "--cache", "cache")
BAD = "-".join(("a", *["long"] * 6))
# what each screen says, wherever its words are
SCREENS: Mapping[str, tuple[Sequence[str], str]] = {
    "boards": (("boards",), "TP-Link TL-WR740N/ND v4"),
    "boards search": (("boards", "search", "wr1200"), "what has no board file yet:"),
    "boards search, none": (("boards", "search", "nonesuch"), "no board is like that"),
    "boards check": (("boards", "check", "--imagebuilder", "TREE", "--cache", "cache"), "1 differ"),
    "configs": (("configs",), "CPython with one program on a router with 4 MB of flash, by cable"),
    "show a config": (("show", "router"), "boards project/configs/router.toml"),
    "show a board": (("show", BOARD), "kernel_and_rootfs 3669504 bytes"),
    "show another": (("show", "linksys-wrt1200ac"), "the mv88e6176 switch is broken there"),
    "plan": (("plan", "router", *TREE), "4.8 MiB of 32.0 MiB free"),
    "plan --packages": (
        ("plan", "router", *TREE, "--packages"),
        "the default packages of ath79/tiny -> busybox",
    ),
    "plan, several": (("plan", "router", BAD, *TREE), "no feed has 'nonesuch'"),
    "build": (("build", "router", *TREE, "--output", "out", "--rebuild"), "855a4a5666b77aa6"),
    "fetch": (("fetch", "router", *TREE), "OpenWrt 23.05.5"),
    "why": (("why", "router", "busybox", *TREE), "the default packages of ath79/tiny -> busybox"),
    "packages search": (("packages", "search", "router", "python", *TREE), "micropython-mbedtls"),
    "packages show": (("packages", "show", "router", "busybox", *TREE), "installed 89 bytes"),
    "interpreters": (("interpreters", "--release", "22.03", "--board", BOARD), "792.3 KiB to 2.3 MiB"),
    "releases": (("releases", "--offline", "--cache", "cache"), "from the project's own list of"),
    "formats": (("formats",), "TP-Link header, version 1"),
    "doctor": (("doctor",), "every build: gives each build its own view of the tree"),
    "inspect": (("inspect", "TREE/sysupgrade.bin"), "4d5a2e834be30e9a7997a7bdea3fd471"),
    "verify": (("verify", "TREE/sysupgrade.bin", "--board", "raspberrypi-4b"), "raspberrypi,4-model-b"),
    "diff": (("diff", "TREE/sysupgrade.bin", "TREE/factory.bin"), "5da2ad89aa9735c91ad9e1cf847e9e3b"),
    "ls": (("ls", "TREE/sysupgrade.bin"), "/usr/lib/opkg/info/python3-base.list"),
    "new": (("new", "a-folder"), "a-folder/firmware.toml"),
    "init": (("init", "mine", "--board", BOARD), "--imagebuilder PATH"),
    "import": (("import", "--board", BOARD, "--", "make", "image", "PROFILE=x"), "next"),
}


NO_PROJECT = ("doctor", "formats", "inspect", "diff", "ls", "new")
EMPTY = {"description"}  # a heading of what nothing here has
# a bar, a time: what is another one each time, or at another width
CHANGING = re.compile(r"\[[A-Z.!#]*\]?|[A-Z.!#]*\]|[0-9]+\.[0-9]")


def copied(line: str) -> bool:
    """Whether a line is what stays whole: a path, a digest, or a command that somebody copies."""
    return " " not in line.strip() or " -m imagebuilder " in line or line.startswith("make image PROFILE=")


def words(text: str) -> set[str]:
    return {word.strip(":,;") for word in text.split() if not CHANGING.fullmatch(word)}


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_keeps_to_its_width(name: str, small_tree: Path, project: Path, tmp_path: Path) -> None:
    (project / f"configs/{BAD}.toml").write_text('extends = "base"\n[packages]\nadd = ["nonesuch"]\n')
    argv, wanted = SCREENS[name]
    where = [] if argv[0] in NO_PROJECT else ["--project", str(project)]
    end = argv.index("--") if "--" in argv else len(argv)
    call = [word.replace("TREE", str(small_tree)) for word in (*argv[:end], *where, *argv[end:])]

    def anew() -> Path:
        shutil.rmtree(tmp_path / "a-folder", ignore_errors=True)
        for made in ("mine", "x"):
            (project / f"configs/{made}.toml").unlink(missing_ok=True)
        return tmp_path

    shown = {columns: in_terminal(columns, *call, cwd=anew(), coloured=False) for columns in WIDTHS}
    whole = run(*call, cwd=anew()).stdout
    for columns, text in shown.items():
        beyond = [line for line in text.splitlines() if cell_len(line) > columns and not copied(line)]
        assert beyond == [], columns
        assert words(wanted) <= words(text), columns
        assert not re.search(r"[0-9]\n *(bytes|[KMG]iB|%)(?!\w)", text), columns
        if name != "formats":  # which is a page where it is piped
            assert words(whole) - words(text) <= EMPTY, columns
