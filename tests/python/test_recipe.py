"""[[python.package]]: recipes, what a plan knows of them, and building in the sandbox; without network."""

from __future__ import annotations

import base64
import codecs
import hashlib
import io
import json
import re
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from pydantic import ValidationError

from imagebuilder.config.app import PythonPackageUse
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.log import Log
from imagebuilder.model.filespec import FilespecError, FilespecUse
from imagebuilder.packages.apk import version as apk_version
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.opkg.version import compare_versions
from imagebuilder.python.build import host_build, host_build_source
from imagebuilder.python.build.host_build import (
    Bench,
    BuildOptions,
    HostBuildError,
    build_wheel,
    install_setup_py,
)
from imagebuilder.python.build.host_build_source import SourceTreeError, lay_source, stated_version
from imagebuilder.python.build.recipe import RecipeError, build, declare, declare_source
from imagebuilder.python.catalogue.package_version import PackageVersionError
from imagebuilder.python.requirements.index_pip import NoMatchError
from imagebuilder.python.wheels.target import WheelTarget
from imagebuilder.python.wheels.tree import NativeCodeError
from imagebuilder.python.wheels.wheels import read_wheel
from imagebuilder.rootfs.files import content, read_tree
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.rootfs.trim import RecipeFileError, recipe_tree

TARGET = WheelTarget("3.11.7", "mips_24kc", "musl", (1, 2))
SITE = "/usr/lib/python3.11/site-packages"
# a build backend in the project itself, so that nothing has to be fetched: makes a wheel of demo.py
BACKEND = """
import base64, hashlib, json, os, pathlib, socket, zipfile

def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()

def seen():
    try:
        socket.create_connection(("192.0.2.1", 80), 2)
        network = True
    except OSError:
        network = False
    return {"network": network, "project": os.path.exists(os.environ.get("TOLD", "/")),
            "umask": os.umask(0o022), "user": os.environ.get("SECRET_OF_USER"),
            "epoch": os.environ["SOURCE_DATE_EPOCH"], "here": os.getcwd()}

def build_wheel(folder, settings=None, metadata=None):
    pathlib.Path("written-by-build").write_text("x")
    print("backends print what they like")
    files = {
        "demo/__init__.py": pathlib.Path("demo.py").read_bytes(),
        "demo/seen.json": json.dumps({**seen(), "settings": settings}).encode(),
        "demo-1.5.data/scripts/demo-script": b"#!python\\nprint(1)\\n",
        "demo-1.5.dist-info/METADATA": b"Metadata-Version: 2.1\\nName: demo\\nVersion: 1.5\\n" + EXTRA,
        "demo-1.5.dist-info/WHEEL": b"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "demo-1.5.dist-info/entry_points.txt": b"[console_scripts]\\ndemo = demo:main\\n",
    }
    files.update(MORE)
    name = "demo-1.5-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as archive:
        for place, data in files.items():
            archive.writestr(place, data)
        record = "".join(f"{place},sha256={digest(data)},{len(data)}\\n" for place, data in files.items())
        archive.writestr("demo-1.5.dist-info/RECORD", record + "demo-1.5.dist-info/RECORD,,\\n")
    return name
EXTRA, MORE = b"", {}
"""
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["tools"]
[project]
name = "demo"
version = "1.5"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project/demo"
    (folder / "tools").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "tools/backend.py").write_text(BACKEND)
    (folder / "demo.py").write_text("def main(): ...\n")
    return tmp_path / "project"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache", tmp_path / "scratch", epoch=1_700_000_000, offline=True)


def use(**keys: object) -> PythonPackageUse:
    return PythonPackageUse.model_validate({"name": "python3-demo", "source": "demo", **keys})


