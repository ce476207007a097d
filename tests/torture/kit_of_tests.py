"""A kit that takes no package of Debian's and no minute: how it is made is real, what is made is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imagebuilder.host.cache import Cache
from imagebuilder.kit import layout, prepare
from imagebuilder.kit.debian import fetch
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS

EDITION = EDITIONS["embedded"]


def make_kit(cache: Path, version: str) -> Path:
    """Make the kit anew, of one package of this version, as `demo --fresh` does; its folder."""

    def fetched(_edition: object, _names: object, kept: Cache, _log: Log) -> dict[Deb, Path]:
        content = f"package {version}".encode()
        sha256 = kept.add(content)
        deb = Deb("made-up", version, sha256, len(content), "made-up.deb")
        return {deb: kept.blob(sha256)}

    def made(_materials: object, tree: Path, code: str, _log: Log) -> Any:
        (tree / "packages").mkdir()
        for number in range(4):
            (tree / f"packages/made-up-{number}_{version}.ipk").write_text(f"{code} {number}\n" * 1000)
        (tree / "Makefile").write_text("all:\n")
        return layout.TreeConfig(
            distribution=layout.DISTRIBUTION,
            version=version,
            version_code=code,
            target="x86/64",
            architecture="x86_64",
            kernel_version="6.1",
            default_packages=(),
            rootfs_partition=1,
            block_size=1,
            compressor=(),
            source_date_epoch=0,
        )

    setattr(fetch, "fetch", fetched)  # noqa: B010 - one process is given to this
    setattr(prepare, "NEEDED_BYTES", 0)  # noqa: B010
    setattr(prepare, "gather", lambda *_: None)  # noqa: B010
    setattr(prepare, "_make", made)  # noqa: B010
    return prepare.prepare_kit(EDITION, cache, Log(), fresh=True)
