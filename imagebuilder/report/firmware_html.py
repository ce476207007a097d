"""How two images differ, as a page for a browser."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from imagebuilder.model.firmware import Difference
from imagebuilder.model.size import human_size


def difference_html(found: Difference) -> str:
    """One page without scripts, and without anything that it would have to load."""
    environment = Environment(
        loader=PackageLoader("imagebuilder.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = lambda size: human_size(size) if size else ""
    return environment.get_template("difference.html").render(found=found)
