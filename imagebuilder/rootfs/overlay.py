"""Overlays: files and Jinja2 templates become the tree that is laid over the root file system."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.model_config import VariableValue
from imagebuilder.config.overlay import FILES, Overlay, OverlayError
from imagebuilder.host.beneath import real_folder
from imagebuilder.host.elf import ELF_MAGIC, is_elf
from imagebuilder.rootfs.files import content, read_tree
from imagebuilder.rootfs.modes import holds_secret, mode_of, open_to_all
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, FileTreeError, file_of, symlink

if TYPE_CHECKING:
    from imagebuilder.host.processor import MachineCode

TEMPLATE_ENDING = ".j2"
# tmpfs on the device: what an image holds there is hidden or lost (OpenWrt links /var to /tmp)
VOLATILE = ("/var", "/tmp", "/proc", "/sys", "/dev")  # noqa: S108 - places in the image


NOTHING_HIDDEN: Mapping[str, str] = {}


@dataclass(frozen=True)
class OverlayFiles:
    """What an overlay brings. secrets: the paths of files that hold a secret."""

    tree: FileTree
    secrets: frozenset[str] = frozenset()


def overlay_tree(
    overlay: Overlay,
    folder: Path,
    variables: Mapping[str, VariableValue],
    *,
    secret: Collection[str] = (),
    hidden: Mapping[str, str] = NOTHING_HIDDEN,
    there: Mapping[str, int] | None = None,
    files: str = FILES,
    templates: bool = True,
) -> OverlayFiles:
    """The overlay's files with its templates rendered, in modes that do not depend on the host (modes.py).

    folder: the overlay's folder; its files lie in `files/`. variables: a value for each that the overlay
    declares; secret: the names of those whose values are secrets. hidden: what stands for secrets whose
    values are not given: a template that names one is not rendered, and the file holds what tells it from
    others, but for these values. there: kinds and modes of what packages bring, by path, as stat(2) has them.
    files: another name of the folder with the files; templates: whether files that end in .j2 are ones.

    OverlayError for a template that does not render (naming file and line), a file below a folder that is
    volatile on the device, a link that leaves the root file system, and a mode for nothing, or one that lets
    all read a secret; BeneathError where `files` itself is a link, which could bring any folder of this
    machine into an image.
    """
    root = folder / files
    source = EMPTY if real_folder(folder, files) is None else read_tree(root)
    source = source.without(path for path in source if overlay.ignores(path))
    source = _with_links(overlay, folder, source)
    for path, entry in sorted(source.items(), key=lambda item: item[1].kind == "dir"):
        _check_place(root, path, entry)  # files first: they say more than the folders they are in
    rendered: dict[str, Entry] = {}
    secrets: set[str] = set()
    # where others may not even look into `files`, it was made under a umask that closes everything
    strict = bool(source) and open_to_all(root.stat().st_mode)
    for path, entry in source.items():
        place, made = path, entry
        if templates and entry.kind == "file" and path.endswith(TEMPLATE_ENDING):
            place = path.removesuffix(TEMPLATE_ENDING)
            if place in source:
                raise OverlayError(f"overlay '{overlay.name}' holds both {place} and {path}")
            text = content(entry)
            made = file_of(_filled(root / path[1:], text, variables, hidden))
            if not _names_in(text).isdisjoint({*secret, *hidden}):
                secrets.add(place)
        if made.kind == "file" and holds_secret(place, made):
            secrets.add(place)
        if place in overlay.modes:
            mode = int(overlay.modes[place], 8)
        else:
            mode = mode_of(
                place, replace(made, mode=entry.mode), secret=place in secrets, strict=strict, there=there
            )
        rendered[place] = made.with_mode(mode)
    _check_modes(overlay, folder, rendered, secrets)
    return OverlayFiles(FileTree(rendered), frozenset(secrets))


def _with_links(overlay: Overlay, folder: Path, source: FileTree) -> FileTree:
    """The files with the links that the declaration names. OverlayError where a file is in a link's place."""
    for path in overlay.links:
        if path in source or f"{path}{TEMPLATE_ENDING}" in source:
            raise OverlayError(
                f"{folder}/overlay.toml: links names {path}, which is in {FILES}/ too",
                hint="take one of them out",
            )
    try:
        return source.merged({path: symlink(target) for path, target in overlay.links.items()})
    except FileTreeError as error:
        raise OverlayError(f"{folder}/overlay.toml: links: {error.message}") from error


def _check_modes(
    overlay: Overlay, folder: Path, rendered: Mapping[str, Entry], secrets: Collection[str]
) -> None:
    for key, paths in (("replaces", overlay.replaces), ("modes", overlay.modes)):
        for path in paths:
            if path not in rendered:
                raise OverlayError(
                    f"{folder}/overlay.toml: {key} names {path}, which the overlay does not bring"
                )
    for path in overlay.modes:
        if path in secrets and open_to_all(rendered[path].mode):
            raise OverlayError(
                f"{folder}/overlay.toml: modes lets everybody on the device read a secret: {path}",
                hint="leave the mode out (it is 0600 then), or give it to a group: 0640",
            )


