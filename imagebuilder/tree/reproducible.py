"""Two builds of one plan, bit for bit equal: the time that everything is dated, and tools that would guess.

What differs between two builds on LEDE 17.01, each seen there, and what is done about it:

- opkg's installed-time stamps and the times of files: a goal before `build_image` sets both (from 18.06 on
  OpenWrt's prepare_rootfs does the former), and SOURCE_DATE_EPOCH, which that ImageBuilder passes to
  mksquashfs, make_ext4fs, tar and mkimage, but never sets itself.
- mksquashfs 4.2 writes a finished block of small files between two larger files, wherever its other thread
  has come to. Given the larger files first (-sort), it has nothing to choose. The small ones keep the order
  that it would take, each by a priority of its own, since it turns round what shares one: so each block holds
  what it would hold otherwise. Seen on 18.06.9: in the reverse order an image was 5.5 kB larger. Its list of
  priorities is words and numbers, read by fscanf(3) and looked up by inode (read_sort_file() in its sort.c):
  seen on a PandoraBox of 2019, with firmware called "… external LNA_internal …". And it
  numbers files in the order in which their folders list them, another one on each disk (ext4 hashes names
  with a seed of its own): it gets a copy in memory, where names are listed as they were made, or the other
  way round. Seen on 17.01.7: three disks, three images.
- ubinize invents an image sequence number, mkfs.fat a volume's, and mcopy dates files by the clock.
- A fork's makefiles ask `date` for the time that it is.

The last three are stand-ins, laid into the private view, for the tree's programs. Time zone, locale, user,
host name and paths are the sandbox's, the same everywhere.

At the end: whether two builds are equal, and if not, what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import HostError, UserError
from imagebuilder.host.beneath import write_beneath
from imagebuilder.host.files import opened_plain
from imagebuilder.host.fs import CHUNK_BYTES, disk_errors_explained, text_of
from imagebuilder.host.handover import write_whole
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.host.tar import DAMAGED, first_member
from imagebuilder.host.walk import walk
from imagebuilder.log import Log
from imagebuilder.model.result import ImageFile
from imagebuilder.model.tree import Places, TreeError
from imagebuilder.tree.collect import find_rootfs

TOOLS = Path("staging_dir/host/bin")
TRY_SECONDS = 60.0
# where the programs lie that stand-ins stand for: beside bin/, since OpenWrt's own wrappers look for ../lib,
# and under their own names, since some do what they are called
_GENUINE = Path("staging_dir/host/bin-of-the-tree")
# a program itself, or what OpenWrt's wrapper of that name runs
_FORMS = ("{}", ".{}.bin", "bundled/{}")
_RACING = b"mksquashfs version 4.2 "
_EPOCH_MK = re.compile(r"(?m)^SOURCE_DATE_EPOCH:=(\d+)$")
_EPOCH_OF_KIT = re.compile(r'(?m)^CONFIG_KIT_SOURCE_DATE_EPOCH="?(\d+)"?$')

_STAND_IN = """\
#!/usr/bin/env bash
# laid here by the builder, so that two builds are equal
program="${{0%/*}}/../{genuine}/${{0##*/}}"
: "${{SOURCE_DATE_EPOCH:?}}"
"""

_MKSQUASHFS = """\
block=131072
previous=
for word in "$@"; do
	if [ "$previous" = -b ]; then
		case "$word" in
			*[kK]) block=$(( ${word%?} * 1024 )) ;;
			*[mM]) block=$(( ${word%?} * 1048576 )) ;;
			*) block=$word ;;
		esac
	fi
	previous="$word"
