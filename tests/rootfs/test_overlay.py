"""Overlays: declarations, variables, templates, modes, places; and secrets."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import OverlayUse
from imagebuilder.config.overlay import (
    LoadedOverlay,
    Overlay,
    OverlayError,
    SecretError,
    Variable,
    find_secret,
    load_overlay,
    load_overlays,
)
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.confined import confined
from imagebuilder.host.run import run
from imagebuilder.rootfs import template
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.overlay import combined, overlay_tree
from imagebuilder.rootfs.template import render
from imagebuilder.rootfs.tree import FileTree, file_of

AddConfig = Callable[[str, str], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files/etc").mkdir(parents=True)
    return tmp_path


PLAIN = Overlay(name="test")
SHIPPED = Library(Path(__file__).parents[2])


def test_templates_and_modes(folder: Path) -> None:
    (folder / "files/etc/conf.j2").write_text("name={{ name | sh }}\nlist={{ many | py }}\n{# gone #}")
    (folder / "files/etc/conf.j2").chmod(0o600)
    (folder / "files/etc/run").write_text("{{ untouched }}")
    (folder / "files/etc/run").chmod(0o700)
    (folder / "files/etc").chmod(0o700)
    (folder / "files/etc/link").symlink_to("run")
    (folder / "files/etc/key").touch()
    overlay = Overlay(name="test", modes={"/etc/key": "0600"})
    tree = overlay_tree(overlay, folder, {"name": "it's $(here)", "many": ["a"]}).tree
    assert content(tree["/etc/conf"]) == b"name='it'\"'\"'s $(here)'\nlist=['a']\n"
    assert content(tree["/etc/run"]) == b"{{ untouched }}"
    assert {path: entry.mode for path, entry in tree.items() if entry.kind != "symlink"} == {
        "/etc": 0o700,
        "/etc/conf": 0o600,
        "/etc/key": 0o600,
        "/etc/run": 0o700,
    }
    assert tree["/etc/link"].target == "run"
    with pytest.raises(OverlayError, match="modes names /etc/nothing"):
        overlay_tree(Overlay(name="test", modes={"/etc/nothing": "0600"}), folder, {"name": "", "many": []})
    with pytest.raises(OverlayError, match="replaces names /etc/nothing"):
        overlay_tree(Overlay(name="test", replaces=("/etc/nothing",)), folder, {"name": "", "many": []})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one\n{{ nothing }}\n", r"conf\.j2:2: 'nothing' is undefined"),
        ("one\ntwo\n{% if %}\n", r"conf\.j2:3: "),
        ("{{ name", r"conf\.j2:1: "),
        ("\n{{ name.first }}", r"conf\.j2:2: "),
        ("\n{{ 1 + name }}", r"conf\.j2:2: the expression fails \(TypeError\)"),
        ("{{ name.__class__.__mro__ }}", r"conf\.j2:1: "),
    ],
)
def test_template_errors_name_file_and_line(folder: Path, text: str, words: str) -> None:
    (folder / "files/etc/conf.j2").write_text(text)
    with pytest.raises(OverlayError, match=words):
        overlay_tree(PLAIN, folder, {"name": "x"})


@pytest.mark.parametrize(
    "text",
    [
        *("{{ [1][a] }}", "{{ {}[a] }}", "{{ {}[a].b }}", "{{ a | attr(a) }}", "{{ b | attr(a) | sh }}"),
        *("{{ [b] | map(attribute=a) | join }}", "{{ [{}] | sum(attribute=a) }}", "{{ a | int + [] }}"),
        *("{% include a %}", "{% extends a %}", "{% import a as x %}", "{{ [b] | map(a) | list }}"),
        *("{{ [b] | select(a) | list }}", "{{ 5 | xmlattr }}", "{{ a() }}", "{{ '%d' % a }}"),
        *("{{ a.format(b)[a] }}", "{{ ('{' ~ a ~ '}').format() }}", "{{ ('{0.' ~ a ~ '}').format(b) }}"),
        *("{% set n = namespace() %}{{ n[a] }}", "{{ cycler(1)[a] }}", "{{ {a: 1}.pop(b) }}"),
        *("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ range(a) }}", "{{ a | truncate(a) }}"),
        *("{{ [[a], [b]] | sort(attribute=a) }}", "{{ dict([a]) }}", "{{ [] | first | attr(a) }}"),
    ],
)
def test_template_errors_show_no_value(folder: Path, text: str) -> None:
    secret = "hunter2 is a secret"
    (folder / "files/etc/conf.j2").write_text(f"one\n{text}\n")
    with pytest.raises(OverlayError, match=r"conf\.j2:[0-9]+: ") as caught:
        overlay_tree(PLAIN, folder, {"a": secret, "b": 7})
    error = caught.value
    shown = "\n".join([error.message, error.hint or "", *getattr(error, "__notes__", ())])
    assert "hunter2" not in shown
    assert error.__cause__ is None  # and no traceback of a cause shows it


@pytest.mark.parametrize(
    "text",
    [
        *("{% include '/etc/passwd' %}", "{% include '../../overlay.toml' %}", "{% import 'os' as os %}"),
        *("{{ ''.__class__.__base__.__subclasses__() }}", "{{ cycler.__init__.__globals__ }}"),
        *("{{ self._TemplateReference__context }}", "{{ many.append(1) }}", "{{ open('/etc/passwd') }}"),
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
    ],
)
def test_a_template_reaches_nothing_of_this_machine(folder: Path, text: str) -> None:
    (folder / "files/etc/conf.j2").write_text(text)
    with pytest.raises(OverlayError, match=r"conf\.j2:1: "):
        overlay_tree(PLAIN, folder, {"many": ["a"]})


def test_a_template_that_is_no_text(folder: Path) -> None:
    (folder / "files/etc/conf.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(OverlayError, match="must be UTF-8"):
        overlay_tree(PLAIN, folder, {})


def test_files_that_are_a_link_bring_nothing_of_this_machine(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "etc").mkdir(parents=True)
    (outside / "etc/id_ed25519").write_text("private")
    (folder / "files/etc").rmdir()
    (folder / "files").rmdir()
    (folder / "files").symlink_to(outside)
    with pytest.raises(UserError, match=f"{folder}/files is a symbolic link to {outside}"):
        overlay_tree(PLAIN, folder, {})
    (folder / "files").unlink()
    (folder / "files").mkdir()
    (folder / "files/etc").symlink_to(outside / "etc")
    assert list(overlay_tree(PLAIN, folder, {}).tree) == [
        "/etc"
    ]  # a link in the image, and not followed here


@pytest.mark.parametrize("linked", ["overlays", "overlays/demo"])
def test_an_overlay_behind_a_link(library: Library, project: Path, tmp_path: Path, linked: str) -> None:
    assert load_overlay(library, "demo")[1] == project / "overlays/demo"
    (project / linked).rename(tmp_path / "elsewhere")
    (project / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{project / linked} is a symbolic link"):
        load_overlay(library, "demo")


def test_a_template_beside_its_result(folder: Path) -> None:
    (folder / "files/etc/conf.j2").touch()
    (folder / "files/etc/conf").touch()
    with pytest.raises(OverlayError, match=r"holds both /etc/conf and /etc/conf\.j2"):
        overlay_tree(PLAIN, folder, {})


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        (Variable(type="integer"), "1", "must be a integer, not string"),
        (Variable(type="integer"), True, "must be a integer, not boolean"),
        (Variable(type="number"), 1, None),
        (Variable(type="string"), 1.5, "must be a string, not number"),
        (Variable(type="list"), ["a"], None),
        (Variable(pattern="[a-z]+"), "abc", None),
        (Variable(pattern="[a-z]+"), "abc\n", "'abc\\n' does not match [a-z]+"),
        (Variable(pattern="[a-z]+", secret=True), "12345", "(not shown) does not match [a-z]+"),
        (Variable(type="list", pattern="[a-z]+"), ["a", "B"], "'B' does not match [a-z]+"),
        (Variable(), "a\0b", "holds a control character"),
        (Variable(), "x" * 70000, "or more than 65536 characters"),
    ],
)
def test_values_of_variables(variable: Variable, value: str | int, problem: str | None) -> None:
    found = variable.problem(value)
    assert (found is None) if problem is None else problem in (found or "")


def test_faults_of_variables_name_file_line_and_key(
    library: Library, project: Path, add_config: AddConfig
) -> None:
    (project / "overlays/demo/overlay.toml").write_text(
        'name = "demo"\n[variables.greeting]\n[variables.count]\ntype = "integer"\ndefault = 1\n'
        '[variables.who]\ndescription = "whom to greet"\n[variables.pin]\nsecret = true\npattern = "[0-9]+"\n'
    )
    add_config(
        "bad",
        '[[overlay]]\nname = "demo"\n[overlay.variables]\ngreting = "x"\ncount = "1"\npin = "hunter2"\n'
        '[board.qemu-x86-64]\noverlay = [{ name = "dem" }]\n',
    )
    with pytest.raises(FaultsError) as caught:
        load_config(library, "bad")
    assert [(fault.line, fault.key, fault.message, fault.hint) for fault in caught.value.faults] == [
        (
            4,
            "overlay[0].variables.greting",
            "overlay 'demo' has no variable 'greting'",
            "did you mean 'greeting'?",
        ),
        (5, "overlay[0].variables.count", "must be a integer, not string", None),
        (6, "overlay[0].variables.pin", "(not shown) does not match [0-9]+", None),
        (8, "board.qemu-x86-64.overlay[0].name", "unknown overlay 'dem'", "did you mean 'demo'?"),
    ]
    add_config("lacks", 'release = "embedded"\n\n[[overlay]]\nname = "demo"\nvariables = { pin = "1" }\n')
    with pytest.raises(FaultsError) as caught:
        load_config(library, "lacks")
    assert [(fault.line, fault.message) for fault in caught.value.faults] == [
        (3, "overlay 'demo' wants the variable 'greeting' (string)"),
        (3, "overlay 'demo' wants the variable 'who' (string): whom to greet"),
    ]


def test_an_overlay_named_again_gets_the_later_variables(
    library: Library, project: Path, add_config: AddConfig
) -> None:
    (project / "overlays/other").mkdir()
    (project / "overlays/other/overlay.toml").write_text('name = "other"\n')
    add_config("one", '[[overlay]]\nname = "demo"\n[[overlay]]\nname = "other"\n')
    add_config("two", 'extends = "one"\n[[overlay]]\nname = "demo"\nvariables = { greeting = "later" }\n')
    add_config("three", 'extends = "two"\n[[overlay]]\nname = "other"\nremove = true\n')
    two, three = load_config(library, "two"), load_config(library, "three")
    assert [use.name for use in two.config.overlay] == ["demo", "other"]
    assert two.config.overlay[0].variables == {"greeting": "later"}
    assert Path(two.origins["overlay.demo"][0]).name == "one.toml"
    assert Path(two.origins["overlay.demo.greeting"][0]).name == "two.toml"
    assert [use.name for use in three.config.overlay] == ["demo"]
    assert "overlay.other" not in three.origins


def test_a_file_that_two_overlays_bring() -> None:
    one, two = Overlay(name="one"), Overlay(name="two")
    first, second = FileTree({"/etc/a": file_of(b"1")}), FileTree({"/etc/b": file_of(b"2")})
    other = FileTree({"/etc/a": file_of(b"3")})
    assert list(combined([(one, first), (two, second)])) == ["/etc", "/etc/a", "/etc/b"]
    with pytest.raises(OverlayError, match="the overlays 'one' and 'two' both bring /etc/a"):
        combined([(one, first), (two, other)])
    replacing = Overlay(name="two", replaces=("/etc/a",))
    assert content(combined([(one, first), (replacing, other)])["/etc/a"]) == b"3"
    with pytest.raises(OverlayError, match="the overlays 'two' and 'one' both bring /etc/a"):
        combined([(replacing, other), (one, first)])
    with pytest.raises(OverlayError, match="'two' and 'one' do not go together"):
        combined([(one, first), (Overlay(name="two", conflicts=("one",)), second)])


@pytest.mark.parametrize("place", ["var/log/x", "tmp/x", "var", "proc/x", "dev/console"])
def test_nothing_goes_where_the_device_forgets_it(folder: Path, place: str) -> None:
    (folder / "files" / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / "files" / place).write_text("x")
    with pytest.raises(OverlayError, match=f"{place}: what an image holds there is lost") as error:
        overlay_tree(PLAIN, folder, {})
    assert "uci-defaults" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("place", "target", "leaves"),
    [
        ("etc/a", "../../b", True),
        ("etc/a", "../b", False),
        ("a", "..", True),
        ("etc/a", "/etc/b", False),
        ("etc/a", "/../b", True),
        ("etc/x/a", "../../../etc/passwd", True),
        ("etc/a", "b/../../..", True),
    ],
)
def test_links_stay_in_the_root_file_system(folder: Path, place: str, target: str, leaves: bool) -> None:
    (folder / "files" / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / "files" / place).symlink_to(target)
    if leaves:
        with pytest.raises(OverlayError, match="leads out of the root file system"):
            overlay_tree(PLAIN, folder, {})
    else:
        assert overlay_tree(PLAIN, folder, {}).tree[f"/{place}"].target == target


def test_links_that_are_declared(folder: Path) -> None:
    (folder / "files/etc/conf.j2").write_text("x")
    overlay = Overlay.model_validate({"name": "test", "links": {"/etc/rc.d/S95x": "../init.d/x", "/a": "/b"}})
    tree = overlay_tree(overlay, folder, {}).tree
    assert (tree["/etc/rc.d/S95x"].target, tree["/a"].target) == ("../init.d/x", "/b")
    assert tree["/etc/rc.d"].mode == 0o755
    for links, words in (
        ({"/etc/x": "../../../b"}, "leads out of the root file system"),
        ({"/tmp/x": "y"}, "is lost when the device starts"),
        ({"/etc/conf": "y"}, r"overlay\.toml: links names /etc/conf, which is in files/ too"),
        ({"/etc/conf.j2": "y"}, "which is in files/ too"),
        ({"/a": "b", "/a/c": "d"}, r"overlay\.toml: links: /a/c lies below /a, which is a symlink"),
    ):
        with pytest.raises(OverlayError, match=words):
            overlay_tree(Overlay(name="test", links=links), folder, {})
    for links in ({"etc/x": "y"}, {"/x": ""}, {"/x": "a\0b"}):
        with pytest.raises(ValueError, match="links"):
            Overlay.model_validate({"name": "test", "links": links})


def test_the_shipped_overlays_hold_no_links() -> None:
    """A wheel is a zip file, which installers read without any links."""
    assert [path for path in (SHIPPED.root / "overlays").rglob("*") if path.is_symlink()] == []


@given(value=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60), many=st.booleans())
def test_any_value_is_one_word_for_a_shell(
    tmp_path_factory: pytest.TempPathFactory, value: str, many: bool
) -> None:
    folder = tmp_path_factory.mktemp("quoting")
    (folder / "files").mkdir()
    (folder / "files/script.j2").write_text("printf '%s\\0' {{ value | sh }}")
    tree = overlay_tree(PLAIN, folder, {"value": [value, "x"] if many else value}).tree
    printed = run(
        ["sh", "-c", content(tree["/script"]).decode()], env={**os.environ, "LC_ALL": "C.UTF-8"}
    ).stdout
    assert printed.split("\0")[:-1] == ([value, "x"] if many else [value])


def test_a_wrong_declaration(library: Library, project: Path) -> None:
    (project / "overlays/demo/overlay.toml").write_text('name = "demo"\n[variables.x]\ntpye = "string"\n')
    with pytest.raises(FaultsError, match=r"overlay\.toml:3: variables\.x\.tpye: unknown key"):
        load_overlay(library, "demo")
    with pytest.raises(UserError, match="unknown overlay 'dem'"):
        load_overlay(library, "dem")


# --- secrets


SECRET = Variable(secret=True)


def test_where_secrets_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets.toml").write_text(
        'FILE_KEY = "from the file"\nRUN_KEY = { command = ["printf", "from %s\\n", "a command"] }\n'
        'BOTH = "from the file"\nEMPTY = ""\nQUIET = { command = ["true"] }\n'
        'FAILS = { command = ["sh", "-c", "echo hunter2; exit 7"] }\n'
    )
    monkeypatch.setenv("ENV_KEY", "from the environment")
    monkeypatch.setenv("BOTH", "from the environment")

    def find(name: str, variable: Variable = SECRET) -> str:
        return find_secret(tmp_path, name, variable)

    assert find("ENV_KEY") == find("BOTH") == "from the environment"
    assert find("FILE_KEY") == "from the file"
    assert find("RUN_KEY") == "from a command"
    for name, words in (
        ("NOWHERE", "the secret 'NOWHERE' is nowhere"),
        ("EMPTY", "is empty"),
        ("QUIET", "printed nothing"),
        ("FAILS", "exited with 7"),
    ):
        with pytest.raises(SecretError, match=words) as error:
            find(name)
        assert "hunter2" not in error.value.message
    with pytest.raises(SecretError, match=r"'ENV_KEY' \(not shown\) does not match \[0-9\]"):
        find("ENV_KEY", Variable(pattern="[0-9]+"))


def test_a_wrong_secrets_file(tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text("SOME_KEY = { cmd = ['x'] }\n")
    with pytest.raises(FaultsError, match=r"secrets\.toml:1: SOME_KEY"):
        find_secret(tmp_path, "SOME_KEY", SECRET)


def test_secrets_are_named_and_not_shown(
    library: Library, project: Path, add_config: AddConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "overlays/demo/overlay.toml").write_text(
        'name = "demo"\n[variables.greeting]\n'
        "[variables.key]\nsecret = true\n[variables.pin]\nsecret = true\n"
    )
    add_config(
        "mine",
        '[[overlay]]\nname = "demo"\n[overlay.variables]\ngreeting = { secret = "GREETING" }\n'
        'key = { secret = "KEY" }\npin = "hunter2"\n',
    )
    monkeypatch.setenv("KEY", "k")
    monkeypatch.setenv("GREETING", "g")
    config = load_config(library, "mine").config
    (loaded,) = load_overlays(library, config)
    assert loaded.values(project) == {"greeting": "g", "key": "k", "pin": "hunter2"}
    assert loaded.secrets() == ["demo.greeting", "demo.key", "demo.pin"]
    assert loaded.secrets_in_clear() == ["demo.pin"]
    assert "hunter2" not in loaded.shown().model_dump_json()
    assert loaded.shown().variables["pin"] == "***"


def test_only_a_text_can_be_a_secret(library: Library, project: Path, add_config: AddConfig) -> None:
    (project / "overlays/demo/overlay.toml").write_text(
        'name = "demo"\n[variables.count]\ntype = "integer"\n'
    )
    add_config("mine", '[[overlay]]\nname = "demo"\nvariables = { count = { secret = "X" } }\n')
    with pytest.raises(FaultsError, match="only a string can be a secret"):
        load_config(library, "mine")
    assert OverlayUse(name="x").variables == {}


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 3000000000 }}",
        "{{ name * 3000000000 }}",
        "{{ 'a' | center(2000000000) }}",
        "{{ 'x' | indent(2000000000, true) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:>2000000000}'.format(1) }}",
        "{% set many = ['a' * 1000000] * 1000 %}{{ many | join }}",
    ],
)
def test_a_template_takes_no_more_memory_than_it_may(text: str) -> None:
    # what grows piece by piece can be out of time before: jinja2 writes constants out as text
    bounds = r"^here/x\.j2: rendering it takes more than (128 MiB of memory|2 s of processor time)"
    with pytest.raises(OverlayError, match=bounds):
        render(Path("here/x.j2"), text.encode(), {"name": "n"})


def test_a_template_gives_no_more_than_it_may() -> None:
    with pytest.raises(OverlayError, match=r"rendering it gives more than 8 MiB"):
        render(Path("x.j2"), b"{{ 'a' * 9000000 }}", {})
    with pytest.raises(OverlayError, match=r"a template has at most 1 MiB"):
        render(Path("x.j2"), b"a" * (1 << 21), {})


def test_a_template_takes_no_more_time_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "confined", partial(confined, seconds=1))
    loops = b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(OverlayError, match=r"^x\.j2: rendering it takes more than 1 s of processor time"):
        render(Path("x.j2"), loops, {})


def test_an_overlay_of_more_than_a_root_file_system_takes(project: Path) -> None:
    folder = project / "overlays/odd"
    (folder / "files/etc").mkdir(parents=True)
    (folder / "overlay.toml").write_text('description = "odd"\n')
    with (folder / "files/etc/sparse").open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(OverlayError, match=r"odd/files/etc/sparse its files have 3221225472 bytes"):
        load_overlay(Library(project), "odd")


def test_a_secret_that_is_no_text(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD", os.fsdecode(b"\xff\xfe"))
    with pytest.raises(SecretError, match="the secret 'ODD' is not UTF-8 text"):
        find_secret(project, "ODD", Variable())
    monkeypatch.delenv("ODD")
    secrets = project / "secrets.toml"
    secrets.write_text('ODD = { command = ["printf", "\\\\377"] }\n')
    with pytest.raises(SecretError, match="the secret 'ODD' is not UTF-8 text"):
        find_secret(project, "ODD", Variable())
    secrets.write_bytes(b'ODD = "\xff"\n')
    with pytest.raises(FaultsError, match=r"secrets\.toml:1: is not UTF-8 text"):
        find_secret(project, "ODD", Variable())
    secrets.unlink()
    os.mkfifo(secrets)
    with pytest.raises(FaultsError, match=r"secrets\.toml: is a pipe, where a file is expected"):
        find_secret(project, "ODD", Variable())


@pytest.mark.parametrize(
    ("given", "zone", "rule"),
    [
        ({}, "UTC", "UTC0"),
        ({"zonename": "Europe/Lisbon"}, "Europe/Lisbon", "WET0WEST,M3.5.0/1,M10.5.0"),
        ({"timezone": "CET-1"}, "''", "CET-1"),
        ({"zonename": "Europe/Lisbon", "timezone": "CET-1"}, "Europe/Lisbon", "CET-1"),
    ],
)
def test_a_zone_brings_its_rule(given: dict[str, str], zone: str, rule: str) -> None:
    overlay, folder = load_overlay(SHIPPED, "base")
    assert not list(overlay.problems(OverlayUse(name="base", variables=given)))
    values = LoadedOverlay(overlay, folder, OverlayUse(name="base", variables=given)).values(folder)
    text = content(overlay_tree(overlay, folder, values).tree["/etc/uci-defaults/10-base"]).decode()
    assert f"zonename={zone}\n" in text
    assert f"timezone={rule}\n" in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("zonename", "Europe/Lisbn"),
        ("timezone", "Europe/Lisbon"),
        ("timezone", "CET"),
        ("timezone", "CET-1CEST"),
    ],
)
def test_a_zone_that_is_none_is_refused(variable: str, value: str) -> None:
    overlay, _ = load_overlay(SHIPPED, "base")
    ((name, problem),) = overlay.problems(OverlayUse(name="base", variables={variable: value}))
    assert name == variable
    assert value in problem


@pytest.mark.parametrize("name", ["wifi-client", "wifi-ap"])
@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("ssid", "x" * 32, None),
        ("ssid", "\u00fc" * 16, None),
        ("ssid", "\u00fc" * 17, "has more than 32 bytes"),
        ("ssid", "", "does not match"),
        ("key", "12345678", None),
        ("key", "\u00fc" * 31, None),
        ("key", "x" * 63, None),
        ("key", "0aF" * 21 + "0", None),
        ("key", "x" * 64, "does not match"),
        ("key", "0" * 65, "has more than 64 bytes"),
        ("key", "1234567", "does not match"),
        ("key", "s:abcde", None),
        ("key", "", None),  # encryption = "none"
    ],
)
def test_names_and_keys_of_networks(name: str, variable: str, value: str, problem: str | None) -> None:
    """IEEE 802.11-2020, 9.4.2.2 (an SSID has 32 octets) and J.4.1 (a passphrase has 8 to 63 characters)."""
    found = load_overlay(SHIPPED, name)[0].variables[variable].problem(value)
    assert (problem or "") in (found or "")
    assert (found is None) == (problem is None)
    assert variable == "ssid" or value == "" or value not in (found or "")
