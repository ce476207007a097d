"""A newcomer's way: init, schemas for editors, completion, and what show tells."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from imagebuilder import __version__
from imagebuilder.config.config import load_config
from imagebuilder.config.init import Answers, has_secret, keep_secret, read_public_key, write_config
from imagebuilder.config.library import Library
from imagebuilder.config.new_project import new_project
from imagebuilder.config.overlay import SecretError
from imagebuilder.config.project import open_project
from imagebuilder.config.schema import KINDS, schema_of
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.model.variant import VARIANTS
from tests.support.heeding import HEEDING

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


def run_in(folder: Path, *argv: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """The program, run in a folder that is a project or becomes one."""
    return subprocess.run(
        [sys.executable, "-m", "imagebuilder", *argv],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        input=given,
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_init_takes_each_python_that_a_config_can_ask_for(project: Path, variant: str) -> None:
    ended = call(project, "init", "mine", "--board", "tplink-tl-wr740n-v4", "--python", variant)
    assert ended.returncode == 0, ended.stderr
    assert tomli.loads((project / "configs/mine.toml").read_text())["python"]["variant"] == variant


def read_some(terminal: int, until: float) -> str:
    """What a program writes, once it does. until: on the monotonic clock."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
    assert ready, "the program asks nothing more"
    return os.read(terminal, 4096).decode()