# --- recipes


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"source": ""}, "has no source; say build = false"),
        ({"build": False}, "nothing that could say its version"),
        ({"build": False, "version": "1"}, "builds nothing and has no files"),
        ({"setup_args": ["--x"]}, "setup_args is for setup.py: say setup_py = true"),
        ({"setup_py": True, "config_settings": {"a": "b"}}, "config_settings are for a build backend"),
        ({"source": "x.whl", "build_requires": ["flit"]}, "x.whl is built already"),
        ({"build_requires": ["not a requirement"]}, "is no requirement"),
        ({"build_requires": ["x @ https://example.org/x.whl"]}, "names an address"),
        ({"setup_dir": "../up"}, "expected a folder within the source"),
        ({"filespec": ["+|/x", "?|/y"]}, "rule 2 `.*`: '.' is not an operation"),
        ({"files": {"etc/x": "x"}}, "plain absolute path"),
        ({"version": "v1"}, "pattern"),
        ({"setup_vars": {"a b": "c"}}, "pattern"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_a_fault_of_the_config(keys: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        use(**keys)


def test_a_plan_knows_the_package_before_it_is_built(project: Path) -> None:
    recipe = use(depends=["python3-light", "python3-asyncio"], provides=["demo"], license="MIT", src=True)
    package = declare(recipe, project, Opkg())
    assert (package.name, package.version, package.architecture) == ("python3-demo", "1.5-1", "all")
    assert [str(group[0]) for group in package.depends] == ["libc", "python3-light", "python3-asyncio"]
    assert (package.provides, package.extra) == (("demo",), {"License": "MIT"})
    source = declare_source(recipe, package)
    assert (source.name, source.version, source.depends) == ("python3-demo-src", "1.5-1", ())
    apk = declare(recipe.model_copy(update={"release": 3}), project, Apk())
    assert (apk.version, apk.architecture) == ("1.5-r3", "noarch")
    assert declare(use(version="2.0rc1"), project, Opkg()).version == "2.0~rc1-1"


def test_where_a_version_stands(project: Path, tmp_path: Path) -> None:
    folder = project / "demo"
    assert stated_version(folder) == Version("1.5")
    (folder / "pyproject.toml").write_text('[project]\nname = "demo"\ndynamic = ["version"]\n')
    (folder / "setup.cfg").write_text("[metadata]\nversion = attr: demo.version\n")
    assert stated_version(folder) is None
    with pytest.raises(RecipeError, match=r"'python3-demo': .*/demo does not say its version without"):
        declare(use(), project, Opkg())
    (folder / "setup.cfg").write_text("[metadata]\nversion = 1.6\n")
    assert stated_version(folder) == Version("1.6")
    (folder / "setup.cfg").unlink()
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: demo\nVersion: 1.7\n")
    assert stated_version(folder) == Version("1.7")
    assert stated_version(tmp_path, "project/demo") == Version("1.7")
    assert stated_version(Path("demo-1.8.tar.gz")) == Version("1.8")
    assert stated_version(Path("demo-1.9-py3-none-any.whl")) == Version("1.9")
    for wrong in ("demo.tar.gz", "demo-1.whl", "demo.txt"):
        with pytest.raises(SourceTreeError):
            stated_version(Path(wrong))
    with pytest.raises(RecipeError, match="there is no"):
        declare(use(source="none"), project, Opkg())


PARTS = st.builds(
    "{}.{}{}{}{}".format,
    *(st.integers(0, 3), st.integers(0, 20)),
    st.sampled_from(["", "a0", "a1", "b2", "rc1"]),
    st.sampled_from(["", ".post0", ".post2"]),
    st.sampled_from(["", ".dev0", ".dev3"]),
).map(Version)


@given(PARTS, PARTS, st.sampled_from([1, 2]))
def test_package_managers_order_versions_as_python_does(one: Version, other: Version, release: int) -> None:
    order = (one > other) - (one < other)
    assert compare_versions(*(Opkg().version(each, 1) for each in (one, other))) == order
    in_apk = [Apk().version(each, 1) for each in (one, other)]
    assert apk_version.compare(*in_apk) == order
    assert all(map(apk_version.is_valid, in_apk))
    assert compare_versions(Opkg().version(one, release), Opkg().version(one, 2)) == release - 2


def test_versions_that_apk_cannot_have() -> None:
    assert Opkg().version(Version("1!2+local.1"), 1) == "1:2+local.1-1"
    for version in ("1!2", "2+local"):
        with pytest.raises(PackageVersionError, match="apk has no place for the version"):
            Apk().version(Version(version), 1)


# --- what the documentation says

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/python-packages.md"


def test_the_documentation_maps_makefile_variables_to_the_keys_that_there_are() -> None:
    text = DOCUMENT.read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    table = [row for row in rows if len(row) == 3]
    named = {key for row in table for key in re.findall(r"`([a-z_]+)`", row[1])}
    keys = set(PythonPackageUse.model_fields) - {"remove"}
    assert named == keys
    variables = {name for row in table for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row[0])}
    assert variables >= {
        *("PYTHON3_PKG_SETUP_DIR", "PYTHON3_PKG_SETUP_VARS", "PYTHON3_PKG_SETUP_GLOBAL_ARGS"),
        *("PYTHON3_PKG_SETUP_ARGS", "PYTHON3_PKG_BUILD", "PYTHON3_PKG_BUILD_ARGS", "PYTHON3_PKG_BUILD_PATH"),
        *("PYTHON3_PKG_BUILD_VARS", "PYTHON3_PKG_BUILD_CONFIG_SETTINGS", "PYTHON3_PKG_INSTALL_VARS"),
        *("PYTHON3_PKG_FORCE_DISTUTILS_SETUP", "PYTHON3_PKG_WHEEL_NAME", "PYTHON3_PKG_WHEEL_VERSION"),
        "HOST_PYTHON3_PACKAGE_BUILD_DEPENDS",
    }


def test_the_examples_of_the_documentation_are_right() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    recipe, filespecs = map(tomllib.loads, blocks)
    (made,) = recipe["python"]["package"]
    assert PythonPackageUse.model_validate(made).src
    assert [FilespecUse.model_validate(each).owner for each in filespecs["filespec"]] == [
        *("the package python3-light", "the overlay 'wifi-client'"),
    ]


# --- sources


def sdist(place: Path, files: Mapping[str, bytes], *, link: str = "") -> Path:
    with tarfile.open(place, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("demo-1/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return place


def test_an_sdist_is_unpacked_without_its_links(tmp_path: Path) -> None:
    files = {"demo-1/setup.py": b"1", "demo-1/demo/x.py": b"2"}
    place = lay_source(sdist(tmp_path / "demo-1.tar.gz", files, link="/etc/passwd"), tmp_path / "a")
    assert place.name == "demo-1"
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == [
        "demo",
        "demo/x.py",
        "setup.py",
    ]
    with zipfile.ZipFile(tmp_path / "demo-1.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    assert (lay_source(tmp_path / "demo-1.zip", tmp_path / "b") / "demo/x.py").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["../x", "/x", "demo/../../x", "demo\\x"])
def test_an_sdist_that_leads_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceTreeError, match="leads out of it"):
        lay_source(sdist(tmp_path / "demo-1.tar.gz", {name: b""}), tmp_path / "a/b")
    assert not (tmp_path / "a/x").exists()


def test_an_sdist_that_is_too_large_or_damaged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sdist(tmp_path / "demo-1.tar.gz", {"a": b"x" * 5000, "b": b""})
    with pytest.raises(SourceTreeError, match="holds .* twice"):
        lay_source(twice(tmp_path / "t.tar.gz"), tmp_path / "t")
    monkeypatch.setattr(host_build_source, "MAX_BYTES", 4999)
    with pytest.raises(SourceTreeError, match="unpacks to more"):
        lay_source(whole, tmp_path / "1")
    monkeypatch.setattr(host_build_source, "MAX_FILES", 1)
    monkeypatch.setattr(host_build_source, "MAX_BYTES", 10**9)
    with pytest.raises(SourceTreeError, match="unpacks to more"):
        lay_source(whole, tmp_path / "2")
    with pytest.raises(SourceTreeError, match="no project's folder and no sdist"):
        lay_source(tmp_path / "none.rpm", tmp_path / "3")


def twice(place: Path) -> Path:
    with tarfile.open(place, "w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a"))
    return place


@given(
    st.binary(max_size=300),
    st.sampled_from([".tar.gz", ".zip"]),
    st.sampled_from([b"", b"\x1f\x8b\x08\0", b"PK\3\4"]),
)
def test_any_bytes_are_an_sdist_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, ending: str, head: bytes
) -> None:
    place = tmp_path_factory.mktemp("any")
    (place / f"x-1{ending}").write_bytes(head + data)
    try:
        lay_source(place / f"x-1{ending}", place / "out")
    except UserError as error:
        assert error.message


def test_a_folder_is_copied_without_what_no_build_needs(project: Path, tmp_path: Path) -> None:
    for name in (".git/config", ".venv/pyvenv.cfg", "env/pyvenv.cfg", "__pycache__/x.pyc"):
        (project / "demo" / name).parent.mkdir()
        (project / "demo" / name).touch()
    place = lay_source(project / "demo", tmp_path / "out")
    assert sorted(path.name for path in place.iterdir()) == ["demo.py", "pyproject.toml", "tools"]


# --- building


def test_a_project_is_built_in_the_sandbox(
    project: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_USER", "x")
    recipe = use(setup_vars={"TOLD": str(project)}, config_settings={"fast": "1"})
    tree = build(recipe, project, TARGET, bench, Log(), read_tree=read_tree)
    assert {path for path, entry in tree.items() if entry.kind == "file"} == {
        *(f"{SITE}/demo/__init__.py", f"{SITE}/demo/seen.json"),
        *(f"{SITE}/demo-1.5.dist-info/METADATA", f"{SITE}/demo-1.5.dist-info/entry_points.txt"),
        *("/usr/bin/demo", "/usr/bin/demo-script"),
    }
    seen = json.loads(content(tree[f"{SITE}/demo/seen.json"]))
    assert (seen["network"], seen["user"], seen["project"]) == (False, None, False)
    assert (seen["epoch"], seen["settings"], seen["umask"]) == ("1700000000", {"fast": "1"}, 0o022)
    assert seen["here"] == "/builder/tree"
    assert not (project / "demo/written-by-build").exists()
    assert content(tree["/usr/bin/demo"]).startswith(b"#!/usr/bin/python3")


def test_a_build_within_a_folder_and_from_an_sdist_gives_the_same(
    project: Path, bench: Bench, tmp_path: Path
) -> None:
    files = {
        f"demo-1.5/{path.relative_to(project)}": path.read_bytes()
        for path in project.rglob("*.*")
        if path.is_file()
    }
    sdist(project / "demo-1.5.tar.gz", files)
    options = BuildOptions(folder="demo")
    one = build_wheel(lay_source(project, bench.scratch), options, bench, Log())
    other_bench = replace(bench, scratch=tmp_path / "other")
    other = build_wheel(
        lay_source(project / "demo-1.5.tar.gz", other_bench.scratch), options, other_bench, Log()
    )
    contents = [{name: file.data for name, file in read_wheel(each).files.items()} for each in (one, other)]
    assert contents[0] == contents[1]
    assert one.name == other.name == "demo-1.5-py3-none-any.whl"


# a project that writes over what the hook said
AT_EXIT = "import atexit, sys; p = pathlib.Path(sys.argv[2], 'output.json'); atexit.register(lambda: ({}))"


@pytest.mark.parametrize(
    ("code", "why", "hint"),
    [
        ("raise RuntimeError('it cannot be')", "RuntimeError: it cannot be", "put right what it names"),
        ("import no_such_thing", "No module named 'no_such_thing'", "build_requires"),
        ("import os; os.execvp(os.environ['CC'], ['cc'])", "cannot be built", None),
        ("raise SystemExit(\"error: command 'false' failed\")", "command 'false' failed", "it has C code"),
        ("def build_wheel(*_): return '../x'", "made no wheel", None),
        ("def get_requires_for_build_wheel(_): return [1]", "asks for", None),
        (AT_EXIT.format("p.write_text('no JSON')"), "cannot be built", "put right"),
        (AT_EXIT.format("p.write_text('[1]')"), "cannot be built", "put right"),
        (AT_EXIT.format("p.unlink(), p.symlink_to('/etc/passwd')"), "cannot be built", "put right"),
        ("import os; os._exit(0)", "cannot be built", "put right"),
        ("def get_requires_for_build_wheel(_): return ['y==1']", "building needs y==1", "without --offline"),
    ],
)
def test_a_build_that_fails_says_why(
    project: Path, bench: Bench, code: str, why: str, hint: str | None
) -> None:
    with (project / "demo/tools/backend.py").open("a") as stream:
        stream.write(code + "\n")
    with pytest.raises(HostBuildError) as caught:
        build(use(), project, TARGET, bench, Log(), read_tree=read_tree)
    assert why in caught.value.message
    assert caught.value.hint
    assert hint is None or hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[build-system]\nrequires = [1]\n", "is none"),
        ("[build-system]\nrequires = 'x'\n", "is none"),
        ("[build-system]\nrequires = ['a b']\n", "needs 'a b' to be built"),
        ("[build-system]\nrequires = ['x @ https://example.org/x.whl']\n", "addresses are not fetched"),
        ("", "building needs setuptools>=40.8.0"),
    ],
)
def test_a_project_that_asks_for_what_it_cannot_have(
    project: Path, bench: Bench, text: str, why: str
) -> None:
    (project / "demo/pyproject.toml").write_text(text)
    with pytest.raises(HostBuildError) as caught:
        build_wheel(project / "demo", BuildOptions(), bench, Log())
    assert why in caught.value.message
    (project / "demo/pyproject.toml").unlink()
    with pytest.raises(HostBuildError, match=r"neither a pyproject.toml nor a setup.py"):
        build_wheel(project / "demo", BuildOptions(), bench, Log())


