"""What of `bench` compares two things: ratios, each found in one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imagebuilder.ask import look_at_tree
from imagebuilder.config.library import Library
from imagebuilder.host.fs import user_cache
from imagebuilder.host.handover import temporary_folder
from imagebuilder.log import Log
from imagebuilder.model.benchmark import BenchmarkRatio
from imagebuilder.tree.tree import choose_profile
from imagebuilder.trial.machines import booted_image
from imagebuilder.trial.session import BootAsked, boot_session
from tests.benchmarks import build_overhead, plan_speed, size_prediction
from tests.benchmarks.growing import PROJECT, Given, demo_image, seconds

ROUNDS = 3
MANY = 10_000  # packages, as the feeds of a release have


def pipeline(given: Given) -> Iterator[BenchmarkRatio]:
    """Builds and a plan against a bare make image."""
    found = build_overhead.measure(given.tree, given.board, rounds=ROUNDS)
    yield BenchmarkRatio(what="build without the trial / bare make", value=found.build / found.make)
    yield BenchmarkRatio(what="build with the trial / bare make", value=found.with_trial / found.make)
    yield BenchmarkRatio(what="build with the trial / build without it", value=found.with_trial / found.build)
    yield BenchmarkRatio(what="plan / bare make", value=found.plan / found.make)


def plan_kept(given: Given) -> Iterator[BenchmarkRatio]:
    """A plan with the package lists that an earlier one has read against one that reads them."""
    with temporary_folder("scratch") as folder:
        tree, _ = plan_speed.copied(given.tree, folder, MANY)
        cache = folder / "cache"

        def planned() -> float:
            return plan_speed.planned(tree, cache, build_overhead.CONFIG, given.board)

        planned()  # the tree's own packages are read once
        cold, kept = [], []
        for _ in range(ROUNDS):
            plan_speed.forget_indexes(cache)
            cold.append(planned())
            kept.append(planned())
    yield BenchmarkRatio(what="plan again / plan at first, of 10,000 packages", value=min(kept) / min(cold))


def accuracy(given: Given) -> Iterator[BenchmarkRatio]:
    """The root file system as it is planned and as it is built, the worst of some images: those of the kit,
    or the board's with what a given tree installs by default, and with Python sources besides."""
    cases: tuple[size_prediction.Case, ...] = size_prediction.KIT
    if given.imagebuilder is not None:
        board = Library(PROJECT).board(given.board)
        profile = choose_profile(board, look_at_tree(str(given.tree), user_cache(), Log())).name
        cases = ((profile, "", False), (profile, "", True))
    found = list(size_prediction.all_predicted(given.tree, cases))
    for what, errors in (
        ("planned from the package lists", [each.errors[0] for each in found]),
        ("planned with the packages fetched", [each.errors[1] for each in found]),
    ):
        worst = max(errors, key=abs)
        told = f"root file system {what} / built, the worst of {len(found)} images"
        yield BenchmarkRatio(what=told, value=1 + worst)


def boot_ways(_given: Given) -> Iterator[BenchmarkRatio]:
    """Starting the demo's image to its prompt in two ways, and all that `boot` does with it."""
    with temporary_folder("scratch") as folder:
        image = demo_image(folder)
        kernel, uefi = _to_prompt(image, kernel=True), _to_prompt(image, kernel=False)
        whole = seconds(lambda: boot_session(BootAsked(image), Log()))
    yield BenchmarkRatio(what="to the prompt by UEFI / by its kernel", value=uefi / kernel)
    yield BenchmarkRatio(what="all of `boot` / to the prompt by UEFI", value=whole / uefi)


def _to_prompt(image: Path, *, kernel: bool) -> float:
    with booted_image(image, Log(), way="kernel" if kernel else "UEFI") as guest:
        return guest.boot_seconds
