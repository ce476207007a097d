"""Images that genuine tools made: LEDE 17.01.7's for TP-Link devices with 4 MB (given with --imagebuilder),
and the kit's disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagebuilder.ask import look_at_tree
from imagebuilder.config.boards_write import write_board
from imagebuilder.config.library import Library
from imagebuilder.firmware.extract import extract
from imagebuilder.firmware.inspection import diff, inspect
from imagebuilder.firmware.verify import verify
from imagebuilder.host.run import clean_environment, run
from imagebuilder.log import Log
from imagebuilder.model.firmware import Check
from imagebuilder.tree.device_facts import device_facts
from tests.support import firmware_images as images

PROFILES = ("tl-mr3420-v2", "tl-wr741nd-v4", "tl-wr703n-v1", "tl-wr841-v9", "tl-wr740n-v1")
OTHERS = ("tplink-tl-wr740n-v4", "glinet-gl-ar150", "linksys-wrt1200ac")
SECONDS = 300.0
# of the reference's section 16: they do not depend on the day of the build
VECTOR_FIELDS = {
    "hardware id": 0x34200002,
    "firmware length": 0x3C0000,
    "kernel length": 0x13794C,
    "rootfs offset": 0x100000,
}
Make = Callable[..., object]


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The images of PROFILES, made in a copy of the tree."""
    tree = Path(request.config.getoption("--imagebuilder")).resolve()
    folder = tmp_path_factory.mktemp("genuine")
    shutil.copytree(tree, folder / "tree", symlinks=True, ignore=shutil.ignore_patterns(".git"))
    for profile in PROFILES:
        argv = ["make", "image", f"PROFILE={profile}", f"BIN_DIR={folder}/bin"]
        run(argv, cwd=folder / "tree", env=clean_environment(HOME="/tmp"), timeout=SECONDS)
    yield folder / "bin"
    shutil.rmtree(folder / "tree")


@pytest.fixture
def boards(genuine_tree: Path, library: Library, tmp_path: Path) -> Library:
    """The project's boards, and those of PROFILES as `boards add` writes them."""
    tree = look_at_tree(str(genuine_tree), tmp_path, Log())
    for profile in PROFILES:
        write_board(library, device_facts(tree, profile))
    return library


def image_of(folder: Path, profile: str, kind: str) -> Path:
    (found,) = folder.glob(f"*-{profile}-squashfs-{kind}.bin")
    return found


def refused(checks: tuple[Check, ...]) -> bool:
    return any(check.refuses for check in checks)


@pytest.mark.genuine
def test_images_are_for_their_board_and_for_no_other(built: Path, boards: Library) -> None:
    for profile in PROFILES:
        for kind in ("factory", "sysupgrade"):
            image = image_of(built, profile, kind)
            let_through = [
                name for name in (*PROFILES, *OTHERS) if not refused(verify(image, boards.board(name)))
            ]
            assert let_through == [profile], kind
            assert [check for check in verify(image, boards.board(profile)) if not check.ok] == []


@pytest.mark.genuine
def test_the_fields_of_a_known_image(built: Path) -> None:
    found = inspect(image_of(built, "tl-mr3420-v2", "factory"))
    image = found.part.children[0]
    assert {name: image.value(name) for name in VECTOR_FIELDS} == VECTOR_FIELDS
    kernel = found.part.find("lzma")
    assert kernel is not None
    assert kernel.unpacked_size == 4_096_500
    assert found.kernel == "4.4.182"
    assert found.root is not None
    assert sum(share.stored for share in found.root.shares) + found.root.tables == found.root.stored
    assert found.root.release["TARGET"] == "ar71xx/generic"


@pytest.mark.genuine
def test_a_cut_or_changed_image_is_refused(built: Path, boards: Library, tmp_path: Path) -> None:
    good = image_of(built, "tl-mr3420-v2", "sysupgrade").read_bytes()
    board = boards.board("tl-mr3420-v2")
    middle = len(good) // 2
    changed = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    for data in (
        good[:-1],
        good[:middle],
        good + b"\xff" * 65536,
        changed,
        good[:0x41] + b"\0" + good[0x42:],
    ):
        (tmp_path / "x-sysupgrade.bin").write_bytes(data)
        assert refused(verify(tmp_path / "x-sysupgrade.bin", board))


@pytest.mark.genuine
def test_all_files_are_those_that_unsquashfs_unpacks(built: Path, tmp_path: Path) -> None:
    image = image_of(built, "tl-wr703n-v1", "sysupgrade")
    extract(image, tmp_path / "ours")
    raw = image.read_bytes()
    (tmp_path / "root.squashfs").write_bytes(raw[raw.index(b"hsqs") :])
    run(
        ["unsquashfs", "-no-progress", "-d", str(tmp_path / "theirs"), str(tmp_path / "root.squashfs")],
        check=False,
    )
    assert contents(tmp_path / "ours/rootfs") == contents(tmp_path / "theirs")


def contents(root: Path) -> dict[str, str]:
    """Digest or target of each file and link."""
    return {
        str(path.relative_to(root)): (
            str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.genuine
def test_factory_and_sysupgrade_of_one_build_hold_the_same(built: Path) -> None:
    found = diff(image_of(built, "tl-wr841-v9", "factory"), image_of(built, "tl-wr841-v9", "sysupgrade"))
    assert (found.packages, found.files, found.kernel, found.package_sizes) == ((), (), None, ())
    assert {change.name.rpartition(": ")[2] for change in found.fields} == {"md5", "size"}


@pytest.mark.kit
def test_the_kits_disk_is_for_its_board_and_for_no_other(make: Make, library: Library) -> None:
    image = make("image").image  # type: ignore[attr-defined]
    let_through = [board.id for board in library.boards() if not refused(verify(image, board))]
    assert let_through == ["qemu-x86-64"]
    found = inspect(image)
    assert found.problems == ()
    assert found.kernel != ""
    data = image.read_bytes()
    for wrong in (data[:-1], data[: len(data) // 2], data + bytes(512)):
        image.write_bytes(wrong)
        assert refused(verify(image, images.board("qemu-x86-64")))
