"""The tree's own squashfs: its options, what goes into it, and making one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ask import look_at_tree
from imagebuilder.config.library import Library
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Places
from imagebuilder.packages.opkg.ipk_reader import Ipk
from imagebuilder.packages.opkg.records import installed_tree
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_of, symlink
from imagebuilder.tree.collect import BuildError, MadeImage, MakeReport, check_images
from imagebuilder.tree.measure import (
    MeasureError,
    ProfileImages,
    image_facts,
    measure_squashfs,
    not_made,
    squashfs_options,
)

IMAGE_MK = """\
SQUASHFS_BLOCKSIZE := $(CONFIG_TARGET_SQUASHFS_BLOCK_SIZE)k
SQUASHFSOPT := -b $(SQUASHFS_BLOCKSIZE)
SQUASHFSOPT += -p '/dev d 755 0 0' -p '/dev/console c 600 0 0 5 1'
SQUASHFSOPT += $(if $(CONFIG_SELINUX),-xattrs,-no-xattrs)
SQUASHFSCOMP := gzip
LZMA_XZ_OPTIONS := -Xpreset 9 -Xe -Xlc 0 -Xlp 2 -Xpb 2
ifeq ($(CONFIG_SQUASHFS_XZ),y)
  ifneq ($(filter arm x86 powerpc sparc,$(LINUX_KARCH)),)
    BCJ_FILTER:=-Xbcj $(LINUX_KARCH)
  endif
  SQUASHFSCOMP := xz $(LZMA_XZ_OPTIONS) $(BCJ_FILTER)
endif
define Image/mkfs/squashfs-common
	$(STAGING_DIR_HOST)/bin/mksquashfs4 $(call mkfs_target_dir,$(1)) $@ \\
		-nopad -noappend -root-owned \\
		-comp $(SQUASHFSCOMP) $(SQUASHFSOPT)
endef
"""


PLACES = Places(kernel="build_dir/target-x/linux-x", linux="build_dir/target-x/linux-x/linux-5.15")


def tree_with(folder: Path, config: str, makefile: str = IMAGE_MK, kernel: str = "") -> Path:
    (folder / "include").mkdir(exist_ok=True)
    (folder / ".config").write_text(config)
    (folder / "include/image.mk").write_text(makefile)
    if kernel:
        place = folder / "build_dir/target-x/linux-x/linux-5.15"
        place.mkdir(parents=True, exist_ok=True)
        (place / ".config").write_text(kernel)
    return folder


def test_options_of_a_tree(tmp_path: Path) -> None:
    options = squashfs_options(
        tree_with(tmp_path, 'CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\nCONFIG_ARCH="mips"\n'), PLACES
    )
    assert (options.compressor, options.block, options.filters) == ("xz", 262144, False)
    assert " ".join(options.arguments) == (
        "-nopad -noappend -root-owned -no-xattrs -comp xz -Xpreset 9 -Xe -Xlc 0 -Xlp 2 -Xpb 2 -b 262144"
        " -p /dev d 755 0 0 -p /dev/console c 600 0 0 5 1 -processors 1"
    )


@pytest.mark.parametrize(
    ("arch", "name"), [("arm", "arm"), ("x86_64", "x86"), ("aarch64", None), ("mipsel", None)]
)
def test_machine_code_is_filtered_where_xz_can(tmp_path: Path, arch: str, name: str | None) -> None:
    config = f'CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\nCONFIG_ARCH="{arch}"\n'
    options = squashfs_options(tree_with(tmp_path, config), PLACES)
    assert options.filters is (name is not None)
    assert ("-Xbcj" in options.arguments) is (name is not None)
    if name:
        assert options.arguments[options.arguments.index("-Xbcj") + 1] == name


def test_a_kernel_without_xz_gets_gzip(tmp_path: Path) -> None:
    tree = tree_with(
        tmp_path, "CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=64\n", kernel="# CONFIG_SQUASHFS_XZ is not set\n"
    )
    options = squashfs_options(tree, PLACES)
    assert (options.compressor, options.block) == ("gzip", 65536)
    assert "-Xpreset" not in options.arguments


def test_selinux_keeps_attributes(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\nCONFIG_SELINUX=y\n")
    assert "-xattrs" in squashfs_options(tree, PLACES).arguments


def test_the_kits_own_compressor(tmp_path: Path) -> None:
    config = (
        'CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\nCONFIG_KIT_SQUASHFS_COMPRESSOR="zstd -Xcompression-level 9"\n'
    )
    options = squashfs_options(tree_with(tmp_path, config), PLACES)
    assert (options.program, options.compressor) == ("mksquashfs", "zstd")


@pytest.mark.parametrize("config", ["", "CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=0\n"])
def test_a_tree_without_squashfs(tmp_path: Path, config: str) -> None:
    with pytest.raises(MeasureError, match="blocks"):
        squashfs_options(tree_with(tmp_path, config), PLACES)


def test_a_makefile_without_mksquashfs(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="mksquashfs4"):
        squashfs_options(tree_with(tmp_path, "CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\n", "all:\n"), PLACES)


@given(text=st.text(max_size=200), config=st.text(max_size=80))
def test_any_makefile_gives_options_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, config: str
) -> None:
    tree = tree_with(
        tmp_path_factory.mktemp("tree"), "CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\n" + config, text
    )
    try:
        assert squashfs_options(tree, PLACES).block
    except MeasureError as error:
        assert error.hint


def package(
    name: str,
    files: dict[str, bytes],
    scripts: dict[str, bytes] | None = None,
    conffiles: tuple[str, ...] = (),
) -> Ipk:
    tree = FileTree({path: file_of(data) for path, data in files.items()})
    control = Package(name=name, version="1", installed_size=10)
    return Ipk(control, {"Package": name, "Version": "1"}, scripts or {}, conffiles, tree)


DISKS = """\
define Device/Default
  IMAGE/rootfs.img := append-rootfs
  IMAGE/combined.img := grub-config pc | combined | grub-install
  IMAGE/combined-efi.img := grub-config efi | combined efi | grub-install efi
  IMAGES-y := rootfs.img
  IMAGES-$$(CONFIG_GRUB_IMAGES) += combined.img
  IMAGES-$$(CONFIG_GRUB_EFI_IMAGES) += combined-efi.img
  IMAGES := $$(IMAGES-y)
