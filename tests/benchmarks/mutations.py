"""Mutations that the tests once let live, each applied to a copy of the project and tried with its test.

    .venv/bin/python tests/benchmarks/mutations.py [WORD…]

A mutation is one wrong piece of code in the place of the right one. Every test is run on the copy as it is
first, where it must pass, and then once for each mutation that it is to kill. Prints a line for each, and
ends with 1 if one survives. It ends with an error where the right piece of code is not there exactly once,
where a test is not there, and where the copy is not what is tested. WORD: only mutations in whose name, file
or test it is; all take some minutes. tests/test_mutations.py keeps the list up to date.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
COPIED = (
    *("apps", "boards", "build.py", "configs", "imagebuilder", "overlays", "pyproject.toml", "schemas"),
    "tests",
)
SECONDS = 300
PASSED, FAILED = 0, 1  # pytest's exit codes; any other one means that no test said anything


class MutationError(Exception):
    """A mutation that cannot be tried as it stands in the list."""


@dataclass(frozen=True)
class Mutation:
    """name: in a few words; file: below imagebuilder/; old: text that stands there once; new: the wrong one;
    test: pytest's name of what kills it, below tests/."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def applied(self, text: str) -> str:
        """The file's text with the mistake. MutationError where there is no place for it, or several."""
        count = text.count(self.old)
        if count != 1:
            raise MutationError(
                f"'{self.name}': imagebuilder/{self.file} has its text {count} times, not once:\n{self.old}"
            )
        return text.replace(self.old, self.new)


