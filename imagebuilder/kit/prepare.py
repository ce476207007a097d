"""Making the kit: once for each recipe, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import imagebuilder
from imagebuilder.host.architecture import require_x86_64
from imagebuilder.host.cache import Cache, OfflineError
from imagebuilder.host.fs import disk_errors_explained, require_room
from imagebuilder.host.handover import alone, remove_abandoned, remove_whole, replace_folder, temporary_folder
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.kit import layout
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.materials import Materials, gather
from imagebuilder.kit.packages import python_packages, system_packages
from imagebuilder.kit.recipe import HERE, recipe
from imagebuilder.kit.tree import (
    fix_modes,
    make_boot_parts,
    write_description,
    write_kit_manifest,
    write_makefile,
    write_packages,
)
from imagebuilder.log import Log
from imagebuilder.model.edition import Edition
from imagebuilder.python.catalogue.catalogue import load_catalogue

ROOTFS_PARTITION_BYTES = 48 << 20
BLOCK_BYTES = 256 << 10
# zstd where OpenWrt takes xz: eight times as fast to pack, and faster to read under emulation
COMPRESSOR = ("zstd", "-Xcompression-level", "9")
UNUSED_SECONDS = 7 * 86400.0
NEEDED_BYTES = 400 << 20  # measured while one is made: 315 MiB in all, of which 91 stay
_PACKAGE = Path(imagebuilder.__file__).parent
# the rooms that a kit's content depends on besides imagebuilder/kit itself; the tests hold them against what
# the kit's modules import
CODE = ("model", "packages", "python/bytecode", "python/catalogue", "rootfs")


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        inside = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if not inside:
            raise FileNotFoundError(f"{folder} is not there, and a kit is made with it")
        yield from (path for path in inside if "__pycache__" not in path.parts)


def recipe_digest(edition: Edition) -> str:
    """SHA-256 in hex over the edition, the code, the data and the guest files that a kit is made with."""
    whole = hashlib.sha256(repr(edition).encode())
    for path in _files([HERE, *(_PACKAGE / name for name in CODE)]):
        whole.update(f"{path.relative_to(_PACKAGE)}\0{path.stat().st_size}\0".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def _key(recipe_hash: str) -> str:
    """What names a kit's folder: its recipe, and what its Makefile calls."""
    return hashlib.sha256(f"{recipe_hash}\0{sys.executable}\0{_PACKAGE}".encode()).hexdigest()[:16]


