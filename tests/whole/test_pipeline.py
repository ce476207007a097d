"""From a config to what is handed over, on a small tree that behaves as it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from imagebuilder.build import build_image, build_twice
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import FaultsError, HostError, UserError
from imagebuilder.firmware.verify import UnsafeImageError
from imagebuilder.host.limits import LIMITS, LimitError
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import opening_view
from imagebuilder.log import Log, Warned
from imagebuilder.model.package import Package
from imagebuilder.model.tree import TreeError
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.collect import BuildError
from imagebuilder.tree.reproducible import ReproducibilityError
from imagebuilder.trial.trial import TrialFailedError
from tests.support.heeding import HEEDING
from tests.support.planning import plan_image

AddConfig = Callable[[str, str], str]
BOARD = "tplink-tl-wr740n-v4"


@pytest.fixture
def request_for(project: Path, small_tree: Path, tmp_path: Path) -> Callable[..., Request]:
    def make(config: str = "router", tree: Path | None = small_tree, output: Path | None = None) -> Request:
        (asked,) = requests(
            project,
            config,
            board=BOARD,
            imagebuilder=str(tree) if tree else None,
            output=output or tmp_path / "out",
            cache=tmp_path / "cache",
        )
        return asked

    return make


def leftovers(output: Path) -> list[str]:
    """What lies in the output folder's folders."""
    return sorted(path.name for path in output.glob("*/*"))


def test_a_build_hands_over_whole_results(request_for: Callable[..., Request], tmp_path: Path) -> None:
    place, result = build_image(request_for(), Log())
    assert place == tmp_path / "out/router" / BOARD
    assert sorted(path.name for path in place.iterdir()) == [
        "build.log",
        "inputs.json",
        "lock.toml",
        "manifest",
        "openwrt-23.05.5-ath79-tiny-tplink_tl-wr740n-v4-squashfs-factory.bin",
        "openwrt-23.05.5-ath79-tiny-tplink_tl-wr740n-v4-squashfs-sysupgrade.bin",
        "report.html",
        "result.json",
        "sbom.cdx.json",
        "sha256sums",
    ]
    written = json.loads((place / "result.json").read_text())
    assert written == json.loads(result.model_dump_json())
    assert [image["type"] for image in written["images"]] == ["sysupgrade", "factory"]
    assert all(written["checks"][image["file"]] > 20 for image in written["images"])
    rootfs = written["rootfs"]
    assert rootfs["tables"] + sum(each["stored"] for each in rootfs["packages"]) == rootfs["stored"]
    assert written["packages"][1] == {"name": "busybox", "version": "1.36"}
    assert written["tree"]["version"] == "23.05.5"
    device = written["device"]
    assert [title["title"] for title in device["titles"]] == ["TP-Link TL-WR740N/ND v4"]
    assert (device["kernel"], device["device_packages"]) == ("5.15", ["-dnsmasq", "rssileds"])
    assert device["supported_devices"] == ["tplink,tl-wr740n-v4", "tl-wr741nd-v4"]
    assert device["epoch"] > 1_500_000_000
    steps = [step["step"] for step in written["steps"]]
    assert steps == ["tree", "plan", "fetch", "stage", "build", "verify", "trial"]
    assert "OK" in run(["sha256sum", "-c", "sha256sums"], cwd=place).stdout
    assert leftovers(tmp_path / "out") == [BOARD]


