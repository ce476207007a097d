"""What tests share: a project folder, a small ImageBuilder tree, and the options for a genuine one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from imagebuilder.config.library import Library
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY
from tests.support import firmware_writers as writers

PROJECT = Path(__file__).resolve().parents[1]

pytest_plugins = [
    "tests.support.browser",
    "tests.support.kit_fixtures",
    "tests.support.server_fixtures",
    "tests.support.shake_kit",
]

settings.register_profile("here", deadline=None)  # no test is timed: CI's machine is slow now and then
settings.load_profile("here")

# Obeys the calls of OpenWrt's ImageBuilder and writes images of the size that SIZE says; no OpenWrt in it.
SMALL_MAKEFILE = """\
KERNEL_BUILD_DIR := $(CURDIR)/build_dir/target-x/linux-ath79_tiny
LINUX_DIR := $(KERNEL_BUILD_DIR)/linux-5.15
TARGET_DIR := $(CURDIR)/build_dir/target-x/root-ath79
PACKAGE_DIR := $(CURDIR)/packages
DIST := $(BIN_DIR)/openwrt-23.05.5-ath79-tiny-tplink_tl-wr740n-v4
info:
\t@echo 'Current Target: "ath79/tiny"'
\t@echo 'Default Packages: base-files busybox dnsmasq'
\t@echo 'Available Profiles:'
\t@echo
\t@echo 'tplink_tl-wr740n-v4:'; echo '    TP-Link TL-WR740N v4'; echo '    Packages: -dnsmasq rssileds'
\t@echo 'tplink_tl-wr741nd-v4:'; echo '    TP-Link TL-WR741ND v4'; echo '    Packages:'
image:
\t@echo 'Installing packages...'
\t@touch tree-was-written build-$$$$
\t@cat behaviour >/dev/null 2>&1 && sh ./behaviour || true
\t@test ! -f behaviour-fails
\t@echo 'Building images...'
\t@umask > $(BIN_DIR)/umask
\t@env > $(BIN_DIR)/environment
\t@test -z "$(FILES)" || cp -a $(FILES) $(BIN_DIR)/files
\t@for type in sysupgrade factory; do \\
\t\tcp $$type.bin $(DIST)-squashfs-$$type.bin; \\
\t\ttest ! -f size || head -c $$(cat size) /dev/zero > $(DIST)-squashfs-$$type.bin; \\
\tdone
\t@for name in $(sort base-files busybox dnsmasq kernel libc rssileds $(filter-out -%,$(PACKAGES))); do \\
\t\tcase " -dnsmasq $(PACKAGES) " in *" -$$name "*) continue;; esac; \\
\t\techo "$$name - $$(ls packages/$${name}_*.ipk | cut -d_ -f2)"; \\
\tdone > $(DIST).manifest
"""
SMALL_PACKAGES = {
    "base-files": "1",
    "busybox": "1.36",
    "dnsmasq": "2.89",
    "dropbear": "2022.83",
    "kernel": "5.15",
    "libc": "1.2.4",
    "micropython-mbedtls": "1.20",
    "python3": "3.11.7",
    "python3-base": "3.11.7",
    "python3-light": "3.11.7",
    "rssileds": "4",
    "tcpdump-mini": "4.99",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--imagebuilder", metavar="PATH", help="a genuine ImageBuilder tree (LEDE 17.01.7 ar71xx)"
    )
    parser.addoption("--torture", action="store_true", help="every fault, not some: hours (tests/torture)")
    parser.addoption("--apk", metavar="PROGRAM", help="a genuine apk of apk-tools 3")
    parser.addoption(
        "--feeds", metavar="PATH", help="a copy of the download server with the feeds of --imagebuilder"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        wanted = ["--apk"] if "apk_program" in names else ["--imagebuilder"]
        wanted += ["--feeds"] if "genuine_mirror" in names else []
        lacking = [each for each in wanted if not config.getoption(each)]
        if "genuine" in item.keywords and lacking:
            item.add_marker(pytest.mark.skip(reason=f"wants {' '.join(lacking)}"))
        if item.get_closest_marker("torture") and not config.getoption("--torture"):
            item.add_marker(pytest.mark.skip(reason="wants --torture"))


@pytest.fixture(scope="session", autouse=True)
def own_data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where these tests keep signing keys (trust.signing_key): never in the user's own folder."""
    home = tmp_path_factory.mktemp("data-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home))
        yield home


@pytest.fixture
def apk_program(request: pytest.FixtureRequest) -> Path:
    """A genuine apk 3."""
    return Path(request.config.getoption("--apk")).resolve()


@pytest.fixture
def genuine_tree(request: pytest.FixtureRequest) -> Path:
    """The genuine tree; tests never write into it."""
    return Path(request.config.getoption("--imagebuilder")).resolve()


@pytest.fixture
def genuine_mirror(request: pytest.FixtureRequest) -> Path:
    """A folder with the genuine tree's feeds, laid out as the download server is."""
    return Path(request.config.getoption("--feeds")).resolve()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's boards, configs and overlays, to add to."""
    for name in ("boards", "configs", "overlays"):
        shutil.copytree(PROJECT / name, tmp_path / "project" / name, symlinks=True)
    return tmp_path / "project"


@pytest.fixture
def library(project: Path) -> Library:
    return Library(project)


@pytest.fixture
def add_config(project: Path) -> Callable[[str, str], str]:
    """Writes a config into the project; gives its name back."""

    def add(name: str, text: str) -> str:
        (project / "configs" / f"{name}.toml").write_text(text)
        return name

    return add


@cache
def small_images(baud: int = 115200, release: str = "23.05.5") -> dict[str, bytes]:
    """Images that may be flashed on the board of the small tree, by their names in it; another baud rate of
    the kernel's console makes others."""
    root = writers.squashfs(release=release, target="ath79/tiny")
    kernel = writers.kernel(f"console=ttyATH0,{baud}")
    version = {
        "dist": "OpenWrt",
        "version": release,
        "target": "ath79/tiny",
        "board": "tplink_tl-wr740n-v4",
    }
    devices = ["tplink,tl-wr740n-v4", "tl-wr741nd-v4"]
    whole = writers.tplink_v1(kernel, root)
    return {
        "sysupgrade.bin": writers.metadata(whole, supported_devices=devices, version=version),
        "factory.bin": writers.tplink_v1(kernel, root, factory=True),
    }


def make_small_tree(tree: Path, baud: int = 115200, release: str = "23.05.5") -> None:
    """A tree that looks like an ImageBuilder for ath79/tiny, in a folder that is made. baud: of
    small_images()."""
    (tree / "include").mkdir(parents=True)
    (tree / "packages").mkdir()
    (tree / "Makefile").write_text(SMALL_MAKEFILE.replace("23.05.5", release))
    (tree / ".config").write_text(
        'CONFIG_TARGET_BOARD="ath79"\nCONFIG_TARGET_SUBTARGET="tiny"\n'
        'CONFIG_TARGET_ARCH_PACKAGES="mips_24kc"\nCONFIG_VERSION_DIST="OpenWrt"\n'
        f'CONFIG_VERSION_NUMBER="{release}"\n'
    )
    (tree / ".targetinfo").write_text("Target: ath79/tiny\n")
    (tree / "include/version.mk").write_text("VERSION_NUMBER:=$(call qstrip,$(CONFIG_VERSION_NUMBER))\n")
    (tree / "repositories.conf").write_text("src imagebuilder file:packages\n")
    for name, data in small_images(baud, release).items():
        (tree / name).write_bytes(data)
    for name, version in SMALL_PACKAGES.items():
        write_ipk(tree / "packages", Package(name, version), EMPTY, epoch=1_700_000_000)


@pytest.fixture
def small_tree(tmp_path: Path) -> Iterator[Path]:
    """As make_small_tree() makes it. Write `size` (of images that are no good, in place of good ones),
    `behaviour` (a shell script that runs during make image) or `behaviour-fails` into it to change what it
    does."""
    tree = tmp_path / "small-tree"
    make_small_tree(tree)
    yield tree
    written = [path.name for path in tree.iterdir() if path.name.startswith(("tree-was", "build-"))]
    assert not written, "the user's tree was written to"
