"""The root file system: packages unpacked, opkg's records of them, FILES on top, services enabled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from imagebuilder.host.fs import remove_tree
from imagebuilder.host.run import clean_environment, run
from imagebuilder.kit.feed import FeedError, Offer, Say
from imagebuilder.kit.request import Request
from imagebuilder.model.control import fields_of, format_fields
from imagebuilder.model.package import Selected
from imagebuilder.packages.opkg.ipk_reader import Ipk, read_ipk
from imagebuilder.packages.resolution import Resolution
from imagebuilder.rootfs.files import content, read_tree, write_tree
from imagebuilder.rootfs.tree import Entry, FileTree, file_of, symlink

INFO = "/usr/lib/opkg/info"
STATUS = "/usr/lib/opkg/status"
SCRIPT_SECONDS = 60.0
_INIT = "/etc/init.d"
_RC = "/etc/rc.d"
_INIT_SCRIPT = b"#!/bin/sh /etc/rc.common"
_NUMBER = re.compile(rb"^(START|STOP)=(\d\d)\s*$", re.MULTILINE)


def _status(selected: Selected, ipk: Ipk, epoch: int) -> str:
    """The package's paragraph in opkg's record of what is installed."""
    fields = fields_of(selected.package, indexed=False)
    kept = ("Package", "Version", "Depends", "Conflicts", "Provides", "Essential", "Architecture")
    record = {name: fields[name] for name in kept if name in fields}
    record["Status"] = f"install {'user' if selected.by is None else 'ok'} installed"
    if ipk.conffiles:
        record["Conffiles"] = "".join(f"\n {path}" for path in ipk.conffiles)
    if selected.by is not None:
        record["Auto-Installed"] = "yes"
    record["Installed-Time"] = str(epoch)
    return format_fields(record)


def _records(selected: Selected, ipk: Ipk) -> dict[str, Entry]:
    """The files that opkg keeps of an installed package."""
    listed = "".join(f"{path}\n" for path, entry in ipk.tree.items() if entry.kind != "dir")
    texts = {"list": listed, "control": format_fields(fields_of(ipk.control, indexed=False))}
    if ipk.conffiles:
        texts["conffiles"] = "".join(f"{path}\n" for path in ipk.conffiles)
    base = f"{INFO}/{selected.package.name}"
    files = {f"{base}.{kind}": file_of(text.encode()) for kind, text in texts.items()}
    return files | {f"{base}.{kind}": file_of(script, 0o755) for kind, script in ipk.scripts.items()}


def _read(selected: Selected, offer: Offer) -> Ipk:
    package = selected.package
    file = offer.file_of(package)
    if not file.is_file() or (package.size and file.stat().st_size != package.size):
        raise FeedError(f"the index says {package.size} bytes of {file}, which is not there like that")
    return read_ipk(file)


def packages_tree(resolution: Resolution, offer: Offer, epoch: int, say: Say) -> FileTree:
    """All packages' files and opkg's records of them, as one tree. epoch: seconds since 1970.

    FeedError where two packages bring one file, or a package file is not what the index says.
    """
    entries: dict[str, Entry] = {}
    owners: dict[str, str] = {}
    status = []
    for selected in resolution.selected:
        name = selected.package.name
        say(f"Installing {name} ({selected.package.version}) to root...")
        ipk = _read(selected, offer)
        for path, entry in ipk.tree.items():
            if entry.kind != "dir" and owners.setdefault(path, name) != name:
                raise FeedError(
                    f" * check_data_file_clashes: Package {name} wants to install file {path}\n"
                    f"\tBut that file is already provided by package  * {owners[path]}"
                )
            entries[path] = entry
        entries |= _records(selected, ipk)
        status.append(_status(selected, ipk, epoch))
    for selected in resolution.selected:
        say(f"Configuring {selected.package.name}.")
    entries[STATUS] = file_of("".join(f"{paragraph}\n" for paragraph in status).encode())
    return FileTree(entries)


def with_files(tree: FileTree, files: Path) -> FileTree:
    """The tree with the folder FILES copied over it. FeedError where cp would refuse: a folder over
    something that is none."""
    over = read_tree(files)
    for path, entry in over.items():
        if entry.kind == "dir" and path in tree and tree[path].kind != "dir":
            raise FeedError(f"cp: cannot overwrite non-directory '.{path}' with directory '{files}{path}'")
    return tree.merged(over)


def with_services(tree: FileTree, disabled: Iterable[str]) -> FileTree:
    """The tree with every init script enabled or disabled, as `rc.common SCRIPT enable` does it."""
    off = set(disabled)
    links: dict[str, Entry] = {}
    stale: set[str] = set()
    for path in tree.children(_INIT):
        name = path.rpartition("/")[2]
        if tree[path].kind != "file" or not (script := content(tree[path])).startswith(_INIT_SCRIPT):
            continue
        named = re.compile(rf"{_RC}/[SK]\d\d{re.escape(name)}")
        stale.update(link for link in tree.children(_RC) if named.fullmatch(link))
        if name not in off:
            for kind, number in _NUMBER.findall(script):
                letter = "S" if kind == b"START" else "K"
                links[f"{_RC}/{letter}{number.decode()}{name}"] = symlink(f"../init.d/{name}")
    return tree.without(stale).merged(links)


def _run_postinst(tree: FileTree, root: Path, say: Say) -> None:
    """Run the packages' postinst scripts on the root, as ImageBuilder does it: on this machine, with
    IPKG_INSTROOT. ProgramError where one fails."""
    for path in tree.children(INFO):
        if path.endswith(".postinst"):
            env = clean_environment(IPKG_INSTROOT=str(root))
            done = run(("sh", f".{path}"), cwd=root, env=env, timeout=SCRIPT_SECONDS)
            for line in done.stdout.splitlines():
                say(line)


def make_root(request: Request, resolution: Resolution, offer: Offer, root: Path, say: Say) -> None:
    """Make the root file system in a folder, which is removed first.

    With FILES its `/` gets the mode of that folder, whatever it is: the genuine ImageBuilder does the same.
    """
    epoch = request.source_date_epoch
    tree = packages_tree(resolution, offer, epoch, say)
    say("Finalizing root filesystem...")
    if request.files is not None:
        tree = with_files(tree, request.files)
    tree = with_services(tree, request.disabled_services)
    if root.exists():
        remove_tree(root)
    write_tree(tree, root, mtime=epoch)
    root.chmod(0o755)
    _run_postinst(tree, root, say)
    if request.files is not None:
        root.chmod(request.files.stat().st_mode & 0o7777)
