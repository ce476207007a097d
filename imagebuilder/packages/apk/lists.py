"""What OpenWrt's apk packages say of themselves in files of their own, in /lib/apk/packages: the list of
their files and which of these are configuration; and their scripts. Source: include/package-pack.mk of 25.12.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of

LISTS = "/lib/apk/packages"
_LIST, _CONFFILES, _STATIC = ".list", ".conffiles", ".conffiles_static"
# opkg's scripts, and when apk runs the same: an upgrade is no installation to it
_SCRIPTS = {
    "preinst": ("pre-install", "pre-upgrade"),
    "postinst": ("post-install", "post-upgrade"),
    "prerm": ("pre-deinstall",),
    "postrm": ("post-deinstall",),
}
_UPGRADE = b"export PKG_UPGRADE=1\n"
# OpenWrt's own work after installing and before removing, which is in base-files
_DEFAULTS = {
    b"default_postinst": "add_group_and_user\ndefault_postinst\n",
    b"default_prerm": "default_prerm\n",
}
_DEFAULT_SCRIPT = """\
#!/bin/sh
[ "$IPKG_NO_SCRIPT" != 1 ] || exit 0
[ -s "$IPKG_INSTROOT/lib/functions.sh" ] || exit 0
. "$IPKG_INSTROOT/lib/functions.sh"
export root="$IPKG_INSTROOT" pkgname="{name}"
{work}"""


def with_lists(tree: FileTree, name: str, conffiles: tuple[str, ...]) -> FileTree:
    """A package's tree with the files about it that OpenWrt's build would make. conffiles: paths, which need
    not be in the tree; those that are get their hash."""
    plain = tree.without(f"{LISTS}/{name}{ending}" for ending in (_LIST, _CONFFILES, _STATIC))
    listed = sorted(path for path, entry in plain.items() if entry.kind != "dir")
    made = {f"{LISTS}/{name}{_LIST}": _lines(listed)}
    if conffiles:
        made[f"{LISTS}/{name}{_CONFFILES}"] = _lines(conffiles)
        hashes = [
            f"{path} {hashlib.sha256(content(plain[path])).hexdigest()}"
            for path in conffiles
            if path in plain and plain[path].kind == "file"
        ]
        if hashes:
            made[f"{LISTS}/{name}{_STATIC}"] = _lines(hashes)
    return plain.merged({path: file_of(data) for path, data in made.items()})


def for_apk(made: LocalPackage) -> LocalPackage:
    """A package that was made in opkg's terms, in apk's: its scripts by apk's names, those that only call
    OpenWrt's default ones as apk packages call them; its files and configuration files listed in the tree."""
    name = made.package.name
    scripts: dict[str, bytes] = {}
    for script, text in made.scripts.items():
        work = next((work for called, work in _DEFAULTS.items() if called in text), None)
        if work is not None:
            text = _DEFAULT_SCRIPT.format(name=name, work=work).encode()  # noqa: PLW2901
        first, _, rest = text.partition(b"\n")
        for when in _SCRIPTS[script]:
            scripts[when] = first + b"\n" + (_UPGRADE if when.endswith("upgrade") else b"") + rest
    return replace(made, tree=with_lists(made.tree, name, made.conffiles), scripts=scripts, conffiles=())


def conffiles_in(tree: FileTree, name: str) -> tuple[str, ...]:
    """The configuration files that a package names in its tree."""
    entry = tree.get(f"{LISTS}/{name}{_CONFFILES}")
    text = content(entry).decode("utf-8", "replace") if entry is not None and entry.kind == "file" else ""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _lines(lines: list[str] | tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
