"""What a single script says of itself: its version, and what it requires (PEP 723)."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.config.toml import parse_toml
from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.model.python_source import source_as_utf8
from imagebuilder.python.apps.apps import MAX_SOURCE_BYTES
from imagebuilder.python.imports.imports import parse_source

_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class ScriptError(UserError):
    """A script that cannot be packaged."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script. data: its source as UTF-8; version: what it assigns to __version__, 0 if nothing; summary:
    its docstring's first line; requires: requirements; requires_python: '' for any."""

    data: bytes
    version: Version
    summary: str = ""
    requires: tuple[str, ...] = ()
    requires_python: str = ""


def read_script(path: Path, python: tuple[int, int]) -> Script:
    """A script for Python (major, minor). ScriptError; SourceError for what is no such Python;
    FaultsError for a block `# /// script` that is no TOML."""
    try:
        data = read_plain(path, MAX_SOURCE_BYTES)
    except PlainFileError as error:
        raise ScriptError(error.message, hint="python.apps names it, and it is no script") from error
    return script_of(data, path, python)


def script_of(data: bytes, path: Path, python: tuple[int, int]) -> Script:
    """The same of a script's bytes. path: for messages."""
    tree = parse_source(data, str(path), python)
    data = source_as_utf8(data)
    requires, requires_python = _metadata(path, data.decode("utf-8"))
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
    text = text.replace("\r\n", "\n")
    blocks = list(_BLOCK.finditer(text))
    if not blocks:
        return (), ""
    hint = "see PEP 723: dependencies = [...], requires-python = '>=3.9'"
    if len(blocks) > 1:
        line = text.count("\n", 0, blocks[1].start()) + 1
        raise ScriptError(f"{path}:{line}: it has more than one block '# /// script'", hint=hint)
    start = text.count("\n", 0, blocks[0].start("content"))
    lines = blocks[0]["content"].splitlines()
    inner = (line.removeprefix("#").removeprefix(" ") for line in lines)
    # empty lines before it, so that lines are counted as they stand in the script
    toml = parse_toml("\n".join((*[""] * start, *inner)).encode("utf-8"), path)
    requires, python = toml.values.get("dependencies", []), toml.values.get("requires-python", "")
    place = f"{path}:{start}"
    if not isinstance(python, str) or not isinstance(requires, list):
        raise ScriptError(f"{place}: its block '# /// script' has values of the wrong kind", hint=hint)
    try:
        texts = tuple(map(str, requires))
        for each in texts:
            parse_requirement_line(each)
    except ValueError as error:
        raise ScriptError(f"{place}: {error}", hint=hint) from error
    return texts, python
