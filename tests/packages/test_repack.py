"""Filespec rules of a config: on overlays and packages, and packages that are repacked with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagebuilder.model.control import parse_depends, parse_names
from imagebuilder.model.filespec import FilespecError, FilespecUse, overlay_rules, package_rules, with_python
from imagebuilder.model.package import LOCAL, Package
from imagebuilder.packages.apk import version as apk_version
from imagebuilder.packages.apk.lists import for_apk, with_lists
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.manager import RepackError
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.opkg.version import compare_versions
from imagebuilder.packages.repack import declare, repack, repacked_version
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of, folder, symlink
from imagebuilder.rootfs.trim import cut, trim

FACTS = Package(
    "libdemo12",
    "1.4.21-3",
    "mips_24kc",
    depends=parse_depends("libc, libx (>= 2), a | b"),
    provides=("libdemo",),
    conflicts=parse_names("other"),
    replaces=parse_names("older (<< 1)"),
    section="libs",
    description="A demo.",
    abi_version="12",
    essential=True,
    extra={"License": "MIT", "Alternatives": "300:/bin/x:/usr/bin/demo"},
)
TREE = FileTree(
    {
        "/etc/config/demo": file_of(b"config demo\n", 0o600),
        "/etc/demo.conf": file_of(b"x=1\n"),
        "/usr/bin/demo": file_of(b"#!/bin/sh\n", 0o755),
        "/usr/bin/d": symlink("demo"),
        "/usr/share/doc/demo": file_of(b"words " * 100),
        "/var/lib/demo": folder(0o700),
    }
)
SCRIPTS = {"postinst": b"#!/bin/sh\nexit 0\n", "prerm": b"#!/bin/sh\n"}
CONTENT = LocalPackage(FACTS, TREE, SCRIPTS, ("/etc/config/demo", "/etc/demo.conf"))
RULES = ("-|/usr/share", "-|/etc/demo.conf", "=|/usr/bin/demo|700")


# --- what a config says


def test_a_filespec_is_for_one_package_or_one_overlay() -> None:
    use = FilespecUse(package="iptables", rules=["-|/usr/lib/iptables/libxt_*.so", "  # why"])
    assert use.rules == ("-|/usr/lib/iptables/libxt_*.so", "  # why")
    for both in ({}, {"package": "a", "overlay": "b"}):
        with pytest.raises(ValidationError, match=r"one package = … or one overlay = …"):
            FilespecUse(rules=["-|/x"], **both)
    with pytest.raises(ValidationError, match="the filespec of the overlay 'wifi' has no rules"):
        FilespecUse(overlay="wifi", rules=["", "# nothing"])


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("-|usr/x", "not absolute on the target"),
        ("*|/x", "is not an operation"),
        ("=|/x", "neither a file mode nor a folder mode"),
        ("-|", "there is no path"),
        ("+|/a|888", "is not octal"),
    ],
)
def test_a_bad_rule_is_a_fault_of_the_config_and_is_numbered(rule: str, why: str) -> None:
    with pytest.raises(ValidationError, match=rf"rule 2 `.*`: .*{why}.* \(a rule reads op\|path"):
        FilespecUse(package="x", rules=["-|/fine", rule])


def test_rules_of_several_filespecs_are_one_list_for_each_owner() -> None:
    uses = [
        FilespecUse(package="a", rules=["-|/1"]),
        FilespecUse(overlay="a", rules=["-|/2"]),
        FilespecUse(package="a", rules=["-|/3", "+|/3/x"]),
    ]
    assert package_rules(uses) == {"a": ("-|/1", "-|/3", "+|/3/x")}
    assert overlay_rules(uses) == {"a": ("-|/2",)}


def test_rules_can_leave_the_version_of_python_open() -> None:
    lines = ("-|{site_packages}/x", "-|/usr/lib/python{python}/pydoc_data", "-|/{other}")
    assert with_python(lines, "3.11") == (
        *("-|/usr/lib/python3.11/site-packages/x", "-|/usr/lib/python3.11/pydoc_data"),
        "-|/{other}",
    )


# --- rules on trees


def test_rules_on_an_overlay_and_their_record() -> None:
    done = trim(TREE, ["-|/usr/bin/*", "+|/usr/bin/d", "==|/var/lib/demo||755", "=|/etc||700"], "overlay x")
    assert set(TREE) - set(done.tree) == {"/usr/bin/demo"}
    assert done.tree["/var/lib/demo"].mode == 0o755
    record = done.record
    assert (record.owner, record.before, record.after, record.saved) == ("overlay x", 626, 616, 10)
    assert [(rule.rule, rule.paths, rule.size) for rule in record.rules] == [
        ("-|/usr/bin/*", ("/usr/bin/d", "/usr/bin/demo"), 10),
        ("+|/usr/bin/d", ("/usr/bin/d",), 0),
        ("==|/var/lib/demo||755", ("/var/lib/demo",), 0),
        ("=|/etc||700", ("/etc", "/etc/config"), 0),
    ]
    assert record.links == ("/usr/bin/d -> demo",)


def test_a_rule_that_matches_nothing_names_owner_and_rule() -> None:
    with pytest.raises(FilespecError, match=r"the filespec of package x, rule 2 `-\|/usr/none`: the package"):
        trim(TREE, ["-|/usr/share", "-|/usr/none"], "package x")
    with pytest.raises(FilespecError, match=r"the filespec of overlay x, rule 1 `\+\|/opt`"):
        trim(TREE, ["+|/opt"], "overlay x")


def test_a_rule_that_finds_something_and_changes_nothing_says_so() -> None:
    done = trim(TREE, ["=|/usr/bin/demo||700"], "package x")
    assert done.tree == TREE
    assert done.record.rules[0].warnings == ("it changed nothing",)


def test_links_that_led_nowhere_before_are_not_blamed_on_rules() -> None:
    tree = FileTree({"/a": symlink("b"), "/b": symlink("a"), "/c": symlink("/gone"), "/d": file_of(b"")})
    assert trim(tree, ["-|/d"], "package x").record.links == ()


SITE = "/usr/lib/python3.11/site-packages"
STAGE = FileTree(
    {
        f"{SITE}/demo/__init__.py": file_of(b"1"),
        f"{SITE}/demo/tests/test_x.py": file_of(b"22"),
        "/usr/bin/demo": file_of(b"333", 0o755),
        "/usr/share/demo": file_of(b"4444"),
    }
)


def test_38_a_python_package_without_filespec_takes_site_packages() -> None:
    hook = FileTree({"/etc/demo": file_of(b"")})
    done = cut(STAGE, None, "package x", python="3.11", hook=hook)
    kept = {path for path, entry in done.tree.items() if entry.kind == "file"}
    assert kept == {f"{SITE}/demo/__init__.py", f"{SITE}/demo/tests/test_x.py", "/etc/demo"}
    assert done.record.before == 10
    assert cut(STAGE, (), "package x", python="3.11").tree == FileTree()


def test_8_rules_reach_what_the_install_step_made() -> None:
    hook = FileTree({"/usr/bin/demo": STAGE["/usr/bin/demo"], "/etc/demo": file_of(b"", 0o644)})
    rules = [f"+|{SITE}/demo", f"-|{SITE}/demo/tests", "-|/usr/bin/demo", "=|/etc/demo|600"]
    done = cut(STAGE, rules, "package x", python="3.11", hook=hook)
    assert {path for path, entry in done.tree.items() if entry.kind == "file"} == {
        *(f"{SITE}/demo/__init__.py", "/etc/demo"),
    }
    assert done.tree["/etc/demo"].mode == 0o600


# --- versions

DIGITS = st.integers(0, 10**6).map(str)
OPKG_VERSIONS = st.builds(
    "{}.{}{}".format, DIGITS, DIGITS, st.sampled_from(["", "rc", "-", "-r", "~git", "+x"])
)
SOME_RULES = st.lists(st.sampled_from(["-|/a", "-|/b", "=|/c|644"]), min_size=1, max_size=3)


@given(OPKG_VERSIONS, DIGITS, SOME_RULES)
def test_opkg_takes_the_repacked_version_before_its_own_and_the_next_before_both(
    begin: str, number: str, rules: list[str]
) -> None:
    version, following = begin + number, begin + str(int(number) + 1)
    made = repacked_version(version, rules, Opkg())
    assert compare_versions(version, made) < 0
    assert compare_versions(made, following) < 0


APK_VERSIONS = st.builds(
    "{}.{}{}{}".format,
    *(DIGITS, DIGITS),
    st.sampled_from(["", "a", "_rc1", "_p2", "_git20240101", "~abc123", "_p1~0f"]),
    st.sampled_from(["", "-r0", "-r3", "-r12"]),
)


@given(APK_VERSIONS, SOME_RULES)
def test_apk_takes_the_repacked_version_before_its_own(version: str, rules: list[str]) -> None:
    made = repacked_version(version, rules, Apk())
    assert apk_version.is_valid(made)
    assert apk_version.compare(version, made) < 0
    assert apk_version.compare(made, "9999999") < 0


def test_versions_as_people_see_them() -> None:
    tag = repacked_version("1-1", ["-|/a"], Opkg()).rpartition(".")[2]
    assert len(tag) == 8
    assert repacked_version("1.4.21-3", ["# why", " -|/a "], Opkg()) == f"1.4.21-3+rules.{tag}"
    assert repacked_version("1.4.21-r3", ["-|/a"], Apk()) == f"1.4.21~{tag}-r3"
    assert repacked_version("1.4~abc-r3", ["-|/a"], Apk()) == f"1.4~abc{tag}-r3"
    assert repacked_version("1-1", ["-|/b"], Opkg()) != repacked_version("1-1", ["-|/a"], Opkg())
    with pytest.raises(RepackError, match="'v1' is no version of apk"):
        repacked_version("v1", ["-|/a"], Apk())


# --- repacking


def test_everything_but_files_and_version_stays(tmp_path: Path) -> None:
    written = write_ipk(
        tmp_path, FACTS, TREE, epoch=1, scripts=SCRIPTS, conffiles=["/etc/config/demo", "/etc/demo.conf"]
    )
    done = repack(Opkg().read(written.path, written.package), RULES, Opkg())
    made = done.content
    assert set(TREE) - set(made.tree) == {
        "/usr/share",
        "/usr/share/doc",
        "/usr/share/doc/demo",
        "/etc/demo.conf",
    }
    assert made.tree["/usr/bin/demo"].mode == 0o700
    assert made.conffiles == ("/etc/config/demo",)
    assert made.scripts == SCRIPTS
    assert made.package.feed == LOCAL
    assert replace(made.package, version=FACTS.version, installed_size=0, feed="") == FACTS
    assert made.package.extra == FACTS.extra
    assert done.record.owner == "package libdemo12"
    again = read_ipk(
        write_ipk(
            tmp_path, made.package, made.tree, epoch=1, scripts=made.scripts, conffiles=made.conffiles
        ).path
    )
    before = read_ipk(written.path).fields
    assert {name for name in again.fields if again.fields[name] != before[name]} == {
        "Version",
        "Installed-Size",
    }
    assert again.fields.keys() == before.keys()


def test_what_a_plan_was_told_is_what_is_made(tmp_path: Path) -> None:
    written = write_ipk(tmp_path, FACTS, TREE, epoch=1)
    planned = declare(written.package, RULES, Opkg())
    assert repack(Opkg().read(written.path, written.package), RULES, Opkg()).content.package == planned
    assert (planned.filename, planned.size, planned.sha256, planned.identity) == ("", 0, "", "")
    assert planned.version == repacked_version(FACTS.version, RULES, Opkg())


def test_a_plan_refuses_what_cannot_be_repacked() -> None:
    for name in ("libc", "kernel"):
        with pytest.raises(RepackError, match=f"the package {name} cannot have a filespec"):
            declare(Package(name, "1"), RULES, Opkg())
    assert declare(Package("base-files", "1"), RULES, Opkg()).version.startswith("1+rules.")
    with pytest.raises(RepackError, match="the package base-files cannot have a filespec"):
        declare(Package("base-files", "1"), RULES, Apk())
    with pytest.raises(FilespecError, match=r"the filespec of package x, rule 1 `\?\|/`"):
        declare(Package("x", "1"), ["?|/"], Opkg())


def test_a_rule_without_match_is_an_error_of_the_repacking() -> None:
    with pytest.raises(FilespecError, match=r"the filespec of package libdemo12, rule 1 `-\|/opt`"):
        repack(CONTENT, ["-|/opt"], Opkg())


def test_apk_packages_say_anew_what_they_hold() -> None:
    lists = "/lib/apk/packages/libdemo12"
    tree = with_lists(TREE, "libdemo12", ("/etc/config/demo", "/etc/demo.conf", "/etc/made-later"))
    facts = replace(FACTS, version="1.4.21-r3", depends=parse_depends("libc"))
    made = repack(LocalPackage(facts, tree), RULES, Apk()).content
    assert content(made.tree[f"{lists}.list"]).decode().splitlines() == [
        *("/etc/config/demo", "/usr/bin/d", "/usr/bin/demo"),
    ]
    assert content(made.tree[f"{lists}.conffiles"]) == b"/etc/config/demo\n/etc/made-later\n"
    (static,) = content(made.tree[f"{lists}.conffiles_static"]).decode().splitlines()
    assert static.startswith("/etc/config/demo ")
    assert made.package.version.startswith("1.4.21~")


def test_a_package_in_opkgs_terms_becomes_one_in_apks() -> None:
    default = b'#!/bin/sh\n. "${IPKG_INSTROOT}/lib/functions.sh"\ndefault_postinst "$0" "$@"\n'
    scripts = {"postinst": default, "preinst": b"#!/bin/sh\necho first\n", "postrm": b"#!/bin/sh\n"}
    made = for_apk(replace(CONTENT, scripts=scripts))
    assert made.scripts.keys() == {
        *("post-install", "post-upgrade", "pre-install", "pre-upgrade", "post-deinstall"),
    }
    assert made.scripts["pre-upgrade"] == b"#!/bin/sh\nexport PKG_UPGRADE=1\necho first\n"
    assert made.scripts["pre-install"] == b"#!/bin/sh\necho first\n"
    assert b'pkgname="libdemo12"\nadd_group_and_user\ndefault_postinst\n' in made.scripts["post-install"]
    assert b'"$@"' not in made.scripts["post-install"]
    assert made.conffiles == ()
    assert content(made.tree["/lib/apk/packages/libdemo12.conffiles"]).split() == [
        *(b"/etc/config/demo", b"/etc/demo.conf"),
    ]
    assert for_apk(made.__class__(FACTS, TREE)).scripts == {}


@given(st.sets(st.sampled_from(sorted(TREE)), min_size=1), st.data())
def test_repacking_loses_nothing_that_no_rule_names(dropped: set[str], data: st.DataObject) -> None:
    tops = [path for path in dropped if not any(path.startswith(f"{other}/") for other in dropped)]
    rules = [f"-|{path}" for path in data.draw(st.permutations(sorted(tops)))]
    made = repack(CONTENT, rules, Opkg()).content
    gone = {below for path in tops for below in (path, *TREE.below(path))}
    assert dict(made.tree) == {path: entry for path, entry in TREE.items() if path not in gone}
    assert made.conffiles == tuple(path for path in CONTENT.conffiles if path not in gone)
    assert repack(CONTENT, rules, Opkg()).content == made
