"""A genuine image that nobody touched has no fault, and one that is broken has the fault that was made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.request import requests
from imagebuilder.firmware.extract import ROOT, extract
from imagebuilder.firmware.inspection import inspect
from imagebuilder.log import Log
from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import read_tree
from imagebuilder.trial.root_checks import root_checks
from tests.support.foreign_roots import wants_emulator
from tests.support.native_root import add_files

pytestmark = pytest.mark.genuine
BOARD = "tplink-tl-wr740n-v4"


def test_a_genuine_image_has_no_fault_but_those_that_are_made(
    genuine_tree: Path, project: Path, tmp_path: Path
) -> None:
    emulated = wants_emulator("mips", "24Kc")
    (asked,) = requests(
        project,
        "router",
        board=BOARD,
        imagebuilder=str(genuine_tree),
        output=tmp_path / "out",
        cache=tmp_path,
    )
    place, result = build_image(asked, Log())
    image = place / next(each.file for each in result.images if each.type == "sysupgrade")
    facts = inspect(image).root
    assert facts is not None
    extract(image, tmp_path / "image")
    root = Root(tmp_path / "image" / ROOT, "", emulated)

    def checked() -> dict[str, TrialCheck]:
        (tmp_path / "work").mkdir(exist_ok=True)
        checks = root_checks(root, read_tree(root.path), tmp_path / "work", owners=facts.owners)
        return {check.name: check for check in checks}

    found = checked()
    assert {name: (each.outcome, each.findings) for name, each in found.items()} == {
        "shared-libraries": ("ok", ()),
        "services": ("ok", ()),
        "shell-scripts": ("ok", ()),
    }
    (root.path / "lib/libubox.so").unlink()
    broken = checked()["shared-libraries"]
    assert broken.outcome == "failed"
    assert "libubox.so is not in the image; its package is perhaps libubox" in broken.found
    assert {"procd", "netifd"} <= {each.package for each in broken.findings}
    shutil.copy(root.path / "lib/libuci.so", root.path / "lib/libubox.so")
    assert "no library has the symbol" in checked()["shared-libraries"].found
    add_files(root.path, **{"/etc/init.d/own": "#!/bin/sh /etc/rc.common\nstart() {\n\tif true; then\n}\n"})
    scripts = checked()["shell-scripts"]
    assert [(each.file, each.text) for each in scripts.findings] == [
        ("/etc/init.d/own", 'line 4: syntax error: unexpected "}"')
    ]