def _content_digest(recipe_hash: str, debs: Sequence[Deb]) -> str:
    """What a kit is: its recipe and the Debian packages in it, by their hashes."""
    lines = [recipe_hash, *(f"{deb.name} {deb.version} {deb.sha256}" for deb in debs)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _config(materials: Materials, code: str) -> layout.TreeConfig:
    return layout.TreeConfig(
        distribution=layout.DISTRIBUTION,
        version=materials.edition.release,
        version_code=code,
        target=f"{layout.BOARD}/{layout.SUBTARGET}",
        architecture=layout.ARCHITECTURE,
        kernel_version=materials.kernel.release,
        default_packages=materials.recipe.default,
        rootfs_partition=ROOTFS_PARTITION_BYTES,
        block_size=BLOCK_BYTES,
        compressor=COMPRESSOR,
        source_date_epoch=materials.epoch,
    )


def _make(materials: Materials, tree: Path, code: str, log: Log) -> layout.TreeConfig:
    """Make the tree. code: the version code of its images."""
    config = _config(materials, code)
    contents = [
        *system_packages(materials, code),
        *python_packages(materials, load_catalogue(materials.edition.series), log),
    ]
    log.progress(f"writing {len(contents)} packages")
    write_packages(contents, tree, epoch=materials.epoch, jobs=os.cpu_count() or 1)
    log.progress("making the boot partition")
    make_boot_parts(materials, tree / layout.LINUX_DIR)
    write_description(tree, config)
    write_makefile(tree)
    return config


def _remove_unused(kits: Path, kept: Path) -> None:
    """Remove kits that nobody used for a week."""
    oldest = time.time() - UNUSED_SECONDS
    for kit in kits.iterdir():
        manifest, mark = kit / layout.MANIFEST_OF_KIT, _mark(kit)
        if kit != kept and manifest.is_file():
            used = (mark if mark.is_file() else manifest).stat().st_mtime
            if used < oldest:
                mark.unlink(missing_ok=True)
                remove_whole(kit)


def _mark(kit: Path) -> Path:
    """The file that says when a kit was last used. It is beside the kit: a build that finds its tree changed
    at its end says so, and another that takes the same kit meanwhile changes nothing in it."""
    return kit.with_name(f".{kit.name}.used")


def _place(cache: Path, recipe_hash: str) -> Path:
    return cache / "kits" / _key(recipe_hash)


def check_kit(edition: Edition, cache: Path) -> None:
    """HostError where an edition's kit cannot be made here, or used: on a machine that runs no x86-64
    programs, in a cache that cannot be written to, or without the room to make it. Nothing is fetched."""
    require_x86_64("the embedded kit")
    ready_cache(cache)
    if not (_place(cache, recipe_digest(edition)) / layout.MANIFEST_OF_KIT).is_file():
        require_room(cache, NEEDED_BYTES, "the embedded kit")


def prepare_kit(
    edition: Edition, cache: Path, log: Log, *, fresh: bool = False, offline: bool = False
) -> Path:
    """The folder of a ready ImageBuilder tree, made if it is not there yet. Nothing may write to it: builds
    work on a private view.

    cache: the user's cache folder (host.fs.user_cache()); the tree is in `kits/KEY`, Debian's packages among
    the downloads. KEY is made of the recipe (the edition, the bytes of imagebuilder/kit, of the modules and
    data that cut the packages), and of the paths of the Python and of the project that the tree's Makefile
    calls. The digest in the tree's kit.json (kit_digest()) is SHA-256 over the recipe and the name,
    version and SHA-256 of each Debian package; it is the same wherever and however the kit was made, and its
    first 12 digits are the version code of the images. A kit that is there is used as it is: newer Debian
    packages do not change it, unless `fresh` asks for them. offline: OfflineError where it would have to be
    made.

    Two processes at once are safe: one makes the kit, the other waits for it. A kit appears whole or not at
    all. Needs gpgv or apt, genimage, mtools, dosfstools and e2fsprogs. Raises HostError where one of them,
    the network or room on the disk is missing, ProgramError where one fails, and FilespecError or
    DeviationError where Debian's Python is not what the edition's file states.
    """
    require_x86_64("the embedded kit")
    recipe_hash = recipe_digest(edition)
    kits, place = cache / "kits", _place(cache, recipe_hash)

    def is_wanted() -> bool:
        return fresh or not (place / layout.MANIFEST_OF_KIT).is_file()

    if is_wanted():
        if offline:
            raise OfflineError([f"the embedded kit of Debian {edition.debian}"])
        with (
            disk_errors_explained(kits),
            alone(kits, lambda: log.note("another process is making the kit: waiting for it")),
        ):
            if is_wanted():
                _make_in_place(edition, Cache(cache), place, recipe_hash, log)
    with disk_errors_explained(kits):
        _mark(place).touch()
    return place


def _make_in_place(edition: Edition, cache: Cache, place: Path, recipe_hash: str, log: Log) -> None:
    """Make a kit beside its place and move it there, unless it is there, made of the same packages. Called
    under the lock."""
    # what speaks to servers is loaded only where one is spoken to
    from imagebuilder.kit.debian.fetch import fetch  # noqa: PLC0415

    remove_abandoned(place.parent)
    require_room(cache.folder, NEEDED_BYTES, "the embedded kit")
    files = fetch(edition, recipe(edition).debian_packages(), cache, log)
    digest = _content_digest(recipe_hash, tuple(files))
    if (place / layout.MANIFEST_OF_KIT).is_file() and kit_digest(place) == digest:
        log.note(f"Debian {edition.debian} has nothing newer than what the kit is made of")
        return
    with temporary_folder("making", place.parent) as folder:
        tree = folder / "tree"
        tree.mkdir()
        log.progress("unpacking Debian's packages")
        config = _make(gather(edition, files, folder), tree, digest[:12], log)
        write_kit_manifest(tree, edition, files, digest=digest, key=place.name, config=config)
        fix_modes(tree)
        replace_folder(tree, place)
    _remove_unused(place.parent, place)
    log.note(f"the embedded kit is ready: {place}")


def kit_digest(kit: Path) -> str:
    """The digest of a kit that prepare_kit() made: SHA-256 in hex over its recipe and its Debian packages."""
    return str(json.loads((kit / layout.MANIFEST_OF_KIT).read_text("utf-8"))["digest"])
