"""Which sources an app has: a script, a folder, a wheel."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.errors import UserError
from imagebuilder.python.apps import apps
from imagebuilder.python.apps.apps import AppError, AppScan, scan_app
from imagebuilder.python.imports.imports import SourceError

PYTHON = (3, 11)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def wheel(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "app-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def modules(scan: AppScan) -> set[str]:
    return {each.module for each in scan.imports}


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "blink"
    script.write_text("#!/usr/bin/python3\nimport ssl\n")
    scan = scan_app(script, python=PYTHON)
    assert (scan.kind, scan.own) == ("script", {"blink"})
    assert [(each.file, each.line, each.module) for each in scan.imports] == [(str(script), 2, "ssl")]


def test_a_folder_without_what_does_not_go_onto_the_device(tmp_path: Path) -> None:
    app = write(
        tmp_path / "sensor",
        {
            "main.py": "import helper, net.http, ssl",
            "helper.py": "import json",
            "net/__init__.py": "",
            "net/http.py": "from . import wire\nfrom ..x import y",
            "net/tests/data.py": "import asyncio",
            "bin/run.py": "import beside",
            "bin/beside.py": "",
            "native.cpython-311-x86_64-linux-gnu.so": "",
            "tests/test_main.py": "import pytest",
            "setup.py": "import setuptools",
            "conftest.py": "import pytest",
            ".hidden/x.py": "import tkinter",
            "env/pyvenv.cfg": "",
            "env/lib/x.py": "import tkinter",
            "__pycache__/x.py": "import tkinter",
            "README.md": "import tkinter",
        },
    )
    scan = scan_app(app, python=PYTHON)
    assert scan.kind == "project"
    assert scan.own == {"main", "helper", "net", "bin", "run", "beside", "native"}
    assert modules(scan) == {"helper", "net.http", "ssl", "json", "net", "..x", "asyncio", "beside"}
    assert {each.file for each in scan.imports if each.module == "json"} == {str(app / "helper.py")}


def test_a_project_with_src_ships_what_is_there(tmp_path: Path) -> None:
    files = {"src/sensor/__init__.py": "import ssl", "tool.py": "import tkinter", "src/sensor/a.py": ""}
    scan = scan_app(
        write(tmp_path / "p", {**files, "pyproject.toml": "[project]\nname = 'p'\n"}), python=PYTHON
    )
    assert (scan.own, modules(scan)) == ({"sensor"}, {"ssl"})
    plain = scan_app(write(tmp_path / "q", files), python=PYTHON)
    assert (plain.own, modules(plain)) == ({"src", "tool", "sensor"}, {"ssl", "tkinter"})


def test_a_folder_that_is_a_package(tmp_path: Path) -> None:
    app = write(
        tmp_path / "sensor", {"__init__.py": "from . import a", "a.py": "from .b import c", "b.py": ""}
    )
    scan = scan_app(app, python=PYTHON)
    assert scan.own == {"sensor"}
    assert modules(scan) == {"sensor", "sensor.b"}


def test_a_wheel(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        {
            "sensor/__init__.py": "from .a import b",
            "sensor/a.py": "import ssl",
            "app-1.0.data/purelib/extra.py": "import json",
            "app-1.0.dist-info/METADATA": "Name: app",
        },
    )
    scan = scan_app(path, python=PYTHON)
    assert (scan.kind, scan.own) == ("wheel", {"sensor", "extra"})
    assert modules(scan) == {"sensor.a", "ssl", "json"}
    assert scan.imports[0].file.startswith(f"{path}/")


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"a.py": "x = 1\nimport =\n"})
    with pytest.raises(SourceError, match=r"app/a\.py:2: invalid syntax"):
        scan_app(app, python=PYTHON)
    with pytest.raises(SourceError, match=r"whl/a\.py:2: invalid syntax"):
        scan_app(wheel(tmp_path, {"a.py": "x = 1\nimport =\n"}), python=PYTHON)


def test_what_is_no_app(tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"nothing: no such script, folder or wheel"):
        scan_app(tmp_path / "nothing", python=PYTHON)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AppError, match="there is no Python source in it"):
        scan_app(tmp_path / "empty", python=PYTHON)


def test_what_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = write(tmp_path / "app", {f"m{number}.py": "import os\n" * 10 for number in range(6)})
    monkeypatch.setattr(apps, "MAX_TOTAL_BYTES", 300)
    with pytest.raises(AppError, match="of Python sources"):
        scan_app(app, python=PYTHON)
    monkeypatch.setattr(apps, "MAX_SOURCE_BYTES", 50)
    with pytest.raises(AppError, match=r"m0\.py is larger than"):
        scan_app(app, python=PYTHON)
    with pytest.raises(AppError, match=r"a\.py: a source of more than"):
        scan_app(wheel(tmp_path, {"a.py": "#" * 1_000_000}), python=PYTHON)
    monkeypatch.setattr(apps, "MAX_ENTRIES", 0)
    with pytest.raises(AppError, match="more than 0 files"):
        scan_app(app, python=PYTHON)


def test_a_wheel_with_an_endless_list_of_files_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wheel(tmp_path, {f"{number}.txt": "" for number in range(50)})
    monkeypatch.setattr(apps, "MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(AppError, match="list of files is too long"):
        scan_app(path, python=PYTHON)


_GOOD = io.BytesIO()
with zipfile.ZipFile(_GOOD, "w", zipfile.ZIP_DEFLATED) as _archive:
    _archive.writestr("a/__init__.py", "import os\n" * 20)
    _archive.writestr("a/b.py", "from . import c\n")


@given(st.data())
def test_any_bytes_as_a_wheel(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = bytearray(_GOOD.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    whole = data.draw(st.one_of(st.just(bytes(good)), st.just(bytes(good[:-9])), st.binary(max_size=100)))
    path = tmp_path_factory.getbasetemp() / "any.whl"
    path.write_bytes(whole)
    try:
        scan = scan_app(path, python=PYTHON)
    except UserError as error:
        assert str(path) in error.message
    else:
        assert scan.kind == "wheel"
