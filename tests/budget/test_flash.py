"""How much flash an image takes: from an index, from recipes, and in a board's flash."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.budget.budget import refusal
from imagebuilder.budget.flash import (
    at_most,
    flash_budget,
    measured_rootfs,
    package_cost,
    packed_bytes,
    predict_rootfs,
)
from imagebuilder.budget.flash_kinds import figures, kind_of, ratio_for
from imagebuilder.budget.flash_known import compressed_files
from imagebuilder.budget.ram import ram_budget
from imagebuilder.config.board import Board
from imagebuilder.model.budget import Amount, Budgets, FlashBudget, RamNeed
from imagebuilder.model.package import LOCAL, Package, Wish
from imagebuilder.report.flash_bar import (
    answer,
    flash_bar,
    flash_left,
    flash_picture,
    flash_words,
    segments,
)
from imagebuilder.tree.measure import ProfileImages, erase_block, image_sizes, recipe_size
from tests.support.budget_making import (
    SQUASHFS,
    TPLINK,
    TREE,
    board,
    packages_for,
    predictor,
    resolved,
    situation,
)

KERNEL = 1276413
UIMAGE = "append-kernel | pad-to $(BLOCKSIZE) | append-rootfs | pad-rootfs | check-size 16000k"
NOR = ProfileImages(
    kernel=Amount(bytes=KERNEL, source="a kernel"),
    recipes={"sysupgrade.bin": UIMAGE.replace("$(BLOCKSIZE)", "64k")},
    values={"BLOCKSIZE": "64k"},
    partition=None,
    block=0x10000,
)
NAND = ProfileImages(
    kernel=Amount(bytes=2_000_000, source="a kernel"),
    recipes={
        "sysupgrade.bin": "sysupgrade-tar | append-metadata",
        "factory.img": "append-kernel | pad-to 6144k | append-ubi | pad-to 2048",
    },
    values={
        **{"BLOCKSIZE": "128k", "PAGESIZE": "2048", "SUBPAGESIZE": "512", "VID_HDR_OFFSET": "2048"},
        **{"KERNEL_SIZE": "6144k", "UBINIZE_PARTS": "", "KERNEL_IN_UBI": ""},
    },
    partition=None,
    block=128 << 10,
)


@pytest.mark.parametrize(
    ("name", "section", "kind"),
    [
        ("kmod-ath9k", "kernel", "kernel module"),
        ("libubox20230523", "libs", "library"),
        ("luci-base", "luci", "lua and web"),
        ("python3-base", "lang", "python interpreter"),
        ("libpython3-3.11", "lang", "python interpreter"),
        ("micropython-mbedtls", "lang", "python interpreter"),
        ("python3-urllib", "lang", "python bytecode"),
        ("python3-urllib-src", "lang", "python source"),
        ("ath10k-firmware-qca988x", "firmware", "firmware"),
        ("mwlwifi-firmware-88w8864", "", "firmware"),
        ("busybox", "base", "program"),
    ],
)
def test_kinds(name: str, section: str, kind: str) -> None:
    assert kind_of(name, section) == kind


def test_python_of_17_01_is_source_code() -> None:
    assert kind_of("python3-light", "lang", python_sources=True) == "python source"
    assert kind_of("python3-base", "lang", python_sources=True) == "python interpreter"


def test_figures_that_are_further_from_what_was_measured_are_less_sure() -> None:
    same = ratio_for("kernel module", compressor="xz", block=256 << 10, filters=False, arch="mips_24kc")
    mipsel = ratio_for("kernel module", compressor="xz", block=256 << 10, filters=False, arch="mipsel_24kc")
    other = ratio_for("kernel module", compressor="xz", block=256 << 10, filters=True, arch="arm_cortex-a9")
    unseen = ratio_for("kernel module", compressor="lzma", block=128 << 10, filters=False, arch="arm")
    assert 0.5 < same.ratio < 0.9
    assert mipsel == same
    assert same.uncertainty < other.uncertainty < unseen.uncertainty


def test_a_larger_block_compresses_better() -> None:
    small, large = (
        ratio_for("kernel module", compressor="xz", block=block << 10, filters=False, arch="mips_24kc").ratio
        for block in (256, 1024)
    )
    assert large < small


def test_every_figure_says_what_was_measured() -> None:
    assert {each.compressor for each in figures()} == {"xz", "zstd"}
    for each in figures():
        assert each.packages >= 4
        assert each.packed > 50_000
        assert 0 < each.spread < 0.1 < each.ratio <= 1.05
        assert each.source


def test_packed_bytes_are_known_whatever_the_index_states() -> None:
    assert (
        packed_bytes(Package("a", "1", section="", size=10_900, installed_size=10_000)) == 10_000
    )  # 17.01: the data archive
    assert (
        packed_bytes(Package("a", "1", section="", size=10_900, installed_size=30_000)) == 10_900
    )  # 24.10: the unpacked files
    assert (
        packed_bytes(Package("libc", "1", section="", size=0, installed_size=10_000)) == 10_000
    )  # in no index
    assert packed_bytes(Package("a", "1", section="", size=10_900, installed_size=0)) == 10_900


def test_the_real_default_image_is_predicted_within_five_percent() -> None:
    # 17.01.7, tl-wr740n-v4, as built: 1,873,000 bytes of root.squashfs
    predicted = predict_rootfs(packages_for(situation("none").wish), TREE)
    assert predicted.amount.bytes == pytest.approx(1_873_000, rel=0.05)
    assert abs(predicted.amount.bytes - 1_873_000) <= predicted.amount.uncertainty
    assert predicted.packages[0].name == "libc"


@pytest.mark.parametrize(
    ("packed", "measured"),
    [(1_106_939, 845_668), (733_386, 559_788)],
)
def test_interpreters_that_were_measured_elsewhere(packed: int, measured: int) -> None:
    """python3-base and python-base of a vendor's mt7621 tree, alone in a squashfs with xz, 256 KiB blocks."""
    cost = package_cost(
        Package("python3-base", "1", section="lang", size=packed + 900, installed_size=packed),
        replace(TREE, arch="mipsel_1004kc_dsp", version="18.06.8"),
    )
    assert cost.bytes == pytest.approx(measured, rel=0.05)
    assert abs(cost.bytes - measured) <= cost.uncertainty


