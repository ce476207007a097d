"""The root file system as opkg and ImageBuilder leave it, from packages that were read: their files, and
opkg's own records of them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from imagebuilder.model.control import fields_of, format_fields
from imagebuilder.model.init_script import INIT, links_of
from imagebuilder.packages.opkg.ipk_reader import Ipk
from imagebuilder.rootfs.tree import Entry, FileTree, file_of, symlink

_INFO = "/usr/lib/opkg/info"
_STATUS = "/usr/lib/opkg/status"
_REMOVED_SCRIPTS = ("postinst",)  # ImageBuilder runs it and removes it
_TIME = 1561075200
_KEPT_FIELDS = ("Package", "Version", "Depends", "Conflicts", "Provides", "Essential", "Architecture")


def installed_tree(packages: Iterable[Ipk], over: FileTree) -> FileTree:
    """Everything that is in the image's root file system, to be measured.

    packages: in the order of their installation; over: the overlays' files. A later file counts where two
    packages have the same, as with opkg's --force-overwrite.
    """
    entries: dict[str, Entry] = {}
    records: dict[str, Entry] = {}
    statuses: list[str] = []
    for package in packages:
        for path, entry in package.tree.items():
            if entry.kind != "dir" or entries.get(path, entry).kind == "dir":
                entries[path] = entry
        records |= _info(package)
        statuses.append(_status(package))
    records[_STATUS] = file_of("\n".join(statuses).encode())
    tree = FileTree(entries).merged(FileTree(records)).merged(over)
    return tree.merged(FileTree(_services(tree)))


def _listed(package: Ipk) -> list[str]:
    """opkg lists files in the order of a table of its own, by chance: sorted they would compress better."""
    paths = (path for path, entry in package.tree.items() if entry.kind != "dir")
    return sorted(paths, key=_checksum)


def _info(package: Ipk) -> dict[str, Entry]:
    base = f"{_INFO}/{package.control.name}"
    files = {
        f"{base}.control": file_of(format_fields(package.fields).encode()),
        f"{base}.list": file_of("".join(f"{path}\n" for path in _listed(package)).encode()),
    }
    if package.conffiles:
        files[f"{base}.conffiles"] = file_of("".join(f"{path}\n" for path in package.conffiles).encode())
    for kind, script in package.scripts.items():
        if kind not in _REMOVED_SCRIPTS:
            files[f"{base}.{kind}"] = file_of(script, 0o755)
    return files


def _status(package: Ipk) -> str:
    fields = fields_of(package.control, indexed=False)
    record = {name: fields[name] for name in _KEPT_FIELDS if name in fields}
    record["Status"] = "install user installed"
    if package.conffiles:
        named = ((path, package.tree.get(path)) for path in package.conffiles)
        record["Conffiles"] = "".join(f"\n {path} {_content_sum(entry)}" for path, entry in named if entry)
    record["Installed-Time"] = str(_TIME)
    return format_fields(record)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _content_sum(entry: Entry) -> str:
    """SHA-256 of a file that is in memory; of any other something that is as hard to compress."""
    return hashlib.sha256(entry.data or str(entry.source).encode()).hexdigest()


def _services(tree: FileTree) -> dict[str, Entry]:
    """The links by which init scripts start: they cost an inode each."""
    links: dict[str, Entry] = {}
    for path in tree.children(INIT):
        made = links_of(path.rpartition("/")[2], tree[path].data or b"")
        links.update((link, symlink(target)) for link, target in made.items())
    return links
