"""`make image`: its arguments, and running it in a private view of the tree.

The tree's own check of host programs is passed: it asks for what no image needs. ImageBuilders come with the
check of the whole build system: a C compiler, ncurses, git, and the Pythons that were there when the series
began. 17.01 to 19.07 want Python 2, which current distributions no longer have; 21.02 knows Pythons up to
3.10 only, and wants distutils; forks want more (OCaml, Go, texinfo). Making images takes none of that; what
it does take is checked by host/tools.py. Without the check a build is some seconds faster, too. Source:
include/prereq-build.mk, `.prereq-build` in the ImageBuilder's Makefile; links to host programs, which the
check also makes, stand in for PATH only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.beneath import write_beneath
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import TAIL_LINES, clean_environment, stream
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.tree.collect import BuildError, MakeReport, check_packages, read_output, stage_of
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.recipe_shell import lay_quick_wrappers, recipe_shell, shell_text
from imagebuilder.tree.reproducible import settle_makefile, source_date_epoch, steady_tools
from imagebuilder.tree.tree import settings_of
from imagebuilder.trust.signing_key import lay_tree_key

# GNU make reads the files in MAKEFILES before its own. 17.01 and 18.06 do not know DISABLED_SERVICES; both
# build images by the goal build_image, which gets one prerequisite more here.
_DISABLE_GOAL = "disable_services"
_DISABLE_MK = """\
build_image: disable_services
.PHONY: disable_services
disable_services:
\t@cd "$(TARGET_DIR)" && for service in {services}; do \\
\t\t[ ! -f "./etc/init.d/$$service" ] || \\
\t\tIPKG_INSTROOT="$(TARGET_DIR)" bash ./etc/rc.common "./etc/init.d/$$service" disable; \\
\tdone
"""
# nothing that a used tree has in its dl/ is looked at: not checked by anybody, and perhaps of another release
_CACHE_MK = "override DL_DIR := {folder}\n"
# old recipes (image-legacy.mk) run in a make of their own, which knows no variable of the command line
_BIN_MK = "override BIN_DIR := {folder}\nexport BIN_DIR\n"
# OpenWrt's prereq.mk calls make with the first of the makefiles that were read, and means itself
_LAST_MK = "MAKEFILE_LIST :=\n"
_COPIES_BY_PATTERN = "$(USER_FILES)/*"
_DOTTED = (".[!.]*", "..?*")
HOOKS = "hooks.mk"
GIVEN_HOOKS = "given.mk"  # what others want make to read before its own makefiles, if it is there
_SETTING = "CONFIG_TARGET_"


def make_arguments(
    profile: str,
    packages: Sequence[str],
    *,
    disabled_services: Sequence[str] = (),
    extra_name: str | None = None,
    rootfs_partsize: int | None = None,
    sizes_rootfs: bool = True,
) -> list[str]:
    """`image` and its variables, all but the paths. rootfs_partsize: MiB; sizes_rootfs: make knows
    ROOTFS_PARTSIZE, which it is from some 21.02 on. Older ones get the setting of .config that it stands
    for, which make_image() makes good."""
    arguments = ["image", f"PROFILE={profile}", f"PACKAGES={' '.join(packages)}"]
    if disabled_services:
        arguments.append(f"DISABLED_SERVICES={' '.join(disabled_services)}")
    if extra_name:
        arguments.append(f"EXTRA_IMAGE_NAME={extra_name}")
    if rootfs_partsize:
        arguments.append(f"{'' if sizes_rootfs else _SETTING}ROOTFS_PARTSIZE={rootfs_partsize}")
    return arguments


def make_image(
    view: PrivateView,
    plan: Plan,
    work: Path,
    build_log: Path,
    log: Log,
    *,
    cache: Path | None = None,
    begun: Callable[[], None] | None = None,
) -> MakeReport:
    """Run `make image` in the view and write all it prints to build_log; what it complains of. begun: called
    once it runs.

    work: the folder that the view shows as view.work; FILES are taken from its `files`, and images go to
    its `bin`. If there is a `feed` in it (packages.opkg.feed), packages come from there and from the tree's
    own packages/ only; if there is a makefile GIVEN_HOOKS in its `make`, make reads it first.
    Two builds of one plan give equal images (tree.reproducible), signed alike, by a key of the tree's own
    (trust.signing_key). cache: what was found out about the tree is kept there.

    BuildError if make fails or a package does not go in; HostError if the disk is full; LimitError where
    something that make runs takes more than it may (host.limits); KeyFileError for a damaged signing key.
    """
    tree = Path(plan.tree.folder)
    for name in ("bin", "home", "tmp", "dl"):
        (work / name).mkdir(exist_ok=True)
    text = hooks_text(plan, view.work, hermetic=(work / "feed").exists())
    bash = recipe_shell(tree, view.tree)
    _write_hooks(text + shell_text(bash), work / "make")
    lay_quick_wrappers(tree, view, bash)
    steady_tools(tree, view, log, cache)
    pass_host_check(tree, view)
    lay_tree_key(tree, settings_of(tree), view, cache)
    environment = clean_environment(
        HOME=str(view.work / "home"),
        TMPDIR=str(view.work / "tmp"),
        MAKEFILES=str(view.work / "make" / HOOKS),
        SOURCE_DATE_EPOCH=str(source_date_epoch(tree)),
    )
    argv = view.command(["make", *plan.make, *_paths(tree, view, work / "files")])
    watch = view.watch("make image")
    code, stage = _run_make(argv, environment, build_log, log, watch, begun=begun)
    lines = build_log.read_text("utf-8").splitlines()
    report = read_output(lines)
    if report.no_space:
        raise HostError(
            f"no space left on the disk of {work} while make ran{f' ({stage})' if stage else ''}",
            hint="free some space, or choose another place with --output",
        )
    for program in report.not_started:
        log.warn(f"make could not start a program, and what it was to do is perhaps not done: {program}")
    check_packages(plan, report)
    if code != 0:
        tail = "\n".join(lines[-TAIL_LINES:])
        raise BuildError(f"make exited with {code}, saying last:\n{tail}")
    return report


def _run_make(
    argv: Sequence[str],
    environment: Mapping[str, str],
    build_log: Path,
    log: Log,
    watch: Watch | None,
    *,
    begun: Callable[[], None] | None,
) -> tuple[int, str]:
    """Its exit code, and what it did last, in words; what it prints goes to build_log."""
    last = ""
    with build_log.open("w", encoding="utf-8") as stream_to:

        def on_line(line: str) -> None:
            nonlocal last
            stream_to.write(line + "\n")
            log.output(line)
            stage = stage_of(line)
            if stage:
                log.progress(stage)
                last = stage
                if watch is not None:
                    watch.step = stage

        done = stream(argv, on_line, env=environment, check=False, log=log, watch=watch, begun=begun)
        return done.code, last


def hooks_text(plan: Plan, work: Path, *, hermetic: bool) -> str:
    """The makefile that every make of this build reads first, all but what the package manager has in
    GIVEN_HOOKS. work: as the view shows it; hermetic: the tree's dl/ is passed by."""
    after = []
    text = ""
    if plan.disabled_services and not plan.tree.disables_services:
        text += _DISABLE_MK.format(services=" ".join(plan.disabled_services))
        after.append(_DISABLE_GOAL)
    text += settle_makefile(after)
    # a variable of the command line does not reach the make that _call_image calls; a makefile does
    for name, _, value in (word.partition("=") for word in plan.make):
        if name.startswith(_SETTING):
            text += f"override {name} := {value}\n"
    text += _BIN_MK.format(folder=work / "bin")
    if hermetic:
        text += _CACHE_MK.format(folder=work / "dl")
    return text