def test_init_asks_on_a_terminal(project: Path, tmp_path: Path) -> None:
    """Each answer is checked when it is given; a wrong one is told, and asked for again."""
    (tmp_path / "good.pub").write_text(f"{KEY}\n")
    (tmp_path / "bad.pub").write_text("ssh-odd AAAA\n")
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "imagebuilder", "init", "asked", "--project", str(project)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "HOME": "/nonexistent", "TERM": "dumb"},
        start_new_session=True,  # no terminal of its own: the key is read where the other answers are
    )
    os.close(theirs)
    answers = [
        ("Board", "qemu-x86"),
        ("did you mean 'qemu-x86-64'?", "qemu-x86-64"),
        ("Python", "lite"),
        ("one of: none", "light"),
        ("Host name", "my router"),
        ("'my router' does not match", "my-router"),
        ("Wi-Fi", "client"),
        ("SSID", "x" * 33),
        ("has more than 32 bytes", "home"),
        ("Network key", "seven77"),
        ("Network key", "hunter2hunter2"),
        ("public key", str(tmp_path / "none.pub")),
        ("cannot read a public key", str(tmp_path / "bad.pub")),
        ("'ssh-odd AAAA' does not match", str(tmp_path / "good.pub")),
    ]
    everything = ""
    seen = ""
    until = time.monotonic() + 30
    for question, answer in answers:
        while question not in seen:
            assert time.monotonic() < until, seen
            seen += (read := read_some(ours, until))
            everything += read
        seen = seen.partition(question)[2]
        hidden = question == "Network key"  # what is typed before the echo ends is dropped
        while hidden and termios.tcgetattr(ours)[3] & termios.ECHO:
            assert time.monotonic() < until, everything
            time.sleep(0.01)
        os.write(ours, f"{answer}\n".encode())
    while "next:" not in seen:  # and a blank, or a new line where the program's name is long
        assert time.monotonic() < until, seen
        seen += read_some(ours, until)
    assert program.wait(10) == 0
    os.close(ours)
    config = load_config(Library(project), "asked").config
    assert (config.python.variant, config.overlay[0].variables) == ("light", {"hostname": "my-router"})
    assert config.overlay[1].variables == {"keys": [KEY]}
    assert "(not shown) does not match" in everything
    assert "hunter2" not in everything
    assert "seven77" not in everything
    assert tomli.loads((project / "secrets.toml").read_text()) == {"WIFI_KEY": "hunter2hunter2"}
    assert (project / "secrets.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("typed", "code"), [("\x03", 130), ("\x04", 130)], ids=["Ctrl-C", "Ctrl-D"])
def test_who_breaks_off_is_told_that_nothing_was_written(project: Path, typed: str, code: int) -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [
            *HEEDING,
            "setsid",
            "--ctty",
            "--wait",
            sys.executable,
            "-m",
            "imagebuilder",
            "init",
            "off",
            "--project",
            str(project),
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    until = time.monotonic() + 30
    seen = ""
    while "Board" not in seen:
        assert time.monotonic() < until, seen
        seen += read_some(ours, until)
    # pressed again where nothing happens, as anybody would: a signal that comes after Python has looked for
    # one and before it waits for the answer is not heard until the next
    quiet = True
    while "nothing was handed over" not in seen:
        assert time.monotonic() < until, seen
        if quiet:
            os.write(ours, typed.encode())
        quiet = not select.select([ours], [], [], 2)[0]
        if not quiet:
            seen += read_some(ours, until)
    assert program.wait(10) == code
    os.close(ours)
    assert "fault of the builder" not in seen
    assert not (project / "configs/off.toml").exists()


def test_init_refuses_what_an_option_says(project: Path, tmp_path: Path) -> None:
    """At once, and in the order of the questions: nothing is written."""
    common = ("init", "x", "--board", "qemu-x86-64", "--wifi", "ap")
    (tmp_path / "bad.pub").write_text("ssh-odd AAAA\n")
    for argv, words in (
        ((*common, "--hostname", "no blanks", "--ssid", "y" * 40), "'no blanks' does not match"),
        ((*common, "--ssid", "y" * 40), "has more than 32 bytes"),
        (common, "does not match"),
        (
            (*common, "--ssid", "home", "--ssh-key", str(tmp_path / "bad.pub")),
            "'ssh-odd AAAA' does not match",
        ),
        (("init", "demo/x", "--board", "nosuch"), "cannot be a config's name"),
        (("init", "demo", "--board", "nosuch"), "demo.toml exists already"),
    ):
        ended = call(project, *argv)
        assert (ended.returncode, words in ended.stderr) == (2, True), ended.stderr
    ended = call(project, *common, "--ssid", "home", WIFI_KEY="short")
    assert (ended.returncode, "the secret 'WIFI_KEY' (not shown) does not match" in ended.stderr) == (2, True)
    assert not (project / "configs/x.toml").exists()
    assert not (project / "secrets.toml").exists()


def test_a_secret_joins_those_that_are_there(library: Library) -> None:
    path = library.root / "secrets.toml"
    path.write_text('# mine\nOTHER = "x"\n[TOKEN]\ncommand = ["pass"]\n')
    path.chmod(0o640)
    assert not has_secret(library, "wifi-ap", "key")
    assert keep_secret(library, 'a"b\\cdefgh') == path
    assert tomli.loads(path.read_text()) == {
        "WIFI_KEY": 'a"b\\cdefgh',
        "OTHER": "x",
        "TOKEN": {"command": ["pass"]},
    }
    assert "# mine\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert has_secret(library, "wifi-ap", "key")
    path.write_text('WIFI_KEY = "short"\n')
    with pytest.raises(SecretError, match="does not match"):
        has_secret(library, "wifi-ap", "key")


# --- a project of one's own


def test_a_new_project(tmp_path: Path) -> None:
    folder = tmp_path / "a b/mine"
    ended = run_in(tmp_path, "new", str(folder))
    assert ended.returncode == 0, ended.stderr
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "firmware.toml",
        "configs/home.toml",
        "apps/hello.py",
        ".gitignore",
        ".github/workflows/nightly.yml",
        "README.md",
    }
    assert {"/secrets.toml", "/out/"} <= set((folder / ".gitignore").read_text().splitlines())
    library, found = open_project(folder)
    assert found.root == folder
    config = load_config(library, "home").config
    assert (config.release, config.boards, config.python.apps[0].path) == (
        "embedded",
        ("qemu-x86-64",),
        "apps/hello.py",
    )
    said = subprocess.run([sys.executable, folder / "apps/hello.py"], capture_output=True, check=True).stdout
    assert said.startswith(b"hello from Python 3.")
    workflow = (folder / ".github/workflows/nightly.yml").read_text()
    assert f"pipx install openwrt-python-imagebuilder=={__version__}\n" in workflow
    assert "key: cache-${{ matrix.key }}-${{ github.run_id }}\n" in workflow
    words = [line.strip() for line in workflow.splitlines() if "owrt-python build" in line]
    reports = '--summary "$GITHUB_STEP_SUMMARY" --junit out/junit.xml'
    assert words == [f"xargs owrt-python build -j auto {reports}"]
    assert run_in(folder, "show", "home").returncode == 0
    ended = run_in(folder, "init", "next", "--board", "qemu-x86-64")
    assert ended.returncode == 0, ended.stderr
    assert (folder / "configs/next.toml").is_file()
    ended = run_in(folder, "new", ".")
    assert (ended.returncode, "is a project already" in ended.stderr) == (2, True)


def test_a_new_project_in_the_current_folder(tmp_path: Path) -> None:
    """There is no way to go then."""
    said = run_in(tmp_path, "new", ".").stdout.splitlines()[-1]
    assert said == f"next: {sys.executable} -m imagebuilder plan home"


def test_a_new_project_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("secrets.toml\n*.o\n")
    (tmp_path / "README.md").write_text("mine\n")
    made = new_project(tmp_path, "tplink-tl-wr740n-v4")
    assert (made.kept, made.ignore) == ((".gitignore", "README.md"), ("out/", "server/"))
    assert (tmp_path / "README.md").read_text() == "mine\n"
    assert load_config(Library(tmp_path), "home").config.release is None
    for place, board, words in (
        (tmp_path / "README.md", "qemu-x86-64", "is no folder"),
        (tmp_path / "new", "nosuch", "unknown board 'nosuch'"),
    ):
        with pytest.raises(UserError, match=words):
            new_project(place, board)
    assert not (tmp_path / "new").exists()


def test_import_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "firmware.toml").write_text("")
    (tmp_path / "files/etc").mkdir(parents=True)
    (tmp_path / "build.sh").write_text('make image PROFILE=$1 PACKAGES="luci -ppp" FILES=files\n')
    ended = run_in(tmp_path, "import", "build.sh", "--set", "1=tl-wr740n-v4")
    assert ended.returncode == 0, ended.stderr
    written = tomli.loads((tmp_path / "configs/build.toml").read_text())
    assert written == {
        "extends": "base",
        "boards": ["tplink-tl-wr740n-v4"],
        "packages": {"add": ["luci"], "remove": ["ppp"]},
        "overlay": [{"path": "files"}],
    }
    assert f"next: {sys.executable} -m imagebuilder plan build --imagebuilder PATH\n" in ended.stdout
    line = ("make", "image", "PROFILE=tl-wr740n-v4", "PACKAGES=a -b", "EXTRA_IMAGE_NAME=x")
    ended = run_in(tmp_path, "import", "--name", "typed", "--json", "--", *line)
    assert json.loads(ended.stdout)["boards"] == ["tplink-tl-wr740n-v4"]
    assert tomli.loads((tmp_path / "configs/typed.toml").read_text())["packages"] == {
        "add": ["a"],
        "remove": ["b"],
    }
    ended = run_in(
        tmp_path, "import", "-", "--name", "router", "--board", "x86-64", given="luci - 1\nlibc - 1\n"
    )
    assert ended.returncode == 0, ended.stderr
    assert tomli.loads((tmp_path / "configs/router.toml").read_text())["packages"] == {"add": ["luci"]}
    for argv, words in (
        (("import", "build.sh"), "build.toml exists already"),
        (("import", "none.sh"), "cannot be read"),
        (("import", "a", "b"), "a is followed by more than a file"),
        (("import", "build.sh", "--set", "x"), "--set 'x' sets nothing"),
        (("import", "build.sh", "--board", "nosuch"), "unknown board 'nosuch'"),
    ):
        ended = run_in(tmp_path, *argv)
        assert (ended.returncode, words in ended.stderr) == (2, True), ended.stderr


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
