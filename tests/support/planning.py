"""What a config comes to, for tests that ask for the plan alone."""

from __future__ import annotations

from imagebuilder.ask import plan_and_budgets
from imagebuilder.config.request import Request
from imagebuilder.log import Log
from imagebuilder.tree.plan import Plan


def plan_image(request: Request, log: Log) -> Plan:
    """The plan of an image."""
    return plan_and_budgets(request, log)[0]
