"""Pages for a browser: one file each, with their style and script inside, and nothing that they would have to
load. Text of others is escaped, and the page itself forbids whatever is not part of it (Content Security
Policy, level 3: style and script are named by their SHA-256)."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from imagebuilder.model.size import human_size

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = resources.files("imagebuilder.report") / "templates"


def page(
    template: str, *, styles: tuple[str, ...] = (), rules: str = "", script: str = "", **facts: Any
) -> str:
    """A page of a template that extends base.html. styles: further files of style; rules: further rules of
    this page, made of nothing but our own words and numbers; script: the file of its script."""
    from markupsafe import Markup  # noqa: PLC0415 - for pages alone

    style = "".join(map(_file, ("style.css", *styles))) + rules
    code = _file(script) if script else ""
    policy = ["default-src 'none'", f"style-src '{_digest(style)}'", "img-src data:"]
    policy += [f"script-src '{_digest(code)}'"] if code else []
    policy += ["base-uri 'none'", "form-action 'none'"]
    return (
        environment()
        .get_template(template)
        .render(
            policy="; ".join(policy),
            style=Markup(style),  # noqa: S704 (ours alone)
            script=Markup(code),  # noqa: S704
            **facts,
        )
    )


@cache
def environment() -> Environment:
    """What renders the templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - for pages alone

    made = Environment(
        loader=PackageLoader("imagebuilder.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["size"] = lambda size: human_size(size) if size else ""
    return made


@cache
def _file(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
