"""The shell of recipes: this machine's bash at once, where env would find that anew for each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.host.run import clean_environment, find_program, run
from imagebuilder.tree.make import shell_text

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
    hooks.write_text(shell_text(tree))
    after = run(["make", "-s"], cwd=tree, env=clean_environment(MAKEFILES=str(hooks))).stdout.splitlines()
    assert after == [f"{bash} {bash}"] * 2


@pytest.mark.parametrize("rules", ["export SHELL:=/bin/sh\n", "# SHELL:=/usr/bin/env bash\n", ""])
def test_another_shell_stays(tmp_path: Path, rules: str) -> None:
    assert shell_text(write_tree(tmp_path, rules)) == ""


def test_a_tree_without_rules_has_no_shell_of_its_own(tmp_path: Path) -> None:
    assert shell_text(tmp_path) == ""


@pytest.mark.parametrize("place", ["host", "toolchain-mips_24kc_gcc-5.4.0_musl-1.1.16"])
def test_a_bash_of_the_tree_is_found_as_before(tmp_path: Path, place: str) -> None:
    tree = write_tree(tmp_path, AS_OPENWRT)
    folder = tree / "staging_dir" / place / "bin"
    folder.mkdir(parents=True)
    (folder / "bash").symlink_to("/bin/bash")
    assert shell_text(tree) == ""
