"""Apps as packages: what is declared, what they hold, and that they run."""

from __future__ import annotations

import codecs
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagebuilder.config.app import AppUse, PinnedRequirement, ResolvedRequirements
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.cache import Cache
from imagebuilder.log import Event, Log, Warned
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.apps.launcher import LauncherError, Service, StartOptions, init_script
from imagebuilder.python.apps.package import (
    App,
    AppPackageError,
    app_package,
    declare_app,
    declare_wheel,
    local_names,
    open_app,
    packages_of,
    places_taken,
    wheel_package,
)
from imagebuilder.python.apps.script import ScriptError, read_script
from imagebuilder.python.bytecode.bytecode import CompileError, Interpreter, Uncompiled, uncompiled
from imagebuilder.python.imports.imports import SourceError
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.wheels.target import wheel_target
from imagebuilder.python.wheels.tree import NativeCodeError
from imagebuilder.python.wheels.wheels import read_wheel
from imagebuilder.rootfs.files import content, digest, write_tree
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of
from tests.support.wheel_maker import make_elf, make_project, make_wheel

EPOCH = 1_700_000_000
MAGIC = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
TARGET = replace(wheel_target(f"{VERSION}.0", "x86_64", "23.05"), libraries={"libstdc++.so.6": "libstdcpp6"})
SITE = f"/usr/lib/python{VERSION}/site-packages"
SCRIPT = b'''#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["bottle>=0.12"]
# ///
"""Counts things.

At length."""
__version__ = "1.4"
import sys
if __name__ == "__main__":
    assert False or len(sys.argv) > 5, __file__
'''


def compiler(into: Path, log: Log | None = None) -> Compiler:
    return Compiler(Interpreter((sys.executable,), VERSION, MAGIC), into, EPOCH, VERSION, log or Log())


def opened(tmp_path: Path, path: Path, **options: object) -> App:
    index = PackageIndex(Cache(tmp_path / "cache"), Log(), offline=True)
    return open_app(AppUse(path=str(path), **options), tmp_path, TARGET, index)  # type: ignore[arg-type]


def made(tmp_path: Path, app: App, depends: tuple[str, ...] = ("python3-light",)) -> LocalPackage:
    package = declare_app(app, depends, Opkg(), TARGET)
    return app_package(app, package, TARGET, compiler(tmp_path / "pyc"))


def files(tree: FileTree) -> list[str]:
    return [path for path, entry in tree.items() if entry.kind == "file"]


def on_host(local: LocalPackage, root: Path) -> None:
    """Write a package below a folder; its programs get this machine's interpreter and that folder's paths."""
    write_tree(local.tree, root)
    for program in (root / "usr/bin").iterdir():
        text = program.read_text().replace("/usr/bin/python3", sys.executable)
        program.write_text(text.replace("/usr/lib/", f"{root}/usr/lib/"))


