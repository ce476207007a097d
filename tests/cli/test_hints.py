"""What messages tell people to do can be done: each command that one names is parsed by the real command
line, each option is one of a command's, each key is one that a file of the project may have."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from imagebuilder.cli.app import app
from imagebuilder.cli.manual import commands_page
from imagebuilder.config.board import Board
from imagebuilder.config.model_config import ConfigFile
from imagebuilder.config.model_project import ProjectFile
from imagebuilder.config.overlay import Overlay

PROJECT = Path(__file__).resolve().parents[2]
HOLE = re.compile("⟨([^⟩]*)⟩")
# what a message calls this program: as it is started, or what the code has for that
NAMES = r"(?:python3 )?(?:\./)?build\.py|owrt-python|⟨(?:called|program)\(\)⟩"
TYPED = "typed"  # a function that puts the program's name before what is to be typed
COMMAND = re.compile(rf"(?:{NAMES}) (?P<words>[a-z][^`\n,()>;:]*)")
# options of other programs that a hint names
OTHERS = {"--privileged"}  # docker
# of files that other projects define, and of Python
FOREIGN_KEYS = {"name", "module", "dependencies"}
OPTIONS_OR_WORDS = ("where",)  # what the code calls options that it adds, or some words
FOREIGN_TABLES = {"project.scripts"}  # of pyproject.toml
WORDS_WITH_A_DOT = re.compile(
    r"(?<![⟨.\w])(python|packages|services|image|budget|mirror|board|overlay|filespec|feed|layout|emulation)"
    r"\.(?!toml|py\b|json|log|html|img|mk)([a-z_]+)"
)
ASSIGNED = re.compile(r"(?<![\w.⟩$-])([a-z][a-z_.]*) = (?=[\"\[{⟨…0-9tf])")
TABLE = re.compile(r"(?<![\w\"])\[{1,2}([a-z][a-z.]*)\]{1,2}(?![\w\"])")


@dataclass(frozen=True)
class Told:
    """A text of the code. place: `file:line`; hint: whether it says what to do next; commands: what of it is
    to be typed, without the program's name."""

    place: str
    text: str
    hint: bool
    commands: tuple[str, ...]


def written(node: ast.expr) -> str | None:
    """A string as it stands in the code, with ⟨…⟩ for what is filled in; None for what is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (
            value.value if isinstance(value, ast.Constant) else f"⟨{ast.unparse(value.value)}⟩"  # type: ignore[attr-defined]
            for value in node.values
        )
        return "".join(map(str, parts))
    return None


def strings(node: ast.AST) -> Iterator[ast.expr]:
    """All strings below, those within f-strings not once more."""
    if isinstance(node, ast.expr) and written(node) is not None:
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from strings(child)


def hints(tree: ast.AST) -> Iterator[ast.AST]:
    """What is given as a hint, named so, or comes from a function that is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            yield node.value
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any("hint" in ast.unparse(each).lower() for each in targets):
                yield node.value
        elif isinstance(node, ast.FunctionDef) and re.search("hint|meant|what_to_do|offered_as", node.name):
            yield from (each for each in ast.walk(node) if isinstance(each, ast.Return | ast.Assign))


def documented(tree: ast.AST) -> set[int]:
    """The lines at which docstrings begin."""
    return {
        node.body[0].value.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }


def to_type(node: ast.AST, text: str) -> tuple[str, ...]:
    """The commands in a text, without the program's name."""
    calls = [
        each for each in ast.walk(node) if isinstance(each, ast.Call) and ast.unparse(each.func) == TYPED
    ]
    given = [written(each.args[0]) or "" for each in calls if each.args]
    return (*(match["words"].strip() for match in COMMAND.finditer(text)), *given)


def told_in(source: str, name: str) -> Iterator[Told]:
    """All texts of a module that are no docstrings."""
    tree = ast.parse(source)
    doc = documented(tree)
    found: dict[tuple[int, int], Told] = {}
    for hint, nodes in ((False, [tree]), (True, hints(tree))):
        for node in nodes:
            for each in strings(node):
                if each.lineno not in doc:
                    text = written(each) or ""
                    place = (each.lineno, each.col_offset)
                    found[place] = Told(f"{name}:{each.lineno}", text, hint, to_type(each, text))
    yield from found.values()


@cache
def told() -> tuple[Told, ...]:
    files = sorted((PROJECT / "imagebuilder").rglob("*.py"))
    return tuple(
        each for path in files for each in told_in(path.read_text("utf-8"), str(path.relative_to(PROJECT)))
    )


def commands() -> list[tuple[str, str]]:
    """(place, words) of all that is told; of what is no hint only what has more than a command's name, which
    is no more than mentioned there."""
    return [
        (each.place, words)
        for each in told()
        for words in each.commands
        if each.hint or len(words.split()) > 2
    ]


@cache
def cli() -> Any:
    """The command line, as typer's click has it, which is not the module of that name."""
    return typer.main.get_command(app)


UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def filled(word: str) -> str:
    """A word with something in its holes: the name of a config that there is, or what an option takes."""
    return HOLE.sub(lambda hole: "" if hole[1] in OPTIONS_OR_WORDS else "router", word)


