"""Trees as OpenWrt 25.12's ImageBuilder has them, with a genuine apk and packages that it made, for tests.

make_tree() writes a tree for the WRT1200AC whose Makefile obeys the calls of the genuine one and installs
with apk as that does; Feed makes packages and a signed index. Nothing in it is OpenWrt's.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.host.run import clean_environment, run

ARCH = "arm_cortex-a9_vfpv3-d16"
BOARD = "linksys-wrt1200ac"  # in boards/
PROFILE = "linksys_wrt1200ac"
RELEASE = "25.12.1"
EPOCH = 1_772_000_000
FEED_PATH = f"releases/{RELEASE}/packages/{ARCH}/base"
DEFAULTS = ("base-files", "busybox", "dnsmasq", "dropbear", "libc", "libustream")
PROFILE_PACKAGES = ("kmod-mwlwifi", "-dnsmasq", "dnsmasq-full")
VERSIONS = {"base-files": "1712~5f3a0c1b2d", "libc": "1.2.5-r5", "kernel": "6.12.58~9c68b5bbaa4ef1ce-r1"}

_MAKEFILE = """\
# written for tests: takes the calls of a 25.12 ImageBuilder, and installs with its apk
TOPDIR := $(CURDIR)
export PATH := $(TOPDIR)/staging_dir/host/bin:$(PATH)
include include/version.mk
export SOURCE_DATE_EPOCH
ARCH_PACKAGES := @ARCH@
DL_DIR ?= $(TOPDIR)/dl
BIN_DIR ?= $(TOPDIR)/bin
export TARGET_DIR := $(TOPDIR)/build_dir/target-test/root-mvebu
IMAGE := $(BIN_DIR)/openwrt-@RELEASE@-mvebu-cortexa9-@PROFILE@
DEFAULT_PACKAGES := @DEFAULTS@
PROFILE_PACKAGES := @PROFILE_PACKAGES@
APK := IPKG_INSTROOT=$(TARGET_DIR) apk --root $(TARGET_DIR) --keys-dir $(TOPDIR)/keys --no-logfile \\
\t--preserve-env --repositories-file $(TOPDIR)/repositories \\
\t--repository $(TOPDIR)/packages/packages.adb @UNTRUSTED@ --cache-dir $(DL_DIR)

# a name with a minus takes that name away from the lists
taken = $(patsubst -%,%,$(filter -%,$(1)))
left = $(filter-out -% $(call taken,$(1)),$(1))
WANTED = $(call left,$(USER_PACKAGES) $(call left,$(sort $(DEFAULT_PACKAGES) $(PROFILE_PACKAGES) kernel)))
PINS = "base-files=$(BASE_FILES_VERSION)" "libc=$(LIBC_VERSION)" "kernel=$(KERNEL_VERSION)"

info:
\t@echo 'Current Target: "mvebu/cortexa9"'
\t@echo 'Current Architecture: "arm"'
\t@echo 'Current Revision: "r1-test"'
\t@echo 'Default Packages: $(DEFAULT_PACKAGES)'
\t@echo 'Available Profiles:'
\t@echo
\t@echo '@PROFILE@:'; echo '    Linksys WRT1200AC v1/v2'; echo '    Packages: $(PROFILE_PACKAGES)'
\t@echo '    hasImageMetadata: 1'; echo '    SupportedDevices: linksys,wrt1200ac'

_check_keys:
\t@if [ -n "@SIGNS@" ] && [ ! -s keys/local-private-key.pem ]; then \\
\t\techo Generate local signing keys... >&2; \\
\t\topenssl ecparam -name prime256v1 -genkey -noout -out keys/local-private-key.pem; \\
\t\topenssl ec -in keys/local-private-key.pem -pubout > keys/local-public-key.pem; \\
\tfi

image:
\t@$(MAKE) -s _check_keys
\t@(unset PROFILE FILES PACKAGES MAKEFLAGS; $(MAKE) -s _call_image BIN_DIR="$(BIN_DIR)" \\
\t\tUSER_PACKAGES="$(PACKAGES)" USER_FILES="$(FILES)" OFF="$(DISABLED_SERVICES)")

_call_image:
\t@echo 'Building images for mvebu - Linksys WRT1200AC v1/v2'
\t@echo 'Packages: $(WANTED)'
\t@rm -rf $(TARGET_DIR)
\t@mkdir -p $(TARGET_DIR) $(BIN_DIR) $(DL_DIR)
\t@$(MAKE) package_reload
\t@$(MAKE) package_install
\t@$(MAKE) -s prepare_rootfs
\t@$(MAKE) -s build_image

package_reload:
\t@$(APK) add --arch $(ARCH_PACKAGES) --initdb
\t@cd packages && apk mkndx @SIGNS@ --allow-untrusted --output packages.adb *.apk >/dev/null 2>&1 || true

