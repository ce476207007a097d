"""All files of overlays reach every tree's image, those at the top whose names begin with a dot too."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.host.run import run
from imagebuilder.tree.make import files_variable

# as trees of 17.01 and of later releases copy them: both expand names, one by make and by the shell
BY_PATTERN = """\
image:
\t@$(MAKE) -s copy USER_FILES="$(FILES)"
copy:
\t@for place in $(sort $(foreach each,$(wildcard $(USER_FILES)/*),$(dir $(each)))); do \\
\t\ttest -d "$$place" || exit 1; done
\t@cp -fpR $(USER_FILES)/* $(INTO)/
"""
WHOLE = """\
image:
\t@$(MAKE) -s copy USER_FILES="$(FILES)"
copy:
\t@cp -fpR $(USER_FILES)/. $(INTO)/
"""


@pytest.mark.parametrize("makefile", [BY_PATTERN, WHOLE], ids=["by pattern", "whole"])
@pytest.mark.parametrize(
    "names",
    [
        ["etc/plain"],
        [".marker", "etc/plain"],
        [".marker"],
        ["..odd", ".one", ".two words/in", "three words"],
        [".config/deep/.hidden"],
    ],
    ids=lambda names: names[0],
)
def test_every_file_is_copied(tmp_path: Path, makefile: str, names: list[str]) -> None:
    files, into = tmp_path / "files", tmp_path / "root"
    into.mkdir()
    (into / "etc").mkdir()
    for name in names:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(name)
    (tmp_path / "Makefile").write_text(makefile)
    variable = files_variable(makefile, files, files)
    run(["make", "image", f"FILES={variable}", f"INTO={into}"], cwd=tmp_path)
    there = {str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()}
    assert there == set(names)
