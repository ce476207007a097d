"""Predicted against real sizes: before anything is fetched, and with the packages at hand.

    .venv/bin/python tests/benchmarks/size_prediction.py --imagebuilder TREE

TREE: LEDE 17.01.7 for ar71xx/generic with its package cache (a used tree). Images of it (in a copy below
TMPDIR) and of the embedded kit are planned, predicted, measured and built; a row each: the root file system's
bytes, what was predicted from the index (within 5 % is wanted), what the tree's own mksquashfs made of the
unpacked packages (within 1 %), and the largest error of the image files. No image was used to find the
compression figures, and of the packages only every second one (compression_figures.py): all are held out.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.ask import look_at_tree
from imagebuilder.budget.flash import FlashFacts, predict_rootfs
from imagebuilder.budget.flash_known import compressed_files
from imagebuilder.host.fs import user_cache
from imagebuilder.host.run import clean_environment
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.kit.prepare import prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Places
from imagebuilder.packages.opkg.feed import base_packages, index_of, own_packages
from imagebuilder.packages.opkg.ipk_reader import read_control, read_ipk
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.opkg.records import installed_tree
from imagebuilder.packages.opkg.resolve import resolve
from imagebuilder.packages.package_list import package_list, read_list
from imagebuilder.rootfs.files import content, read_tree, write_tree
from imagebuilder.rootfs.tree import EMPTY, FileTree
from imagebuilder.tree.measure import ImageSize, image_facts, image_sizes, measure_squashfs, squashfs_options
from imagebuilder.tree.reproducible import settle_makefile, source_date_epoch, steady_tools
from imagebuilder.tree.tree import parse_info, settings_of

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = PROJECT / "imagebuilder/tree"  # Python's source code, as an app's files would be
GENUINE = (
    ("tl-wr740n-v4", "", False),
    ("tl-wr740n-v4", "-ppp -ppp-mod-pppoe -odhcpd -odhcp6c -ip6tables", False),
    ("gl-ar150", "", False),
    ("gl-ar150", "luci", False),
    ("tl-wr1043nd-v2", "luci kmod-usb-storage kmod-fs-ext4 kmod-fs-vfat", False),
    ("carambola2", "kmod-bluetooth kmod-fs-nfs kmod-fs-cifs kmod-fs-xfs kmod-fs-btrfs", False),
    ("onion-omega", "", True),
    ("gl-mifi", "luci kmod-ath10k kmod-usb-net-qmi-wwan kmod-batman-adv", False),
    ("tl-mr3020-v1", "-dnsmasq -firewall -iptables -ip6tables -ppp -ppp-mod-pppoe kmod-usb-audio", False),
    ("tl-wdr3600-v1", "uhttpd rpcd luci-base kmod-ipt-nat6 kmod-ipsec kmod-sched", False),
    ("rw2458n", "-wpad-mini -kmod-ath9k kmod-video-core kmod-dahdi", False),
    ("tl-wr841-v9", "uhttpd-mod-ubus rpcd kmod-ipt-ipset kmod-sched-core", True),
)
KIT = (
    ("qemu-x86-64", "", False),
    ("qemu-x86-64", "python3-base", False),
    ("qemu-x86-64", "python3-light", True),
    ("qemu-x86-64", "python3", False),
    ("qemu-x86-64", "python3-light python3-light-src dropbear", False),
    ("qemu-x86-64", "python3 python3-pip", False),
)


Case = tuple[str, str, bool]  # a profile, words for PACKAGES, and whether there are files besides


@dataclass(frozen=True)
class Predicted:
    """A case's root file system. real, before, after: bytes that were built, predicted from the index, and
    measured after the fetch; doubt: how wrong the prediction may be, as a part of it; worst: the largest
    relative errors of the image files by both, None where no recipe is known."""

    name: str
    packages: int
    real: int
    before: int
    doubt: float
    after: int
    worst: tuple[float | None, float | None]

    @property
    def errors(self) -> tuple[float, float]:
        """By how much both are too large, as parts of what was built."""
        return self.before / self.real - 1, self.after / self.real - 1


@dataclass(frozen=True)
class Place:
    """A tree that may be written to. files: the package files by name; offered: what its index says."""

    tree: Path
    places: Places
    target: str
    said: FlashFacts
    files: dict[str, Path]
    offered: Sequence[Package]
    defaults: tuple[str, ...]
    profiles: dict[str, tuple[str, ...]]
    epoch: int


def quietly(argv: Sequence[str], cwd: Path, **variables: str) -> str:
    env = {**clean_environment(HOME="/nonexistent"), **variables}
    return subprocess.run(
        argv, cwd=cwd, env=env, check=True, capture_output=True, text=True, umask=0o022
    ).stdout


def open_place(original: Path, folder: Path) -> Place:
    """A copy of a tree whose packages are all in its packages/, so that make asks no server; it builds the
    same image each time, as the pipeline's builds do."""
    tree = folder / "tree"
    shutil.copytree(original, tree, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    for path in (tree / "dl").glob("*.ipk"):
        path.rename(tree / "packages" / path.name)
    (tree / "repositories.conf").write_text("src imagebuilder file:packages\n")
    steady_tools(tree, PrivateView("copy", tree, tree, tree), Log())
    epoch = source_date_epoch(tree)
    told = look_at_tree(str(tree), folder / "cache", Log())
    places = told.places
    packages = own_packages(tree)
    offered = [
        *parse_index(index_of(tree / "packages", packages)),
        *(read_control(path).control for path in base_packages(tree, places)),
    ]
    files = {read_control(path).control.name: path for path in (*packages, *base_packages(tree, places))}
    settings = settings_of(tree)
    defaults, profiles = parse_info(quietly(["make", "--no-print-directory", "info"], tree))
    target = f"{settings['TARGET_BOARD']}/{settings.get('TARGET_SUBTARGET') or 'generic'}"
    said = FlashFacts(
        squashfs=squashfs_options(tree, places),
        arch=settings["TARGET_ARCH_PACKAGES"],
        version=told.release,
        images=image_facts(tree, places, target, ""),
    )
    named = {name: profile.packages for name, profile in profiles.items()}
    return Place(tree, places, target, said, files, offered, defaults, named, epoch)


def wanted(place: Place, profile: str, packages: str) -> tuple[Package, ...]:
    trees = dict.fromkeys((*place.defaults, "kernel", *place.profiles[profile]), "")
    return resolve(package_list(trees, read_list(packages.split())), place.offered).packages


def measured(place: Place, packages: Iterable[Package], over: FileTree, work: Path) -> int:
    """After the packages were fetched."""
    whole = installed_tree((read_ipk(place.files[each.name]) for each in packages), over)
    write_tree(whole, work / "root", mtime=place.epoch)
    (work / "root").chmod(0o755)
    image = work / "root.squashfs"
    return measure_squashfs(place.tree, place.said.squashfs, work / "root", image, epoch=place.epoch)


def built(
    place: Place, profile: str, packages: str, files: Path | None, work: Path
) -> tuple[int, list[Path]]:
    """The bytes of the real root file system (its superblock says them), and the images."""
    argv = ["make", "image", f"PROFILE={profile}", f"PACKAGES={packages}", f"BIN_DIR={work / 'bin'}"]
    hooks = work / "hooks.mk"
    hooks.write_text(settle_makefile() + "MAKEFILE_LIST :=\n")
    given = [f"FILES={files}"] if files else []
    times = {"MAKEFILES": str(hooks), "SOURCE_DATE_EPOCH": str(place.epoch)}
    quietly([*argv, *given], place.tree, **times)
    (squashfs,) = place.tree.glob("build_dir/target-*/linux-*/root.squashfs")
    with squashfs.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(48)[40:])
    return size, sorted((work / "bin").iterdir())


