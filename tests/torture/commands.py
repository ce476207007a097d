"""The commands that are tortured."""

from __future__ import annotations

import shutil

from tests.torture.support import Command
from tests.torture.world import BOARD, World, build_result, content, result_faults


def _common(world: World) -> list[str]:
    return ["--project", str(world.project), "--cache", str(world.cache)]


def _remove(*folders: object) -> None:
    for folder in folders:
        shutil.rmtree(str(folder), ignore_errors=True)


def _build(world: World, variant: str) -> list[str]:
    tree = ["--imagebuilder", str(world.tree(variant))]
    return ["build", "mine", *tree, "--output", str(world.out), *_common(world)]


def _build_twice(world: World, variant: str) -> list[str]:
    return [*_build(world, variant), "--check-reproducible"]


def _build_released(world: World, variant: str) -> list[str]:
    return ["build", f"released-{variant}", "--output", str(world.out), *_common(world)]


def _nothing(world: World, _variant: str) -> None:
    _remove(world.out, world.cache, world.data)


def _mine(world: World) -> dict[str, str]:
    return build_result(world.result())


def _mine_faults(world: World) -> list[str]:
    return result_faults(world.result())


def _released(world: World) -> dict[str, str]:
    found = {}
    for place in world.out.glob("released-*"):
        found.update(build_result(place / BOARD))
    return found


def _released_faults(world: World) -> list[str]:
    return [fault for place in world.out.glob("released-*") for fault in result_faults(place / BOARD)]


def _lock(world: World, variant: str) -> list[str]:
    return ["lock", "mine", "--imagebuilder", str(world.tree(variant)), *_common(world)]


def _fetch(world: World, variant: str) -> list[str]:
    return ["fetch", f"released-{variant}", *_common(world)]


def _init(world: World, variant: str) -> list[str]:
    answers = ["--board", BOARD, "--hostname", f"host-{variant}", "--ssh-key", ""]
    return ["init", "fresh", *answers, "--project", str(world.project)]


def _add(world: World, variant: str) -> list[str]:
    names = ["tplink_tl-wr741nd-v4", "--name", "added", "--ram", "32M" if variant == "a" else "64M", "--force"]
    return ["boards", "add", *names, "--imagebuilder", str(world.tree(variant)), *_common(world)]


def _kit(world: World, variant: str) -> list[str]:
    return ["kit", str(world.cache), f"1.{variant}"]


def _results_there(world: World, _variant: str) -> None:
    """Two results, of which the second was copied from the first build of this world."""
    kept = world.root / "kept"
    if not kept.exists():
        return
    _remove(world.out)
    shutil.copytree(kept, world.out, symlinks=True)


def _extract(world: World, variant: str) -> list[str]:
    return ["extract", str(world.tree(variant) / "sysupgrade.bin"), str(world.out / "taken")]


BUILD = Command("build", _build, _mine, faults=_mine_faults)
COMMANDS = (
    BUILD,
    Command("build, the first", _build, _mine, _nothing, _mine_faults),
    Command("build --check-reproducible", _build_twice, _mine, faults=_mine_faults),
    Command("build of a release", _build_released, _released, _nothing, _released_faults),
    Command("lock", _lock, lambda world: content([world.project / "locks"])),
    Command(
        "lock, the first",
        _lock,
        lambda world: content([world.project / "locks/mine.lock"]),
        lambda world, _: _remove(world.project / "locks", world.cache),
    ),
    Command("fetch", _fetch, lambda _world: {}, _nothing),
    Command(
        "init",
        _init,
        lambda world: content([world.project / "configs/fresh.toml"]),
        lambda world, _: (world.project / "configs/fresh.toml").unlink(missing_ok=True),
        once=True,
    ),
    Command("boards add", _add, lambda world: content([world.project / "boards/added.toml"])),
    Command("kit", _kit, lambda world: content((world.cache / "kits").glob("[0-9a-f]*"))),
    Command(
        "extract",
        _extract,
        lambda world: content([world.out / "taken"]),
        lambda world, _: _remove(world.out),
        once=True,
    ),
)
