"""A new project: what somebody needs to begin, each file small and meant to be changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from imagebuilder import __version__
from imagebuilder.called import COMMAND, COMMANDS
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.places import OUTPUT, PROJECT_FILE, SECRETS, shipped_folder
from imagebuilder.errors import UserError
from imagebuilder.host.handover import write_new
from imagebuilder.model.release import EMBEDDED

CONFIG = "home"
_IGNORED = (SECRETS, f"{OUTPUT}/", "server/")  # the last one is where a build server keeps what it has
_PROJECT = f"""\
# What is common to all configs of this project. `{COMMAND} schema project` says what can stand here.

# release = "24.10"             # for configs that name none
# output  = "../results"        # in place of {OUTPUT}/
"""
_APP = """\
\"\"\"A program of your own: on the device `hello` starts it.\"\"\"

import sys


def main():
    print("hello from Python", sys.version.split()[0])


if __name__ == "__main__":
    main()
"""
_IGNORE = "".join(f"/{name}\n" for name in _IGNORED)
_WORKFLOW = f"""\
# Builds every night what the configs ask for, so that a release or a package that breaks it is seen.
name: nightly
on:
  schedule:
    - cron: "17 3 * * *"
  workflow_dispatch:
permissions:
  contents: read
jobs:
  trees:                          # which boards are built with one tree: a job for each
    runs-on: ubuntu-22.04
    outputs:
      matrix: ${{{{ steps.matrix.outputs.matrix }}}}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.13"
      - run: pipx install {COMMANDS[-1]}=={__version__}
      - id: matrix
        run: |
          matrix=$({COMMAND} matrix --all --format github)
          echo "matrix=$matrix" >> "$GITHUB_OUTPUT"
  build:
    needs: trees
    strategy:
      fail-fast: false
      matrix: ${{{{ fromJSON(needs.trees.outputs.matrix) }}}}
    runs-on: ubuntu-22.04         # later ones keep ordinary users from the sandbox's namespaces
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.13"
      - uses: actions/cache@v4    # downloads, trees and kits
        with:
          path: ~/.cache/openwrt-python-imagebuilder
          key: cache-${{{{ matrix.key }}}}-${{{{ github.run_id }}}}
          restore-keys: cache-${{{{ matrix.key }}}}-
      - run: pipx install {COMMANDS[-1]}=={__version__}
      - run: sudo "$(command -v {COMMAND})" doctor --fix
      - run: |                    # xargs reads the quotes of what `matrix` wrote, and expands nothing
          printf %s "$ARGUMENTS" |
            xargs {COMMAND} build -j auto --summary "$GITHUB_STEP_SUMMARY" --junit {OUTPUT}/junit.xml
        env:
          ARGUMENTS: ${{{{ matrix.arguments }}}}
          # WIFI_KEY: ${{{{ secrets.WIFI_KEY }}}}   # secrets that configs name
      - uses: actions/upload-artifact@v4
        if: always()              # what was built, also where a board failed
        with:
          name: images-${{{{ matrix.key }}}}
          path: {OUTPUT}/
"""
_README = f"""\
# Firmware for OpenWrt devices

    {COMMAND} plan {CONFIG}        what goes in, and whether it fits
    {COMMAND} build {CONFIG}       the images, in {OUTPUT}/
    {COMMAND} init NAME        a further config, from a few questions
    {COMMAND} import FILE      a config from a script that calls ImageBuilder's make, or a list of packages
    {COMMAND} boards           the devices; `boards add` takes one from an ImageBuilder

`configs/` says what each firmware holds, `apps/` has programs, `{PROJECT_FILE}` what is common to all.
Secrets stand in `{SECRETS}` or in the environment, and never in git.
"""


@dataclass(frozen=True)
class NewProject:
    """What was written, by the paths from the folder on, and what was there already and stays as it is.
    ignore: lines that its .gitignore lacks."""

    folder: Path
    written: tuple[str, ...]
    kept: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


def new_project(folder: Path, board: str) -> NewProject:
    """Make a project in a folder, which need not be there; what lies in it stays. board: whose config is
    written. UserError where the folder is a project already, or there is no such board."""
    if os.path.lexists(folder / PROJECT_FILE):
        raise UserError(f"{folder} is a project already", hint=f"it has {PROJECT_FILE}")
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder} is no folder", hint="name one, or one that is not there yet")
    files = _files(board)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[str] = []
    kept: list[str] = []
    for name, text in files.items():
        try:
            write_new(folder / name, text.encode())
        except FileExistsError:
            kept.append(name)
        else:
            written.append(name)
    if f"configs/{CONFIG}.toml" in written:
        load_config(Library(folder), CONFIG, board)
    return NewProject(folder, tuple(written), tuple(kept), _not_ignored(folder / ".gitignore"))


def _files(board: str) -> Mapping[str, str]:
    """The project's files, the one that marks it last: until then a further try goes on."""
    return {
        ".gitignore": _IGNORE,
        "README.md": _README,
        "apps/hello.py": _APP,
        ".github/workflows/nightly.yml": _WORKFLOW,
        f"configs/{CONFIG}.toml": _config(board),
        PROJECT_FILE: _PROJECT,
    }


def _config(board: str) -> str:
    embedded = bool(Library(shipped_folder()).board(board).profiles_for(EMBEDDED))
    values = {
        "extends": "base",
        "description": "The first firmware of this project",
        "boards": [board],
        **({"release": EMBEDDED} if embedded else {}),
        "python": {"variant": "light", "apps": ["apps/hello.py"]},
        "overlay": [{"name": "base", "variables": {"hostname": CONFIG}}],
    }
    head = f"# What one firmware holds; `{COMMAND} show {CONFIG}` prints it with all that it extends.\n\n"
    return head + tomlkit.dumps(values)


def _not_ignored(path: Path) -> tuple[str, ...]:
    lines = {line.strip().strip("/") for line in path.read_text("utf-8", "replace").splitlines()}
    return tuple(name for name in _IGNORED if name.strip("/") not in lines)
