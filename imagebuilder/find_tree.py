"""The ImageBuilder for an image: given, the kit, or a release that is fetched and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.board import Board
from imagebuilder.config.model_config import Config
from imagebuilder.config.request import Request
from imagebuilder.host.fs import expand_home, sha256_of
from imagebuilder.host.tools import Use, require
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.tree import TreeError
from imagebuilder.server.archive import given_tree
from imagebuilder.tree.tree import check_tree
from imagebuilder.trust.tree_identity import tree_identity

if TYPE_CHECKING:
    from imagebuilder.server.obtain import Obtained


AS_GIVEN = "a local tree, as given"


@dataclass(frozen=True)
class TreeSource:
    """The ImageBuilder, where it is from, and why it is trusted. sha256: of its archive, or of what the kit
    is made of and by, which does not say where it was made; "" where it was given as a folder. local: whether
    `given` is a path of this machine."""

    folder: Path
    given: str
    trust: str
    sha256: str = ""
    local: bool = False

    @property
    def told(self) -> str:
        """`given` for everybody's eyes: of a path its last name; the others tell whose machine it is."""
        return expand_home(self.given).absolute().name if self.local else self.given


def _uses(request: Request, tree: Use) -> tuple[Use, ...]:
    """What a build with a tree of this kind takes of the host. All that lacks is named at once."""
    return ("build", "sandbox", tree) if request.sandbox else ("build", tree)


def find_tree(request: Request, config: Config, board: Board, log: Log) -> TreeSource:
    """The tree to build with, which requests of one command that want the same share. TreeError if the config
    names none; what obtain_tree() and prepare_kit() raise."""
    given = request.tree_given(config)
    if given is not None and "://" in given:
        require(_uses(request, "genuine"))
        key = (given, config.trust, request.trusted_keys(config))
        return request.shared.get(
            "tree at an address", key, lambda log: _fetched(given, request, config, log), log
        )
    if given is not None:
        trust = request.shared.get(
            "trust in a tree", (given, config.trust), lambda log: _local_trust(given, config, log), log
        )
        folder = request.shared.get("given tree", given, lambda log: _given(given, request.cache, log), log)
        require(_uses(request, "genuine"))
        return TreeSource(folder, given, trust, local=True)
    edition = EDITIONS.get(config.release or "")
    if edition is not None:
        from imagebuilder.kit.prepare import kit_digest, prepare_kit  # noqa: PLC0415 - it takes a while to load

        require(_uses(request, "kit"))
        kit = request.shared.get(
            "kit",
            edition,
            lambda log: prepare_kit(edition, request.cache, log, offline=request.offline),
            log,
        )
        trust = f"made here from the packages of Debian {edition.debian}"
        return TreeSource(kit, edition.release, trust, kit_digest(kit))
    if config.release is None:
        raise TreeError(
            f"config '{config.name}' names no release, and no ImageBuilder was given",
            hint='give one with --imagebuilder PATH, or say release = "24.10", or "embedded" for the kit',
        )
    require(_uses(request, "genuine"))
    # what speaks to servers is loaded only where one is spoken to: it takes a fifth of a second
    from imagebuilder.host.cache import Cache  # noqa: PLC0415
    from imagebuilder.server.mirror import parse_mirrors  # noqa: PLC0415
    from imagebuilder.server.obtain import obtain_tree  # noqa: PLC0415

    obtained = obtain_tree(
        board,
        config.release,
        parse_mirrors(request.mirror_places(config)),
        Cache(request.cache),
        offline=request.offline,
        trust=config.trust,
        user_keys=request.trusted_keys(config),
        log=log,
        once=request.shared,
    )
    return _source(obtained)


def _local_trust(given: str, config: Config, log: Log) -> str:
    """Why a folder or an archive of this machine is trusted. TreeError for an archive that is not the one of
    the config's `trust`; of a folder nobody can tell."""
    path = expand_home(given)
    if config.trust is None or not path.exists():
        return AS_GIVEN
    if not path.is_file():
        log.warn(f"trust is of an archive, and {given} is a folder: it is taken as given")
        return AS_GIVEN
    found = f"sha256:{sha256_of(path)}"
    if found != config.trust:
        raise TreeError(
            f"{given} is {found}, and config '{config.name}' trusts {config.trust} alone",
            hint="give that archive, or leave `trust` out of the config",
        )
    return "its SHA-256 is the one that the config trusts"


def _given(given: str, cache: Path, log: Log) -> Path:
    folder = given_tree(given, cache, log)
    check_tree(folder)
    return folder


def _fetched(address: str, request: Request, config: Config, log: Log) -> TreeSource:
    """The tree of an archive at an address, verified."""
    from imagebuilder.host.cache import Cache  # noqa: PLC0415
    from imagebuilder.server.obtain import obtain_archive  # noqa: PLC0415

    obtained = obtain_archive(
        address,
        Cache(request.cache),
        offline=request.offline,
        trust=config.trust,
        user_keys=request.trusted_keys(config),
        log=log,
    )
    return _source(obtained)


def _source(obtained: Obtained) -> TreeSource:
    given = f"{obtained.archive} from {obtained.source}"
    return TreeSource(obtained.folder, given, obtained.trust.text, obtained.sha256)


def tree_digest(source: TreeSource, cache: Path) -> str:
    """The SHA-256, in hex, of the tree's archive, of the kit's recipe and packages (kit_digest()) or, of a
    folder, over all that is in it (tree_identity()). TreeError for what cannot be read."""
    if source.sha256:
        return source.sha256
    try:
        return tree_identity(source.folder, cache, readable_only=False)
    except OSError as error:
        raise TreeError(
            f"the tree {source.folder} cannot be read: {error.filename}: {error.strerror}",
            hint="a lock is over all of it: give yourself the right to read it",
        ) from error