def test_a_project_file_that_is_no_toml_is_named_with_its_line(project: Path, bench: Bench) -> None:
    (project / "demo/pyproject.toml").write_text("\n[build-system\n")
    with pytest.raises(FaultsError, match=r"demo/pyproject\.toml:2: is no valid TOML"):
        build_wheel(project / "demo", BuildOptions(), bench, Log())


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.cfg"])
def test_the_mark_of_utf_8_before_a_projects_files_is_no_fault(
    project: Path, bench: Bench, name: str
) -> None:
    place = project / "demo" / name
    text = place.read_bytes() if place.exists() else b"[metadata]\n"
    place.write_bytes(codecs.BOM_UTF8 + text.replace(b"\n", b"\r\n"))
    with (project / "demo/tools/backend.py").open("a") as stream:
        stream.write(f"assert pathlib.Path({name!r}).read_bytes()[:1] == b'['\n")
    assert build_wheel(project / "demo", BuildOptions(), bench, Log()).name.startswith("demo-")


@pytest.mark.parametrize(
    ("backend", "path", "why"),
    [
        ("backend", '"../tools"', "its backend-path is not within it: paths must be inside source tree"),
        ("backend", '"/tools"', "its backend-path is not within it: paths must be relative"),
        ("no_such_backend", '"tools"', "no_such_backend"),
        ("no_such_backend", "", "No module named 'no_such_backend'"),
    ],
)
def test_a_backend_that_is_not_there_is_named(
    project: Path, bench: Bench, backend: str, path: str, why: str
) -> None:
    text = PYPROJECT.replace('"backend"', f'"{backend}"').replace('"tools"', path)
    (project / "demo/pyproject.toml").write_text(text)
    with pytest.raises(HostBuildError) as caught:
        build_wheel(project / "demo", BuildOptions(), bench, Log())
    assert why in caught.value.message