def worst(sizes: dict[str, ImageSize], images: Sequence[Path], profile: str) -> float | None:
    """The largest relative error of the image files; None where no recipe is known."""
    errors = [
        size.size / path.stat().st_size - 1
        for name, size in sizes.items()
        for path in images
        if size.size is not None and f"-{profile}-squashfs-{name}." in path.name
    ]
    return max(errors, key=abs) if errors else None


def predicted(place: Place, profile: str, packages: str, files: Path | None) -> Predicted:
    """Plan, predict, measure and build one case."""
    over = read_tree(files) if files else EMPTY
    plan = wanted(place, profile, packages)
    facts = image_facts(place.tree, place.places, place.target, profile)
    contents = (content(entry) for entry in over.values() if entry.kind == "file")
    added = compressed_files(contents, place.said.squashfs)
    before = predict_rootfs(plan, place.said, added).amount
    with tempfile.TemporaryDirectory(dir=place.tree.parent) as work:
        (Path(work) / "bin").mkdir()
        after = measured(place, plan, over, Path(work))
        real, images = built(place, profile, packages, files, Path(work))
        guesses = (image_sizes(facts, before.bytes), image_sizes(facts, after))
        first, second = (worst(guess, images, profile) for guess in guesses)
    name = f"{profile} {packages}{' + files' if files else ''}"
    doubt = before.uncertainty / before.bytes
    return Predicted(name, len(plan), real, before.bytes, doubt, after, (first, second))


def all_predicted(original: Path, cases: Sequence[Case]) -> Iterator[Predicted]:
    """Each case, in one copy of a tree."""
    with tempfile.TemporaryDirectory() as folder:
        place = open_place(original, Path(folder))
        app = Path(folder) / "files"
        left_out = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(SOURCES, app / "usr/share/app", ignore=left_out)
        app.chmod(0o755)
        for profile, packages, with_files in cases:
            yield predicted(place, profile, packages, app if with_files else None)


def show(found: Predicted) -> None:
    """A line of the table."""
    first, second = found.errors
    shown = ["unknown" if error is None else f"{error:+.2%}" for error in found.worst]
    print(
        f"{found.name[:58]:58} {found.packages:4} {found.real:9} {found.before:9} {first:+7.2%}"
        f" (±{found.doubt:.1%}) {found.after:9} {second:+7.2%}  {shown[0]:>8} {shown[1]:>8}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    options = parser.parse_args()
    print(f"{'image':58} pkgs      real  predicted from index     after fetch        files before    after")
    rows = []
    genuine, kit = options.imagebuilder.resolve(), prepare_kit(EDITIONS["embedded"], user_cache(), Log())
    for original, cases in ((genuine, GENUINE), (kit, KIT)):
        for found in all_predicted(original, cases):
            show(found)
            rows.append(found.errors)
    before, after = (max(map(abs, errors)) for errors in zip(*rows, strict=True))
    print(f"{len(rows)} images; worst before fetch {before:.2%}, after fetch {after:.2%}")


if __name__ == "__main__":
    main()
