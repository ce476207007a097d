"""Bytecode is loaded and modules are imported before an image is handed over: what the device would refuse is
told here."""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.run import Completed, run
from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import read_tree, write_tree
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.trial import load as bytecode_load
from imagebuilder.trial.load import LoadError, Loading, load_bytecode, modules_of, parse_answer
from imagebuilder.trial.module_check import Owners, Reasons, loaded_bytecode, loaded_check, modules_check

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


def loading(**known: object) -> Loading:
    """How it went with modules `a.b` and so on, of which each is a file in site-packages."""
    names = ("own", "own.part", "feeds", "feeds.part", "std")
    places = {name: f"{LIB}/site-packages/{name.replace('.', '/')}.pyc" for name in names}
    places["std"] = f"{LIB}/std.pyc"
    found = Loading("its Python", 5, places, loaded=5)
    for name, value in known.items():
        setattr(found, name, value)
    return found


OWNERS = Owners(
    {
        f"{LIB}/site-packages/own.pyc": "app-own",
        f"{LIB}/site-packages/own/part.pyc": "app-own",
        f"{LIB}/site-packages/feeds.pyc": "python3-feeds",
    },
    {"app-own"},
)
REASONS = Reasons(VERSION, {"json": "python3-light"}, ("tkinter",))


def judged(**known: object) -> TrialCheck:
    return modules_check(loading(**known), OWNERS, REASONS)


def test_good_bytecode_is_counted_and_who_loaded_it_is_said(tmp_path: Path) -> None:
    root, tree = root_with(tmp_path / "root", good=GOOD, other=GOOD)
    found = load_bytecode(root, tree, tmp_path / "work")
    assert found is not None
    told = loaded_bytecode(found, Owners())
    assert (told.files, told.modules) == (2, 0)
    assert "of this machine" in told.by
    assert loaded_check(found, Owners()).outcome == "ok"
    assert modules_check(found, Owners(), REASONS).why == "the image's own interpreter cannot be run here"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (importlib.util.MAGIC_NUMBER + bytes(8) + GOOD[16:], "ValueError|EOFError|ImportError|TypeError"),
        (GOOD[: len(GOOD) // 2], "EOFError|ValueError"),
        (HEAD + marshal.dumps("no code"), "ImportError"),
        (HEAD, "EOFError"),
    ],
)
def test_what_the_loader_would_refuse_is_told_by_its_path(tmp_path: Path, data: bytes, why: str) -> None:
    root, tree = root_with(tmp_path / "root", good=GOOD, bad=data)
    found = load_bytecode(root, tree, tmp_path / "work")
    assert found is not None
    check = loaded_check(found, Owners({f"{LIB}/bad.pyc": "python3-bad"}))
    assert check.outcome == "failed"
    (finding,) = check.findings
    assert (finding.file, finding.package) == (f"{LIB}/bad.pyc", "python3-bad")
    assert finding.text.startswith(tuple(why.split("|")))


def test_bytecode_of_another_version_is_not_loaded(tmp_path: Path) -> None:
    """What is said of it is root_checks.py's."""
    root, tree = root_with(tmp_path / "root", old=(3000).to_bytes(2, "little") + GOOD[2:], good=GOOD)
    found = load_bytecode(root, tree, tmp_path / "work")
    assert found is not None
    assert found.foreign == ((f"{LIB}/old.pyc", 3000),)
    assert (found.files, found.loaded) == (1, 1)


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
    found = load_bytecode(root, read_tree(root.path), tmp_path / "work")
    assert found is not None
    assert found.loaded == 3


def test_nobody_here_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode_load, "host_interpreter", lambda *_: None)
    write_tree(
        FileTree({"/usr/lib/python3.14/m.pyc": file_of((3627).to_bytes(2, "little") + b"\r\n" + bytes(20))}),
        tmp_path / "root",
    )
    root = Root(tmp_path / "root", "3.14")
    assert load_bytecode(root, read_tree(root.path), tmp_path / "work") is None


def test_modules_are_imported_from_the_file_that_is_found_first_and_no_main() -> None:
    paths = [
        *(f"{LIB}/a/__init__.pyc", f"{LIB}/a/__main__.pyc", f"{LIB}/a.pyc", f"{LIB}/site-packages/b.pyc"),
        *(f"{LIB}/c.pyc", f"{LIB}/c.py", f"{LIB}/lib-dynload/c.so", "/usr/share/d.pyc"),
        f"{LIB}/__pycache__/e.cpython-311.pyc",
    ]
    assert modules_of(paths, LIB) == {
        "a": f"{LIB}/a/__init__.pyc",
        "b": f"{LIB}/site-packages/b.pyc",
        "c": f"{LIB}/lib-dynload/c.so",
    }


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


