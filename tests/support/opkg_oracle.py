"""Small random feeds, what a genuine opkg installs from them, and what an image must have to work."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.model.control import parse_depends
from imagebuilder.model.package import Dependency, Package, Wish
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.opkg import format_index
from imagebuilder.packages.opkg.resolve import OpkgRules, resolve
from imagebuilder.packages.resolution import ResolutionError
from imagebuilder.packages.universe import Universe, clash, fits
from imagebuilder.rootfs.tree import FileTree, file_of

ARCH = "mips_24kc"
# as the Makefile of 17.01's ImageBuilder calls it; later ones leave the first two out
FORCED = ("--force-depends", "--force-overwrite")
NAMES = (
    "app",
    "base",
    "core",
    "dnsmasq",
    "dnsmasq-full",
    "extra",
    "libfoo20240101",
    "libfoo20250202",
    "zlib",
)
PROVIDED = ("any", "libfoo", "web")
VERSIONS = ("1", "1.9-1", "1.10-1", "2~rc1", "2")
OPERATORS = ("<<", "<=", "=", ">=", ">>")


@dataclass(frozen=True)
class Case:
    """packages: in the order of the index. requested: names for the command line. files: the packages that
    there is a file of, None for all."""

    packages: tuple[Package, ...]
    requested: tuple[str, ...]
    files: tuple[Package, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """installed: (name, version) pairs; failed: whether opkg said so when it ended, or left a package half
    installed, which it does where two versions of one meet."""

    installed: frozenset[tuple[str, str]]
    failed: bool
    said: str


def random_case(seed: int) -> Case:
    """Packages with conflicts, providers, versions, ABI suffixes, alternatives and replacers."""
    rng = random.Random(seed)
    known = rng.sample(NAMES, rng.randint(4, len(NAMES)))
    packages = [_package(rng, name, version, known) for name in known for version in _versions(rng)]
    rng.shuffle(packages)
    requested = rng.sample([*known, *PROVIDED] if rng.random() < 0.3 else known, rng.randint(1, 4))
    return Case(tuple(packages), tuple(requested))


def real_case(seed: int, packages: Sequence[Package]) -> Case:
    """A few names, of packages and provided ones, to be installed from a real feed's packages."""
    rng = random.Random(seed)
    names = sorted({name for package in packages for name in (package.name, *package.provides)})
    return Case(tuple(packages), tuple(rng.sample(names, rng.choice([1, 2, 4, 8]))))


def digest_of(cases: Iterable[Case]) -> str:
    """SHA-256 over what the cases ask, so that outcomes of other cases are not taken for theirs."""
    whole = hashlib.sha256()
    for case in cases:
        whole.update(f"{format_index(case.packages)}{' '.join(case.requested)}\n".encode())
    return whole.hexdigest()


def answer(case: Case, universe: Universe, rules: OpkgRules) -> frozenset[tuple[str, str]] | None:
    """What the resolver installs, names and versions; None for an error."""
    try:
        found = resolve(Wish.of(case.requested), universe, rules)
    except ResolutionError:
        return None
    return frozenset((package.name, package.version) for package in found.packages)


def verdict(ours: frozenset[tuple[str, str]] | None, genuine: Outcome, case: Case) -> str:
    """What the resolver's answer is worth; only `same` and `both fail` are good."""
    if ours is None:
        fine = not genuine.failed and works(genuine.installed, case.packages)
        return "refused for nothing" if fine else "both fail"
    if genuine.failed:
        return "opkg fails"
    return "same" if ours == genuine.installed else "different"


def written(outcome: Outcome) -> str:
    """An outcome in one line: name and version of each package, `!` where opkg failed."""
    names = sorted(f"{name} {version}" for name, version in outcome.installed)
    return "!" if outcome.failed else ", ".join(names)


def read_outcome(line: str) -> Outcome:
    """What written() wrote."""
    pairs = [each.split(" ") for each in line.split(", ") if each and line != "!"]
    return Outcome(frozenset((name, version) for name, version in pairs), line == "!", line)


def _versions(rng: random.Random) -> list[str]:
    return rng.sample(VERSIONS, rng.choices([1, 2, 3], [12, 4, 1])[0])