def test_make_gets_a_clean_world(
    request_for: Callable[..., Request],
    add_config: AddConfig,
    small_tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FILES", "/leaks")
    monkeypatch.setenv("SECRET", "leaks")
    (small_tree / "behaviour").write_text("umask; env; ls -ld $FILES; find $FILES -printf '%m %P\\n'\n")
    add_config("mine", 'extends = "router"\n[[overlay]]\nname = "demo"\n')
    before = os.umask(0o077)
    try:
        place, _ = build_image(request_for("mine"), Log())
    finally:
        os.umask(before)
    printed = (place / "build.log").read_text()
    assert "leaks" not in printed
    assert "0022" in printed.splitlines()
    assert "HOME=" in printed
    assert str(Path.home()) not in [line.partition("=")[2] for line in printed.splitlines()]
    assert "755 usr/share/demo\n" in printed
    assert "644 usr/share/demo/demo.py\n" in printed
    assert "755 \n" in printed  # the folder itself: its mode becomes that of /


@pytest.mark.parametrize("known", [True, False])
def test_the_size_of_the_root_file_system_reaches_the_make_that_makes_images(
    request_for: Callable[..., Request], add_config: AddConfig, small_tree: Path, known: bool
) -> None:
    """17.01 to 21.02.0 know no ROOTFS_PARTSIZE: there it is the setting of .config that counts."""
    add_config("mine", 'extends = "router"\n[image]\nrootfs_partsize = 2\n')
    with (small_tree / ".config").open("a") as stream:
        stream.write("CONFIG_TARGET_ROOTFS_PARTSIZE=104\n")
    given = "$(if $(ROOTFS_PARTSIZE),CONFIG_TARGET_ROOTFS_PARTSIZE=$(ROOTFS_PARTSIZE))" if known else ""
    makefile = (small_tree / "Makefile").read_text()
    (small_tree / "Makefile").write_text(
        f"include .config\n{makefile}image: size\nsize:\n"
        f"\t@(unset MAKEFLAGS; $(MAKE) -s say-size {given})\n"
        "say-size:\n\t@echo size $(CONFIG_TARGET_ROOTFS_PARTSIZE)\n"
    )
    place, _ = build_image(request_for("mine"), Log())
    assert "size 2" in (place / "build.log").read_text().splitlines()


def test_a_tree_without_feeds_gets_the_index_of_its_packages_too(
    request_for: Callable[..., Request], small_tree: Path
) -> None:
    """In a fork's tree of 3,403 packages make takes minutes to make one."""
    makefile = (small_tree / "Makefile").read_text()
    (small_tree / "Makefile").write_text(
        f"{makefile}image: package_reload\npackage_reload:\n\t@zcat packages/Packages.gz | grep ^Package:\n"
    )
    place, _ = build_image(request_for(), Log())
    assert "Package: busybox" in (place / "build.log").read_text().splitlines()
    assert not (small_tree / "packages/Packages.gz").exists()


def test_plan_and_make_command(
    request_for: Callable[..., Request], add_config: AddConfig, tmp_path: Path
) -> None:
    add_config(
        "mine",
        'extends = "router"\n[python]\nvariant = "base"\n[packages]\nadd = ["tcpdump-mini"]\n'
        'remove = ["ppp"]\n[services]\ndisabled = ["cron"]\n'
        '[image]\nextra_name = "x"\n',
    )
    plan = plan_image(request_for("mine"), Log())
    assert plan.make == (
        "image",
        "PROFILE=tplink_tl-wr740n-v4",
        "PACKAGES=python3-base tcpdump-mini -ppp",
        "EXTRA_IMAGE_NAME=x",
    )
    wanted = ("python3-base", "tcpdump-mini", "base-files", "busybox", "kernel", "rssileds")
    assert plan.wanted.names == wanted
    assert plan.wanted.add["base-files"] == "the default packages of ath79/tiny"
    assert plan.wanted.add["rssileds"] == "the profile tplink_tl-wr740n-v4"
    assert plan.wanted.add["tcpdump-mini"].startswith("packages.add in ")
    assert plan.wanted.add["python3-base"].startswith('python.variant = "base" in ')
    assert not (tmp_path / "out").exists()
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"CACHEDIR.TAG", "indexes"}
    shown = plan.model_dump(mode="json")
    assert list(shown) == [
        *(
            "config",
            "board",
            "tree",
            "profile",
            "python",
            "packages",
            "wanted",
            "reasons",
            "imports",
            "taken",
            "install",
        ),
        *("trimmed", "shaken", "back", "swaps", "disabled_services", "overlays", "make", "unchecked"),
    ]
    assert shown["packages"] == ["python3-base", "tcpdump-mini", "-ppp"]
    assert (shown["wanted"], shown["reasons"]) == (list(plan.wanted.add), plan.wanted.add)
    first, selected = shown["install"][0], plan.install[0]
    assert list(first) == [
        *("name", "version", "feed", "filename", "size", "installed_size", "sha256", "identity"),
        *("abi_version", "section", "why"),
    ]
    assert first["name"] == selected.package.name
    assert (first["sha256"], first["why"]) == (selected.package.sha256.lower(), list(selected.why))


