"""Bytecode is loaded before an image is handed over: what the device would refuse is refused here."""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.run import Completed, run
from imagebuilder.log import Event, Log, Warned
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import read_tree, write_tree
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.trial import load as bytecode_load
from imagebuilder.trial.load import LoadError, load_bytecode, modules_of, parse_answer

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
LIB = f"/usr/lib/python{VERSION}"
HEAD = importlib.util.MAGIC_NUMBER + bytes(12)
GOOD = HEAD + marshal.dumps(compile("x = 1\n", "m", "exec"))


def root_with(tmp_path: Path, **files: bytes) -> tuple[Root, FileTree]:
    """A root whose interpreter cannot be run here, so that this machine's loads in its place."""
    paths = {f"{LIB}/{name}.pyc": file_of(data) for name, data in files.items()}
    write_tree(
        FileTree({**paths, f"/usr/bin/python{VERSION}": file_of(b"for another machine", 0o755)}), tmp_path
    )
    return Root(tmp_path, VERSION), read_tree(tmp_path)


def test_good_bytecode_is_counted_and_who_loaded_it_is_said(tmp_path: Path) -> None:
    root, tree = root_with(tmp_path / "root", good=GOOD, other=GOOD)
    loaded = load_bytecode(root, tree, (), tmp_path / "work", Log())
    assert loaded is not None
    assert (loaded.files, loaded.modules) == (2, 0)
    assert "of this machine" in loaded.by


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (importlib.util.MAGIC_NUMBER + bytes(8) + GOOD[16:], "ValueError|EOFError|ImportError|TypeError"),
        (GOOD[: len(GOOD) // 2], "EOFError|ValueError"),
        (HEAD + marshal.dumps("no code"), "ImportError"),
        (HEAD, "EOFError"),
    ],
)
def test_what_the_loader_would_refuse_is_refused_by_its_path(tmp_path: Path, data: bytes, why: str) -> None:
    root, tree = root_with(tmp_path / "root", good=GOOD, bad=data)
    with pytest.raises(LoadError, match=rf"1 files of bytecode(.|\n)*{LIB}/bad.pyc: ({why})"):
        load_bytecode(root, tree, (), tmp_path / "work", Log())


def test_bytecode_of_another_version_is_refused(tmp_path: Path) -> None:
    root, tree = root_with(tmp_path / "root", old=(3000).to_bytes(2, "little") + GOOD[2:])
    with pytest.raises(LoadError, match="old.pyc: magic number 3000"):
        load_bytecode(root, tree, (), tmp_path / "work", Log())


def test_what_the_interpreter_never_reads_is_no_matter(tmp_path: Path) -> None:
    other = (3000).to_bytes(2, "little") + GOOD[2:]
    tag = VERSION.replace(".", "")
    files = {
        f"{LIB}/good.pyc": GOOD,
        f"{LIB}/a.py": b"x = 1",
        f"{LIB}/a.pyc": other,  # its source is there
        f"{LIB}/__pycache__/b.cpython-27.pyc": other,
        f"{LIB}/__pycache__/c.cpython-{tag}.pyc": GOOD,
        "/usr/lib/python2.7/os.pyc": other,
        "/usr/share/mine/d.pyc": GOOD,
    }
    write_tree(FileTree({path: file_of(data) for path, data in files.items()}), tmp_path / "root")
    root = Root(tmp_path / "root", VERSION)
    loaded = load_bytecode(root, read_tree(root.path), (), tmp_path / "work", Log())
    assert loaded is not None
    assert loaded.files == 3


def test_nobody_here_loads_it_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode_load, "host_interpreter", lambda *_: None)
    write_tree(
        FileTree({"/usr/lib/python3.14/m.pyc": file_of((3627).to_bytes(2, "little") + b"\r\n" + bytes(20))}),
        tmp_path / "root",
    )
    said: list[Event] = []
    root = Root(tmp_path / "root", "3.14")
    assert load_bytecode(root, read_tree(root.path), (), tmp_path / "work", Log([said.append])) is None
    assert any(isinstance(event, Warned) and "was not loaded" in event.text for event in said)


