"""Packages and overlays that want different things at one path. What opkg does in each case was tried with
that of the trees of 17.01.7 and 23.05.2."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.processor import MachineCode
from imagebuilder.model.package import Dependency, Package, Selected
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.clash import Brought, OverwriteRules, find_clashes, misplaced
from imagebuilder.packages.contents import (
    Contents,
    Held,
    contents_of_tree,
    pack_contents,
    unpack_contents,
)
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.rootfs.tree import FileTree, file_of, folder, symlink

OPKG, FORCED, APK = (
    OverwriteRules(Opkg().replaces),
    OverwriteRules(Opkg().replaces, forced=True),
    OverwriteRules(Apk().replaces),
)


def brought(name: str, package: Package | None = None, **files: str) -> Brought:
    """A package with files: `usr_bin_x="text"` is /usr/bin/x; `->` begins a link's text, `/` is a folder,
    and a text with an exclamation mark at its end is a program."""
    entries = {}
    for key, text in files.items():
        entry = file_of(text.encode(), 0o755 if text.endswith("!") else 0o644)
        if text.startswith("->"):
            entry = symlink(text[2:])
        elif text == "/":
            entry = folder()
        entries["/" + key.replace("_", "/")] = entry
    made = replace(package or Package("", "1"), name=name)
    return Brought(Selected(made, ("somebody", name)), contents_of_tree(FileTree(entries)))


def found(*packages: Brought, rules: OverwriteRules = OPKG) -> list[tuple[str, str, list[str]]]:
    return [(each.earlier.name, each.later.name, list(each.paths)) for each in find_clashes(packages, rules)]


def test_a_file_of_two_packages_is_a_clash() -> None:
    one, two = brought("one", usr_bin_x="1", usr_bin_y="2"), brought("two", usr_bin_x="other")
    assert found(one, two) == [("one", "two", ["/usr/bin/x"])]
    assert found(one, two, rules=FORCED) == [("one", "two", ["/usr/bin/x"])]
    assert found(one, two, rules=APK) == [("one", "two", ["/usr/bin/x"])]


def test_equal_files_are_a_clash_where_make_would_refuse_them() -> None:
    one, two = brought("one", x="1"), brought("two", x="1")
    assert found(one, two) == [("one", "two", ["/x"])]
    assert found(one, two, rules=APK) == [("one", "two", ["/x"])]
    assert found(one, two, rules=FORCED) == []
    assert found(brought("one", x="1!"), Brought(two.selected, two.contents), rules=FORCED) != []
    mode = Brought(two.selected, Contents({"/x": replace_mode(two.contents.held["/x"], 0o755)}))
    assert found(one, mode, rules=FORCED) == [("one", "two", ["/x"])]


def test_a_package_that_is_asked_for_claims_its_files_before_those_that_it_needs_come() -> None:
    top = brought("top", x="1", d="file")
    below = brought("below", x="2", d_y="folder")
    needed = Brought(Selected(below.selected.package, ("somebody", "top", "mid", "below")), below.contents)
    rules = OverwriteRules(Opkg().replaces, claims=True)
    assert [(each.paths, each.passes) for each in find_clashes([needed, top], rules)] == [
        (("/d",), False),
        (("/x",), True),
    ]
    assert not any(each.passes for each in find_clashes([below, top], rules))
    assert not any(each.passes for each in find_clashes([needed, top], APK))
    # who is needed by a needed one is there before that one is begun
    mid = brought("mid", x="3")
    inner = Brought(Selected(mid.selected.package, ("somebody", "top", "mid")), mid.contents)
    assert not any(each.passes for each in find_clashes([needed, inner], rules))


def replace_mode(held: Held, mode: int) -> Held:
    return held._replace(mode=mode)


def test_folders_are_everybodys() -> None:
    assert found(brought("one", etc_x="1", var="/"), brought("two", etc_y="1", var="/")) == []


def test_who_replaces_takes_the_files() -> None:
    one = brought("old", Package("", "1", provides=("virtual",)), x="1")
    for name in ("old", "virtual"):
        two = brought("new", Package("", "1", replaces=(Dependency(name),)), x="2")
        assert found(one, two) == []
        assert found(one, two, rules=FORCED) == []
        # the other way round opkg refuses it, and with force the wrong one wins
        assert found(two, one) == [("new", "old", ["/x"])]
        assert found(two, one, rules=FORCED) == [("new", "old", ["/x"])]


def test_the_owner_is_the_last_one_that_could_take_it() -> None:
    one = brought("a", x="1")
    two = brought("b", Package("", "1", replaces=(Dependency("a"),)), x="2")
    three = brought("c", Package("", "1", replaces=(Dependency("a"),)), x="3")
    assert found(one, two, three) == [("b", "c", ["/x"])]


def test_apk_lets_either_replace_by_name_and_packages_of_one_source() -> None:
    one = brought("one", Package("", "1", provides=("virtual",)), x="1")
    two = brought("two", Package("", "1", replaces=(Dependency("one"),)), x="2")
    assert found(one, two, rules=APK) == []
    assert found(two, one, rules=APK) == []
    virtual = brought("two", Package("", "1", replaces=(Dependency("virtual"),)), x="2")
    assert found(one, virtual, rules=APK) != []
    newer = brought("two", Package("", "1", replaces=(Dependency("one", ">", "1"),)), x="2")
    assert found(one, newer, rules=APK) != []
    source = Package("", "1", extra={"Source": "feeds/base/x"})
    assert found(brought("one", source, x="1"), brought("two", source, x="2"), rules=APK) == []
    other = Package("", "1", extra={"Source": "feeds/base/y"})
    assert found(brought("one", source, x="1"), brought("two", other, x="2"), rules=APK) != []


@pytest.mark.parametrize("rules", [OPKG, FORCED, APK])
def test_a_file_in_place_of_a_folder_is_a_clash_also_for_who_replaces(rules: OverwriteRules) -> None:
    one = brought("one", f="1")
    two = brought("two", Package("", "1", replaces=(Dependency("one"),)), f_z="1")
    assert found(one, two, rules=rules) == [("one", "two", ["/f"])]
    assert found(two, one, rules=rules) == [("two", "one", ["/f"])]


def test_files_go_through_a_link_to_a_folder_that_is_there_first() -> None:
    base = brought("base", b_x="1", a="->b", var="->/tmp", tmp="/")
    more = brought("more", a_y="2", var_lib_z="3")
    assert found(base, more) == []
    assert found(base, brought("same", a_x="other")) == [("base", "same", ["/b/x"])]
    assert found(more, base) == [("more", "base", ["/a", "/var"])]  # the links are left out


def test_a_link_that_leads_nowhere_is_no_folder() -> None:
    assert found(brought("one", a="->nowhere"), brought("two", a_x="1")) == [("one", "two", ["/a"])]
    circle = brought("one", a="->b", b="->a")
    assert found(circle, brought("two", a_x="1")) == [("one", "two", ["/a"])]


def test_links() -> None:
    one = brought("one", etc_conf="->/tmp/conf")
    assert found(one, brought("two", etc_conf="->/tmp/conf")) == []  # opkg sees nothing there
    assert found(one, brought("two", etc_conf="->/tmp/other")) == [("one", "two", ["/etc/conf"])]
    there = brought("one", sbin_x="->y", sbin_y="1")
    assert found(there, brought("two", sbin_x="->y")) == [("one", "two", ["/sbin/x"])]
    assert found(there, brought("two", sbin_x="->y"), rules=FORCED) == []


def test_what_overlays_have_in_place_of_something_else() -> None:
    packages = [
        brought("one", etc_x="1", etc_d_y="2", lib_z="3", lib64="->lib"),
        brought("two", etc_d_w="2"),
    ]

    def wrong(**files: str) -> list[tuple[str, str]]:
        return [(each.path, each.package) for each in misplaced(packages, brought("", **files).contents.held)]

    assert wrong(etc_x="mine", etc_d_v="new", lib64_w="through the link", etc_new_x="") == []
    assert wrong(etc_x_y="1") == [("/etc/x", "one")]
    assert wrong(etc_d="a file") == [("/etc/d", "one")]
    assert wrong(etc_d="->/tmp") == [("/etc/d", "one")]


_TEXTS = st.sampled_from(["1", "2", "->a", "->/d", "->b", "/"])


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c_d", "c"]), _TEXTS, max_size=3), max_size=5))
def test_a_set_without_a_clash_has_every_file_as_its_package_has_it(files: list[dict[str, str]]) -> None:
    packages = []
    for number, each in enumerate(files):
        if each.get("c", "/") != "/" and "c_d" in each:
            continue  # no package has this
        packages.append(brought(f"p{number}", **each))
    if not find_clashes(packages, OPKG):
        kinds: dict[str, set[str]] = {}
        for each in packages:
            for path, held in each.contents.held.items():
                if held.kind != "l" and not path.startswith("/c"):
                    kinds.setdefault(path, set()).add(held.kind)
        assert all(len(kind) == 1 for kind in kinds.values())


def test_contents_are_kept_and_what_is_damaged_is_read_again() -> None:
    contents = Contents(
        {"/a": Held("d", 0o755), "/a/x": Held("f", 0o644, "ab" * 32), "/l": Held("l", 0o777, "a\udc80")},
        {"/a/x": MachineCode(8, 32, False, True, False, None)},
    )
    packed = pack_contents(contents, "ab")
    assert unpack_contents(packed, "ab") == contents
    assert unpack_contents(packed, "cd") is None
    assert unpack_contents(packed[:-1], "ab") is None
    assert unpack_contents(b"", "ab") is None


@given(st.binary(max_size=100))
def test_any_bytes_are_contents_or_none(junk: bytes) -> None:
    assert unpack_contents(junk, "ab") is None
    packed = pack_contents(Contents({"/a": Held("d", 0o755)}), "ab")
    assert unpack_contents(packed + junk, "ab") is None or not junk
