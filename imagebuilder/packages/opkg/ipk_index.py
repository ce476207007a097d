"""The index of a folder of .ipk files, from the files themselves: what ipkg-make-index.sh writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagebuilder.host.fs import sha256_of
from imagebuilder.model.control import format_fields
from imagebuilder.packages.opkg.ipk import PackageFileError
from imagebuilder.packages.opkg.ipk_reader import read_control


def index_of(folder: Path, files: Sequence[Path]) -> str:
    """`Packages`: each file's control fields as they stand, with Filename (relative to the folder), Size and
    SHA256sum before the description. A file that is no package has a paragraph without a name, as in
    OpenWrt's own indexes: opkg passes over it, and who reads it is told which file it is."""
    paragraphs = []
    for file in files:
        fields = _control(file)
        described = {"Description": fields.pop("Description")} if "Description" in fields else {}
        fields |= {
            "Filename": str(file.relative_to(folder)),
            "Size": str(file.stat().st_size),
            "SHA256sum": sha256_of(file),
        }
        paragraphs.append(format_fields(fields | described))
    return "".join(f"{paragraph}\n" for paragraph in paragraphs)


def _control(file: Path) -> dict[str, str]:
    try:
        return dict(read_control(file).fields)
    except PackageFileError:
        return {}
