"""The files that stand beside the images: result.json and sha256sums."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.model.result import Result


def write_result(result: Result, folder: Path) -> None:
    """`result.json`, whose JSON schema is that of model.result.Result, and `sha256sums` of the images in
    the form that sha256sum -c reads."""
    (folder / "result.json").write_text(result.model_dump_json(indent=2) + "\n")
    sums = sorted((image.file, image.sha256) for image in result.images)
    (folder / "sha256sums").write_text("".join(f"{sha256} *{file}\n" for file, sha256 in sums))
