"""The embedded kit as its users see it: an ImageBuilder tree, called with make."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from imagebuilder.host.cache import Cache
from imagebuilder.host.fs import sha256_of, user_cache
from imagebuilder.kit.debian import fetch
from imagebuilder.kit.layout import LINUX_DIR, PACKAGES_DIR
from imagebuilder.kit.prepare import kit_digest, prepare_kit
from imagebuilder.log import Log
from imagebuilder.model.edition import Edition
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.rootfs.tree import FileTree, file_of
from tests.support.kit_fixtures import EVERY_EDITION
from tests.support.kit_making import Make, call_make, manifest_of

pytestmark = [pytest.mark.kit, EVERY_EDITION]

SMALL = {"base-files", "busybox", "kernel", "kmod-virtio-net", "libc", "libgcc1", "uci"}


def python_of(edition: Edition) -> str:
    return load_catalogue(edition.series).python


def base_of(edition: Edition) -> set[str]:
    """What an image with python3-base holds; OpenWrt's libpython3 of 25.12 depends on libatomic, too."""
    atomic = (
        {"libatomic1"}
        if "libatomic" in load_catalogue(edition.series).package("libpython3").depends
        else set()
    )
    return SMALL | atomic | {f"libpython3-{python_of(edition)}", "python3-base", "libexpat", "zlib"}


def image_of(edition: Edition) -> str:
    return f"openwrt-{edition.release}-x86-64-qemu-x86-64-squashfs-combined-efi.img"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder for FILES."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)
    return folder


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_the_tree_says_what_it_is(kit: Path, make: Make, edition: Edition) -> None:
    settings = (kit / ".config").read_text()
    for setting in (
        'CONFIG_TARGET_BOARD="x86"',
        'CONFIG_TARGET_SUBTARGET="64"',
        'CONFIG_TARGET_ARCH_PACKAGES="x86_64"',
        'CONFIG_VERSION_DIST="OpenWrt"',
        f'CONFIG_VERSION_NUMBER="{edition.release}"',
    ):
        assert setting in settings.splitlines()
    target = (kit / ".targetinfo").read_text()
    assert "Target: x86/64\n" in target
    assert "Target-Arch-Packages: x86_64\n" in target
    assert "Target-Profile: DEVICE_qemu-x86-64\n" in target
    assert "PROFILE_NAMES = DEVICE_qemu-x86-64\n" in (kit / ".profiles.mk").read_text()
    info = make("info").stdout
    assert 'Current Target: "x86/64"\n' in info
    assert re.search(r"^Default Packages: base-files busybox kernel ", info, re.MULTILINE)
    assert "\nqemu-x86-64:\n    QEMU standard PC" in info


def test_the_kit_records_what_it_is_made_of(kit: Path, edition: Edition) -> None:
    record = json.loads((kit / "kit.json").read_text())
    assert record["digest"] == kit_digest(kit)
    debian = {entry["name"]: entry for entry in record["debian"]}
    assert {
        "libc6",
        "busybox-static",
        f"python{python_of(edition)}-minimal",
        "systemd-boot-efi",
    } <= debian.keys()
    assert any(name.startswith("linux-image-") and name.endswith("-cloud-amd64") for name in debian)
    for entry in debian.values():
        assert entry["version"]
        assert re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])


def test_nothing_in_the_tree_is_absolute_but_the_projects_python(kit: Path) -> None:
    for path in kit.iterdir():
        if path.is_file() and path.name not in ("Makefile", "kit.json"):
            assert str(kit.parent) not in path.read_text(), path.name
    assert str(kit.parent) not in (kit / "Makefile").read_text()


def test_every_python_package_of_openwrt_is_there_with_its_twin(kit: Path, edition: Edition) -> None:
    names = {path.name.partition("_")[0] for path in (kit / PACKAGES_DIR).glob("*.ipk")}
    for name in ("base", "light", "asyncio", "codecs", "openssl", "sqlite3", "xml", "dev", "venv", "pip"):
        assert {f"python3-{name}", f"python3-{name}-src"} <= names
    assert {
        "python3",
        f"libpython3-{python_of(edition)}",
        "python3-setuptools",
        "python3-pkg-resources",
    } <= names
    assert "python3-src" not in names


def test_a_small_image_holds_its_closure(make: Make, edition: Edition) -> None:
    made = make(PACKAGES="python3-base")
    assert made.code == 0, made.stderr
    assert made.manifest.keys() == base_of(edition)
    assert made.manifest["python3-base"].startswith(f"{python_of(edition)}.")
    assert make("manifest", PACKAGES="python3-base").stdout == "".join(
        f"{name} - {version}\n" for name, version in sorted(made.manifest.items())
    )