done
case " $* " in *" -sort "*) exec "$program" "$@" ;; esac
root="$(realpath "$1")"
shift
# a copy in which each folder lists its names by their bytes; nothing where there is no room in memory
listed() (
	PATH=/usr/local/bin:/usr/bin:/bin
	set -o pipefail
	for place in /tmp /dev/shm; do
		[ "$(stat -f -c %T "$place")" = tmpfs ] || continue
		[ "$(du -sk "$root" | cut -f1)" -lt "$(( $(stat -f -c '%a * %S' "$place") / 2048 ))" ] || continue
		copy="$(mktemp -d "$place/mksquashfs-XXXXXXXX")" || continue
		touch "$copy/1" "$copy/2" "$copy/3"
		case "$(ls -U "$copy" | tr -d '\n')" in 123) turned= ;; 321) turned=-r ;; *) turned=unknown ;; esac
		rm "$copy/1" "$copy/2" "$copy/3"
		if [ "$turned" != unknown ]; then
			cd "$root" && find . -print0 | tr / '\1' | LC_ALL=C sort -z $turned | tr '\1' / |
				tar -c --no-recursion --null --verbatim-files-from -T - | tar -x -p -C "$copy" &&
				echo "$copy" && exit
		fi
		rm -rf "$copy"
	done
	echo "mksquashfs: files are numbered as this disk lists them: on another one the image is another" >&2
)
copy="$(listed)"
[ -z "$copy" ] || root="$copy"
# folder by folder, names by their bytes, as mksquashfs walks. Not by the tree's own programs: each has a
# wrapper in bash, which starts two more
walk() {
	find "$root" -type f "$@" -print0 | tr / '\\1' | LC_ALL=C sort -z | tr '\\1' /
}
order="$(mktemp)"
(
	PATH=/usr/local/bin:/usr/bin:/bin
	{ walk -size +$(( block - 1 ))c; walk ! -size +$(( block - 1 ))c; } | {
		mapfile -d '' -t paths
		[ -z "$copy" ] || mkdir "$copy.names"
		priority=32767 count=0
		for path in "${paths[@]}"; do
			# the list knows no name with a blank in it, but goes by inodes: another name of the file will do
			case "$path" in
				*[[:space:]]*)
					[ -n "$copy" ] && ln "$path" "$copy.names/$(( count += 1 ))" || continue
					path="$copy.names/$count" ;;
			esac
			echo "$path $priority"
			[ "$priority" = -32768 ] || priority=$(( priority - 1 ))
		done
	}
) > "$order"
"$program" "$root" "$@" -sort "$order"
code=$?
rm -rf "$order" ${copy:+"$copy" "$copy.names"}
exit $code
"""

_UBINIZE = """\
case " $* " in
	*" -Q "*|*" --image-seq"*) exec "$program" "$@" ;;
esac
exec "$program" -Q "$(( SOURCE_DATE_EPOCH % 2147483647 ))" "$@"
"""

_MKFS_FAT = """\
case " $* " in
	*" -i "*|*" --invariant "*) exec "$program" "$@" ;;
esac
exec "$program" -i "$(printf %08x "$SOURCE_DATE_EPOCH")" "$@"
"""

_MCOPY = """\
for word in "$@"; do
	case "$word" in
		-*|*::*) ;;
		*) [ ! -f "$word" ] || touch -d "@$SOURCE_DATE_EPOCH" "$word" ;;
	esac
done
exec "$program" -m "$@"
"""

# each stand-in makes something small. $1: the stand-ins' folder, $2: the genuine programs', rest: names
_TRY = """\
folder="$1" genuine="$2" place="$(mktemp -d)"
shift 2
cd "$place" || exit 1
mkdir root
echo content > root/file
printf '[v]\\nmode=ubi\\nimage=root/file\\nvol_id=0\\nvol_type=static\\nvol_name=v\\n' > ubi.ini
try() {
	rm -rf made
	case "$2" in
		mksquashfs4) "$1/$2" root made -noappend -b 65536 ;;
		ubinize) "$1/$2" -o made -m 2048 -p 128KiB ubi.ini ;;
		mkfs.fat) "$1/$2" -C made 1440 ;;
		mcopy)
			[ -x "$1/mkfs.fat" ] || { "$1/$2" -V; return; }
			"$1/mkfs.fat" -C made 1440 && "$1/$2" -i made root/file ::file ;;
	esac > said 2>&1
}
for name in "$@"; do
	try "$folder" "$name" && continue
	reason="$(tail -n 1 said)"
	if try "$genuine" "$name"; then echo "alone $name $reason"; else echo "both $name"; fi
