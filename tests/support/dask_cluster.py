"""A Dask cluster on this machine: a real scheduler and real workers, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 60


@dataclass
class DaskCluster:
    """address: the scheduler's. work: where logs and the workers' caches go."""

    address: str
    work: Path
    environment: dict[str, str]
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def start_worker(self, *options: str, cache: str | None = None) -> subprocess.Popen[str]:
        """A worker that is ready."""
        name = cache or f"cache-{len(self.workers)}"
        argv = (
            sys.executable,
            "-m",
            "imagebuilder",
            "worker",
            self.address,
            "--cache",
            str(self.work / name),
        )
        process = subprocess.Popen(
            [*argv, "--cache", str(self.work / name), *options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=(self.work / f"worker-{len(self.workers)}.log").open("w"),
            text=True,
            start_new_session=True,
        )
        self.workers.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("builds for "), (self.work / f"worker-{len(self.workers) - 1}.log").read_text()
        return process


@contextmanager
def dask_cluster(
    work: Path, *, protocol: str = "tcp", environment: dict[str, str] | None = None
) -> Iterator[DaskCluster]:
    """A scheduler without workers. environment: what the processes have besides this one's."""
    work.mkdir(parents=True, exist_ok=True)
    said = work / "scheduler.json"
    env = {**os.environ, **(environment or {})}
    argv = (sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", f"{protocol}://127.0.0.1:0")
    scheduler: subprocess.Popen[str] = subprocess.Popen(
        [*argv, "--no-dashboard", "--scheduler-file", str(said)],
        env=env,
        stdout=subprocess.DEVNULL,
        text=True,
        stderr=(work / "scheduler.log").open("w"),
        start_new_session=True,
    )
    processes: list[subprocess.Popen[str]] = []
    try:
        until = time.monotonic() + SECONDS
        while not said.exists() or not said.read_text().strip():
            assert scheduler.poll() is None, (work / "scheduler.log").read_text()
            assert time.monotonic() < until, (work / "scheduler.log").read_text()
            time.sleep(0.05)
        yield DaskCluster(json.loads(said.read_text())["address"], work, env, processes)
    finally:
        for process in (*processes, scheduler):
            process.send_signal(signal.SIGTERM)
        for process in (*processes, scheduler):
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
