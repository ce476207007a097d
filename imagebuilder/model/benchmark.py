"""What the project's own benchmarks found, as `bench --json` prints it."""

from __future__ import annotations

from imagebuilder.model.base import Many, Model


class BenchmarkPoint(Model):
    """work: how many of the benchmark's unit; seconds: the shortest of some goes."""

    work: int
    seconds: float


class BenchmarkGap(Model):
    """A step of the scale that a benchmark leaves out. work: how many of its unit; why: in words."""

    work: int
    why: str


class BenchmarkRatio(Model):
    """what: of what to what; value: the ratio, without a unit."""

    what: str
    value: float


class BenchmarkRow(Model):
    """One benchmark. points: of one that grows with its work, which is counted in `unit`, the least first;
    left_out: steps of that scale which it does not take; ratios: of one that compares; fault: why it did not
    come to its end, "" where it did. What it had found until then is there."""

    name: str
    what: str
    unit: str = ""
    points: Many[BenchmarkPoint] = ()
    left_out: Many[BenchmarkGap] = ()
    ratios: Many[BenchmarkRatio] = ()
    fault: str = ""
