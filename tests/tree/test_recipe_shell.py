"""The shell of recipes: this machine's bash at once, where env would find that anew for each line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.run import clean_environment, find_program, run
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.log import Log
from imagebuilder.tree.recipe_shell import lay_quick_wrappers, quick_wrapper, recipe_shell, shell_text

SED = Path("staging_dir/host/bin/sed")
AS_OPENWRT = "export SHELL:=/usr/bin/env bash\n"


def write_tree(folder: Path, rules: str) -> Path:
    """A tree whose makefile says what its recipes, and those of a make below it, run in."""
    (folder / "rules.mk").write_text(rules)
    (folder / "Makefile").write_text(
        "include rules.mk\nall:\n\t@echo $(SHELL) $$BASH\n\t@env -u MAKEFLAGS $(MAKE) -s below\n"
        "below:\n\t@echo $(SHELL) $$BASH\n"
    )
    return folder


def test_recipes_run_in_the_bash_that_env_would_find(tmp_path: Path) -> None:
    tree, hooks, bash = write_tree(tmp_path, AS_OPENWRT), tmp_path / "hooks.mk", find_program("bash")
    before = run(["make", "-s"], cwd=tree).stdout.splitlines()
    assert before == [f"/usr/bin/env bash {bash}"] * 2
    hooks.write_text(shell_text(recipe_shell(tree, tree)))
    after = run(["make", "-s"], cwd=tree, env=clean_environment(MAKEFILES=str(hooks))).stdout.splitlines()
    assert after == [f"{bash} {bash}"] * 2


@pytest.mark.parametrize("rules", ["export SHELL:=/bin/sh\n", "# SHELL:=/usr/bin/env bash\n", ""])
def test_another_shell_stays(tmp_path: Path, rules: str) -> None:
    assert recipe_shell(write_tree(tmp_path, rules), tmp_path) is None


def test_a_tree_without_rules_has_no_shell_of_its_own(tmp_path: Path) -> None:
    assert recipe_shell(tmp_path, tmp_path) is None
    assert shell_text(None) == ""


def test_the_bash_that_the_host_check_has_linked_is_named(tmp_path: Path) -> None:
    """A tree that was used has it, first in the PATH of rules.mk."""
    rules = f"{AS_OPENWRT}export PATH:=$(CURDIR)/staging_dir/host/bin:$(PATH)\n"
    tree, hooks = write_tree(tmp_path, rules), tmp_path / "hooks.mk"
    bash = tree / "staging_dir/host/bin/bash"
    bash.parent.mkdir(parents=True)
    bash.symlink_to(find_program("bash"))
    before = run(["make", "-s"], cwd=tree).stdout.splitlines()
    assert before == [f"/usr/bin/env bash {bash}"] * 2
    hooks.write_text(shell_text(recipe_shell(tree, tree)))
    after = run(["make", "-s"], cwd=tree, env=clean_environment(MAKEFILES=str(hooks))).stdout.splitlines()
    assert after == [f"{bash} {bash}"] * 2
    assert (
        shell_text(recipe_shell(tree, Path("/builder/tree")))
        == "override SHELL := /builder/tree/staging_dir/host/bin/bash\n"
    )


def test_of_a_bash_of_a_toolchain_nothing_is_said(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, AS_OPENWRT)
    folder = tree / "staging_dir/toolchain-mips_24kc_gcc-5.4.0_musl-1.1.16/bin"
    folder.mkdir(parents=True)
    (folder / "bash").symlink_to("/bin/bash")
    assert recipe_shell(tree, tree) is None


def test_of_a_bash_that_does_not_run_nothing_is_said(tmp_path: Path) -> None:
    """Such as a link to a host that had its own elsewhere: env passes it by."""
    tree = write_tree(tmp_path, AS_OPENWRT)
    folder = tree / "staging_dir/host/bin"
    folder.mkdir(parents=True)
    (folder / "bash").symlink_to("/opt/no/such/bash")
    assert recipe_shell(tree, tree) is None
    (folder / "bash").unlink()
    (folder / "bash").write_text("/bin/bash")  # a link that was lost on the way
    assert recipe_shell(tree, tree) is None


# what both forms of OpenWrt's wrappers begin with; the program behind them says what it was given
_TELLS = 'exec "$dir/../lib/tells" "$dir" "$bin" "$0" "$@"\n'
WRAPPERS = {
    "by its folder": f'#!/usr/bin/env bash\ndir="$(dirname "$0")"\nbin=none\n{_TELLS}',
    "by its name": f'#!/usr/bin/env bash\ndir="$(dirname "$0")"\nbin="$(basename "$0")"\n{_TELLS}',
}
CALLS = {
    "by its path": ["{folder}/tool", "a b", ""],
    "by PATH": ["bash", "-c", "tool x"],
    "from beside": ["bash", "-c", "cd '{folder}' && ./tool x"],
    "from below": ["bash", "-c", "cd '{folder}/sub' && ../tool x"],
    "by a bash": ["bash", "-c", "cd '{folder}' && bash tool x"],
    "by a link": ["{folder}/link", "x"],
}


def write_program(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o755)


def write_wrapped(folder: Path, text: str | bytes) -> Path:
    """A folder with a program `tool` behind a wrapper, and a link to it; what else it starts is written into
    `started` beside the folder."""
    bin_folder = folder / "bin"
    write_program(bin_folder / "tool", text)
    (bin_folder / "link").symlink_to("tool")
    (bin_folder / "sub").mkdir()
    write_program(folder / "lib/tells", '#!/bin/bash\nprintf "<%s>" "$@"\n')
    for name in ("dirname", "basename"):
        program = find_program(name)
        write_program(
            bin_folder / name, f'#!/bin/bash\necho {name} >> "{folder}/started"\nexec {program} "$@"\n'
        )
    return bin_folder


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_quick_wrapper_does_what_the_trees_does_and_starts_nothing_else(
    tmp_path: Path, wrapper: str, call: str
) -> None:
    place, said, started = tmp_path / "tree with a blank", [], []
    quick = quick_wrapper(WRAPPERS[wrapper].encode(), Path(find_program("bash")))
    assert quick is not None
    for text in (WRAPPERS[wrapper], quick):
        folder = write_wrapped(place, text)
        argv = [word.format(folder=folder) for word in CALLS[call]]
        environment = clean_environment(PATH=f"{folder}:{clean_environment()['PATH']}")
        said.append(run(argv, env=environment).stdout)
        calls = place / "started"
        started.append(calls.read_text().split() if calls.exists() else [])
        shutil.rmtree(place)
    assert said[0] == said[1]
    assert said[0].endswith(("<x>", "<a b><>"))
    assert "dirname" in started[0]
    assert started[1] == []


def test_the_bash_of_a_quick_wrapper_is_one_that_linux_can_read() -> None:
    """Its name is a word, and short; else env finds it, as before."""
    text = WRAPPERS["by its folder"].encode()
    for bash, first in (
        (Path("/bin/bash"), b"#!/bin/bash\n"),
        (None, b"#!/usr/bin/env bash\n"),
        (Path("/a tree/bin/bash"), b"#!/usr/bin/env bash\n"),
        (Path(f"/{'x' * 120}/bash"), b"#!/usr/bin/env bash\n"),
    ):
        quick = quick_wrapper(text, bash)
        assert quick is not None
        assert quick.startswith(first)
        assert b"dirname" not in quick


@given(st.binary() | st.binary().map(lambda rest: b'#!/usr/bin/env bash\ndir="$(dirname "$0")"\n' + rest))
def test_of_any_other_wrapper_nothing_is_changed(text: bytes) -> None:
    """What follows the lines that are known stays as it is."""
    head, known = b'#!/usr/bin/env bash\ndir="$(dirname "$0")"\n', b'bin="$(basename "$0")"\n'
    quick = quick_wrapper(text, Path("/bin/bash"))
    if not text.startswith(head):
        assert quick is None
        return
    assert quick is not None
    assert quick.endswith(text[len(head) :].removeprefix(known))


@pytest.mark.parametrize("kind", ["none", "a program", "a large one", "one that may only be run"])
def test_a_program_without_a_known_wrapper_is_left(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    if kind != "none":
        text = WRAPPERS["by its folder"].encode() + b"#" * 5000 if kind == "a large one" else b"\x7fELF"
        write_program(tree / SED, text)
    if kind == "one that may only be run":
        (tree / SED).chmod(0o111)
    view = PrivateView("overlay", Path("/builder/tree"), tmp_path, tmp_path / "changed")
    assert lay_quick_wrappers(tree, view, Path("/bin/bash")) == ()
    assert not view.changed.exists()


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_quick_wrapper_is_laid_into_the_view_alone(tmp_path: Path, *, sandbox: bool) -> None:
    tree, work = tmp_path / "tree", tmp_path / "work"
    write_program(tree / SED, WRAPPERS["by its folder"])
    write_program(tree / "staging_dir/host/lib/tells", '#!/bin/sh\necho "$0"\n')
    work.mkdir()
    view = open_view(tree, work, Log(), sandbox=sandbox)
    bash = Path(find_program("bash"))
    assert lay_quick_wrappers(tree, view, bash) == ("sed",)
    assert (view.changed / SED).read_bytes() == quick_wrapper((tree / SED).read_bytes(), bash)
    ended = run(view.command([str(view.tree / SED)]), env=clean_environment())
    assert ended.stdout == f"{view.tree / SED.parent}/../lib/tells\n"
    assert (tree / SED).read_text() == WRAPPERS["by its folder"]
