"""What make's manifest says of the packages that went in."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.model.result import InstalledPackage
from imagebuilder.tree.collect import BuildError, read_manifest


def _read(tmp_path: Path, text: str) -> tuple[InstalledPackage, ...]:
    (tmp_path / "openwrt.manifest").write_text(text)
    return read_manifest(tmp_path)[1]


def test_a_package_of_an_architecture_that_the_tree_adds_counts_as_installed(tmp_path: Path) -> None:
    """Seen with OpenWrt 21.02.3 and `arch arm_cortex-a9_vfpv3-d16 150` in repositories.conf."""
    assert _read(
        tmp_path,
        "Package opkg version 2021-03-15-5936c4f9-2 has no valid architecture, ignoring.\nlibc - 1.1.24-3\n",
    ) == (
        InstalledPackage(name="opkg", version="2021-03-15-5936c4f9-2"),
        InstalledPackage(name="libc", version="1.1.24-3"),
    )


@pytest.mark.parametrize(
    "line", ["opkg", "Package opkg has no valid architecture, ignoring.", "libc 1.1.24-3"]
)
def test_any_other_line_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(BuildError, match="names no package"):
        _read(tmp_path, f"libc - 1.1.24-3\n{line}\n")
