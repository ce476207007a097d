"""Every command that the README or a guide in docs/ shows is run, in a project with the small tree and a
server of the tests' own: what stands in capitals there is filled in. What cannot be run here is listed, with
the reason, and whatever is not listed is run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.config.releases import shipped_releases
from imagebuilder.host.fs import user_cache
from imagebuilder.trust.signing_key import OWN, PUBLIC
from tests.cli.test_boards_add import IMAGE_MAKEFILE
from tests.conftest import make_small_tree
from tests.support.download_server import Server, Signer, Site
from tests.support.result_maker import MadeResult
from tests.test_documents import (
    CODE,
    DOCUMENTS,
    FIVE_MINUTES,
    GENERATED,
    MENTIONED,
    NAMES,
    README,
    UsageError,
    calls_in,
    commands_of,
    lines_of,
    parsed,
    without_blocks,
    words_of,
)

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
OTHER = "tplink_tl-wr741nd-v4"  # the small tree's second device


def plain(call: str) -> str:
    """A command without the comment behind it."""
    return re.sub(r"\s+#.*", "", call).strip()


RELEASE = "24.10.4"  # which docs/boards.md names; the newest of its series is another
FIVE = [call for line in lines_of(README, below=FIVE_MINUTES) for call in calls_in(line)]
# what is not run here, and why: each is still in a document
NOT_HERE = {
    **dict.fromkeys(
        ("test", "test --imagebuilder PATH", "test -k overlay -n 0", "test --lowest", "test --as-user"),
        "runs these tests",
    ),
    "test --torture tests/torture": "runs tests for an hour or two",
    "worker tls://farm.example:8786 -j 4": "runs until it is stopped: tests/fleet/test_cluster.py",
    "build --all --scheduler tls://farm.example:8786": "wants a cluster: tests/fleet/test_cluster.py",
    "serve --builder --config home": "runs until it is stopped: tests/service/test_process.py",
    "bench": "takes minutes: tests/cli/test_bench.py runs parts",
    "bench --only pipeline --imagebuilder TREE": "wants a genuine tree",
    **dict.fromkeys(
        ("boot CONFIG", "boot CONFIG --interactive", "boot CONFIG --forward 8080:80", "boot IMAGE"),
        "boots a machine, or wants a terminal: tests/trial/test_session.py, tests/whole/test_boot_command.py",
    ),
    "serve SITE": "runs until it is stopped: tests/site/test_serve.py",
    **{plain(call): "tests/test_documents.py runs the five minutes" for call in FIVE},
}
# by what this machine lacks; the small tree has no kernels, and its programs are none
CODES = {"doctor": {0, 2}, "boards check": {0, 2}, "trial": {2}}
CALLS = [
    (path.name, call)
    for path in DOCUMENTS
    for call in dict.fromkeys(commands_of(path))
    if plain(call) not in NOT_HERE
]
# what documents show of other programs, with the test that does it, or the reason why none does
OTHERS = {
    "pipx install .": "tests/whole/test_installed.py::test_pip_makes_and_installs_it",
    "pip install openwrt_python_imagebuilder-0.1.0-py3-none-any.whl": "tests/whole/test_installed.py"
    "::test_pip_makes_and_installs_it",
    "python -m imagebuilder.cli.manual md > docs/commands.md": "tests/cli/test_manual.py"
    "::test_the_page_of_commands_is_what_they_declare",
    "python -m imagebuilder.cli.manual man > docs/owrt-python.1": "tests/cli/test_manual.py"
    "::test_the_man_page_is_what_they_declare",
    "pipx install --force WHEEL": "wants pipx, of several versions",
    "pipx install --force --pip-args=--force-reinstall WHEEL": "wants pipx, of several versions",
    "pip install --force-reinstall WHEEL": "wants a package index",
    "pipx install --force .": "wants pipx, of several versions",
    "pip install 'openwrt-python-imagebuilder[server]'": "wants a package index",
    'pipx install "openwrt-python-imagebuilder[dask]"': "wants pipx and a package index",
    "dask scheduler --port 8786": "runs until it is stopped: tests/support/dask_cluster.py starts one",
    "rsync -a --copy-links --exclude /.site SITE/ HOST:www/": "wants another host",
    "podman build -t owrt-python .": "wants a container engine",
    'podman run --rm --privileged -v "$PWD:/work" owrt-python build home': "wants a container engine",
    'pip install -e ".[docs]"': "wants a package index",
    "mkdocs build --strict": "wants what that installs",
    "sudo python3 tests/machines/fresh_debian.py": "wants root, Debian's servers, and an hour",
    "ssh router opkg list-installed": "wants a router; what reads its output is run",
}
OTHER_PROGRAMS = re.compile(r"(?:pipx?|python3?|podman|docker|mkdocs|sudo|ssh|scp|apt|apt-get|curl|wget) \S")


@dataclass(frozen=True)
class Ground:
    """A project with the configs that the guides name, a built image, and what its commands are run with."""

    folder: Path
    image: Path
    settings: dict[str, str]

    def __call__(
        self, words: list[str], given: str = "", cache: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        own = {} if cache is None else {"XDG_CACHE_HOME": str(cache)}
        return subprocess.run(
            [sys.executable, "-P", "-m", "imagebuilder", *words],
            cwd=self.folder,
            env={**self.settings, **own},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def filled(self, call: str) -> list[str]:
        """The call's words, with something for each placeholder; what is in brackets is left out."""
        tree = str(self.folder.parent / "ib")
        call = re.sub(r" \[[^\]]*\]", "", call).replace("--imagebuilder PATH", f"--imagebuilder {tree}")
        call = call.replace("~/ib", tree).replace("tl-mr3020-v1", OTHER).replace("--ram 32M", "--force")
        if call.startswith("import -- make"):
            call = call.replace("PROFILE=tl-wr740n-v4", "PROFILE=tplink_tl-wr740n-v4")
        values = {
            "IMAGE": str(self.image),
            "OUT": str(self.folder.parent / "results"),
            "SITE": str(self.folder.parent / "published"),
            "OLD": str(self.image),
            "NEW": str(self.image),
            "BOARD": BOARD,
            "CONFIG": "home",
            "PACKAGE": "busybox",
            "WORD…": "python3",
            "FOLDER": str(self.image.parent / f"built/home/{BOARD}") if call.startswith("verify") else "made",
            "NAME": "fresh" if call.startswith("init") else "home",
        }
        words = [values.get(word, word) for word in words_of(call.replace("build …", "build home"))]
        if words == ["init", "fresh"]:  # nobody is there to ask
            return [*words, "--board", BOARD]
        return [*words, "--help"] if MENTIONED.fullmatch(" ".join(words)) and not complete(words) else words