def test_what_is_not_made_yet_is_less_sure() -> None:
    feeds, own = (
        package_cost(Package("python3-x", "1", section="lang", installed_size=100_000, feed=feed), TREE)
        for feed in ("", LOCAL)
    )
    assert feeds.bytes == own.bytes > 50_000
    assert feeds.uncertainty < own.uncertainty == 35_000


@pytest.mark.parametrize(("packed", "measured"), [(2_805_306 - 1_106_939, 2_246_523 - 845_668)])
def test_bytecode_that_was_measured_elsewhere(packed: int, measured: int) -> None:
    """python3-light of the same tree."""
    cost = package_cost(
        Package("python3-light", "1", section="lang", size=packed + 900, installed_size=packed),
        replace(TREE, arch="mipsel_1004kc_dsp", version="18.06.8"),
    )
    assert cost.bytes == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(
    ("rootfs", "sysupgrade"),
    [(1872964, 3211268), (1709722, 3014660)],  # of images that were built
)
def test_tplink_images(rootfs: int, sysupgrade: int) -> None:
    sizes = image_sizes(TPLINK, rootfs)
    assert sizes["sysupgrade"].size == sysupgrade
    assert sizes["factory"].size == 0x3C0000
    assert sizes["sysupgrade"].excess == 0


def test_the_header_tool_takes_3669504_bytes_and_refuses_one_more() -> None:
    most = 3_669_504 - 1_276_388
    assert image_sizes(TPLINK, most)["factory"].excess == 0
    assert image_sizes(TPLINK, most + 4)["factory"].excess == 4


@pytest.mark.parametrize(("rootfs", "size"), [(1950020, 3276804), (2300926, 3670020)])
def test_uimage_and_squashfs(rootfs: int, size: int) -> None:
    image = image_sizes(NOR, rootfs)["sysupgrade"]
    assert (image.size, image.limit) == (size, 16000 << 10)
    assert image.end == (20 << 16) + rootfs


def test_steps_that_nobody_knows_make_a_size_unknown_and_not_wrong() -> None:
    image = recipe_size("append-kernel | append-rootfs | mkubntimage-split", NOR, 1000)
    assert (image.size, image.end) == (None, None)
    assert recipe_size("append-rootfs | \0 x", NOR, 1000).size is None


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        ("append-rootfs | pad-extra 128k", 1000 + (128 << 10)),
        ("append-rootfs | pad-offset 64k 64", 0x10000 - 64),
        ("append-rootfs | pad-rootfs -x 64", 0x10000 - 64 + 4),
        ("append-rootfs | pad-to 2048 | uImage lzma", 2048 + 64),
    ],
)
def test_padding(recipe: str, size: int) -> None:
    assert recipe_size(recipe, NOR, 1000).size == size


