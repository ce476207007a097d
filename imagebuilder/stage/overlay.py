"""Overlays: files and Jinja2 templates become the tree that is laid over the root file system."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from imagebuilder.errors import UserError
from imagebuilder.model.config import VariableValue
from imagebuilder.model.filetree import EMPTY, Entry, FileTree, file_of
from imagebuilder.model.overlay import Overlay, Variable
from imagebuilder.stage.filetree import content, read_tree

TEMPLATE_ENDING = ".j2"
EXECUTABLE_MODE = 0o755
PLAIN_MODE = 0o644

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": list,
}


class OverlayError(UserError):
    """An overlay that cannot be rendered with what the config gives it."""


def overlay_tree(overlay: Overlay, folder: Path, values: Mapping[str, VariableValue]) -> FileTree:
    """The overlay's files with its templates rendered, in modes that do not depend on the host.

    folder: the overlay's folder; its files lie in `files/`. OverlayError for a variable that is unknown,
    missing or of a wrong type, and for a template that does not render (naming file and line).
    """
    variables = variable_values(overlay, values)
    root = folder / "files"
    source = read_tree(root) if root.is_dir() else EMPTY
    rendered: dict[str, Entry] = {}
    for path, entry in source.items():
        if entry.kind == "file" and path.endswith(TEMPLATE_ENDING):
            place = path.removesuffix(TEMPLATE_ENDING)
            if place in source:
                raise OverlayError(f"overlay '{overlay.name}' holds both {place} and {path}")
            text = _render(root / path[1:], content(entry), variables)
            rendered[place] = file_of(text.encode(), _mode(entry))
        else:
            rendered[path] = entry.with_mode(_mode(entry))
    return FileTree(rendered)


def combined(trees: Sequence[tuple[str, FileTree]]) -> FileTree:
    """Overlays in their order, each with its name, as one tree. OverlayError for a file that two bring."""
    whole = EMPTY
    owners: dict[str, str] = {}
    for name, tree in trees:
        for path, entry in tree.items():
            if entry.kind == "dir":
                continue
            if path in owners:
                raise OverlayError(
                    f"the overlays '{owners[path]}' and '{name}' both bring {path}",
                    hint="take one of them out of the config, or the file out of one of them",
                )
            owners[path] = name
        whole = whole.merged(tree)
    return whole


def variable_values(overlay: Overlay, values: Mapping[str, VariableValue]) -> dict[str, VariableValue]:
    """Every declared variable's value: the config's, or its default. OverlayError as above."""
    for name in values:
        if name not in overlay.variables:
            near = difflib.get_close_matches(name, overlay.variables, n=1)
            known = ", ".join(sorted(overlay.variables)) or "none"
            raise OverlayError(
                f"overlay '{overlay.name}' has no variable '{name}'",
                hint=f"did you mean '{near[0]}'?" if near else f"its variables: {known}",
            )
    return {
        name: _value(overlay.name, name, variable, values.get(name, variable.default))
        for name, variable in overlay.variables.items()
    }


def _value(overlay: str, name: str, variable: Variable, value: VariableValue | None) -> VariableValue:
    if value is None:
        raise OverlayError(
            f"overlay '{overlay}' wants the variable '{name}' ({variable.type})",
            hint=variable.description or f"give it in the config: variables = {{ {name} = … }}",
        )
    wanted = _TYPES[variable.type]
    if not isinstance(value, wanted) or (isinstance(value, bool) and variable.type != "boolean"):
        raise OverlayError(
            f"overlay '{overlay}': the variable '{name}' must be a {variable.type},"
            f" not {type(value).__name__}"
        )
    return value


def _mode(entry: Entry) -> int:
    """0755 for folders and whatever its author made executable, 0644 else: never the author's umask."""
    return EXECUTABLE_MODE if entry.kind == "dir" or entry.mode & 0o111 else PLAIN_MODE


def _render(path: Path, raw: bytes, variables: Mapping[str, VariableValue]) -> str:
    # not HTML: what is made here is shell, uci and Python, which have filters of their own
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    environment.filters["py"] = repr
    try:
        return environment.from_string(raw.decode("utf-8")).render(variables)
    except jinja2.TemplateSyntaxError as error:
        raise OverlayError(f"{path}:{error.lineno}: {error.message}") from error
    except jinja2.UndefinedError as error:
        hint = "declare it in overlay.toml" if "is undefined" in str(error) else None
        raise OverlayError(f"{path}:{_template_line(error)}: {error.message}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise OverlayError(f"{path}: a template must be UTF-8 text") from error


def _template_line(error: BaseException) -> int:
    """The template's line: the innermost frame of the traceback that lies in template code."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