def run_on_host(root: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{root}{SITE}", "PATH": os.environ["PATH"]}
    argv = [str(root / "usr/bin" / program), *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def test_a_projects_wheel_becomes_a_package(tmp_path: Path) -> None:
    code = b"import sys\ndef main():\n    print('hello', *sys.argv[1:])\n    return 3\n"
    wheel = make_wheel(
        tmp_path,
        "Sensor-App",
        "1.2rc1",
        files={"sensor_app/__init__.py": b"", "sensor_app/main.py": code},
        scripts={"sensor": "sensor_app.main:main"},
        requires=["bottle", 'x; python_version < "3"'],
    )
    app = opened(tmp_path, wheel)
    assert (app.name, app.requires) == ("app-sensor-app", ("bottle",))
    local = made(tmp_path, app, ("python3-light", "python3-bottle"))
    assert (local.package.name, local.package.version, local.package.architecture) == (
        *("app-sensor-app", "1.2~rc1-1", "all"),
    )
    assert [str(each[0]) for each in local.package.depends] == ["libc", "python3-light", "python3-bottle"]
    info = f"{SITE}/Sensor_App-1.2rc1.dist-info"
    assert files(local.tree) == sorted(
        [
            *(f"{SITE}/sensor_app/__init__.pyc", f"{SITE}/sensor_app/main.pyc", "/usr/bin/sensor"),
            *(f"{info}/METADATA", f"{info}/entry_points.txt"),
        ]
    )
    assert local.scripts == {}
    on_host(local, tmp_path / "root")
    done = run_on_host(tmp_path / "root", "sensor", "a", "b")
    assert (done.returncode, done.stdout) == (3, "hello a b\n")


def test_a_project_folder_is_built(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sensor", "sensor", "0.3")
    app = opened(tmp_path, project)
    assert (app.name, str(app.version)) == ("app-sensor", "0.3")
    assert f"{SITE}/sensor.pyc" in made(tmp_path, app).tree


def test_a_script_becomes_a_program_that_is_bytecode(tmp_path: Path) -> None:
    script = tmp_path / "my_counter.py"
    script.write_bytes(SCRIPT)
    app = opened(tmp_path, script)
    assert (app.name, str(app.version), app.summary) == ("app-my-counter", "1.4", "Counts things.")
    assert app.requires == ("bottle>=0.12",)
    local = made(tmp_path, app)
    assert files(local.tree) == ["/usr/bin/my-counter", f"{SITE}/my_counter.pyc"]
    assert b"Counts" not in content(local.tree["/usr/bin/my-counter"])
    on_host(local, tmp_path / "root")
    done = run_on_host(tmp_path / "root", "my-counter")
    assert f"AssertionError: {SITE}/my_counter.py" in done.stderr
    assert run_on_host(tmp_path / "root", "my-counter", *"abcde").returncode == 0


def test_without_site_and_isolated_it_still_finds_its_modules(tmp_path: Path) -> None:
    code = (
        b"import sys\ndef main():\n    print(sys.flags.no_site, sys.flags.isolated, 'site' in sys.modules)\n"
    )
    wheel = make_wheel(tmp_path, "fast", files={"fast.py": code}, scripts={"fast": "fast:main"})
    local = made(tmp_path, opened(tmp_path, wheel, site=False, isolated=True))
    assert content(local.tree["/usr/bin/fast"]).startswith(b"#!/usr/bin/python3 -BIS\n")
    on_host(local, tmp_path / "root")
    done = run_on_host(tmp_path / "root", "fast")
    assert (done.stdout, done.stderr) == ("1 1 False\n", "")


def test_a_service(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "sensor", scripts={"sensor": "sensor:main"})
    app = opened(
        tmp_path,
        wheel,
        service=True,
        user="sensor",
        environment={"MODE": "a b", "A": "it's"},
        arguments=("--port", "80 80"),
        respawn_seconds=9,
    )
    local = made(tmp_path, app)
    text = content(local.tree["/etc/init.d/sensor"]).decode()
    assert local.tree["/etc/init.d/sensor"].mode == 0o755
    assert "procd_set_param command /usr/bin/sensor --port '80 80'\n" in text
    assert "procd_set_param user sensor\n" in text
    assert """procd_set_param env 'A=it'"'"'s' 'MODE=a b'\n""" in text
    assert "procd_set_param respawn 3600 9 0\n" in text
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert set(local.scripts) == {"postinst", "prerm"}
    assert local.package.extra == {"Require-User": "sensor:sensor"}
    package = declare_app(app, (), Apk(), TARGET)
    assert (package.architecture, package.version) == ("noarch", "1.0-r1")


def test_which_program_a_service_runs_must_be_clear(tmp_path: Path) -> None:
    two = make_wheel(tmp_path / "a", scripts={"one": "demo:a", "two": "demo:b"})
    with pytest.raises(AppPackageError, match="its programs are one, two"):
        made(tmp_path, opened(tmp_path, two, service=True))
    local = made(tmp_path, opened(tmp_path, two, service=True, program="two"))
    assert b"command /usr/bin/two\n" in content(local.tree["/etc/init.d/demo"])
    with pytest.raises(AppPackageError, match="it has no console entry points"):
        made(tmp_path, opened(tmp_path, make_wheel(tmp_path / "b"), service=True))
    main = make_wheel(tmp_path / "c", files={"demo/__main__.py": b""})
    local = made(tmp_path, opened(tmp_path, main, service=True))
    assert b"command /usr/bin/python3 -B -m demo\n" in content(local.tree["/etc/init.d/demo"])
    with pytest.raises(LauncherError):
        init_script(Service(()))


def test_settings_of_a_service_without_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="user is for a service"):
        AppUse(path="x", user="nobody")
    with pytest.raises(ValidationError):
        AppUse(path="x", service=True, user="a b")


@pytest.mark.parametrize(
    ("source", "expected", "left"),
    [
        (False, ["m.pyc"], []),
        (True, ["__pycache__/m.cpython-{tag}.pyc", "m.py"], []),
        ("only", ["m.py"], [Uncompiled(f"{SITE}/m.py", "none")]),
    ],
)
def test_sources_and_bytecode(
    tmp_path: Path, source: bool | str, expected: list[str], left: list[Uncompiled]
) -> None:
    wheel = make_wheel(tmp_path, "m", files={"m.py": b"assert not 'asserted'\nX = 1\n"})
    local = made(tmp_path, opened(tmp_path, wheel, source=source, optimize=1))
    places = [path.removeprefix(SITE + "/") for path in files(local.tree) if "dist-info" not in path]
    assert places == [each.format(tag=VERSION.replace(".", "")) for each in expected]
    assert list(uncompiled(local.tree, VERSION)) == left
    write_tree(local.tree, tmp_path / "root")
    argv = [sys.executable, "-B", *(["-O"] if source == "only" else []), "-v", "-c", "import m; print(m.X)"]
    environment = {"PYTHONPATH": str(tmp_path / "root") + SITE}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n"  # so the assertion is gone
    assert (f"code object from {str(tmp_path / 'root') + SITE}/m.py" in done.stderr) is (source == "only")


def test_what_the_device_would_compile_is_listed(tmp_path: Path) -> None:
    lib = f"/usr/lib/python{VERSION}"
    tag = VERSION.replace(".", "")
    tree = FileTree(
        {
            f"{lib}/a.py": file_of(b""),
            f"{lib}/b.py": file_of(b""),
            f"{lib}/b.pyc": file_of(importlib.util.MAGIC_NUMBER),
            f"{lib}/c.py": file_of(b""),
            f"{lib}/__pycache__/c.cpython-{tag}.pyc": file_of(importlib.util.MAGIC_NUMBER),
            "/usr/bin/tool": file_of(b"#!/usr/bin/python3 -B\n", 0o755),
            "/usr/bin/sh": file_of(b"#!/bin/sh\n", 0o755),
            "/usr/bin/mp": file_of(b"#!/usr/bin/micropython\n", 0o755),
            "/usr/share/x.py": file_of(b""),
        }
    )
    assert uncompiled(tree, VERSION) == (
        Uncompiled("/usr/bin/tool", "program"),
        Uncompiled(f"{lib}/a.py", "none"),
        Uncompiled(f"{lib}/b.py", "hidden"),
    )


def test_requirements_become_packages(tmp_path: Path) -> None:
    wheel = read_wheel(
        make_wheel(tmp_path, "bottle", "0.13", files={"bottle.py": b"", "old.py": b"print 1\n"})
    )
    said: list[Event] = []
    package = declare_wheel("python3-bottle", wheel, ["python3-light"], Opkg(), TARGET)
    local = wheel_package(wheel, package, TARGET, compiler(tmp_path / "pyc", Log([said.append])))
    assert f"{SITE}/bottle.pyc" in local.tree
    assert f"{SITE}/old.py" in local.tree
    assert [event.text for event in said if isinstance(event, Warned)] == [
        f"python3-bottle: not compiled, for it does not compile: {SITE}/old.py"
    ]
    taken = places_taken(wheel, {"bottle": ["python3-bottle"]}, {"python3-old": ["old"], "python3-x": ["x"]})
    assert taken == ("python3-bottle", "python3-old")
    other = declare_wheel("pypi-bottle", wheel, [], Opkg(), TARGET, instead=taken)
    assert other.provides == ("python3-bottle", "python3-old")
    assert other.provided_versions == (("python3-bottle", "0.13-1"), ("python3-old", "0.13-1"))
    with pytest.raises(CompileError):
        made(tmp_path, opened(tmp_path, wheel.path))


def test_names_of_local_packages() -> None:
    pins = [
        PinnedRequirement(name=name, version="1", filename=f"{name}-1-py3-none-any.whl", sha256="0" * 64)
        for name in ("bottle", "requests")
    ]
    resolved = ResolvedRequirements(pins=tuple(pins), feed={"pyyaml": "python3-yaml"})
    known = local_names(pins, ["python3-requests", "python3-yaml"])
    assert known == {"bottle": "python3-bottle", "requests": "pypi-requests"}
    wanted = packages_of(["bottle", "pyyaml", "mine", "requests"], resolved, known, {"mine": "app-mine"})
    assert wanted == ("app-mine", "pypi-requests", "python3-bottle", "python3-yaml")


def test_native_wheels_are_for_one_architecture(tmp_path: Path) -> None:
    tag = "cp311-cp311-musllinux_1_1_x86_64"
    good = make_wheel(tmp_path, "fast", files={"fast.so": make_elf(["libstdc++.so.6"])}, tag=tag, pure=False)
    package = declare_wheel("python3-fast", read_wheel(good), [], Opkg(), TARGET)
    assert package.architecture == "x86_64"
    assert [str(each[0]) for each in package.depends] == ["libc", "libstdcpp6"]
    bad = make_wheel(tmp_path, "slow", files={"slow.so": make_elf(["libc.so.6"])}, tag=tag, pure=False)
    with pytest.raises(NativeCodeError, match="slow"):
        declare_wheel("python3-slow", read_wheel(bad), [], Opkg(), TARGET)


def test_the_same_app_gives_the_same_package(tmp_path: Path) -> None:
    digests, hashes = set(), set()
    for number in (1, 2):
        folder = tmp_path / str(number)
        wheel = make_wheel(folder, scripts={"demo": "demo:main"})
        local = made(folder, opened(folder, wheel, service=True))
        digests.add(digest(local.tree))
        file = write_ipk(folder / "out", local.package, local.tree, epoch=EPOCH, scripts=local.scripts)
        hashes.add(file.sha256)
        assert read_ipk(file.path).tree["/usr/bin/demo"].mode == 0o755
    assert len(digests) == len(hashes) == 1


def test_python_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, python="<3")
    with pytest.raises(AppPackageError, match="wants Python <3, and the target has"):
        opened(tmp_path, wheel)
    with pytest.raises(AppPackageError, match="no such script, folder or wheel"):
        opened(tmp_path, tmp_path / "none.py")


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (b"def f(:\n", SourceError, r"x\.py:1: .*: this does not read as Python"),
        (b"__version__ = 'new'\n", ScriptError, r"x\.py:1: __version__ is no version"),
        (b"# /// script\n# a = \n# ///\n", FaultsError, r"x\.py:2: is no valid TOML"),
        (b"# /// script\n# dependencies = 3\n# ///\n", ScriptError, "values of the wrong kind"),
        (b'# /// script\n# dependencies = ["a b"]\n# ///\n', ScriptError, "'a b' is no requirement"),
        (b"# /// script\n# x = 1\n# ///\n\n# /// script\n# y = 1\n# ///\n", ScriptError, "more than one"),
    ],
)
def test_scripts_that_cannot_be_packaged(
    tmp_path: Path, text: bytes, error: type[UserError], says: str
) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(text)
    with pytest.raises(error, match=says):
        read_script(path, (3, 11))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_script_is_read_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("script") / "x.py"
    path.write_bytes(data)
    try:
        assert read_script(path, (3, 11)).data == data
    except UserError as error:
        assert str(path) in error.message


