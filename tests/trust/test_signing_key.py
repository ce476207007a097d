"""The user's signing key, which no make sees; those of trees, which only their make gets; whole builds."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.build import build_image, build_twice
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import HostError
from imagebuilder.firmware.formats.formats import read_image
from imagebuilder.firmware.reader import open_view
from imagebuilder.host.beneath import BeneathError
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.result import Result
from imagebuilder.tree.collect import BuildError
from imagebuilder.tree.tree import settings_of
from imagebuilder.trust.keys import KeyFileError, Keys, parse_usign_key
from imagebuilder.trust.signature import verify_usign
from imagebuilder.trust.signature_adb import parse_apk_key
from imagebuilder.trust.signing_key import (
    lay_tree_key,
    signs_images,
    tree_apk_pair,
    tree_pair,
    user_keys,
    user_pair,
)
from imagebuilder.trust.tree_identity import tree_identity
from imagebuilder.trust.usign import UsignPair, pair_of, parse_secret_key
from tests.conftest import SMALL_MAKEFILE
from tests.support import firmware_writers as make

BOARD = "tplink-tl-wr740n-v4"
SETTINGS = "CONFIG_SIGNATURE_CHECK=y\n"
APK = "CONFIG_USE_APK=y\n"
MAKES_KEYS = "_check_keys: FORCE\nifneq ($(CONFIG_SIGNATURE_CHECK),)\nendif\n"

Lay = Callable[[str], PrivateView]


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user who has no key yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "me"))
    return tmp_path / "me"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of a tree as says that make makes a key."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "Makefile").write_text(MAKES_KEYS)
    (folder / ".config").write_text(SETTINGS)
    return folder


@pytest.fixture
def view(tmp_path: Path) -> Lay:
    def make(name: str) -> PrivateView:
        (tmp_path / name).mkdir()
        return PrivateView("overlay", Path("/builder/tree"), Path("/builder/work"), tmp_path / name)

    return make


def lay(tree: Path, view: PrivateView) -> bool:
    return lay_tree_key(tree, settings_of(tree), view, None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tells_of(secret: UsignPair, data: bytes) -> bool:
    """Whether somebody who has the data has the secret key: as it is, or anywhere in a text of base64."""
    words = re.findall(rb"[A-Za-z0-9+/]{100,}", data)  # a long path may be one, too
    texts = [base64.b64decode(word[: len(word) // 4 * 4]) for word in words]
    return any(secret.seed in text for text in [data, *texts])


# --- the user's key


def test_a_key_is_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    kept = tmp_path / "user/keys"
    made = user_pair(kept)
    assert user_pair(kept) == made
    assert user_pair(tmp_path / "other") != made
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "own").stat().st_mode & 0o777 == 0o700
    assert (kept / "own/key-build").stat().st_mode & 0o777 == 0o600
    assert (kept / "own/key-build.pub").stat().st_mode & 0o777 == 0o644  # as an overlay may copy it
    assert files_of(kept) == {"own/key-build": made.secret_file(), "own/key-build.pub": made.public_file()}


def test_a_key_of_the_users_own_is_taken(tmp_path: Path) -> None:
    """As of somebody who has one from a buildroot."""
    mine = pair_of(bytes(32))
    (tmp_path / "own").mkdir()
    secret = tmp_path / "own/key-build"
    secret.touch(mode=0o600)
    secret.write_bytes(mine.secret_file())
    (tmp_path / "own/key-build.pub").write_bytes(mine.public_file().replace(b"Local build key", b"of mine"))
    assert user_pair(tmp_path) == mine


def test_keys_that_make_had_once_are_not_taken(tmp_path: Path) -> None:
    """Until this was put right, keys lay in `usign` and `apk`, and every make could read and plant them."""
    for name in ("usign", "apk"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key-build").write_bytes(pair_of(bytes(32)).secret_file())
        (tmp_path / name / "key-build.pub").write_bytes(pair_of(bytes(32)).public_file())
    assert user_pair(tmp_path) != pair_of(bytes(32))


def damage(place: Path) -> None:
    place.write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda own: damage(own / "key-build"), r"own/key-build is no usign file"),
        (lambda own: damage(own / "key-build.pub"), r"own/key-build\.pub is no usign file"),
        (lambda own: (own / "key-build").unlink(), r"own/key-build cannot be read"),
        (lambda own: (own / "key-build.pub").unlink(), r"own/key-build\.pub cannot be read"),
        (
            lambda own: (own / "key-build.pub").write_bytes(pair_of(bytes(32)).public_file()),
            r"own/key-build\.pub is not the public half of .*own/key-build",
        ),
        (
            lambda own: (own / "key-build").chmod(0o640),
            r"others can read the signing key .*own/key-build \(mode 0640\)",
        ),
    ],
)
def test_a_key_that_is_not_whole_or_not_secret_is_refused(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    user_pair(tmp_path)
    change(tmp_path / "own")
    with pytest.raises(KeyFileError, match=said):
        user_pair(tmp_path)


def test_a_key_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"the signing key cannot be kept: cannot write") as raised:
        user_pair(tmp_path / "file")
    assert "XDG_DATA_HOME" in str(raised.value.hint)


def test_another_build_was_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find no key; the one that ends first has its key kept, and both sign with it."""
    theirs = user_pair(tmp_path / "theirs")

    def slow(_count: int) -> bytes:
        shutil.copytree(tmp_path / "theirs/own", tmp_path / "kept/own")
        return bytes(32)

    monkeypatch.setattr("imagebuilder.trust.signing_key.secrets.token_bytes", slow)
    assert user_pair(tmp_path / "kept") == theirs
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["own"]