def test_the_output_is_that_of_an_imagebuilder(make: Make, edition: Edition) -> None:
    made = make()
    assert {path.name for path in made.bin_dir.iterdir()} == {
        image_of(edition),
        f"openwrt-{edition.release}-x86-64-qemu-x86-64.manifest",
        "profiles.json",
        "sha256sums",
    }
    sums = [line.split(" *") for line in (made.bin_dir / "sha256sums").read_text().splitlines()]
    assert sorted(name for _, name in sums) == [
        image_of(edition),
        f"openwrt-{edition.release}-x86-64-qemu-x86-64.manifest",
        "profiles.json",
    ]
    assert all(sha256_of(made.bin_dir / name) == digest for digest, name in sums)
    profiles = json.loads((made.bin_dir / "profiles.json").read_text())
    assert profiles["target"] == "x86/64"
    assert profiles["version_number"] == edition.release
    (image,) = profiles["profiles"]["qemu-x86-64"]["images"]
    assert image["name"] == image_of(edition)
    assert image["type"] == "combined-efi"
    assert image["sha256"] == sha256_of(made.image)


def test_stale_files_in_bin_dir_are_covered_too(make: Make) -> None:
    bin_dir = make().bin_dir
    (bin_dir / "stale.img").write_text("old")
    make()
    assert " *stale.img\n" in (bin_dir / "sha256sums").read_text()


def test_an_extra_name_is_sanitized(make: Make, edition: Edition) -> None:
    assert make(EXTRA_IMAGE_NAME="My Image_2").image.name == image_of(edition).replace(
        "x86-64", "my-image-2-x86-64", 1
    )


def test_abi_versions_can_be_stripped(make: Make) -> None:
    names = manifest_of(make("manifest", PACKAGES="python3-openssl", STRIP_ABI="1").stdout)
    assert {"libpython3", "libopenssl", "libgcc"} <= names.keys()


@pytest.mark.parametrize("name", ["libopenssl", "libncursesw", "libpthread", "libstdcpp"])
def test_a_package_can_be_asked_for_by_what_it_provides(make: Make, name: str) -> None:
    assert make("manifest", PACKAGES=name).code == 0


def test_an_unknown_package_is_refused_in_opkgs_words(make: Make) -> None:
    made = make(PACKAGES="nonesuch python3-base")
    assert made.code != 0
    assert "Unknown package 'nonesuch'." in made.stderr
    assert " * opkg_install_cmd: Cannot install package nonesuch." in made.stderr
    assert not made.bin_dir.exists()


def test_an_unknown_profile_is_refused(make: Make) -> None:
    made = make(PROFILE="wrt54g")
    assert made.code != 0
    assert 'Profile "wrt54g" does not exist!' in made.stderr


def test_too_big_is_left_out_and_make_is_content(make: Make, files: Path, edition: Edition) -> None:
    (files / "big").write_bytes(os.urandom(3 << 20))
    made = make(FILES=str(files), ROOTFS_PARTSIZE="1")
    assert made.code == 0
    found = re.search(r"WARNING: Image file \S+/(\S+) is too big: (\d+) > (\d+)", made.stderr)
    assert found is not None
    assert found[1] == image_of(edition)
    assert int(found[2]) > int(found[3]) == 1 << 20
    assert "could not find any JSON files" in made.stdout
    assert {path.suffix for path in made.bin_dir.iterdir()} == {".manifest", ""}


def test_a_literal_name_is_removed_and_a_dependency_brings_it_back(make: Make) -> None:
    assert "kmod-virtio-net" not in manifest_of(make("manifest", PACKAGES="-kmod-virtio-net").stdout)
    assert "kernel" in manifest_of(make("manifest", PACKAGES="-kernel").stdout)


def test_services_are_enabled_unless_disabled(make: Make, files: Path) -> None:
    script = "#!/bin/sh /etc/rc.common\nSTART=95\nSTOP=05\nstart() { :; }\n"
    write(files / "etc/init.d/mine", script, 0o755)
    write(files / "etc/init.d/plain", "#!/bin/sh\nSTART=96\n", 0o755)
    links = {path.name for path in (make(FILES=str(files)).root / "etc/rc.d").iterdir()}
    assert {"S10boot", "S20network", "K80network", "S95mine", "K05mine"} <= links
    assert not any(name.endswith("plain") for name in links)
    made = make(FILES=str(files), DISABLED_SERVICES="network mine nonesuch")
    links = {path.name for path in (made.root / "etc/rc.d").iterdir()}
    assert "S10boot" in links
    assert not any(name.endswith(("network", "mine")) for name in links)


