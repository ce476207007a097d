"""A feed package with filespec rules becomes a local package: the same, but for what the rules changed and
for a version that sorts after, so that the package manager takes it and knows it as what it is.

At plan time, without content, declare() says what repack() makes after the package was fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from imagebuilder.errors import UserError
from imagebuilder.model.filespec import FilespecRecord, rules_of
from imagebuilder.model.package import Package
from imagebuilder.packages.apk.lists import conffiles_in, with_lists
from imagebuilder.packages.opkg.ipk_reader import Ipk
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.rootfs.trim import trim

PackageManager = Literal["opkg", "apk"]

# trees install these by their files, or at the one version that they name
_TREES_OWN = {"opkg": ("libc", "kernel"), "apk": ("base-files", "libc", "kernel")}
_TAG_DIGITS = 8
_APK_VERSION = re.compile(r"(?P<before>[0-9][0-9a-z._]*)(?P<commit>~[0-9a-f]+)?(?P<revision>-r[0-9]+)?")


class RepackError(UserError):
    """A package that cannot be repacked."""


@dataclass(frozen=True, slots=True)
class Repacked:
    """A package after its rules, and what they did."""

    content: LocalPackage
    record: FilespecRecord


def repacked_version(version: str, rules: Sequence[str], manager: PackageManager) -> str:
    """A version that sorts right after this one, and is another for other rules.

    opkg: 1.4.21-3 becomes 1.4.21-3+rules.1a2b3c4d, before 1.4.21-4. apk: 1.4.21-r3 becomes
    1.4.21~1a2b3c4d-r3, which sorts after all 1.4.21-rN (apk has nothing between r3 and r4) and before 1.4.22.
    RepackError for a version that apk does not know; FilespecError for rules that cannot be read.
    """
    read = [(rule.op, rule.path, rule.file_mode, rule.dir_mode) for rule in rules_of(rules, "the filespec")]
    return later_version(version, "rules", repr(read), manager)


def later_version(version: str, word: str, content: str, manager: PackageManager) -> str:
    """A version that sorts right after this one, as repacked_version() has it, and is another for other
    content. word: what was done, for people; apk has no place for it."""
    tag = hashlib.sha256(content.encode()).hexdigest()[:_TAG_DIGITS]
    if manager == "opkg":
        return f"{version}+{word}.{tag}"
    parts = _APK_VERSION.fullmatch(version)
    if parts is None:
        raise RepackError(
            f"{version!r} is no version of apk", hint="the feed's index is damaged: fetch it again"
        )
    return f"{parts['before']}{parts['commit'] or '~'}{tag}{parts['revision'] or ''}"


def declare(package: Package, rules: Sequence[str], manager: PackageManager) -> Package:
    """The repacked package as a plan knows it: the package of the index with its new version, and no file.
    installed_size is what the index says; the package becomes no larger.

    RepackError for what cannot be repacked; FilespecError for rules that cannot be read.
    """
    if package.name in _TREES_OWN[manager]:
        raise RepackError(
            f"the package {package.name} cannot have a filespec: the tree installs the one that it brings",
            hint="leave it out, and lay other files over it with an overlay",
        )
    rules_of(rules, f"the filespec of package {package.name}")
    return replace(
        package,
        version=repacked_version(package.version, rules, manager),
        filename="",
        size=0,
        sha256="",
        identity="",
    )


def repack(content: LocalPackage, rules: Sequence[str], manager: PackageManager) -> Repacked:
    """The package with its rules run on its files: what declare() said of it, with its scripts, and with the
    configuration files that are left.

    FilespecError, naming package and rule, for a rule that finds nothing; RepackError.
    """
    package = declare(content.package, rules, manager)
    trimmed = trim(content.tree, rules, f"package {package.name}")
    tree, conffiles = trimmed.tree, content.conffiles
    if manager == "apk":
        named = conffiles_in(content.tree, package.name)
        kept = tuple(path for path in named if path in tree or path not in content.tree)
        tree = with_lists(tree, package.name, kept)
    else:
        conffiles = tuple(path for path in conffiles if _is_file(tree, path))
    return Repacked(replace(content, package=package, tree=tree, conffiles=conffiles), trimmed.record)


def content_of(ipk: Ipk) -> LocalPackage:
    """What was read from an .ipk, for repack()."""
    return LocalPackage(ipk.control, ipk.tree, ipk.scripts, ipk.conffiles)


def _is_file(tree: FileTree, path: str) -> bool:
    return path in tree and tree[path].kind == "file"
