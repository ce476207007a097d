"""Reading an ImageBuilder tree, its archive and what make prints."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.config.library import Library
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import CommandRun, Log
from imagebuilder.model.tree import ProfileError, Tree, TreeError, TreeProfile
from imagebuilder.server.archive import ArchiveError, check_member, given_tree, unpack, unpacked_tree
from imagebuilder.tree.ask_make import (
    VARIABLES,
    IncompleteTreeError,
    MakeAnswer,
    ask_make,
    check_whole,
    parse_answer,
)
from imagebuilder.tree.collect import TooBig, Unsatisfied, read_output, stage_of
from imagebuilder.tree.tree import (
    check_tree,
    choose_profile,
    names_a_series,
    parse_info,
    read_tree,
    settings_of,
)

INFO_24 = """\
Current Target: "ath79/generic"
Current Revision: "r28427-6df0e3d02a"
Default Packages: base-files ca-bundle dropbear
Available Profiles:

8dev_carambola2:
    8devices Carambola2
    Packages: kmod-usb2 kmod-usb-chipidea2
    hasImageMetadata: 1
    SupportedDevices: 8dev,carambola2 carambola2
no-title:
    Packages:
    hasImageMetadata: 1
last_one:
    Vendor's "Device" (v2: EU)
    Packages: -kmod-ath9k