def _names_in(raw: bytes) -> frozenset[str]:
    from imagebuilder.rootfs.template import names_in  # noqa: PLC0415 (loaded where there are templates)

    return names_in(raw)


def _filled(
    path: Path, raw: bytes, variables: Mapping[str, VariableValue], hidden: Mapping[str, str]
) -> bytes:
    from imagebuilder.rootfs.template import render  # noqa: PLC0415 (loaded where there are templates)

    names = _names_in(raw) if hidden else frozenset()
    if names.isdisjoint(hidden):
        return render(path, raw, variables).encode()
    given = {name: variables[name] for name in sorted(names & variables.keys())}
    shown = {name: hidden[name] for name in sorted(names & hidden.keys())}
    return b"".join([raw, b"\0", repr((given, shown)).encode()])


_LIBRARIES = ("lib", "usr/lib", "lib64", "usr/lib64")  # where packages/contents.py looks for them


def check_processor(overlays: Sequence[tuple[str, Path]], arch: str) -> None:
    """OverlayError names every program, library and kernel module of overlays that is for another processor
    than packages of this architecture. An architecture whose processor is not known passes all. overlays:
    the name of each, and the folder with its files. BeneathError as overlay_tree()."""
    if not overlays:
        return
    from imagebuilder.host.processor import is_foreign, processor_of  # noqa: PLC0415 - for overlays alone

    processor = processor_of(arch)
    if processor is None:
        return
    wrong = []
    for name, root in overlays:
        files = EMPTY if real_folder(root.parent, root.name) is None else read_tree(root)
        for path, entry in files.items():
            code = _code(entry.source, path) if entry.source is not None else None
            if code is not None and is_foreign(path, code, processor):
                wrong.append(f"overlay '{name}': {root}{path} is for another processor, {code}")
    if wrong:
        raise OverlayError(
            "\n".join([*wrong, f"the image's processor is {processor} ({arch})"]),
            hint=f"build it for {arch}, or leave it out",
        )


def libraries_in(roots: Iterable[Path]) -> frozenset[str]:
    """The names of shared libraries that overlays bring. roots: the folders with their files. BeneathError as
    overlay_tree()."""
    places = (real_folder(root.parent, f"{root.name}/{place}") for root in roots for place in _LIBRARIES)
    files = (file for place in places if place is not None for file in place.iterdir())
    return frozenset(file.name for file in files if ".so" in file.name)


def _code(file: Path, path: str) -> MachineCode | None:
    """What a file says of its processor; only what begins as ELF is read whole."""
    from imagebuilder.host.processor import read_code  # noqa: PLC0415 - for overlays alone

    with file.open("rb") as stream:
        head = stream.read(len(ELF_MAGIC))
        return read_code(head + stream.read(), path) if is_elf(head) else None


def combined(overlays: Sequence[tuple[Overlay, FileTree]]) -> FileTree:
    """Overlays in their order as one tree.

    OverlayError for overlays that conflict, and for a file that two bring unless the later one replaces it.
    """
    whole = EMPTY
    owners: dict[str, str] = {}
    names = [overlay.name for overlay, _ in overlays]
    for overlay, tree in overlays:
        for other in overlay.conflicts:
            if other in names:
                raise OverlayError(
                    f"the overlays '{overlay.name}' and '{other}' do not go together",
                    hint="take one of them out of the config",
                )
        for path in (path for path, entry in tree.items() if entry.kind != "dir"):
            if path in owners and path not in overlay.replaces:
                raise OverlayError(
                    f"the overlays '{owners[path]}' and '{overlay.name}' both bring {path}",
                    hint=f"take it out of one of them, or, if the later one should win, say"
                    f' replaces = ["{path}"] in its overlay.toml, beside its folder files/',
                )
            owners[path] = overlay.name
        whole = whole.merged(tree)
    return whole


def _check_place(root: Path, path: str, entry: Entry) -> None:
    if any(path == place or path.startswith(f"{place}/") for place in VOLATILE):
        raise OverlayError(
            f"{root}{path}: what an image holds there is lost when the device starts",
            hint="put it elsewhere, and have a script in /etc/uci-defaults or an init script copy it",
        )
    if entry.kind == "symlink" and _leaves(path, entry.target):
        raise OverlayError(f"{root}{path}: the link leads out of the root file system, to {entry.target}")


def _leaves(path: str, target: str) -> bool:
    """Whether a relative link goes above the root. An absolute one begins there."""
    depth = 0 if target.startswith("/") else path.count("/") - 1
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False
