"""What a config comes to, for tests that ask for the plan alone."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.ask import plan_and_budgets
from imagebuilder.config.request import Request, requests
from imagebuilder.log import Log
from imagebuilder.tree.plan import Plan


def plan_image(request: Request, log: Log) -> Plan:
    """The plan of an image."""
    return plan_and_budgets(request, log)[0]


def tree_request(project: Path, config: str, tree: Path, work: Path) -> Request:
    """A request for the WR740N's image of a config, made with a tree. work: where results and cache go."""
    (asked,) = requests(
        project,
        config,
        board="tplink-tl-wr740n-v4",
        imagebuilder=str(tree),
        output=work / "out",
        cache=work / "cache",
    )
    return asked
