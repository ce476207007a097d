"""Packages and overlays whose files cannot be in one image are refused before make is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.ask import fetch_image
from imagebuilder.build import build_image
from imagebuilder.config.overlay import OverlayError
from imagebuilder.config.request import Request
from imagebuilder.log import Event, Log, Note, Warned
from imagebuilder.model.control import parse_depends, parse_names
from imagebuilder.model.package import Package
from imagebuilder.packages.check_contents import ContentsError
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.resolution import PlanError
from imagebuilder.rootfs.tree import Entry, FileTree, LocalPackage, file_of, symlink
from tests.support.planning import plan_image, tree_request
from tests.support.wheel_maker import make_elf

AddConfig = Callable[[str, str], str]
BOARD = "tplink-tl-wr740n-v4"
MIPS_LIBRARY = make_elf(machine=8, bits=32, little=False)
ARM_LIBRARY = make_elf(machine=40, bits=32)


@pytest.fixture
def request_for(
    project: Path, small_tree: Path, tmp_path: Path, add_config: AddConfig
) -> Callable[[str], Request]:
    """A request for a config with this text. Make must not be called where something is refused: the tree
    says so by failing."""

    def make(text: str) -> Request:
        return tree_request(project, add_config("mine", text), small_tree, tmp_path)

    return make


def put(tree: Path, package: Package, files: dict[str, Entry]) -> None:
    """Put a package into a tree, in place of one of that name."""
    for old in (tree / "packages").glob(f"{package.name}_*.ipk"):
        old.unlink()
    write_ipk(tree / "packages", package, FileTree(files), epoch=1_700_000_000)


def busybox(content: bytes) -> dict[str, Entry]:
    applets: dict[str, Entry] = {f"/usr/bin/a{number}": symlink("../../bin/busybox") for number in range(9)}
    return {"/bin/busybox": file_of(content, 0o755), **applets}


@pytest.fixture
def two_busyboxes(small_tree: Path) -> Path:
    put(small_tree, Package("busybox", "1.36"), busybox(b"small"))
    put(small_tree, Package("busybox-more", "1.36"), busybox(b"large"))
    return small_tree


ADD_MORE = '[packages]\nadd = ["busybox-more"]\n'


def refused(request: Request) -> ContentsError:
    with pytest.raises(ContentsError) as caught:
        build_image(request, Log())
    with pytest.raises(ContentsError) as fetched:
        fetch_image(request, Log())
    assert fetched.value.message == caught.value.message
    return caught.value


def test_two_packages_with_one_file(
    request_for: Callable[[str], Request], two_busyboxes: Path, tmp_path: Path
) -> None:
    (two_busyboxes / "behaviour-fails").touch()
    error = refused(request_for(ADD_MORE))
    first, *chains = error.message.splitlines()
    assert first == (
        "the packages busybox-more and busybox both bring /bin/busybox, /usr/bin/a0, /usr/bin/a1, /usr/bin/a2"
        " and 6 more"
    )
    assert chains[0].startswith("  busybox-more is wanted by packages.add in ")
    assert chains[1] == "  busybox is wanted by the default packages of ath79/tiny -> busybox"
    assert error.hint == 'say remove = ["busybox"] in [packages]'
    assert not list((tmp_path / "out").glob("**/build.log"))


def test_what_the_hint_says_helps(request_for: Callable[[str], Request], two_busyboxes: Path) -> None:
    makefile = (two_busyboxes / "Makefile").read_text()
    (two_busyboxes / "Makefile").write_text(makefile.replace("sort base-files busybox", "sort base-files"))
    _, result = build_image(request_for(f'{ADD_MORE}remove = ["busybox"]\n'), Log())
    assert "busybox-more" in [each.name for each in result.packages]


def force(tree: Path, file: str = "Makefile") -> None:
    """As 17.01's Makefile calls opkg, and PandoraBox's rootfs.mk."""
    place = tree / file
    text = place.read_text() if place.is_file() else ""
    place.write_text(f"OPKG := opkg \\\n\t--force-overwrite \\\n\t--cache dl\n{text}")


@pytest.mark.parametrize("file", ["Makefile", "include/rootfs.mk"])
def test_where_make_would_let_the_last_one_win_it_is_refused_too(
    request_for: Callable[[str], Request], two_busyboxes: Path, file: str
) -> None:
    put(two_busyboxes, Package("same", "1"), {"/usr/bin/a0": symlink("../../bin/busybox")})
    refused(request_for('[packages]\nadd = ["same"]\n'))
    force(two_busyboxes, file)
    fetch_image(request_for('[packages]\nadd = ["same"]\n'), Log())
    assert refused(request_for(ADD_MORE)).hint == 'say remove = ["busybox"] in [packages]'


def test_equal_files_do_no_harm_where_make_is_forced(
    request_for: Callable[[str], Request], two_busyboxes: Path
) -> None:
    put(two_busyboxes, Package("busybox-more", "1.36"), busybox(b"small"))
    refused(request_for(ADD_MORE))  # opkg would refuse it
    force(two_busyboxes)
    build_image(request_for(ADD_MORE), Log())


def test_who_replaces_the_owner_takes_its_files(
    request_for: Callable[[str], Request], two_busyboxes: Path
) -> None:
    more = Package("busybox-more", "1.36", replaces=parse_names("busybox"), depends=parse_depends("busybox"))
    put(two_busyboxes, more, busybox(b"large"))
    build_image(request_for(ADD_MORE), Log())


def told(request: Request) -> tuple[list[str], list[str]]:
    """What warnings and notes a build says of packages that both bring something."""
    warnings: list[str] = []
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warnings.append(event.text)
        elif isinstance(event, Note):
            notes.append(event.text)

    build_image(request, Log().also(hear))
    return [line for line in warnings if "both bring" in line], [line for line in notes if "both" in line]


def test_a_clash_of_what_nobody_asked_for_is_noted_where_make_is_forced(
    request_for: Callable[[str], Request], small_tree: Path
) -> None:
    for name in ("base-files", "busybox"):
        put(small_tree, Package(name, "1.36"), {"/etc/x": file_of(name.encode())})
    error = refused(request_for(""))
    assert error.hint == 'say remove = ["base-files"] or remove = ["busybox"] in [packages]'
    force(small_tree)
    said = "the packages base-files and busybox both bring /etc/x: make takes those of busybox"
    assert told(request_for("")) == ([], [said])
    assert told(request_for("")) == ([], [said])  # also where nothing is read again


def test_a_package_that_is_asked_for_takes_files_of_those_that_it_needs(
    request_for: Callable[[str], Request], small_tree: Path
) -> None:
    """opkg lets it; 18.06.9's base-files and openwrt-keyring are so."""
    put(small_tree, Package("busybox", "1", depends=parse_depends("keyring")), {"/etc/key": file_of(b"mine")})
    put(small_tree, Package("keyring", "1"), {"/etc/key": file_of(b"theirs")})
    makefile = (small_tree / "Makefile").read_text()
    (small_tree / "Makefile").write_text(
        makefile.replace("kernel libc rssileds", "kernel keyring libc rssileds")
    )
    said = "the packages keyring and busybox both bring /etc/key: make takes those of busybox"
    assert told(request_for("")) == ([], [said])
    assert told(request_for('[packages]\nadd = ["busybox"]\n')) == ([said], [])
    error = refused(request_for('[packages]\nadd = ["keyring", "busybox"]\n'))  # keyring comes first
    assert error.message.startswith("the packages keyring and busybox both bring /etc/key\n")