endef
define Device/generic
endef
TARGET_DEVICES += generic
"""


@pytest.mark.parametrize(
    ("settings", "not_there"),
    [
        ("CONFIG_GRUB_IMAGES=y\nCONFIG_GRUB_EFI_IMAGES=y\n", set[str]()),
        ("# CONFIG_GRUB_IMAGES is not set\nCONFIG_GRUB_EFI_IMAGES=y\n", {"combined"}),
        ("CONFIG_GRUB_IMAGES=y\n", {"combined-efi"}),
        ("# CONFIG_GRUB_IMAGES is not set\n", set[str]()),  # then both are missed
    ],
)
def test_images_that_the_trees_settings_leave_out_are_not_asked_for(
    tmp_path: Path, library: Library, settings: str, not_there: set[str]
) -> None:
    tree = tree_with(tmp_path, settings)
    (tree / "target/linux/x86/image").mkdir(parents=True)
    (tree / "target/linux/x86/image/Makefile").write_text(DISKS)
    facts = image_facts(tree, PLACES, "x86/64", "generic")
    board = library.board("x86-64")
    left_out = not_made(facts, board)
    assert left_out == not_there
    made = [
        MadeImage(f"{name}.img", name, 1000, required=True)
        for name in ("combined", "combined-efi")
        if f"{name}.img" in facts.recipes
    ]

    def check() -> None:
        check_images(board, made, MakeReport(), lambda: (), not_made=left_out)

    if made:
        check()
        made.pop()
    with pytest.raises(BuildError, match="make left out the combined"):
        check()


def test_images_with_names_of_their_own_stay_required(library: Library) -> None:
    board = library.board("x86-64")
    named = board.images["combined"].model_copy(update={"file": "combined-{fs}"})
    facts = ProfileImages(None, {"combined-efi.img": "combined efi"}, {}, None, 1)
    assert not_made(facts, board) == {"combined"}
    assert not_made(facts, board.model_copy(update={"images": {**board.images, "combined": named}})) == set()
    assert not_made(ProfileImages(None, {}, {}, None, 1), board) == set()


def test_records_are_those_of_opkg() -> None:
    read = package(
        "a",
        {"/etc/a.conf": b"x", "/etc/init.d/a": b"#!/bin/sh /etc/rc.common\nSTART=50\nSTOP=9\nSTOP=10\n"},
        scripts={"prerm": b"#!/bin/sh\n", "postinst": b"#!/bin/sh\n"},
        conffiles=("/etc/a.conf",),
    )
    tree = installed_tree([read], FileTree({"/etc/motd": file_of(b"hello")}))
    info = "/usr/lib/opkg/info/a"
    assert f"{info}.prerm" in tree
    assert f"{info}.postinst" not in tree
    assert sorted((tree[f"{info}.list"].data or b"").decode().split()) == ["/etc/a.conf", "/etc/init.d/a"]
    status = (tree["/usr/lib/opkg/status"].data or b"").decode()
    assert f" /etc/a.conf {hashlib.sha256(b'x').hexdigest()}" in status
    assert tree["/etc/rc.d/S50a"] == symlink("../init.d/a")
    assert "/etc/rc.d/K10a" in tree
    assert tree["/etc/motd"].data == b"hello"


def test_of_two_packages_with_one_file_the_later_counts() -> None:
    tree = installed_tree([package("a", {"/bin/x": b"1"}), package("b", {"/bin/x": b"2"})], EMPTY)
    assert tree["/bin/x"].data == b"2"


@pytest.fixture
def fake_tree(tmp_path: Path) -> Path:
    """A tree whose mksquashfs writes what it was called with."""
    tree = tree_with(tmp_path, "CONFIG_TARGET_SQUASHFS_BLOCK_SIZE=256\n")
    program = tree / "staging_dir/host/bin/mksquashfs4"
    program.parent.mkdir(parents=True)
    program.write_text(
        '#!/bin/sh\ntest -d "$1" || { echo "no folder" >&2; exit 1; }\necho "$SOURCE_DATE_EPOCH $@" > "$2"\n'
    )
    program.chmod(0o755)
    return tree


def test_the_trees_own_program_is_called(fake_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    image = tmp_path / "image"
    image.write_bytes(b"of an earlier run")
    options = squashfs_options(fake_tree, PLACES)
    size = measure_squashfs(fake_tree, options, tmp_path / "root", image, epoch=7)
    said = image.read_text()
    assert size == len(said)
    assert said.startswith(f"7 {tmp_path / 'root'} {image} -nopad")


def test_a_program_in_a_view(fake_tree: Path, tmp_path: Path) -> None:
    called: list[list[str]] = []

    def wrap(argv: object) -> list[str]:
        called.append(list(argv))  # type: ignore[call-overload]
        return ["sh", "-c", f"echo x > {tmp_path / 'image'}"]

    options = squashfs_options(fake_tree, PLACES)
    seen = {"seen_tree": Path("/builder/tree"), "seen": lambda path: Path("/builder/work") / path.name}
    size = measure_squashfs(fake_tree, options, tmp_path / "root", tmp_path / "image", wrap=wrap, **seen)  # type: ignore[arg-type]
    assert size == 2
    assert called[0][:3] == [
        "/builder/tree/staging_dir/host/bin/mksquashfs4",
        "/builder/work/root",
        "/builder/work/image",
    ]


def test_a_program_that_fails_says_why(fake_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="no folder"):
        measure_squashfs(
            fake_tree, squashfs_options(fake_tree, PLACES), tmp_path / "missing", tmp_path / "image"
        )


@pytest.mark.genuine
def test_a_genuine_trees_squashfs_and_facts(genuine_tree: Path, tmp_path: Path) -> None:
    places = look_at_tree(str(genuine_tree), tmp_path / "cache", Log()).places
    options = squashfs_options(genuine_tree, places)
    assert (options.compressor, options.block, options.filters) == ("xz", 262144, False)
    write_tree(FileTree({"/a": file_of(b"x" * 100_000)}), tmp_path / "root")
    assert 96 < measure_squashfs(genuine_tree, options, tmp_path / "root", tmp_path / "image") < 1000
    facts = image_facts(genuine_tree, places, "ar71xx/generic", "tl-wr740n-v4")
    assert facts.kernel is not None
    assert facts.kernel.bytes == pytest.approx(1_276_388, abs=1000)
    assert set(facts.recipes) == {"sysupgrade.bin", "factory.bin"}
    assert image_facts(genuine_tree, places, "ar71xx/generic", "no-such-device").kernel is None