def test_files_are_laid_over_the_root_with_their_modes(make: Make, files: Path) -> None:
    write(files / "etc/banner", "mine\n")
    write(files / "etc/secret", "s\n", 0o600)
    (files / "etc/link").symlink_to("banner")
    files.chmod(0o711)
    root = make(FILES=str(files)).root
    assert (root / "etc/banner").read_text() == "mine\n"
    assert (root / "etc/secret").stat().st_mode & 0o7777 == 0o600
    assert (root / "etc/link").readlink() == Path("banner")
    assert root.stat().st_mode & 0o7777 == 0o711  # a bad habit of the genuine one


def test_files_that_are_no_folder_are_skipped_in_silence(make: Make, tmp_path: Path) -> None:
    assert make(FILES=str(tmp_path / "nothing")).code == 0


def test_opkg_knows_what_is_installed(make: Make, edition: Edition) -> None:
    root = make(PACKAGES="python3-base").root
    status = (root / "usr/lib/opkg/status").read_text()
    assert len(re.findall(r"^Package: ", status, re.MULTILINE)) == len(base_of(edition))
    assert "Package: python3-base\n" in status
    assert "Status: install user installed\n" in status
    listed = (root / "usr/lib/opkg/info/python3-base.list").read_text().splitlines()
    assert f"/usr/bin/python{python_of(edition)}" in listed
    assert all((root / path[1:]).is_symlink() or (root / path[1:]).exists() for path in listed)


def test_a_new_package_file_gets_into_the_index(kit: Path, tmp_path: Path, edition: Edition) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(kit, tree)
    package = Package("mine", "1", "all", depends=((Dependency("python3-base"),),))
    write_ipk(
        tree / PACKAGES_DIR, package, FileTree({"/usr/bin/mine": file_of(b"#!/bin/sh\n", 0o755)}), epoch=1
    )
    made = call_make(tree, "image", tmp_path / "bin", PACKAGES="mine")
    assert made.manifest.keys() == base_of(edition) | {"mine"}
    assert (made.root / "usr/bin/mine").stat().st_mode & 0o777 == 0o755
    assert "Package: mine\n" in (tree / PACKAGES_DIR / "Packages").read_text()
    write_ipk(
        tree / PACKAGES_DIR, Package("loose", "1", depends=((Dependency("nonesuch"),),)), FileTree(), epoch=1
    )
    made = call_make(tree, "image", tmp_path / "bin", PACKAGES="loose")
    assert made.code != 0
    assert "Cannot satisfy the following dependencies for loose:" in made.stderr
    assert "Cannot install package loose." in made.stderr


def test_two_packages_cannot_own_one_file(kit: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(kit, tree)
    write_ipk(tree / PACKAGES_DIR, Package("mine", "1"), FileTree({"/etc/banner": file_of(b"x")}), epoch=1)
    made = call_make(tree, "image", tmp_path / "bin", PACKAGES="mine")
    assert made.code != 0
    assert "wants to install file /etc/banner" in made.stderr


def test_a_feed_on_another_machine_is_refused(kit: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(kit, tree)
    (tree / "repositories.conf").write_text("src/gz far https://feed.invalid/packages\n")
    made = call_make(tree, "manifest", tmp_path / "bin")
    assert made.code != 0
    assert "from folders only" in made.stderr


def test_equal_builds_give_equal_images_wherever_the_tree_is(kit: Path, make: Make, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    shutil.copytree(kit, elsewhere)
    one = make(PACKAGES="python3-light")
    other = call_make(elsewhere, "image", tmp_path / "other", PACKAGES="python3-light")
    assert (one.bin_dir / "sha256sums").read_text() == (other.bin_dir / "sha256sums").read_text()


def anew(kit: Path, edition: Edition, cache: Path) -> Path:
    """A kit made anew, from the Debian packages that are in the user's cache where they are still current."""
    for entry in json.loads((kit / "kit.json").read_text())["debian"]:
        known, blob = Cache(user_cache()).blob(entry["sha256"]), Cache(cache).blob(entry["sha256"])
        blob.parent.mkdir(parents=True, exist_ok=True)
        if known.exists():
            shutil.copy(known, blob)
    return prepare_kit(edition, cache, Log())


def test_equal_kits_are_equal(
    kit: Path, edition: Edition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "has_apt", lambda: False)  # the user's was made with apt, where there is one
    one, other = kit, anew(kit, edition, tmp_path / "other")
    if kit_digest(one) != kit_digest(other):  # Debian has newer packages than the kit in the cache
        monkeypatch.undo()
        one = anew(kit, edition, tmp_path / "one")
    assert one.name == other.name
    assert kit_digest(one) == kit_digest(other)
    paths = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file()) == paths
    assert Path(LINUX_DIR) / "esp.vfat" in paths
    assert [str(path) for path in paths if sha256_of(one / path) != sha256_of(other / path)] == []
    assert not list(other.parent.glob(".making-*"))
