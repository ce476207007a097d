"""Apps that are plain folders: what is run, what goes in, what they require, and that they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.errors import FaultsError, UserError
from imagebuilder.python.apps.apps import AppError, program_name, scan_app
from imagebuilder.python.apps.flat import read_flat
from imagebuilder.python.apps.package import AppPackageError
from imagebuilder.python.bytecode.bytecode import uncompiled
from imagebuilder.python.imports.imports import SourceError
from imagebuilder.python.wheels.tree import NativeCodeError
from imagebuilder.rootfs.files import content
from tests.python.test_app_package import VERSION, files, made, on_host, opened, run_on_host
from tests.support.wheel_maker import make_elf

PYTHON = (3, 11)
FOLDER = "/usr/lib/apps/flat"
MAIN = """\
import sys
from pathlib import Path

import helper
from parts import part

if __name__ == "__main__":
    here = Path(__file__).parent
    print(helper.NAME, part.NAME, (here / "data/words.txt").read_text().strip(), *sys.argv[1:])
    sys.exit(3)
"""
Flat = Callable[..., Path]


@pytest.fixture
def flat(tmp_path: Path) -> Flat:
    """Writes files, by their paths, of an app in the folder `name`."""

    def write(more: dict[str, str | bytes] | None = None, name: str = "flat", *, bare: bool = False) -> Path:
        whole: dict[str, str | bytes] = {
            "main.py": MAIN,
            "helper.py": "NAME = 'help'\n",
            "parts/__init__.py": "",
            "parts/part.py": "from .other import NAME\n",
            "parts/other.py": "NAME = 'part'\n",
            "data/words.txt": "words\n",
            "README.md": "How to use it.\n",
            "tests/test_it.py": "import pytest\n",
            ".env": "SECRET=1\n",
        }
        for path, text in {**({} if bare else whole), **(more or {})}.items():
            place = tmp_path / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def test_a_folder_goes_in_as_it_lies_there_and_runs(tmp_path: Path, flat: Flat) -> None:
    app = opened(tmp_path, flat())
    assert (app.name, app.service, str(app.version)) == ("app-flat", "flat", "0")
    local = made(tmp_path, app)
    assert files(local.tree) == [
        "/usr/bin/flat",
        *(f"{FOLDER}/{each}" for each in ("data/words.txt", "helper.pyc", "main.pyc", "parts/__init__.pyc")),
        *(f"{FOLDER}/parts/{each}" for each in ("other.pyc", "part.pyc")),
    ]
    assert app.taken.endswith(
        ": /usr/bin/flat runs main.py; 5 modules; 1 other file; left out: .env, README.md, tests"
    )
    on_host(local, tmp_path / "root")
    done = run_on_host(tmp_path / "root", "flat", "a b")
    assert (done.returncode, done.stdout, done.stderr) == (3, "help part words a b\n", "")


@pytest.mark.parametrize("kind", [True, "only"])
def test_it_runs_from_its_sources_too(tmp_path: Path, flat: Flat, kind: bool | str) -> None:
    local = made(
        tmp_path,
        opened(tmp_path, flat({"notes.py": "# coding: latin-1\nX = 'ü'\n".encode("latin-1")}), source=kind),
    )
    assert f"{FOLDER}/main.py" in local.tree
    assert content(local.tree[f"{FOLDER}/notes.py"]).decode() == "# coding: utf-8\nX = 'ü'\n"
    on_host(local, tmp_path / "root")
    done = run_on_host(tmp_path / "root", "flat")
    assert (done.returncode, done.stdout, done.stderr) == (3, "help part words\n", "")


def test_a_service_that_is_isolated(tmp_path: Path, flat: Flat) -> None:
    local = made(
        tmp_path, opened(tmp_path, flat(), service=True, site=False, isolated=True, arguments=("x",))
    )
    assert b"command /usr/bin/flat x\n" in content(local.tree["/etc/init.d/flat"])
    on_host(local, tmp_path / "root")
    assert run_on_host(tmp_path / "root", "flat", "y").stdout == "help part words y\n"


@pytest.mark.parametrize(
    ("more", "main", "package"),
    [
        ({"main.py": "", "app.py": "", "flat.py": ""}, "main.py", ""),
        ({"__main__.py": "", "main.py": ""}, "__main__.py", ""),
        ({"app.py": "", "models.py": ""}, "app.py", ""),
        ({"flat.py": "", "models.py": ""}, "flat.py", ""),
        ({"anything at all.py": "", "setup.cfg": "[flake8]\n"}, "anything at all.py", ""),
        (
            {"thing/__init__.py": "", "thing/__main__.py": "", "other/__init__.py": ""},
            "thing/__main__.py",
            "thing",
        ),
        ({"__init__.py": "", "__main__.py": "from . import x\n", "x.py": ""}, "flat/__main__.py", "flat"),
        ({"__init__.py": "", "main.py": "import x\n", "x.py": ""}, "main.py", ""),
        ({"src/main.py": "import x\n", "src/x.py": ""}, "main.py", ""),
        ({"main.py": "", "pyproject.toml": "[tool.ruff]\nline-length = 100\n"}, "main.py", ""),
    ],
)
def test_what_is_run(flat: Flat, more: dict[str, str], main: str, package: str) -> None:
    found = read_flat(flat(more, bare=True), PYTHON)
    assert (found.main, found.package) == (main, package)
    assert found.main in found.entries


def test_a_package_is_run_as_one(tmp_path: Path, flat: Flat) -> None:
    main = "from . import NAME\nfrom .deep.x import Y\nprint(NAME, Y, __name__)\n"
    folder = flat(
        {"it/__init__.py": "NAME = 'it'\n", "it/__main__.py": main, "it/deep/x.py": "Y = 5\n"}, bare=True
    )
    on_host(made(tmp_path, opened(tmp_path, folder)), tmp_path / "root")
    done = run_on_host(tmp_path / "root", "flat")
    assert (done.stdout, done.stderr) == ("it 5 __main__\n", "")


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"a.py": "", "b.py": ""}, AppError, r"flat: there is no telling which of its modules is run"),
        ({"it/__init__.py": ""}, AppError, r"flat: there is no telling which of its modules is run"),
        ({"notes.txt": ""}, AppError, r"flat: there is no Python source in it"),
        ({"main.py": "x = 1\nimport =\n"}, SourceError, r"flat/main\.py:2: invalid syntax"),
        ({"main.py": b"x = 1\ny = '\xfc'\n"}, SourceError, r"flat/main\.py:2: it says no encoding"),
        (
            {"main.py": "", "requirements.txt": "bottle\n\nno requirement\n"},
            FaultsError,
            r"flat/requirements\.txt:3: .*'no requirement'",
        ),
        ({"main.py": "", "requirements.txt": b"\xff\xfe\0\0\0"}, FaultsError, r"flat/requirements\.txt"),
        (
            {"main.py": "", "pyproject.toml": "[tool]\nx = \n"},
            FaultsError,
            r"flat/pyproject\.toml:2: is no valid TOML",
        ),
        (
            {"main.py": "# /// script\n# dependencies = [\n# ///\n"},
            FaultsError,
            r"flat/main\.py:\d: is no valid TOML",
        ),
        ({"main.py": "", "fast.so": make_elf(["libc.so"], machine=8)}, NativeCodeError, r"flat: fast\.so "),
    ],
)
def test_what_cannot_go_in_is_said_with_its_place(
    tmp_path: Path, flat: Flat, more: dict[str, str | bytes], error: type[UserError], words: str
) -> None:
    with pytest.raises(error, match=words):
        made(tmp_path, opened(tmp_path, flat(more, bare=True)))


def test_links_are_followed_to_files_alone(tmp_path: Path, flat: Flat) -> None:
    folder = flat()
    (tmp_path / "shared.py").write_text("X = 1\n")
    (folder / "shared.py").symlink_to(tmp_path / "shared.py")
    assert content(read_flat(folder, PYTHON).entries["shared.py"]) == b"X = 1\n"
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(AppError, match="more is a link to a folder, or to nothing"):
        read_flat(folder, PYTHON)


def test_what_it_requires_stands_in_a_file_and_in_its_main_module(tmp_path: Path, flat: Flat) -> None:
    text = b"\xef\xbb\xbf# what it needs\r\nbottle >= 0.12  # the server\r\n\r\nold; python_version < '3'\r\n"
    block = "# /// script\n# dependencies = ['pyaes']\n# ///\n__version__ = '1.4'\n"
    app = opened(tmp_path, flat({"requirements.txt": text, "main.py": block}))
    stated = [(each.written.text, Path(each.file).name, each.line) for each in app.stated.requirements]
    assert stated == [
        ("pyaes", "main.py", None),
        ("bottle >= 0.12", "requirements.txt", 2),
        ("old; python_version < '3'", "requirements.txt", 4),
    ]
    assert str(app.version) == "1.4"
    assert "; 2 requirements of requirements.txt; " in app.taken
    assert f"{FOLDER}/requirements.txt" not in made(tmp_path, app).tree


@pytest.mark.parametrize(
    ("folder", "program"),
    [("My App", "my-app"), ("Zähler", "zahler"), ("app_2.0", "app-2-0"), ("-x-", "x"), ("日本", "")],
)
def test_names_with_spaces_and_other_letters(tmp_path: Path, flat: Flat, folder: str, program: str) -> None:
    assert program_name(folder) == program
    place = flat({"größe.py": "X = 1\n", "my data.txt": "x"}, name=folder)
    script = tmp_path / f"{folder}.py"
    script.write_text("print('script')\n")
    for path in (place, script):
        if not program:
            with pytest.raises(AppPackageError, match="no name of a program can be made of '日本'"):
                opened(tmp_path, path)
        app = opened(tmp_path, path, name=None if program else "app-japan")
        local = made(tmp_path / str(path.is_dir()), app)
        assert local.package.name == f"app-{program or 'japan'}"
        assert f"/usr/bin/{program or 'japan'}" in local.tree
    root = tmp_path / "root"
    on_host(made(tmp_path, opened(tmp_path, place, name=None if program else "app-japan")), root)
    assert run_on_host(root, program or "japan").stdout == "help part words\n"


def test_its_own_modules_are_found_and_no_other_app_sees_them(flat: Flat) -> None:
    scan = scan_app(flat(), python=PYTHON)
    assert (scan.alone, scan.own) == (True, {"main", "helper", "parts"})
    assert (
        scan_app(flat({"pyproject.toml": "[project]\nname = 'x'\n"}, name="p"), python=PYTHON).alone is False
    )


def test_what_the_device_would_compile_of_it(tmp_path: Path, flat: Flat) -> None:
    local = made(tmp_path, opened(tmp_path, flat(), source="only"))
    assert f"{FOLDER}/helper.py" in {each.path for each in uncompiled(local.tree, VERSION)}
