"""A small NOR flash through the whole build: what is predicted comes true, what cannot fit is refused with
advice that helps, and `--fit` changes the config to one whose image fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from imagebuilder.ask import fetch_image, fit_config, plan_and_budgets, write_fit
from imagebuilder.budget.budget import BudgetError
from imagebuilder.build import build_image
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.budget import FlashBudget
from imagebuilder.tree.collect import BuildError
from tests.support import nor_tree
from tests.support.nor_tree import BLOCK, BOARD, FIRMWARE, IMAGE, make_nor_tree

PROJECT = Path(__file__).resolve().parents[2]
KERNEL_BLOCKS = 2
Ask = Callable[..., Request]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_nor_tree(tmp_path / "tree")


@pytest.fixture
def ask(project: Path, tree: Path, tmp_path: Path) -> Ask:
    (project / "boards" / f"{BOARD}.toml").write_text(nor_tree.BOARD_TOML)

    def make(text: str = "", *, variant: str = "none") -> Request:
        """A request for a config with this interpreter, and this text behind."""
        head = f'extends = "base"\nboards = ["{BOARD}"]\n\n[python]\nvariant = "{variant}"\n'
        (project / "configs/mine.toml").write_text(head + text)
        places = {"output": tmp_path / "out", "cache": tmp_path / "cache"}
        (asked,) = requests(project, "mine", board=BOARD, imagebuilder=str(tree), **places)  # type: ignore[arg-type]
        return asked

    return make


def flash_of(asked: Request) -> FlashBudget:
    flash = plan_and_budgets(asked, Log())[1].flash
    assert flash is not None
    return flash


def blocks(size: int) -> int:
    """Erase blocks that so many bytes take."""
    return -(-size // BLOCK)


@pytest.mark.parametrize("variant", ["none", "micropython", "base", "light"])
def test_what_is_predicted_comes_true(ask: Ask, variant: str) -> None:
    asked = ask(variant=variant)
    predicted = flash_of(asked)
    place, result = build_image(asked, Log())
    real = result.flash
    assert real is not None
    assert (predicted.measured, real.measured) == (False, True)
    assert (predicted.verdict, real.verdict) == ("fits", "fits")
    assert abs(predicted.rootfs.bytes - real.rootfs.bytes) <= predicted.rootfs.uncertainty
    assert predicted.rootfs.uncertainty < predicted.rootfs.bytes / 10

    (image,) = result.images
    data = (place / IMAGE).read_bytes()
    assert image.size == len(data)
    (budget,) = real.images
    assert (budget.type, budget.bytes, budget.limit) == ("sysupgrade", len(data), FIRMWARE)
    assert budget.limit_source == "the recipe's check-size"
    root = data.index(b"hsqs")
    assert root == KERNEL_BLOCKS * BLOCK
    assert int.from_bytes(data[root + 40 : root + 48], "little") == real.rootfs.bytes
    assert budget.end == root + real.rootfs.bytes
    assert real.used == blocks(budget.end) * BLOCK == len(data) - 4
    assert real.free == FIRMWARE - real.used
    assert json.loads((place / "result.json").read_text())["flash"]["free"] == real.free


def test_parts_of_the_flash_are_what_packages_and_files_take(ask: Ask, project: Path) -> None:
    files = project / "overlays/big/files/etc"
    files.mkdir(parents=True)
    (project / "overlays/big/overlay.toml").write_text('name = "big"\n')
    (files / "noise").write_bytes(nor_tree.content(nor_tree.Content("kmod-noise", 2, "kernel")))
    asked = ask('[packages]\nadd = ["python3-light"]\n[[overlay]]\nname = "big"\n', variant="micropython")
    parts = {part.name: part.bytes for part in flash_of(asked).parts}
    _, result = build_image(asked, Log())
    assert result.flash is not None
    real = {part.name: part.bytes for part in result.flash.parts}
    for found in (parts, real):
        assert set(found) == {"kernel", "base", "python", "files", "records"}
        # what xz leaves of two pieces, of micropython's two, and of the interpreter's nine with it
        assert found["files"] == pytest.approx(2 * BLOCK * 0.7, rel=0.1)
        assert found["python"] == pytest.approx(BLOCK * (6 * 0.7541 + 5 * 0.8155), rel=0.1)
    assert result.packages[-1].name == "python3-light"


def test_an_image_that_cannot_fit_is_refused_before_make_with_numbers_and_advice(
    ask: Ask, tmp_path: Path
) -> None:
    asked = ask(variant="full")
    flash = flash_of(asked)
    assert flash.verdict == "too big"
    assert flash.excess > flash.rootfs.uncertainty
    (image,) = flash.images
    assert image.bytes == FIRMWARE + flash.excess
    with pytest.raises(BudgetError) as error:
        build_image(asked, Log())
    lines = error.value.message.splitlines()
    assert lines[0].startswith(f"the image of mine for {BOARD} is too big by {flash.excess} bytes")
    assert lines[0].endswith(f"sysupgrade takes at most {FIRMWARE}")
    assert lines[1] == "what would help:"
    assert lines[2].strip().startswith('python.variant = "light" in place of "full"')
    assert error.value.hint == (
        f"`owrt-python plan mine --board {BOARD} --fit` looks for the least change that fits,"
        " and asks before it writes"
    )
    assert not list(tmp_path.glob(f"out/mine/{BOARD}*log"))  # make was not called


def test_what_the_advice_says_that_fits_does(ask: Ask) -> None:
    asked = ask(variant="full")
    advice = plan_and_budgets(asked, Log())[1].advice
    assert {each.kind for each in advice} == {"variant", "micropython", "drop default"}
    for each in advice:
        assert each.change is not None
        removed = json.dumps(list(each.change.remove))
        changed = flash_of(ask(f"[packages]\nremove = {removed}\n", variant=each.change.variant or "full"))
        assert (changed.verdict == "fits") is each.fits, each.text
        before = flash_of(ask(variant="full"))
        assert before.rootfs.bytes - changed.rootfs.bytes == pytest.approx(each.gain, abs=2000), each.text


def test_fit_changes_the_config_by_the_least_and_the_image_fits(ask: Ask) -> None:
    asked = ask("# light would do\n", variant="full")
    file, found = fit_config(asked, Log())
    assert found.fits
    assert file.path.read_text().endswith("# light would do\n")  # nothing is written yet
    assert found.text == file.path.read_text().replace('"full"', '"light"')
    assert '-variant = "full"\n+variant = "light"\n' in found.diff
    file.path.write_text(f"{file.text}# what the user writes meanwhile\n")
    with pytest.raises(UserError, match="was changed meanwhile: nothing is written"):
        write_fit(file, found)
    assert file.path.read_text().endswith("# what the user writes meanwhile\n")
    file.path.write_text(file.text)
    write_fit(file, found)
    assert file.path.read_text() == found.text
    _, result = build_image(asked, Log())
    assert result.flash is not None
    assert result.flash.verdict == "fits"
    assert "python3-light" in {each.name for each in result.packages}
    assert fit_config(asked, Log())[1].diff == ""


def test_fit_takes_packages_out_where_settings_need_the_room(ask: Ask) -> None:
    have = flash_of(ask()).free
    assert have is not None
    wanted = have + BLOCK // 2
    text = f"[budget]\nflash_free = {wanted}\n"
    asked = ask(text)
    assert flash_of(asked).verdict == "too little left"
    with pytest.raises(BudgetError, match=f"leaves {have} bytes free .*budget.flash_free wants {wanted}"):
        build_image(asked, Log())
    file, found = fit_config(asked, Log())
    assert found.fits
    removed = tomli.loads(found.text)["packages"]["remove"]
    assert set(removed) <= {"ppp", "kmod-wifi"}
    write_fit(file, found)
    _, result = build_image(asked, Log())
    assert result.flash is not None
    assert (result.flash.free or 0) >= wanted
    assert not {each.name for each in result.packages} & set(removed)


def test_fit_counts_all_that_the_prediction_may_be_wrong_by(ask: Ask) -> None:
    """What the plan lets through, since it may fit, is no answer to --fit."""
    light = flash_of(ask(variant="light"))
    free = light.free or 0
    (image,) = light.images
    nearest = blocks((image.end or 0) + light.rootfs.uncertainty) * BLOCK
    assert nearest > (light.used or 0)  # it may be a block more than is predicted
    text = f"[budget]\nflash_free = {free}\n"
    assert flash_of(ask(text, variant="light")).verdict == "fits"
    asked = ask(text, variant="full")
    file, found = fit_config(asked, Log())
    assert found.fits
    assert tomli.loads(found.text)["python"]["variant"] != "light" or "packages" in tomli.loads(found.text)
    write_fit(file, found)
    sure = flash_of(asked)
    (image,) = sure.images
    most = blocks((image.end or 0) + sure.rootfs.uncertainty) * BLOCK
    assert FIRMWARE - most >= free


def test_nothing_fits_where_all_that_is_left_is_needed(ask: Ask) -> None:
    asked = ask(f"[budget]\nflash_free = {FIRMWARE}\n", variant="base")
    _, found = fit_config(asked, Log())
    assert not found.fits
    assert found.diff == ""


@pytest.mark.parametrize(("variant", "hinted"), [("none", False), ("base", True)])
def test_another_interpreter_is_advice_where_there_is_one(
    ask: Ask, project: Path, tree: Path, variant: str, hinted: bool
) -> None:
    asked = ask(f"[budget]\nflash_free = {FIRMWARE}\n", variant=variant)
    argv = ["plan", "mine", "--imagebuilder", tree, "--project", project, "--cache", asked.cache, "--fit"]
    words = [sys.executable, "-m", "imagebuilder", *map(str, argv)]
    ended = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert (
        "no change that leaves mine what its config, overlays and apps ask for makes it fit" in ended.stderr
    )
    assert ("--fit-any may also" in ended.stderr) is hinted


def test_what_the_prediction_lets_through_is_measured_after_make(ask: Ask, tmp_path: Path) -> None:
    """Within its uncertainty a plan is built, and refused all the same when what came out is known."""
    asked = ask(variant="light")
    predicted = flash_of(asked)
    _, result = build_image(asked, Log())
    assert result.flash is not None
    assert predicted.free == result.flash.free
    doubt = result.flash.rootfs.uncertainty
    assert doubt < predicted.rootfs.uncertainty / 2
    wanted = (result.flash.free or 0) + 2 * doubt
    asked = ask(f"[budget]\nflash_free = {wanted}\n", variant="light")
    assert any("nearer to the limit than the prediction is sure" in note for note in flash_of(asked).notes)
    with pytest.raises(
        BudgetError, match=f"leaves {result.flash.free} bytes free, and budget.flash_free wants"
    ):
        build_image(asked, Log())
    (kept,) = tmp_path.glob(f"out/mine/{BOARD}*log")  # make was called
    assert "Building images..." in kept.read_text()


def test_packages_that_are_here_are_packed_for_measuring(ask: Ask) -> None:
    asked = ask(variant="light")
    budgets = fetch_image(asked, Log())[1]
    _, result = build_image(asked, Log())
    assert budgets.flash is not None
    assert result.flash is not None
    assert budgets.flash.measured
    assert abs(budgets.flash.rootfs.bytes - result.flash.rootfs.bytes) <= budgets.flash.rootfs.uncertainty


def test_a_recipes_own_limit_counts_and_make_leaves_the_image_out(
    ask: Ask, tree: Path, tmp_path: Path
) -> None:
    """check-size takes less than the board's partition has: the plan says so, and what it is not sure of is
    told by what make leaves out."""
    _, result = build_image(ask(variant="light"), Log())
    size = result.images[0].size
    makefiles = [tree / "Makefile", tree / "target/linux/ar71xx/image/Makefile"]
    for makefile in makefiles:
        makefile.write_text(makefile.read_text().replace(str(FIRMWARE), str(size)))
    assert build_image(ask(variant="light"), Log())[1].flash.images[0].limit == size  # type: ignore[union-attr]
    for makefile in makefiles:
        makefile.write_text(makefile.read_text().replace(str(size), str(size - 1)))
    flash = flash_of(ask(variant="light"))
    (image,) = flash.images
    assert (image.limit, image.limit_source, image.excess) == (size - 1, "the recipe's check-size", 1)
    with pytest.raises(
        BuildError, match=r"make left out the sysupgrade image(.|\n)*: 1 bytes over the limit"
    ):
        build_image(ask(variant="light"), Log())
    with pytest.raises(BudgetError, match=f"takes at most {size - 1}"):
        build_image(ask(variant="full"), Log())


def test_a_baked_image_may_leave_one_erase_block(ask: Ask, tree: Path) -> None:
    free = flash_of(ask(variant="light")).free or 0
    more = free // BLOCK - 1
    nor_tree.add_packages(tree, [nor_tree.Content("filler", more, "base")])
    with_filler = '[packages]\nadd = ["filler"]\n'
    plain = build_image(ask(with_filler, variant="light"), Log())[1].flash
    assert plain is not None
    assert plain.free is not None
    few = plain.free < 5 * BLOCK
    assert few
    assert any("JFFS2 wants 5 erase blocks" in note for note in plain.notes)
    wanting = with_filler + f"[budget]\nflash_free = {8 * BLOCK}\n"
    with pytest.raises(BudgetError, match=r"budget\.flash_free wants"):
        build_image(ask(wanting, variant="light"), Log())
    baked = build_image(ask(wanting + "[image]\nbaked = true\n", variant="light"), Log())[1].flash
    assert baked is not None
    assert (baked.free, baked.wanted_free, baked.verdict, baked.baked) == (plain.free, BLOCK, "fits", True)
    assert any("in RAM, and lost at every start" in note for note in baked.notes)


def test_the_command_changes_the_file_and_says_so(ask: Ask, project: Path, tree: Path) -> None:
    asked = ask(variant="full")
    argv = ["plan", "mine", "--board", BOARD, "--imagebuilder", tree, "--project", project]

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "imagebuilder", *map(str, argv), "--cache", str(asked.cache), *more]
        return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)

    refused = call()
    assert (refused.returncode, "is too big by" in refused.stderr) == (2, True)
    before = (project / "configs/mine.toml").read_text()
    unasked = call("--fit")
    assert unasked.returncode == 2
    assert "mine.toml is not changed: nobody is there to be asked\nhint: --yes changes it" in unasked.stderr
    assert '-variant = "full"\n+variant = "light"' in unasked.stdout
    assert "the device loses: what programs use of python3" in unasked.stdout
    document = json.loads(call("--fit", "--json").stdout)
    assert document["hint"] == "--yes changes it without asking"
    assert '+variant = "light"' in document["found"]["diff"]
    assert document["found"]["steps"][0]["costs"]
    assert (project / "configs/mine.toml").read_text() == before
    assert "--yes says that --fit may write" in call("--yes").stderr
    fitted = call("--fit", "--yes")
    assert fitted.returncode == 0, fitted.stderr
    assert '-variant = "full"\n+variant = "light"' in fitted.stdout
    assert tomli.loads((project / "configs/mine.toml").read_text())["python"]["variant"] == "light"
    assert call().returncode == 0


def test_a_board_that_cannot_be_fitted_keeps_no_other_from_it(
    project: Path, tree: Path, tmp_path: Path
) -> None:
    for name in ("nor-a", "nor-b", "nor-c"):
        (project / f"boards/{name}.toml").write_text(nor_tree.BOARD_TOML)
    mine = project / "configs/mine.toml"
    before = (
        'extends = "base"\nboards = ["nor-a", "nor-b", "nor-c"]\n[python]\nvariant = "full"\n'
        f"[board.nor-a]\nbudget.flash_free = {FIRMWARE}\n"
    )
    mine.write_text(before)
    argv = ["plan", "mine", "--imagebuilder", tree, "--project", project, "--cache", tmp_path / "cache"]

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "imagebuilder", *map(str, argv), "--fit", *more]
        return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)

    unasked = call("--json")
    document = json.loads(unasked.stdout)
    states = [(each["board"], each["state"]) for each in document["found"]]
    assert states == [("nor-a", "failed"), ("nor-b", "failed"), ("nor-c", "failed")]
    assert "makes it fit" in document["found"][0]["error"]
    assert '+variant = "light"' in document["found"][1]["diff"]
    assert "mine for nor-b:" in unasked.stderr
    assert mine.read_text() == before
    quick = call("--yes", "--fail-fast")
    assert (quick.returncode, mine.read_text()) == (2, before)
    assert "1 of 3 failed: nor-a; 2 not run, because of --fail-fast" in quick.stderr
    fitted = call("--yes")
    assert fitted.returncode == 2
    assert "1 of 3 failed: nor-a" in fitted.stderr
    lines = [line.split()[:2] for line in fitted.stdout.splitlines() if line.startswith("nor-")]
    assert lines == [["nor-a", "failed"], ["nor-b", "planned"], ["nor-c", "planned"]]
    differences = tomli.loads(mine.read_text())["board"]
    assert differences["nor-b"]["python"] == differences["nor-c"]["python"] == {"variant": "light"}
    assert set(differences["nor-a"]) == {"budget"}


def test_room_that_nobody_can_tell_of_is_told(ask: Ask, project: Path) -> None:
    path = project / f"boards/{BOARD}.toml"
    path.write_text(path.read_text().replace('"64M"', '"unknown"').replace(f"firmware = {FIRMWARE}\n", ""))
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    plan_and_budgets(ask('[budget]\nflash_free = "1K"\nram_free = "1M"\n'), Log().also(watch))
    assert told == [
        f"budget.flash_free is not checked: what stays free of the flash of {BOARD} is not known",
        f"budget.ram_free is not checked: what stays free of the RAM of {BOARD} is not known",
    ]


@pytest.mark.parametrize("answer", ["y", "", "no"])
def test_somebody_at_a_terminal_is_asked(ask: Ask, project: Path, tree: Path, answer: str) -> None:
    code, variant = (0, "light") if answer == "y" else (2, "full")
    asked = ask(variant="full")
    argv = [sys.executable, "-m", "imagebuilder", "plan", "mine", "--board", BOARD, "--fit", "--quiet"]
    argv += ["--imagebuilder", tree, "--project", project, "--cache", asked.cache]  # type: ignore[list-item]
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    ended = subprocess.run(
        [*map(str, argv)], cwd=PROJECT, stdin=theirs, capture_output=True, text=True, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == code, ended.stderr
    assert f"change {project / 'configs/mine.toml'} so? [y/N]" in ended.stderr
    assert ("mine.toml is not changed" in ended.stderr) is (code == 2)
    assert tomli.loads((project / "configs/mine.toml").read_text())["python"]["variant"] == variant


def test_fit_takes_nothing_that_somebody_asked_for(ask: Ask, tree: Path) -> None:
    """Neither the radio's driver, which the overlay's work needs, nor a package that the config adds; a plan
    without such a driver is told of."""
    more = [
        nor_tree.Content("kmod-cfg80211", 1, "kernel", "kernel"),
        nor_tree.Content("kmod-wifi", 2, "kernel", "kernel, kmod-cfg80211"),
        nor_tree.Content("filler", 2, "base"),
    ]
    nor_tree.add_packages(tree, more)
    free = flash_of(ask()).free or 0
    wifi = '[packages]\nadd = ["filler"]\n[[overlay]]\nname = "wifi-client"\n'
    wifi += 'variables = { ssid = "x", key = "" }\n'
    room = f"[budget]\nflash_free = {free}\n"
    assert fit_config(ask(f'[packages]\nadd = ["filler"]\n{room}'), Log())[1].fits
    for wanted in range(free - 2 * BLOCK, free + 4 * BLOCK, BLOCK):
        _, found = fit_config(ask(f"{wifi}[budget]\nflash_free = {max(wanted, 1)}\n"), Log())
        gone = {name for each in found.advice for name in each.gone}
        assert not {"kmod-wifi", "kmod-cfg80211", "filler"} & gone
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    without = wifi.replace("[[overlay]]", 'remove = ["kmod-wifi"]\n[[overlay]]')
    plan_and_budgets(ask(without), Log().also(watch))
    assert told == ["the overlay 'wifi-client' needs WiFi, and nothing in this image drives it"]
