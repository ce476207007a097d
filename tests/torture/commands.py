"""The commands that are tortured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from imagebuilder.host.handover import is_temporary
from imagebuilder.kit.feed import write_index
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.site.facts import SiteState
from tests.support.download_server import Server, Signer
from tests.support.result_maker import MadeResult
from tests.support.site_check import site_faults
from tests.torture.support import Command, Victim
from tests.torture.world import BOARD, World, add_config, build_result, content, released, result_faults

SIGNER = Signer()


def _common(world: World) -> list[str]:
    return ["--project", str(world.project), "--cache", str(world.cache)]


def _remove(*folders: object) -> None:
    for folder in folders:
        shutil.rmtree(str(folder), ignore_errors=True)


def _current(world: World, variant: str) -> list[str]:
    """The cache has what each variant gives, once both were built."""
    tree = ["--imagebuilder", str(world.tree(variant))]
    return ["build", "mine", *tree, "--output", str(world.out), *_common(world)]


def _build(world: World, variant: str) -> list[str]:
    return [*_current(world, variant), "--rebuild"]


def _build_twice(world: World, variant: str) -> list[str]:
    return [*_build(world, variant), "--check-reproducible"]


def _build_both(world: World, variant: str) -> list[str]:
    """One command, two images; between them one is new and the other one is old, and both are whole."""
    command, config, *rest = _build(world, variant)
    return [command, config, "other", *rest]


def _build_at_once(world: World, variant: str) -> list[str]:
    return [*_build_both(world, variant), "-j", "2"]


def _another_config(world: World, _victim: Victim) -> None:
    add_config(world, "other", "")


def _other(world: World) -> dict[str, str]:
    return build_result(world.result("other"))


def _both_faults(world: World) -> list[str]:
    return [*_mine_faults(world), *result_faults(world.result("other"))]


def _build_released(world: World, variant: str) -> list[str]:
    where = ["--output", str(world.out), *_common(world)]
    return ["build", f"released-{variant}", *where, "--rebuild"]


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


def _compare(world: World, variant: str) -> list[str]:
    tree = ["--imagebuilder", str(world.tree(variant)), "--variants", "none"]
    return ["compare", "mine", *tree, "--page", str(world.out / "compared.html"), *_common(world)]


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


def _service(world: World, variant: str) -> list[str]:
    places = (
        world.project,
        world.out / "state",
        world.cache,
        world.tree(variant),
        world.root / "acknowledged",
    )
    return ["service", *map(str, places)]


def _nothing_served(world: World, _variant: str) -> None:
    _remove(world.out)
    (world.root / "acknowledged").unlink(missing_ok=True)


def _given_out(world: World) -> dict[str, str]:
    """What clients of the build server can have: results whose outcome is written down."""
    state, found = world.out / "state", {}
    for outcome in state.glob("outcomes/*.json"):
        found.update(build_result(state / "store" / outcome.stem / BOARD))
    return found


def _service_faults(world: World) -> list[str]:
    """A request that was acknowledged and is lost; a result that is not whole; a record that is none."""
    state, told = world.out / "state", world.root / "acknowledged"
    numbers = told.read_text().split() if told.exists() else []
    faults = [f"{each} is lost" for each in numbers if not (state / f"requests/{each}.json").exists()]
    for record in (*state.glob("requests/*.json"), *state.glob("outcomes/*.json")):
        try:
            json.loads(record.read_text())
        except ValueError:
            faults.append(f"{record} is no record")
    return [*faults, *(fault for place in state.glob(f"store/*/{BOARD}") for fault in result_faults(place))]


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
        where = ["--output", str(world.out), *_common(world)]
        return ["build", "mine", "--imagebuilder", str(tree), *where, "--rebuild"]

    return Command("build with a genuine tree", build, _mine, named, _mine_faults)


SITE_BASE = MadeResult(config="mine", size=1)


def _published(world: World, victim: Victim) -> None:
    """Results of two variants, and a site with builds before them, kept to be laid again."""
    for variant in ("a", "b"):
        SITE_BASE.but(content=variant).write(world.root / f"results-{variant}")
        SITE_BASE.but(content=variant, config="other").write(world.root / f"results-{variant}")
    for night in ("first", "second", "third"):
        SITE_BASE.but(content=night).write(world.root / "results-base")
        ended = victim.run(["publish", str(world.root / "results-base"), *_to_site(world)])
        assert ended.code == 0, ended.said
    shutil.copytree(world.site, world.root / "kept-site", symlinks=True)


def _to_site(world: World) -> list[str]:
    """Every build turns one out."""
    return [str(world.site), "--keep-builds", "2", "--url", "https://firmware.example.org"]


def _publish(world: World, variant: str) -> list[str]:
    return ["publish", str(world.root / f"results-{variant}"), *_to_site(world)]


def _site_again(world: World, _variant: str) -> None:
    _remove(world.site)
    shutil.copytree(world.root / "kept-site", world.site, symlinks=True)
    (world.site / "robots.txt").write_text("somebody else's")


def _site_shown(world: World) -> dict[str, str]:
    """The images that are offered, by config; times and numbers differ from run to run."""
    if not (world.site / "boards.json").exists():
        return {}
    state = SiteState.model_validate_json((world.site / "boards.json").read_text())
    shown = {
        f"{each.config} {image.type}": image.sha256 for each in state.listings for image in each.newest.images
    }
    return {**shown, **{f"{each.config} kept": str(len(each.kept)) for each in state.listings}}


def _site_broken(world: World) -> list[str]:
    mine = (world.site / "robots.txt").exists() or not world.site.exists()
    return [*site_faults(world.site), *([] if mine else ["robots.txt is gone"])]


def _no_site(world: World, _variant: str) -> None:
    _remove(world.site)


def _first_broken(world: World) -> list[str]:
    """A first site is not seen before it is whole."""
    return site_faults(world.site) if (world.site / "index.html").exists() else []


def _site_left(world: World) -> list[str]:
    own = world.site / ".site"
    names = [place for folder in (world.site, own, own / "generations") for place in folder.iterdir()]
    names += list((own / "builds").glob("*/*/*"))
    left = [str(place) for place in names if is_temporary(place.name)]
    generations = sorted((own / "generations").iterdir())
    states = [SiteState.model_validate_json((each / "boards.json").read_text()) for each in generations]
    kept = {number for state in states for listing in state.listings for number in listing.kept}
    left += [str(place) for place in (own / "builds").glob("*/*/*") if place.name not in kept]
    return [*left, *([f"{len(generations)} generations"] if len(generations) > 2 else [])]


CLEAN = Command("clean", _clean(), _no_result, _laid_again, _all_faults, _two_results)
COMMANDS = (
    BUILD,
    Command("build, the first", _build, _mine, _nothing, _mine_faults),
    Command("build --check-reproducible", _build_twice, _mine, faults=_mine_faults),
    Command("build of two configs", _build_both, _other, faults=_both_faults, prepare=_another_config),
    Command(
        "build of two configs at once", _build_at_once, _other, faults=_both_faults, prepare=_another_config
    ),
    Command("build of a release", _build_released, _released, _nothing, _released_faults),
    Command("lock", _lock, lambda world: content([world.project / "locks/mine.lock"])),
    Command(
        "lock, the first",
        _lock,
        lambda world: content([world.project / "locks/mine.lock"]),
        lambda world, _: _remove(world.project / "locks", world.cache),
    ),
    Command(
        "compare",
        _compare,
        lambda world: content([world.out / "compared.html"]),
        lambda world, _: _remove(world.out),
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
    Command("a build server", _service, _given_out, _nothing_served, _service_faults),
    Command("extract into a folder", _extract, _taken, _empty_folder, once=True),
    Command("publish", _publish, _site_shown, _site_again, _site_broken, _published, left=_site_left),
    Command(
        "publish, the first", _publish, _site_shown, _no_site, _first_broken, _published, left=_site_left
    ),
    CLEAN,
    Command("clean --fetched", _clean("--fetched"), _no_result, _laid_again, _all_faults, _two_results),
    Command("clean --all", _clean("--all"), _no_result, _laid_again, _all_faults, _two_results),
    Command("build from the cache", _current, _mine, faults=_mine_faults),
)