def test_a_package_that_others_need_keeps_its_place_without_the_files(
    request_for: Callable[[str], Request], small_tree: Path
) -> None:
    put(
        small_tree, Package("busybox", "1.36"), {"/bin/busybox": file_of(b"b"), "/usr/bin/sort": symlink("x")}
    )
    put(small_tree, Package("rssileds", "4", depends=parse_depends("busybox")), {})
    put(small_tree, Package("coreutils-sort", "9"), {"/usr/bin/sort": file_of(b"sort", 0o755)})
    text = '[packages]\nadd = ["coreutils-sort"]\n'
    hint = refused(request_for(text)).hint or ""
    said = "rssileds needs busybox: leave its files out, with a [[filespec]], "
    assert hint.startswith(said)
    package, _, rules = hint.removeprefix(said).partition(", rules")
    # the small tree's make knows no feed, so that it cannot show the package of another version
    fetch_image(request_for(f"{text}[[filespec]]\n{package}\nrules{rules}\n"), Log())


def test_of_two_that_somebody_asked_for_one_has_to_go(
    request_for: Callable[[str], Request], small_tree: Path
) -> None:
    for name in ("one", "two"):
        put(small_tree, Package(name, "1"), {"/usr/bin/x": file_of(name.encode())})
    error = refused(request_for('[packages]\nadd = ["one", "two"]\n'))
    assert error.hint == "leave one of them out: one or two"


def write_overlay(project: Path, name: str, files: dict[str, bytes]) -> str:
    folder = project / "overlays" / name
    for path, data in files.items():
        (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / path).write_bytes(data)
    (folder / "overlay.toml").write_text(f'name = "{name}"\ndescription = "one of a test"\n')
    return f'[[overlay]]\nname = "{name}"\n'


