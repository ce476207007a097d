"""The commands that are tortured."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from imagebuilder.kit.feed import write_index
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import FileTree, file_of
from tests.support.download_server import Server, Signer
from tests.torture.support import Command, Victim
from tests.torture.world import BOARD, World, add_config, build_result, content, released, result_faults

SIGNER = Signer()


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


def _build_both(world: World, variant: str) -> list[str]:
    """One command, two images; between them one is new and the other one is old, and both are whole."""
    command, config, *rest = _build(world, variant)
    return [command, config, "other", *rest]


def _another_config(world: World, _victim: Victim) -> None:
    add_config(world, "other", "")


def _other(world: World) -> dict[str, str]:
    return build_result(world.result("other"))


def _both_faults(world: World) -> list[str]:
    return [*_mine_faults(world), *result_faults(world.result("other"))]


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


def _new(world: World, variant: str) -> list[str]:
    return ["new", str(world.project / "made"), "--board", BOARD if variant == "a" else "qemu-x86-64"]


def _import(world: World, variant: str) -> list[str]:
    call = ["make", "image", "PROFILE=tplink_tl-wr740n-v4", f"EXTRA_IMAGE_NAME={variant}"]
    return ["import", "--name", "brought", "--project", str(world.project), "--", *call]


def _add(world: World, variant: str) -> list[str]:
    facts = ["--name", "added", "--ram", "32M" if variant == "a" else "64M", "--force"]
    tree = ["--imagebuilder", str(world.tree(variant))]
    return ["boards", "add", "tplink_tl-wr741nd-v4", *facts, *tree, *_common(world)]


def _kit(world: World, variant: str) -> list[str]:
    return ["kit", str(world.cache), f"1.{variant}"]


def _two_results(world: World, victim: Victim) -> None:
    """Two results and a full cache, kept to be laid again."""
    for argv in (_build(world, "a"), _build_released(world, "a")):
        ended = victim.run(argv)
        assert ended.code == 0, ended.said
    for name in ("out", "cache"):
        shutil.copytree(world.disk / name, world.root / f"kept-{name}", symlinks=True)


def _laid_again(world: World, _variant: str) -> None:
    for name in ("out", "cache"):
        _remove(world.disk / name)
        shutil.copytree(world.root / f"kept-{name}", world.disk / name, symlinks=True)


def _clean(*more: str) -> Callable[[World, str], list[str]]:
    def argv(world: World, _variant: str) -> list[str]:
        return ["clean", "--output", str(world.out), "--cache", str(world.cache), *more]

    return argv


def _all_faults(world: World) -> list[str]:
    places = [place for place in world.out.glob("*/*") if place.is_dir() and not place.name.startswith(".")]
    return [fault for place in places for fault in result_faults(place)]


def _served(world: World, _victim: Victim) -> None:
    """A server on loopback with the release, and a feed with packages; it ends with this process."""
    server = Server(world.root / "www")
    for variant in ("a", "b"):
        shutil.copytree(world.root / f"mirror-{variant}", server.root / variant)
        (archive,) = (server.root / variant).rglob("*.tar.xz")
        feed = server.root / f"feed-{variant}"
        facts = [Package(f"hello{number}", "1") for number in range(3)]
        laid = [
            write_ipk(feed, each, FileTree({f"/usr/bin/{each.name}": file_of(variant.encode())}), epoch=1)
            for each in facts
        ]
        write_index(feed, [each.package for each in laid])
        (feed / "Packages.sig").write_bytes(SIGNER.sign((feed / "Packages").read_bytes()))
        add_config(
            world,
            f"served-{variant}",
            released(f"{server.url}/{variant}", archive)
            + f'[packages]\nadd = ["hello0", "hello1", "hello2"]\n'
            f'[[feed]]\nname = "office"\nurl = "{server.url}/feed-{variant}"\nkey = "office.pub"\n',
        )
    (world.project / "office.pub").write_bytes(SIGNER.key_file())


def _fetch_served(world: World, variant: str) -> list[str]:
    return ["fetch", f"served-{variant}", *_common(world)]


def _extract(world: World, variant: str) -> list[str]:
    return ["extract", str(world.tree(variant) / "sysupgrade.bin"), str(world.out / "taken")]


def _taken(world: World) -> dict[str, str]:
    """Nothing as long as there are no parts, which come last."""
    taken = world.out / "taken"
    return content([taken / "parts", taken / "rootfs"]) if (taken / "parts").exists() else {}


def _empty_folder(world: World, _variant: str) -> None:
    _remove(world.out)
    (world.out / "taken").mkdir(parents=True)


def _no_result(_world: World) -> dict[str, str]:
    return {}


BUILD = Command("build", _build, _mine, faults=_mine_faults)


def genuine(tree: Path) -> Command:
    """A build with a genuine tree; the images' names tell the variants apart."""

    def named(world: World, variant: str) -> None:
        add_config(world, "mine", f'[image]\nextra_name = "{variant}"\n')

    def build(world: World, _variant: str) -> list[str]:
        return ["build", "mine", "--imagebuilder", str(tree), "--output", str(world.out), *_common(world)]

    return Command("build with a genuine tree", build, _mine, named, _mine_faults)


CLEAN = Command("clean", _clean(), _no_result, _laid_again, _all_faults, _two_results)
COMMANDS = (
    BUILD,
    Command("build, the first", _build, _mine, _nothing, _mine_faults),
    Command("build --check-reproducible", _build_twice, _mine, faults=_mine_faults),
    Command("build of two configs", _build_both, _other, faults=_both_faults, prepare=_another_config),
    Command("build of a release", _build_released, _released, _nothing, _released_faults),
    Command("lock", _lock, lambda world: content([world.project / "locks/mine.lock"])),
    Command(
        "lock, the first",
        _lock,
        lambda world: content([world.project / "locks/mine.lock"]),
        lambda world, _: _remove(world.project / "locks", world.cache),
    ),
    Command("fetch", _fetch, _no_result, _nothing),
    Command("fetch from a server", _fetch_served, _no_result, _nothing, prepare=_served),
    Command(
        "init",
        _init,
        lambda world: content([world.project / "configs/fresh.toml"]),
        lambda world, _: (world.project / "configs/fresh.toml").unlink(missing_ok=True),
        once=True,
    ),
    Command(
        "new",
        _new,
        lambda world: content([world.project / "made/configs/home.toml"]),
        lambda world, _: _remove(world.project / "made"),
        once=True,
    ),
    Command(
        "import",
        _import,
        lambda world: content([world.project / "configs/brought.toml"]),
        lambda world, _: (world.project / "configs/brought.toml").unlink(missing_ok=True),
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
    Command("extract into a folder", _extract, _taken, _empty_folder, once=True),
    CLEAN,
    Command("clean --fetched", _clean("--fetched"), _no_result, _laid_again, _all_faults, _two_results),
    Command("clean --all", _clean("--all"), _no_result, _laid_again, _all_faults, _two_results),
)
