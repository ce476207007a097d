"""Results as a build hands them over, for what reads them: whole, of any board, with images of a few KiB."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imagebuilder.model.result import (
    DeviceTitle,
    ImageFile,
    InstalledPackage,
    PackageSize,
    ProfileFacts,
    Result,
    RootfsSizes,
    TreeFacts,
)
from imagebuilder.report.files import write_result
from imagebuilder.report.sums import write_sums

PACKAGES = {"base-files": "1", "busybox": "1.36", "kernel": "5.15.137", "libc": "1.2.4"}
BOARD = "tplink-tl-wr740n-v4"
PROFILE = "tplink_tl-wr740n-v4"
TITLE = DeviceTitle(vendor="TP-Link", model="TL-WR740N", variant="v4")


@dataclass(frozen=True)
class MadeResult:
    """A result to be written. content: what its images are made of; size: KiB of each; more: what else is in
    result.json; packages: names to versions."""

    board: str = BOARD
    config: str = "home"
    profile: str = PROFILE
    version: str = "23.05.5"
    target: str = "ath79/tiny"
    content: str = "one"
    size: int = 4
    packages: dict[str, str] = field(default_factory=lambda: dict(PACKAGES))
    title: DeviceTitle = TITLE
    types: tuple[str, ...] = ("sysupgrade", "factory")
    secrets: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> MadeResult:
        """The same with some fields changed."""
        return replace(self, **changes)

    def image(self, kind: str) -> tuple[str, bytes]:
        """The name and the bytes of the image of that type."""
        name = f"openwrt-{self.version}-{self.target.replace('/', '-')}-{self.profile}-squashfs-{kind}.bin"
        seed = f"{self.content} {kind} {self.board} {self.config}\n".encode()
        return name, (seed * (self.size * 1024 // len(seed) + 1))[: self.size * 1024]

    def write(self, out: Path) -> Path:
        """Write it to OUT/CONFIG/BOARD, in place of what is there; that folder."""
        place = out / self.config / self.board
        place.mkdir(parents=True, exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        files = dict(map(self.image, self.types))
        for name, data in files.items():
            (place / name).write_bytes(data)
        (place / "manifest").write_text("".join(f"{name} - {it}\n" for name, it in self.packages.items()))
        (place / "build.log").write_text("secret paths of the building machine\n")
        write_result(self.result(), place)
        if self.more:
            said = json.loads((place / "result.json").read_text())
            (place / "result.json").write_text(json.dumps({**said, **self.more}))
        write_sums(place, {}, None)
        return place

    def result(self) -> Result:
        """What its result.json says, but for `more`."""
        files = dict(map(self.image, self.types))
        images = tuple(
            ImageFile(
                file=name,
                type=kind,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                required=True,
            )
            for kind, (name, data) in zip(self.types, files.items(), strict=True)
        )
        sizes = tuple(
            PackageSize(name=name, version=it, stored=len(name) * 100 + len(it), size=1, files=1)
            for name, it in self.packages.items()
        )
        stored = sum(each.stored for each in sizes)
        return Result(
            builder="0.1.0",
            config=self.config,
            board=self.board,
            profile=self.profile,
            python="none",
            tree=TreeFacts(
                source="/home/somebody/ib",
                distribution="OpenWrt",
                version=self.version,
                target=self.target,
                arch="mips_24kc",
                package_manager="opkg",
                trust="",
            ),
            feeds={},
            view="copy",
            sandboxed=True,
            make=(),
            packages=tuple(InstalledPackage(name=name, version=it) for name, it in self.packages.items()),
            images=images,
            checks={},
            unchecked=(),
            rootfs=RootfsSizes(image=images[0].file, stored=stored, tables=0, packages=sizes),
            flash=None,
            ram=None,
            overlays=(),
            filespecs=(),
            trimmed=(),
            shaken=(),
            starts=(),
            bytecode=None,
            uncompiled=(),
            secrets=self.secrets,
            signed={},
            disabled_services=(),
            warnings=(),
            steps=(),
            device=self._device(),
        )

    def _device(self) -> ProfileFacts:
        return ProfileFacts(
            titles=(self.title,),
            supported_devices=(self.profile.replace("_", ",", 1), "tl-wr740n-v4"),
            default_packages=("base-files", "busybox", "libc"),
            device_packages=("rssileds", "-dnsmasq"),
            revision="r23630-842932a63d",
            epoch=1_700_000_000,
            kernel=self.packages.get("kernel", ""),
            filesystems={},
        )