# the ABI version of a package is part of its name
package_install:
\t@echo; echo 'Installing packages...'
\t@set -e; words=; for name in $(WANTED); do \\
\t\tabi=$$($(APK) query --fields tags --match provides $$name | \\
\t\t\tsed -n 's/.*openwrt:abiversion=\\([^ ]*\\).*/\\1/p' | head -n 1); \\
\t\twords="$$words $$name$$abi"; \\
\tdone; \\
\t$(APK) add --arch $(ARCH_PACKAGES) --no-scripts $$words $(PINS)

prepare_rootfs:
\t@echo; echo 'Finalizing root filesystem...'
\t@[ -z "$(USER_FILES)" ] || cp -a "$(USER_FILES)/." $(TARGET_DIR)/
\t@mkdir -p $(TARGET_DIR)/tmp/scripts
\t@set -e; cd $(TARGET_DIR); tar -xzf lib/apk/db/scripts.tar.gz -C tmp/scripts; \\
\tfor script in tmp/scripts/*.post-install; do \\
\t\t[ ! -f "$$script" ] || IPKG_INSTROOT=$(TARGET_DIR) bash "$$script" || exit 1; \\
\tdone
\t@rm -rf $(TARGET_DIR)/tmp/*
\t@find $(TARGET_DIR) -exec touch -h -d "@$(SOURCE_DATE_EPOCH)" {} +

build_image:
\t@echo; echo 'Building images...'
\t@apk --root $(TARGET_DIR) list --quiet --manifest --no-network --repositories-file /dev/null | sort | \\
\t\tsed 's/ / - /' > $(IMAGE).manifest
\t@for type in sysupgrade factory; do tar -cf $(IMAGE)-squashfs-$$type.bin -C $(TARGET_DIR) --sort=name \\
\t\t--owner=0 --group=0 --numeric-owner --mtime="@$(SOURCE_DATE_EPOCH)" --format=gnu .; done
"""


@dataclass
class Feed:
    """A folder of packages with an index, made by a genuine apk. key: the file of a private key, or None for
    an index that is not signed. listed: the files in the index."""

    apk: Path
    folder: Path
    key: Path | None = None
    listed: list[Path] = field(default_factory=list)

    def add(
        self,
        name: str,
        version: str = "1-r1",
        *,
        depends: Sequence[str] = (),
        provides: Sequence[str] = (),
        abi: str = "",
        arch: str = ARCH,
        files: Mapping[str, bytes] | None = None,
        post_install: str | None = None,
    ) -> Path:
        """Make a package; what is not said is as small as can be. abi: also put behind the name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        root = self.folder / ".files"
        for path, data in (files or {f"usr/share/{name}": name.encode()}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        info = {"name": name + abi, "version": version, "arch": arch, "description": f"{name} for tests"}
        info |= {"license": "Apache-2.0", "origin": f"tests/{name}"}
        info |= {"depends": " ".join(depends)} if depends else {}
        if abi:
            info |= {"tags": f"openwrt:abiversion={abi}", "provider-priority": "10"}
            provides = (name, *provides)
        info |= {"provides": " ".join(provides)} if provides else {}
        place = self.folder / f"{name}{abi}-{version}.apk"
        argv = [str(self.apk), "mkpkg", "--files", str(root), "--output", str(place)]
        argv += [word for key, value in info.items() for word in ("--info", f"{key}:{value}")]
        if post_install is not None:
            script = self.folder / ".script"
            script.write_text(f"#!/bin/sh\n{post_install}\n")
            argv += ["--script", f"post-install:{script}"]
        run(argv)
        shutil.rmtree(root)
        self.listed.append(place)
        return place

    def make_index(self) -> Path:
        """Write packages.adb of the packages that were added."""
        place = self.folder / "packages.adb"
        argv = [str(self.apk), "mkndx", "--allow-untrusted", "--output", str(place)]
        argv += ["--sign", str(self.key)] if self.key else []
        run([*argv, *map(str, self.listed)])
        return place


def make_key(folder: Path, name: str) -> tuple[Path, Path]:
    """A key pair as OpenWrt has them: the files of the private and of the public one."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / f"{name}-private.pem", folder / f"{name}.pem"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)])
    run(["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)])
    return private, public


def install_apk(program: Path, tree: Path) -> Path:
    """Put apk into a tree as OpenWrt does: with those of its libraries that are not the system's."""
    place, libraries = tree / "staging_dir/host/bin", tree / "staging_dir/host/lib"
    place.mkdir(parents=True, exist_ok=True)
    libraries.mkdir(parents=True, exist_ok=True)
    for line in run(["ldd", str(program)]).stdout.splitlines():
        match = re.search(r"=> (/\S+) \(", line)
        if match and not match[1].startswith(("/lib", "/usr/lib")):
            shutil.copy(match[1], libraries / line.split()[0])
    shutil.copy(program, place / ".apk.bin")
    wrapper = place / "apk"
    wrapper.write_text(
        '#!/bin/sh\nhere="$(dirname "$0")"\n'
        'LD_LIBRARY_PATH="$(realpath "$here/../lib")" exec "$here/.apk.bin" "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def make_tree(
    program: Path, tree: Path, *, keys: Sequence[Path] = (), feeds: Sequence[str] = (), signs: bool = True
) -> Feed:
    """A tree with base-files, libc and the kernel in its packages/, to which more can be added.

    keys: public keys of its feeds; feeds: addresses of their folders; signs: apk checks signatures.
    """
    own = Feed(install_apk(program, tree), tree / "packages")
    facts = {
        "ARCH": ARCH,
        "RELEASE": RELEASE,
        "PROFILE": PROFILE,
        "DEFAULTS": " ".join(DEFAULTS),
        "PROFILE_PACKAGES": " ".join(PROFILE_PACKAGES),
        "UNTRUSTED": "" if signs else "--allow-untrusted",
        "SIGNS": "--sign $(TOPDIR)/keys/local-private-key.pem" if signs else "",
    }
    (tree / "include").mkdir(parents=True)
    (tree / "keys").mkdir()
    (tree / "Makefile").write_text(re.sub(r"@([A-Z_]+)@", lambda match: facts[match[1]], _MAKEFILE))
    (tree / "include/version.mk").write_text(
        f"SOURCE_DATE_EPOCH:={EPOCH}\nBASE_FILES_VERSION:={VERSIONS['base-files']}\n"
        f"KERNEL_VERSION:={VERSIONS['kernel']}\nLIBC_VERSION:={VERSIONS['libc']}\n"
    )
    (tree / ".config").write_text(
        'CONFIG_TARGET_BOARD="mvebu"\nCONFIG_TARGET_SUBTARGET="cortexa9"\nCONFIG_USE_APK=y\n'
        f'CONFIG_TARGET_ARCH_PACKAGES="{ARCH}"\nCONFIG_VERSION_DIST="OpenWrt"\n'
        f'CONFIG_VERSION_NUMBER="{RELEASE}"\n' + ("CONFIG_SIGNATURE_CHECK=y\n" if signs else "")
    )
    (tree / ".targetinfo").write_text("Target: mvebu/cortexa9\n")
    (tree / "repositories").write_text("".join(f"{url}/packages.adb\n" for url in feeds))
    for key in keys:
        shutil.copy(key, tree / "keys" / key.name)
    own.add("base-files", VERSIONS["base-files"], depends=["libc"], files={"etc/openwrt_release": b"x\n"})
    own.add("libc", VERSIONS["libc"])
    own.add("kernel", VERSIONS["kernel"])
    return own


def fill_feed(feed: Feed) -> Feed:
    """The packages that the tree's defaults and profile want, some Python, and what can go wrong."""
    feed.add("busybox", "1.37.0-r6", depends=["libc"])
    feed.add("dnsmasq", "2.91-r2", depends=["libc"], provides=["dnsmasq-any=2.91-r2"])
    feed.add("dnsmasq-full", "2.91-r2", depends=["libc", "!dnsmasq"], provides=["dnsmasq-any=2.91-r2"])
    feed.add("dropbear", "2025.89-r1", depends=["libc"], post_install=_SERVICE.format(name="dropbear"))
    feed.add("libustream", "2025.10.03~f0bd0ae8-r1", depends=["libc"], abi="20201210")
    feed.add("kmod-mwlwifi", "6.12.58.2023.11.29~cdb1f4a0-r1", depends=[f"kernel={VERSIONS['kernel']}"])
    feed.add("libpython3", "3.13.9-r2", depends=["libc"], abi="-3.13")
    feed.add("python3-base", "3.13.9-r2", depends=["libc", "libpython3-3.13"])
    feed.add("python3-light", "3.13.9-r2", depends=["python3-base"], files={"usr/x": os.urandom(300_000)})
    feed.add("python3", "3.13.8-r1", depends=["python3-light"])
    feed.add("python3", "3.13.9-r2", depends=["python3-light"])
    feed.add("scripts", "1-r1", depends=["busybox>=1.36", "dnsmasq-any"], arch="noarch")
    feed.add("dangling", depends=["nowhere"])
    feed.make_index()
    return feed


_SERVICE = 'mkdir -p "$IPKG_INSTROOT/etc/rc.d" && ln -sf ../init.d/{name} "$IPKG_INSTROOT/etc/rc.d/S19{name}"'


def bare_make(tree: Path, *arguments: str) -> str:
    """`make` in a tree, outside of any sandbox; what it prints."""
    return run(["make", *arguments], cwd=tree, env=clean_environment(HOME="/nonexistent")).stdout
