"""Shared libraries that a wheel wants: found in the feeds' packages, added with the reason, and verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ask import fetch_image, why
from imagebuilder.config.request import Request, requests
from imagebuilder.host.elf import ET_DYN, read_elf
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.own import libraries
from imagebuilder.packages.check_contents import ContentsError
from imagebuilder.packages.contents import Contents, contents_of_tree, library_in
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.python.wheels.libraries import library_rules, package_names
from imagebuilder.python.wheels.tree import NativeCodeError
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_of, symlink
from imagebuilder.tree.plan import Plan
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_elf, make_wheel, only_index

BOARD = "tplink-tl-wr740n-v4"
TAG = "cp311-cp311-openwrt_mips_24kc"
Asked = Callable[..., Request]


def mips(*needed: str, soname: str = "") -> bytes:
    return make_elf(
        ["libc.so", *needed],
        machine=8,
        bits=32,
        little=False,
        flags=0x70001007,
        mips_float=3,
        soname=soname,
    )


def library(path: str, link: str = "") -> FileTree:
    """A library, and a link to it as packages of OpenWrt's have it."""
    entries = {path: file_of(mips(soname=(link or path).rpartition("/")[2]))}
    return FileTree({**entries, **({link: symlink(path.rpartition("/")[2])} if link else {})})


ZLIB = library("/usr/lib/libz.so.1.2.13", "/usr/lib/libz.so.1")