def _package(rng: random.Random, name: str, version: str, known: Sequence[str]) -> Package:
    others = [each for each in known if each != name]

    def term(names: Sequence[str]) -> str:
        operator = f" ({rng.choice(OPERATORS)} {rng.choice(VERSIONS)})" if rng.random() < 0.12 else ""
        return f"{rng.choice(names)}{operator}"

    def group() -> str:
        names = ["gone"] if rng.random() < 0.03 else [*others, *others, *PROVIDED]
        return " | ".join(term(names) for _ in range(2 if rng.random() < 0.15 else 1))

    abi = name.removeprefix("libfoo") if name.startswith("libfoo") else ""
    provides = {"libfoo"} if abi else set(rng.sample(PROVIDED, rng.choices([0, 1], [2, 1])[0]))
    if name == "dnsmasq-full" or rng.random() < 0.05:
        provides.add(rng.choice(["dnsmasq", *others]))
    conflicts = [term(others)] if rng.random() < 0.1 else []
    replaces = [Dependency(conflicts[0].split()[0])] if conflicts and rng.random() < 0.35 else []
    return Package(
        name,
        version,
        rng.choice(["all", ARCH]),
        parse_depends(", ".join(group() for _ in range(rng.choices([0, 1, 2, 3], [6, 5, 2, 1])[0]))),
        tuple(sorted(provides - {name})),
        tuple(term for (term,) in parse_depends(", ".join(conflicts))),
        tuple(replaces),
        abi_version=abi,
    )


def write_feed(folder: Path, case: Case) -> None:
    """Package files and an index of all packages, which keeps their order."""
    made = set(map(id, case.packages if case.files is None else case.files))
    folder.mkdir()
    indexed = []
    for package in case.packages:
        if id(package) in made:
            tree = FileTree({f"/{package.name}": file_of(package.version.encode())})
            indexed.append(write_ipk(folder, package, tree, epoch=0).package)
        else:
            indexed.append(package)
    (folder / "Packages").write_text("".join(format_index([package]) for package in indexed))


def install(
    opkg: Path,
    case: Case,
    folder: Path,
    options: Sequence[str] = (),
    *,
    wrap: Callable[[Sequence[str]], Sequence[str]] = list,
    seen: Path | None = None,
) -> Outcome:
    """What opkg makes of a case: one call in an empty root, as package_install of ImageBuilder's Makefile.

    wrap, seen: how opkg runs in a sandbox, and where the folder is there.
    """
    feed, root, cache, lists = (folder / name for name in ("feed", "root", "cache", "lists"))
    there = seen or folder
    if not feed.exists():
        write_feed(feed, case)
    for each in (cache, lists, root / "tmp"):
        each.mkdir(parents=True, exist_ok=True)
    (lists / "local").write_bytes((feed / "Packages").read_bytes())
    (folder / "repositories.conf").write_text(f"src local file:{there}/feed\n")
    argv = [str(opkg), "-f", f"{there}/repositories.conf", *options, "--force-postinstall"]
    argv += [
        "--cache",
        f"{there}/cache",
        "--lists-dir",
        "/../lists",
        "--offline-root",
        f"{there}/root",
    ]  # below root
    argv += ["--add-dest", "root:/", "--add-arch", "all:100", "--add-arch", f"{ARCH}:200"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "IPKG_NO_SCRIPT": "1"}
    environment |= {"TMPDIR": f"{there}/root/tmp", "IPKG_INSTROOT": f"{there}/root"}
    ended = subprocess.run(
        wrap([*argv, "install", *case.requested]),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    status = root / "usr/lib/opkg/status"
    records = _records(status.read_text()) if status.exists() else []
    half = any(record[2][0] != "install" or record[2][2] != "installed" for record in records)
    installed = frozenset((name, version) for name, version, _ in records)
    return Outcome(installed, ended.returncode != 0 or half, ended.stdout + ended.stderr)


def _records(status: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and the words of Status of each package that opkg remembers."""
    found = []
    for paragraph in filter(str.strip, status.split("\n\n")):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        found.append((fields["Package"], fields["Version"], fields["Status"].split()))
    return found


def works(installed: Iterable[tuple[str, str]], packages: Iterable[Package]) -> bool:
    """Whether packages have all that they need, and none beside them that they conflict with."""
    keys = set(installed)
    there = [each for each in packages if (each.name, each.version) in keys]
    return not any(clash(one, other) for one in there for other in there) and all(
        any(fits(term, other) for term in group for other in there)
        for each in there
        for group in each.depends
    )
