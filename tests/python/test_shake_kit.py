"""python.shake on the kit: what is left runs, and what is not there is named."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from imagebuilder.host.run import clean_environment, run
from imagebuilder.log import Log
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.opkg.version import compare_versions
from imagebuilder.packages.repack import shaken_package
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.shake.commands import ProofError, Root, prove, run_in, start_facts, trace
from imagebuilder.python.shake.read import Code, ShakeError, read_modules
from imagebuilder.python.shake.shake import Shaken
from imagebuilder.rootfs.tree import file_of
from tests.support.kit_fixtures import EVERY_EDITION
from tests.support.shake_kit import Contents, Shaker, app_of, left_of, root_of

pytestmark = pytest.mark.kit

APPS = Path(__file__).parents[1] / "data/apps"
QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
CODECS = {"encodings.charmap", "encodings.latin_1"}
# from 3.12 on _collections_abc imports warnings for who derives from ByteString, and warnings a lot more
NEEDED_MORE = {"3.11": set(), "3.13": {"_weakrefset", *CODECS}}
WITH_WARNINGS = {"3.11": set(), "3.13": {"python3-light"}}
NEEDED = {"encodings", "encodings.aliases", "encodings.utf_8", "encodings.ascii", "os"}


def left_root(shaker: Shaker, contents: Contents, result: Shaken, folder: Path) -> Root:
    return Root(root_of(left_of(contents, result).values(), folder), shaker.catalogue.python)


def kept(result: Shaken, package: str) -> set[str]:
    return {name for each in result.packages if each.name == package for name in each.kept}


@pytest.fixture(scope="module")
def hello(shaker: Shaker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shaken, Root]:
    """Hello world, from everything that the kit has."""
    folder = tmp_path_factory.mktemp("hello")
    contents = shaker.packages_of(["python3"])
    contents["app-mine"] = shaker.script_app(APPS / "hello.py", folder / "app")
    result = shaker.shaken(contents, folder / "read")
    return result, left_root(shaker, contents, result, folder / "root")


@EVERY_EDITION
def test_hello_world_needs_little(hello: tuple[Shaken, Root]) -> None:
    result, root = hello
    assert kept(result, "python3-base") == {*NEEDED, "sitecustomize"} | NEEDED_MORE[root.python]
    light = WITH_WARNINGS[root.python]
    assert {each.name for each in result.packages if each.kept} == {"python3-base"} | light
    base = next(each for each in result.packages if each.name == "python3-base")
    assert {"site", "codecs", "io", "abc"} <= set(base.frozen) <= set(base.dropped)
    assert base.saved > 500_000
    assert 50_000 < base.saved_compressed < base.saved
    gone = {"python3", "python3-light", "python3-openssl", "libopenssl3", "libsqlite3-0"} - light
    assert gone <= set(result.removable)
    assert not {"libc", "libexpat", "zlib", "python3-base"} & set(result.removable)
    assert "json" in result.dropped
    assert "site" not in result.dropped  # it is inside the interpreter


def piped(code: str, options: str = "") -> str:
    """A command that runs code. Not with -c, for which python3-base of Python 3.13 lacks linecache."""
    return f"sh -c {shlex.quote(f'printf %s {shlex.quote(code)} | python3 {options} -')}"


@pytest.mark.parametrize(
    "command",
    [
        "hello",
        piped("print(1)"),
        piped('print("\\xe9")', "-I -S"),
        piped("print(1)", "-X utf8=0"),
        "python3 -B /usr/bin/hello",
        piped('import os, site, codecs, io, sys; open("/tmp/x", "w").write("\\u20ac")'),
        "sh -c 'echo \"print(2)\" | python3'",
    ],
)
@EVERY_EDITION
def test_the_interpreter_starts_in_every_way_that_python3_base_does(
    hello: tuple[Shaken, Root], tmp_path: Path, command: str
) -> None:
    result, root = hello
    (run,) = prove(root, [command], tmp_path, Log(), dropped=result.dropped)
    assert result.dropped.isdisjoint(run.modules)


@EVERY_EDITION
def test_an_error_is_still_shown(hello: tuple[Shaken, Root], tmp_path: Path) -> None:
    done = run_in(hello[1], ["/bin/sh", "-c", "echo 1 / 0 | python3 -"], tmp_path)
    assert done.code == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


WARNS = """\
#!/usr/bin/python3
import warnings
warnings.simplefilter("always")
open("/dev/null")
warnings.warn("mind")
print("end")
"""


@EVERY_EDITION
def test_a_warning_is_shown_and_what_traces_memory_for_it_is_not_there(
    shaker: Shaker, tmp_path: Path
) -> None:
    contents = shaker.packages_of(["python3-light"])
    contents["app-mine"] = app_of({"/usr/bin/mine": WARNS})
    result = shaker.shaken(contents, tmp_path / "read")
    assert {"tracemalloc", "pickle"} <= result.dropped
    done = run_in(left_root(shaker, contents, result, tmp_path / "root"), ["/usr/bin/mine"], tmp_path)
    assert (done.code, done.stdout) == (0, "end\n")
    assert "ResourceWarning: unclosed file" in done.stderr
    assert "UserWarning: mind" in done.stderr


@EVERY_EDITION
def test_what_is_missing_is_named_with_the_keep_that_brings_it(
    hello: tuple[Shaken, Root], tmp_path: Path
) -> None:
    result, root = hello
    with pytest.raises(ProofError, match="the module json is missing") as raised:
        prove(root, [piped("import json")], tmp_path, Log(), dropped=result.dropped)
    assert raised.value.hint == 'add it: keep = ["json"] in [python]'
    quiet = piped("try:\n    import json\nexcept ImportError:\n    pass\n")
    (run,) = prove(root, [quiet], tmp_path, Log(), dropped=result.dropped)
    assert result.dropped.intersection(run.modules) == {"json"}
    with pytest.raises(ProofError, match="exited with 3") as raised:
        prove(root, [piped("raise SystemExit(3)")], tmp_path, Log())
    assert "device" in str(raised.value.hint)


@EVERY_EDITION
def test_a_server_with_json_and_sqlite_needs_no_trace(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(shaker.chosen_packages(APPS / "notes.py"))
    contents["app-mine"] = shaker.script_app(APPS / "notes.py", tmp_path / "app")
    result = shaker.shaken(contents, tmp_path / "read")
    root = left_root(shaker, contents, result, tmp_path / "root")
    (run,) = prove(root, ["notes --check"], tmp_path / "run", Log(), dropped=result.dropped)
    assert result.dropped.isdisjoint(run.modules)
    assert "encodings.idna" in kept(result, "python3-base")  # socket's C code asks for it
    assert "_sqlite3" in kept(result, "python3-sqlite3")
    # ssl is in python3-light, but without python3-openssl it cannot be imported
    unneeded = {"ssl", "asyncio", "unittest", "turtle"}
    if shaker.catalogue.python == "3.11":  # 3.13's functools takes typing, and that inspect
        unneeded |= {"inspect"}
    assert not unneeded & kept(result, "python3-light")
    assert not {"libsqlite3-0", "python3-sqlite3"} & set(result.removable)


HIDES = "#!/usr/bin/python3\nimport sys\nprint(__import__(''.join(sys.argv[1:])))\n"


@EVERY_EDITION
def test_a_trace_brings_what_no_code_says_and_so_does_keep(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(["python3-light"])
    contents["app-mine"] = app_of({"/usr/bin/mine": HIDES})
    full = Root(
        root_of((each.tree for each in contents.values()), tmp_path / "full"), shaker.catalogue.python
    )
    command = "mine tex twrap"
    runs = trace(full, [command], tmp_path / "trace", Log())
    assert runs[0].code == 0
    assert {"textwrap", "re", "sys", "encodings.utf_8"} <= set(runs[0].modules)
    blind = shaker.shaken(contents, tmp_path / "read")
    assert "textwrap" in blind.dropped
    seen = shaker.shaken(contents, tmp_path / "read", traced={name for run in runs for name in run.modules})
    prove(left_root(shaker, contents, seen, tmp_path / "seen"), [command], tmp_path / "run", Log())
    asked = shaker.shaken(contents, tmp_path / "read", keep=["text*"])
    prove(left_root(shaker, contents, asked, tmp_path / "asked"), [command], tmp_path / "run", Log())
    with pytest.raises(ShakeError, match="no module of the image is called 'nothing"):
        shaker.shaken(contents, tmp_path / "read", keep=["nothing.*"])


@EVERY_EDITION
def test_frozen_modules_can_be_kept_and_sources_go_with_their_modules(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(["python3-light", "python3-light-src"])
    contents["app-mine"] = app_of({"/usr/bin/mine": "#!/usr/bin/python3\nimport textwrap\n"})
    result = shaker.shaken(contents, tmp_path, keep=["abc"])
    left = left_of(contents, result)
    assert f"{shaker.library}/abc.pyc" in left["python3-base"]
    assert f"{shaker.library}/io.pyc" not in left["python3-base"]
    sources = left["python3-light-src"].keys()
    assert {f"{shaker.library}/textwrap.py", f"{shaker.library}/re/__init__.py"} <= sources
    assert f"{shaker.library}/csv.py" not in sources


def test_a_package_that_another_wants_stays_though_empty(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(["python3-light"])
    contents["app-mine"] = app_of({"/usr/bin/mine": "#!/usr/bin/python3\n"}, depends=["python3-light"])
    result = shaker.shaken(contents, tmp_path)
    assert result.removable == ("libbz2-1.0",)
    assert [str(each[0]) for each in result.depends["python3-light"]] == ["libc", "python3-base", "zlib"]
    assert list(result.trees["python3-light"]) == []


@EVERY_EDITION
def test_what_is_left_is_a_package_that_sorts_after(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(["python3-base"])
    contents["app-mine"] = shaker.script_app(APPS / "hello.py", tmp_path / "app")
    result = shaker.shaken(contents, tmp_path / "read")
    base = contents["python3-base"]
    made = shaken_package(base, result.trees["python3-base"], result.depends["python3-base"], Opkg())
    assert compare_versions(made.package.version, base.package.version) > 0
    again = read_ipk(write_ipk(tmp_path, made.package, made.tree, epoch=0).path)
    assert again.control.version == made.package.version
    assert again.tree.keys() == made.tree.keys()
    assert result.trees.keys() == {"python3-base"}


@EVERY_EDITION
def test_damaged_and_foreign_bytecode(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(["python3-base"])
    contents["app-mine"] = shaker.script_app(APPS / "hello.py", tmp_path / "app")
    base = contents["python3-base"]
    good = base.tree[f"{shaker.library}/codecs.pyc"].data
    assert good is not None
    for data, problem in (
        (good[:400], "EOFError"),
        (b"\0\0" + good[2:], f"is not Python {shaker.catalogue.python}'s"),
    ):
        tree = base.tree.merged({f"{shaker.library}/codecs.pyc": file_of(data)})
        changed = {**contents, "python3-base": type(base)(base.package, tree)}
        with pytest.raises(ShakeError, match="codecs of the standard library") as raised:
            shaker.shaken(changed, tmp_path / "read")
        assert problem in raised.value.message


@EVERY_EDITION
def test_a_start_is_counted_and_timed(shaker: Shaker, tmp_path: Path) -> None:
    contents = shaker.packages_of(["python3-light"])
    roots = {}
    for name, options in (("plain", {}), ("lean", {"site": False, "isolated": True})):
        contents["app-mine"] = shaker.script_app(APPS / "hello.py", tmp_path / name, **options)
        root = root_of((each.tree for each in contents.values()), tmp_path / f"{name} root")
        roots[name] = Root(root, shaker.catalogue.python)
    facts = {name: start_facts(root, "hello", tmp_path, Log(), runs=3) for name, root in roots.items()}
    assert facts["lean"].modules < facts["plain"].modules
    assert 0 < facts["lean"].look_ups < facts["plain"].look_ups
    assert 0 < facts["lean"].seconds < 60
    more = start_facts(roots["plain"], "python3 -c 'import json'", tmp_path, Log(), runs=1)
    assert more.modules > facts["plain"].modules
    assert more.look_ups > facts["plain"].look_ups
    for command, message in (("python3 -c 'import no'", "exited with 1"), ("true", "started no Python")):
        with pytest.raises(ProofError, match=message):
            start_facts(roots["plain"], command, tmp_path, Log(), runs=1)


@pytest.mark.skipif(QEMU is None, reason="wants QEMU's user-mode emulation of x86_64")
@EVERY_EDITION
def test_emulated_it_counts_the_same(hello: tuple[Shaken, Root], tmp_path: Path) -> None:
    _, root = hello
    assert QEMU is not None
    emulated = Root(root.path, root.python, (QEMU, "-L", "/"))
    native, other = (trace(each, ["hello"], tmp_path, Log()) for each in (root, emulated))
    assert native == other
    assert native[0].looked
    assert start_facts(emulated, "hello", tmp_path, Log(), runs=1).seconds > 0


@EVERY_EDITION
def test_a_run_has_no_network_and_cannot_write_into_the_root(
    hello: tuple[Shaken, Root], tmp_path: Path
) -> None:
    _, root = hello
    for path in ("/etc/x", "/usr/x", "/x"):
        assert run_in(root, ["/bin/sh", "-c", f"echo > {path}"], tmp_path).code != 0
    assert run_in(root, ["/bin/sh", "-c", "echo > /tmp/x && cat /tmp/x"], tmp_path).code == 0
    seen = run_in(root, ["/bin/sh", "-c", "cat /proc/net/dev"], tmp_path).stdout
    assert [line.partition(":")[0].strip() for line in seen.splitlines()[2:]] == ["lo"]


OTHERS = [f"python3.{minor}" for minor in range(6, 15)]
SOURCE = b"""
import os
try:
    from _fast import work
