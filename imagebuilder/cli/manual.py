"""What the command line says of itself, written down: docs/commands.md and the man page docs/owrt-python.1.

Both are made of the commands and options as they are declared:
`python -m imagebuilder.cli.manual md|man` prints one of them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from imagebuilder.called import COMMAND

PAGE = "docs/commands.md"
MAN = f"docs/{COMMAND}.1"
_COMMON = ("--help", "--install-completion", "--show-completion")
_EXITS = (
    ("0", "done"),
    ("1", "a fault of this program"),
    ("2", "something that can be put right: the message says what and how"),
    ("3", "verify cannot tell"),
    ("75", "what a test needs of this machine is not there"),
    ("130", "interrupted"),
    ("143", "terminated, or the terminal is gone"),
)


@dataclass(frozen=True)
class _Word:
    """An argument, or an option with all its names and what it takes. text: what it says, one line."""

    names: str
    takes: str
    text: str


@dataclass(frozen=True)
class _Told:
    """A command. usage: what is typed. text: paragraphs, plain."""

    name: str
    usage: str
    text: tuple[str, ...]
    words: tuple[_Word, ...]


def commands_page() -> str:
    """The text of docs/commands.md: every command, Markdown."""
    lines = [
        "# Commands",
        "",
        "What `--help` says of each. In a checkout `python3 build.py` stands for `owrt-python`.",
        f"Written by `python -m imagebuilder.cli.manual md > {PAGE}`, and not to be edited.",
    ]
    for told in _commands():
        lines += ["", f"## {told.name}", "", "```text", told.usage, "```"]
        for paragraph in told.text:
            lines += ["", _plain_markdown(paragraph)]
        if told.words:
            lines += ["", "| | |", "|---|---|"]
            for word in told.words:
                names = f"`{word.names} {word.takes}`" if word.takes else f"`{word.names}`"
                lines.append(f"| {_cell(names)} | {_cell(_plain_markdown(word.text))} |")
    return "\n".join(lines) + "\n"


def man_page() -> str:
    """The man page in roff, with the macros of man(7)."""
    root, *commands = _commands()
    lines = [
        f'.\\" Written by python -m imagebuilder.cli.manual man > {MAN}, and not to be edited.',
        f'.TH "{_roff(COMMAND).upper()}" "1" "" "OpenWrt Python ImageBuilder" "User Commands"',
        ".SH NAME",
        f"{_roff(COMMAND)} \\- builds OpenWrt firmware with the Python that fits",
        ".SH SYNOPSIS",
        f".B {_roff(COMMAND)}",
        "COMMAND [ARGS] [OPTIONS]",
        ".SH DESCRIPTION",
        *(_roff(paragraph) for paragraph in root.text),
        *_listed(root),
        ".SH COMMANDS",
    ]
    for told in commands:
        lines += [f".SS {_roff(told.usage)}"]
        for number, paragraph in enumerate(told.text):
            lines += [".PP"] * (number > 0) + [_roff(paragraph)]
        lines += _listed(told)
    lines.append(".SH EXIT STATUS")
    for code, text in _EXITS:
        lines += [".TP", f".B {code}", _roff(text)]
    return "\n".join(lines) + "\n"


def _listed(told: _Told) -> Iterator[str]:
    """A command's arguments and options, in roff."""
    for word in told.words:
        takes = f" \\fI{_roff(word.takes)}\\fR" if word.takes else ""
        yield from (".TP", f"\\fB{_roff(word.names)}\\fR{takes}", _roff(word.text))


def _commands() -> Iterator[_Told]:
    """The program itself, and all its commands with theirs, in the order of the help."""
    from imagebuilder.cli.app import app

    yield from _below(typer.main.get_command(app), COMMAND)


def _below(command: Any, name: str) -> Iterator[_Told]:
    context = command.make_context(name, [], resilient_parsing=True)
    below = {word: each for word, each in getattr(command, "commands", {}).items() if not each.hidden}
    params = [each for each in command.get_params(context) if not getattr(each, "hidden", False)]
    arguments = [each for each in params if each.param_type_name == "argument"]
    options = [each for each in params if each.param_type_name != "argument"]
    usage = [name, "[OPTIONS]", *map(_asked, arguments), *["COMMAND"] * bool(below)]
    words = tuple(map(_word, (each for each in [*arguments, *options] if not set(each.opts) & set(_COMMON))))
    yield _Told(name, " ".join(usage), tuple(_paragraphs(command.help or "")), words)
    for word, each in below.items():
        yield from _below(each, f"{name} {word}")


def _asked(argument: Any) -> str:
    """An argument as usage lines have it: in brackets if it can be left out, with dots if several go."""
    name = _takes(argument) + "..." * (argument.nargs != 1)
    return name if argument.required else f"[{name}]"


def _word(param: Any) -> _Word:
    text = " ".join((getattr(param, "help", None) or "").split())
    if param.param_type_name == "argument":
        return _Word(_asked(param), "", text)
    default = param.default
    if isinstance(default, str) and default:
        text = f"{text} By itself {default}."
    names = ", ".join([*param.opts, *param.secondary_opts])
    return _Word(names, "" if param.is_flag else _takes(param), text)


def _takes(param: Any) -> str:
    """What stands for a value: what the declaration says, else its name. How typer says its type differs
    from version to version."""
    said = (param.metavar or "").strip("[].")
    return str(said or param.name.upper().replace("_", "-"))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.strip():
            yield " ".join(paragraph.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain_markdown(text: str) -> str:
    return re.sub(r"([<>*_])", r"\\\1", text)


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    pages = {"md": commands_page, "man": man_page}
    if len(sys.argv) != 2 or sys.argv[1] not in pages:
        sys.exit(f"one of: {', '.join(pages)}")
    print(pages[sys.argv[1]](), end="")