MUTATIONS = (
    Mutation(
        "no process namespace around bubblewrap",
        "host/sandbox.py",
        '_PROCESSES = ("--pid", "--fork", "--kill-child")',
        "_PROCESSES = ()",
        "host/test_sandbox_end.py::test_nothing_outlives_a_process_killed_while_the_sandbox_is_made",
    ),
    Mutation(
        "a program begins though the process that asked for it is gone",
        "host/sandbox.py",
        'test "$above" = "$1" || test "$between" = "$1"\n',
        "",
        "host/test_sandbox_end.py::test_a_program_does_not_begin_where_the_process_that_asked_for_it_is_gone",
    ),
    Mutation(
        "a folder with a rootfs of the user's is taken for an extraction that was killed",
        "firmware/extract.py",
        "if left == {ROOT} and names != left:",
        "if left == {ROOT}:",
        "firmware/test_inspect.py::test_extract_goes_on_where_it_was_killed_and_takes_nothing_of_the_users",
    ),
    Mutation(
        "equal files are no clash anywhere",
        "packages/clash.py",
        "return not (same and (forced or unseen))",
        "return not same",
        "packages/test_clash.py::test_equal_files_are_a_clash_where_make_would_refuse_them",
    ),
    Mutation(
        "who is replaced takes the files",
        "packages/opkg/manager.py",
        "names = {earlier.name, *earlier.provides}",
        "names = {later.name, *later.provides}",
        "packages/test_clash.py::test_who_replaces_takes_the_files",
    ),
    Mutation(
        "a default that somebody names makes room",
        "packages/swap.py",
        " and package.name not in named",
        "",
        "packages/test_swap.py::test_what_stays",
    ),
    Mutation(
        "a library of another floating point ABI",
        "host/processor.py",
        "return self.linked and told and self.hard_float != processor.hard_float",
        "return False",
        "host/test_processor.py::test_who_runs_what",
    ),
    Mutation(
        "the `all` architecture before the board's",
        "packages/universe.py",
        "version_key(package.version), package.architecture != ANY_ARCHITECTURE",
        "version_key(package.version), package.architecture == ANY_ARCHITECTURE",
        "packages/test_resolve.py::test_of_equal_versions_the_one_for_the_boards_architecture_goes_before_all",
    ),
    Mutation(
        "a provider for `all` before the board's",
        "packages/opkg/resolve.py",
        "if each.architecture != ANY_ARCHITECTURE]",
        "if each.architecture == ANY_ARCHITECTURE]",
        "packages/test_resolve.py::test_a_provided_name_that_is_asked_for_means_the_first_provider",
    ),
    Mutation(
        "of equal candidates the first instead of the last",
        "packages/opkg/resolve.py",
        "if score >= most:",
        "if best is None or score > most:",
        "packages/opkg/test_recorded.py::test_the_resolver_says_what_opkg_did",
    ),
    Mutation(
        "a candidate that lacks something is not passed over in 22.03 and later",
        "packages/opkg/resolve.py",
        "    looks_ahead: bool = True\n",
        "    looks_ahead: bool = False\n",
        "packages/opkg/test_recorded.py::test_the_resolver_says_what_opkg_did",
    ),
    Mutation(
        "a filespec's mode for folders goes to files too",
        "rootfs/filespec.py",
        '"file": self.files, "dir": self.folders',
        '"file": self.folders or self.files, "dir": self.folders',
        "rootfs/test_filespec_recorded.py::test_a_filespec_does_what_openwrts_script_did",
    ),
    Mutation(
        "a size that a device sets later does not count in its recipes",
        "tree/makefile_text.py",
        "_LATER = 4",
        "_LATER = 99",
        "tree/test_image_makefile.py::test_a_size_that_a_device_changes_later_is_the_one_of_its_recipes",
    ),
    Mutation(
        "package lists: what a profile removes, a series too long",
        "packages/package_list.py",
        'if covers("<21.02", release)',
        'if covers("<22.03", release)',
        "packages/test_resolve.py::test_what_a_profile_removes_a_user_can_have_from_21_02_on",
    ),
    Mutation(
        "package lists: what a profile removes, a series too short",
        "packages/package_list.py",
        'if covers("<21.02", release)',
        'if covers("<19.07", release)',
        "packages/test_resolve.py::test_what_a_profile_removes_a_user_can_have_from_21_02_on",
    ),
    Mutation(
        "one name in `add` and in `remove`",
        "config/config.py",
        "if name not in names or name in values.get(other, [])]",
        "if name not in names]",
        "config/test_load.py::test_a_name_that_one_file_adds_and_removes_is_in_both_lists",
    ),
    Mutation(
        "overlay variables of two files: the later file's alone",
        "config/config.py",
        "present[key] = {**present.get(key, {}), **value}",
        "present[key] = dict(value)",
        "config/test_load.py::test_variables_of_an_overlay_that_two_files_use_come_together",
    ),
    Mutation(
        "overlay variables of two files: the earlier file wins",
        "config/config.py",
        "present[key] = {**present.get(key, {}), **value}",
        "present[key] = {**value, **present.get(key, {})}",
        "config/test_load.py::test_variables_of_an_overlay_that_two_files_use_come_together",
    ),
    Mutation(
        "repeated apps and requirements",
        "config/config.py",
        "*(each for each in value if each not in into.get(key, []))]",
        "*value]",
        "config/test_load.py::test_apps_and_requirements_that_are_named_again_are_there_once",
    ),
    Mutation(
        "the limit of kernel and root file system together left out",
        "budget/flash.py",
        "    over = max(over, _over_both(board, tree.images, rootfs.amount.bytes))\n",
        "",
        "budget/test_flash.py::test_kernel_and_root_file_system_together_have_a_limit_of_their_own",
    ),
    Mutation(
        "a board's own limit compared the wrong way",
        "budget/flash.py",
        "(limit is None or own < limit)",
        "(limit is None or own > limit)",
        "budget/test_flash.py::test_of_two_limits_of_an_image_the_tighter_counts",
    ),
    Mutation(
        "the refusal threshold of the flash at 0",
        "model/budget.py",
        "self.excess > (0 if sure else self.rootfs.uncertainty)",
        "self.excess > 0",
        "budget/test_flash.py::test_what_may_still_fit_is_not_refused",
    ),
    Mutation(
        "the refusal threshold of the RAM at 0",
        "model/budget.py",
        "self.excess > self.uncertainty",
        "self.excess > 0",
        "budget/test_flash.py::test_what_may_still_fit_is_not_refused",
    ),
    Mutation(
        "nothing is refused that is planned",
        "model/budget.py",
        "self.excess > (0 if sure else self.rootfs.uncertainty)",
        "self.excess < 0",
        "whole/test_nor_build.py::test_an_image_that_cannot_fit_is_refused_before_make_with_numbers_and_advice",
    ),
    Mutation(
        "what make made is not measured",
        "budget/budget.py",
        "    if not is_plain(changed, made):\n        return None\n",
        "    return None\n",
        "whole/test_nor_build.py::test_what_the_prediction_lets_through_is_measured_after_make",
    ),
    Mutation(
        "fit does not count what the prediction may be wrong by",
        "budget/budget.py",
        "found.flash(at_most(found.rootfs(each.package for each in selected)))",
        "found.flash(found.rootfs(each.package for each in selected))",
        "whole/test_nor_build.py::test_fit_counts_all_that_the_prediction_may_be_wrong_by",
    ),
    Mutation(
        "uncertainties of kinds summed instead of squared",
        "budget/flash.py",
        "doubt = math.sqrt(sum(value**2 for value in doubts.values()))",
        "doubt = sum(doubts.values())",
        "budget/test_flash.py::test_kinds_of_packages_are_wrong_independently_of_each_other",
    ),
    Mutation(
        "uncertainties of the RAM summed instead of squared",
        "budget/ram.py",
        "math.sqrt(sum(need.amount.uncertainty**2 for need in needs))",
        "sum(need.amount.uncertainty for need in needs)",
        "budget/test_ram.py::test_needs_are_wrong_independently_of_each_other",
    ),
    Mutation(
        "the JFFS2 boundary in the budget",
        "budget/flash.py",
        "0 <= free < JFFS2_BLOCKS * tree.images.block",
        "0 <= free <= JFFS2_BLOCKS * tree.images.block",
        "budget/test_flash.py::test_fewer_than_five_erase_blocks_for_settings_are_told",
    ),
    Mutation(
        "the JFFS2 boundary in an image",
        "firmware/verify_layout.py",
        "fits = blocks >= _LEAST_OVERLAY_BLOCKS",
        "fits = blocks > _LEAST_OVERLAY_BLOCKS",
        "firmware/test_verify.py::test_jffs2_wants_five_erase_blocks",
    ),
    Mutation(
        "`all` for `any` in supported_devices",
        "firmware/verify_device.py",
        "listed = bool(same) or any(name in wanted for name in found.devices)",
        "listed = all(name in wanted for name in found.devices)",
        "firmware/test_verify.py::test_one_name_that_the_device_has_is_enough",
    ),
    Mutation(
        "all profiles for any, where a board knows its devices' names",
        "firmware/verify_device.py",
        "sure = any(one.supported_devices for one in subject.board.profile)",
        "sure = all(one.supported_devices for one in subject.board.profile)",
        "firmware/test_verify.py::test_what_is_wrong_with_a_tplink_image_is_named",
    ),
    Mutation(
        "`<` for `<=` in a size check",
        "firmware/checks.py",
        "found <= limit)",
        "found < limit)",
        "firmware/test_verify.py::test_limits_of_the_board_hold_to_the_byte",
    ),
    Mutation(
        "an empty /sbin/init",
        "firmware/verify_layout.py",
        'file.kind == "file" and file.size > 0',
        'file.kind == "file"',
        "firmware/test_verify.py::test_an_init_without_content_is_none",
    ),
    Mutation(
        "ramips before 19.07 wants metadata",
        "firmware/verify_device.py",
        '("ath79", "gemini", "ramips", "tegra"), "19.07")',
        '("ath79", "gemini", "ramips", "tegra"), "18.06")',
        "firmware/test_verify.py::test_ramips_asks_for_metadata_from_19_07_on",
    ),
    Mutation(
        "ramips of 19.07 wants none",
        "firmware/verify_device.py",
        "or release.since(since)",
        "or (release.since(since) and release.series != since)",
        "firmware/test_verify.py::test_ramips_asks_for_metadata_from_19_07_on",
    ),
    Mutation(
        "the size of an image with its metadata",
        "firmware/verify_layout.py",
        "else subject.read.body_size",
        "else subject.read.part.size",
        "firmware/test_verify.py"
        "::test_an_image_may_fill_its_place_to_the_last_byte_and_its_metadata_does_not_count",
    ),
    Mutation(
        "apk's identity is not written into a lock",
        "packages/lock.py",
        "            identity=each.identity,\n",
        "",
        "whole/test_lock.py::test_what_apk_knows_a_package_by_is_locked",
    ),
    Mutation(
        "apk's identity is not held against the offers",
        "packages/lock.py",
        "(locked.sha256, locked.identity) == (\n        package.sha256.lower(),\n"
        "        package.identity,\n    )",
        "locked.sha256 == package.sha256.lower()",
        "whole/test_lock.py::test_what_apk_knows_a_package_by_is_locked",
    ),
    Mutation(
        "apk's identity is no difference of two locks",
        "packages/lock.py",
        "(old.sha256, old.identity, old.feed) != (new.sha256, new.identity, new.feed)",
        "(old.sha256, old.feed) != (new.sha256, new.feed)",
        "whole/test_lock.py::test_what_apk_knows_a_package_by_is_locked",
    ),
    Mutation(
        "make's variables are no difference of two locks",
        "packages/lock.py",
        "    yield from _made(old.make, new.make)\n",
        "",
        "whole/test_lock.py::test_what_is_removed_and_the_profile_are_locked",
    ),
    Mutation(
        "what overlays lay is no part of a lock's digest",
        "config/model_lock.py",
        '            "overlays": {path: words for path, (_, words) in self.files.items()},\n',
        "",
        "whole/test_lock_keys.py::test_a_key_is_in_the_lock_as_it_is_in_the_image",
    ),
    Mutation(
        "a template that names a secret is rendered for a lock",
        "rootfs/overlay.py",
        "names_in(raw) if hidden else frozenset()",
        "frozenset()",
        "whole/test_lock.py::test_a_secret_need_not_be_there_to_be_locked",
    ),
)


