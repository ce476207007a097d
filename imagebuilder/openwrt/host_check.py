"""The tree's own check of host programs, where it asks for what no image needs.

ImageBuilders of 17.01 to 19.07 come with the check of the whole build system: a C compiler, git and Python 2,
which current distributions no longer have. Making images takes none of that (17.01.7 tried). What it
does take is checked by host/tools.py. Source: include/prereq-build.mk, `.prereq-build` in the
ImageBuilder's Makefile; links to host programs, which the check also makes, stand in for PATH only.
"""

from __future__ import annotations

from pathlib import Path

from imagebuilder.host.sandbox import PrivateView

_CHECK = Path("include/prereq-build.mk")
_PASSED = Path("staging_dir/host/.prereq-build")
_OBSOLETE = "Please install Python 2.x"


def pass_obsolete_check(tree: Path, view: PrivateView) -> bool:
    """Mark the check as passed in the view, if it is one of those and was never passed; whether it did."""
    check = tree / _CHECK
    if (tree / _PASSED).exists() or not check.is_file():
        return False
    if _OBSOLETE not in check.read_text("utf-8", "replace"):
        return False
    stamp = view.changed / _PASSED
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    return True
