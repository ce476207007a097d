"""What differs between versions of CPython: against the catalogues, and against every interpreter at hand."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from pathlib import Path

import pytest

from imagebuilder.host.run import clean_environment, run
from imagebuilder.python.bytecode.bytecode import (
    Form,
    Interpreter,
    InterpreterError,
    compile_sources,
    form_of_openwrt,
    usual_validity,
)
from imagebuilder.python.bytecode.compile_batch import header
from imagebuilder.python.bytecode.versions import VersionError, known_versions, version_facts
from imagebuilder.python.catalogue.catalogue import known_series, load_catalogue
from imagebuilder.rootfs.tree import file_of

EPOCH = 1_700_000_000
SOURCE = b"VALUE = [each for each in (1, 2)]\n\ndef f():\n    return VALUE\n"
# asked by its own words what data/cpython.json says of it; without site's .pth files, which are no part of it
ASK = """
import sys, _imp
from importlib.util import MAGIC_NUMBER
files = {{n: getattr(m, "__file__", None) or "" for n, m in sys.modules.items()}}
started = [n for n in files if files[n].endswith((".py", ".pyc"))]
frozen = [n for n in {names!r} if _imp.is_frozen(n)]
print({{"magic": int.from_bytes(MAGIC_NUMBER[:2], "little"), "started": started, "frozen": frozen}})
"""


def interpreters() -> dict[str, str]:
    """A program of each version that this machine has: on the path, or as pyenv keeps them."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for python in known_versions():
        program = shutil.which(f"python{python}")
        kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        others = sorted(kept.glob(f"{python}.*/bin/python{python}"))
        if program or others:
            found.setdefault(python, str(others[-1]) if others else str(program))
    return {python: found[python] for python in sorted(found) if python in known_versions()}


HERE = interpreters()


def test_every_python_of_every_release_series_is_known() -> None:
    for series in known_series():
        catalogue = load_catalogue(series)
        assert version_facts(catalogue.python).magic_number == catalogue.magic_number, series


def test_an_unknown_version_is_named_with_those_that_are_known() -> None:
    with pytest.raises(VersionError, match=r"Python 2\.7") as caught:
        version_facts("2.7")
    assert "3.6" in (caught.value.hint or "")


def test_the_headers_of_3_6_and_of_later_versions() -> None:
    old, new = version_facts("3.6"), version_facts("3.7")
    assert (old.header_bytes, new.header_bytes) == (12, 16)
    assert len(header(SOURCE, "timestamp", EPOCH, old.hashed)) == 12
    assert len(header(SOURCE, "timestamp", EPOCH, new.hashed)) == 16
    assert len(header(SOURCE, "checked-hash", EPOCH, new.hashed)) == 16
    expected = EPOCH.to_bytes(4, "little") + len(SOURCE).to_bytes(4, "little")
    assert header(SOURCE, "timestamp", EPOCH, old.hashed)[4:] == expected


def test_what_3_6_cannot_have_is_refused_and_not_its_default(tmp_path: Path) -> None:
    old = Interpreter(("python3.6",), "3.6", version_facts("3.6").magic_number)
    with pytest.raises(InterpreterError, match="3.7 and later") as caught:
        compile_sources(
            {"/a.py": file_of(SOURCE)}, old, tmp_path, epoch=0, form=Form(validity="checked-hash")
        )
    assert "timestamp" in (caught.value.hint or "")
    assert (usual_validity("3.6"), form_of_openwrt("3.6").validity) == ("timestamp", "timestamp")
    assert (usual_validity("3.7"), form_of_openwrt("3.7").validity) == ("unchecked-hash", "checked-hash")


@pytest.mark.parametrize("python", HERE)
def test_what_an_interpreter_says_of_itself(python: str, tmp_path: Path) -> None:
    facts = version_facts(python)
    script = tmp_path / "ask.py"
    script.write_text(ASK.format(names=sorted(version_facts("3.14").frozen)))
    # -s: nobody's .pth files; what a distribution adds by its own ones is not CPython's
    done = run([HERE[python], "-s", "-E", str(script)], env=clean_environment(LC_ALL="C.UTF-8"))
    said = ast.literal_eval(done.stdout)
    assert said["magic"] == facts.magic_number
    assert set(said["frozen"]) == facts.frozen
    named = {name for name in facts.startup if not name.endswith("*")}
    assert set(said["started"]) >= named - {"encodings.ascii"} - {"sysconfig"}  # -s leaves that out in 3.6


@pytest.mark.parametrize("python", HERE)
@pytest.mark.parametrize("validity", [None, "timestamp"])
def test_an_interpreter_imports_what_it_has_compiled(
    python: str, validity: str | None, tmp_path: Path
) -> None:
    facts = version_facts(python)
    interpreter = Interpreter((HERE[python],), python, facts.magic_number)
    form = Form(validity=validity or usual_validity(python))  # type: ignore[arg-type]
    made = compile_sources(
        {"/mine.py": file_of(SOURCE)}, interpreter, tmp_path / "pyc", epoch=EPOCH, form=form
    )
    place = tmp_path / "path"
    place.mkdir()
    source = made["/mine.py"].source
    assert source is not None
    (place / "mine.pyc").write_bytes(source.read_bytes())
    done = run(
        [
            HERE[python],
            "-S",
            "-E",
            "-c",
            f"import sys; sys.path.insert(0, {str(place)!r}); import mine; print(mine.f())",
        ],
        env=clean_environment(),
        check=False,
    )
    assert (done.code, done.stdout) == (0, "[1, 2]\n"), done.stderr
