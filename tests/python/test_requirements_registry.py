"""The package registry's own files, resolved for the kit, packaged, and run by the kit's interpreter.

These tests skip where no package index can be reached.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from imagebuilder.config.app import AppUse
from imagebuilder.host.cache import Cache
from imagebuilder.kit.layout import PACKAGES_DIR
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.apps.package import (
    app_package,
    declare_app,
    declare_wheel,
    local_names,
    open_app,
    packages_of,
    wheel_package,
)
from imagebuilder.python.bytecode.bytecode import Interpreter, uncompiled
from imagebuilder.python.bytecode.interpreter import emulator, sandboxed, target_interpreter
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.requirements.index_build import NativeSourceError
from imagebuilder.python.requirements.index_pip import PythonIndexError
from imagebuilder.python.requirements.requirements import feed_distributions, resolve_requirements, wheels_of
from imagebuilder.python.wheels.target import WheelTarget, wheel_target
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import FileTree, file_of

SERIES = EDITIONS["embedded"].series
pytestmark = pytest.mark.kit

CATALOGUE = load_catalogue(SERIES)
EPOCH = 1_700_000_000
WANTED = ["bottle", "paho-mqtt", "myhdl", "pyaes"]  # the last has only a source distribution
WORK = """
import hashlib, sys
import bottle, myhdl, pyaes
import paho.mqtt.client

assert bottle.template("Hello {{name}}", name="device") == "Hello device"
assert int(myhdl.intbv(5)[3:]) == 5
key = bytes(range(16))
sent = pyaes.AESModeOfOperationCTR(key).encrypt(b"secret")
assert pyaes.AESModeOfOperationCTR(key).decrypt(sent) == b"secret"
assert paho.mqtt.client.topic_matches_sub("a/+", "a/b")
print("all work", *sys.argv[1:])
"""
APP = b"""
# /// script
# dependencies = ["bottle", "paho-mqtt", "myhdl", "pyaes"]
# ///
""" + WORK.encode()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PackageIndex:
    index = PackageIndex(Cache(tmp_path_factory.mktemp("cache")), Log())
    try:
        index.resolve(["bottle"], target_of("3.11.2"))
    except PythonIndexError as error:
        pytest.skip(f"no package registry can be reached: {error.message.splitlines()[0]}")
    return index


def target_of(python: str) -> WheelTarget:
    return wheel_target(python, "x86_64", SERIES, glibc=EDITIONS["embedded"].glibc)


@pytest.fixture(scope="module")
def packages(kit: Path) -> dict[str, Path]:
    """The kit's package files by their names."""
    return {file.name.partition("_")[0]: file for file in sorted((kit / PACKAGES_DIR).glob("*.ipk"))}