done
rm -rf "$place"
echo tried
"""
_ALL_TRIED = "tried"

# a fork's makefiles ask for the time that it is (GL.iNet's put it into the metadata of images)
_DATE = """\
#!/usr/bin/env bash
# laid here by the builder, so that two builds are equal: the time of the sources, where none is named
PATH=/usr/local/bin:/usr/bin:/bin
case " $* " in
	*" -d"*|*" --date"*|*" -r"*|*" --ref"*|*" -f"*|*" --file"*|*" --help"*|*" --version"*) exec date "$@" ;;
esac
[ -n "$SOURCE_DATE_EPOCH" ] || exec date "$@"
exec date -d "@$SOURCE_DATE_EPOCH" "$@"
"""

_STAND_INS: Mapping[str, str] = {
    "mksquashfs4": _MKSQUASHFS,
    "ubinize": _UBINIZE,
    "mkfs.fat": _MKFS_FAT,
    "mcopy": _MCOPY,
}

# GNU make reads the files in MAKEFILES before its own, and a goal's prerequisites add up
SETTLE_MK = """\
build_image: settle
.PHONY: settle
settle:{after}
\t@cd "$(TARGET_DIR)" && {{ \\
\t\t[ ! -f usr/lib/opkg/status ] || \\
\t\tsed -i "s/^Installed-Time: .*/Installed-Time: $(SOURCE_DATE_EPOCH)/" usr/lib/opkg/status; \\
\t\tfind . -exec touch -h -d "@$(SOURCE_DATE_EPOCH)" {{}} +; \\
\t}}
"""


def settle_makefile(after: Sequence[str] = ()) -> str:
    """The makefile that dates the root file system before images are made of it; after: goals of ours that
    still change it."""
    return SETTLE_MK.format(after="".join(f" {goal}" for goal in after))


def source_date_epoch(tree: Path) -> int:
    """The time that everything in the tree's images is dated, in seconds since 1970: what the tree says
    itself, else the time at which its kernel package (or another that no feed replaces) was built.

    Sources, in this order: version.date and include/version.mk as OpenWrt's get_source_date_epoch.sh and
    target/imagebuilder/Makefile write them; the first member of an ipk, dated by ipkg-build. 0 for a tree
    that has nothing of that. TreeError for a damaged package.
    """
    stated = text_of(tree / "version.date").strip()
    if stated.isascii() and stated.isdigit():
        return int(stated)
    for name, pattern in (("include/version.mk", _EPOCH_MK), (".config", _EPOCH_OF_KIT)):
        found = pattern.search(text_of(tree / name))
        if found is not None:
            return int(found[1])
    packages = sorted(tree.glob("packages/kernel_*.ipk")) or sorted(tree.glob("packages/*.ipk"))
    if not packages:
        return 0  # a tree without packages makes no file system that could hold a time
    return _built_at(packages[0])


def _built_at(package: Path) -> int:
    try:
        with opened_plain(package) as stream:
            member = first_member(stream)
    except (*DAMAGED, OSError) as error:
        raise TreeError(f"{package} is no package: {error}", hint="the tree is damaged") from error
    if member is None:
        raise TreeError(f"{package} is empty", hint="the tree is damaged")
    return int(member.mtime)


def steady_tools(tree: Path, view: PrivateView, log: Log, cache: Path | None = None) -> tuple[str, ...]:
    """Lay the stand-ins into the view, for those programs that the tree has and that need them; their
    names. Each is tried first, with the same programs once only where there is a cache; one that does not
    work is left out, with a warning. HostError where nothing can be tried."""
    _lay_date(tree, view)
    laid = _lay(tree, view)
    failed = _failed(tree, view, laid, cache) if laid else {}
    for name, reason in failed.items():
        _take_out(tree, view, name)
        if reason is None:
            log.note(f"the tree's {name} does not run here")
            continue
        log.warn(
            f"the tree's {name} cannot be made deterministic here ({reason}): two builds may give different"
            " images where they need it"
        )
    return tuple(name for name in laid if name not in failed)


def _lay_date(tree: Path, view: PrivateView) -> None:
    """A `date` for the tree's makefiles, where it has programs: that folder is the first in their PATH."""
    if (tree / TOOLS).is_dir():
        write_beneath(view.changed, str(TOOLS / "date"), _DATE.encode(), 0o755)