def complete(words: list[str]) -> bool:
    """Whether a command does something with no more than these words."""
    try:
        parsed(words)
    except UsageError:
        return False
    return words not in (["plan"], ["lock"])  # which want a config, or --all


def serve_release(site: Site) -> None:
    """The lists of 24.10's releases: a device of ath79/generic, signed."""
    profiles = {"tplink_archer-c7-v5": {"titles": [{"title": "TP-Link Archer C7 v5"}], "images": []}}
    newest = next(name for name in shipped_releases().versions if name.startswith("24.10."))
    for release in (RELEASE, newest):
        told = {"target": "ath79/generic", "version_number": release, "arch_packages": "mips_24kc"}
        listed = json.dumps({**told, "profiles": profiles}).encode()
        site.add_target(release, "ath79/generic", **{"profiles.json": listed})
        devices = [{"id": name, "target": told["target"], **facts} for name, facts in profiles.items()]
        (site.root / f"releases/{release}/.overview.json").write_text(json.dumps({"profiles": devices}))
    (site.root / ".versions.json").write_text(json.dumps({"versions_list": [newest, RELEASE]}))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    place = tmp_path_factory.mktemp("guides")
    tree, folder = place / "ib", place / "project"
    make_small_tree(tree)
    makefile = tree / "target/linux/ath79/image/Makefile"
    makefile.parent.mkdir(parents=True)
    makefile.write_text(IMAGE_MAKEFILE)
    for device in (OTHER, "tplink_tl-wr740n-v4"):
        kernel = tree / f"build_dir/target-x/linux-ath79_tiny/{device}-kernel.bin"
        kernel.parent.mkdir(parents=True, exist_ok=True)
        kernel.write_bytes(b"kernel" * 100_000)
    (folder / "configs").mkdir(parents=True)
    (folder / "files/etc").mkdir(parents=True)
    (folder / "files/etc/motd").write_text("hello\n")
    (folder / "keys").mkdir()
    site = Site(place / "www", Signer())
    (folder / "keys" / site.signer.number).write_bytes(site.signer.key_file())
    serve_release(site)
    server = Server(site.root)
    settings_text = f'sign = true\n[mirror]\nurls = ["{server.url}"]\nkeys = "keys"\n'
    (folder / "firmware.toml").write_text(settings_text)
    for name in ("home", "office"):
        text = f'extends = "base"\nboards = ["{BOARD}"]\nimagebuilder = "{tree}"\n'
        (folder / f"configs/{name}.toml").write_text(text)
    (folder / "build.sh").write_text('make image PROFILE=tplink_tl-wr740n-v4 PACKAGES="tcpdump-mini -ppp"\n')
    asked = {"target": "ath79/tiny", "profile": "tplink,tl-wr740n-v4", "packages": ["tcpdump-mini"]}
    (folder / "request.json").write_text(json.dumps({**asked, "version": "23.05.5"}))
    settings = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(place),
        "PYTHONPATH": str(PROJECT),
        "XDG_CACHE_HOME": str(place / "cache"),
        "XDG_DATA_HOME": str(place / "data"),
    }
    MadeResult().write(place / "results")
    made = Ground(folder, place / "image.bin", settings)
    built = made(["build", "home", "--output", str(place / "built")])
    assert built.returncode == 0, built.stderr
    (image,) = (place / f"built/home/{BOARD}").glob("*-sysupgrade.bin")
    shutil.copy(image, made.image)
    shutil.copy(place / "data/openwrt-python-imagebuilder/signing-keys" / OWN / PUBLIC, folder)
    yield made
    server.close()


