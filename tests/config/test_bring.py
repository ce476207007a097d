"""What people have of an image becomes a config: scripts are followed and never run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import tomli
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuilder.config.bring import BroughtImage, CallChoice, bring
from imagebuilder.config.bring_write import boards_for, folder_of, name_for, write_brought
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.script import Hole, KnownText, read_invocations
from imagebuilder.config.shell_words import ShellError
from imagebuilder.errors import UserError
from tests.config.test_shell import PIECES

BOARD = "tplink-tl-wr740n-v4"


def calls(script: str, **given_values: str) -> list[dict[str, str]]:
    found = read_invocations(script, given_values).invocations
    return [{name: value.shown() for name, value in each.values.items()} for each in found]


@pytest.mark.parametrize(
    ("script", "values"),
    [
        ("make image PROFILE=a PACKAGES='b -c'", [{"PROFILE": "a", "PACKAGES": "b -c"}]),
        ('A=1\nB="$A 2"\nB+=\' 3\'\nmake image X="$B"', [{"X": "1 2 3"}]),
        ("P=a make -C x -j4 image", [{}]),
        ("PROFILE=a make image", [{"PROFILE": "a"}]),
        ("export PROFILE=a\nPACKAGES=b\nmake image V=s", [{"PROFILE": "a", "V": "s"}]),
        (
            'A=(b \'c d\')\nA+=(e)\nmake image X="${A[*]}" Y="$A" Z="${A[1]}"',
            [{"X": "b c d e", "Y": "b", "Z": "${A[1]}"}],
        ),
        ("A=(P=a 'Q=b c')\nmake image \"${A[@]}\"", [{"P": "a", "Q": "b c"}]),
        ("A=(P=a Q=b)\nmake image ${A[*]}", [{"P": "a", "Q": "b"}]),
        ("X='P=a Q=b'\nmake image $X \"$X\"", [{"P": "a Q=b", "Q": "b"}]),
        ("for p in a b; do make image P=$p; done", [{"P": "a"}, {"P": "b"}]),
        ("f() { make image P=$1 Q=\"$2\"; }\nf a 'b c'", [{"P": "a", "Q": "b c"}]),
        ("f() { make image P=$X; }\nX=a", [{"P": "a"}]),
        ("cd x && make image P=a || exit 1", [{"P": "a"}]),
        ("eval \"make image P=a Q='b c'\"", [{"P": "a", "Q": "b c"}]),
        ("docker run x bash -c 'cd y; make image P=a'", [{"P": "a"}]),
        ("sudo nice -n 5 make image P=a 2>&1 | tee log", [{"P": "a"}]),
        ("make image P=${A:-b} Q=${B-c}", [{"P": "b", "Q": "c"}]),
        ("A=\nmake image P=${A:-b} Q=${A-c}", [{"P": "b", "Q": ""}]),
        ("make image P=$(A) Q=$$x", [{"P": "$(A)", "Q": "$$x"}]),
        ("make image P='$(A)' Q='$$x'", [{"P": "$(A)", "Q": "$x"}]),
        ("cat <<EOF\nmake image P=a\nEOF\necho make image P=b\n# make image P=c\nmake clean", []),
        ("make info; make images P=a", []),
    ],
)
def test_calls_of_make(script: str, values: list[dict[str, str]]) -> None:
    assert calls(script) == values


def test_what_is_not_known_leaves_a_hole() -> None:
    script = (
        "source ./conf\n"
        'PACKAGES="a $(cat list) b"\n'
        'if [ -n "$1" ]; then PACKAGES="$PACKAGES c"; PROFILE=x; else PROFILE=y; fi\n'
        'make image PROFILE=$PROFILE PACKAGES="$PACKAGES" FILES=$ELSEWHERE/files\n'
    )
    (call,) = read_invocations(script).invocations
    packages = call.values["PACKAGES"]
    assert packages.plain is None
    assert [word.plain for word in packages.words()] == ["a", None, "b"]
    reasons = [hole.reason for value in call.values.values() for hole in value.why()]
    assert reasons == [
        "line 3: PROFILE depends on a condition: x, y",
        "only running $(cat list) would tell",
        "line 3: PACKAGES depends on a condition: + c",
        "$ELSEWHERE gets its value nowhere (line 1 reads ./conf, which is not read here)",
    ]
    (call,) = read_invocations(script, {"PROFILE": "z", "ELSEWHERE": "/x"}).invocations
    assert (call.values["PROFILE"].plain, call.values["FILES"].plain) == ("z", "/x/files")
    assert call.values["FILES"].tail == "/x/files"


@pytest.mark.parametrize(
    "script",
    [
        "A=aaaaaaaaaaaaaaaa\n" + 'A="$A$A$A$A"\n' * 40 + "make image X=$A",
        "for a in 1 2 3 4 5 6 7 8 9 0; do " * 8 + "x" + "; done" * 8,
        "f() { f; f; }\nf\n" * 3,
        "f() { make image X=$1; }\n" + "f a\n" * 300,
        "A='" + "x " * 20_000 + "'\n" + "B=$A\n" * 5_000,
    ],
)
def test_time_and_memory_are_bounded(script: str) -> None:
    began = time.process_time()
    try:
        read_invocations(script)
    except ShellError as error:
        assert "more than" in error.message
    assert time.process_time() - began < 20


@given(PIECES.map(" ".join) | st.text(), st.text(max_size=3))
@example("make image PACKAGES=$1", "a\n[b]")
@example('{"packages": [1]}', "")
@example('{"packages": {"a": 1}, "rootfs_size_mb": -5, "target": 5, "profile": ","}', "")
@example("[" * 100_000, "")
@example('{"packages":' + "[" * 100_000, "")
def test_any_text_is_read_or_one_error(text: str, value: str) -> None:
    try:
        found = bring(text, "it", CallChoice(given={"1": value}))
    except UserError as error:
        assert error.message
    else:
        assert found.source.startswith("it")


MANIFEST = "base-files - 1\nkernel - 5\nlibc - 1.2\nluci - git-1\npython3-light - 3.11.7-1\n"


@pytest.mark.parametrize(
    "text",
    [
        MANIFEST,
        MANIFEST.replace(" - ", " "),
        "base-files-1-r2\nkernel-5.1~abc-r1\nlibc-1.2-r1\nluci-25.1~2-r3\npython3-light-3.11.7-r1\n",
        "base-files-1-r2 mips {base-files} (GPL) [installed]\n"
        "luci-25.1~2 noarch {feeds/luci} (A B) [installed]\n"
        "python3-light-3.11.7-r1 mips {python3} () [installed]\n",
        "base-files\nluci\npython3-light\n",
    ],
)
def test_lists_of_packages(text: str) -> None:
    found = bring(text.replace("luci git-1", "luci 1"), "list")
    assert (found.add, found.remove, found.whole) == (("base-files", "luci", "python3-light"), (), True)


def test_a_request_to_the_build_server() -> None:
    request = {
        "version": "23.05.5",
        "target": "ath79/tiny",
        "profile": "tplink,tl-wr740n-v4",
        "packages": ["+luci", "-ppp", "Odd name"],
        "defaults": "uci set a.b=c\n",
        "rootfs_size_mb": 128,
        "filesystem": "ext4",
        "diff_packages": False,
        "client": "owut",
    }
    found = bring(json.dumps(request), "request.json")
    assert found == BroughtImage(
        "request.json",
        profiles=("tplink_tl-wr740n-v4",),
        target="ath79/tiny",
        release="23.05.5",
        add=("luci",),
        remove=("ppp",),
        rootfs_partsize=128,
        first_boot="uci set a.b=c\n",
        notes=("PACKAGES: Odd name is no package's name", 'filesystem = "ext4" is not carried over'),
    )
    whole = bring('{"profile": "x", "packages_versions": {"a": "1"}, "diff_packages": true}', "it")
    assert (whole.add, whole.whole, len(whole.notes)) == (("a",), True, 1)
    for text, words in (
        ("{", "begins as JSON and is none"),
        ("{}", "is no request"),
        ('{"packages": 5}', "is no req"),
    ):
        with pytest.raises(UserError, match=words):
            bring(text, "it")


def test_calls_that_differ_are_told_apart() -> None:
    script = (
        "make image PROFILE=a PACKAGES=x\nmake image PROFILE=b PACKAGES=x\nmake image PROFILE=c PACKAGES=y\n"
    )
    with pytest.raises(
        UserError, match=r"several images that differ: line 1 \(PROFILE=a\), line 2"
    ) as caught:
        bring(script, "it")
    assert caught.value.hint == "say which one: --line NUMBER, or --profile NAME"
    assert bring(script, "it", CallChoice(profile="b")).source == "it, line 2"
    assert bring(script, "it", CallChoice(line=3)).add == ("y",)
    assert bring(script.rpartition("make")[0], "it").profiles == ("a", "b")
    with pytest.raises(UserError, match="it has no such `make image`"):
        bring(script, "it", CallChoice(line=4))
    with pytest.raises(UserError, match="it has no `make image`"):
        bring("make all\n", "it")


def test_what_has_no_place_is_told() -> None:
    line = (
        "make image PROFILE=a PACKAGES='b ./c.ipk -b' DISABLED_SERVICES='cron /x' EXTRA_IMAGE_NAME='a b'"
        " ROOTFS_PARTSIZE=5G BIN_DIR=/out CONFIG_IPV6=n V=s d"
    )
    found = bring(line, "it")
    assert (found.add, found.remove, found.disabled) == ((), ("b",), ("cron",))
    assert found.notes == (
        "make gets these words beside its variables (quotes missing?): d",
        "PACKAGES: ./c.ipk is no package's name",
        "PACKAGES: b is added and removed; removing wins",
        "DISABLED_SERVICES: /x is no service's name",
        "EXTRA_IMAGE_NAME=a b is no word that can be in a file's name",
        "ROOTFS_PARTSIZE=5G is no number of MiB",
        "BIN_DIR=/out: --output says where results go",
        "CONFIG_IPV6=n has no key here",
    )


@pytest.mark.parametrize(
    ("script", "release", "target"),
    [
        ("V=23.05.5\nwget x/openwrt-imagebuilder-$V-ath79-tiny.Linux-x86_64.tar.xz", "23.05.5", "ath79/tiny"),
        ("cd lede-imagebuilder-17.01.7-ar71xx-generic.Linux-x86_64", "17.01.7", "ar71xx/generic"),
        ("cd openwrt-imagebuilder-x86-64.Linux-x86_64", "snapshot", "x86/64"),
        ("docker run openwrt/imagebuilder:x86-64-v23.05.2 sh", "23.05.2", "x86/64"),
        ("cd immortalwrt-imagebuilder-23.05.2-x86-64.Linux-x86_64", None, None),
        (
            "A=openwrt-imagebuilder-x86-64.Linux-x86_64\nB=openwrt-imagebuilder-x86-legacy.Linux-x86_64",
            None,
            None,
        ),
    ],
)
def test_the_tree_that_a_script_names(script: str, release: str | None, target: str | None) -> None:
    found = bring(f"{script}\nmake image PROFILE=a\n", "it")
    assert (found.release, found.target) == (release, target)


def test_boards_of_profiles(library: Library) -> None:
    found = BroughtImage(
        "it", profiles=("tplink_tl-wr740n-v4", "nosuch"), release="23.05.5", target="ath79/tiny"
    )
    boards, notes = boards_for(library, found)
    assert boards == (BOARD,)
    assert len(notes) == 1
    assert "no board has the profile nosuch; `" in notes[0]
    assert "boards add nosuch --imagebuilder PATH` writes one" in notes[0]
    assert boards_for(library, BroughtImage("it", profiles=("tl-wr740n-v4",)))[0] == (BOARD,)
    assert boards_for(library, BroughtImage("it", profiles=("tl-wr740n-v4",), release="23.05.5"))[0] == ()


def test_a_config_is_written(library: Library, tmp_path: Path) -> None:
    (library.root / "files/etc").mkdir(parents=True)
    (library.root / "files/etc/motd").write_text("hello\n")
    line = (
        f"make image PROFILE=tl-wr740n-v4 PACKAGES='{' '.join(f'p{n}' for n in range(9))} -ppp'"
        " FILES=../files/ DISABLED_SERVICES=cron EXTRA_IMAGE_NAME=office ROOTFS_PARTSIZE=64 CONFIG_X='a\nb'"
    )
    written = write_brought(library, "mine", bring(line, "it"), near=[library.root])
    text = written.path.read_text()
    assert text.startswith(
        "# Imported from it, line 1.\n# What could not be carried over:\n# - CONFIG_X=a b has no key here\n"
    )
    values = tomli.loads(text)
    assert values == {
        "extends": "base",
        "boards": [BOARD],
        "packages": {"add": [f"p{n}" for n in range(9)], "remove": ["ppp"]},
        "services": {"disabled": ["cron"]},
        "image": {"extra_name": "office", "rootfs_partsize": 64},
        "overlay": [{"path": "files"}],
    }
    config = load_config(library, "mine").config
    assert config.overlay[0].name == "files"
    with pytest.raises(UserError, match="exists already"):
        write_brought(library, "mine", bring(line, "it"))
    assert written.path.read_text() == text
    other = write_brought(library, "other", bring(line.replace("../files/", "gone"), "it"), board="x86-64")
    assert other.boards == ("x86-64",)
    assert "FILES=gone: no such folder is here; [[overlay]] path = names it" in other.notes
    assert "overlay" not in tomli.loads(other.path.read_text())


def test_what_the_first_start_runs(library: Library) -> None:
    found = BroughtImage("it", first_boot="uci set a.b=c\n")
    path = write_brought(library, "asked", found).path
    assert tomli.loads(path.read_text())["overlay"] == [{"name": "asked-first-boot"}]
    script = library.root / "overlays/asked-first-boot/files/etc/uci-defaults/99-first-boot"
    assert script.read_text() == "uci set a.b=c\n"
    path.unlink()
    with pytest.raises(UserError, match="asked-first-boot exists already"):
        write_brought(library, "asked", found)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (KnownText("files"), "files"),
        (KnownText("./files/"), "files"),
        (KnownText("../../office/files"), "files"),
        (KnownText("/nowhere/files"), None),
        (KnownText("\0000\0/office/files"), "files"),
        (KnownText("\0000\0"), None),
        (KnownText("other"), None),
        (KnownText("/"), "/"),
    ],
)
def test_where_files_are(tmp_path: Path, files: KnownText, found: str | None) -> None:
    (tmp_path / "files").mkdir()
    known = KnownText(files.text, (Hole("$X", "nowhere"),))
    expected = None if found is None else (Path(found) if found == "/" else tmp_path / found)
    assert folder_of(known, [tmp_path]) == expected


def test_names_of_configs() -> None:
    assert name_for(BroughtImage("it", profiles=("a,b",)), None) == "a-b"
    assert name_for(BroughtImage("it"), Path("x/my build.sh")) == "my-build"
    assert name_for(BroughtImage("it"), None) == "imported"
