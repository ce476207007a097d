"""The tree's own check of host programs, which asks for what no image needs.

ImageBuilders come with the check of the whole build system: a C compiler, ncurses, git, and the Pythons that
were there when the series began. 17.01 to 19.07 want Python 2, which current distributions no longer have;
21.02 knows Pythons up to 3.10 only, and wants distutils; forks want more (OCaml, Go, texinfo). Making images
takes none of that; what it does take is checked by host/tools.py. Without the check a build is some seconds
faster, too. Source: include/prereq-build.mk, `.prereq-build` in the ImageBuilder's Makefile; links to host
programs, which the check also makes, stand in for PATH only.
"""

from __future__ import annotations

from pathlib import Path

from imagebuilder.host.sandbox import PrivateView

_CHECK = Path("include/prereq-build.mk")
_PASSED = Path("staging_dir/host/.prereq-build")
_MORE = Path("include/prepare.mk")  # from 22.03 on the goal does that too, where a tree has it


def pass_host_check(tree: Path, view: PrivateView) -> bool:
    """Mark the check as passed in the view, if the tree has one that make would run; whether it did."""
    check, passed = tree / _CHECK, tree / _PASSED
    if not check.is_file() or (tree / _MORE).exists():
        return False
    if passed.exists() and passed.stat().st_mtime >= check.stat().st_mtime:
        return False
    stamp = view.changed / _PASSED
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    return True
