"""What the project's own benchmarks found, as `bench --json` prints it."""

from __future__ import annotations

from imagebuilder.model.base import Many, Model


class BenchmarkPoint(Model):
    """work: how many of the benchmark's unit; seconds: the shortest of some goes."""

    work: int
    seconds: float


class BenchmarkRatio(Model):
    """what: of what to what; value: the ratio, without a unit."""

    what: str
    value: float


class BenchmarkRow(Model):
    """One benchmark. points: of one that grows with its work, which is counted in `unit`, the least first;
    ratios: of one that compares; why: it was not run, "" where it was."""

    name: str
    what: str
    unit: str = ""
    points: Many[BenchmarkPoint] = ()
    ratios: Many[BenchmarkRatio] = ()
    why: str = ""
