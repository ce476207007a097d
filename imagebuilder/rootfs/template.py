"""Jinja2 templates of overlays."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from imagebuilder.config.model_config import VariableValue
from imagebuilder.config.overlay import OverlayError
from imagebuilder.host.confined import BoundsError, confined
from imagebuilder.host.time_zone import posix_rule

# what rendering can raise: jinja2's own errors, and those of the Python below its operators and filters
_FAILURES = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RuntimeError,
)
MAX_TEMPLATE_BYTES = 1 << 20
MAX_RENDERED_BYTES = 8 << 20
_RENDERED = b"\0"  # before a text; an error is JSON


def render(path: Path, raw: bytes, variables: Mapping[str, VariableValue]) -> str:
    """A template's text. raw: its bytes. path: where it lies, for messages. OverlayError, naming file and
    line, for a template that does not render; naming the file for one that takes more time or memory than it
    may, or gives more than MAX_RENDERED_BYTES: `'a' * 3000000000` and loops in loops are quickly written.
    """

    def work() -> bytes:
        try:
            return _RENDERED + _render(path, raw, variables).encode("utf-8", "surrogatepass")
        except OverlayError as error:
            return json.dumps([error.message, error.hint]).encode()

    if len(raw) > MAX_TEMPLATE_BYTES:
        raise OverlayError(f"{path}: a template has at most {MAX_TEMPLATE_BYTES >> 20} MiB")
    try:
        answer = confined(work, MAX_RENDERED_BYTES)
    except BoundsError as error:
        raise OverlayError(
            f"{path}: rendering it {error.what}",
            hint="does it multiply a text, or go through loops within loops?",
        ) from None
    if not answer.startswith(_RENDERED):
        message, hint = json.loads(answer)
        raise OverlayError(message, hint=hint)
    return answer.removeprefix(_RENDERED).decode("utf-8", "surrogatepass")


def _render(path: Path, raw: bytes, variables: Mapping[str, VariableValue]) -> str:
    """The same without bounds.

    A message holds what stands in the template, and nothing that was made of the variables: any of them may
    be a secret, and Python and jinja2 put the values that they complain of into their texts.
    """
    environment = _environment()
    try:
        source = raw.decode("utf-8")
        template = environment.from_string(source)
    except UnicodeDecodeError as error:
        raise OverlayError(f"{path}: a template must be UTF-8 text") from error
    except jinja2.TemplateSyntaxError as error:  # no value is known yet
        raise OverlayError(f"{path}:{error.lineno}: {error.message}") from error
    try:
        return template.render(variables)
    except _FAILURES as error:
        where = f"{path}:{_template_line(error)}"
        name = _unknown_name(error, meta.find_undeclared_variables(environment.parse(source)))
        if name is not None:
            raise OverlayError(f"{where}: '{name}' is undefined", hint="declare it in overlay.toml") from None
        if isinstance(error, jinja2.UndefinedError):
            raise OverlayError(
                f"{where}: the expression asks a value for an attribute or an element that it does not have",
                hint="what it was is not shown, since it may be a secret's value",
            ) from None
        raise OverlayError(f"{where}: the expression fails ({type(error).__name__})") from None


def names_in(raw: bytes) -> frozenset[str]:
    """The variables that a template may look up; none for what is no template, which render() says."""
    environment = _environment()
    environment.globals.clear()  # a variable of such a name (range, dict) wins over jinja2's own
    try:
        return frozenset(meta.find_undeclared_variables(environment.parse(raw.decode("utf-8"))))
    except (UnicodeDecodeError, jinja2.TemplateSyntaxError):
        return frozenset()


def _environment() -> ImmutableSandboxedEnvironment:
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
    environment.filters["posix_rule"] = posix_rule
    return environment


def _unknown_name(error: Exception, names: Iterable[str]) -> str | None:
    """The one among the names in a template's text that the error calls undefined, if it is about a name."""
    if not isinstance(error, jinja2.UndefinedError):
        return None
    return next((name for name in names if error.message == f"{name!r} is undefined"), None)


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
