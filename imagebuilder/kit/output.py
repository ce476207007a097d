"""What make hands over: the image, the manifest, profiles.json, sha256sums."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from imagebuilder.host.fs import sha256_of, write_whole
from imagebuilder.kit import layout
from imagebuilder.kit.disk import genimage, make_squashfs
from imagebuilder.kit.feed import Say
from imagebuilder.kit.request import Request
from imagebuilder.model.package import Package

PROFILES_JSON = "profiles.json"
SUMS = "sha256sums"


def _plain_name(package: Package, *, strip_abi: bool) -> str:
    if not (strip_abi and package.abi_version and package.name.endswith(package.abi_version)):
        return package.name
    return package.name.removesuffix(package.abi_version).rstrip("-")


def manifest_text(packages: Iterable[Package], *, strip_abi: bool) -> str:
    """`name - version` lines, sorted. strip_abi: names without the ABI version that ends them."""
    lines = (f"{_plain_name(each, strip_abi=strip_abi)} - {each.version}\n" for each in packages)
    return "".join(sorted(lines))


def make_image(request: Request, tree: Path, say: Say) -> Path | None:
    """The disk image in BIN_DIR, or None: a root file system that does not fit is left out with a warning,
    and make goes on as if nothing had been, as with the genuine ImageBuilder."""
    folder = tree / layout.LINUX_DIR
    config = request.config
    image = request.bin_dir / request.image_name
    image.unlink(missing_ok=True)
    size = make_squashfs(
        tree / layout.ROOT_DIR,
        folder / layout.ROOTFS,
        block_size=config.block_size,
        compressor=config.compressor,
        epoch=request.source_date_epoch,
    )
    if size > request.rootfs_partition:
        shown = folder / "tmp" / request.image_name
        say(f"WARNING: Image file {shown} is too big: {size} > {request.rootfs_partition}")
        return None
    values = {"IMAGE": request.image_name, "ROOTFS_SIZE": str(request.rootfs_partition)}
    text = (folder / layout.DISK_CONFIG).read_text("utf-8")
    genimage(text, values, folder, request.bin_dir, request.source_date_epoch)
    return image


def _profiles(request: Request, image: Path) -> dict[str, object]:
    config = request.config
    digest = sha256_of(image)
    entry = {
        "filesystem": layout.FILESYSTEM,
        "name": image.name,
        "sha256": digest,
        "sha256_unsigned": digest,
        "type": layout.IMAGE_TYPE,
    }
    profile = {
        "device_packages": [],
        "image_prefix": request.prefix,
        "images": [entry],
        "supported_devices": [],
        "titles": [{"model": layout.MODEL, "vendor": layout.VENDOR}],
    }
    return {
        "arch_packages": config.architecture,
        "default_packages": sorted(config.default_packages),
        "linux_kernel": {"release": "1", "vermagic": config.version_code, "version": config.kernel_version},
        "metadata_version": 1,
        "profiles": {request.profile: profile},
        "source_date_epoch": request.source_date_epoch,
        "target": config.target,
        "version_code": config.version_code,
        "version_number": config.version,
    }


def write_records(request: Request, packages: Iterable[Package], image: Path | None, say: Say) -> None:
    """Write the manifest, profiles.json if there is an image, and sha256sums over all of BIN_DIR."""
    folder = request.bin_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / request.manifest_name, manifest_text(packages, strip_abi=request.strip_abi).encode())
    if image is None:
        say("JSON info file script could not find any JSON files for target")
    else:
        text = json.dumps(_profiles(request, image), sort_keys=True, separators=(",", ":"))
        write_whole(folder / PROFILES_JSON, text.encode())
    say("Calculating checksums...")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    sums = "".join(f"{sha256_of(path)} *{path.name}\n" for path in files)
    write_whole(folder / SUMS, sums.encode())
