"""Programs of a root file system find what they are linked with, as their own dynamic linker looks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.trial import TrialCheck
from imagebuilder.rootfs.tree import Entry, FileTree, file_of, symlink
from imagebuilder.trial.library_check import library_check
from tests.support.elf_maker import EM_ARM, ElfPlan, make_elf

MUSL, GLIBC, UCLIBC = "/lib/ld-musl-mips-sf.so.1", "/lib/ld.so.1", "/lib/ld-uClibc.so.0"
PROGRAM = ElfPlan(loader=MUSL, needed=("libc.so",), calls=("printf",))
CLIB = ElfPlan(gives=("printf", "malloc"), soname="libc.so")


def elf(plan: ElfPlan) -> Entry:
    return file_of(make_elf(plan), 0o755)


def musl_root(**files: Entry) -> FileTree:
    """A root as OpenWrt has it, with a C library and no program yet."""
    return FileTree({"/lib/libc.so": elf(CLIB), MUSL: symlink("libc.so"), **files})


def glibc_root(**files: Entry) -> FileTree:
    clib = ElfPlan(gives=("printf",), soname="libc.so.6", versions=("GLIBC_2.34",), needed=("ld.so.1",))
    return FileTree(
        {
            "/lib/libc.so.6": elf(clib),
            GLIBC: elf(ElfPlan(soname="ld.so.1", gives=("__tls_get_addr",))),
            **files,
        }
    )


def checked(tree: FileTree, owners: dict[str, str] | None = None) -> TrialCheck:
    check = library_check(tree, owners or {})
    assert check is not None
    return check


def texts(check: TrialCheck) -> list[tuple[str, str, str]]:
    return [(each.level, each.file, each.text) for each in check.findings]


def test_a_root_whose_programs_find_all_passes() -> None:
    needs = ElfPlan(
        loader=MUSL, needed=("libown.so.1", "libgcc_s.so.1", "libm.so.6"), calls=("own", "printf")
    )
    check = checked(
        musl_root(
            **{
                "/bin/a": elf(PROGRAM),
                "/bin/b": elf(needs),
                "/usr/lib/libown.so.1": symlink("libown.so.1.2"),
                "/usr/lib/libown.so.1.2": elf(
                    ElfPlan(gives=("own",), calls=("malloc",), soname="libown.so.1")
                ),
                "/lib/libgcc_s.so.1": elf(ElfPlan(soname="libgcc_s.so.1", weakly=("absent",))),
            }
        )
    )
    assert (check.outcome, check.findings) == ("ok", ())
    assert check.found == "2 programs and all libraries: 5 files"


def test_a_library_that_lacks_fails_by_program_package_and_what_may_bring_it() -> None:
    program = replace(PROGRAM, needed=("libssl.so.3", "libc.so"))
    check = checked(musl_root(**{"/usr/bin/wget-ssl": elf(program)}), {"/usr/bin/wget-ssl": "wget-ssl"})
    assert check.outcome == "failed"
    (finding,) = check.findings
    assert (finding.file, finding.package) == ("/usr/bin/wget-ssl", "wget-ssl")
    assert finding.text.startswith("libssl.so.3 is not in the image; its package is perhaps libopenssl3")
    assert "libssl.so.3" in check.found


def test_pythons_library_is_looked_for_in_the_package_of_its_version() -> None:
    check = checked(
        musl_root(**{"/usr/bin/python3.11": elf(replace(PROGRAM, needed=("libpython3.11.so.1.0",)))})
    )
    assert check.found.endswith("its package is perhaps libpython3-3.11")


def test_a_library_that_lacks_another_is_told_once_with_the_programs_that_it_takes_along() -> None:
    program = replace(PROGRAM, needed=("libown.so",))
    files = {f"/bin/p{each}": elf(program) for each in range(3)}
    own = elf(ElfPlan(needed=("libgone.so.2",), soname="libown.so"))
    check = checked(musl_root(**files, **{"/usr/lib/libown.so": own}))
    (finding,) = check.findings
    assert finding.file == "/usr/lib/libown.so"
    assert finding.text.endswith("(loaded by /bin/p0 and 2 others)")


def test_a_loader_that_lacks_fails() -> None:
    check = checked(FileTree({"/bin/a": elf(replace(PROGRAM, loader=UCLIBC))}))
    assert texts(check) == [("error", "/bin/a", f"its loader {UCLIBC} is not in the image")]


def test_a_link_that_dangles_is_named_with_its_target() -> None:
    files = {
        "/bin/a": elf(replace(PROGRAM, needed=("libz.so.1",))),
        "/usr/lib/libz.so.1": symlink("libz.so.1.9"),
    }
    check = checked(musl_root(**files))
    assert "/usr/lib/libz.so.1 is a link to libz.so.1.9" in check.findings[0].text


def test_a_library_for_another_processor_is_none() -> None:
    other = elf(ElfPlan(machine=EM_ARM, little=True, soname="libz.so.1"))
    check = checked(
        musl_root(**{"/bin/a": elf(replace(PROGRAM, needed=("libz.so.1",))), "/usr/lib/libz.so.1": other})
    )
    assert "is for another processor: arm, 32 bits, little endian" in check.findings[0].text
    assert check.outcome == "failed"


def test_what_is_no_library_in_its_place_is_named() -> None:
    program = elf(replace(PROGRAM, needed=("libz.so.1",)))
    check = checked(musl_root(**{"/bin/a": program, "/usr/lib/libz.so.1": file_of(b"INPUT(-lz)\n")}))
    assert "/usr/lib/libz.so.1 is no shared library" in check.findings[0].text


@pytest.mark.parametrize("runpath", ["/opt/lib", "$ORIGIN/../lib", "${ORIGIN}/../lib"])
def test_a_file_names_folders_of_its_own(runpath: str) -> None:
    program = replace(PROGRAM, needed=("libown.so",), runpath=runpath)
    own = elf(ElfPlan(soname="libown.so", gives=("printf",)))
    assert checked(musl_root(**{"/opt/bin/a": elf(program), "/opt/lib/libown.so": own})).outcome == "ok"


def test_musl_asks_whoever_wanted_a_library_too_and_glibc_does_not_for_its_runpath() -> None:
    one = elf(ElfPlan(soname="libone.so", needed=("libtwo.so",)))
    two = elf(ElfPlan(soname="libtwo.so"))
    libraries = {"/opt/lib/libone.so": one, "/opt/lib/libtwo.so": two}
    program = ElfPlan(needed=("libone.so",), runpath="/opt/lib")
    assert checked(musl_root(**libraries, **{"/bin/a": elf(replace(program, loader=MUSL))})).outcome == "ok"
    glibc = replace(program, loader=GLIBC)
    assert checked(glibc_root(**libraries, **{"/bin/a": elf(glibc)})).outcome == "failed"
    asked = replace(program, loader=GLIBC, runpath="", rpath="/opt/lib")
    assert checked(glibc_root(**libraries, **{"/bin/a": elf(asked)})).outcome == "ok"


def test_the_folders_of_musls_path_file_count_and_no_others() -> None:
    program = elf(replace(PROGRAM, needed=("libown.so",)))
    own = elf(ElfPlan(soname="libown.so", gives=("printf",)))
    files = {"/bin/a": program, "/opt/own/libown.so": own}
    path = {"/etc/ld-musl-mips-sf.path": file_of(b"/lib\n/opt/own:/usr/lib\n")}
    assert checked(musl_root(**files)).outcome == "failed"
    assert checked(musl_root(**files, **path)).outcome == "ok"


def test_the_folders_of_ld_so_conf_count_with_what_it_includes() -> None:
    program = elf(ElfPlan(loader=GLIBC, needed=("libown.so",)))
    files = {
        "/bin/a": program,
        "/opt/own/libown.so": elf(ElfPlan(soname="libown.so")),
        "/etc/ld.so.conf": file_of(b"# folders\ninclude ld.so.conf.d/*.conf\n"),
        "/etc/ld.so.conf.d/own.conf": file_of(b"/opt/own/\n"),
    }
    assert checked(glibc_root(**files)).outcome == "ok"
    del files["/etc/ld.so.conf.d/own.conf"]
    assert checked(glibc_root(**files)).outcome == "failed"


def test_debians_folders_by_architecture_count() -> None:
    files = {"/bin/a": elf(ElfPlan(loader=GLIBC, needed=("libown.so",)))}
    own = elf(ElfPlan(soname="libown.so"))
    assert checked(glibc_root(**files, **{"/usr/lib/mips-linux-gnu/libown.so": own})).outcome == "ok"
    assert checked(glibc_root(**files, **{"/usr/lib/other/libown.so": own})).outcome == "failed"


def test_a_library_elsewhere_fails_unless_a_script_says_where_libraries_are() -> None:
    files = {
        "/bin/a": elf(replace(PROGRAM, needed=("libown.so",))),
        "/opt/own/libown.so": elf(ElfPlan(soname="libown.so")),
    }
    check = checked(musl_root(**files))
    assert check.outcome == "failed"
    assert "is at /opt/own/libown.so, where the linker does not look" in check.findings[0].text
    script = file_of(b"#!/bin/sh\nLD_LIBRARY_PATH=/opt/own exec /bin/a\n", 0o755)
    assert checked(musl_root(**files, **{"/usr/bin/a.sh": script})).outcome == "warned"


def test_a_plugin_that_lacks_a_library_is_worth_a_word_and_one_elsewhere_no_more_than_a_note() -> None:
    files = {
        "/bin/a": elf(PROGRAM),
        "/usr/lib/kamailio/one.so": elf(ElfPlan(needed=("libcore.so.1",), wants=("host_symbol",))),
        "/usr/lib/kamailio/libcore.so.1": elf(ElfPlan(soname="libcore.so.1")),
    }
    check = checked(musl_root(**files))
    assert check.outcome == "ok"
    assert [level for level, _, _ in texts(check)] == ["note"]
    plugin = {"/usr/lib/kamailio/two.so": elf(ElfPlan(needed=("libmysql.so.9",)))}
    check = checked(musl_root(**files, **plugin))
    assert (check.outcome, check.findings[0].level) == ("warned", "warning")
    assert check.findings[0].file == "/usr/lib/kamailio/two.so"
    assert "no program is linked with this file" in check.findings[0].text


def test_a_version_that_the_library_has_not_fails_with_glibc_and_is_named() -> None:
    plan = ElfPlan(loader=GLIBC, needed=("libc.so.6",), needed_versions=(("libc.so.6", "GLIBC_2.38"),))
    check = checked(glibc_root(**{"/bin/a": elf(plan)}))
    assert texts(check) == [("error", "/bin/a", "/lib/libc.so.6 has no version GLIBC_2.38")]
    good = replace(plan, needed_versions=(("libc.so.6", "GLIBC_2.34"),))
    assert checked(glibc_root(**{"/bin/a": elf(good)})).outcome == "ok"
    weak = replace(plan, weak_versions=("GLIBC_2.38",))
    assert checked(glibc_root(**{"/bin/a": elf(weak)})).outcome == "warned"


def test_musl_asks_for_no_versions_and_a_library_without_any_refuses_none() -> None:
    wants = (("libz.so.1", "ZLIB_9"),)
    plan = replace(PROGRAM, needed=("libz.so.1", "libc.so"), needed_versions=wants)
    versioned = elf(ElfPlan(soname="libz.so.1", versions=("ZLIB_1",)))
    check = checked(musl_root(**{"/bin/a": elf(plan), "/usr/lib/libz.so.1": versioned}))
    assert (check.outcome, check.findings[0].level) == ("ok", "note")
    files = {"/bin/a": elf(replace(plan, loader=GLIBC, needed=("libz.so.1", "libc.so.6")))}
    bare = {"/lib/libz.so.1": elf(ElfPlan(soname="libz.so.1"))}
    assert checked(glibc_root(**files, **bare)).findings == ()


def test_a_symbol_that_no_library_has_fails_at_the_start_or_may_when_it_is_called() -> None:
    plan = ElfPlan(loader=MUSL, needed=("libc.so",), calls=("printf", "gone"))
    check = checked(musl_root(**{"/bin/a": elf(plan)}))
    assert texts(check) == [("error", "/bin/a", "no library has the symbol gone")]
    lazy = replace(plan, loader=GLIBC, needed=("libc.so.6",))
    assert checked(glibc_root(**{"/bin/a": elf(lazy)})).outcome == "warned"
    assert checked(glibc_root(**{"/bin/a": elf(replace(lazy, bind_now=True))})).outcome == "failed"
    assert (
        checked(glibc_root(**{"/bin/a": elf(replace(lazy, calls=(), wants=("gone",)))})).outcome == "failed"
    )
    many = replace(plan, calls=("d", "c", "b", "a", "e"))
    assert "the symbols a, b, c and 2 more" in checked(musl_root(**{"/bin/a": elf(many)})).found


def test_a_library_with_an_interpreter_is_no_program_and_firmware_of_other_chips_no_matter() -> None:
    library = elf(ElfPlan(loader="ld-uClibc.so.0", soname="libm.so.0"))
    foreign = elf(ElfPlan(machine=EM_ARM, little=True, loader="/lib/ld64.so.1", needed=("libc.so.6",)))
    files = {"/lib/libm-0.9.so": library, "/usr/share/qemu/ccw.img": foreign, "/lib/firmware/dsp": foreign}
    assert checked(musl_root(**{"/bin/a": elf(PROGRAM), **files})).findings == ()
    check = checked(
        musl_root(**{"/bin/a": elf(PROGRAM), "/usr/bin/b": elf(PROGRAM), "/usr/bin/foreign": foreign})
    )
    assert [file for _, file, _ in texts(check)] == ["/usr/bin/foreign"]


def test_libraries_that_want_each_other_come_to_an_end() -> None:
    files = {
        "/bin/a": elf(replace(PROGRAM, needed=("libone.so", "libc.so"))),
        "/lib/libone.so": elf(ElfPlan(soname="libone.so", needed=("libtwo.so",))),
        "/lib/libtwo.so": elf(ElfPlan(soname="libtwo.so", needed=("libone.so",))),
    }
    assert checked(musl_root(**files)).outcome == "ok"


def test_a_damaged_file_is_named_and_a_root_without_any_is_not_checked() -> None:
    damaged = file_of(make_elf(PROGRAM)[:200])
    check = checked(musl_root(**{"/bin/a": elf(PROGRAM), "/bin/b": damaged, "/lib/firmware/c": damaged}))
    assert [(level, file) for level, file, _ in texts(check)] == [("error", "/bin/b")]
    assert "it ends after 200 of" in check.found
    assert library_check(FileTree({"/etc/banner": file_of(b"hello")}), {}) is None


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=8))
def test_damaged_files_give_a_check(changes: list[tuple[int, int]]) -> None:
    data = bytearray(make_elf(replace(PROGRAM, needed=("libown.so", "libc.so"), runpath="/opt/lib")))
    for place, value in changes:
        data[place % len(data)] = value
    files = {"/bin/a": file_of(bytes(data)), "/opt/lib/libown.so": file_of(bytes(data))}
    assert checked(musl_root(**files)).outcome in {"ok", "warned", "failed"}
