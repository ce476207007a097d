"""What the overlays of an image lay over its root file system: rendered, trimmed by filespecs, one over the
other; and the same without the values of secrets, as a lock keeps it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.model_config import Config
from imagebuilder.config.overlay import LoadedOverlay, OverlayError
from imagebuilder.host.once import Once
from imagebuilder.model.filespec import FilespecRecord, overlay_rules
from imagebuilder.model.package import Selected
from imagebuilder.rootfs.files import entry_digest
from imagebuilder.rootfs.overlay import OverlayFiles, combined, overlay_tree
from imagebuilder.rootfs.tree import Entry, FileTree


@dataclass(frozen=True)
class Staged:
    """tree: what make gets as FILES; trees: what each overlay brings of it; records: what filespecs did;
    secrets: the paths of files that hold secrets."""

    tree: FileTree
    trees: Mapping[str, FileTree]
    records: tuple[FilespecRecord, ...]
    secrets: frozenset[str]


def staged(
    config: Config,
    overlays: Sequence[LoadedOverlay],
    project: Path,
    there: Mapping[str, int] | None = None,
    once: Once | None = None,
) -> Staged:
    """All of it, as it goes into the image. there: what packages bring, where it is known, as
    check_contents.package_paths() has it. once: as for LoadedOverlay.values(). SecretError, OverlayError,
    FilespecError."""

    def laid(each: LoadedOverlay) -> OverlayFiles:
        values, secret = each.values(project, once), each.hidden().keys()
        return overlay_tree(
            each.overlay,
            each.folder,
            values,
            secret=secret,
            there=there,
            files=each.files,
            templates=each.declared,
        )

    return _staged(config, overlays, laid)


def locked_files(config: Config, overlays: Sequence[LoadedOverlay]) -> dict[str, dict[str, str]]:
    """What each overlay brings, by the paths, in words that tell all that reaches the image but the values of
    secrets, which nobody need have here: a short one could be guessed from a digest. A template that names a
    secret stands for the file that is made of it. OverlayError, FilespecError.

    Where several overlays bring the same, the first by name has it: their order counts as far as it shows.
    """
    found = _staged(config, overlays, _without_secrets)
    names: dict[str, dict[str, str]] = {name: {} for name in sorted(found.trees)}
    for path, entry in found.tree.items():
        owner = next(name for name in names if found.trees[name].get(path) == entry)
        names[owner][_text(path)] = _words(entry)
    return names


def foresee_overlays(
    config: Config, overlays: Sequence[LoadedOverlay], packages: Sequence[Selected]
) -> Iterator[str]:
    """As check_overlays(), of what can be told before packages are fetched and without any secret: files that
    are rendered from one are not looked at. Raises as locked_files(), too."""
    if not overlays:
        return
    found = _staged(config, overlays, _without_secrets)
    told = {name: tree.without(found.secrets) for name, tree in found.trees.items()}
    yield from _checked(told, overlays, packages, image=None)


def check_overlays(
    found: Staged, overlays: Sequence[LoadedOverlay], packages: Sequence[Selected], there: Mapping[str, int]
) -> Iterator[str]:
    """What is likely to be a slip in what overlays bring, a line each. packages: of the image; there: what
    they bring. OverlayError, naming each file and line, where the device would not work as it is meant."""
    image = frozenset({*there, *found.tree})
    yield from _checked(found.trees, overlays, packages, image=image, secrets=found.secrets)


def _checked(
    trees: Mapping[str, FileTree],
    overlays: Sequence[LoadedOverlay],
    packages: Sequence[Selected],
    *,
    image: Collection[str] | None,
    secrets: Collection[str] = (),
) -> Iterator[str]:
    if not overlays:
        return
    from imagebuilder.rootfs.lint import Flaw, Known, lint  # noqa: PLC0415 - where there is something to look at

    version = next((each.package.version for each in packages if each.name == "python3-base"), "")
    python = re.match(r"(\d+)\.(\d+)", version)
    flaws: list[Flaw] = []
    for each in overlays:
        known = Known(
            root=each.root,
            python=(int(python[1]), int(python[2])) if python else None,
            image=image,
            secrets=secrets,
        )
        flaws += lint(trees[each.use.name], known)
    grave = [str(flaw) for flaw in flaws if flaw.grave]
    if grave:
        raise OverlayError(
            "\n".join(grave), hint="put the overlay right; the device would not work as it is meant"
        )
    yield from map(str, flaws)


def _without_secrets(each: LoadedOverlay) -> OverlayFiles:
    hidden = {name: json.dumps(shown, sort_keys=True) for name, shown in each.hidden().items()}
    values = each.open_values()
    return overlay_tree(
        each.overlay, each.folder, values, hidden=hidden, files=each.files, templates=each.declared
    )


def _staged(
    config: Config, overlays: Sequence[LoadedOverlay], laid_by: Callable[[LoadedOverlay], OverlayFiles]
) -> Staged:
    rules = overlay_rules(config.filespec)
    trees: dict[str, FileTree] = {}
    records = []
    secrets: set[str] = set()
    for each in overlays:
        laid = laid_by(each)
        tree = laid.tree
        if each.overlay.name in rules:
            from imagebuilder.rootfs.trim import trim  # noqa: PLC0415 - few configs have filespecs

            trimmed = trim(tree, rules[each.overlay.name], f"overlay {each.overlay.name}")
            tree = trimmed.tree
            records.append(trimmed.record)
        trees[each.use.name] = tree
        secrets |= laid.secrets & set(tree)
    whole = combined([(each.overlay, trees[each.use.name]) for each in overlays])
    return Staged(whole, trees, tuple(records), frozenset(secrets))


def _words(entry: Entry) -> str:
    """`0644 and its SHA-256`, `0755 folder`, `-> ../where`."""
    if entry.kind == "symlink":
        return f"-> {_text(entry.target)}"
    return f"{entry.mode:04o} {'folder' if entry.kind == 'dir' else entry_digest(entry)}"


def _text(path: str) -> str:
    """A path as a lock, which is UTF-8, can hold it; nothing else looks like one that is not."""
    raw = os.fsencode(path)
    return path if raw == path.encode("utf-8", "replace") else f"//bytes {raw.hex()}"