# --- keys of trees


@pytest.mark.parametrize("more", ["", APK])
def test_a_tree_has_a_key_of_its_own(tree: Path, view: Lay, me: Path, more: str) -> None:
    (tree / ".config").write_text(SETTINGS + more)
    first, second, third, fourth = view("first"), view("second"), view("third"), view("fourth")
    assert lay(tree, first)
    assert lay(tree, second)
    assert files_of(first.changed) == files_of(second.changed)
    own = user_pair(user_keys())
    assert not any(tells_of(own, data) for data in files_of(first.changed).values())
    secret = "keys/local-private-key.pem" if more else "key-build"
    for name in files_of(first.changed):
        assert (first.changed / name).stat().st_mode & 0o777 == (0o600 if name == secret else 0o644)
    (tree / "Makefile").write_text(MAKES_KEYS + "# changed\n")
    assert lay(tree, third)
    assert (third.changed / secret).read_bytes() != (first.changed / secret).read_bytes()
    shutil.rmtree(me)  # another user
    assert lay(tree, fourth)
    assert (fourth.changed / secret).read_bytes() != (third.changed / secret).read_bytes()


def test_what_a_tree_for_opkg_gets(tree: Path, view: Lay, me: Path) -> None:
    """make signs with the tree's pair, and opkg knows it; what goes into images that are to hold a key is the
    public half of the user's, which signs them in the end."""
    first = view("first")
    assert lay(tree, first)
    own = user_pair(user_keys())
    pair = tree_pair(own, tree_identity(tree))
    assert files_of(first.changed) == {
        "key-build": pair.secret_file(),
        "key-build.pub": own.public_file(),
        "key-build.ucert": pair.certificate(),
        f"keys/{pair.number}": pair.public_file(),
    }
    assert parse_secret_key((first.changed / "key-build").read_bytes(), "key-build") != own
    assert signs_images(tree, settings_of(tree))


