"""A feed package with filespec rules, or of which python.shake left a part, becomes a local package: the
same, but for what was changed and for a version that sorts after, so that the package manager takes it and
knows it as what it is.

At plan time, without content, declare() says what repack() makes after the package was fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.model.filespec import FilespecRecord, rules_of
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.manager import PackageManager, RepackError
from imagebuilder.rootfs.tree import FileTree, LocalPackage
from imagebuilder.rootfs.trim import trim


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
    return manager.later_version(version, "rules", repr(read))


def declare(package: Package, rules: Sequence[str], manager: PackageManager) -> Package:
    """The repacked package as a plan knows it: the package of the index with its new version, and no file.
    installed_size is what the index says; the package becomes no larger.

    RepackError for what cannot be repacked; FilespecError for rules that cannot be read.
    """
    if package.name in manager.trees_own:
        raise RepackError(
            f"the package {package.name} cannot have a filespec: the tree installs the one that it brings",
            hint="leave it out, and lay other files over it with an overlay",
        )
    rules_of(rules, f"the filespec of package {package.name}")
    return package.remade(repacked_version(package.version, rules, manager))


def repack(content: LocalPackage, rules: Sequence[str], manager: PackageManager) -> Repacked:
    """The package with its rules run on its files: what declare() said of it, with its scripts, and with the
    configuration files that are left.

    FilespecError, naming package and rule, for a rule that finds nothing; RepackError.
    """
    package = declare(content.package, rules, manager)
    trimmed = trim(content.tree, rules, f"package {package.name}")
    return Repacked(manager.with_files(content, package, trimmed.tree), trimmed.record)


def shaken_package(
    content: LocalPackage,
    tree: FileTree,
    depends: tuple[tuple[Dependency, ...], ...],
    manager: PackageManager,
) -> LocalPackage:
    """The package with what python.shake left of its files and of its dependencies, and with its scripts.

    Its version, 3.11.7-1+shake.1a2b3c4d for opkg, tells which files are left. RepackError for a version that
    apk does not know.
    """
    left = [path for path, entry in tree.items() if entry.kind != "dir"]
    wanted = [str(each) for alternatives in depends for each in alternatives]
    version = manager.later_version(content.package.version, "shake", repr((left, wanted)))
    return manager.with_files(content, content.package.remade(version, depends=depends), tree)
