"""An overlay that a config names by its folder: what somebody has as files/ for ImageBuilder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.budget.budget import overlay_files
from imagebuilder.config.config import explain, load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import overlay_name
from imagebuilder.config.overlay import LoadedOverlay, OverlayError, load_overlays
from imagebuilder.errors import FaultsError
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.overlay import check_processor
from imagebuilder.stage import check_overlays, locked_files, staged

AddConfig = Callable[[str, str], str]


def folder(project: Path, place: str = "files") -> Path:
    """A folder as people have it, below the project."""
    files = project / place
    (files / "etc/config").mkdir(parents=True)
    (files / "etc/config/system").write_text("config system\n\toption hostname 'gate'\n")
    (files / "etc/motd.j2").write_text("{{ no template }}\n")
    (files / "etc/rc.button").write_text("#!/bin/sh\n")
    (files / "etc/rc.button").chmod(0o755)
    (files / ".DS_Store").write_text("")
    return files


def loaded(library: Library, name: str) -> tuple[LoadedOverlay, ...]:
    return load_overlays(library, load_config(library, name).config)


def test_its_files_are_laid_as_they_are(library: Library, add_config: AddConfig) -> None:
    folder(library.root)
    overlays = loaded(library, add_config("mine", 'extends = "base"\n[[overlay]]\npath = "files"\n'))
    config = load_config(library, "mine").config
    tree = staged(config, overlays, library.root).tree
    files = {path: (entry.mode, content(entry)) for path, entry in tree.items() if entry.kind == "file"}
    assert files == {
        "/etc/config/system": (0o644, b"config system\n\toption hostname 'gate'\n"),
        "/etc/motd.j2": (0o644, b"{{ no template }}\n"),
        "/etc/rc.button": (0o755, b"#!/bin/sh\n"),
    }
    assert set(locked_files(config, overlays)["files"]) == set(tree)
    assert set(overlay_files(overlays)) == set(files)
    assert ("overlay.files.path", "files") in [
        (each.key, each.value) for each in explain(library, load_config(library, "mine"))
    ]


def test_every_rule_of_overlays_holds(library: Library, add_config: AddConfig) -> None:
    files = folder(library.root)
    add_config("mine", '[[overlay]]\npath = "files"\n')
    config = load_config(library, "mine").config
    (files / "etc/shadow").write_text("root::0:0:99999:7:::\n")
    tree = staged(config, loaded(library, "mine"), library.root).tree
    assert tree["/etc/shadow"].mode == 0o600
    (files / "etc/config/network").write_text("config interface 'lan'\r\n")
    overlays = loaded(library, "mine")
    with pytest.raises(OverlayError, match=f"{files}/etc/config/network:1: the lines end as on Windows"):
        list(check_overlays(staged(config, overlays, library.root), overlays, (), {}))
    (files / "usr").mkdir()
    (files / "usr/tool").write_bytes(Path("/bin/true").read_bytes())
    with pytest.raises(OverlayError, match=f"{files}/usr/tool is for another processor"):
        check_processor([(each.use.name, each.root) for each in loaded(library, "mine")], "mips_24kc")
    (files / "var").mkdir()
    (files / "var/x").write_text("")
    with pytest.raises(OverlayError, match=f"{files}/var/x: what an image holds there is lost"):
        staged(config, loaded(library, "mine"), library.root)
    (files / "var/x").unlink()
    (files / "usr/away").symlink_to("../../../../home")
    with pytest.raises(OverlayError, match="the link leads out"):
        staged(config, loaded(library, "mine"), library.root)


def test_rules_name_it_as_they_do_others(library: Library, add_config: AddConfig) -> None:
    folder(library.root)
    text = '[[overlay]]\npath = "files"\n[[filespec]]\noverlay = "files"\nrules = ["-|/etc/rc.button"]\n'
    overlays = loaded(library, add_config("mine", text))
    tree = staged(load_config(library, "mine").config, overlays, library.root).tree
    assert "/etc/rc.button" not in tree
    assert "/etc/motd.j2" in tree


def test_a_declared_overlay_elsewhere(library: Library, add_config: AddConfig, tmp_path: Path) -> None:
    """A folder with overlay.toml is an overlay as those in overlays/ are; a path may lead through a link."""
    other = tmp_path / "office"
    (other / "files/etc").mkdir(parents=True)
    (other / "files/etc/motd.j2").write_text("{{ word }}\n")
    (other / "overlay.toml").write_text("[variables.word]\n")
    (library.root / "linked").symlink_to(other)
    text = '[[overlay]]\npath = "linked"\nvariables = { word = "hello" }\n'
    (one,) = loaded(library, add_config("mine", text))
    assert (one.use.name, one.declared, one.root) == ("linked", True, other / "files")
    tree = staged(load_config(library, "mine").config, (one,), library.root).tree
    assert content(tree["/etc/motd"]) == b"hello\n"
    add_config("less", 'extends = "mine"\n[[overlay]]\nname = "linked"\nvariables = { wrod = "x" }\n')
    with pytest.raises(FaultsError, match=r"less\.toml:2?.*has no variable 'wrod'"):
        load_config(library, "less")
    add_config("none", 'extends = "mine"\n[[overlay]]\nname = "linked"\nremove = true\n')
    assert load_config(library, "none").config.overlay == ()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("files", "files"),
        ("../router/files/", "router-files"),
        ("./a b/c", "a-b-c"),
        ("~/.files", "files"),
        ("/", ""),
        ("..", ""),
    ],
)
def test_names_of_folders(path: str, name: str) -> None:
    assert overlay_name(path) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[overlay]]\npath = "nowhere"\n', r"mine\.toml:2: overlay\[0\]\.path: .*nowhere is no folder"),
        ('[[overlay]]\npath = "boards/base.toml"\n', "is no folder"),
        ("[[overlay]]\nremove = true\n", r"overlay\[0\]\.name: is missing"),
        ('[[overlay]]\npath = ".."\n', r"overlay\[0\]\.name: is missing"),
        ('[[overlay]]\nname = "root"\npath = "/"\n', "is this machine's own root file system"),
        ('[[overlay]]\npath = "files"\nvariables = { x = "y" }\n', "overlay 'files' has no variable 'x'"),
        (
            '[[overlay]]\npath = "files"\n[[overlay]]\npath = "./files/"\n',
            r"mine\.toml:2: overlay\[0\]\.path: this overlay and another one are both called 'files'",
        ),
        ('[[overlay]]\npath = "base"\n', "both called 'base'"),
    ],
)
def test_what_is_no_folder(library: Library, add_config: AddConfig, text: str, words: str) -> None:
    folder(library.root)
    folder(library.root, "base")
    add_config("mine", text)
    with pytest.raises(FaultsError, match=words):
        load_config(library, "mine")