def test_without_a_block_size_padding_goes_to_256_kib() -> None:
    assert recipe_size("append-rootfs | pad-rootfs", replace(NOR, values={}), 1000).size == (256 << 10) + 4


@given(st.text(alphabet="apendrotfskmul-x |0123456789k\0$()", max_size=80), st.integers(0, 1 << 30))
def test_any_recipe_gives_a_size_or_none(recipe: str, rootfs: int) -> None:
    image = recipe_size(recipe, NOR, rootfs)
    assert image.size is None or image.size >= 0


@given(st.integers(0, 3 << 20), st.integers(0, 1 << 20))
def test_more_bytes_never_make_a_smaller_image(rootfs: int, more: int) -> None:
    for facts in (NOR, TPLINK, NAND):
        small, large = image_sizes(facts, rootfs), image_sizes(facts, rootfs + more)
        for name, image in small.items():
            assert image.size is not None
            assert image.size <= (large[name].size or 0)
            assert image.excess <= large[name].excess


def test_nand_images() -> None:
    assert erase_block(NAND.values) == (128 << 10, 126976)
    sizes = image_sizes(NAND, 5_000_000)
    assert sizes["factory"].size == (6144 << 10) + (2 + 40) * (128 << 10)  # 40 blocks of 126,976 bytes
    assert sizes["sysupgrade"].size is not None
    assert 7_000_000 < sizes["sysupgrade"].size < 7_020_000
    assert sizes["sysupgrade"].spread > 0