def test_a_recipe_with_a_make_of_its_own_writes_where_the_others_do(
    request_for: Callable[..., Request], small_tree: Path
) -> None:
    """image-legacy.mk calls a make to which no variable of the command line comes, as _call_image does."""
    (small_tree / "old.mk").write_text("BIN_DIR := lost\nall:\n\t@touch $(BIN_DIR)/old\n")
    (small_tree / "behaviour").write_text(
        "mkdir lost; env -u BIN_DIR -u MAKEFLAGS -u MAKEOVERRIDES make -s -f old.mk\n"
        "test -f /builder/work/bin/old && echo the old recipe was heard\n"
    )
    place, _ = build_image(request_for(), Log())
    assert "the old recipe was heard" in (place / "build.log").read_text()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (
            "echo '[mktplinkfw] *** error: images are too big by 70000 bytes'",
            "70000 bytes over the limit of 3669504",
        ),
        (
            "echo 'WARNING: Image file /x/y-squashfs-factory.bin is too big: 9 > 7'",
            "y-squashfs-factory.bin: 2 bytes over the limit of 7",
        ),
    ],
)
def test_an_image_that_make_left_out_is_an_error(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path, behaviour: str, words: str
) -> None:
    root = "build_dir/target-x/root-ath79"
    (small_tree / "behaviour").write_text(
        f"{behaviour}\nmkdir -p {root}/usr/lib/opkg/info {root}/etc\n"
        f"head -c 90000 /dev/zero > {root}/big\nhead -c 10 /dev/zero > {root}/etc/x\n"
        f"echo /etc/x > {root}/usr/lib/opkg/info/small.list\n"
    )
    makefile = (small_tree / "Makefile").read_text()
    (small_tree / "Makefile").write_text(
        makefile.replace("for type in sysupgrade factory", "for type in sysupgrade")
    )
    with pytest.raises(BuildError) as error:
        build_image(request_for(), Log())
    assert f"make left out the factory image of {BOARD}" in error.value.message
    assert "\nit made environment, openwrt-23.05.5-ath79-tiny-" in error.value.message
    assert words in error.value.message
    assert "files from overlays 87.9 KiB, small 10 bytes" in error.value.message
    assert leftovers(tmp_path / "out") == [f"{BOARD}.failed.log"]


def test_an_image_larger_than_its_partition_is_an_error_although_make_is_content(
    request_for: Callable[..., Request], add_config: AddConfig, small_tree: Path
) -> None:
    """The advice is of what there is: a smaller Python only where there is one."""
    (small_tree / "size").write_text("3997697")
    with pytest.raises(BuildError, match="3997697 bytes, 1 more than the 3997696 bytes") as caught:
        build_image(request_for(), Log())
    assert caught.value.hint == "take something out"
    add_config("mine", 'extends = "router"\n[python]\nvariant = "light"\n')
    with pytest.raises(BuildError) as caught:
        build_image(request_for("mine"), Log())
    assert caught.value.hint == "take something out, or choose a smaller Python"
    (small_tree / "size").write_text("3997696")
    with pytest.raises(UnsafeImageError, match="must not be flashed on .*\n.*holds nothing but one byte"):
        build_image(request_for(), Log())