def copied(folder: Path) -> Path:
    """A copy of the project without what was compiled. MutationError if its package is not what is imported
    there."""
    copy = folder / "project"
    copy.mkdir()
    for name in COPIED:
        if (PROJECT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, copy / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy2(PROJECT / name, copy / name)
    said = _python(copy, "-c", "import imagebuilder; print(imagebuilder.__file__)").stdout.strip()
    if said != str(copy / "imagebuilder/__init__.py"):
        raise MutationError(f"the copy in {copy} is not what Python imports there, but {said}")
    return copy


def _python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # two texts of one length, written in the same second, are the same to Python's cache
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def tested(copy: Path, test: str) -> bool:
    """Whether a test passes. MutationError where pytest does not get as far as to say it."""
    options = ("-x", "-q", "-n0", "-p", "no:cacheprovider")
    done = _python(copy, "-m", "pytest", *options, f"tests/{test}")
    if done.returncode not in (PASSED, FAILED) or " skipped" in done.stdout.splitlines()[-1]:
        raise MutationError(f"{test} says nothing ({done.returncode}):\n{done.stdout}\n{done.stderr}")
    return done.returncode == PASSED


def survives(copy: Path, mutation: Mutation) -> bool:
    """Whether the test of a mutation passes with it; the copy is put right again."""
    path = copy / "imagebuilder" / mutation.file
    right = path.read_text("utf-8")
    path.write_text(mutation.applied(right), "utf-8")
    try:
        return tested(copy, mutation.test)
    finally:
        path.write_text(right, "utf-8")


def main(words: Sequence[str]) -> int:
    """Try the mutations in whose names or files one of the words is; all of them without words."""
    chosen = [
        each
        for each in MUTATIONS
        if not words or any(word in f"{each.name} {each.file} {each.test}" for word in words)
    ]
    if not chosen:
        raise MutationError(f"no mutation has to do with {' or '.join(words)}")
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = copied(Path(folder))
        for test in dict.fromkeys(each.test for each in chosen):
            if not tested(copy, test):
                raise MutationError(f"{test} fails without any mutation")
        for each in chosen:
            alive = survives(copy, each)
            survived += alive
            print(f"{'SURVIVED' if alive else 'killed  '}  {each.file}: {each.name}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} killed")
    return int(survived > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