@pytest.fixture
def asked(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    add_config: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Asked:
    """A config that requires `numbers`, a wheel for the tree's processor whose module wants libraries."""
    packages = small_tree / "packages"
    write_ipk(packages, Package("python3-base", "3.11.7-1", "mips_24kc"), EMPTY, epoch=1)

    def ask(*needed: str, has: dict[str, FileTree] | None = None, text: str = "", **facts: str) -> Request:
        files = {"numbers/__init__.py": b"", "numbers/_core.so": mips(*needed)}
        wheel = make_wheel(tmp_path / "files", "numbers", "2.1", files=files, tag=TAG, pure=False)
        only_index(monkeypatch, tmp_path / "index", [wheel])
        for name, tree in (has or {}).items():
            package = Package(name, "1.0-1", "mips_24kc", abi_version=facts.get("abi", ""))
            write_ipk(packages, package, tree, epoch=1)
        head = 'extends = "router"\n[python]\nvariant = "base"\nrequirements = ["numbers"]\n'
        add_config("mine", head + text)
        (request,) = requests(
            project, "mine", board=BOARD, imagebuilder=str(small_tree), cache=tmp_path / "cache"
        )
        return request

    return ask


def names(plan: Plan) -> set[str]:
    return {each.name for each in plan.install}


def test_the_feeds_library_goes_in_and_the_plan_says_why(asked: Asked) -> None:
    request = asked("libz.so.1", has={"zlib": ZLIB})
    plan = plan_image(request, Log())
    assert plan.wanted.add["zlib"] == "needed by numbers (libz.so.1)"
    (zlib,) = (each for each in plan.install if each.name == "zlib")
    assert zlib.why == ("needed by numbers (libz.so.1)", "zlib")
    (made,) = (each.package for each in plan.install if each.name == "python3-numbers")
    assert "zlib" in {name.name for alternatives in made.depends for name in alternatives}
    assert why(request, "zlib", Log()).chains[0] == ("needed by numbers (libz.so.1)", "zlib")


def test_who_asks_for_the_package_stays_its_reason(asked: Asked, project: Path) -> None:
    text = '[packages]\nadd = ["zlib"]\n'
    plan = plan_image(asked("libz.so.1", has={"zlib": ZLIB}, text=text), Log())
    assert plan.wanted.add["zlib"] == f"packages.add in {project}/configs/mine.toml"


@pytest.mark.parametrize(
    ("wanted", "package", "tree", "abi"),
    [
        ("libffi.so.8", "libffi8", library("/usr/lib/libffi.so.8.1.0", "/usr/lib/libffi.so.8"), "8"),
        ("libusb-1.0.so.0", "libusb-1.0-0", library("/usr/lib/libusb-1.0.so.0"), "-0"),
        ("libssl.so.3", "libopenssl3", library("/usr/lib/libssl.so.3"), "3"),
        ("libstdc++.so.6", "libstdcpp6", library("/usr/lib/libstdc++.so.6"), "6"),
        ("libgcc_s.so.1", "libgcc", library("/lib/libgcc_s.so.1"), ""),  # of 17.01
        ("libmbedx509.so.0", "libmbedtls12", library("/usr/lib/libmbedx509.so.0"), "12"),
        ("libodd.so.2", "odds-and-ends", library("/usr/lib/libodd.so.2"), ""),  # no name tells
    ],
)
def test_a_library_is_found_by_name_or_file(
    asked: Asked, wanted: str, package: str, tree: FileTree, abi: str
) -> None:
    plan = plan_image(asked(wanted, has={package: tree}, abi=abi), Log())
    assert plan.wanted.add[package] == f"needed by numbers ({wanted})"


def test_what_nothing_has_is_told_with_what_was_looked_at(asked: Asked) -> None:
    other = library("/usr/lib/libfoo.so.2")
    with pytest.raises(NativeCodeError) as caught:
        plan_image(asked("libfoo.so.1", has={"libfoo": other}), Log())
    message = caught.value.message
    assert "numbers/_core.so wants the library libfoo.so.1, which neither it nor the image brings" in message
    assert "no package of libfoo1, libfoo-1, libfoo," in message
    assert "looked into libfoo 1.0-1, which has /usr/lib/libfoo.so.2" in message
    assert "packages.add" in (caught.value.hint or "")


def test_text_and_links_that_lead_nowhere_are_no_libraries(asked: Asked) -> None:
    script = FileTree({"/usr/lib/libz.so.1": file_of(b"GROUP ( libz.so.1.2 )\n")})
    with pytest.raises(NativeCodeError, match="wants the library libz.so.1"):
        plan_image(asked("libz.so.1", has={"zlib": script}), Log())
    dangling = Contents(
        {"/lib/a.so": contents_of_tree(FileTree({"/lib/a.so": symlink("b.so")})).held["/lib/a.so"]}
    )
    assert library_in(dangling, "a.so") is None
    circle = contents_of_tree(FileTree({"/lib/a.so": symlink("b.so"), "/lib/b.so": symlink("a.so")}))
    assert library_in(circle, "a.so") is None


def test_what_is_asked_for_is_fetched_and_looked_into(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries._Search, "at_hand", lambda self: [])
    request = asked(
        "libodd.so.2", has={"odds": library("/usr/lib/libodd.so.2")}, text='[packages]\nadd = ["odds"]\n'
    )
    assert "odds" in names(plan_image(request, Log()))
    with pytest.raises(NativeCodeError, match="wants the library libodd.so.2"):
        plan_image(asked("libodd.so.2"), Log())


def test_an_overlay_or_another_wheel_may_bring_it(
    asked: Asked, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = project / "overlays/odd"
    (overlay / "files/usr/lib").mkdir(parents=True)
    (overlay / "overlay.toml").write_text('name = "odd"\ndescription = "A library."\n')
    (overlay / "files/usr/lib/libodd.so.2").write_bytes(mips())
    text = 'apps = ["apps/fast-1.0-cp311-cp311-openwrt_mips_24kc.whl"]\n[[overlay]]\nname = "odd"\n'
    files = {"fast/__init__.py": b"", "fast/lib/libfast-1a2b.so.1": mips(soname="libfast.so.1")}
    (project / "apps").mkdir(exist_ok=True)
    make_wheel(project / "apps", "fast", files=files, tag=TAG, pure=False, scripts={"fast": "fast:main"})
    plan = plan_image(asked("libodd.so.2", "libfast.so.1", text=text), Log())
    assert "python3-numbers" in names(plan)
    assert not [why for why in plan.wanted.add.values() if "needed by" in why]


def test_what_was_taken_by_its_name_is_verified_after_the_fetch(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries._Search, "held", lambda self, packages, fetch: {})  # as if nothing is here
    request = asked("libz.so.1", has={"zlib": library("/usr/lib/libz.so.2")})
    assert "zlib" in names(plan_image(request, Log()))
    with pytest.raises(ContentsError) as caught:
        fetch_image(request, Log())
    assert (
        "the library libz.so.1, which numbers/_core.so of numbers wants, is not there:"
        " zlib should have it, and the image has /usr/lib/libz.so.2" in caught.value.message
    )
    assert "looked at /lib, /usr/lib, /lib64, /usr/lib64" in caught.value.message


def test_what_was_taken_by_its_name_and_is_right_passes(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries._Search, "held", lambda self, packages, fetch: {})
    plan, _ = fetch_image(asked("libz.so.1", has={"zlib": ZLIB}), Log())
    assert "zlib" in names(plan)


def test_another_abi_is_not_taken_unseen(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries._Search, "held", lambda self, packages, fetch: {})
    with pytest.raises(NativeCodeError, match="wants the library libssl.so.1.1"):
        plan_image(
            asked("libssl.so.1.1", has={"libopenssl": library("/usr/lib/libssl.so.3")}, abi="3"), Log()
        )


@given(st.text(max_size=60))
def test_any_text_gives_names(text: str) -> None:
    found = [each.name for each in package_names(text)]
    assert len(found) == len(set(found))
    assert len(found) < 40 + 8 * (text.count(".") + 1)
    assert (".so" in text) or not found


def test_the_table_gives_reasons() -> None:
    assert all(rule.reason and rule.packages and rule.library for rule in library_rules())
    assert package_names("libz.so.1")[0].name == "zlib"
    assert package_names("libglib-2.0.so.0")[0].name == "glib2"
    assert package_names("README") == ()
    assert "libdbus" in {each.name for each in package_names("libdbus-1.so.3")}
    assert "libevent2-7" in {each.name for each in package_names("libevent-2.0.so.7")}
    assert read_elf(mips()).header.kind == ET_DYN