def test_flags_of_a_start() -> None:
    assert StartOptions("/s").flags() == "-B"
    assert StartOptions("/s", site=False, isolated=True, optimize=2).flags() == "-BISOO"


def test_a_projects_folder_may_have_any_name_and_its_faults_have_lines(tmp_path: Path) -> None:
    project = make_project(tmp_path / "My Größe", "sensor", "0.3")
    pyproject = project / "pyproject.toml"
    pyproject.write_bytes(codecs.BOM_UTF8 + pyproject.read_bytes().replace(b"\n", b"\r\n"))
    (project / "sensor.py").write_bytes("# coding: latin-1\r\nNAME = 'ü'\r\n".encode("latin-1"))
    app = opened(tmp_path, project, source="only")
    assert (app.name, str(app.version)) == ("app-sensor", "0.3")
    text = content(made(tmp_path, app).tree[f"{SITE}/sensor.py"]).decode()
    assert text == "# coding: utf-8\r\nNAME = 'ü'\r\n"
    pyproject.write_text("[project]\nname = \n")
    with pytest.raises(FaultsError, match=r"My Größe/pyproject\.toml:2: is no valid TOML"):
        opened(tmp_path, project)


@pytest.mark.parametrize("source", [False, True, "only"])
def test_a_script_in_its_own_encoding_runs(tmp_path: Path, source: bool | str) -> None:
    script = tmp_path / "my sagt.py"
    text = "#!/usr/bin/env python3\r\n# coding: cp1252\r\nprint(ascii('€ größe'))\r\n"
    script.write_bytes(text.encode("cp1252"))
    local = made(tmp_path, opened(tmp_path, script, source=source))
    on_host(local, tmp_path / "root")
    done = run_on_host(tmp_path / "root", "my-sagt")
    assert (done.stdout, done.stderr) == ("'\\u20ac gr\\xf6\\xdfe'\n", "")
    script.write_bytes(codecs.BOM_UTF8 + b"#!/usr/bin/env python3\nprint(1)\n")
    on_host(made(tmp_path / "b", opened(tmp_path, script, source=source)), tmp_path / "root2")
    assert run_on_host(tmp_path / "root2", "my-sagt").stdout == "1\n"
