"""Jinja2 templates of overlays."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from imagebuilder.config.model_config import VariableValue
from imagebuilder.config.overlay import OverlayError


def render(path: Path, raw: bytes, variables: Mapping[str, VariableValue]) -> str:
    """A template's text. raw: its bytes. path: where it lies, for messages. OverlayError, naming file and
    line, for a template that does not render."""
    # not HTML: what is made here is shell, uci and Python, which have filters of their own
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,  # a line that holds only a block leaves no empty line
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters["sh"] = _quoted_for_shell
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
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        # not the error's text: it may hold a secret's value
        where = f"{path}:{_template_line(error)}"
        raise OverlayError(f"{where}: the expression fails ({type(error).__name__})") from None


def _quoted_for_shell(value: object) -> str:
    """One word for a shell, whatever it holds; a list becomes as many words; true and false become 1 and 0,
    as uci has them."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list | tuple):
        return " ".join(_quoted_for_shell(each) for each in value)
    return shlex.quote(str(value))


def _template_line(error: BaseException) -> int:
    """The template's line: the innermost frame of the traceback that lies in template code."""
    return next(reversed(list(_template_lines(error))), 0)


def _template_lines(error: BaseException) -> Iterator[int]:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            yield trace.tb_lineno
        trace = trace.tb_next
