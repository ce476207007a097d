"""What the kit's Makefile calls: `python -m imagebuilder.kit TARGET`, in the tree's folder.

make's variables come through the environment, so that no value is ever quoted for a shell. What is printed
is what the genuine ImageBuilder and opkg print, since programs read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.walk import remove_tree
from imagebuilder.kit import layout
from imagebuilder.kit.feed import Offer, offered
from imagebuilder.kit.image import make_image, make_root, manifest_text, write_records
from imagebuilder.kit.request import MakeRequest, read_request
from imagebuilder.model.package import Dependency
from imagebuilder.packages.opkg.resolve import resolve
from imagebuilder.packages.package_list import package_list, read_list
from imagebuilder.packages.resolution import PlanError, Resolution, ResolutionError
from imagebuilder.packages.universe import Universe

OPKG_FAILED = 255  # what opkg exits with
_HELP = """Available Commands:
\thelp:\tThis help text
\tinfo:\tShow a list of available target profiles
\tclean:\tRemove images and temporary build files
\timage:\tBuild an image (see below for more information).
\tmanifest: Show all package that will be installed into the image
\tpackage_whatdepends: Show which packages have a dependency on this
\tpackage_depends: Show installation dependency of the package

Building images:
\tmake image PROFILE="<profilename>" # override the default target profile
\tmake image PACKAGES="<pkg1> [<pkg2> [<pkg3> ...]]" # include extra packages
\tmake image FILES="<path>" # include extra files from <path>
\tmake image BIN_DIR="<path>" # alternative output directory for the images
\tmake image EXTRA_IMAGE_NAME="<string>" # Add this to the output image filename (sanitized)
\tmake image DISABLED_SERVICES="<svc1> [<svc2> [<svc3> ..]]" # Which services should be disabled
\tmake image ROOTFS_PARTSIZE="<size>" # override the default rootfs partition size in MegaBytes
"""


class InstallError(UserError):
    """Packages that cannot be installed. The message is what opkg prints."""


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _complain(line: str) -> None:
    sys.stderr.write(line + "\n")


def _opkg_words(error: ResolutionError) -> str:
    """A dependency that cannot be had, in opkg's words."""
    *above, last = error.chain
    wanted = above[0] if above else last
    if error.missing is not None:
        lines = [f" * satisfy_dependencies_for: Cannot satisfy the following dependencies for {above[-1]}:"]
        lines.append(f" * \t{error.missing} ")
    else:
        lines = [f" * check_conflicts_for: {error.message}"]
    return "\n".join(["Collected errors:", *lines, f" * opkg_install_cmd: Cannot install package {wanted}."])


def _resolution(request: MakeRequest, offer: Offer) -> Resolution:
    """What goes into the image. InstallError in opkg's words."""
    universe = Universe(offer.packages)
    trees = dict.fromkeys(request.config.default_packages, "")
    wanted = package_list(trees, read_list(request.packages))
    unknown = [name for name in wanted.names if next(universe.candidates(Dependency(name)), None) is None]
    if unknown:
        lines = [f"Unknown package '{name}'." for name in unknown] + ["Collected errors:"]
        lines += [f" * opkg_install_cmd: Cannot install package {name}." for name in unknown]
        raise InstallError("\n".join(lines))
    try:
        return resolve(wanted, universe)
    except ResolutionError as error:
        raise InstallError(_opkg_words(error)) from error
    except PlanError as error:
        raise InstallError(f"Collected errors:\n * opkg_install_cmd: {error.message}.") from error


def _info(request: MakeRequest, _tree: Path) -> None:
    _say(f'Current Target: "{request.config.target}"')
    _say(f'Current Architecture: "{request.config.architecture}"')
    _say(f'Current Revision: "{request.config.version_code}"')
    _say(f"Default Packages: {' '.join(request.config.default_packages)}")
    _say("Available Profiles:\n")
    _say(f"{layout.PROFILE}:\n    {layout.PROFILE_TITLE}\n    Packages: ")
    _say("    hasImageMetadata: 0\n    SupportedDevices: ")


def _manifest(request: MakeRequest, tree: Path) -> None:
    resolution = _resolution(request, offered(tree, _complain))
    sys.stdout.write(manifest_text(resolution.packages, strip_abi=request.strip_abi))


def _image(request: MakeRequest, tree: Path) -> None:
    _say(f"Building images for {request.config.target} - {layout.PROFILE_TITLE}")
    offer = offered(tree, _say)
    resolution = _resolution(request, offer)
    _say(f"Packages: {' '.join(each.wanted for each in resolution.selected if each.by is None)}\n")
    _say("Installing packages...")
    make_root(request, resolution, offer, tree / layout.ROOT_DIR, _say)
    _say("\nBuilding images...")
    image = make_image(request, tree, _complain)
    write_records(request, resolution.packages, image, _say)


def _package_depends(request: MakeRequest, tree: Path) -> None:
    for package in offered(tree, _complain).packages:
        if request.package in (package.name, *package.provides):
            _say(f"{package.name} depends on:")
            for group in package.depends:
                _say("\t" + " | ".join(map(str, group)))


def _package_whatdepends(request: MakeRequest, tree: Path) -> None:
    _say(f"What depends on root set\n\t{request.package}")
    for package in offered(tree, _complain).packages:
        if any(term.name == request.package for group in package.depends for term in group):
            _say(f"\t{package.name} {package.version}\tdepends on {request.package}")


def _clean(request: MakeRequest, tree: Path) -> None:
    for folder in (tree / layout.ROOT_DIR, request.bin_dir):
        remove_tree(folder)
    (tree / layout.LINUX_DIR / layout.ROOTFS).unlink(missing_ok=True)


def _help(_request: MakeRequest, _tree: Path) -> None:
    sys.stdout.write(_HELP)


TARGETS: dict[str, Callable[[MakeRequest, Path], None]] = {
    "help": _help,
    "info": _info,
    "image": _image,
    "manifest": _manifest,
    "package_depends": _package_depends,
    "package_whatdepends": _package_whatdepends,
    "clean": _clean,
}


def main(target: str) -> int:
    """Do what one of TARGETS asks for, in the current folder; the exit code."""
    tree = Path.cwd()
    try:
        request = read_request(os.environ, layout.read_config(tree), tree)
        TARGETS[target](request, tree)
    except InstallError as error:
        _complain(error.message)
        return OPKG_FAILED
    except UserError as error:
        _complain(error.message)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