def test_an_overlay_replaces_files_and_no_folders(
    request_for: Callable[[str], Request], small_tree: Path, project: Path
) -> None:
    put(
        small_tree,
        Package("busybox", "1.36"),
        {"/etc/config/x": file_of(b"theirs"), "/etc/y": file_of(b"theirs"), "/etc/z": file_of(b"theirs")},
    )
    build_image(request_for(write_overlay(project, "good", {"etc/config/x": b"mine", "etc/new": b""})), Log())
    use = write_overlay(project, "bad", {"etc/config": b"mine", "etc/z/in": b"mine"})
    with pytest.raises(ContentsError) as caught:
        build_image(request_for(use), Log())
    assert caught.value.message.splitlines() == [
        "the overlays have a file at /etc/config, where the package busybox has a folder",
        "the overlays have a folder at /etc/z, where the package busybox has a file",
    ]


def test_a_package_for_another_processor(request_for: Callable[[str], Request], small_tree: Path) -> None:
    files = {
        "/usr/lib/libx.so.1": file_of(ARM_LIBRARY, 0o755),
        "/usr/lib/liby.so.1": file_of(ARM_LIBRARY, 0o755),
    }
    put(small_tree, Package("dropbear", "2022.83", "mips_24kc"), files)
    error = refused(request_for('[packages]\nadd = ["dropbear"]\n'))
    assert error.message.splitlines()[0] == (
        "the package dropbear is for another processor: /usr/lib/libx.so.1 is for arm, 32 bits,"
        " little endian, and 1 more of its files are; the image's is mips, 32 bits, big endian, soft float"
        " (mips_24kc)"
    )
    assert error.message.splitlines()[1].endswith("-> dropbear")
    assert error.hint == "take it from a feed for mips_24kc, or leave it out"


def test_firmware_of_other_chips_is_data(request_for: Callable[[str], Request], small_tree: Path) -> None:
    files = {
        "/usr/lib/libx.so.1": file_of(MIPS_LIBRARY, 0o755),
        "/lib/firmware/modem.elf": file_of(ARM_LIBRARY),
    }
    put(small_tree, Package("dropbear", "2022.83", "mips_24kc"), files)
    build_image(request_for('[packages]\nadd = ["dropbear"]\n'), Log())


def test_files_are_read_once(
    request_for: Callable[[str], Request], small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    before = Opkg.read

    def spied(self: Opkg, file: Path, package: Package) -> LocalPackage:
        read.append(package.name)
        return before(self, file, package)

    monkeypatch.setattr(Opkg, "read", spied)
    build_image(request_for(""), Log())
    assert sorted(read) == ["base-files", "busybox", "kernel", "libc", "rssileds"]
    read.clear()
    build_image(request_for(""), Log())
    assert read == []
    build_image(request_for('[packages]\nadd = ["dropbear"]\n'), Log())
    assert read == ["dropbear"]
    read.clear()
    put(small_tree, Package("busybox", "1.36"), busybox(b"another"))
    build_image(request_for(""), Log())
    assert read == ["busybox"]


def test_files_that_differ_in_their_modes_alone_do_no_harm_where_make_is_forced(
    request_for: Callable[[str], Request], small_tree: Path
) -> None:
    for name, mode in (("one", 0o600), ("two", 0o644)):
        put(small_tree, Package(name, "1"), {"/etc/key": file_of(b"key", mode)})
    text = '[packages]\nadd = ["one", "two"]\n'
    refused(request_for(text))
    force(small_tree)
    said = "the packages one and two both bring /etc/key: make takes those of two"
    assert told(request_for(text)) == ([], [said])


def test_a_feeds_package_for_another_architecture_is_refused_at_plan(
    request_for: Callable[[str], Request], tmp_path: Path
) -> None:
    (tmp_path / "feed").mkdir()
    write_ipk(tmp_path / "feed", Package("gadget", "1", "arm_cortex-a7"), FileTree(), epoch=1)
    text = f'[packages]\nadd = ["gadget"]\n[[feed]]\nname = "mine"\nurl = "{tmp_path}/feed"\n'
    with pytest.raises(PlanError) as caught:
        plan_image(request_for(text), Log())
    said = "gadget (its architecture is 'arm_cortex-a7', and the tree takes all and mips_24kc)"
    assert said in caught.value.message


def test_an_overlays_program_for_another_processor_is_refused_at_plan(
    request_for: Callable[[str], Request], project: Path
) -> None:
    files = {
        "usr/lib/libarm.so": ARM_LIBRARY,
        "usr/lib/libmips.so": MIPS_LIBRARY,
        "lib/firmware/modem": ARM_LIBRARY,
        "etc/elf": b"\x7fELF",
    }
    with pytest.raises(OverlayError) as caught:
        plan_image(request_for(write_overlay(project, "mine", files)), Log())
    assert caught.value.message.splitlines() == [
        f"overlay 'mine': {project}/overlays/mine/files/usr/lib/libarm.so is for another processor, arm, 32"
        " bits, little endian",
        "the image's processor is mips, 32 bits, big endian, soft float (mips_24kc)",
    ]
    assert caught.value.hint == "build it for mips_24kc, or leave it out"
