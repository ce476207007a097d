"""Every command that a guide in docs/ shows is run, in a project with the small tree: what stands in capitals
there is filled in. What wants a server, the kit or QEMU is parsed by tests/test_documents.py, and its like is
run elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.test_boards_add import IMAGE_MAKEFILE
from tests.conftest import make_small_tree
from tests.test_documents import DOCUMENTS, GENERATED, MENTIONED, commands_of, words_of

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
OTHER = "tplink_tl-wr741nd-v4"  # the small tree's second device
# tests/server and tests/kit, and those of boards and releases in tests/whole, run what is like these
ELSEWHERE = re.compile(
    r"demo\b|releases$|fetch |.* --release 24\.|packages search|(?:new|import|plan)$|build …"
)
CODES = {
    "doctor": {0, 2},
    "boards check": {0, 2},
}  # by what this machine lacks; the small tree has no kernels
CALLS = [
    (path.name, call)
    for path in DOCUMENTS
    if path.parent.name == "docs" and path.name not in GENERATED
    for call in dict.fromkeys(commands_of(path))
    if not ELSEWHERE.match(call)
]


@dataclass(frozen=True)
class Ground:
    """A project with the configs that the guides name, a built image, and what its commands are run with."""

    folder: Path
    image: Path
    settings: dict[str, str]

    def __call__(self, words: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "imagebuilder", *words],
            cwd=self.folder,
            env=self.settings,
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
            "OLD": str(self.image),
            "NEW": str(self.image),
            "BOARD": BOARD,
            "CONFIG": "home",
            "PACKAGE": "busybox",
            "FOLDER": "made",
            "NAME": "fresh" if call.startswith("init") else "home",
        }
        words = [values.get(word, word) for word in words_of(call)]
        return [*words, "--board", BOARD] if words == ["init", "fresh"] else words  # nobody is there to ask


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
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
    (folder / "firmware.toml").write_text("")
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
    made = Ground(folder, place / "image.bin", settings)
    built = made(["build", "home", "--output", str(place / "built")])
    assert built.returncode == 0, built.stderr
    (image,) = (place / f"built/home/{BOARD}").glob("*-sysupgrade.bin")
    image.rename(made.image)
    return made


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_command_of_a_guide_is_run(ground: Ground, name: str, call: str) -> None:
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


def test_there_is_something_to_run() -> None:
    assert len([call for _, call in CALLS if not MENTIONED.fullmatch(call)]) > 25
