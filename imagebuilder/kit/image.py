"""What make makes of the tree: the root file system, the disk, the manifest, profiles.json, sha256sums.

The root is packages unpacked, opkg's records of them, FILES on top, and services enabled. The disk is a GPT
image of a squashfs of it, with the ESP and the writable partition. Everything that could differ from one run
to the next is fixed: times, identifiers, serial numbers, order.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.host.handover import temporary_folder, write_whole
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.walk import remove_tree
from imagebuilder.kit import layout
from imagebuilder.kit.feed import KitFeedError, Offer, Say
from imagebuilder.kit.request import MakeRequest
from imagebuilder.model.control import fields_of, format_fields
from imagebuilder.model.init_script import INIT, RC, is_init_script, links_of
from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.opkg.ipk_reader import Ipk, read_ipk
from imagebuilder.packages.resolution import Resolution
from imagebuilder.rootfs.files import content, read_tree, write_tree
from imagebuilder.rootfs.tree import Entry, FileTree, file_of, symlink

TOOL_SECONDS = 300.0
OVERLAY_BYTES = 32 << 20
ESP_SLACK_BYTES = 2 << 20  # FAT's own tables, and room for a second loader entry
MIB = 1 << 20
_PLAIN = Path("/tmp")  # noqa: S108 (there everywhere, whatever TMPDIR says, and its name has no blanks)
_OVERLAY_UUID = "4f575254-0000-4000-8000-000000000004"


def make_squashfs(root: Path, image: Path, *, block_size: int, compressor: Sequence[str], epoch: int) -> int:
    """A squashfs of the folder, all of it owned by root and dated `epoch`; its size in bytes.

    block_size: bytes. compressor: its name, and options for it. ProgramError if mksquashfs fails.
    """
    name, *options = compressor
    argv = ["mksquashfs", str(root), str(image), "-noappend", "-quiet", "-no-progress", "-no-xattrs"]
    argv += ["-all-root", "-mkfs-time", str(epoch), "-all-time", str(epoch)]
    argv += ["-b", str(block_size), "-comp", name, *options]
    run(argv, timeout=TOOL_SECONDS)
    return image.stat().st_size


def make_overlay(image: Path, epoch: int) -> None:
    """An empty ext4 of OVERLAY_BYTES for what changes in the guest. ProgramError if mke2fs fails."""
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^huge_file", "-J", "size=1", "-N", "8192", "-m", "0"]
    argv += ["-I", "256", "-L", "rootfs_data", "-U", _OVERLAY_UUID]
    argv += ["-E", f"hash_seed={_OVERLAY_UUID},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"]
    # of e2fsprogs 1.47 only the first is heard, of later ones the second
    times = clean_environment(E2FSPROGS_FAKE_TIME=str(epoch), SOURCE_DATE_EPOCH=str(epoch))
    run([*argv, str(image), f"{OVERLAY_BYTES >> 10}k"], env=times, timeout=TOOL_SECONDS)


def genimage(config: str, values: Mapping[str, str], inputs: Path, into: Path, epoch: int) -> None:
    """Run genimage on a configuration with its @NAME@ places filled in. inputs: the folder of the parts;
    into: where the images that it describes go. ProgramError if genimage fails."""
    for name, value in values.items():
        config = config.replace(f"@{name}@", value)
    into.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors_explained(into),
        temporary_folder("scratch", _PLAIN) as plain,
        temporary_folder("scratch", inputs) as scratch,
    ):
        for folder in ("root", "temporary", "out"):
            (scratch / folder).mkdir()
        (scratch / "genimage.cfg").write_text(config, "utf-8")
        # genimage gives paths to mmd without quotes: a blank in the name of a folder of the user's would end
        # them, as seen with genimage 16
        named = plain / "inputs"
        named.symlink_to(inputs.absolute())
        place = named / scratch.name
        argv = ["genimage", "--loglevel", "1", "--config", f"{place}/genimage.cfg", "--inputpath", str(named)]
        argv += ["--rootpath", f"{place}/root", "--tmppath", f"{place}/temporary"]
        argv += ["--outputpath", f"{place}/out"]
        times = clean_environment(SOURCE_DATE_EPOCH=str(epoch))
        run(argv, cwd=inputs, env=times, timeout=TOOL_SECONDS)
        for made in (scratch / "out").iterdir():
            shutil.move(made, into / made.name)


def esp_size(parts: Sequence[Path]) -> int:
    """The bytes that an ESP with these files needs, in whole MiB."""
    total = sum(part.stat().st_size for part in parts) + ESP_SLACK_BYTES
    return -(-total // MIB) * MIB


INFO = "/usr/lib/opkg/info"
STATUS = "/usr/lib/opkg/status"
SCRIPT_SECONDS = 60.0


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
        raise KitFeedError(f"the index says {package.size} bytes of {file}, which is not there like that")
    return read_ipk(file)


def packages_tree(resolution: Resolution, offer: Offer, epoch: int, say: Say) -> FileTree:
    """All packages' files and opkg's records of them, as one tree. epoch: seconds since 1970.

    KitFeedError where two packages bring one file, or a package file is not what the index says.
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
                raise KitFeedError(
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
    """The tree with the folder FILES copied over it. KitFeedError where cp would refuse: a folder over
    something that is none."""
    over = read_tree(files.resolve())
    for path, entry in over.items():
        if entry.kind == "dir" and path in tree and tree[path].kind != "dir":
            raise KitFeedError(f"cp: cannot overwrite non-directory '.{path}' with directory '{files}{path}'")
    return tree.merged(over)


def with_services(tree: FileTree, disabled: Iterable[str]) -> FileTree:
    """The tree with every init script enabled or disabled, as `rc.common SCRIPT enable` does it."""
    off = set(disabled)
    links: dict[str, Entry] = {}
    stale: set[str] = set()
    for path in tree.children(INIT):
        name = path.rpartition("/")[2]
        if tree[path].kind != "file" or not is_init_script(script := content(tree[path])):
            continue
        named = re.compile(rf"{RC}/[SK]\d\d{re.escape(name)}")
        stale.update(link for link in tree.children(RC) if named.fullmatch(link))
        if name not in off:
            links.update((link, symlink(target)) for link, target in links_of(name, script).items())
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


def make_root(request: MakeRequest, resolution: Resolution, offer: Offer, root: Path, say: Say) -> None:
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


def make_image(request: MakeRequest, tree: Path, say: Say) -> Path | None:
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


def _profiles(request: MakeRequest, image: Path) -> dict[str, object]:
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


def write_records(request: MakeRequest, packages: Iterable[Package], image: Path | None, say: Say) -> None:
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