@pytest.mark.parametrize(
    ("module", "level", "outcome"),
    [
        ("own", "error", "failed"),
        ("own.part", "warning", "warned"),
        ("feeds", "warning", "warned"),
        ("feeds.part", "note", "ok"),
        ("std", "note", "ok"),
    ],
)
def test_how_grave_it_is_that_a_module_lacks_another(module: str, level: str, outcome: str) -> None:
    check = judged(lacking=[(module, "ModuleNotFoundError: No module named 'json'")])
    (finding,) = check.findings
    assert (finding.level, check.outcome) == (level, outcome)
    assert finding.text == (
        f"{module}: ModuleNotFoundError: No module named 'json' (the package python3-light brings json)"
    )
    assert finding.package == OWNERS.packages.get(finding.file, "")


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("ModuleNotFoundError: No module named 'tkinter'", f"OpenWrt leaves tkinter out of Python {VERSION}"),
        ("ModuleNotFoundError: No module named 'winreg'", "winreg is there on other systems alone"),
        ("ModuleNotFoundError: No module named 'nobody.knows'", ""),
        (
            "ImportError: cannot import name 'mbcs_encode' from 'codecs' (/x)",
            "codecs has no mbcs_encode here: it was built without, or is of another version",
        ),
        (
            "ImportError: libffi.so.8: cannot open shared object file: No such file or directory",
            "the library libffi.so.8 is missing, perhaps of the package libffi8 or libffi-8",
        ),
        (
            "ImportError: Error loading shared library libffi.so.8: No such file or directory",
            "the library libffi.so.8 is missing, perhaps of the package libffi8 or libffi-8",
        ),
        (
            "ImportError: Error relocating /x/fast.so: __time64: symbol not found",
            "no library of the image has __time64: they are of another version",
        ),
        (
            "ImportError: /x/fast.so: undefined symbol: PyFoo",
            "no library of the image has PyFoo: they are of another version",
        ),
        ("ValueError: no", ""),
    ],
)
def test_the_reason_is_told_as_far_as_it_is_known(why: str, reason: str) -> None:
    assert REASONS.reason(why) == reason


def test_native_code_that_the_linker_refuses_is_an_error_of_ones_own_alone() -> None:
    why = "ImportError: Error relocating /usr/lib/python3.11/fast.so: __time64: symbol not found"
    own = judged(refused=[("own", why)])
    assert own.outcome == "failed"
    assert "pure = true" in own.findings[0].text
    assert judged(refused=[("feeds", why)]).outcome == "warned"


def test_what_does_not_end_or_ends_the_interpreter_is_told() -> None:
    check = judged(slow=["own"], ended=[("feeds", "the interpreter exited with 7")], left=3)
    assert [each.level for each in check.findings] == ["warning"] * 3
    texts = "\n".join(each.text for each in check.findings)
    assert "own: its import does not come to an end" in texts
    assert "feeds: the interpreter exited with 7 while it imported this" in texts
    assert "3 modules were not tried" in texts
    assert judged(ended=[("own", "the interpreter exited with 7")]).outcome == "failed"


def test_a_module_that_ends_the_interpreter_keeps_no_other_from_being_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = root_with(tmp_path / "root", a=GOOD, b=GOOD, c=GOOD)
    (root.path / f"{LIB[1:]}/d.so").write_bytes(b"\x7fELF")
    asked: list[list[str]] = []
    answers = [
        f"L\t{LIB}/a.pyc\t\nL\t{LIB}/b.pyc\t\nL\t{LIB}/c.pyc\t\nT\ta\nI\ta\tok\t\nT\tb\n",
        "T\tc\nI\tc\tok\t\nT\td\nI\td\tok\t\nEND\n",
    ]

    def run_there(root: Root, argv: list[str], work: Path, *, timeout: float) -> Completed:
        asked.append((work / "list").read_text().splitlines())
        return Completed(tuple(argv), 9, answers[len(asked) - 1], "")

    monkeypatch.setattr(bytecode_load, "can_run", lambda *given: True)
    monkeypatch.setattr(bytecode_load, "run_in", run_there)
    found = load_bytecode(root, read_tree(root.path), tmp_path / "work")
    assert found is not None
    assert asked == [
        [f"{LIB}/a.pyc\ta", f"{LIB}/b.pyc\tb", f"{LIB}/c.pyc\tc", f"{LIB}/d.so\td"],
        ["\tc", "\td"],
    ]
    assert (found.loaded, found.imported) == (3, 3)
    assert found.ended == [("b", "the interpreter exited with 9")]
    assert loaded_check(found, Owners()).outcome == "ok"


def test_an_interpreter_that_dies_before_the_first_module_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, tree = root_with(tmp_path / "root", a=GOOD)
    monkeypatch.setattr(bytecode_load, "can_run", lambda *given: True)
    dead = Completed(("python",), 1, "", "no such thing")
    monkeypatch.setattr(bytecode_load, "run_in", lambda *given, **known: dead)
    with pytest.raises(LoadError, match="loaded 0 of 1 files of bytecode and exited with 1: no such thing"):
        load_bytecode(root, tree, tmp_path / "work")
