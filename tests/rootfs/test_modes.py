"""The modes of overlays' files: the author's umask says nothing, secrets are for root alone."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from imagebuilder.config.overlay import Overlay, OverlayError, Variable
from imagebuilder.rootfs.overlay import OverlayFiles, overlay_tree
from imagebuilder.rootfs.tree import LINK_MODE

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"
# path: (mode that its author gave, what is in it, mode in the image)
PLACES = {
    "etc/shadow": (0o644, "root::0:0:99999:7:::\n", 0o600),
    "etc/config/wireless": (0o644, "", 0o600),
    "etc/config/network": (0o644, "", 0o644),
    "etc/dropbear/dropbear_rsa_host_key": (0o644, "", 0o600),
    "etc/ssh/sshd_config": (0o644, "", 0o600),
    "etc/ssh_config.d/10-mine": (0o644, "", 0o600),
    "etc/ssl/cert.pem": (0o644, CERTIFICATE, 0o644),
    "etc/ssl/private.pem": (0o644, KEY, 0o600),
    "etc/uhttpd.key": (0o644, "", 0o600),
    "etc/wireguard/up.sh": (0o755, "", 0o700),
    "root/.ssh/authorized_keys": (0o644, "", 0o600),
    "usr/bin/tool": (0o775, "", 0o755),
    "usr/bin/mine": (0o700, "", 0o700),
    "usr/share/plain": (0o664, "", 0o644),
    "usr/share/mine": (0o600, "", 0o600),
}
FOLDERS = {
    "etc": 0o755,
    "etc/dropbear": 0o700,
    "etc/ssh": 0o700,
    "etc/ssl": 0o755,
    "etc/wireguard": 0o700,
    "root/.ssh": 0o700,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, (mode, text, _) in PLACES.items():
        file = tmp_path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    for path in [tmp_path / "files", *(tmp_path / "files").rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    return tmp_path


def modes(laid: OverlayFiles) -> dict[str, int]:
    return {path[1:]: entry.mode for path, entry in laid.tree.items()}


def lay(folder: Path, overlay: Overlay | None = None, there: Mapping[str, int] | None = None) -> OverlayFiles:
    return overlay_tree(overlay or Overlay(name="test"), folder, {}, there=there)


def test_what_is_secret_stays_so(folder: Path) -> None:
    laid = lay(folder)
    found = modes(laid)
    assert {name: found[name] for name in PLACES} == {name: mode for name, (_, _, mode) in PLACES.items()}
    assert {name: found[name] for name in FOLDERS} == FOLDERS
    assert "/etc/shadow" in laid.secrets
    assert "/etc/ssl/cert.pem" not in laid.secrets
    assert "/usr/share/mine" not in laid.secrets


def test_what_a_package_brings_keeps_its_mode(folder: Path) -> None:
    """Stricter authors are heard for files, not for folders that others' files lie in."""
    (folder / "files/usr").chmod(0o700)
    (folder / "files/usr/share").chmod(0o700)
    files = {"/usr/bin/tool": 0o750, "/usr/share/plain": 0o640, "/usr/share/mine": 0o644}
    files |= {"/etc/shadow": 0o644, "/usr/bin/mine": 0o755}
    there = {"/usr": stat.S_IFDIR | 0o755, "/etc/config/network": stat.S_IFLNK | 0o777}
    found = modes(lay(folder, there={**there, **{path: stat.S_IFREG | mode for path, mode in files.items()}}))
    assert found["etc/config/network"] == 0o644  # a link's mode is none
    assert (found["usr"], found["usr/share"]) == (0o755, 0o700)
    assert (found["usr/bin/tool"], found["usr/share/plain"]) == (0o750, 0o640)
    assert (found["usr/share/mine"], found["etc/shadow"], found["usr/bin/mine"]) == (0o600, 0o600, 0o700)


def test_what_its_author_made_executable_can_be_executed(folder: Path) -> None:
    assert modes(lay(folder, there={"/usr/bin/tool": stat.S_IFREG | 0o644}))["usr/bin/tool"] == 0o755
    assert modes(lay(folder, there={"/usr/share/plain": stat.S_IFREG | 0o755}))["usr/share/plain"] == 0o755


def test_a_umask_that_closes_everything_says_nothing(folder: Path) -> None:
    for path in [folder / "files", *(folder / "files").rglob("*")]:
        path.chmod(path.stat().st_mode & 0o700)
    found = modes(lay(folder))
    assert (found["usr/share/mine"], found["usr/bin/mine"]) == (0o644, 0o755)
    assert (found["usr"], found["etc/dropbear"]) == (0o755, 0o700)
    assert found["etc/shadow"] == 0o600


@pytest.mark.parametrize(("author", "mode"), [(0o644, 0o600), (0o755, 0o700)])
def test_a_secret_that_is_written_into_a_file(tmp_path: Path, author: int, mode: int) -> None:
    for name, text in {"held": "{{ key | sh }}", "not": "{{ ssid | sh }}", "raw": "{{ key }}"}.items():
        file = tmp_path / "files/etc" / (name if name == "raw" else f"{name}.j2")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(author)
    overlay = Overlay(name="test", variables={"key": Variable(secret=True), "ssid": Variable()})
    laid = overlay_tree(overlay, tmp_path, {"key": "k", "ssid": "s"}, secret=["key"])
    assert laid.secrets == {"/etc/held"}
    assert laid.tree["/etc/held"].mode == mode
    assert laid.tree["/etc/not"].mode == laid.tree["/etc/raw"].mode == author


def test_the_declared_mode_wins_unless_all_could_read_a_secret(folder: Path) -> None:
    overlay = Overlay(name="test", modes={"/etc/shadow": "0640", "/usr/bin/mine": "755"})
    found = modes(lay(folder, overlay))
    assert (found["etc/shadow"], found["usr/bin/mine"]) == (0o640, 0o755)
    with pytest.raises(OverlayError, match="lets everybody on the device read a secret: /etc/shadow"):
        lay(folder, Overlay(name="test", modes={"/etc/shadow": "0644"}))


def test_links_have_no_modes(folder: Path) -> None:
    (folder / "files/etc/ssl/server.key").symlink_to("private.pem")
    laid = lay(folder)
    assert laid.tree["/etc/ssl/server.key"].mode == LINK_MODE
    assert "/etc/ssl/server.key" not in laid.secrets