def test_packages_that_do_not_go_in_are_named_with_who_asked(
    request_for: Callable[..., Request], add_config: AddConfig, small_tree: Path
) -> None:
    add_config("mine", 'extends = "router"\n[packages]\nadd = ["nosuch", "luci"]\n')
    for name in ("nosuch", "luci"):  # the index has them, and make cannot install them
        write_ipk(small_tree / "packages", Package(name, "1"), EMPTY, epoch=1)
    (small_tree / "behaviour").write_text(
        "echo \"Unknown package 'nosuch'.\"\necho ' * opkg_install_cmd: Cannot install package nosuch.'\n"
        "echo ' * satisfy_dependencies_for: Cannot satisfy the following dependencies for luci:'\n"
        "printf ' * \\tuhttpd\\n'\n"
        "echo \" * opkg_install_pkg: Failed to download libpcap. Perhaps you need to run 'opkg update'?\"\n"
    )
    with pytest.raises(BuildError) as error:
        build_image(request_for("mine"), Log())
    text = error.value.message
    assert "package 'nosuch' is in no feed; asked for by packages.add in " in text
    assert "configs/mine.toml" in text
    assert (
        "package 'uhttpd' is in no feed; package 'luci' depends on it, and asked for by packages.add" in text
    )
    assert "package 'libpcap' could not be downloaded; it is a dependency of 'nosuch'" in text


def test_packages_that_are_in_no_feed_are_named_before_anything_is_built(
    request_for: Callable[..., Request], add_config: AddConfig, tmp_path: Path
) -> None:
    add_config("mine", 'extends = "router"\n[packages]\nadd = ["nosuch"]\n')
    with pytest.raises(FaultsError, match=r"mine\.toml:3: packages\.add\[0\]: no feed has 'nosuch'"):
        build_image(request_for("mine"), Log())
    assert leftovers(tmp_path / "out") == []


def test_an_image_that_holds_other_packages_than_planned_is_refused(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path
) -> None:
    (small_tree / "behaviour").write_text("mv packages/busybox_1.36_all.ipk packages/busybox_1.37_all.ipk")
    with pytest.raises(BuildError, match=r"busybox 1\.36 was planned, and 1\.37 is there"):
        build_image(request_for(), Log())
    assert leftovers(tmp_path / "out") == [f"{BOARD}.failed.log"]


def test_make_that_fails_shows_its_last_words(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path
) -> None:
    (small_tree / "behaviour").write_text("echo the last word")
    (small_tree / "behaviour-fails").touch()
    with pytest.raises(BuildError, match="make exited with 2, saying last:\n(?s:.*)the last word") as error:
        build_image(request_for(), Log())
    log = tmp_path / f"out/router/{BOARD}.failed.log"
    assert error.value.__notes__ == [f"the whole log: {log}"]
    assert "the last word" in log.read_text()
    (small_tree / "behaviour-fails").unlink()
    build_image(request_for(), Log())
    assert leftovers(tmp_path / "out") == [BOARD]