def _lay(tree: Path, view: PrivateView) -> list[str]:
    laid = []
    for name, script in _STAND_INS.items():
        program = tree / TOOLS / name
        if not program.is_file() or (name == "mksquashfs4" and not _races(tree)):
            continue
        _keep_genuine(program, view)
        text = _STAND_IN.format(genuine=_GENUINE.name) + script
        write_beneath(view.changed, str(TOOLS / name), text.encode(), 0o755)
        laid.append(name)
    if laid:
        _show_wrapped(tree / TOOLS, view, laid)
    return laid


def _failed(tree: Path, view: PrivateView, names: Sequence[str], cache: Path | None) -> dict[str, str | None]:
    """As _tried(), or what it found with the very same programs before."""
    facts: list[tuple[object, ...]] = [(_TRY, *(_STAND_INS[name] for name in names))]
    for name in names:
        for path in (tree / TOOLS / form.format(name) for form in _FORMS):
            if path.is_file():
                facts.append((str(path), path.stat().st_size, path.stat().st_mtime_ns))
    known = repr(facts)
    place = cache / "indexes" / f"{hashlib.sha256(known.encode()).hexdigest()}.tools" if cache else None
    if place is not None and place.is_file():
        with suppress(ValueError):
            kept = json.loads(place.read_bytes())
            if isinstance(kept, dict) and kept.keys() <= set(names):
                os.utime(place)  # last used now
                return kept
    failed = _tried(view, names)
    if place is not None:
        with disk_errors_explained(place.parent):
            write_whole(place, json.dumps(failed).encode())
    return failed


def _tried(view: PrivateView, names: Sequence[str]) -> dict[str, str | None]:
    """Those stand-ins that fail in the view, each with what it said last; None where the tree's own program
    fails in the same way, so that no image needs it."""
    folders = view.tree / TOOLS, view.tree / _GENUINE
    done = run(
        view.command(["bash", "-c", _TRY, "try", *map(str, folders), *names]),
        env=clean_environment(SOURCE_DATE_EPOCH="1"),
        timeout=TRY_SECONDS,
        check=False,
        watch=view.watch("trying the tree's tools"),
    )
    failed: dict[str, str | None] = {}
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        name, _, reason = rest.partition(" ")
        if kind in ("alone", "both") and name in names:
            failed[name] = reason if kind == "alone" else None
    if _ALL_TRIED not in done.stdout.splitlines():
        raise HostError(
            f"the stand-ins for the tree's tools could not be tried: {done.stderr.strip()[-500:]}",
            hint="does bash run on this machine?",
        )
    return failed


def _take_out(tree: Path, view: PrivateView, name: str) -> None:
    """Show the tree's own program again."""
    place = view.changed / TOOLS / name
    place.unlink()
    if view.kind == "copy":
        shutil.copy2(tree / TOOLS / name, place, follow_symlinks=False)


def _keep_genuine(program: Path, view: PrivateView) -> None:
    """Copy a program of the tree."""
    place = write_beneath(view.changed, str(_GENUINE / program.name), program.read_bytes())
    shutil.copystat(program, place)


def _show_wrapped(tools: Path, view: PrivateView, laid: Sequence[str]) -> None:
    """Show beside them what OpenWrt's wrappers run, `.NAME.bin` for one: what one of them names, or what is
    called like one; and folders, such as `bundled`. laid: the programs' names."""
    folder = view.changed / _GENUINE
    there = {path.name for path in folder.iterdir()}
    wrappers = b"\0".join(data for name in laid if (data := (folder / name).read_bytes())[:2] == b"#!")

    def is_wanted(entry: os.DirEntry[str]) -> bool:
        called = any(name in entry.name for name in laid) or os.fsencode(entry.name) in wrappers
        return entry.is_dir() or (called and entry.name.startswith("."))

    with os.scandir(tools) as entries:
        for entry in entries:
            if entry.name not in there and is_wanted(entry):
                (folder / entry.name).symlink_to(f"../{TOOLS.name}/{entry.name}")


