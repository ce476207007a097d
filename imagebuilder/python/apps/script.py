"""What a single script says of itself: its version, and what it requires (PEP 723)."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.python.apps.apps import MAX_SOURCE_BYTES
from imagebuilder.python.imports.imports import SourceError

_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class ScriptError(UserError):
    """A script that cannot be packaged."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script. version: what it assigns to __version__, 0 if nothing; summary: its docstring's first line;
    requires: requirements; requires_python: '' for any."""

    data: bytes
    version: Version
    summary: str = ""
    requires: tuple[str, ...] = ()
    requires_python: str = ""


def read_script(path: Path, python: tuple[int, int]) -> Script:
    """A script for Python (major, minor). ScriptError, SourceError for what is no such Python."""
    try:
        data = read_plain(path, MAX_SOURCE_BYTES)
    except PlainFileError as error:
        raise ScriptError(error.message, hint="python.apps names it, and it is no script") from error
    try:
        text = data.decode("utf-8")
        tree = ast.parse(text, str(path), feature_version=python)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise SourceError(
            f"{path}{line}: this does not read as Python {python[0]}.{python[1]}: {error}",
            hint="put it right for the target's Python",
        ) from error
    requires, requires_python = _metadata(path, text)
    summary = (ast.get_docstring(tree) or "").strip().partition("\n")[0]
    return Script(data, _version(path, tree), summary, requires, requires_python)


def _version(path: Path, tree: ast.Module) -> Version:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "__version__" in names:
                try:
                    return Version(str(node.value.value))
                except InvalidVersion as error:
                    raise ScriptError(
                        f"{path}:{node.lineno}: __version__ is no version: {error}",
                        hint="one reads 1.2.3 (PEP 440)",
                    ) from error
    return Version("0")


def _metadata(path: Path, text: str) -> tuple[tuple[str, ...], str]:
    """dependencies and requires-python of the block `# /// script`."""
    blocks = list(_BLOCK.finditer(text.replace("\r\n", "\n")))
    if not blocks:
        return (), ""
    hint = "see PEP 723: dependencies = [...], requires-python = '>=3.9'"
    if len(blocks) > 1:
        raise ScriptError(f"{path}: it has more than one block '# /// script'", hint=hint)
    lines = blocks[0]["content"].splitlines()
    try:
        table = tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"{path}: its block '# /// script' is no TOML: {error}", hint=hint) from error
    requires, python = table.get("dependencies", []), table.get("requires-python", "")
    if not isinstance(python, str) or not isinstance(requires, list):
        raise ScriptError(f"{path}: its block '# /// script' has values of the wrong kind", hint=hint)
    try:
        texts = tuple(map(str, requires))
        for each in texts:
            parse_requirement_line(each)
    except ValueError as error:
        raise ScriptError(f"{path}: {error}", hint=hint) from error
    return texts, python