def _write_hooks(text: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    given = folder / GIVEN_HOOKS
    if given.exists():
        text += given.read_text("utf-8")
    (folder / HOOKS).write_text(text + _LAST_MK, "utf-8")


def _paths(tree: Path, view: PrivateView, files: Path) -> list[str]:
    """The variables that are paths. FILES pointing nowhere would be skipped in silence."""
    paths = [f"BIN_DIR={view.work / 'bin'}"]
    if not files.exists():
        return paths
    text = (tree / "Makefile").read_text("utf-8", "replace")
    return [*paths, f"FILES={files_variable(text, files, view.work / files.name)}"]


def files_variable(makefile: str, folder: Path, shown: Path) -> str:
    """What FILES must be, so that all of a folder reaches the image. makefile: the tree's; shown: where make
    sees the folder.

    17.01 and forks of it copy `$(USER_FILES)/*`, which leaves out names that begin with a dot; make and its
    shell take FILES for words there, so that patterns for those go before the folder.
    """
    if _COPIES_BY_PATTERN not in makefile:
        return str(shown)
    names = [path.name for path in folder.iterdir()]
    if names and all(name.startswith(".") for name in names):
        (folder / "etc").mkdir()  # a pattern that finds nothing stops cp; every image has /etc
        (folder / "etc").chmod(0o755)
    found = [shape for shape in _DOTTED if any(fnmatch.fnmatchcase(name, shape) for name in names)]
    return " ".join([*(f"{shown}/{shape}" for shape in found), str(shown)])


_CHECK = Path("include/prereq-build.mk")
_PASSED = Path("staging_dir/host/.prereq-build")
_MORE = Path("include/prepare.mk")  # from 22.03 on the goal does that too, where a tree has it


def pass_host_check(tree: Path, view: PrivateView) -> bool:
    """Mark the check as passed in the view, if the tree has one that make would run; whether it did."""
    check, passed = tree / _CHECK, tree / _PASSED
    if not check.is_file() or (tree / _MORE).exists():
        return False
    if passed.exists() and passed.stat().st_mtime >= check.stat().st_mtime:
        return False
    write_beneath(view.changed, str(_PASSED), b"")
    return True