@pytest.fixture(scope="module")
def root(packages: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with the kit's full Python."""
    root = tmp_path_factory.mktemp("root")
    wanted, done = ["base-files", "libc", "python3"], set()
    while wanted:
        name = wanted.pop()
        if name in packages and name not in done:
            done.add(name)
            ipk = read_ipk(packages[name])
            write_tree(ipk.tree, root)
            wanted += [each.name for group in ipk.control.depends for each in group]
    return root


def on_device(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a root file system that is /, by its own interpreter."""
    command = ["bwrap", "--bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--unshare-net", "--"]
    return subprocess.run([*command, *argv], capture_output=True, text=True, check=False, env={})


@pytest.mark.parametrize("emulated", [False, True], ids=["loader", "qemu-user"])
def test_the_targets_own_interpreter_compiles(root: Path, tmp_path: Path, emulated: bool) -> None:
    how = emulator("x86_64", None, root) if emulated else None
    found = target_interpreter(root, CATALOGUE.python, CATALOGUE.magic_number, how)
    tree = FileTree({"/usr/lib/python3.11/site-packages/m.py": file_of(WORK.encode())})
    own = Compiler(sandboxed(found, tmp_path), tmp_path, EPOCH, CATALOGUE.python, Log())
    shipped = own.ship("m", tree, "bytecode", 0)
    source = shipped["/usr/lib/python3.11/site-packages/m.pyc"].source
    assert source is not None
    assert source.read_bytes()[:2] == CATALOGUE.magic_number.to_bytes(2, "little")
    assert b"/usr/lib/python3.11/site-packages/m.py" in source.read_bytes()


def compiler_of(root: Path, into: Path) -> Compiler:
    found: Interpreter = target_interpreter(root, CATALOGUE.python, CATALOGUE.magic_number)
    return Compiler(sandboxed(found, into), into, EPOCH, CATALOGUE.python, Log())


def test_requirements_import_and_work_on_the_kit(
    index: PackageIndex, root: Path, packages: Mapping[str, Path], tmp_path: Path
) -> None:
    target = target_of(CATALOGUE.version)
    script = tmp_path / "try-all.py"
    script.write_bytes(APP)
    app = open_app(AppUse(path=str(script), service=True), tmp_path, target, index)
    feed = feed_distributions(
        (Package(name, read_ipk(file).control.version) for name, file in packages.items()),
        without=CATALOGUE.packages,
    )
    resolved = resolve_requirements([*WANTED, *app.requires], target, feed, index)
    pins = {pin.name: pin for pin in resolved.pins}
    assert set(pins) == set(WANTED)
    assert [name for name, pin in pins.items() if not pin.is_wheel] == ["pyaes"]

    names = local_names(resolved.pins, packages)
    compiler = compiler_of(root, tmp_path / "pyc")
    made = []
    for name, wheel in wheels_of(resolved, target, index).items():
        depends = ["python3", *packages_of(pins[name].requires, resolved, names, {})]
        package = declare_wheel(names[name], wheel, depends, Opkg(), target)
        # myhdl reads the sources of what it converts, its own among them
        source = "both" if name == "myhdl" else "bytecode"
        made.append(wheel_package(wheel, package, target, compiler, source=source))
    package = declare_app(app, ["python3", *packages_of(pins, resolved, names, {})], Opkg(), target)
    made.append(app_package(app, package, target, compiler))
    device = tmp_path / "device"
    subprocess.run(["cp", "-a", str(root), str(device)], check=True)
    for local in made:
        file = write_ipk(tmp_path / "out", local.package, local.tree, epoch=EPOCH, scripts=local.scripts)
        write_tree(read_ipk(file.path).tree, device)
        left = uncompiled(local.tree, CATALOGUE.python)
        assert [each for each in left if each.why != "program"] == []
    assert sorted(path.name.partition("_")[0] for path in (tmp_path / "out").iterdir()) == [
        *("app-try-all", "python3-bottle", "python3-myhdl", "python3-paho-mqtt", "python3-pyaes"),
    ]
    done = on_device(device, "/usr/bin/try-all", "here")
    assert (done.stdout, done.returncode) == ("all work here\n", 0), done.stderr
    assert not list(device.rglob("__pycache__/try_all*"))
    asked = "import importlib.metadata as m; print(m.version('pyaes'), m.version('paho-mqtt'))"
    done = on_device(device, "/usr/bin/python3", "-c", asked)
    assert done.stdout.split() == [pins["pyaes"].version, pins["paho-mqtt"].version]

    offline = PackageIndex(index.cache, Log(), offline=True)
    assert resolve_requirements([*WANTED, *app.requires], target, feed, offline) == resolved
    assert set(wheels_of(resolved, target, offline)) == set(WANTED)


def test_a_package_with_c_code_is_refused(index: PackageIndex) -> None:
    with pytest.raises(NativeSourceError) as caught:
        resolve_requirements(["pycrypto"], target_of(CATALOGUE.version), {}, index)
    assert "has code to compile for the target (src/" in caught.value.message
    assert "python3-pycrypto for x86_64" in (caught.value.hint or "")


def test_a_native_wheel_fits_musl_where_it_is_for_musl(index: PackageIndex) -> None:
    musl = wheel_target("3.11.14", "x86_64", "24.10")
    resolved = resolve_requirements(["markupsafe"], musl, {}, index)
    (pin,) = resolved.pins
    assert "musllinux" in pin.filename
    package = declare_wheel(
        "python3-markupsafe", wheels_of(resolved, musl, index)["markupsafe"], [], Opkg(), musl
    )
    assert package.architecture == "x86_64"