def parsed(words: list[str]) -> None:
    """UsageError for what the command line does not take. Nothing is run."""
    command, name = cli(), "build.py"
    while words and words[0] in getattr(command, "commands", {}):
        name, *words = words
        command = command.commands[name]
    context = command.make_context(name, [*words])
    if hasattr(command, "commands") and (not command.invoke_without_command or words[:1] not in ([], ["--"])):
        plain = [word for word in words if not word.startswith("-")]
        command.resolve_command(context, plain or words)


@pytest.mark.parametrize(("place", "text"), commands())
def test_a_command_can_be_given(place: str, text: str) -> None:
    """As far as it is one: prose follows some, and has neither options nor holes."""
    words = [word for word in map(filled, text.split()) if word]
    errors = []
    for length in range(len(words), 0, -1):
        rest = words[length:]
        if any(word.startswith("--") or word == "router" for word in rest):
            break
        try:
            parsed(words[:length])
        except UsageError as error:
            errors.append(str(error))
        else:
            return
    pytest.fail(f"{place}: {text!r}: {errors}")


def options(command: Any) -> set[str]:
    found = {name for each in command.params for name in each.opts if name.startswith("-")}
    for each in getattr(command, "commands", {}).values():
        found |= options(each)
    return found


def test_every_option_of_a_hint_is_one() -> None:
    known = options(cli()) | OTHERS | {"--install-completion"}
    wrong = [
        f"{each.place}: {name} in {each.text!r}"
        for each in told()
        if each.hint
        for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", each.text)
        if name not in known
    ]
    assert wrong == []


@cache
def keys() -> tuple[frozenset[str], frozenset[str]]:
    """All keys of boards, configs, overlays and projects, and the dotted ones of tables in them."""
    single: set[str] = set()
    dotted: set[str] = set()

    def walk(model: type[BaseModel], path: str, seen: frozenset[type]) -> None:
        for name, field in model.model_fields.items():
            single.add(name)
            dotted.add(f"{path}{name}")
            for inner in models(field.annotation):
                if inner not in seen:
                    walk(inner, f"{name}.", seen | {inner})

    def models(annotation: object) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for each in typing.get_args(annotation):
            yield from models(each)

    for model in (ConfigFile, Board, Overlay, ProjectFile):
        walk(model, "", frozenset({model}))
    return frozenset(single), frozenset(dotted)


def test_every_key_of_a_hint_is_one() -> None:
    single, dotted = keys()
    wrong = []
    for each in told():
        if not each.hint:
            continue
        text = HOLE.sub("⟨⟩", each.text)
        named = [f"{match[1]}.{match[2]}" for match in WORDS_WITH_A_DOT.finditer(text)]
        wrong += [f"{each.place}: {name} in {text!r}" for name in named if name not in dotted]
        given = [match[1] for match in ASSIGNED.finditer(text)]
        wrong += [
            f"{each.place}: {name} = in {text!r}"
            for name in given
            if name not in dotted | single | FOREIGN_KEYS and not name.startswith("board.")
        ]
        tables = [match[1] for match in TABLE.finditer(text) if match[1] not in FOREIGN_TABLES]
        tables = [name for name in tables if name.split(".")[0] not in single]
        wrong += [f"{each.place}: [{name}] in {text!r}" for name in tables]
    assert wrong == []


PAGES = re.compile(r"\bdocs/[\w-]+\.\w+|\b(?:CHANGELOG|CONTRIBUTING|SECURITY)\.md")
WRITERS = ("imagebuilder/cli/manual.py", "imagebuilder/config/schema.py")  # of such pages, in a checkout


def test_nobody_is_sent_to_a_page_that_a_wheel_lacks() -> None:
    """Neither by a message nor by what --help says: an installed copy has commands, no guides."""
    wrong = [
        f"{each.place}: {each.text!r}"
        for each in told()
        if PAGES.search(each.text) and not each.place.startswith(WRITERS)
    ]
    assert wrong == []
    assert PAGES.findall(commands_page().partition("\n## ")[2]) == []
    assert PAGES.findall("as docs/formats.md and SECURITY.md say") == ["docs/formats.md", "SECURITY.md"]


def test_there_is_something_to_look_at() -> None:
    """Commands, options and keys are found where they are known to be."""
    assert len(commands()) > 20
    texts = [each.text for each in told() if each.hint]
    assert len(texts) > 200
    assert any("packages.remove" in text for text in texts)
    assert any("--yes" in text for text in texts)


def test_what_is_wrong_would_be_found() -> None:
    for words in (["biuld", "x"], ["why"], ["plan", "x", "--refresh"], ["boards", "add"]):
        with pytest.raises(UsageError):
            parsed(words)
    parsed(["plan", "router", "--board", "x", "--fit"])
    assert "packages.remove" in keys()[1]
    assert "packages.removed" not in keys()[1]
    source = 'E("no", hint=f"{typed(f\'lock {x}\')} writes it")\nE("a", hint=f"{called()} biuld x, or y")\n'
    assert [each.commands for each in told_in(source, "m") if each.hint] == [("lock ⟨x⟩",), ("biuld x",)]
    assert [match[1] for match in ASSIGNED.finditer('say ad = ["x"]')] == ["ad"]