def _races(tree: Path) -> bool:
    """Whether the tree's mksquashfs is the one whose threads race; later ones wait for one another."""
    programs = (tree / TOOLS / form.format("mksquashfs4") for form in _FORMS)
    return any(program.is_file() and _RACING in program.read_bytes() for program in programs)


SHOWN = 10  # files of a root file system that a message names


class ReproducibilityError(UserError):
    """Two builds of one plan are not equal."""


@dataclass(frozen=True)
class BuildRecord:
    """One build, to be compared with another. folder: where its images lie. files: the root file system that
    they were made of, by path: kind, mode and SHA-256 or target."""

    folder: Path
    images: tuple[ImageFile, ...]
    files: Mapping[str, str]


def record_build(folder: Path, images: Sequence[ImageFile], changed: Path, places: Places) -> BuildRecord:
    """The record of a build whose view still exists. changed: the view's; places: the tree's."""
    rootfs = find_rootfs(changed, places)
    return BuildRecord(folder, tuple(images), {} if rootfs is None else _described(rootfs))


def _described(rootfs: Path) -> dict[str, str]:
    described = {}
    for item in walk(rootfs, bounded=True):
        facts = stat.filemode(item.status.st_mode)
        if item.is_link:
            facts += f" -> {item.target()}"
        elif item.is_file:
            facts += f" {item.sha256()}"
        described[f"/{item.path}"] = facts
    return described


def differences(first: BuildRecord, second: BuildRecord) -> tuple[str, ...]:
    """What differs in the images that the board declares, a sentence for each image, then for each file of
    the root file systems; nothing where all images are equal."""
    ours = {image.type: image for image in first.images}
    theirs = {image.type: image for image in second.images}
    lines = []
    for name in dict.fromkeys((*ours, *theirs)):
        if name not in ours or name not in theirs:
            lines.append(f"only the {'second' if name not in ours else 'first'} build made the {name} image")
        elif ours[name].sha256 != theirs[name].sha256:
            place = _first_difference(first.folder / ours[name].file, second.folder / theirs[name].file)
            lines.append(f"the {name} image differs, first at byte {place} of {ours[name].size}")
    return (*lines, *_differing_files(first.files, second.files)) if lines else ()


def check_equal(first: BuildRecord, second: BuildRecord) -> None:
    """ReproducibilityError, naming what differs, unless every declared image is the same twice."""
    lines = differences(first, second)
    if lines:
        raise ReproducibilityError(
            "two builds of one plan differ:\n" + "\n".join(lines),
            hint="a package's script or an overlay may hold a time or a random number",
        )


def _differing_files(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    differing = sorted(path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path))
    if not differing:
        return ["the root file systems hold the same: it is the program that makes the image"]
    lines = []
    for path in differing[:SHOWN]:
        if path not in ours or path not in theirs:
            lines.append(
                f"{path} is in the {'second' if path not in ours else 'first'} root file system only"
            )
        else:
            kinds = ours[path][:10], theirs[path][:10]
            lines.append(f"{path} differs" + (f": {kinds[0]} and {kinds[1]}" if kinds[0] != kinds[1] else ""))
    more = len(differing) - SHOWN
    return [*lines, f"and {more} more files"] if more > 0 else lines


def _first_difference(one: Path, other: Path) -> int:
    """The first byte, counted from 0, that differs, or the shorter length."""
    offset = 0
    with one.open("rb") as first, other.open("rb") as second:
        while True:
            ours, theirs = first.read(CHUNK_BYTES), second.read(CHUNK_BYTES)
            if ours != theirs or not ours:
                pairs = enumerate(zip(ours, theirs, strict=False))
                inside = (number for number, (a, b) in pairs if a != b)
                return offset + next(inside, min(len(ours), len(theirs)))
            offset += len(ours)