def test_what_a_tree_with_apk_gets(tree: Path, view: Lay, me: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    (tree / ".config").write_text(SETTINGS + APK)
    first = view("first")
    assert lay(tree, first)
    found = files_of(first.changed)
    assert sorted(found) == ["keys/local-private-key.pem", "keys/local-public-key.pem"]
    private, public = (
        found.values() if next(iter(found)).endswith("private-key.pem") else [*found.values()][::-1]
    )
    assert private.startswith(b"untrusted comment: Local build key\n-----BEGIN EC PRIVATE KEY-----\n")
    key = load_pem_private_key(private.partition(b"\n")[2], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    known = parse_apk_key(public, "local-public-key.pem")
    assert known.public.public_numbers() == key.public_key().public_numbers()
    assert (private, public) == tree_apk_pair(user_pair(user_keys()), tree_identity(tree))
    assert not signs_images(tree, settings_of(tree))  # OpenWrt's apk trees sign no images


@pytest.mark.parametrize(
    ("makefile", "settings"),
    [
        ("all:\n", SETTINGS),  # up to 19.07; a key there would sign images that are not signed otherwise
        (MAKES_KEYS, "# CONFIG_SIGNATURE_CHECK is not set\n"),
        (None, None),
    ],
)
def test_a_tree_that_makes_no_key_gets_none(
    tree: Path, view: Lay, me: Path, makefile: str | None, settings: str | None
) -> None:
    for name, text in (("Makefile", makefile), (".config", settings)):
        (tree / name).unlink()
        if text is not None:
            (tree / name).write_text(text)
    first = view("first")
    assert not lay(tree, first)
    assert list(first.changed.iterdir()) == []
    assert not me.exists()
    assert not signs_images(tree, settings_of(tree))


@pytest.mark.genuine
def test_17_01_makes_no_key(genuine_tree: Path, view: Lay, me: Path) -> None:
    assert not lay(genuine_tree, view("first"))
    assert not me.exists()


@pytest.mark.parametrize(("more", "secret"), [("", "key-build"), (APK, "keys/local-private-key.pem")])
def test_a_tree_that_brings_a_key_keeps_it(tree: Path, view: Lay, me: Path, more: str, secret: str) -> None:
    """Its keepers' devices know that key."""
    (tree / ".config").write_text(SETTINGS + more)
    (tree / secret).parent.mkdir(exist_ok=True)
    (tree / secret).touch()
    assert not lay(tree, view("first"))
    assert not me.exists()
    assert not signs_images(tree, settings_of(tree))


def test_what_was_planted_before_is_replaced(tree: Path, view: Lay, me: Path, tmp_path: Path) -> None:
    """`make info` and the tree's apk run in the view before: what they leave there signs nothing."""
    first, second = view("first"), view("second")
    lay(tree, first)
    (tmp_path / "mine").write_text("mine")
    (second.changed / "key-build").symlink_to(tmp_path / "mine")
    (second.changed / "key-build.pub").write_text("planted")
    lay(tree, second)
    assert files_of(second.changed) == files_of(first.changed)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_planted_folder_or_link_is_named_and_not_followed(
    tree: Path, view: Lay, me: Path, tmp_path: Path
) -> None:
    first, second = view("first"), view("second")
    (tmp_path / "host").mkdir()
    (first.changed / "keys").symlink_to(tmp_path / "host")
    with pytest.raises(BeneathError, match=r"first/keys is a symbolic link"):
        lay(tree, first)
    assert list((tmp_path / "host").iterdir()) == []
    (second.changed / "key-build").mkdir()
    with pytest.raises(BeneathError, match=r"second/key-build is a folder"):
        lay(tree, second)


# --- whole builds

# what OpenWrt's own does from 21.02 on; what make sees of keys goes into the log
KEYS_MAKEFILE = """\
\t@for name in key-build*; do echo "$$name: $$(base64 -w 0 $$name)"; done
\t@stat -c 'mode %n %a' key-build* keys/*
_check_keys:
\t@test -s key-build -a -s key-build.pub -a -s key-build.ucert || { echo 'no key was given'; exit 1; }
"""


@pytest.fixture
def signing_tree(small_tree: Path) -> Path:
    """The small tree, which wants a key, and whose sysupgrade image ends with a signature."""
    text = SMALL_MAKEFILE.replace("\nimage:\n", "\nimage: _check_keys\n") + KEYS_MAKEFILE
    (small_tree / "Makefile").write_text(text)
    (small_tree / ".config").write_text((small_tree / ".config").read_text() + SETTINGS)
    (small_tree / "keys").mkdir()
    (small_tree / "keys/b5043e70f9a75cde").write_text("OpenWrt's")
    plain = (small_tree / "sysupgrade.bin").read_bytes()
    theirs = pair_of(bytes([9]) * 32)
    content = theirs.chain(theirs.sign(plain))
    (small_tree / "sysupgrade.bin").write_bytes(make.chunk(plain + content, 0, len(content) + 16))
    return small_tree


@dataclass(frozen=True)
class Built:
    """What a build handed over."""

    place: Path
    result: Result

    @property
    def image(self) -> Path:
        """The sysupgrade image."""
        (file,) = (each.file for each in self.result.images if each.type == "sysupgrade")
        return self.place / file

    @property
    def log(self) -> str:
        """All that make printed."""
        return (self.place / "build.log").read_text()

    def seen(self, name: str) -> bytes:
        """A file as make saw it."""
        (line,) = (line for line in self.log.splitlines() if line.startswith(f"{name}: "))
        return base64.b64decode(line.split()[1])


Build = Callable[[Path, str], Built]


@pytest.fixture
def asked(tmp_path: Path, project: Path) -> Callable[[Path, str], Request]:
    def ask(tree: Path, output: str) -> Request:
        (asked,) = requests(
            project,
            "router",
            board=BOARD,
            imagebuilder=str(tree),
            output=tmp_path / output,
            cache=tmp_path / "cache",
        )
        return asked

    return ask


@pytest.fixture
def build(asked: Callable[[Path, str], Request]) -> Build:
    return lambda tree, output: Built(*build_image(asked(tree, output), Log()))


def check_signed_by(pair: UsignPair, image: Path) -> None:
    data = image.read_bytes()
    size = int.from_bytes(data[-4:], "big")
    text = data[-size:][data[-size:].rindex(b"untrusted comment: signed") : -16].rstrip(b"\0")
    keys = Keys(usign=(parse_usign_key(pair.public_file(), "key-build.pub"),))
    assert verify_usign(data[:-size], text, keys, "image").number == pair.number


def test_the_users_key_signs_what_is_handed_over(signing_tree: Path, build: Build, me: Path) -> None:
    built = build(signing_tree, "out")
    own = user_pair(user_keys())
    assert user_keys().is_relative_to(me)
    assert built.result.signed == {built.image.name: own.number}
    check_signed_by(own, built.image)
    part = read_image(open_view(built.image)).part
    assert part.problems == ()
    (signature,) = (child for child in part.children if child.kind == "signature")
    assert signature.value("signed by") == (own.number,)
    assert not (signing_tree / "key-build").exists()


def test_make_sees_the_trees_key_and_never_the_users(signing_tree: Path, build: Build, me: Path) -> None:
    built = build(signing_tree, "out")
    own = user_pair(user_keys())
    seen = parse_secret_key(built.seen("key-build"), "key-build")
    assert seen == tree_pair(own, tree_identity(signing_tree))
    assert built.seen("key-build.pub") == own.public_file()
    assert built.seen("key-build.ucert") == seen.certificate()
    assert "mode key-build 600" in built.log
    assert f"mode keys/{seen.number} 644" in built.log
    assert "mode keys/b5043e70f9a75cde" in built.log
    for name in ("key-build", "key-build.pub", "key-build.ucert"):
        assert not tells_of(own, built.seen(name))


def test_two_builds_are_signed_alike(
    signing_tree: Path, build: Build, me: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = build(signing_tree, "first")
    assert build(signing_tree, "second").result.images == first.result.images
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "somebody-else"))
    third = build(signing_tree, "third")
    assert third.image.read_bytes() != first.image.read_bytes()
    check_signed_by(
        user_pair(tmp_path / "somebody-else/openwrt-python-imagebuilder/signing-keys"), third.image
    )


def test_a_build_that_is_compared_is_signed(
    signing_tree: Path, asked: Callable[[Path, str], Request], me: Path
) -> None:
    built = Built(*build_twice(asked(signing_tree, "out"), Log()))
    check_signed_by(user_pair(user_keys()), built.image)


STEALS = """\
steal:
\t@find / -name proc -prune -o -name usr -prune -o -name 'key-build*' -print 2>/dev/null | \\
\t\twhile read name; do echo "stolen $$name"; base64 -w 0 "$$name"; echo; done
\t@ls {kept} || echo 'nothing is there'
\t@umask 022; rm -rf key-build* keys; mkdir keys; cp planted/key-build* .; cp planted/key-build.pub keys/x
"""


def test_a_tree_that_steals_and_plants_keys(
    signing_tree: Path, build: Build, me: Path, tmp_path: Path
) -> None:
    """It finds the key of its own tree only; what it puts there signs neither its own images nor others'."""
    before = build(signing_tree, "before")
    own = user_pair(user_keys())
    evil, planted = tmp_path / "evil", pair_of(bytes([6]) * 32)
    shutil.copytree(signing_tree, evil, symlinks=True)
    text = (evil / "Makefile").read_text().replace("image: _check_keys", "image: _check_keys steal")
    (evil / "Makefile").write_text(text + STEALS.format(kept=user_keys()))
    (evil / "planted").mkdir()
    (evil / "planted/key-build").write_bytes(planted.secret_file())
    (evil / "planted/key-build.pub").write_bytes(planted.public_file())
    (evil / "planted/key-build.ucert").write_bytes(planted.certificate())
    built = build(evil, "evil-out")
    assert "stolen /builder/tree/key-build\n" in built.log
    assert "nothing is there\n" in built.log
    assert not tells_of(own, built.log.encode())
    theirs = tree_pair(own, tree_identity(signing_tree))
    assert not tells_of(theirs, built.log.encode())  # nor that of another tree, however like it
    assert built.seen("key-build") == planted.secret_file()
    check_signed_by(own, built.image)
    assert planted.number.encode() not in built.image.read_bytes()
    assert user_pair(user_keys()) == own
    after = build(signing_tree, "after")
    assert after.result.images == before.result.images
    assert after.seen("key-build") == theirs.secret_file()


def test_an_image_that_the_signature_makes_too_large(
    signing_tree: Path, build: Build, me: Path, project: Path
) -> None:
    """make put something smaller there: what is handed over is what has to fit."""
    plain = (signing_tree / "sysupgrade.bin").read_bytes()
    body = plain[: -int.from_bytes(plain[-4:], "big")]
    small = make.chunk(body + b"# fake certificate", 0, 34)
    (signing_tree / "sysupgrade.bin").write_bytes(small)
    board = project / f"boards/{BOARD}.toml"
    limited = f"sysupgrade = {{ limit = {len(small)},"
    board.write_text(board.read_text().replace("sysupgrade = {", limited))
    with pytest.raises(BuildError, match=rf"the sysupgrade image has {len(body) + 532} bytes, 498 more than"):
        build(signing_tree, "out")


def test_a_key_that_cannot_be_kept_stops_a_build_before_make(
    signing_tree: Path, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(HostError, match="the signing key cannot be kept"):
        build(signing_tree, "out")
    assert not (tmp_path / "out").exists()


def test_a_tree_without_signatures_makes_no_key(small_tree: Path, build: Build, me: Path) -> None:
    assert build(small_tree, "out").result.signed == {}
    assert not me.exists()