except ImportError:
    from ._slow import work
def later():
    import json.decoder
class Worker:
    def start(self):
        return getattr(self, "do_" + self.name), getattr(os, "fork", None)
if __name__ == "__main__":
    import pdb
"""


def _magic(program: str) -> int | None:
    code = "import importlib.util as u; print(int.from_bytes(u.MAGIC_NUMBER[:2], 'little'))"
    done = run([program, "-c", code], env=clean_environment(), check=False)
    return int(done.stdout) if done.code == 0 else None


@pytest.mark.parametrize("name", OTHERS)
def test_every_python_reads_the_same(name: str, tmp_path: Path) -> None:
    program = shutil.which(name)
    magic = _magic(program) if program is not None else None
    if program is None or magic is None:
        pytest.skip(f"{name} is not on this machine")
    code = Code("py", file_of(SOURCE))
    facts = read_modules({"a.b": code}, Interpreter((program,), name, magic), tmp_path)["a.b"]
    first, later, start = facts.units
    assert [(each.level, each.module, each.names, each.certain, each.instead) for each in first.imports] == [
        (0, "os", (), True, ()),
        (0, "_fast", ("work",), False, ()),
        (1, "_slow", ("work",), False, ("_fast",)),
    ]
    assert (later.kind, later.name, later.imports[0].module) == ("function", "later", "json.decoder")
    assert (start.kind, start.name, start.owner) == ("method", "start", "Worker")
    assert {"getattr()", "fork"} <= start.attributes
    assert "do_" in start.words


@EVERY_EDITION
def test_a_reader_that_is_no_python_is_named(shaker: Shaker, tmp_path: Path) -> None:
    broken = Interpreter(("/bin/false",), shaker.catalogue.python, shaker.catalogue.magic_number)
    with pytest.raises(ShakeError, match="could not read the bytecode"):
        read_modules({"a": Code("py", file_of(b""))}, broken, tmp_path)