def test_a_build_finds_no_way_out_of_its_sandbox(
    project: Path, bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = f"""
import os, sys, warnings
warnings.warn("shown to nobody", UserWarning)
def get_requires_for_build_wheel(settings=None):
    for name in ("input.json", "hook.py"):
        os.unlink(sys.argv[2] + "/" + name)
        os.symlink({str(tmp_path / "mine")!r}, sys.argv[2] + "/" + name)
    return []
"""
    with (project / "demo/tools/backend.py").open("a") as stream:
        stream.write(code)
    (tmp_path / "mine").write_text("mine")
    assert build_wheel(project / "demo", BuildOptions(), bench, Log()).is_file()
    assert (tmp_path / "mine").read_text() == "mine"
    assert capfd.readouterr().err == ""


def test_what_is_built_must_run_on_the_target(project: Path, bench: Bench, tmp_path: Path) -> None:
    backend = project / "demo/tools/backend.py"
    backend.write_text(
        BACKEND.replace('MORE = b"", {}', 'MORE = b"", {"demo/_fast.so": b"\\x7fELF" + bytes(60)}')
    )
    with pytest.raises(UserError, match=r"_fast\.so"):
        build(use(), project, TARGET, bench, Log(), read_tree=read_tree)
    backend.write_text(BACKEND.replace('EXTRA, MORE = b""', 'EXTRA, MORE = b"Requires-Python: >=3.12\\n"'))
    with pytest.raises(RecipeError, match=r"wants Python >=3\.12, and the target has 3\.11\.7"):
        build(use(), project, TARGET, replace(bench, scratch=tmp_path / "2"), Log(), read_tree=read_tree)


def wheel_file(place: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    """A wheel that pip installs."""
    info = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{info}/RECORD,,"]
    for path, text in whole.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text.encode())}")
    place.mkdir(exist_ok=True)
    with zipfile.ZipFile(place / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**whole, f"{info}/RECORD": "\n".join(record) + "\n"}.items():
            archive.writestr(path, text)


