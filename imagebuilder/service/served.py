"""What a build server builds: the boards of its configs, each with its tree, in the words of its clients."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from imagebuilder.config.board import Board, Profile
from imagebuilder.config.model_server import ServerOptions
from imagebuilder.config.request import Request, requests, sharing
from imagebuilder.contradictions import partsize_fault
from imagebuilder.decide import Decided, Inputs, decided, entry_of
from imagebuilder.errors import UserError
from imagebuilder.log import Log
from imagebuilder.model.package import Wish
from imagebuilder.model.release import SNAPSHOT, Release
from imagebuilder.model.result import ProfileFacts
from imagebuilder.model.tree import ProfileError, Tree
from imagebuilder.packages.package_list import read_list, removed_in_vain
from imagebuilder.packages.universe import rank
from imagebuilder.service.asked import BuildRequest, RefusedRequestError
from imagebuilder.tree.profiles_json import facts_of_tree
from imagebuilder.tree.tree import settings_of

_ELSEWHERE = "this server builds"
_SHOWN = 8
# file systems in the order in which an image is chosen among those that make makes (tree.collect), by the
# settings of a tree that have make make them
_FILESYSTEMS = {
    "SQUASHFS": "squashfs",
    "UBIFS": "ubifs",
    "EXT4FS": "ext4",
    "JFFS2": "jffs2",
}


@dataclass(frozen=True)
class ServedPackages:
    """What there is for a tree. own: versions of the tree's own packages; feeds: of those of its feeds; by
    names without the ABI version that ends them, which is how clients know them. plain: those names, of
    packages that are called otherwise. names: all that can be asked for. versions: those that there are, by
    either name."""

    own: Mapping[str, str]
    feeds: Mapping[str, str]
    plain: Mapping[str, str]
    names: frozenset[str]
    versions: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Served:
    """A board with its config. request: for the config's own image of it. facts: what download servers tell
    of it. filesystem: of the images that are handed over, "" where the tree does not say. basis: a digest of
    all that the config's own image is made of, see BuildRequest.number(). base: its packages' versions, by
    their names."""

    request: Request
    board: Board
    profile: Profile
    tree: Tree
    facts: ProfileFacts
    filesystem: str
    basis: str
    base: Mapping[str, str]
    packages: ServedPackages

    @property
    def version(self) -> str:
        """As clients name it: `23.05.5`, `SNAPSHOT`."""
        return "SNAPSHOT" if self.tree.version == SNAPSHOT else self.tree.version

    @property
    def key(self) -> tuple[str, str, str]:
        """What a request has to name for it."""
        return self.version, self.tree.target, self.profile.name

    @property
    def folder(self) -> str:
        """Of the release, in the layout of the download server."""
        return folder_of(self.version)

    @cached_property
    def defaults(self) -> Wish:
        """The packages that tree and profile install by default."""
        found = read_list([*self.tree.default_packages, *self.tree.profiles[self.profile.name].packages])
        return found.without(found.remove)

    def left_out(self, asked: BuildRequest) -> list[str]:
        """The packages that are to stay out of what a client asks for."""
        unnamed = [name for name in self.defaults.add if name not in asked.add] if asked.diff_packages else []
        return list(dict.fromkeys((*unnamed, *asked.remove)))

    def means(self, profile: str) -> bool:
        """Whether a client that asks for a profile, or names a device by what it calls itself, means it."""
        names = (self.profile.name, *self.profile.supported_devices)
        return profile.replace(",", "_") in {name.replace(",", "_") for name in names}


def folder_of(version: str) -> str:
    """The folder of a release on OpenWrt's server."""
    return "snapshots" if version == "SNAPSHOT" else f"releases/{version}"


def branch_of(version: str) -> str:
    """`23.05` of `23.05.5`; other names are their own branch."""
    return Release(version).series


