"""What a job needs of this machine, made to travel: the project, the ImageBuilder that was given, and the
values of the secrets. Files go as parcels that are known by a digest, so that a worker that has one already
is not sent it again."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomlkit

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Secret
from imagebuilder.config.overlay import Variable, find_secret, load_overlays
from imagebuilder.config.places import SECRETS
from imagebuilder.config.request import Request
from imagebuilder.errors import UserError
from imagebuilder.fleet.job import BoardJob
from imagebuilder.host.fs import disk_errors_explained, expand_home, is_inside, sha256_of
from imagebuilder.host.handover import appear, temporary_folder, write_whole
from imagebuilder.host.tar import tar_members
from imagebuilder.host.tree_kinds import HISTORY
from imagebuilder.host.tree_look import USED
from imagebuilder.host.walk import Item, walk
from imagebuilder.server.archive import check_member, extract_member
from imagebuilder.trust.tree_identity import tree_identity

PARCELS = "parcels"  # of a cache
_TREES = "trees"
_MOST_PROJECT_BYTES = 256 << 20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MOST_TEXT_BYTES = 1 << 20
_TEXTS = (".toml", ".txt", ".in")
# what a project's folder often holds that is no part of it; a virtual environment is told by its own file
_NO_PART = frozenset({HISTORY, ".hg", ".svn", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_ENVIRONMENT = "pyvenv.cfg"


class TravelError(UserError):
    """A job that cannot be given to another machine as it is."""


@dataclass(frozen=True)
class Parcel:
    """Something that travels. key: its digest in hex, by which workers know it; name: how its file ends;
    writer: writes it to a file on the machine that it comes from, and does not travel itself."""

    key: str
    name: str
    writer: Callable[[Path], None] | None = field(default=None, compare=False, repr=False)

    def write(self, place: Path) -> None:
        """Write it to a file, on the machine that it comes from."""
        if self.writer is None:
            raise LookupError(f"the parcel {self.key} has come from elsewhere")
        self.writer(place)

    def __getstate__(self) -> dict[str, object]:
        """Without what only this machine has."""
        return {**self.__dict__, "writer": None}

    def place(self, cache: Path) -> Path:
        """Where a machine that has it keeps it."""
        return cache / PARCELS / f"{self.key}{self.name}"


@dataclass(frozen=True)
class Consignment:
    """A job on its way. config: its name, or its path from the project's folder. archive: whether the tree is
    one, and not a folder. secrets: values by their names, for this job alone: nothing of them is kept."""

    job: BoardJob
    project: Parcel
    config: str
    tree: Parcel | None
    archive: bool
    secrets: dict[str, str] = field(repr=False)

    @property
    def parcels(self) -> tuple[Parcel, ...]:
        """All that travels by its digest."""
        return (self.project,) if self.tree is None else (self.project, self.tree)


def consign(job: BoardJob, packed: dict[Path, Parcel]) -> Consignment:
    """Make a job travel. packed: the parcels of trees and projects that other jobs of this command have.

    TravelError for what lies outside of the project, and so on no other machine; FaultsError for wrong files,
    SecretError for secrets that cannot be had.
    """
    request = job.request
    library = request.library.once()
    loaded = load_config(library, request.config, request.board)
    config, root = loaded.config, Path(os.path.realpath(request.library.root))
    named = _named_config(request, root)
    named_places = [
        *((f"the feed {each.name}", each.url) for each in config.feed),
        *(("the mirror", each) for each in config.mirror.urls),
        *(("the overlay", each.path) for each in config.overlay),
        ("the keys", config.mirror.keys),
    ]
    outside = [f"{what} {place}" for what, place in named_places if place and _leaves(root, library, place)]
    outside += [f"the mirror {each}" for each in request.mirrors if not _is_address(each)]
    if outside:
        raise TravelError(
            f"{', '.join(outside)}: a worker does not have what lies outside of {root}",
            hint="lay it into the project's folder, or give an address that the workers can reach",
        )
    tree = _tree(request, request.tree_given(config), packed)
    if root not in packed:
        packed[root] = pack_project(root, (request.output, request.cache, *filter(None, [_folder(tree)])))
    variables = (value for use in load_overlays(library, config) for value in use.use.variables.values())
    names = {value.secret for value in variables if isinstance(value, Secret)}
    values = {name: find_secret(request.library.root, name, Variable()) for name in sorted(names)}
    values |= _in_addresses(request.library.root, values)
    return Consignment(job, packed[root], named, tree and tree[0], bool(tree and tree[1].is_file()), values)


def _folder(tree: tuple[Parcel, Path] | None) -> Path | None:
    return None if tree is None else tree[1]


def _named_config(request: Request, root: Path) -> str:
    if not request.config.endswith(".toml"):
        return request.config
    path = Path(os.path.realpath(request.config))
    if not path.is_relative_to(root):
        raise TravelError(
            f"the config {request.config} lies outside of the project {root}: workers would not have it",
            hint="lay it into the project's configs/, or name its folder with --project",
        )
    return str(path.relative_to(root))


def _is_address(place: str) -> bool:
    return "://" in place and not place.startswith("file:")


def _leaves(root: Path, library: Library, place: str) -> bool:
    """Whether what a file of the project names is on this machine alone, and no part of the project."""
    if _is_address(place):
        return False
    return "://" in place or not Path(os.path.realpath(library.path(place))).is_relative_to(root)


def _tree(request: Request, given: str | None, packed: dict[Path, Parcel]) -> tuple[Parcel, Path] | None:
    """The ImageBuilder that was given, where it is on this machine. TravelError where it is not there."""
    if given is None or "://" in given:
        return None
    path = Path(os.path.realpath(expand_home(given)))
    if path not in packed:
        if path.is_dir():
            key = hashlib.sha256(
                f"{tree_identity(path, request.cache, readable_only=False)} {path.name}".encode()
            )
            packed[path] = Parcel(key.hexdigest(), ".tar", lambda place: _write_tree(path, place))
        elif path.is_file():
            packed[path] = Parcel(sha256_of(path), f"-{path.name}", lambda place: _copy(path, place))
        else:
            raise TravelError(f"there is no ImageBuilder at {given}")
    return packed[path], path


def _copy(file: Path, place: Path) -> None:
    with file.open("rb") as source, place.open("wb") as copy:
        while chunk := source.read(1 << 20):
            copy.write(chunk)


def _write_tree(folder: Path, place: Path) -> None:
    with tarfile.open(place, "w", format=tarfile.PAX_FORMAT) as tar:
        for item in walk(folder, enter=lambda path: path not in USED, bounded=True):
            if item.path not in USED:
                _add(tar, folder, item, times=True)


def pack_project(root: Path, without: tuple[Path, ...] = ()) -> Parcel:
    """A project's files, modes and links, with no times: the same files are the same parcel. without: folders
    that are no part of it, such as that of the results.

    TravelError for a project that is too large to be one.
    """
    left_out = {Path(os.path.realpath(each)) for each in without}

    def enter(path: str) -> bool:
        folder = root / path
        return not (folder.name in _NO_PART or folder in left_out or (folder / _ENVIRONMENT).is_file())

    packed, size = io.BytesIO(), 0
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for item in walk(root, enter=enter, bounded=True):
            if item.path == SECRETS or (item.is_folder and not enter(item.path)):
                continue
            size += item.status.st_size if item.is_file else 0
            if size > _MOST_PROJECT_BYTES:
                raise TravelError(
                    f"the project {root} holds more than {_MOST_PROJECT_BYTES >> 20} MiB besides its results",
                    hint="have what is no part of it elsewhere: all of it goes to the workers",
                )
            _add(tar, root, item, times=False)
    data = packed.getvalue()
    return Parcel(hashlib.sha256(data).hexdigest(), ".tar", lambda place: write_whole(place, data))


def _add(tar: tarfile.TarFile, root: Path, item: Item, *, times: bool) -> None:
    """A file, folder or link; sockets, pipes and devices are left out."""
    info = tarfile.TarInfo(item.path)
    info.mode = stat.S_IMODE(item.status.st_mode)
    info.mtime = int(item.status.st_mtime) if times else 0
    if item.is_folder:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif item.is_link:
        target = item.target()
        inside = is_inside(root, root / item.path)
        if times or inside or not (root / item.path).exists() or "/files/" in f"/{item.path}":
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
            return
        raise TravelError(
            f"{root / item.path} is a link that leads out of the project, to {target}",
            hint="workers would not have what it leads to: lay that into the project's folder",
        )
    elif item.is_file:
        info.size = item.status.st_size
        with (root / item.path).open("rb") as content:
            tar.addfile(info, content)


def _in_addresses(root: Path, had: dict[str, str]) -> dict[str, str]:
    """The secrets that `${NAME}` in the addresses of requirements stands for, as far as there are any."""
    names: set[str] = set()
    for path in _texts(root):
        names.update(_VARIABLE.findall(path.read_text("utf-8", errors="replace")))
    found: dict[str, str] = {}
    for name in sorted(names - set(had)):
        try:
            found[name] = find_secret(root, name, Variable())
        except UserError:
            continue  # a variable of a shell or a service: a worker that lacks a secret says so
    return found


def _texts(root: Path) -> Iterator[Path]:
    def enter(path: str) -> bool:
        return Path(path).name not in _NO_PART and not (root / path / _ENVIRONMENT).is_file()

    for folder in ("configs", "apps"):
        if (root / folder).is_dir() and not (root / folder).is_symlink():
            for item in walk(root / folder, enter=enter, bounded=True):
                if item.is_file and item.path.endswith(_TEXTS) and item.status.st_size < _MOST_TEXT_BYTES:
                    yield root / folder / item.path


def unpack_project(consignment: Consignment, cache: Path, place: Path) -> None:
    """Lay a job's project into a new folder, with its secrets, which only this user may read. OSError;
    ArchiveError for a damaged parcel."""
    place.mkdir(mode=0o700)
    _unpack(consignment.project.place(cache), place, modes=True)
    if consignment.secrets:
        secrets = place / SECRETS
        secrets.touch(0o600)
        secrets.write_text(tomlkit.dumps(consignment.secrets), "utf-8")


def _unpack(file: Path, place: Path, *, modes: bool) -> None:
    folders: list[tuple[Path, int]] = []
    with file.open("rb") as stream:
        for tar, member in tar_members(stream):
            check_member(file.name, member, absolute_links=True)
            extract_member(tar, member, place)
            if modes and member.isdir():
                folders.append((place / member.name, member.mode))
            elif modes and member.isreg():
                (place / member.name).chmod(member.mode & 0o7777)
    for folder, mode in reversed(folders):
        folder.chmod(mode & 0o7777 | stat.S_IRWXU)


def tree_place(consignment: Consignment, cache: Path) -> str | None:
    """Where a job's ImageBuilder lies on this machine, unpacked where it was given as a folder."""
    if consignment.tree is None:
        return None
    file = consignment.tree.place(cache)
    if consignment.archive:
        return str(file)
    place = cache / PARCELS / _TREES / consignment.tree.key
    if not place.is_dir():
        with disk_errors_explained(place.parent), temporary_folder("unpack", place.parent) as fresh:
            (fresh / "tree").mkdir()
            _unpack(file, fresh / "tree", modes=False)
            with suppress(FileExistsError):  # another job's
                appear(fresh / "tree", place)
    return str(place)


def here(consignment: Consignment, project: Path, output: Path, cache: Path) -> BoardJob:
    """The job as a worker does it. project: where unpack_project() laid that; output: a folder for the
    result."""
    job = consignment.job
    name = consignment.config
    request = replace(
        job.request,
        library=Library(project),
        config=str(project / name) if name.endswith(".toml") else name,
        output=output,
        cache=cache,
        imagebuilder=tree_place(consignment, cache) or job.request.imagebuilder,
        once=None,
    )
    return replace(job, request=request)
