"""The embedded kit: a small, honest ImageBuilder, made on the user's machine from Debian packages."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.log import Log
from imagebuilder.model.edition import Edition


def check_kit(edition: Edition, cache: Path) -> None:
    """HostError where an edition's kit cannot be made here, or used: on a machine that runs no x86-64
    programs, in a cache that cannot be written to, or without the room to make it. Nothing is fetched."""
    from imagebuilder.kit.prepare import check_possible  # noqa: PLC0415 - as below

    check_possible(edition, cache)


def prepare_kit(
    edition: Edition, cache: Path, log: Log, *, fresh: bool = False, offline: bool = False
) -> Path:
    """The folder of a ready ImageBuilder tree, made if it is not there yet. Nothing may write to it: builds
    work on a private view.

    cache: the user's cache folder (host.fs.user_cache()); the tree is in `kits/KEY`, Debian's packages among
    the downloads. KEY is made of the recipe (the edition, the bytes of imagebuilder/kit, of the modules and
    data that cut the packages), and of the paths of the Python and of the project that the tree's Makefile
    calls. The digest in the tree's kit.json (prepare.kit_digest()) is SHA-256 over the recipe and the name,
    version and SHA-256 of each Debian package; it is the same wherever and however the kit was made, and its
    first 12 digits are the version code of the images. A kit that is there is used as it is: newer Debian
    packages do not change it, unless `fresh` asks for them. offline: OfflineError where it would have to be
    made.

    Two processes at once are safe: one makes the kit, the other waits for it. A kit appears whole or not at
    all. Needs gpgv or apt, genimage, mtools, dosfstools and e2fsprogs. Raises HostError where one of them,
    the network or room on the disk is missing, ProgramError where one fails, and FilespecError or
    DeviationError where Debian's Python is not what the edition's file states.
    """
    from imagebuilder.kit.prepare import prepare  # noqa: PLC0415 - the tree's make needs none of it

    return prepare(edition, cache, log, fresh=fresh, offline=offline)