"""


def test_make_info_of_newer_trees() -> None:
    defaults, profiles = parse_info(INFO_24)
    assert defaults == ("base-files", "ca-bundle", "dropbear")
    assert list(profiles) == ["8dev_carambola2", "no-title", "last_one"]
    assert profiles["8dev_carambola2"].title == "8devices Carambola2"
    assert profiles["8dev_carambola2"].packages == ("kmod-usb2", "kmod-usb-chipidea2")
    assert profiles["no-title"].packages == ()
    assert profiles["last_one"].title == 'Vendor\'s "Device" (v2: EU)'


@given(st.text(max_size=400))
def test_any_make_info_gives_a_result(text: str) -> None:
    defaults, profiles = parse_info(text)
    assert all(isinstance(name, str) for name in (*defaults, *profiles))


@contextmanager
def view_of(tree: Path, work: Path) -> Iterator[PrivateView]:
    work.mkdir()
    try:
        yield open_view(tree, work, Log())
    finally:
        remove_tree(work)


def test_a_tree_says_what_it_is(small_tree: Path, tmp_path: Path) -> None:
    with view_of(small_tree, tmp_path / "work") as view:
        tree = read_tree(small_tree, lambda: view, tmp_path / "cache", Log())
    assert (tree.distribution, tree.version, tree.target) == ("OpenWrt", "23.05.5", "ath79/tiny")
    assert (tree.arch, tree.package_manager, tree.disables_services) == ("mips_24kc", "opkg", False)
    assert tree.profiles["tplink_tl-wr740n-v4"].packages == ("-dnsmasq", "rssileds")


def test_a_version_can_stand_in_version_mk(small_tree: Path, tmp_path: Path) -> None:
    (small_tree / ".config").write_text(
        'CONFIG_TARGET_BOARD="ar71xx"\nCONFIG_TARGET_SUBTARGET="generic"\nCONFIG_VERSION_NUMBER=""\n'
        'CONFIG_TARGET_ARCH_PACKAGES="mips_24kc"\nCONFIG_VERSION_DIST="LEDE"\n'
    )
    (small_tree / "include/version.mk").write_text(
        "VERSION_NUMBER:=$(call qstrip_escape,$(CONFIG_VERSION_NUMBER))\n"
        "VERSION_NUMBER:=$(if $(VERSION_NUMBER),$(VERSION_NUMBER),17.01.7)\n"
    )
    with view_of(small_tree, tmp_path / "work") as view:
        tree = read_tree(small_tree, lambda: view, tmp_path / "cache", Log())
    assert (tree.distribution, tree.version) == ("LEDE", "17.01.7")


def tree_with(profiles: list[str], **changes: str) -> Tree:
    facts = {"version": "23.05.5", "target": "ath79/tiny", "arch": "mips_24kc", **changes}
    return Tree(
        folder="/x",
        distribution="OpenWrt",
        package_manager="opkg",
        default_packages=(),
        profiles={name: TreeProfile(name=name, title=name) for name in profiles},
        disables_services=True,
        **facts,
    )


def test_choosing_a_profile(library: Library) -> None:
    board = library.board("tplink-tl-wr740n-v4")
    tree = tree_with(["tplink_tl-wr740n-v4", "tplink_tl-wr740n-v5"])
    assert choose_profile(board, tree).name == "tplink_tl-wr740n-v4"
    with pytest.raises(ProfileError, match="has no profile 'tplink_tl-wr740n-v4'") as missing:
        choose_profile(board, tree_with(["tplink_tl-wr740n-v5", "8dev_carambola2"]))
    assert missing.value.hint == "its nearest profiles: tplink_tl-wr740n-v5"
    with pytest.raises(ProfileError, match="is not built by OpenWrt 23.05.5 for mvebu/cortexa9"):
        choose_profile(board, tree_with(["x"], target="mvebu/cortexa9"))
    with pytest.raises(ProfileError, match="is not built by OpenWrt 24.10.4"):
        choose_profile(board, tree_with(["tplink_tl-wr740n-v4"], version="24.10.4"))
    with pytest.raises(ProfileError, match="this tree installs mips_4kec"):
        choose_profile(board, tree_with(["tplink_tl-wr740n-v4"], arch="mips_4kec"))
    with pytest.raises(ProfileError) as twin:  # its profiles have two names
        choose_profile(library.board("qemu-malta-be"), tree_with(["tplink_tl-wr740n-v4"]))
    assert twin.value.hint == "the board is known for: malta/be (>=26 or >=21.02,<26)"


@pytest.mark.parametrize("lacking", ["Makefile", ".config", ".targetinfo"])
def test_a_folder_that_is_no_tree(small_tree: Path, tmp_path: Path, lacking: str) -> None:
    remove_tree(small_tree / lacking)
    with pytest.raises(TreeError, match=f"it has no {lacking}"):
        check_tree(small_tree)


def test_what_is_no_imagebuilder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(TreeError, match="neither a folder nor an archive"):
        given_tree(str(tmp_path / "notes.txt"), tmp_path, Log())
    with pytest.raises(TreeError, match="there is no ImageBuilder at"):
        given_tree(str(tmp_path / "nothing"), tmp_path, Log())
    (tmp_path / "apk/packages").mkdir(parents=True)
    (tmp_path / "apk/.config").write_text("CONFIG_USE_APK=y\n")
    with pytest.raises(TreeError, match=r"has no Makefile, no \.targetinfo, no staging_dir/host/bin/apk"):
        check_tree(tmp_path / "apk")


# --- archives

Packer = Callable[[bytes], bytes]
PACKERS: dict[str, Packer] = {
    ".tar.xz": lzma.compress,
    ".tar.zst": zstandard.ZstdCompressor().compress,
    ".tar": lambda raw: raw,
}


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_700_000_000
    return info


@pytest.mark.parametrize("ending", PACKERS)
def test_an_archive_is_unpacked_once(tmp_path: Path, ending: str) -> None:
    archive = tmp_path / f"ib{ending}"
    archive.write_bytes(
        PACKERS[ending](
            tar_of(
                (member("ib", tarfile.DIRTYPE), b""),
                (member("ib/Makefile", mode=0o600), b"all:\n"),
                (member("ib/scripts/tool", mode=0o4777), b"#!/bin/sh\n"),
                (member("ib/scripts/link", tarfile.SYMTYPE, "../Makefile"), b""),
                (member("ib/hard", tarfile.LNKTYPE, "ib/Makefile"), b""),
            )
        )
    )
    tree = unpacked_tree(archive, tmp_path / "cache", Log())
    assert (tree / "Makefile").read_bytes() == b"all:\n"
    assert (tree / "Makefile").stat().st_mode & 0o7777 == 0o644
    assert (tree / "Makefile").stat().st_mtime == 1_700_000_000
    assert (tree / "scripts/tool").stat().st_mode & 0o7777 == 0o755
    assert (tree / "scripts/link").read_bytes() == b"all:\n"
    assert (tree / "hard").read_bytes() == b"all:\n"
    made = tree.stat().st_mtime_ns
    assert unpacked_tree(archive, tmp_path / "cache", Log()) == tree
    assert tree.stat().st_mtime_ns == made
    assert [path.name for path in tree.parent.iterdir()] == [tree.name]


UNSAFE = {
    "dots": [member("ib/../../evil")],
    "absolute": [member("/evil")],
    "link up": [member("ib/l", tarfile.SYMTYPE, "../../evil")],
    "absolute link": [member("ib/l", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link up": [member("ib/l", tarfile.LNKTYPE, "../evil")],
    "hard link to nothing": [member("ib/l", tarfile.LNKTYPE, "ib/none")],
    "device": [member("ib/null", tarfile.CHRTYPE)],
    "fifo": [member("ib/pipe", tarfile.FIFOTYPE)],
    "a file that is a folder": [member("ib/a"), member("ib/a/b")],
    "a folder that is a file": [member("ib/a", tarfile.DIRTYPE), member("ib/a")],
    "a name that is no UTF-8": [member("ib/../\udcbd")],
    "through a link": [member("ib/l", tarfile.SYMTYPE, "."), member("ib/l/x")],
}


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_archive_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "ib.tar"
    archive.write_bytes(tar_of(*((each, b"") for each in UNSAFE[name])))
    with pytest.raises(ArchiveError, match="unsafe"):
        unpacked_tree(archive, tmp_path / "cache", Log())
    assert list((tmp_path / "cache/trees").iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.8])
def test_a_truncated_archive_is_refused(tmp_path: Path, ending: str, keep: float) -> None:
    whole = PACKERS[ending](tar_of((member("ib/a"), bytes(range(256)) * 200), (member("ib/b"), b"x" * 9000)))
    archive = tmp_path / f"ib{ending}"
    archive.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(ArchiveError):
        unpacked_tree(archive, tmp_path / "cache", Log())
    assert list((tmp_path / "cache/trees").iterdir()) == []


@settings(max_examples=200)
@given(raw=st.binary(max_size=2000))
def test_any_bytes_unpack_or_give_one_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    base = bytearray(tar_of((member("ib/a"), b"hello"), (member("ib/l", tarfile.SYMTYPE, "a"), b"")))
    base[: len(raw)] = raw
    for ending in PACKERS:
        archive = folder / f"ib{ending}"
        archive.write_bytes(bytes(base) if ending == ".tar" else raw)
        (folder / "into").mkdir(exist_ok=True)
        try:
            unpack(archive, folder / "into", Log())
        except ArchiveError:
            continue


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_accepted_member_stays_inside(name: str, link: str) -> None:
    for kind in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
        info = member(name, kind, link)
        try:
            check_member("x.tar", info)
        except ArchiveError:
            continue
        assert not name.startswith("/")
        assert ".." not in name.split("/")


# --- what make prints


def test_too_big_in_old_and_new_trees() -> None:
    lines = [
        "[mktplinkfw] kernel length aligned to 1276388",
        "[mktplinkfw] *** error: images are too big by 2479872 bytes",
        "[mktplinkfw] *** error: images are too big by 2479872 bytes",
        "WARNING: Image file /b/openwrt-x-squashfs-sysupgrade.bin is too big: 5000 > 4000",
    ]
    assert read_output(lines).too_big == (
        TooBig(2479872),
        TooBig(1000, "openwrt-x-squashfs-sysupgrade.bin", 4000),
    )


def test_packages_that_did_not_go_in() -> None:
    report = read_output(
        [
            "Package uclient-fetch (2018-11-24-3ba74ebc-1) installed in root is up to datCollected errors:",
            " * satisfy_dependencies_for: Cannot satisfy the following dependencies for zz-test:",
            " * \tno-such-lib * \tother (>= 2) * ",
            " * opkg_install_pkg: Failed to download libpcap. Perhaps you need to run 'opkg update'?",
            " * opkg_install_cmd: Cannot install package zz-test.",
            "Unknown package 'nosuch'.",
            " * opkg_install_cmd: Cannot install package nosuch.",
            "cp: cannot write: No space left on device",
        ]
    )
    assert report.unsatisfied == (Unsatisfied("no-such-lib", "zz-test"), Unsatisfied("other", "zz-test"))
    assert report.not_fetched == ("libpcap",)
    assert report.unknown == ("nosuch",)
    assert report.not_installed == ("zz-test", "nosuch")
    assert report.no_space


def test_programs_that_could_not_be_started() -> None:
    lacking = "grep: error while loading shared libraries: libpcre.so.3: cannot open shared object file"
    report = read_output(
        [
            lacking,
            "/t/host/bin/sed: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /t/host/bin/sed)",
            "Error loading shared library libz.so.1: No such file or directory (needed by /t/bin/opkg)",
            "bash: line 3: /t/bin/awk: cannot execute binary file: Exec format error",
            lacking,
            "./usr/lib/opkg/info/x.postinst: line 2: uci: command not found",
        ]
    )
    assert report.not_started == (
        lacking,
        "/t/host/bin/sed: version `GLIBC_2.38' not found",
        "/t/bin/opkg: libz.so.1: No such file or directory",
        "/t/bin/awk: cannot execute binary file: Exec format error",
    )


def test_an_ordinary_run_complains_of_nothing() -> None:
    report = read_output(
        ["Installing libc (1.1.16-1) to root...", "Configuring libc.", "Calculating checksums..."]
    )
    assert report == type(report)()


def test_stages() -> None:
    assert stage_of("Installing busybox (1.25.1-4) to root...") == "installing busybox"
    assert stage_of("Building images...") == "building images"
    assert stage_of("anything else") is None


@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_output_gives_a_report(lines: list[str]) -> None:
    assert all(image.excess >= 0 or image.limit for image in read_output(lines).too_big)


# --- what its make says


def answer_of(tree: Path, work: Path, cache: Path, commands: list[str]) -> MakeAnswer:
    """What make says in a fresh view of the tree; commands: gets what was run to know it."""
    log = Log([lambda event: commands.append("make") if isinstance(event, CommandRun) else None])
    with view_of(tree, work) as view:
        return ask_make(tree, lambda: view, cache, log)


def test_settings_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(tmp_path) == {}
    read: list[Path] = []

    def text(place: Path) -> str:
        read.append(place)
        return place.read_text()

    monkeypatch.setattr("imagebuilder.tree.tree.text_of", text)
    (tmp_path / ".config").write_text('CONFIG_TARGET_BOARD="ath79"\n')
    found = settings_of(tmp_path)
    found["TARGET_BOARD"] = "changed by who asked"
    assert settings_of(tmp_path) == {"TARGET_BOARD": "ath79"}
    assert len(read) == 1
    (tmp_path / ".config").write_text("CONFIG_USE_APK=y\n")
    assert settings_of(tmp_path) == {"USE_APK": "y"}
    assert len(read) == 2


def test_where_things_are_is_what_make_says(small_tree: Path, tmp_path: Path) -> None:
    """However deep a tree nests its folders."""
    makefile = (small_tree / "Makefile").read_text()
    makefile = makefile.replace("KERNEL_BUILD_DIR := ", "KERNEL_BUILD_DIR = $(CURDIR)/of the fork/a/b\n#")
    (small_tree / "Makefile").write_text(makefile + "TARGET_DIR := elsewhere/root\nBIN_DIR := /srv/images\n")
    with view_of(small_tree, tmp_path / "work") as view:
        places = read_tree(small_tree, lambda: view, tmp_path / "cache", Log()).places
    assert (places.kernel, places.linux) == ("of the fork/a/b", "of the fork/a/b/linux-5.15")
    assert (places.root, places.packages, places.bin) == ("elsewhere/root", "packages", "")


@pytest.mark.parametrize("name", ["Makefile", ".config", ".targetinfo", "scripts/metadata.pl", "new.mk"])
def test_make_is_asked_once_until_something_that_it_read_changes(
    small_tree: Path, tmp_path: Path, name: str
) -> None:
    (small_tree / "scripts").mkdir()
    (small_tree / "scripts/metadata.pl").write_text("# perl\n")
    makefile = small_tree / "Makefile"
    makefile.write_text(makefile.read_text() + "-include new.mk\n")
    asked: list[str] = []
    first = answer_of(small_tree, tmp_path / "1", tmp_path / "cache", asked)
    for folder in (small_tree, small_tree / "scripts"):  # as whenever make ran there
        os.utime(folder, ns=(1, 1))
    assert answer_of(small_tree, tmp_path / "2", tmp_path / "cache", asked) == first
    assert len(asked) == 1
    with (small_tree / name).open("a") as stream:
        stream.write("# changed\n")
    assert answer_of(small_tree, tmp_path / "3", tmp_path / "cache", asked) == first
    assert len(asked) == 2


def test_an_answer_that_the_host_spoiled_is_asked_again(small_tree: Path, tmp_path: Path) -> None:
    """make succeeds without profiles where the tree's scripts lack something of the host's, as perl."""
    asked: list[str] = []
    (small_tree / "Makefile").write_text("info:\n\t@echo 'cannot locate FindBin.pm' >&2\n")
    assert "FindBin" in answer_of(small_tree, tmp_path / "1", tmp_path / "cache", asked).complaints
    assert len(asked) == 1
    spoiled = answer_of(small_tree, tmp_path / "2", tmp_path / "cache", asked)
    assert (spoiled.info, len(asked)) == ("", 2)


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"form": 3}', b'{"form": 3, "state": {}, "answer": 1}'])
def test_what_is_damaged_in_the_cache_is_asked_again(small_tree: Path, tmp_path: Path, kept: bytes) -> None:
    asked: list[str] = []
    first = answer_of(small_tree, tmp_path / "1", tmp_path / "cache", asked)
    (file,) = (tmp_path / "cache/indexes").glob("*.make")
    file.write_bytes(kept)
    assert answer_of(small_tree, tmp_path / "2", tmp_path / "cache", asked) == first
    assert len(asked) == 2


@given(st.text(max_size=200))
def test_any_output_of_make_gives_an_answer(text: str) -> None:
    answer, read = parse_answer(text, "")
    assert all(isinstance(name, str) for name in (*answer.variables, *read))
    for name in (*VARIABLES, *answer.variables):
        assert ".." not in Path(answer.place(name)).parts


# --- forks, and trees that are too old

INCLUDE = {
    "17.01": ("image-commands.mk", "host.mk", "rootfs.mk"),
    "18.06": ("image-commands.mk", "rootfs.mk"),
    "19.07": ("image-commands.mk", "rootfs.mk"),
    "21.02": ("image-commands.mk", "rootfs.mk"),
    "22.03": ("image-commands.mk", "rootfs.mk", "bpf.mk"),
    "23.05": ("image-commands.mk", "rootfs.mk", "bpf.mk", "openssl-module.mk"),
    "24.10": ("image-commands.mk", "rootfs.mk", "bpf.mk", "openssl-module.mk", "default-packages.mk"),
}
MAKEFILES = {
    "17.01": "",
    "18.06": "",
    "19.07": "# DISABLED_SERVICES\n",
    **dict.fromkeys(("21.02", "22.03", "23.05", "24.10"), "# DISABLED_SERVICES\n_check_keys:\n"),
}


def as_fork(tree: Path, version: str, series: str) -> None:
    """Give the small tree a version of its own, and the makefiles of a series."""
    config = (tree / ".config").read_text()
    (tree / ".config").write_text(config.replace('"23.05.5"', f'"{version}"'))
    for name in INCLUDE.get(series, ("host.mk",)):
        (tree / "include" / name).touch()
    with (tree / "Makefile").open("a") as stream:
        stream.write(MAKEFILES.get(series, "") + f"COMMIT := {version}\nVERSION_NUMBER := $(COMMIT)\n")


@pytest.mark.parametrize("series", INCLUDE)
@pytest.mark.parametrize("version", ["r460", "4.1", "0", "19.02", "14.09"])
def test_a_fork_follows_the_series_whose_makefiles_it_has(
    small_tree: Path, tmp_path: Path, series: str, version: str
) -> None:
    as_fork(small_tree, version, series)
    with view_of(small_tree, tmp_path / "work") as view:
        tree = read_tree(small_tree, lambda: view, tmp_path / "cache", Log())
    assert (tree.version, tree.series, tree.release) == (version, series, series)


def test_a_config_can_say_the_series(small_tree: Path, tmp_path: Path) -> None:
    as_fork(small_tree, "4.1", "18.06")
    with view_of(small_tree, tmp_path / "work") as view:
        tree = read_tree(small_tree, lambda: view, tmp_path / "cache", Log(), series="21.02")
    assert (tree.version, tree.release) == ("4.1", "21.02")


@pytest.mark.parametrize("series", ["15.05", "19.02"])
def test_a_series_that_openwrt_does_not_have_is_refused(
    small_tree: Path, tmp_path: Path, series: str
) -> None:
    with view_of(small_tree, tmp_path / "work") as view, pytest.raises(TreeError, match=series) as error:
        read_tree(small_tree, lambda: view, tmp_path / "cache", Log(), series=series)
    assert "17.01" in str(error.value.hint)


def test_a_board_that_the_configs_series_lacks(library: Library, small_tree: Path, tmp_path: Path) -> None:
    """A genuine release, and a config that says another series: the message names both."""
    with view_of(small_tree, tmp_path / "work") as view:
        tree = read_tree(small_tree, lambda: view, tmp_path / "cache", Log(), series="17.01")
    with pytest.raises(ProfileError, match="OpenWrt 23.05.5, which is taken for 17.01, for ath79") as error:
        choose_profile(library.board("tplink-tl-wr740n-v4"), tree)
    assert "ar71xx/generic" in str(error.value.hint)


@pytest.mark.parametrize("version", ["15.05.1", "14.07", "r460"])
def test_what_is_older_than_17_01_is_refused_with_the_reason(
    small_tree: Path, tmp_path: Path, version: str
) -> None:
    as_fork(small_tree, version, "15.05")
    with view_of(small_tree, tmp_path / "work") as view, pytest.raises(TreeError, match="manifest") as error:
        read_tree(small_tree, lambda: view, tmp_path / "cache", Log())
    assert "17.01" in str(error.value.hint)


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ("23.05.5", True),
        ("24.10-SNAPSHOT", True),
        ("25.12.0-rc1", True),
        ("27.04.1", True),
        ("snapshot", True),
        ("embedded", True),
        ("embedded-3.13", True),
        ("15.05.1", False),
        ("19.02", False),
        ("19.07.8.1", False),
        ("$(COMMIT_VERSION)", False),
        ("", False),
    ],
)
def test_which_versions_name_a_series(version: str, named: bool) -> None:
    assert names_a_series(version) is named


# --- trees that are not whole

PROGRAMS = Path("staging_dir/host/bin")


@pytest.fixture
def with_programs(small_tree: Path) -> Path:
    """The small tree with programs, a script and links, as an archive holds them."""
    (small_tree / PROGRAMS).mkdir(parents=True)
    (small_tree / "scripts").mkdir()
    (small_tree / "staging_dir/host/lib").mkdir()
    loader = Path("staging_dir/host/lib/ld-linux-x86-64.so.2")
    for name in (PROGRAMS / "fwtool", PROGRAMS / ".fwtool.bin", loader, Path("scripts/metadata.pl")):
        (small_tree / name).write_text("#!/bin/sh\n")
        (small_tree / name).chmod(0o755)
    (small_tree / PROGRAMS / "elf").write_bytes(b"\x7fELF and more")
    (small_tree / PROGRAMS / "elf").chmod(0o755)
    (small_tree / PROGRAMS / "notes").write_text("what somebody wrote about this folder")
    (small_tree / PROGRAMS / "empty").touch()
    (small_tree / PROGRAMS / "gunzip").symlink_to("fwtool")
    (small_tree / PROGRAMS / "python").symlink_to("/usr/bin/python-is-not-here")
    (small_tree / "scripts/functions.sh").write_text("#!/bin/sh\n")
    return small_tree


def test_a_whole_tree_is_whole(with_programs: Path) -> None:
    check_whole(with_programs)


LOADER = "staging_dir/host/lib/ld-linux-x86-64.so.2"


@pytest.mark.parametrize("name", [f"{PROGRAMS}/fwtool", f"{PROGRAMS}/elf", "scripts/metadata.pl", LOADER])
def test_lost_execute_bits_are_named_with_what_mends_them(
    with_programs: Path, tmp_path: Path, name: str
) -> None:
    (with_programs / name).chmod(0o644)
    with view_of(with_programs, tmp_path / "work") as view, pytest.raises(IncompleteTreeError) as error:
        read_tree(with_programs, lambda: view, tmp_path / "cache", Log())
    assert error.value.message == f"1 programs of {with_programs} have lost their execute bit: {name}"
    mend = str(error.value.hint).partition("mend it: ")[2]
    run(["sh", "-c", mend])
    check_whole(with_programs)


@pytest.mark.parametrize("target", ["fwtool", "../../../scripts/metadata.pl", "/bin/sh"])
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_links_that_became_files_are_named(with_programs: Path, target: str, mode: int) -> None:
    link = with_programs / PROGRAMS / "gunzip"
    link.unlink()
    link.write_text(target)
    link.chmod(mode)
    with pytest.raises(IncompleteTreeError, match="1 symbolic links .* have become files: .*/gunzip"):
        check_whole(with_programs)


def test_what_make_complained_of_is_told(small_tree: Path, tmp_path: Path) -> None:
    """make info ends well although the list of profiles could not be made."""
    (small_tree / "Makefile").write_text("info:\n\t@echo x: Permission denied >&2\n")
    with view_of(small_tree, tmp_path / "work") as view, pytest.raises(TreeError) as error:
        read_tree(small_tree, lambda: view, tmp_path / "cache", Log())
    assert error.value.message.endswith("but says:\nx: Permission denied")
