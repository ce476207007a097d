"""What stays out of requirements' wheels, and what stays in because code wants it."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.config.app import TRIM_KINDS, RequirementUse, TrimKind
from imagebuilder.errors import UserError
from imagebuilder.python.apps.apps import scan_app
from imagebuilder.python.apps.launcher import StartOptions
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.python.catalogue.choose import choose_packages
from imagebuilder.python.wheels.entry_points import named_modules
from imagebuilder.python.wheels.target import wheel_target
from imagebuilder.python.wheels.tree import wheel_tree
from imagebuilder.python.wheels.trim import TrimmedWheel, WheelToTrim, quoted, trim_rules, trim_wheels
from imagebuilder.python.wheels.wheels import read_wheel
from tests.support.wheel_maker import make_wheel

PYTHON = (3, 11)
SITE = "/usr/lib/python3.11/site-packages"
ALL = frozenset(TRIM_KINDS)


def to_trim(
    folder: Path,
    name: str,
    files: Mapping[str, bytes],
    kinds: Iterable[TrimKind] = ALL,
    entry_points: str = "",
) -> WheelToTrim:
    info = f"{name}-1.0.dist-info/entry_points.txt"
    more = {info: entry_points.encode()} if entry_points else {}
    place = make_wheel(folder, name, files=files, more=more, known=True)
    return WheelToTrim(read_wheel(place), scan_app(place, python=PYTHON), frozenset(kinds))


def trimmed(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "demo",
    kinds: Iterable[TrimKind] = ALL,
    app: bytes = b"",
    entry_points: str = "",
    there: Iterable[str] = (),
    words: Iterable[str] = (),
) -> TrimmedWheel:
    """One wheel, trimmed beside a script that imports something."""
    script = folder / "app.py"
    script.write_bytes(app)
    apps = [scan_app(script, python=PYTHON)]
    wheel = to_trim(folder, name, files, kinds, entry_points)
    said = {*words, *quoted(app)}
    (found,) = trim_wheels([wheel], apps, words=said, there=frozenset(there))
    return found


def left_out(folder: Path, files: Mapping[str, bytes], **options: object) -> set[str]:
    found = trimmed(folder, files, **options)  # type: ignore[arg-type]
    return set(files) - set(found.wheel.files)


def test_tests_stubs_and_sources_stay_out_and_nothing_follows_their_imports(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"import json\n",
        "demo/py.typed": b"",
        "demo/core.pyi": b"x: int\n",
        "demo/core.pyx": b"cdef int x\n",
        "demo/core.h": b"int x;\n",
        "demo/tests/__init__.py": b"",
        "demo/tests/test_core.py": b"import unittest\n",
        "demo/tests/data/sample.json": b"{}",
        "tests/test_all.py": b"import sqlite3\n",
        "demo-1.0.data/purelib/demo_more/tests/test_more.py": b"import unittest\n",
        "demo-1.0.data/data/share/man/man1/demo.1": b".TH\n",
    }
    found = trimmed(tmp_path, files)
    assert set(found.wheel.files) == {"demo/__init__.py"}
    assert found.scan.own == {"demo"}
    catalogue = load_catalogue("23.05")
    whole = scan_app(found.wheel.path, python=PYTHON)
    before = choose_packages(catalogue, [], libraries=[whole]).packages
    assert {"python3-unittest", "python3-sqlite3"} <= set(before)
    after = choose_packages(catalogue, [], libraries=[found.scan]).packages
    assert {"python3-unittest", "python3-sqlite3"}.isdisjoint(after)


def test_what_stays_out_is_counted(tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"", "demo/tests/test_a.py": b"x = 1\n", "demo/a.pyi": b"x: int\n"}
    facts = trimmed(tmp_path, files).facts
    assert (facts.name, facts.files) == ("demo", 2)
    assert (facts.kinds["tests"], facts.kinds["typing"]) == (6, 7)
    assert facts.saved == sum(facts.kinds.values())
    assert facts.kinds["metadata"] > len(b"free\n")  # the licence, WHEEL, the long description


@pytest.mark.parametrize(
    "code",
    [
        b"from .tests import helper\n",
        b"import demo.tests.helper\n",
        b"def f():\n    from demo.tests.helper import x\n",
        b"import os\nif os.environ:\n    import demo.tests.helper\n",
        b"try:\n    import demo.tests.helper\nexcept ImportError:\n    pass\n",
        b"import importlib\nimportlib.import_module('demo.tests.helper')\n",
        b"RUNNER = 'demo.tests.helper.Runner'\n",
        b'# don\'t\nRUNNER = "demo.tests.helper:run"\n',
    ],
)
def test_a_module_that_code_imports_or_names_stays(tmp_path: Path, code: bytes) -> None:
    files = {
        "demo/__init__.py": code,
        "demo/tests/__init__.py": b"",
        "demo/tests/helper.py": b"from .deep import y\nx = 1\n",
        "demo/tests/deep.py": b"y = 1\n",
        "demo/tests/test_core.py": b"import unittest\n",
    }
    assert left_out(tmp_path, files) == {"demo/tests/test_core.py"}
    files["demo/__init__.py"] = b""
    assert len(left_out(tmp_path, files)) == 4
    assert left_out(tmp_path, files, app=code.replace(b"from .tests", b"from demo.tests")) == {
        "demo/tests/test_core.py"
    }


def test_a_module_that_a_package_exports_stays(tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"__all__ = ['core', 'tests']\n", "demo/tests/__init__.py": b""}
    assert left_out(tmp_path, files) == set()
    files["demo/__init__.py"] = b"NAMES = ['core', 'tests']\n"
    assert left_out(tmp_path, files) == {"demo/tests/__init__.py"}


def test_long_paths_are_searched_by_no_pattern(tmp_path: Path) -> None:
    """Patterns with two `**/` are tried at every folder of a path, each time for all that follows."""
    files = {"demo/__init__.py": b"", f"demo/tests/{'a/' * 600}x.py": b"", "demo/tests/x.py": b""}
    assert left_out(tmp_path, files) == {"demo/tests/x.py"}


def test_sources_among_a_wheels_data_are_no_modules(tmp_path: Path) -> None:
    data = "demo-1.0.data/data/share/demo/tests/__init__.py"
    files = {"demo/__init__.py": b"", data: b"__all__ = ['a']\nimport unittest\n"}
    assert left_out(tmp_path, files) == {data}
    files["demo/__init__.py"] = b"open(join(sys.prefix, 'share/demo/tests', name))\n"
    assert left_out(tmp_path, files) == set()


def test_modules_for_type_checkers_alone_stay_out(tmp_path: Path) -> None:
    code = b"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .tests import helper\n"
    files = {"demo/__init__.py": code, "demo/tests/helper.py": b""}
    assert left_out(tmp_path, files) == {"demo/tests/helper.py"}


def test_another_wheel_and_a_command_keep_modules(tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"", "demo/tests/helper.py": b""}
    other = to_trim(tmp_path, "other", {"other.py": b"from demo.tests import helper\n"})
    found = trim_wheels([to_trim(tmp_path, "demo", files), other], [])
    assert set(found[0].wheel.files) == set(files)
    assert left_out(tmp_path, files, words=["demo.tests.helper"]) == set()


def test_public_packages_for_tests_of_others_stay(tmp_path: Path) -> None:
    """As numpy.testing, django.test and flask.testing."""
    files = {
        "demo/__init__.py": b"",
        "demo/testing/__init__.py": b"import unittest\n",
        "demo/commands.py": b"from demo.test.runner import run\n",
        "demo/test/__init__.py": b"",
        "demo/test/runner.py": b"def run(): pass\n",
    }
    assert left_out(tmp_path, files) == set()


def test_modules_that_are_looked_up_by_computed_names_stay(tmp_path: Path) -> None:
    """A program that loads all its commands; what is called tests is none of them."""
    files = {
        "demo/__init__.py": b"from importlib import import_module\ndef f(x):\n    import_module(x)\n",
        "demo/commands/test_line.py": b"",
        "demo/test/line.py": b"",
        "demo/tests/line.py": b"",
    }
    assert left_out(tmp_path, files) == {"demo/tests/line.py"}
    files["demo/__init__.py"] = b"import pkgutil\nfor x in pkgutil.iter_modules(): pass\n"
    assert left_out(tmp_path, files) == {"demo/tests/line.py"}
    files["demo/__init__.py"] = b""
    assert len(left_out(tmp_path, files)) == 3


def test_data_that_code_names_stays(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"open(HERE / 'templates/unit.c')\nfor x in HERE.glob('*.f90'): pass\n",
        "demo/templates/unit.c": b"",
        "demo/src/other.c": b"",
        "demo/a.f90": b"",
        "demo/tests/data.json": b"",
    }
    assert left_out(tmp_path, files) == {"demo/src/other.c", "demo/tests/data.json"}
    files["demo/__init__.py"] = b"join(HERE, 'tests', name)\n"
    assert "demo/tests/data.json" not in left_out(tmp_path, files)
    files["demo/__init__.py"] = b"f'{name}.c'\n"
    assert not {each for each in left_out(tmp_path, files) if each.endswith("unit.c")}
    files["demo/__init__.py"] = b"for each in listdir(join(HERE, 'templates')): pass\n"
    assert not {each for each in left_out(tmp_path, files) if each.endswith("unit.c")}
    files["demo/__init__.py"] = b"from .tests import helper\n"
    files["demo/tests/helper.py"] = b"DATA = open(__file__)\n"
    assert "demo/tests/data.json" not in left_out(tmp_path, files)


def test_stubs_that_are_read_at_work_stay(tmp_path: Path) -> None:
    code = b"import lazy_loader\n__getattr__, *_ = lazy_loader.attach_stub(__name__, __file__)\n"
    files = {"demo/__init__.py": code, "demo/__init__.pyi": b"from . import a\n", "demo/a.py": b""}
    assert left_out(tmp_path, files) == set()
    files["demo/__init__.py"] = b""
    assert left_out(tmp_path, files) == {"demo/__init__.pyi"}


def test_modules_of_other_systems_go_where_the_code_proves_it(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"import os\nif os.name == 'nt':\n    from ._windows import run\n",
        "demo/_windows.py": b"import ctypes\nfrom . import _win32_more\n",
        "demo/_win32_more.py": b"import ctypes\n",
        "demo/protocol_windows.py": b"",  # nobody says that it is for one
    }
    assert left_out(tmp_path, files) == {"demo/_windows.py", "demo/_win32_more.py"}
    files["demo/__init__.py"] += b"def later():\n    from . import _windows\n"
    assert left_out(tmp_path, files) == set()


def test_what_only_another_system_loads_goes_whoever_names_it(tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"'launcher.exe'\n", "demo/launcher.exe": b"MZ"}
    assert left_out(tmp_path, files) == {"demo/launcher.exe"}


def test_entry_points_keep_what_they_name_unless_nobody_reads_them(tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"", "demo/tests/run.py": b"", "demo/pytest_plugin.py": b"import unittest\n"}
    program = "[console_scripts]\ncheck = demo.tests.run:main\n[pytest11]\ndemo = demo.pytest_plugin\n"
    found = trimmed(tmp_path, files, entry_points=program)
    assert set(files) - set(found.wheel.files) == {"demo/pytest_plugin.py"}
    assert [each.program for each in found.wheel.entry_points] == ["check"]
    assert left_out(tmp_path, files, entry_points=program, there=["pytest"]) == set()
    assert "demo/tests/run.py" not in left_out(
        tmp_path, files, entry_points="[some.plugins]\na = demo.tests.run\n"
    )


CFFI = {
    "cffi/__init__.py": b"from .api import FFI\n",
    "cffi/api.py": b"def compile():\n    from .recompiler import recompile\n",
    "cffi/recompiler.py": b"from . import ffiplatform\n",
    "cffi/ffiplatform.py": b"import distutils.core\n",
    "cffi/_cffi_gen_src.py": b"def run(): pass\n",
    "cffi/_cffi_include.h": b"'_cffi_include.h'",
}


def test_a_rule_for_one_distribution_knows_what_its_functions_are_for(tmp_path: Path) -> None:
    program = "[console_scripts]\ncffi-gen-src = cffi._cffi_gen_src:run\n"
    found = trimmed(tmp_path, CFFI, name="cffi", entry_points=program)
    assert set(found.wheel.files) == {"cffi/__init__.py", "cffi/api.py"}
    assert found.wheel.entry_points == ()
    assert left_out(tmp_path, CFFI) == {"cffi/_cffi_include.h"}  # of another distribution nobody read that


def test_who_asks_for_what_a_distribution_seldom_needs_gets_it_whole(tmp_path: Path) -> None:
    files = {**CFFI, "cffi/recompiler.py": CFFI["cffi/recompiler.py"] + b"open(__file__)\n"}
    gone = left_out(tmp_path, files, name="cffi", app=b"def f():\n    import cffi.recompiler\n")
    assert gone == {"cffi/_cffi_gen_src.py"}
    at_the_top = {**CFFI, "cffi/api.py": b"from .recompiler import recompile\n"}  # as a later release may
    gone = left_out(tmp_path, at_the_top, name="cffi")
    assert {"cffi/recompiler.py", "cffi/ffiplatform.py"}.isdisjoint(gone)
    exported = {**CFFI, "cffi/__init__.py": b"__all__ = ['FFI', 'recompiler']\n"}
    assert "cffi/recompiler.py" not in left_out(tmp_path, exported, name="cffi")
    other = to_trim(
        tmp_path, "other", {"other.py": b"try:\n    import cffi.recompiler\nexcept ImportError: pass\n"}
    )
    (found, _) = trim_wheels([to_trim(tmp_path, "cffi", CFFI), other], [])
    assert "cffi/recompiler.py" not in found.wheel.files


def test_kinds_are_left_alone_one_by_one(tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"", "demo/tests/test_a.py": b"", "demo/py.typed": b"", "demo/a.pyx": b""}
    assert left_out(tmp_path, files, kinds=["typing"]) == {"demo/py.typed"}
    assert left_out(tmp_path, files, kinds=["tests", "sources"]) == {"demo/tests/test_a.py", "demo/a.pyx"}
    assert left_out(tmp_path, files, kinds=[]) == set()


def test_an_untrimmed_wheel_keeps_its_licence_and_a_trimmed_one_what_is_read(tmp_path: Path) -> None:
    target = wheel_target("3.11.7", "mips_24kc", "23.05")
    folder = f"{SITE}/demo-1.0.dist-info"

    def info(kinds: Iterable[TrimKind]) -> set[str]:
        wheel = trimmed(tmp_path, {"demo/__init__.py": b""}, kinds=kinds).wheel
        tree = wheel_tree(wheel, target, StartOptions(SITE)).tree
        return {path.removeprefix(f"{folder}/") for path in tree.below(folder) if tree[path].kind == "file"}

    assert info(ALL) == {"METADATA"}
    assert info([]) == {"METADATA", "WHEEL", "LICENSE"}


def test_what_a_config_may_say() -> None:
    assert RequirementUse(name="demo").trim_kinds() == TRIM_KINDS
    assert RequirementUse(name="demo", trim=False).trim_kinds() == ()
    assert RequirementUse(name="demo", trim=("tests",)).trim_kinds() == ("tests",)


def test_every_rule_is_sound() -> None:
    """Each kind has rules or is told of apart; what rests on knowledge of sources says whose."""
    rules = trim_rules()
    assert {rule.kind for rule in rules} == ALL - {"metadata"}
    assert all((rule.when == "own") == bool(rule.distribution) for rule in rules)
    assert all(len(rule.reason) > 20 and rule.files for rule in rules)
    first = [bool(rule.distribution) for rule in rules]
    assert first == sorted(first, reverse=True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_entry_points_give_modules_or_one_error(tmp_path: Path, data: bytes) -> None:
    try:
        found = named_modules(tmp_path, data)
    except UserError:
        return
    assert all(module for _, module in found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            ["demo/a.py", "demo/tests/b.py", "demo/tests/c.py", "demo/test/d.py", "demo/_win32.py"]
        ),
        st.lists(
            st.sampled_from(["demo.a", "demo.tests.b", "demo.tests.c", "demo.test.d", "demo._win32"]),
            max_size=3,
        ),
    )
)
def test_no_module_that_stays_lacks_what_it_imports(tmp_path: Path, graph: dict[str, list[str]]) -> None:
    files = {
        name: "".join(f"import {each}\n" for each in imports).encode() for name, imports in graph.items()
    }
    files["demo/__init__.py"] = b""
    found = trimmed(tmp_path, files)
    for name in set(graph) & set(found.wheel.files):
        wanted = {f"{each.replace('.', '/')}.py" for each in graph[name]}
        assert wanted & set(files) <= set(found.wheel.files)


def test_strings_are_found_behind_apostrophes() -> None:
    assert {"a.b", "c"} <= set(quoted(b"# don't\nx = \"a.b\" + 'c'\n"))
    assert set(quoted(string.ascii_letters.encode() * 10)) == set()
