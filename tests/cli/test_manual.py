"""docs/commands.md and the man page: what the command line declares, as it stands now."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from imagebuilder.cli.manual import MAN, PAGE, commands_page, man_page
from tests.cli.test_hints import cli, options

PROJECT = Path(__file__).resolve().parents[2]


def test_the_page_of_commands_is_what_they_declare() -> None:
    """Stale: `python -m imagebuilder.cli.manual md > docs/commands.md`."""
    assert (PROJECT / PAGE).read_text("utf-8") == commands_page()


def test_the_man_page_is_what_they_declare() -> None:
    """Stale: `python -m imagebuilder.cli.manual man > docs/owrt-python.1`."""
    assert (PROJECT / MAN).read_text("utf-8") == man_page()


def test_help_says_what_arguments_are() -> None:
    """As it did not with typer 0.20 and click 8.5."""
    (folder,) = (each for each in cli().commands["new"].params if each.name == "folder")
    assert getattr(folder, "help", None)


def test_every_command_and_option_is_in_both() -> None:
    page, man = commands_page(), man_page().replace("\\-", "-")
    names = [
        f"{name} {below}".strip()
        for name, each in cli().commands.items()
        for below in ("", *getattr(each, "commands", {}))
    ]
    assert len(names) > 25
    for name in names:
        assert f"## owrt-python {name}\n" in page
        assert f".SS owrt-python {name} [OPTIONS]" in man
    for option in options(cli()) - {"--help", "--install-completion", "--show-completion"}:
        assert re.search(rf"[`, ]{option}[`, ]", page), option
        assert re.search(rf"{option}[,\\ ]", man), option


@pytest.mark.skipif(shutil.which("groff") is None, reason="wants groff")
def test_groff_has_nothing_to_say() -> None:
    argv = ["groff", "-man", "-ww", "-Tutf8", "-Kutf8", str(PROJECT / MAN)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert "owrt-python" in ended.stdout
