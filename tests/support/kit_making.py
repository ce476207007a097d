"""make in the kit's tree, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.run import clean_environment, run
from imagebuilder.kit.layout import ROOT_DIR

MAKE_SECONDS = 120.0


@dataclass(frozen=True)
class Made:
    """One call of make. bin_dir: its BIN_DIR; root: the root file system that it made."""

    code: int
    stdout: str
    stderr: str
    bin_dir: Path
    root: Path

    @property
    def image(self) -> Path:
        """The one image."""
        (image,) = self.bin_dir.glob("*.img")
        return image

    @property
    def manifest(self) -> dict[str, str]:
        """The manifest file, names to versions."""
        (manifest,) = self.bin_dir.glob("*.manifest")
        return manifest_of(manifest.read_text())


def manifest_of(text: str) -> dict[str, str]:
    """`name - version` lines as names to versions."""
    return dict(line.split(" - ") for line in text.splitlines())


def call_make(tree: Path, target: str, bin_dir: Path, **variables: str) -> Made:
    """Call make in a tree, with BIN_DIR and these variables."""
    words = [f"{name}={value}" for name, value in variables.items()]
    done = run(
        ["make", "--no-print-directory", target, f"BIN_DIR={bin_dir}", *words],
        cwd=tree,
        env=clean_environment(),
        timeout=MAKE_SECONDS,
        check=False,
    )
    return Made(done.code, done.stdout, done.stderr, bin_dir, tree / ROOT_DIR)


Make = Callable[..., Made]