def test_modules_are_imported_by_their_names_and_no_main() -> None:
    paths = [f"{LIB}/a/__init__.pyc", f"{LIB}/a/__main__.pyc", f"{LIB}/site-packages/b.pyc", f"{LIB}/c.pyc"]
    wanted = [*paths[:3], "/usr/share/d.pyc"]
    assert modules_of([*paths, "/usr/share/d.pyc"], wanted, LIB) == {paths[0]: "a", paths[2]: "b"}


def test_an_answer_that_stops_at_a_module_says_at_which() -> None:
    answer = parse_answer("L\t/a.pyc\t\nT\ta\nI\ta\tok\t\nT\tb\n")
    assert (answer.loaded, answer.imported, answer.last) == (1, 1, "b")


@given(st.text(max_size=200))
def test_any_answer_is_read_or_refused(text: str) -> None:
    try:
        answer = parse_answer(text)
    except LoadError as error:
        assert error.hint
    else:
        assert answer.loaded <= text.count("\n") + 1


def test_native_code_that_the_linker_refuses_is_told_from_what_lacks_a_module(tmp_path: Path) -> None:
    """The helper, run by this machine's Python: a damaged library, a module that hides that, and one that
    lacks another."""
    (tmp_path / "fast.so").write_bytes(b"\x7fELF no library")
    (tmp_path / "hides.py").write_text("try:\n    import fast\nexcept ImportError:\n    fast = None\n")
    (tmp_path / "lacks.py").write_text("import nowhere\n")
    listed = "".join(f"/x/{name}\t{name.partition('.')[0]}\n" for name in ("fast.so", "hides.so", "lacks.so"))
    (tmp_path / "list").write_text(listed)
    helper = Path(bytecode_load.__file__).parent / bytecode_load.HELPER
    argv = [sys.executable, "-S", "-B", str(helper), "", str(tmp_path / "list")]
    done = run(argv, env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=False)
    answer = parse_answer(done.stdout)
    assert (answer.loaded, answer.imported, answer.last) == (0, 1, "")
    assert [module for module, _ in answer.refused] == ["fast"]
    assert [module for module, _ in answer.lacking] == ["lacks"]


def test_native_code_that_the_linker_refuses_is_an_error() -> None:
    why = "ImportError: Error relocating /usr/lib/python3.11/fast.so: __time64: symbol not found"
    done = Completed(("python3",), 0, f"I\tfast\trefused\t{why}\nEND\n", "")
    with pytest.raises(
        LoadError, match="native code that its Python does not load:\nfast: .*__time64"
    ) as caught:
        bytecode_load._judged(done, "its Python", 0, Log())
    assert "pure = true" in (caught.value.hint or "")


def test_native_modules_of_ones_own_packages_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = root_with(tmp_path / "root", good=GOOD)
    site = root.path / f"{LIB[1:]}/site-packages/demo"
    site.mkdir(parents=True)
    for name in ("own.so", "feeds.so"):
        (site / name).write_bytes(b"\x7fELF")
    asked: list[str] = []

    def run_there(root: Root, argv: list[str], work: Path, *, timeout: float) -> Completed:
        asked.extend((work / "list").read_text().splitlines())
        return Completed(tuple(argv), 0, f"L\t{LIB}/good.pyc\t\nT\tdemo.own\nI\tdemo.own\tok\t\nEND\n", "")

    monkeypatch.setattr(bytecode_load, "can_run", lambda *given: True)
    monkeypatch.setattr(bytecode_load, "run_in", run_there)
    path = f"{LIB}/site-packages/demo/own.so"
    tree, feeds = read_tree(root.path), f"{LIB}/site-packages/demo/feeds.so"
    found = load_bytecode(root, tree, {path, feeds}, tmp_path / "work", Log(), native={path})
    assert found is not None
    assert found.modules == 1
    assert asked == [f"{LIB}/good.pyc", f"{path}\tdemo.own"]