def test_make_that_does_not_start_keeps_nothing_waiting(
    request_for: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on beside it begins when it runs."""

    def not_started(*_: object, **__: object) -> None:
        raise HostError("make did not start")

    monkeypatch.setattr("imagebuilder.tree.make.stream", not_started)
    with pytest.raises(HostError, match="make did not start"):
        build_image(request_for(), Log())
    assert leftovers(tmp_path / "out") == [f"{BOARD}.failed.log"]


def test_without_a_tree(request_for: Callable[..., Request]) -> None:
    with pytest.raises(TreeError, match="config 'router' names no release, and no ImageBuilder was given"):
        build_image(request_for(tree=None), Log())


def test_two_builds_at_once_from_one_tree(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path
) -> None:
    """Each make ends only after both have been seen to run."""
    (small_tree / "behaviour").write_text(
        'touch "$TMPDIR/make-runs"\n'
        'for i in $(seq 200); do [ -e "$BIN_DIR/go-on" ] && exit 0; sleep 0.1; done\n'
        "touch behaviour-fails\n"
    )
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(build_image, request_for(), Log()) for _ in range(2)]
        for marker in wait_for(tmp_path, 2):
            (marker.parents[1] / "bin/go-on").touch()
        first, second = (build.result() for build in builds)
    assert first[1].images == second[1].images
    assert (first[0] / "result.json").is_file()


def test_no_space_left(request_for: Callable[..., Request], small_tree: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own: a file system of 2 MB for the output."""
    small = tmp_path / "small"
    small.mkdir()
    program = (
        "from imagebuilder.build import build_image\nfrom imagebuilder.config.request import requests\n"
        "from imagebuilder.log import Log\nfrom pathlib import Path\nimport sys\n"
        "from imagebuilder.errors import HostError\n"
        "asked = requests(Path(sys.argv[1]), 'router', board=sys.argv[2], imagebuilder=sys.argv[3],\n"
        "                 output=Path(sys.argv[4]), cache=Path(sys.argv[5]))\n"
        "try:\n    build_image(asked[0], Log())\n"
        "except HostError as error:\n    print(error.message)\n"
    )
    asked = request_for()
    argv = [sys.executable, "-c", program, str(asked.library.root), BOARD, str(small_tree), str(small)]
    argv.append(str(tmp_path / "cache"))
    mount = f'mount -t tmpfs -o size=2m tmpfs "{small}" && exec "$@"'
    flags = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    printed = run(["unshare", *flags, "sh", "-c", mount, "sh", *argv]).stdout
    assert "no space left" in printed


@pytest.mark.parametrize(
    ("script", "bound", "said"),
    [
        ("tail /dev/zero", {"memory": 64 << 20}, r"it took \d+ MiB of memory, more than 64 MiB"),
        ("i=0; while [ $i -lt 90 ]; do sleep 20 & i=$((i+1)); done; wait", {"tasks": 60}, "processes"),
        ("sleep 20", {"seconds": 1}, "it did not end within 1 s"),
    ],
)
def test_a_script_that_takes_all_there_is(  # noqa: PLR0917 - fixtures and parameters
    request_for: Callable[..., Request],
    small_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    bound: dict[str, int],
    said: str,
) -> None:
    """The step is named, and what of it was too much; nothing is handed over, and the next build succeeds."""
    monkeypatch.setattr(
        "imagebuilder.decide.opening_view", partial(opening_view, limits=replace(LIMITS, **bound))
    )
    (small_tree / "behaviour").write_text(f"echo 'Installing greedy (1) to root...'; {script}\n")
    with pytest.raises(LimitError, match=rf"^make image \(installing greedy\) was stopped: .*{said}"):
        build_image(request_for(), Log())
    assert leftovers(tmp_path / "out") == [f"{BOARD}.failed.log"]
    monkeypatch.undo()
    (small_tree / "behaviour").unlink()
    assert build_image(request_for(), Log())[0].is_dir()


def build_in_background(asked: Request) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "imagebuilder", "build", "router", "--board", BOARD]
    argv += ["--project", str(asked.library.root), "--imagebuilder", str(asked.imagebuilder)]
    argv += ["--output", str(asked.output), "--cache", str(asked.cache), "--quiet"]
    return subprocess.Popen([*HEEDING, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(folder: Path, count: int) -> list[Path]:
    """The files make-runs that so many builds wrote into their temporary folders."""
    until = time.monotonic() + 30
    while len(found := list(folder.glob("out/router/.work-*/tmp/make-runs"))) < count:
        assert time.monotonic() < until, "make does not run"
        time.sleep(0.02)
    return found


def is_running(argument: str) -> bool:
    """Whether any process of this machine has this word in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes().split(b"\0"):
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 143),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_build_that_is_stopped_during_make_can_simply_be_run_again(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    seconds = f"300.{os.getpid()}"
    (small_tree / "behaviour").write_text(f'sleep {seconds} & touch "$TMPDIR/make-runs"; wait\n')
    program = build_in_background(request_for())
    wait_for(tmp_path, 1)
    until = time.monotonic() + 10
    while not is_running(seconds):  # the marker may be there a moment before the sleep
        assert time.monotonic() < until
        time.sleep(0.02)
    program.send_signal(number)
    assert program.wait(30) == code
    assert not (tmp_path / "out/router" / BOARD).exists()
    until = time.monotonic() + 10
    while is_running(seconds):
        assert time.monotonic() < until, "make goes on"
        time.sleep(0.05)
    (small_tree / "behaviour").unlink()
    place, _ = build_image(request_for(), Log())
    assert (place / "result.json").is_file()
    assert leftovers(tmp_path / "out") == [BOARD]
    assert not list((tmp_path / "out/router").glob(".work-*"))


_NEST = """
chunk=$(yes d | head -n 500 | tr '\\n' /)
mkdir -p {place} inner
for i in $(seq {chunks}); do mkdir -p outer/$chunk; mv inner outer/$chunk/d; mv outer inner; done
mv inner {place}/d
touch "$TMPDIR/make-runs"
"""
ROOT = "build_dir/target-x/root-ath79"


@pytest.mark.parametrize(
    ("place", "chunks"), [(ROOT, 2), (ROOT, 40), ("build_dir/target-x/linux-ath79_tiny", 40)]
)
def test_folders_nested_without_end_are_an_error_that_names_them_or_none(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path, place: str, chunks: int
) -> None:
    """A thousand are more than a function that calls itself can go, 20,000 more than any path can name."""
    build_image(request_for(), Log())
    (small_tree / "behaviour").write_text(_NEST.format(place=place, chunks=chunks))
    try:
        build_image(request_for(), Log())
    except UserError as error:
        assert "longer than 4096 bytes: it begins" in error.message
        assert chunks == 40
    assert leftovers(tmp_path / "out") in ([BOARD], [BOARD, f"{BOARD}.failed.log"])
    (small_tree / "behaviour").write_text('touch "$TMPDIR/make-runs"\n')
    place_of_result, _ = build_image(request_for(), Log())
    assert (place_of_result / "result.json").is_file()
    assert leftovers(tmp_path / "out") == [BOARD]


def test_unknown_disabled_services_are_told(
    request_for: Callable[..., Request], add_config: AddConfig, small_tree: Path
) -> None:
    add_config("mine", 'extends = "router"\n[services]\ndisabled = ["cron", "telnet"]\n')
    (small_tree / "behaviour").write_text(
        "scripts=build_dir/target-x/root-ath79/etc/init.d; mkdir -p $scripts; touch $scripts/cron\n"
    )
    _, result = build_image(request_for("mine"), Log())
    assert result.warnings == ("services.disabled names 'telnet', which this image does not have",)


def test_a_config_without_boards(project: Path, add_config: AddConfig) -> None:
    add_config("none", 'extends = "base"\n')
    with pytest.raises(UserError, match="names no boards"):
        requests(project, "none")


def test_a_cache_that_cannot_be_written(request_for: Callable[..., Request], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write"):
        build_image(request_for(output=tmp_path / "file"), Log())


def test_a_refused_build_leaves_no_empty_folder(
    request_for: Callable[..., Request], add_config: AddConfig, tmp_path: Path
) -> None:
    add_config("mine", 'extends = "router"\n[packages]\nadd = ["nobody-has-this"]\n')
    for build in (build_image, build_twice):
        with pytest.raises(UserError, match="nobody-has-this"):
            build(request_for("mine"), Log())
        assert not (tmp_path / "out").exists()


def test_building_twice_tells_what_differs(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, result = build_twice(request_for(), Log())
    assert (place / result.images[0].file).is_file()
    (small_tree / "behaviour").write_text("date +%s%N | sha256sum | tr -dc '1-9' | head -c 6 > size\n")
    # images that differ each time and may all be flashed are more than a shell can make
    monkeypatch.setattr("imagebuilder.made.check_flashable", lambda *_, **_more: {})
    monkeypatch.setattr("imagebuilder.made.rootfs_sizes", lambda *_: None)
    with pytest.raises(ReproducibilityError, match="the sysupgrade image differs, first at byte"):
        build_twice(request_for(), Log())
    assert leftovers(tmp_path / "out") == [BOARD]


MADE_ROOT = "build_dir/target-x/root-ath79"


def test_a_tree_whose_grep_does_not_load_gives_no_image_that_starts_nothing(
    request_for: Callable[..., Request], small_tree: Path
) -> None:
    """make goes on where its recipe does not look at what its programs say."""
    said = "grep: error while loading shared libraries: libpcre.so.3: cannot open shared object file"
    (small_tree / "behaviour").write_text(
        f"mkdir -p {MADE_ROOT}/etc/init.d {MADE_ROOT}/etc/rc.d\ntouch {MADE_ROOT}/etc/rc.common\n"
        f"printf '#!/bin/sh /etc/rc.common\\nSTART=10\\n' > {MADE_ROOT}/etc/init.d/boot\n"
        f"echo '{said}' >&2\n"
    )
    warned: list[str] = []
    log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
    with pytest.raises(TrialFailedError, match="the device would start no service"):
        build_image(request_for(), log)
    assert any(line.endswith(f"is perhaps not done: {said}") for line in warned)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (f"mkdir -p build_dir/target-x; ln -s {{outside}} {MADE_ROOT}", f"{MADE_ROOT} is a symbolic link"),
        ("ln -s {outside} build_dir", "build_dir is a symbolic link"),
        ("truncate -s 300M $BIN/x.manifest", "2 manifests where one was expected"),
    ],
)
def test_what_make_leaves_is_not_followed(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path, behaviour: str, words: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "target-x/root-ath79").mkdir(parents=True)
    (outside / "target-x/linux-ath79_tiny").mkdir()
    text = behaviour.format(outside=outside).replace("$BIN", "/builder/work/bin")
    (small_tree / "behaviour").write_text(f"{text}\n")
    with pytest.raises(UserError, match=words):
        build_image(request_for(), Log())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ln -sf /etc/passwd $(DIST).manifest", "0 manifests where one was expected"),
        ("truncate -s 300M $(DIST).manifest", "has 314572800 bytes, more than the"),
        ("truncate -s 200G $(DIST)-squashfs-sysupgrade.bin", "the sysupgrade image has 214748364800 bytes"),
        ("ln -sf /etc/passwd $(DIST)-squashfs-sysupgrade.bin", "make left out the sysupgrade image"),
    ],
)
def test_what_make_leaves_in_place_of_results(
    request_for: Callable[..., Request], small_tree: Path, command: str, words: str
) -> None:
    makefile = small_tree / "Makefile"
    makefile.write_text(f"{makefile.read_text()}\t@{command}\n")
    with pytest.raises(UserError, match=words) as error:
        build_image(request_for(), Log())
    assert "root:" not in error.value.message


def test_what_make_plants_before_the_build_is_not_written_through(
    request_for: Callable[..., Request], small_tree: Path, tmp_path: Path
) -> None:
    """make runs once to say what it knows; what is laid into its view afterwards must not leave it."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    makefile = small_tree / "Makefile"
    planted = f"info:\n\t@ln -sf {victim} repositories.conf\n"
    makefile.write_text(makefile.read_text().replace("info:\n", planted, 1))
    build_image(request_for(), Log())
    assert victim.read_text() == "mine"
