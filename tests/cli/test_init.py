"""A newcomer's way: init, schemas for editors, completion, and what show tells."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from imagebuilder.config.config import load_config
from imagebuilder.config.init import Answers, read_public_key, write_config
from imagebuilder.config.library import Library
from imagebuilder.config.schema import KINDS, schema_of
from imagebuilder.errors import FaultsError, UserError

PROJECT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk5 me@here"
AddConfig = Callable[[str, str], str]


def call(project: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagebuilder", *argv, "--project", str(project)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def test_a_config_from_answers(library: Library) -> None:
    answers = Answers("tplink-tl-wr740n-v4", "micropython", "gate", "client", 'caf"é', KEY)
    (library.root / "schemas").mkdir()
    (library.root / "schemas/config.schema.json").write_text("{}")
    path = write_config(library, "mine", answers)
    assert path.read_text().startswith("#:schema ../schemas/config.schema.json\n")
    config = load_config(library, "mine").config
    assert config.boards == ("tplink-tl-wr740n-v4",)
    assert config.python.variant == "micropython"
    assert config.release is None
    assert [use.name for use in config.overlay] == ["base", "ssh-keys", "wifi-client"]
    assert config.overlay[1].variables == {"keys": [KEY]}
    assert tomli.loads(path.read_text())["overlay"][2]["variables"] == {
        "ssid": 'caf"é',
        "key": {"secret": "WIFI_KEY"},
    }
    with pytest.raises(UserError, match="exists already"):
        write_config(library, "mine", answers)
    (library.root / "schemas/config.schema.json").unlink()
    assert "#:schema" not in write_config(library, "kit", Answers("qemu-x86-64")).read_text()
    assert load_config(library, "kit").config.release == "embedded"


def test_bad_answers_leave_nothing(library: Library) -> None:
    with pytest.raises(FaultsError, match="does not match"):
        write_config(library, "mine", Answers("qemu-x86-64", hostname="no blanks"))
    with pytest.raises(UserError, match="cannot be a config's name"):
        write_config(library, "../mine", Answers("qemu-x86-64"))
    assert "mine" not in library.config_names()


def test_public_keys(tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text(f"{KEY}\n")
    assert read_public_key(tmp_path / "id.pub") == KEY
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(UserError, match="is a private key"):
        read_public_key(tmp_path / "id")
    (tmp_path / "two").write_text(f"{KEY}\n{KEY}\n")
    with pytest.raises(UserError, match="does not hold one public key"):
        read_public_key(tmp_path / "two")
    with pytest.raises(UserError, match="cannot read a public key"):
        read_public_key(tmp_path / "none")


def test_init_by_options(project: Path, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text(f"{KEY}\n")
    argv = ("init", "mine", "--board", "qemu-x86-64", "--python", "base", "--wifi", "ap", "--ssid", "home")
    ended = call(project, *argv, "--ssh-key", str(tmp_path / "id.pub"))
    assert ended.returncode == 0, ended.stderr
    assert "WIFI_KEY" in ended.stdout
    assert f"next: {sys.executable} -m imagebuilder build mine\n" in ended.stdout
    written = tomli.loads((project / "configs/mine.toml").read_text())
    assert written["python"]["variant"] == "base"
    for argv, words in (
        (("init", "x"), "which board?"),
        (("init", "x", "--board", "qemu"), "unknown board 'qemu'"),
        (("init", "x", "--board", "qemu-x86-64", "--python", "lite"), "'lite' is no answer"),
        (("init", "x", "--board", "qemu-x86-64", "--wifi", "yes"), "'yes' is no answer"),
    ):
        ended = call(project, *argv)
        assert ended.returncode == 2
        assert words in ended.stderr


def test_init_asks_on_a_terminal(project: Path) -> None:
    """Each question is answered when it is asked; one answer is wrong and asked for again."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "imagebuilder", "init", "asked", "--project", str(project)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "HOME": "/nonexistent", "TERM": "dumb"},
    )
    os.close(theirs)
    answers = [
        ("Board", "qemu-x86-64"),
        ("Python", "lite"),
        ("one of: none", "light"),
        ("Host name", "my-router"),
        ("Wi-Fi", "client"),
        ("SSID", "home"),
        ("public key", ""),
    ]
    seen = ""
    until = time.monotonic() + 30
    for question, answer in answers:
        while question not in seen:
            assert time.monotonic() < until, seen
            seen += os.read(ours, 4096).decode()
        seen = seen.partition(question)[2]
        os.write(ours, f"{answer}\n".encode())
    while "next: " not in seen:
        assert time.monotonic() < until, seen
        seen += os.read(ours, 4096).decode()
    assert program.wait(10) == 0
    os.close(ours)
    config = load_config(Library(project), "asked").config
    assert (config.python.variant, config.overlay[0].variables) == ("light", {"hostname": "my-router"})


# --- what editors and shells use


@pytest.mark.parametrize("kind", KINDS)
def test_the_committed_schemas_are_the_models(kind: str) -> None:
    committed = json.loads((PROJECT / f"schemas/{kind}.schema.json").read_text())
    assert committed == schema_of(kind)
    argv = [sys.executable, "-m", "imagebuilder", "schema", kind]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == committed


def test_every_file_names_its_schema() -> None:
    for kind, pattern, up in (
        ("board", "boards/*.toml", ".."),
        ("config", "configs/*.toml", ".."),
        ("overlay", "overlays/*/overlay.toml", "../.."),
    ):
        for path in PROJECT.glob(pattern):
            if path.name == "unsupported.toml":
                continue
            first = path.read_text().splitlines()[0]
            assert first == f"#:schema {up}/schemas/{kind}.schema.json", path


@pytest.mark.parametrize(
    ("words", "expected"), [("build de", ["demo", "demo-3.13"]), ("show --board qemu-x", ["qemu-x86-64"])]
)
def test_shells_complete_names(words: str, expected: list[str]) -> None:
    environment = {
        "_OWRT_PYTHON_COMPLETE": "complete_bash",
        "COMP_WORDS": f"owrt-python {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "imagebuilder"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert ended.stdout.split() == expected


def test_show_names_files_and_no_secrets(project: Path, add_config: AddConfig) -> None:
    add_config(
        "mine",
        'extends = "python-light"\n[[overlay]]\nname = "wifi-ap"\nvariables = { key = "hunter2hunter2" }\n'
        '[[overlay]]\nname = "wifi-client"\nvariables = { ssid = "home", key = { secret = "WIFI_KEY" } }\n',
    )
    for argv in (("show", "mine"), ("show", "mine", "--json")):
        ended = call(project, *argv)
        assert ended.returncode == 0, ended.stderr
        assert "hunter2" not in ended.stdout + ended.stderr
        assert "WIFI_KEY" in ended.stdout
    lines = {line.split()[0]: line for line in call(project, "show", "mine").stdout.splitlines()[2:] if line}
    assert lines["python.variant"].endswith("configs/python-light.toml")
    assert lines["overlay.wifi-client.ssid"].split()[1] == '"home"'
    assert lines["overlay.wifi-ap.key"].split()[1] == '"***"'