def of_kit(call: str) -> bool:
    """Whether a command makes the kit, or an image of it."""
    return "demo" in call.split()


@pytest.mark.parametrize(("name", "call"), [each for each in CALLS if not of_kit(each[1])])
def test_a_command_that_is_shown_is_run(ground: Ground, name: str, call: str) -> None:
    words = ground.filled(call)
    for there in ("made", "configs/fresh.toml"):
        if (ground.folder / there).exists():
            (ground.folder / there).rename(
                ground.folder.parent / f"was-{len(list(ground.folder.parent.iterdir()))}"
            )
    if words[0] in ("import", "init") and len(words) > 1 and words[1] != "NAME":
        for path in (ground.folder / "configs").iterdir():
            if path.name not in ("home.toml", "office.toml") or words[:2] == ["init", path.stem]:
                path.unlink()
    ended = ground(words, "busybox - 1.36\ntcpdump-mini - 4.99\n" if words[:2] == ["import", "-"] else "")
    assert ended.returncode in CODES.get(" ".join(words[:2]), CODES.get(words[0], {0})), ended.stderr
    if words[:2] == ["init", "office"]:
        text = (ground.folder / "configs/home.toml").read_text()
        (ground.folder / "configs/office.toml").write_text(text)


@pytest.mark.kit
@pytest.mark.boot
@pytest.mark.parametrize(
    ("name", "call"), [*{plain(call): (name, call) for name, call in CALLS if of_kit(call)}.values()]
)
def test_a_command_with_the_kit_is_run(ground: Ground, name: str, call: str) -> None:
    """With this user's cache, in which the kits of all tests are."""
    ended = ground(words_of(call), cache=user_cache().parent)
    assert ended.returncode == 0, ended.stderr
    assert ("Hello from Python on a router" if call.startswith("demo") else "demo for qemu") in ended.stdout


def test_what_is_not_run_is_listed() -> None:
    """With the reason, or with the test that does it; and nothing is listed that is not shown any more."""
    shown = {plain(call) for path in DOCUMENTS for call in commands_of(path)}
    assert {*NOT_HERE} - shown == set()
    assert {plain(call) for _, call in CALLS} | {*NOT_HERE} == shown
    assert set(other_programs()) == set(OTHERS)
    for told in OTHERS.values():
        file, _, test = told.partition("::")
        assert not test or f"def {test}(" in (PROJECT / file).read_text()


def other_programs() -> Iterator[str]:
    """Lines for a shell, and what stands between backticks, that call something else than this program."""
    for path in DOCUMENTS:
        if path.name in GENERATED:
            continue
        for line in lines_of(path):
            for part in re.split(r"# or: ", line):
                if not calls_in(plain(part)):
                    yield plain(part)
        for _, code in CODE.findall(without_blocks(path)):
            line = " ".join(code.split())
            for part in line.replace("\\|", "|").split(" | "):
                if OTHER_PROGRAMS.match(part) and not re.match(NAMES, part):
                    yield part


def test_there_is_something_to_run() -> None:
    assert len([call for _, call in CALLS if not MENTIONED.fullmatch(call)]) > 25
