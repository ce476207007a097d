"""The signing key that an ImageBuilder makes for itself: kept, and laid where one would be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.request import requests
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.result import ImageFile
from imagebuilder.tree.tree import settings_of
from imagebuilder.trust.keys import KeyFileError
from imagebuilder.trust.signing_key import keep_signing_key, lay_signing_key, user_keys
from tests.conftest import SMALL_MAKEFILE
from tests.support.download_server import Signer, Told

BOARD = "tplink-tl-wr740n-v4"
SETTINGS = "CONFIG_SIGNATURE_CHECK=y\n"
SETS = {
    "usign": ("key-build", "key-build.pub", "key-build.ucert"),
    "apk": ("keys/local-private-key.pem", "keys/local-public-key.pem"),
}

# what OpenWrt's own does from 21.02 on, without usign: the key is random, so is its number; the image ends in
# what it was signed with, and in names and modes of all keys
KEYS_MAKEFILE = """\
\t@cat key-build.ucert >> $(DIST)-squashfs-sysupgrade.bin
\t@stat -c '%n %a' key-build* keys/* >> $(DIST)-squashfs-sysupgrade.bin
_check_keys:
\t@test -s key-build.pub || { \\
\t\tumask 022; \\
\t\thead -c 32 /dev/urandom | base64 > key-build; chmod 600 key-build; \\
\t\t{ printf Ed; head -c 40 /dev/urandom; } | base64 -w 0 > blob; \\
\t\tprintf 'untrusted comment: Local build key\\n%s\\n' "$$(cat blob)" > key-build.pub; \\
\t\tcp key-build.pub keys/$$(base64 -d blob | od -An -tx1 -j2 -N8 | tr -d ' '); rm blob; \\
\t}
\t@test -s key-build.ucert || sha256sum key-build key-build.pub > key-build.ucert
"""

Build = Callable[..., tuple[ImageFile, ...]]
Lay = Callable[[str], PrivateView]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of a tree as says that make makes a key."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "Makefile").write_text("_check_keys: FORCE\nifneq ($(CONFIG_SIGNATURE_CHECK),)\nendif\n")
    (folder / ".config").write_text(SETTINGS)
    return folder


@pytest.fixture
def view(tmp_path: Path) -> Lay:
    def make(name: str) -> PrivateView:
        (tmp_path / name).mkdir()
        return PrivateView("overlay", Path("/builder/tree"), Path("/builder/work"), tmp_path / name)

    return make


def make_keys(view: PrivateView, kind: str, seed: int = 1) -> None:
    """What make leaves in a view."""
    for name in SETS[kind]:
        place = view.changed / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(Signer(seed).key_file() if name.endswith(".pub") else f"{name} {seed}".encode())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", list(SETS))
def test_a_key_that_was_made_is_kept_and_laid_again(tree: Path, view: Lay, tmp_path: Path, kind: str) -> None:
    kept = tmp_path / "user/keys"
    (tree / ".config").write_text(SETTINGS + ("CONFIG_USE_APK=y\n" if kind == "apk" else ""))
    first, second, third = view("first"), view("second"), view("third")
    assert not lay_signing_key(tree, settings_of(tree), first, kept)
    assert not keep_signing_key(tree, settings_of(tree), first, kept)
    assert not kept.exists()
    make_keys(first, kind)
    make_keys(second, kind, seed=2)
    assert keep_signing_key(tree, settings_of(tree), first, kept)
    assert not keep_signing_key(tree, settings_of(tree), second, kept)  # the first to end
    assert lay_signing_key(tree, settings_of(tree), third, kept)
    known = {f"keys/{Signer().number}": Signer().key_file()} if kind == "usign" else {}
    assert files_of(third.changed) == {**files_of(first.changed), **known}
    secret, public = (third.changed / name for name in SETS[kind][:2])
    assert secret.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in kept.iterdir()] == [kind]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept.rglob("*"))
    (tree / SETS[kind][0]).parent.mkdir(exist_ok=True)
    (tree / SETS[kind][0]).touch()  # the tree has its own
    assert not lay_signing_key(tree, settings_of(tree), view("fourth"), kept)


@pytest.mark.parametrize(
    ("makefile", "settings"),
    [
        ("all:\n", SETTINGS),  # up to 19.07; a key there would sign images that are not signed otherwise
        ("_check_keys: FORCE\n", "# CONFIG_SIGNATURE_CHECK is not set\n"),
        (None, None),
    ],
)
def test_a_tree_that_makes_no_key_gets_none(
    tree: Path, view: Lay, tmp_path: Path, makefile: str | None, settings: str | None
) -> None:
    first, second, kept = view("first"), view("second"), tmp_path / "kept"
    make_keys(first, "usign")
    assert keep_signing_key(tree, settings_of(tree), first, kept)
    for name, text in (("Makefile", makefile), (".config", settings)):
        (tree / name).unlink()
        if text is not None:
            (tree / name).write_text(text)
    assert not lay_signing_key(tree, settings_of(tree), second, kept)
    assert list(second.changed.iterdir()) == []
    assert not keep_signing_key(tree, settings_of(tree), first, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.genuine
def test_17_01_makes_no_key(genuine_tree: Path, tree: Path, view: Lay, tmp_path: Path) -> None:
    first, kept = view("first"), tmp_path / "kept"
    make_keys(first, "usign")
    assert keep_signing_key(tree, settings_of(tree), first, kept)
    assert not lay_signing_key(genuine_tree, settings_of(genuine_tree), view("second"), kept)
    assert not keep_signing_key(genuine_tree, settings_of(genuine_tree), first, tmp_path / "other")


def test_what_is_no_key_is_not_kept(tree: Path, view: Lay, tmp_path: Path) -> None:
    made, kept = view("made"), tmp_path / "kept"
    make_keys(made, "usign")
    (made.changed / "key-build.pub").write_text("empty")
    assert not keep_signing_key(tree, settings_of(tree), made, kept)
    (made.changed / "key-build.pub").unlink()
    (made.changed / "key-build.pub").symlink_to("/etc/passwd")
    assert not keep_signing_key(tree, settings_of(tree), made, kept)
    assert not kept.exists()


def test_a_damaged_key_is_named(tree: Path, view: Lay, tmp_path: Path) -> None:
    first, kept = view("first"), tmp_path / "kept"
    make_keys(first, "usign")
    keep_signing_key(tree, settings_of(tree), first, kept)
    (kept / "usign/key-build.pub").write_text("damaged")
    with pytest.raises(KeyFileError, match=r"kept/usign/key-build\.pub is no usign file"):
        lay_signing_key(tree, settings_of(tree), view("second"), kept)


# --- whole builds


@pytest.fixture
def signing_tree(small_tree: Path) -> Path:
    """The small tree, which makes a key for itself if it has none, and ends images with it."""
    text = SMALL_MAKEFILE.replace("\nimage:\n", "\nimage: _check_keys\n") + KEYS_MAKEFILE
    (small_tree / "Makefile").write_text(text)
    (small_tree / ".config").write_text((small_tree / ".config").read_text() + SETTINGS)
    (small_tree / "keys").mkdir()
    (small_tree / "keys/b5043e70f9a75cde").write_text("OpenWrt's")
    return small_tree


@pytest.fixture
def build(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    # what the small tree puts behind its images is no signature that a device knows
    monkeypatch.setattr("imagebuilder.made.check_flashable", lambda *_, **_more: {})
    monkeypatch.setattr("imagebuilder.made.rootfs_sizes", lambda *_: None)

    def call(tree: Path, output: str, log: Log | None = None) -> tuple[ImageFile, ...]:
        (asked,) = requests(
            project,
            "router",
            board=BOARD,
            imagebuilder=str(tree),
            output=tmp_path / output,
            cache=tmp_path / "cache",
        )
        return build_image(asked, log or Log())[1].images

    return call


def test_two_builds_are_signed_alike(
    signing_tree: Path,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "me"))
    first = build(signing_tree, "first")
    assert build(signing_tree, "second") == first
    assert user_keys().is_relative_to(tmp_path / "me")
    image = (tmp_path / "first/router" / BOARD / first[0].file).read_bytes()
    assert image.endswith(b"644\n")
    assert (user_keys() / "usign/key-build.ucert").read_bytes() in image
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "somebody-else"))
    assert build(signing_tree, "third") != first
    assert not (signing_tree / "key-build").exists()


def test_a_key_that_cannot_be_kept_is_told(
    signing_tree: Path,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: Told,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert build(signing_tree, "out", told.log)
    assert "signing key of this build is not kept" in told.warnings


def test_a_tree_without_signatures_leaves_no_key(
    small_tree: Path,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "me"))
    build(small_tree, "out")
    assert not (tmp_path / "me").exists()
