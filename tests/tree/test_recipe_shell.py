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
    hooks.write_text(shell_text(tree, tree))
    after = run(["make", "-s"], cwd=tree, env=clean_environment(MAKEFILES=str(hooks))).stdout.splitlines()
    assert after == [f"{bash} {bash}"] * 2


@pytest.mark.parametrize("rules", ["export SHELL:=/bin/sh\n", "# SHELL:=/usr/bin/env bash\n", ""])
def test_another_shell_stays(tmp_path: Path, rules: str) -> None:
    assert shell_text(write_tree(tmp_path, rules), tmp_path) == ""


def test_a_tree_without_rules_has_no_shell_of_its_own(tmp_path: Path) -> None:
    assert shell_text(tmp_path, tmp_path) == ""


def test_the_bash_that_the_host_check_has_linked_is_named(tmp_path: Path) -> None:
    """A tree that was used has it, first in the PATH of rules.mk."""
    rules = f"{AS_OPENWRT}export PATH:=$(CURDIR)/staging_dir/host/bin:$(PATH)\n"
    tree, hooks = write_tree(tmp_path, rules), tmp_path / "hooks.mk"
    bash = tree / "staging_dir/host/bin/bash"
    bash.parent.mkdir(parents=True)
    bash.symlink_to(find_program("bash"))
    before = run(["make", "-s"], cwd=tree).stdout.splitlines()
    assert before == [f"/usr/bin/env bash {bash}"] * 2
    hooks.write_text(shell_text(tree, tree))
    after = run(["make", "-s"], cwd=tree, env=clean_environment(MAKEFILES=str(hooks))).stdout.splitlines()
    assert after == [f"{bash} {bash}"] * 2
    assert (
        shell_text(tree, Path("/builder/tree"))
        == "override SHELL := /builder/tree/staging_dir/host/bin/bash\n"
    )


def test_of_a_bash_of_a_toolchain_nothing_is_said(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, AS_OPENWRT)
    folder = tree / "staging_dir/toolchain-mips_24kc_gcc-5.4.0_musl-1.1.16/bin"
    folder.mkdir(parents=True)
    (folder / "bash").symlink_to("/bin/bash")
    assert shell_text(tree, tree) == ""


def test_of_a_bash_that_does_not_run_nothing_is_said(tmp_path: Path) -> None:
    """Such as a link to a host that had its own elsewhere: env passes it by."""
    tree = write_tree(tmp_path, AS_OPENWRT)
    folder = tree / "staging_dir/host/bin"
    folder.mkdir(parents=True)
    (folder / "bash").symlink_to("/opt/no/such/bash")
    assert shell_text(tree, tree) == ""
    (folder / "bash").unlink()
    (folder / "bash").write_text("/bin/bash")  # a link that was lost on the way
    assert shell_text(tree, tree) == ""
