"""python.shake's pure parts: from what bytecode says to modules, files, dependencies."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.repack import shaken_package
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.shake.closure import Closure, Modules, absolute, close
from imagebuilder.python.shake.commands import (
    Looked,
    Root,
    RootError,
    Traced,
    _failure,
    command_words,
    inside,
    lacking,
    parse_trace,
    program_argv,
)
from imagebuilder.python.shake.hidden import codecs_in
from imagebuilder.python.shake.index import index_of, module_of
from imagebuilder.python.shake.libraries import Cut, lean, library_names
from imagebuilder.python.shake.read import Imported, ModuleFacts, ShakeError, Unit, parse_facts, read_modules
from imagebuilder.python.shake.shake import Kept, builtin_modules, frozen_modules
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of, symlink

LIBRARY = "/usr/lib/python3.11"


def imported(module: str, *names: str, level: int = 0, certain: bool = True, instead: str = "") -> Imported:
    return Imported(certain, level, module, names, (instead,) if instead else ())


def body(*imports: Imported, uses: str = "", attributes: str = "") -> Unit:
    return Unit(
        0, -1, "body", "", "", frozenset(uses.split()), frozenset(attributes.split()), imports=imports
    )


def function(number: int, name: str, *imports: Imported, **more: object) -> Unit:
    plain = Unit(number, 0, "function", name, imports=imports)
    return replace(plain, **more)  # type: ignore[arg-type]


def closed(
    library: Mapping[str, Sequence[Unit]], *roots: str, builtin: str = "sys", whole: str = ""
) -> Closure:
    """What roots reach in a library; a package is what another module is in."""
    packages = {name.rpartition(".")[0] for name in library}
    modules = Modules(library.keys(), packages, builtin.split())

    def read(names: Sequence[str]) -> dict[str, ModuleFacts]:
        return {name: ModuleFacts(name, tuple(library[name])) for name in names}

    return close(roots, modules, read, whole={whole})


def test_what_a_body_imports_is_reached_with_the_packages_round_it() -> None:
    library = {"a": [body(imported("b.c"))], "b": [body()], "b.c": [body()], "d": [body()]}
    found = closed(library, "a")
    assert found.reached == {"a", "b", "b.c"}


def test_names_that_are_taken_may_be_modules_and_relative_imports_stay_in_their_package() -> None:
    library = {
        "a": [body(imported("", "b", "name", level=1))],
        "a.b": [body(imported("c", level=1), imported("x", level=3, certain=False))],
        "a.c": [body()],
    }
    assert closed(library, "a").reached == {"a", "a.b", "a.c"}
    assert absolute(imported("x", level=2), "a.b.c", is_package=False) == "a.x"
    assert absolute(imported("", level=1), "a.b", is_package=True) == "a.b"
    assert absolute(imported("x", level=2), "a", is_package=False) == ""


def test_a_function_counts_where_its_module_or_who_imports_it_uses_its_name() -> None:
    lazy = function(1, "work", imported("c"))
    library = {"b": [body(), lazy], "c": [body()]}
    assert "c" not in closed({**library, "a": [body(imported("b"))]}, "a").reached
    assert "c" in closed({**library, "a": [body(imported("b"), attributes="work")]}, "a").reached
    assert "c" in closed({**library, "a": [body(imported("b", "work"))]}, "a").reached
    assert "c" in closed({**library, "a": [body(imported("b", "*"))]}, "a").reached
    assert "c" in closed({"b": [body(uses="work"), lazy], "c": [body()]}, "b").reached
    assert "c" in closed(library, "b", whole="b").reached
    stranger = {**library, "a": [body(imported("b"))], "d": [body(attributes="work")]}
    assert "c" not in closed(stranger, "a", "d").reached


def test_a_method_counts_where_its_class_is_used_and_its_name_by_anybody() -> None:
    method = function(1, "work", imported("c"), kind="method", owner="Worker")
    special = replace(method, name="__init__")
    library = {"b": [body(), method], "c": [body()], "d": [body(attributes="work")]}
    assert "c" not in closed(library, "b", "d").reached
    named = {**library, "a": [body(imported("b"), attributes="Worker")]}
    assert "c" not in closed(named, "a").reached
    assert "c" in closed(named, "a", "d").reached
    assert "c" in closed({**named, "b": [body(), special]}, "a").reached


def test_a_function_that_the_library_calls_counts_only_for_who_uses_what_it_is_for() -> None:
    lazy = function(1, "_formatwarnmsg_impl", imported("tracemalloc", certain=False))
    library = {"warnings": [body(uses="_formatwarnmsg_impl"), lazy], "tracemalloc": [body()]}
    assert "tracemalloc" not in closed(library, "warnings").reached
    traces = {**library, "a": [body(imported("warnings"), attributes="get_object_traceback")]}
    assert "tracemalloc" in closed(traces, "a").reached


def test_a_function_in_one_that_does_not_run_does_not_count() -> None:
    inner = Unit(2, 1, "nested", "inner", imports=(imported("c"),))
    library = {"b": [body(), function(1, "outer"), inner], "c": [body()]}
    assert "c" not in closed(library, "b").reached
    assert "c" in closed({**library, "b": [body(uses="outer"), *library["b"][1:]]}, "b").reached


def test_getattr_with_a_beginning_means_all_that_begin_so() -> None:
    called = Unit(0, -1, "body", "", "", frozenset(), frozenset({"getattr()"}), frozenset({"do_", "x"}))
    library = {"b": [body(), function(1, "do_GET", imported("c"), kind="method")], "c": [body()]}
    assert "c" in closed({**library, "a": [called, function(1, "f", imported("b"))]}, "a", whole="a").reached
    assert "c" not in closed({**library, "a": [body(imported("b"))]}, "a").reached


def test_what_takes_a_modules_place_counts_only_where_that_is_not_there() -> None:
    library = {
        "decimal": [body(imported("_decimal", certain=False), imported("_pydecimal", instead="_decimal"))]
    }
    library |= {"_pydecimal": [body()]}
    assert "_pydecimal" in closed(library, "decimal").reached
    assert "_pydecimal" not in closed({**library, "_decimal": []}, "decimal").reached
    assert "_pydecimal" not in closed(library, "decimal", builtin="sys _decimal").reached


def test_a_module_that_cannot_be_imported_counts_as_not_there() -> None:
    library = {
        "http": [body(imported("ssl", certain=False))],
        "ssl": [body(imported("_ssl"), imported("base64"))],
        "base64": [body()],
        "tls": [body(imported("ssl"))],
    }
    assert closed(library, "http").reached == {"http"}
    assert closed({**library, "_ssl": []}, "http").reached == {"http", "ssl", "_ssl", "base64"}
    assert closed(library, "tls").reached == set()
    assert closed(library, "tls", whole="tls").reached == {"tls"}
    assert closed(library, "http").unusable == {"ssl"}


def test_a_module_that_its_parent_may_make_counts_as_there() -> None:
    # collections/__init__.py of Python 3.13 makes collections.abc, and has no file for it
    library = {"socket": [body(imported("collections.abc", "Set"))], "collections": [body()]}
    found = closed(library, "socket")
    assert found.reached == {"socket", "collections"}
    assert found.unusable == frozenset()
    assert closed({"socket": library["socket"]}, "socket").reached == set()


def test_imports_of_a_modules_getattr_count_for_who_asks_for_that_name() -> None:
    lazy = function(
        1, "__getattr__", imported("process", "Pool", level=1), imported("thread", "Thread", level=1)
    )
    library = {"futures": [body(), lazy], "futures.process": [body()], "futures.thread": [body()]}
    asks = {**library, "a": [body(imported("futures"), attributes="Thread")]}
    assert closed(asks, "a").reached == {"a", "futures", "futures.thread"}


def test_what_c_code_imports_counts_and_some_of_it_only_for_a_name() -> None:
    library = {"a": [body(imported("time"))], "_strptime": [body()], "_pickle": [], "copyreg": [body()]}
    assert "_strptime" not in closed(library, "a", builtin="time").reached
    user = {**library, "a": [body(imported("time"), attributes="strptime")]}
    assert "_strptime" in closed(user, "a", builtin="time").reached
    assert closed(library, "_pickle").reached == {"_pickle", "copyreg"}
    named = {"sysconfig": [body()], "_sysconfigdata__linux_mips": [body()]}
    assert "_sysconfigdata__linux_mips" in closed(named, "sysconfig").reached
    without = {"sysconfig": [body()], "_sysconfigdata": [body()]}  # so 3.6 of 17.01
    assert "_sysconfigdata" in closed(without, "sysconfig").reached


def test_codecs_by_their_names() -> None:
    words = frozenset({"latin-1", "UTF-16-LE", "nonsense"})
    unit = Unit(0, -1, "body", "", "", frozenset(), frozenset({"encode"}), words)
    library = {"a": [unit], **{f"encodings.{name}": [body()] for name in ("latin_1", "utf_16_le", "big5")}}
    assert closed(library, "a").reached == {"a", "encodings.latin_1", "encodings.utf_16_le"}
    assert set(codecs_in(["Shift-JIS", "l1"])) == {"encodings.shift_jis", "encodings.latin_1"}


def test_modules_that_import_by_computed_names_have_what_they_hold_the_names_of() -> None:
    parser = function(1, "make", kind="function")
    unit = Unit(
        0, -1, "body", "", "", frozenset({"__import__", "make"}), frozenset(), frozenset({"xml.expat"})
    )
    found = closed({"xml": [unit, parser], "xml.expat": [body()]}, "xml")
    assert found.reached == {"xml", "xml.expat"}


# --- the helper's answer --------------------------------------------------------------------------

ANSWER = """M\ta.b
U\t0\t-1\tbody\t\t
G\tx y
I\t1\t1\tc\td,e\t_c
U\t1\t0\tmethod\twork\tWorker
A\tstrptime
E\tbroken\tEOFError: no data
END
"""


def test_the_readers_answer() -> None:
    found = parse_facts(ANSWER)
    first, second = found["a.b"].units
    assert first.globals == {"x", "y"}
    assert first.imports == (Imported(True, 1, "c", ("d", "e"), ("_c",)),)
    assert (second.kind, second.name, second.owner, second.attributes) == (
        "method",
        "work",
        "Worker",
        {"strptime"},
    )
    assert found["broken"].problem == "EOFError: no data"


@pytest.mark.parametrize(
    "text",
    [
        *("", "M\ta\n", "U\t0\t-1\tbody\t\t\nEND", "M\ta\nU\t5\t0\tbody\t\t\nEND", "what\nEND"),
        "M\ta\nU\t0\t-1\tthing\t\t\nEND",
    ],
)
def test_an_answer_that_is_none(text: str) -> None:
    if text.startswith("U"):
        assert parse_facts(text) == {}  # units of no module
        return
    with pytest.raises(ShakeError):
        parse_facts(text)


LINES = st.sampled_from(ANSWER.splitlines()) | st.text(max_size=30)


@given(st.lists(LINES, max_size=20).map("\n".join))
def test_any_answer_gives_facts_or_one_error(text: str) -> None:
    try:
        found = parse_facts(text)
    except ShakeError:
        return
    assert all(name == facts.name for name, facts in found.items())


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"M\t{text}\nEND\t1\t2\n".encode()))
def test_any_trace_gives_names_and_counts(data: bytes) -> None:
    names, looked = parse_trace(data)
    assert list(names) == sorted(set(names))
    assert all(isinstance(each, Looked) for each in looked)


def test_a_trace() -> None:
    data = b"M\tos\nM\tjson\nM\tos\nmine own\nEND\t30\t8\nEND\tx\t1\n"
    assert parse_trace(data) == (("json", "os"), (Looked(30, 8),))


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("os.pyc", ("os", False)),
        ("json/__init__.pyc", ("json", True)),
        ("json/__pycache__/tool.cpython-311.pyc", ("json.tool", False)),
        ("lib-dynload/_json.cpython-311-mips-linux-gnu.so", ("_json", False)),
        ("site-packages/a/b.py", ("a.b", False)),
        ("_sysconfigdata__linux_arm-eabi.pyc", ("_sysconfigdata__linux_arm-eabi", False)),
        ("config-3.11-mips/python-config.pyc", None),
        ("lib2to3/Grammar.txt", None),
    ],
)
def test_modules_by_their_files(path: str, module: tuple[str, bool] | None) -> None:
    assert module_of(f"{LIBRARY}/{path}", LIBRARY) == module
    assert module_of(f"/opt/{path}", LIBRARY) is None


def test_the_index_prefers_the_library_and_bytecode() -> None:
    one, two, three = file_of(b"1"), file_of(b"2"), file_of(b"3")
    trees = {
        "python3-light-src": FileTree({f"{LIBRARY}/csv.py": two}),
        "python3-light": FileTree(
            {f"{LIBRARY}/csv.pyc": one, "/usr/bin/tool": file_of(b"#!/usr/bin/python3\n")}
        ),
        "mine": FileTree({f"{LIBRARY}/site-packages/csv.py": three}),
    }
    index = index_of(trees, LIBRARY)
    code = index.modules["csv"].code
    assert code is not None
    assert code.entry is one
    assert index.modules["csv"].packages == {"python3-light", "python3-light-src", "mine"}
    assert index.programs["/usr/bin/tool"][0] == "python3-light"
    assert index.of_package("mine") == ["csv"]


def test_bytecode_that_python_looks_at_only_beside_a_source_goes_without_one() -> None:
    """OpenWrt 22.03's python3-light holds both, in its build's three optimisations."""
    cached = f"{LIBRARY}/__pycache__/csv.cpython-311.opt-1.pyc"
    light = FileTree({f"{LIBRARY}/csv.pyc": file_of(b"1"), cached: file_of(b"2")})
    source = FileTree({f"{LIBRARY}/csv.py": file_of(b"3")})
    closure = closed({"csv": [body()]}, "csv")

    def left(**trees: FileTree) -> FileTree:
        return Kept(index_of(trees, LIBRARY), closure, (), (), lambda names: {}).tree(light)

    assert left(light=light) == FileTree({f"{LIBRARY}/csv.pyc": file_of(b"1")})
    assert left(light=light, source=source) == light


def test_modules_are_in_the_interpreter_or_its_library() -> None:
    trees = [
        FileTree(
            {
                "/usr/lib/libpython3.11.so.1.0": file_of(
                    b"..<frozen os>..<frozen importlib.util>\0PyInit_gc\0PyInit_time\0"
                )
            }
        )
    ]
    assert builtin_modules(trees) == {"gc", "time"}
    assert frozen_modules([*trees, FileTree({"/usr/bin/other": file_of(b"<frozen x>")})]) == {
        "os",
        "importlib.util",
    }


# --- dependencies ---------------------------------------------------------------------------------


def package(name: str, *depends: str) -> Package:
    return Package(name, "1-1", depends=tuple((Dependency(each),) for each in depends))


IMAGE = (
    package("libc"),
    package("python3-base", "libc"),
    package("python3-light", "libc", "python3-base", "zlib", "libbz2"),
    package("python3-openssl", "libc", "python3-light", "libssl", "ca-bundle"),
    package("zlib", "libc"),
    package("libbz2", "libc"),
    package("libssl", "libc"),
    package("ca-bundle"),
    package("wget", "libssl"),
)
LIBRARIES = {"zlib": frozenset({"libz.so.1"}), "libbz2": frozenset({"libbz2.so.1.0"})}


def cut(name: str, before: str, after: str, *, emptied: bool = False) -> Cut:
    found = next(each for each in IMAGE if each.name == name)
    return Cut(found, frozenset(before.split()), frozenset(after.split()), emptied)


def test_a_library_that_nothing_is_linked_with_any_more_goes() -> None:
    cuts = {
        "python3-base": cut("python3-base", "libc.so", "libc.so"),
        "python3-light": cut("python3-light", "libz.so.1 libbz2.so.1.0 libc.so", "libz.so.1"),
    }
    found = lean(cuts, IMAGE, LIBRARIES, {"wget"})
    assert found.dropped["python3-light"] == ("libbz2",)
    assert [each[0].name for each in found.depends["python3-light"]] == ["libc", "python3-base", "zlib"]
    assert found.removable == ("libbz2",)


def test_an_emptied_package_goes_with_what_it_brought_unless_others_want_it() -> None:
    cuts = {
        "python3-base": cut("python3-base", "", ""),
        "python3-light": cut("python3-light", "", "", emptied=True),
        "python3-openssl": cut("python3-openssl", "libssl.so.3", "", emptied=True),
    }
    gone = lean(cuts, IMAGE, LIBRARIES, {"wget"})
    assert gone.removable == ("ca-bundle", "libbz2", "python3-light", "python3-openssl", "zlib")
    asked = lean(cuts, IMAGE, LIBRARIES, {"wget", "ca-bundle"})
    assert "ca-bundle" not in asked.removable
    mine = (*IMAGE, package("app-mine", "python3-light"))
    held = lean(cuts, mine, LIBRARIES, {"wget"})
    assert "python3-light" not in held.removable


def test_the_names_of_a_packages_libraries() -> None:
    tree = FileTree(
        {
            "/lib/libz.so.1": symlink("libz.so.1.2"),
            "/lib/libz.so.1.2": file_of(b""),
            "/usr/lib/opkg/x.so": file_of(b""),
            "/usr/lib/notes.txt": file_of(b""),
        }
    )
    assert library_names(tree) == {"libz.so.1", "libz.so.1.2"}


def test_a_shaken_package_has_a_version_of_its_own_that_sorts_after() -> None:
    scripts = {"postinst": b"#!/bin/sh\n"}
    tree = FileTree({"/etc/a.conf": file_of(b"a"), "/usr/b": file_of(b"b")})
    whole = LocalPackage(package("python3-light", "libc", "zlib"), tree, scripts, ("/etc/a.conf",))
    left = shaken_package(whole, tree.without(["/etc/a.conf"]), whole.package.depends[:1], Opkg())
    assert left.package.version.startswith("1-1+shake.")
    assert [str(each[0]) for each in left.package.depends] == ["libc"]
    assert (left.scripts, left.conffiles, list(left.tree)) == (scripts, (), ["/etc", "/usr", "/usr/b"])
    assert shaken_package(whole, tree, whole.package.depends, Opkg()).package.version != left.package.version
    named = replace(whole, package=replace(whole.package, version="3.13.9-r1"))
    apk = shaken_package(named, tree, whole.package.depends, Apk())
    assert apk.package.version.startswith("3.13.9~")
    assert apk.package.version.endswith("-r1")


# --- running --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "keep"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'json.tool'", "json.tool"),
        ("ImportError: cannot import name 'minidom' from 'xml.dom' (/usr/lib)", "xml.dom.minidom"),
        ("LookupError: unknown encoding: Shift-JIS", "encodings.shift_jis"),
        ("Could not import runpy module\nNo module named 'importlib'", "runpy"),
    ],
)
def test_the_keep_that_would_bring_what_is_missing(output: str, keep: str) -> None:
    found = lacking(output)
    assert found is not None
    assert found[1] == keep
    assert lacking("ValueError: no") is None


ZONE = "zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Europe/Berlin'"
NO_CODEC = "LookupError: unknown encoding: gb2312"


@pytest.mark.parametrize(
    ("output", "dropped", "message", "hint"),
    [
        (
            f"ModuleNotFoundError: No module named 'tzdata'\n{ZONE}",
            ["json"],
            "it does not find time zones (Europe/Berlin)",
            'add = ["zoneinfo-europe"] in [packages], or requirements = ["tzdata"] in [python]',
        ),
        (
            '  File "/usr/lib/python3.11/zoneinfo/_common.py", line 5, in load_tzdata\n'
            "ModuleNotFoundError: No module named 'urllib'",
            [],
            "it does not find time zones:",
            'say requirements = ["tzdata"] in [python]',
        ),
        (
            "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed:"
            " unable to get local issuer certificate (_ssl.c:1002)",
            [],
            "it does not find certificates:",
            'add = ["ca-bundle"] in [packages]',
        ),
        (NO_CODEC, [], "it does not find codecs (gb2312)", 'add = ["python3-codecs"] in [packages]'),
        (NO_CODEC, ["_codecs_cn"], "the codec gb2312 is missing", 'keep = ["encodings.gb2312"] in [python]'),
        ("locale.Error: unsupported locale setting", [], "does not find locales", "no package of OpenWrt's"),
        (
            "ImportError: libz.so.1: cannot open shared object file: No such file or directory",
            [],
            "exited with 1",
            "the library libz.so.1 is missing: name its package in packages.add, perhaps zlib",
        ),
        (
            "ImportError: Error loading shared library libffi.so.8: No such file or directory (needed by x)",
            [],
            "exited with 1",
            "the library libffi.so.8 is missing: name its package in packages.add, perhaps libffi8",
        ),
    ],
)
def test_a_proof_that_failed_names_what_helps(
    output: str, dropped: list[str], message: str, hint: str
) -> None:
    error = _failure(Traced("clock", ("_codecs_cn",), (), 1, output), dropped)
    assert message in error.message
    assert hint in (error.hint or "")


def test_a_commands_words_and_its_program(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/mine").write_text("#!/usr/bin/python3 -B\n")
    (tmp_path / "bin").symlink_to("/usr/bin")
    root = Root(tmp_path, "3.11")
    script = ["/usr/bin/python3", "-B", "/usr/bin/mine", "a b"]
    assert program_argv(root, command_words("mine 'a b'")) == script
    assert program_argv(root, ["/bin/mine"]) == ["/usr/bin/python3", "-B", "/bin/mine"]
    with pytest.raises(RootError, match="no program other"):
        program_argv(root, ["other"])
    for text in ("", "a 'b"):
        with pytest.raises(RootError):
            command_words(text)


def test_links_of_a_root_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "up").symlink_to("../../../../etc")
    (tmp_path / "circle").symlink_to("circle")
    assert inside(tmp_path, "/up/passwd") == tmp_path / "etc/passwd"
    with pytest.raises(RootError, match="circle"):
        inside(tmp_path, "/circle/x")


def test_a_flat_apps_modules_are_read_by_their_paths(tmp_path: Path) -> None:
    """Whatever they are called, and in whichever encoding."""
    folder = "/usr/lib/apps/my-flat"
    text = "# coding: cp1252\nimport colorsys  # €\n".encode("cp1252")
    app = FileTree(
        {
            f"{folder}/my main.py": file_of(text),
            f"{folder}/größe.py": file_of(b"import plistlib\n"),
            f"{folder}/data.txt": file_of(b"import cmd\n"),
            f"{LIBRARY}/site-packages/größe.py": file_of(b""),
        }
    )
    index = index_of({"app-my-flat": app}, LIBRARY)
    assert set(index.programs) == {f"{folder}/my main.py", f"{folder}/größe.py"}
    assert set(index.modules) == {"größe"}
    codes = {path: code for path in index.programs if (code := index.code(path)) is not None}
    python = "{}.{}".format(*sys.version_info[:2])
    magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    found = read_modules(codes, Interpreter((sys.executable,), python, magic), tmp_path / "work")
    wanted = {path: [each.module for each in facts.units[0].imports] for path, facts in found.items()}
    assert wanted == {f"{folder}/my main.py": ["colorsys"], f"{folder}/größe.py": ["plistlib"]}