def test_a_board_with_nand_has_room_for_settings() -> None:
    tree = replace(TREE, images=NAND, arch="arm_cortex-a9_vfpv3-d16", version="23.05.5")
    rootfs = predict_rootfs(packages_for(situation("none").wish), tree)
    budget = flash_budget(rootfs, tree, board("linksys-wrt1200ac", "23.05.5"))
    assert budget.verdict == "fits"
    # 34 MiB of UBI less 20 of 1024 blocks of a 128 MiB chip, UBI's own four, and what the image takes
    assert budget.free is not None
    blocks = 272 - 20 - 4 - -(-budget.rootfs.bytes // 126976)
    assert budget.free == blocks * 126976


def test_what_stays_free_is_whole_erase_blocks() -> None:
    budget = predictor()(resolved(situation("none").wish))
    assert budget.verdict == "fits"
    assert budget.partition == 3904 << 10
    assert budget.used is not None
    assert budget.used % 0x10000 == 0
    assert budget.free == 3904 * 1024 - budget.used == 786432


def of_bytes(size: int, **layout: object) -> FlashBudget:
    """A root file system of so many bytes behind a kernel of 1,000,000 on NOR with 64 KiB blocks, on a board
    whose recipes say nothing of a limit."""
    kernel = Amount(bytes=1_000_000, source="a kernel")
    recipes = {"sysupgrade.bin": "append-kernel | append-rootfs"}
    tree = replace(TREE, images=replace(NOR, kernel=kernel, recipes=recipes))
    rootfs = predict_rootfs([], tree)
    rootfs = replace(rootfs, amount=Amount(bytes=size, source="a test"))
    nor = board("glinet-gl-ar150", "23.05.5")
    laid = nor.layout.model_copy(update={"firmware": None, **layout})
    return flash_budget(rootfs, tree, nor.model_copy(update={"layout": laid}))


@pytest.mark.parametrize(("size", "excess"), [(499_999, 0), (500_000, 0), (500_001, 1)])
def test_kernel_and_root_file_system_together_have_a_limit_of_their_own(size: int, excess: int) -> None:
    budget = of_bytes(size, kernel_and_rootfs=1_500_000)
    assert (budget.excess, budget.verdict == "too big") == (excess, excess > 0)


@pytest.mark.parametrize(
    ("recipe", "own", "limit", "source", "excess"),
    [
        (2_000_000, 1_500_000, 1_500_000, "the board file of glinet-gl-ar150", 200_000),
        (1_500_000, 2_000_000, 1_500_000, "the recipe's check-size", 200_000),
        (None, 1_600_000, 1_600_000, "the board file of glinet-gl-ar150", 100_000),
        (1_600_000, None, 1_600_000, "the recipe's check-size", 100_000),
        (1_700_000, 1_700_000, 1_700_000, "the recipe's check-size", 0),
    ],
)
def test_of_two_limits_of_an_image_the_tighter_counts(
    recipe: int | None, own: int | None, limit: int, source: str, excess: int
) -> None:
    kernel = Amount(bytes=1_000_000, source="a kernel")
    steps = "append-kernel | append-rootfs" + (f" | check-size {recipe}" if recipe else "")
    tree = replace(TREE, images=replace(NOR, kernel=kernel, recipes={"sysupgrade.bin": steps}))
    rootfs = replace(predict_rootfs([], tree), amount=Amount(bytes=700_000, source="a test"))
    nor = board("glinet-gl-ar150", "23.05.5")
    image = nor.images["sysupgrade"].model_copy(update={"limit": own})
    layout = nor.layout.model_copy(update={"firmware": None})
    limited = nor.model_copy(update={"layout": layout, "images": {"sysupgrade": image}})
    budget = flash_budget(rootfs, tree, limited)
    (found,) = budget.images
    assert (found.bytes, found.limit, found.limit_source) == (1_700_000, limit, source)
    assert (found.excess, budget.excess, budget.verdict == "too big") == (excess, excess, excess > 0)


@pytest.mark.parametrize(("blocks", "said"), [(6, False), (5, False), (4, True), (0, True)])
def test_fewer_than_five_erase_blocks_for_settings_are_told(blocks: int, said: bool) -> None:
    firmware = 40 << 16
    budget = of_bytes(firmware - (blocks << 16) - 1_000_000, firmware=firmware)
    assert (budget.free, budget.verdict) == (blocks << 16, "fits")
    assert any("JFFS2 wants 5 erase blocks" in note for note in budget.notes) is said


def test_kinds_of_packages_are_wrong_independently_of_each_other() -> None:
    kinds = [
        Package("kmod-x", "1", section="kernel", size=900_000, installed_size=900_000),
        Package("libx", "1", section="libs", size=700_000, installed_size=700_000),
    ]
    same = [kinds[0], replace(kinds[0], name="kmod-y")]
    for packages, together in ((kinds, False), (same, True)):
        first, second = (each.uncertainty for each in predict_rootfs(packages, TREE).packages)
        doubt = predict_rootfs(packages, TREE).amount.uncertainty
        records = predict_rootfs([], TREE).amount.uncertainty
        assert records == 0
        of_kinds = first + second if together else math.hypot(first, second)
        # what is not sure of the records is some bytes a package
        assert math.floor(of_kinds) <= doubt <= of_kinds + 100
        assert (doubt < (first + second) * 0.8) is not together


def budgets_of(*, flash_excess: int = 0, ram_excess: int = 0) -> Budgets:
    """Budgets that are over by so many bytes, each with an uncertainty of 1000."""
    flash = predictor()(resolved(Wish.of(["busybox"]))).model_copy(
        update={
            "excess": flash_excess,
            "verdict": "too big" if flash_excess else "fits",
            "rootfs": Amount(bytes=1_000_000, uncertainty=1000, source="a test"),
        }
    )
    need = RamNeed(name="kernel and services", amount=Amount(bytes=16 << 20, uncertainty=1000, source="x"))
    ram = ram_budget(board(), [need], wanted_free=(16 << 20) + ram_excess)
    return Budgets(flash=flash, ram=ram)


@pytest.mark.parametrize(
    ("flash", "ram", "refused"),
    [(0, 0, False), (1000, 0, False), (1001, 0, True), (0, 1000, False), (0, 1001, True), (1, 1, False)],
)
def test_what_may_still_fit_is_not_refused(flash: int, ram: int, refused: bool) -> None:
    """A plan is refused when it is over by more than its prediction may be wrong, and only then."""
    plan = SimpleNamespace(config="mine", board="tplink-tl-wr740n-v4")
    error = refusal(plan, budgets_of(flash_excess=flash, ram_excess=ram))  # type: ignore[arg-type]
    assert (error is not None) is refused
    if error is not None:
        assert ("too big by 1001 bytes" in error.message) is (flash > 1000)
        assert ("RAM" in error.message) is (ram > 1000)


def test_an_image_that_fits_but_leaves_too_little() -> None:
    selected = resolved(situation("none").wish)
    budget = predictor(wanted_free=800 << 10)(selected)
    assert budget.verdict == "too little left"
    assert budget.excess == (800 << 10) - 786432
    assert predictor(wanted_free=768 << 10)(selected).verdict == "fits"


@pytest.mark.parametrize(
    ("free", "verdict", "said"),
    [
        (5 * 65536, "fits", "JFFS2 has room"),
        (4 * 65536, "fits", "in RAM, and lost"),
        (65536, "fits", "in RAM, and lost"),
        (0, "too little left", "in RAM, and lost"),
    ],
)
def test_a_baked_image_needs_one_erase_block_and_says_what_becomes_of_changes(
    free: int, verdict: str, said: str
) -> None:
    tree = replace(TREE, images=replace(TPLINK, recipes={}))  # the header tool itself keeps five blocks
    rootfs = predict_rootfs(packages_for(situation("none").wish), tree)
    assert tree.images.kernel is not None
    size = (3904 << 10) - free - tree.images.kernel.bytes
    rootfs = replace(rootfs, amount=rootfs.amount.model_copy(update={"bytes": size}))
    unlimited = board().model_copy(
        update={"layout": board().layout.model_copy(update={"kernel_and_rootfs": None})}
    )
    budget = flash_budget(rootfs, tree, unlimited, wanted_free=640 << 10, baked=True)
    assert (budget.free, budget.verdict, budget.baked) == (free, verdict, True)
    assert any(said in note for note in budget.notes)
    assert not any("JFFS2 wants" in note for note in budget.notes)
    assert flash_budget(rootfs, tree, unlimited, wanted_free=640 << 10).verdict == "too little left"


def test_a_board_of_unknown_flash_gets_no_verdict() -> None:
    unknown = Board.model_validate({**board().model_dump(mode="python"), "flash": None, "layout": {}})
    tree = replace(TREE, images=replace(TPLINK, recipes={}))
    budget = flash_budget(predict_rootfs(packages_for(Wish.of(["busybox"])), tree), tree, unknown)
    assert (budget.verdict, budget.free, budget.partition) == ("unknown", None, None)


def test_a_disk_is_limited_by_its_partition() -> None:
    disk = replace(TREE, images=replace(TPLINK, recipes={}, kernel=None, partition=104 << 20))
    packages = predict_rootfs(packages_for(situation("none").wish), disk)
    pc = board("x86-64", "23.05.5")
    assert flash_budget(packages, disk, pc).verdict == "fits"
    small = flash_budget(packages, disk, pc, rootfs_partsize=1 << 20)
    assert small.verdict == "too big"
    assert small.excess == (small.used or 0) - (1 << 20)


def test_a_kit_image_has_one_size_and_its_overlay_another_partition() -> None:
    disks = {"combined-efi": 102780928}
    facts = ProfileImages(None, {}, {}, 48 << 20, 0x10000, overlay=32 << 20, disks=disks)
    tree = replace(TREE, images=facts, squashfs=replace(SQUASHFS, compressor="zstd"), version="embedded")
    rootfs = predict_rootfs(
        [Package("busybox", "1", section="base", size=1_000_000, installed_size=1_000_000)], tree
    )
    budget = flash_budget(rootfs, tree, board("qemu-x86-64", "embedded"))
    assert [(image.type, image.bytes) for image in budget.images] == [("combined-efi", 102780928)]
    filled, whole = budget.used or 0, 48 << 20
    assert (budget.free, budget.settings) == (whole - filled, 32 << 20)
    assert sum(segments(budget).values()) == whole, "the bar shows this partition, not the other"
    assert flash_left(budget) == "47.0 MiB of 48.0 MiB free, 32.0 MiB apart for settings"
    wants = flash_budget(rootfs, tree, board("qemu-x86-64", "embedded"), wanted_free=33 << 20)
    assert (wants.verdict, wants.excess, wants.for_settings) == ("too little left", 1 << 20, 32 << 20)
    assert wants.too_much
    near = replace(tree, images=replace(facts, partition=filled + 4096))
    said = flash_budget(rootfs, near, board("qemu-x86-64", "embedded"))
    assert said.free == 4096
    assert any("nearer to the limit" in note for note in said.notes), "settings apart make it no roomier"
    assert answer(Budgets(flash=said)).text.startswith("fits narrowly: 4.0 KiB of")


def test_overlay_files_count_by_what_they_compress_to() -> None:
    noise = random.Random(1).randbytes(300_000)
    text = b"one line and another\n" * 20_000
    added = compressed_files([noise, text], SQUASHFS)
    assert 300_000 < added < 310_000
    with_files = predict_rootfs(packages_for(Wish.of(["busybox"])), TREE, added)
    without = predict_rootfs(packages_for(Wish.of(["busybox"])), TREE)
    assert with_files.amount.bytes - without.amount.bytes == added
    assert with_files.amount.uncertainty > without.amount.uncertainty


@given(st.lists(st.binary(max_size=3000), max_size=6), st.sampled_from(["xz", "zstd", "gzip"]))
def test_files_never_become_larger(contents: list[bytes], compressor: str) -> None:
    how = replace(SQUASHFS, block=1024, compressor=compressor)
    assert 0 <= compressed_files(contents, how) <= sum(map(len, contents))


def test_measured_figures_replace_predicted_ones() -> None:
    predicted = predict_rootfs(packages_for(situation("base").wish), TREE)
    measured = measured_rootfs(predicted, 2_000_000)
    assert measured.amount.bytes == 2_000_000
    assert measured.amount.uncertainty <= 20_000
    total = sum(cost.bytes for cost in measured.packages) + measured.records
    assert total == pytest.approx(2_000_000, abs=200)
    assert at_most(predicted).amount.bytes == predicted.amount.bytes + predicted.amount.uncertainty


def test_near_the_limit_it_says_that_it_is_not_sure() -> None:
    selected = resolved(situation("none").wish)
    assert any("sure" in note for note in predictor(wanted_free=768 << 10)(selected).notes)
    assert not any("sure" in note for note in predictor(wanted_free=300 << 10)(selected).notes)


def test_the_bar_has_its_width_and_all_that_there_is() -> None:
    budget = predictor()(resolved(situation("none").wish))
    bar = flash_bar(budget, 40)[1:-1]
    assert len(bar) == 40
    assert list(dict.fromkeys(bar)) == ["K", "B", "."]
    assert flash_left(budget) == "768.0 KiB of 3.8 MiB free"
    kernel, base, doubt = flash_words(budget)
    assert (kernel[:9], base[:7], doubt[:13]) == ("K kernel ", "B base ", "predicted, ± ")
    assert sum(segments(budget).values()) == 3904 << 10


def test_the_bar_of_an_image_that_is_too_big() -> None:
    budget = predictor()(resolved(situation("full").wish))
    bar = flash_bar(budget, 40)[1:-1]
    assert len(bar) == 40
    assert bar.endswith("!")
    assert flash_left(budget) == "5.1 MiB too much"
    assert json.loads(json.dumps(flash_picture(budget)))["verdict"] == "too big"


@given(st.integers(0, 200))
def test_any_width_is_kept(width: int) -> None:
    budget = predictor()(resolved(Wish.of(["busybox"])))
    assert len(flash_bar(budget, width)) == max(width, 10) + 2


@pytest.mark.parametrize(
    ("variant", "wanted_free", "kind", "words"),
    [
        ("none", 0, "yes", "fits"),
        ("none", 768 << 10, "perhaps", "fits narrowly: 768.0 KiB of 3.8 MiB free, give or take"),
        ("none", 800 << 10, "perhaps", "may not fit: 768.0 KiB of 3.8 MiB free, 800.0 KiB wanted, give or"),
        ("none", 2 << 20, "no", "does not fit the flash: 768.0 KiB of 3.8 MiB free, 2.0 MiB wanted"),
        ("full", 0, "no", "does not fit the flash: 5.1 MiB too much"),
    ],
)
def test_the_answer_comes_first(variant: str, wanted_free: int, kind: str, words: str) -> None:
    budget = predictor(wanted_free=wanted_free)(resolved(situation(variant).wish))
    found = answer(Budgets(flash=budget))
    assert found.kind == kind
    assert found.text.startswith(words)
    assert (found.kind == "no") == budget.too_much


def test_no_answer_without_figures() -> None:
    assert answer(Budgets()).kind == "perhaps"
    assert answer(Budgets()).text == "whether it fits is not known before it is built"