@dataclass(frozen=True)
class ServedBoards:
    """All that is built, of two things for the same device the first. options: the project's."""

    served: tuple[Served, ...]
    options: ServerOptions

    @cached_property
    def versions(self) -> tuple[str, ...]:
        """The releases, the newest first."""
        names = {each.version: Release(each.tree.version) for each in self.served}
        return tuple(sorted(names, key=lambda name: names[name], reverse=True))

    def of_version(self, version: str) -> tuple[Served, ...]:
        """What is built of one release."""
        return tuple(each for each in self.served if each.version == version)

    def of_target(self, folder: str, target: str) -> tuple[Served, ...]:
        """What is built of one target of a release. folder: as Served.folder."""
        return tuple(each for each in self.served if (each.folder, each.tree.target) == (folder, target))

    def find(self, asked: BuildRequest) -> Served:
        """What a request is for. RefusedRequestError, naming what there is."""
        if asked.distro != "openwrt":
            raise RefusedRequestError(f"Unsupported distro: {asked.distro}")
        here = self.of_version(asked.version)
        if not here:
            raise _unsupported("version", asked.version, self.versions)
        of_target = [each for each in here if each.tree.target == asked.target]
        if not of_target:
            raise _unsupported("target", asked.target, sorted({each.tree.target for each in here}))
        # a device's own name first: another's list of devices may have it too
        exact = (each for each in of_target if each.profile.name == asked.profile)
        named = next(exact, None) or next((each for each in of_target if each.means(asked.profile)), None)
        if named is None and {each.profile.name for each in of_target} == {"generic"}:
            named = of_target[0]  # x86 and others with one profile: a device does not know its name
        if named is None:
            raise _unsupported("profile", asked.profile, [each.profile.name for each in of_target])
        return named

    def taken(self, asked: BuildRequest) -> tuple[Served, BuildRequest]:
        """What a request is for, and the request with that one's profile. RefusedRequestError for what is not
        built, or not allowed."""
        served, options = self.find(asked), self.options
        if asked.defaults and not options.defaults:
            raise RefusedRequestError("Handling `defaults` not enabled on server")
        size = len((asked.defaults or "").encode())
        if size > options.defaults_size:
            raise RefusedRequestError(
                f"`defaults` has {size} bytes, more than the {options.defaults_size} bytes that are taken"
            )
        if asked.rootfs_size_mb is not None and asked.rootfs_size_mb > options.rootfs_size:
            raise RefusedRequestError(
                f"`rootfs_size_mb` is {asked.rootfs_size_mb}, more than {options.rootfs_size}, the most here"
            )
        if asked.rootfs_size_mb is not None:
            found = partsize_fault(asked.rootfs_size_mb, served.board, served.tree)
            if found is not None:
                raise RefusedRequestError(f"`rootfs_size_mb` is {asked.rootfs_size_mb}: {found[0]}")
        for address in asked.repositories.values():
            raise RefusedRequestError(f"Repository not allowed: {address[:200]!a}")
        if asked.repository_keys:
            raise RefusedRequestError("Repository keys not allowed: packages are of this server's feeds")
        if asked.version_code and asked.version_code != served.facts.revision:
            known = served.facts.revision or "unknown"
            raise RefusedRequestError(f"Received incorrect version {known} (requested {asked.version_code})")
        if asked.filesystem and served.filesystem and asked.filesystem != served.filesystem:
            raise _unsupported("filesystem", asked.filesystem, [served.filesystem])
        self._check_packages(served, asked)
        return served, asked.model_copy(update={"profile": served.profile.name})

    def _check_packages(self, served: Served, asked: BuildRequest) -> None:
        """RefusedRequestError, 422, for names that nothing has, and versions that there are not of them; 400
        for what requests may not add, and what no image can do without."""
        both = [name for name in asked.remove if name in asked.add]
        if both:
            raise RefusedRequestError(f"Asked for and to stay out: {_some(both)}")
        unknown = [name for name in asked.add if name not in served.packages.names]
        if unknown:
            raise RefusedRequestError(f"Unknown package: {_some(unknown)}", status=422)
        for name, version in asked.versions.items():
            known = served.packages.versions.get(name, frozenset())
            if version and known and version not in known and version != served.base.get(name):
                raise RefusedRequestError(
                    f"Unknown version: {name} {version}; there is {_some(sorted(known))}", status=422
                )
        wish = Wish.of((), served.left_out(asked))
        for fixed in removed_in_vain(served.tree.release, wish):
            if not fixed.stays:
                raise RefusedRequestError(f"Package cannot stay out: {fixed.name}: {fixed.reason}")
        refused = [
            name
            for name in asked.add
            if name not in served.defaults.add and name not in served.base and not self._allows(name)
        ]
        if refused:
            raise RefusedRequestError(f"Package not allowed on this server: {_some(refused)}")

    def _allows(self, name: str) -> bool:
        def among(patterns: Sequence[str]) -> bool:
            return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

        return among(self.options.allow) and not among(self.options.deny)