SETUP = """
import os, pathlib, sys
import helper  # of build_requires
assert helper.__file__.startswith("/"), helper
# as zeroconf's build starts its setup.py once more
import subprocess
child = "import helper; print(helper.__file__)"
said = subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, check=True).stdout
assert said.strip() == helper.__file__, said
options = dict(word[2:].partition("=")[::2] for word in sys.argv if word.startswith("--"))
root = pathlib.Path(options["root"])
def put(place, text):
    (root / place[1:]).parent.mkdir(parents=True, exist_ok=True)
    (root / place[1:]).write_text(text)
put(options["install-lib"] + "/demo.py", " ".join(w for w in sys.argv if not w.startswith("--r")))
put(options["install-scripts"] + "/demo", "#!/usr/bin/env python3\\n")
if os.environ.get("NATIVE"):
    (root / "native.so").write_bytes(b"\\x7fELF" + bytes(60))
"""


def test_setup_py_gets_its_arguments_and_what_it_requires(
    project: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_file(tmp_path / "index", "setuptools", "99.0", {"setuptools.py": ""})
    wheel_file(tmp_path / "index", "helper", "1.0", {"helper.py": ""})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (project / "demo/sub").mkdir()
    (project / "demo/sub/setup.py").write_text(SETUP)
    recipe = use(
        setup_py=True,
        setup_dir="sub",
        setup_global_args=["--verbose"],
        setup_args=["--x=1"],
        build_requires=["helper"],
    )
    online = replace(bench, offline=False)
    tree = build(recipe, project, TARGET, online, Log(), read_tree=read_tree)
    assert {path for path, entry in tree.items() if entry.kind == "file"} == {
        f"{SITE}/demo.py",
        "/usr/bin/demo",
    }
    assert content(tree[f"{SITE}/demo.py"]).decode().split()[:3] == ["setup.py", "--verbose", "install"]
    assert content(tree[f"{SITE}/demo.py"]).decode().endswith(" --x=1")
    # and again from the cache
    monkeypatch.delenv("PIP_FIND_LINKS")
    again = build(recipe, project, TARGET, replace(bench, scratch=tmp_path / "2"), Log(), read_tree=read_tree)
    assert again.keys() == tree.keys()
    native = recipe.model_copy(update={"setup_vars": {"NATIVE": "1"}})
    with pytest.raises(NativeCodeError, match=r"its build makes /native\.so, which is native code for this"):
        build(native, project, TARGET, replace(bench, scratch=tmp_path / "3"), Log(), read_tree=read_tree)
    with pytest.raises(NoMatchError, match=r"no package index has a file of '(helper|setuptools)"):
        fresh = replace(online, cache=tmp_path / "fresh", scratch=tmp_path / "4")
        build(recipe, project, TARGET, fresh, Log(), read_tree=read_tree)
    with pytest.raises(HostBuildError, match="has no setup.py"):
        install_setup_py(project / "demo", BuildOptions(), bench, Log(), python="3.11")


# --- the package's files

BUILT = FileTree(
    {
        f"{SITE}/demo/__init__.py": file_of(b"1"),
        f"{SITE}/demo/tests/x.py": file_of(b"2"),
        "/usr/bin/demo": file_of(b"3", 0o755),
        "/usr/share/demo": file_of(b"4"),
    }
)


def kept(tree: FileTree) -> dict[str, int]:
    return {path: entry.mode for path, entry in tree.items() if entry.kind == "file"}


def test_a_package_has_site_packages_and_programs_by_itself(project: Path) -> None:
    made = recipe_tree(use(), BUILT, project, python="3.11")
    assert kept(made.tree) == {
        **{f"{SITE}/demo/__init__.py": 0o644, f"{SITE}/demo/tests/x.py": 0o644, "/usr/bin/demo": 0o755}
    }


def test_a_filespec_and_further_files(project: Path) -> None:
    (project / "etc/more").mkdir(parents=True)
    (project / "etc/init").write_text("#!/bin/sh\n")
    (project / "etc/init").chmod(0o700)
    (project / "etc/more/a").touch(0o600)
    recipe = use(
        filespec=[
            "+|{site_packages}/demo",
            "-|{site_packages}/demo/tests",
            "-|/usr/bin/demo",
            "+|/usr/share/demo",
        ],
        files={"/etc/init.d/demo": "etc/init", "/etc/demo": {"source": "etc/more", "mode": "600"}},
    )
    made = recipe_tree(recipe, BUILT, project, python="3.11")
    assert kept(made.tree) == {
        **{f"{SITE}/demo/__init__.py": 0o644, "/usr/share/demo": 0o644},
        **{"/etc/init.d/demo": 0o755, "/etc/demo/a": 0o600},
    }
    assert [rule.paths for rule in made.record.rules][2] == ("/usr/bin/demo",)
    wrong = use(filespec=["+|{site_packages}/none"])
    with pytest.raises(FilespecError, match=r"the filespec of package python3-demo, rule 1 .*/none`"):
        recipe_tree(wrong, BUILT, project, python="3.11")
    with pytest.raises(RecipeFileError, match=r"there is no .*/gone, which /etc/x is to be"):
        recipe_tree(use(files={"/etc/x": "gone"}), BUILT, project, python="3.11")


def test_a_package_of_files_alone(project: Path, bench: Bench) -> None:
    recipe = use(build=False, version="1", source="", files={"/etc/demo.py": "demo/demo.py"})
    assert build(recipe, project, TARGET, bench, Log(), read_tree=read_tree) == FileTree()
    assert kept(recipe_tree(recipe, FileTree(), project, python="3.11").tree) == {"/etc/demo.py": 0o644}


def test_two_builds_may_fetch_what_they_need_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "cache", tmp_path / "scratch", epoch=1_700_000_000, offline=False)
    slower = True

    def pip(argv: list[str], *_: object, **_more: object) -> None:
        nonlocal slower
        if slower:  # while the first one fetches, another build is done with it
            slower = False
            host_build._fetched(["flit"], bench, Log())
        (Path(argv[argv.index("--dest") + 1]) / "flit.whl").touch()

    monkeypatch.setattr(host_build, "pip", pip)
    place = host_build._fetched(["flit"], bench, Log())
    assert [path.name for path in place.iterdir()] == ["flit.whl"]
    assert list(place.parent.iterdir()) == [place]
