"""What one Python source imports, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.python.imports.imports import Import, SourceError, SourceLine, read_source

PYTHON = (3, 11)


def found(text: str, package: str = "", python: tuple[int, int] = PYTHON) -> list[tuple[int, str, str]]:
    imports = read_source(text.encode(), "app.py", package, python=python).imports
    return [(each.line, each.module, each.kind) for each in imports]


def one(text: str, package: str = "") -> Import:
    (only,) = read_source(text.encode(), "app.py", package, python=PYTHON).imports
    return only


def test_statements() -> None:
    assert found("import os, json.decoder as d\nfrom email import message, policy as p\n") == [
        (1, "json.decoder", "always"),
        (1, "os", "always"),
        (2, "email", "always"),
    ]
    assert one("from email import message, policy as p").names == ("message", "policy")
    assert found("from __future__ import annotations") == []
    assert found("from urllib.parse import *") == [(1, "urllib.parse", "always")]


@pytest.mark.parametrize(
    ("text", "package", "module"),
    [
        ("from . import store", "app", "app"),
        ("from .store import keep", "app.net", "app.net.store"),
        ("from ..store import keep", "app.net", "app.store"),
        ("from .. import store", "app.net", "app"),
        ("from .. import store", "app", ".."),
        ("from . import store", "", "."),
        ("from ...a.b import store", "app", "...a.b"),
    ],
)
def test_relative_imports(text: str, package: str, module: str) -> None:
    assert one(text, package).module == module


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ('__import__("ssl")', "ssl"),
        ('import_module("ssl")', None),  # a function of their own
        ('import importlib\nimportlib.import_module("ssl")', "ssl"),
        ('import importlib as il\nil.import_module(name="ssl")', "ssl"),
        ('from importlib import import_module as load\nx = [load("ssl.x")]', "ssl.x"),
        ('import importlib\nimportlib.import_module(".x", "other")', "other.x"),
        ('import importlib\nimportlib.import_module(".x", __package__)', "app.x"),
        ('import runpy\nrunpy.run_module("timeit")', "timeit"),
        ('import pkgutil\npkgutil.get_data("assets", "x.txt")', "assets"),
        ('from importlib import resources\nresources.files("assets") / "x"', "assets"),
        ('from importlib.resources import files\nfiles("assets")', "assets"),
        ('import importlib.resources\nimportlib.resources.read_text("assets", "x")', "assets"),
    ],
)
def test_calls_that_import(text: str, module: str | None) -> None:
    imports = read_source(text.encode(), "app.py", "app", python=PYTHON).imports
    statements = {"importlib", "importlib.resources", "pkgutil", "runpy"}
    called = [each.module for each in imports if each.module not in statements]
    assert called == ([] if module is None else [module])


def test_computed_names_are_told() -> None:
    text = "import importlib\nname = 'x'\n\nimportlib.import_module(name)\n__import__('a' + name)\n"
    assert read_source(text.encode(), "a.py", python=PYTHON).computed == (
        SourceLine("a.py", 4),
        SourceLine("a.py", 5),
    )


def test_probing_is_no_need() -> None:
    text = 'import importlib.util\nimportlib.util.find_spec("ssl")'
    assert found(text)[1:] == [(2, "ssl", "optional")]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{}", "always"),
        ("class A:\n    {}", "always"),
        ("with open('x') as f:\n    {}", "always"),
        ("def f():\n    {}", "deferred"),
        ("async def f():\n    if x:\n        {}", "deferred"),
        ("if x:\n    {}", "conditional"),
        ("if x:\n    pass\nelif y:\n    pass\nelse:\n    {}", "conditional"),
        ("for x in y:\n    {}", "conditional"),
        ("while x:\n    {}", "conditional"),
        ("match x:\n    case 1:\n        {}", "conditional"),
        ("if __name__ == '__main__':\n    {}", "conditional"),
        ("try:\n    {}\nfinally:\n    pass", "always"),
        ("try:\n    {}\nexcept ValueError:\n    pass", "always"),
        ("try:\n    pass\nexcept ValueError:\n    {}", "conditional"),
        ("try:\n    {}\nexcept ImportError:\n    pass", "optional"),
        ("try:\n    {}\nexcept (OSError, builtins.ModuleNotFoundError):\n    pass", "optional"),
        ("try:\n    {}\nexcept Exception:\n    y = None", "optional"),
        ("try:\n    {}\nexcept:\n    y = None", "optional"),
        ("try:\n    pass\nexcept ImportError:\n    pass\nelse:\n    {}", "optional"),
        ("try:\n    {}\nexcept ImportError:\n    raise SystemExit('no')", "always"),
        ("try:\n    {}\nexcept ImportError:\n    print('no')\n    sys.exit(1)", "always"),
        ("try:\n    pass\nexcept ImportError:\n    {}", "fallback"),
        ("with contextlib.suppress(ImportError):\n    {}", "optional"),
        ("with suppress(KeyError):\n    {}", "always"),
        ("if TYPE_CHECKING:\n    {}", "typing"),
        ("if typing.TYPE_CHECKING:\n    def f():\n        {}", "typing"),
        ("if not TYPE_CHECKING:\n    {}", "always"),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    {}", "always"),
        ("if False:\n    {}", "never"),
        ("if sys.version_info >= (3, 11):\n    {}", "always"),
        ("if sys.version_info > (3, 11):\n    {}", "always"),
        ("if sys.version_info <= (3, 11):\n    {}", "never"),
        ("if sys.version_info >= (3, 12):\n    {}", "never"),
        ("if sys.version_info >= (3, 11, 4):\n    {}", "conditional"),
        ("if sys.version_info < (3,):\n    {}", "never"),
        ("if sys.version_info[0] == 2:\n    {}", "never"),
        ("if sys.version_info[:2] == (3, 11):\n    {}", "always"),
        ("if sys.version_info.major >= 3 and x:\n    {}", "conditional"),
        ("if sys.version_info.major < 3 and x:\n    {}", "never"),
        ("if sys.version_info.major >= 3 or x:\n    {}", "always"),
        ("if sys.platform == 'win32':\n    {}", "never"),
        ("if sys.platform.startswith('linux'):\n    {}", "always"),
        ("if os.name == 'nt':\n    pass\nelse:\n    {}", "always"),
        ("if sys.version_info < ('a', 1):\n    {}", "conditional"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    (only,) = [each for each in found(text.format("import ssl")) if each[1] == "ssl"]
    assert only[2] == kind


def test_what_takes_a_missing_modules_place() -> None:
    text = (
        "try:\n    import tomllib\n    import ssl\nexcept ImportError:\n    try:\n"
        "        import tomli as tomllib\n    except ImportError:\n"
        "        import toml as tomllib\n    import warnings\n"
    )
    imports = read_source(text.encode(), "a.py", python=PYTHON).imports
    assert [(each.module, each.kind, each.instead) for each in imports] == [
        ("tomllib", "optional", ("tomli", "toml")),
        ("ssl", "optional", ()),
        ("tomli", "fallback", ()),
        ("toml", "fallback", ()),
        ("warnings", "fallback", ()),
    ]


@pytest.mark.parametrize(
    ("text", "python", "message"),
    [
        ("x = 1\nimport =\n", (3, 11), r"^app\.py:2: invalid syntax: .* Python 3\.11$"),
        ("print 'x'", (3, 11), r"^app\.py:1: "),
        ("if (x := 1): pass", (3, 7), r"^app\.py:1: .*3\.8.*Python 3\.7$"),
        ("match x:\n    case 1: pass", (3, 9), r"^app\.py:2: .*3\.10.* Python 3\.9$"),
        ("x = 'a\0b'", (3, 11), r"^app\.py:1: it has a zero byte"),
        ("# coding: nonsense\n", (3, 11), r"^app\.py:1: Python knows no encoding nonsense"),
        ("(" * 500 + ")" * 500, (3, 11), r"^app\.py:1: too many nested parentheses"),
    ],
)
def test_what_is_no_python(text: str, python: tuple[int, int], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        found(text, python=python)
    assert caught.value.hint


def test_a_host_that_is_older_than_the_target_says_so() -> None:
    with pytest.raises(SourceError) as caught:
        found("import =", python=(3, 99))
    assert caught.value.hint is not None
    assert "run it with Python 3.99" in caught.value.hint


def test_long_chains_are_no_fault() -> None:
    branches = "".join(f"elif x == {number}:\n    pass\n" for number in range(400))
    assert found(f"if x:\n    pass\n{branches}else:\n    import ssl\n") == [(804, "ssl", "conditional")]
    sums = " + ".join(["__import__('ssl')"] * 300)
    assert len(found(sums)) == 300


@given(st.binary(max_size=300))
def test_any_bytes_give_imports_or_one_clear_error(data: bytes) -> None:
    try:
        result = read_source(data, "any.py", python=PYTHON)
    except SourceError as error:
        assert error.message.startswith("any.py")
    else:
        assert all(each.line >= 1 and each.module for each in result.imports)


_WORDS = [
    "import ",
    "from ",
    ".",
    "..",
    " as ",
    "a",
    "b",
    ",",
    "\n",
    "    ",
    "try:",
    "except ImportError:",
    "if ",
]
_WORDS += [
    "def f():",
    "else:",
    "TYPE_CHECKING:",
    "sys.version_info",
    ">=(3,9):",
    "(",
    ")",
    '"x"',
    "import_module",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=25).map("".join))
def test_anything_like_python_gives_imports_or_one_clear_error(text: str) -> None:
    try:
        found(text, package="p.q")
    except SourceError as error:
        assert error.message.startswith("app.py")