def _unsupported(what: str, asked: str, there: Sequence[str]) -> RefusedRequestError:
    return RefusedRequestError(f"Unsupported {what}: {asked}; {_ELSEWHERE} {_some(there)}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def asked_of_server(
    project: Path,
    options: ServerOptions,
    configs: Sequence[str],
    *,
    board: Sequence[str] | None = None,
    imagebuilder: Sequence[str] = (),
    cache: Path | None = None,
    output: Path,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    accept_unchecked: bool = False,
) -> list[Request]:
    """The requests for the configs' own images, of each board by each tree or release. configs: in place of
    those that the options name. UserError for none."""
    named = list(configs) or list(options.configs)
    if not named:
        raise UserError(
            "nobody says what the build server builds",
            hint='name configs with --config, or in firmware.toml: [server] configs = ["router"]',
        )
    found: list[Request] = []
    for tree in imagebuilder or (None,):
        some = requests(
            project,
            named,
            board=board or None,
            imagebuilder=tree,
            output=output,
            cache=cache,
            mirrors=mirrors,
        )
        found += [replace(each, offline=offline, accept_unchecked=accept_unchecked) for each in some]
    if options.releases and not imagebuilder:
        found = [each.for_release(release) for release in options.releases for each in found]
    return sharing(found)


def load_served(asked: Sequence[Request], options: ServerOptions, log: Log) -> ServedBoards:
    """Decide each of the requests, as far as that goes without building, so that what is wrong with configs
    shows before anybody asks. asked: of asked_of_server().

    UserError for configs that hold secrets, and for a board that none of the trees builds for; what decide()
    raises.
    """
    shelves: dict[object, ServedPackages] = {}
    found: dict[tuple[str, str, str], Served] = {}
    wrong: dict[tuple[str, str], ProfileError] = {}
    right: set[tuple[str, str]] = set()
    for request in asked:
        try:
            with decided(request, log) as (inputs, known):
                served = _served(request, inputs, known, shelves)
        except ProfileError as error:
            wrong.setdefault((request.config, request.board), error)
            continue
        right.add((request.config, request.board))
        if found.setdefault(served.key, served) is not served:
            what = f"{served.board.id} of {served.version}"
            log.note(
                f"{what} is built by the config {found[served.key].request.config}, the first that has it"
            )
    for key, fault in wrong.items():
        if key not in right:
            raise fault
    return ServedBoards(tuple(found.values()), options)


def _served(
    request: Request, inputs: Inputs, known: Decided, shelves: dict[object, ServedPackages]
) -> Served:
    _check_open(request, inputs)
    tree, plan = known.job.tree, known.plan
    folder, config = Path(tree.folder), inputs.loaded.config
    shelf = (tree.folder, config.feed, config.mirror)
    if shelf not in shelves:
        shelves[shelf] = _packages(known)
    settings = settings_of(folder)
    filesystems = (name for key, name in _FILESYSTEMS.items() if settings.get(f"TARGET_ROOTFS_{key}") == "y")
    entry = entry_of(inputs, known).model_dump_json()
    return Served(
        request=request,
        board=known.board.for_profile(plan.profile),
        profile=plan.profile,
        tree=tree,
        facts=facts_of_tree(plan, inputs.board.name),
        filesystem=next(filesystems, ""),
        basis=hashlib.sha256(entry.encode()).hexdigest(),
        base={
            name: each.package.version
            for each in plan.install
            for name in (each.name, each.package.plain_name)
        },
        packages=shelves[shelf],
    )


def _check_open(request: Request, inputs: Inputs) -> None:
    """UserError for a config whose images not everybody may have."""
    secrets = [name for each in inputs.overlays for name in each.secrets()]
    if secrets:
        raise UserError(
            f"config '{request.config_name()}' holds secrets ({', '.join(secrets)}), and images of a build"
            " server are for everybody who reaches it",
            hint="serve a config without them, and set them on the device",
        )


def _packages(known: Decided) -> ServedPackages:
    offers = known.offers
    own: dict[str, str] = {}
    feeds: dict[str, str] = {}
    plain: dict[str, str] = {}
    versions: dict[str, set[str]] = {}
    for package in sorted((*offers.given, *offers.packages), key=rank):  # the newest comes last
        name = package.plain_name
        (feeds if package.feed else own)[name] = package.version
        for each in {name, package.name}:
            versions.setdefault(each, set()).add(package.version)
        if name != package.name:
            plain[package.name] = name
    names = frozenset((*offers.universe.names, *own, *feeds))
    return ServedPackages(own, feeds, plain, names, {name: frozenset(versions[name]) for name in versions})
