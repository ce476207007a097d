"""From a release's name to an image: a server on loopback with OpenWrt's layout, filled from the kit and
signed with test keys; the ImageBuilder, a feed of it, and a feed of somebody else."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imagebuilder.ask import fetch_image, lock_image
from imagebuilder.build import build_image
from imagebuilder.config.lock import write_lock
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.host.cache import OfflineError
from imagebuilder.kit.feed import write_index
from imagebuilder.log import Log
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.feed import FeedError
from imagebuilder.packages.lock import LockError
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.opkg import format_index, read_index
from imagebuilder.packages.resolution import PlanError
from imagebuilder.packages.supply import FeedUseError
from imagebuilder.rootfs.tree import FileTree, file_of
from imagebuilder.server.obtain_sums import SwappedFileError
from imagebuilder.trust.signature import NoSignatureError, TrustError, UnknownKeyError, WrongSignatureError
from imagebuilder.trust.signature_seen import OlderIndexError
from imagebuilder.trust.signature_sums import TruncatedSumsError
from tests.support.download_server import RELEASE, Server, Signer, Site, Told
from tests.support.planning import plan_image

pytestmark = pytest.mark.kit

TARGET = "x86/64"
ARCHIVE = f"openwrt-imagebuilder-{RELEASE}-x86-64.Linux-x86_64"
BOARD = "loopback"
FEED = f"releases/{RELEASE}/packages/x86_64/packages"
REPOSITORIES = f"""\
src/gz openwrt_packages https://downloads.openwrt.org/{FEED}
src imagebuilder file:packages
"""
BOARD_FILE = """\
name = "Loopback"
soc = "x86-64"
ram = "128M"
flash = "128M"
[[profile]]
releases = ">=24.10"
target = "x86/64"
name = "qemu-x86-64"
arch = "x86_64"
[images]
combined-efi = { format = "efi-disk", required = true }
"""


@dataclass
class Mirror:
    """The server's folder, and who signs there."""

    server: Server
    site: Site

    @property
    def feed(self) -> Path:
        return self.server.root / FEED

    def sign_feed(self, signer: Signer | None = None) -> None:
        sign_folder(self.feed, signer or self.site.signer)


def sign_folder(folder: Path, signer: Signer) -> None:
    """The index of a folder's packages, and its signature."""
    text = (folder / "Packages").read_bytes()
    (folder / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
    (folder / "Packages.sig").write_bytes(signer.sign(text))


@pytest.fixture(scope="session")
def release_files(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit as a release: its archive, and its Python packages as a feed. Tests copy it."""
    top = tmp_path_factory.mktemp("release")
    tree, feed = top / ARCHIVE, top / "feed"
    shutil.copytree(kit, tree, symlinks=True)
    feed.mkdir()
    (tree / "kit.json").unlink()
    config = (tree / ".config").read_text().replace('NUMBER="embedded"', f'NUMBER="{RELEASE}"')
    (tree / ".config").write_text(config)
    (tree / "repositories.conf").write_text(REPOSITORIES)
    signer = Signer()
    (tree / "keys").mkdir()
    (tree / "keys" / signer.number).write_bytes(signer.key_file())
    packages = read_index(tree / "packages/Packages")
    python = [each for each in packages if each.name.startswith(("python3", "libpython3"))]
    for package in python:
        (tree / "packages" / package.filename).rename(feed / package.filename)
    write_index(feed, python)
    write_index(tree / "packages", [each for each in packages if each not in python])
    with tarfile.open(top / f"{ARCHIVE}.tar.zst.plain", "w") as tar:
        tar.add(tree, ARCHIVE)
    shutil.rmtree(tree)
    return top


@pytest.fixture
def mirror(server: Server, site: Site, release_files: Path) -> Mirror:
    import zstandard  # noqa: PLC0415

    folder = site.folder(RELEASE, TARGET)
    folder.mkdir(parents=True)
    plain = (release_files / f"{ARCHIVE}.tar.zst.plain").read_bytes()
    (folder / f"{ARCHIVE}.tar.zst").write_bytes(zstandard.ZstdCompressor(level=1).compress(plain))
    site.sign(RELEASE, TARGET)
    there = Mirror(server, site)
    shutil.copytree(release_files / "feed", there.feed)
    there.sign_feed()
    return there


Asking = Callable[..., Request]


@pytest.fixture
def asking(project: Path, tmp_path: Path, mirror: Mirror, own_keys: Path) -> Asking:
    """What a user asks who has a config that names the mirror and its key, and a release."""
    shutil.copytree(own_keys, project / "my-keys")
    (project / f"boards/{BOARD}.toml").write_text(BOARD_FILE)

    def ask(more: str = "", *, offline: bool = False) -> Request:
        (project / "configs/mine.toml").write_text(
            f'boards = ["{BOARD}"]\nrelease = "{RELEASE}"\n'
            f'[mirror]\nurls = ["{mirror.server.url}"]\nkeys = "my-keys"\n'
            f'[python]\nvariant = "base"\n{more}'
        )
        output, cache = tmp_path / "out", tmp_path / "cache"
        (asked,) = requests(project, "mine", output=output, cache=cache)
        return replace(asked, offline=offline)

    return ask


def test_a_release_its_feed_and_offline_after_that(asking: Asking, mirror: Mirror, tmp_path: Path) -> None:
    plan = plan_image(asking(), Log())
    python = next(each for each in plan.install if each.name == "python3-base")
    assert (python.feed, python.package.sha256 != "") == ("openwrt_packages", True)
    assert python.why[0].startswith('python.variant = "base" in ')
    assert mirror.server.paths(".ipk") == []
    place, result = build_image(asking(), Log())
    assert {(each.name, each.version) for each in plan.install} == {
        (each.name, each.version) for each in result.packages
    }
    assert result.tree.version == RELEASE
    assert result.feeds == {"openwrt_packages": f"signed by the key {mirror.site.signer.number}"}
    assert result.sandboxed
    fetched = {path.rpartition("/")[2] for path in mirror.server.paths(".ipk")}
    assert fetched == {each.package.filename for each in plan.install if each.feed}
    mirror.server.close()
    shutil.rmtree(place)
    _, again = build_image(asking(offline=True), Log())
    assert again.images == result.images


def test_an_imagebuilder_by_its_address(asking: Asking, mirror: Mirror) -> None:
    address = f"{mirror.server.url}/releases/{RELEASE}/targets/{TARGET}/{ARCHIVE}.tar.zst"
    asked = replace(asking(), imagebuilder=address)
    _, result = build_image(asked, Log())
    assert result.tree.source == f"{ARCHIVE}.tar.zst from {mirror.server.url}"
    assert mirror.site.signer.number in result.tree.trust
    with pytest.raises(SwappedFileError, match="name another ImageBuilder"):
        plan_image(replace(asked, imagebuilder=address.replace("x86-64", "x86-generic")), Log())
    with pytest.raises(TrustError, match="where its signed checksums lie beside it"):
        plan_image(replace(asked, imagebuilder=f"{mirror.server.url}/ib.tar.zst"), Log())
    wrong_sums_signature(mirror)
    shutil.rmtree(asked.cache)
    with pytest.raises(WrongSignatureError):
        plan_image(asked, Log())


def test_fetching_fills_the_cache_for_a_build_offline(asking: Asking, mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"sha256sums"):
        build_image(asking(offline=True), Log())
    plan_image(asking(), Log())
    with pytest.raises(FeedError, match=r"package 'python3-base' is missing"):
        build_image(asking(offline=True), Log())
    fetch_image(asking(), Log())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("mine/[a-z]*"))
    mirror.server.close()
    _, result = build_image(asking(offline=True), Log())
    assert "python3-base" in {each.name for each in result.packages}


def wrong_sums_signature(mirror: Mirror) -> None:
    sums = mirror.site.folder(RELEASE, TARGET) / "sha256sums"
    sums.write_bytes(sums.read_bytes() + b"0" * 64 + b" *another\n")


def unknown_key_of_sums(mirror: Mirror) -> None:
    Site(mirror.server.root, Signer(2)).sign(RELEASE, TARGET)


def truncated_sums(mirror: Mirror) -> None:
    sums = mirror.site.folder(RELEASE, TARGET) / "sha256sums"
    sums.write_bytes(sums.read_bytes()[:-9])
    (sums.parent / "sha256sums.sig").write_bytes(mirror.site.signer.sign(sums.read_bytes()))


def swapped_archive(mirror: Mirror) -> None:
    archive = mirror.site.folder(RELEASE, TARGET) / f"{ARCHIVE}.tar.zst"
    archive.write_bytes(archive.read_bytes() + b"\0")


def unsigned_sums(mirror: Mirror) -> None:
    (mirror.site.folder(RELEASE, TARGET) / "sha256sums.sig").unlink()


def changed_feed(mirror: Mirror) -> None:
    text = (mirror.feed / "Packages").read_bytes() + b"\n"
    (mirror.feed / "Packages.gz").write_bytes(gzip.compress(text))


def feed_of_another_key(mirror: Mirror) -> None:
    mirror.sign_feed(Signer(2))


def unsigned_feed(mirror: Mirror) -> None:
    (mirror.feed / "Packages.sig").unlink()


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (wrong_sums_signature, WrongSignatureError, "is not what the key"),
        (unknown_key_of_sums, UnknownKeyError, "not among the keys trusted here"),
        (truncated_sums, TruncatedSumsError, "sha256sums"),
        (swapped_archive, SwappedFileError, "is not the file that is vouched for"),
        (unsigned_sums, NoSignatureError, "sha256sums"),
        (changed_feed, WrongSignatureError, "Packages"),
        (feed_of_another_key, UnknownKeyError, "Packages"),
        (unsigned_feed, NoSignatureError, "has no signature"),
    ],
)
def test_what_is_not_to_be_trusted_stops_and_leaves_nothing(
    asking: Asking, mirror: Mirror, spoil: Callable[[Mirror], None], kind: type[UserError], words: str
) -> None:
    asked = asking()
    spoil(mirror)
    with pytest.raises(kind, match=words) as error:
        build_image(asked, Log())
    assert error.value.hint
    assert [path for path in asked.output.glob("mine/*") if not path.name.startswith(".")] == []
    kept = {path.read_bytes()[:9] for path in asked.cache.glob("blobs/*/*")}
    assert not any(content.startswith(b"Package:") for content in kept)
    trees = [path for path in asked.cache.glob("trees/*") if not path.name.startswith(".")]
    if "feed" not in spoil.__name__:
        assert not kept
    assert bool(trees) == ("feed" in spoil.__name__)


def test_what_an_index_says_of_one_package_costs_that_package(asking: Asking, mirror: Mirror) -> None:
    odd = "Package: odd\nVersion: 1 2\nArchitecture: all\n\nFilename: __.ipk\nSize: 1\n\n"
    odd += "Package: other\nVersion: 1\nArchitecture: mips_24kc\n\n"
    odd += "Package: nginx\nVersion: 1\nArchitecture: all\nDepends: python3-base (>=0.1) (<2)\n\n"
    index = mirror.feed / "Packages"
    index.write_text(odd + index.read_text())
    mirror.sign_feed()
    for _ in range(2):  # the second time the index is in the cache
        told = Told()
        plan = plan_image(asking('[packages]\nadd = ["nginx"]\n'), told.log)
        assert {"nginx", "python3-base"} <= {each.name for each in plan.install}
        assert "feed openwrt_packages has packages that cannot be used: odd (line 1: '1 2'" in told.notes
        assert "a package without a name (line 5: it has no name (Package))" in told.notes
        assert "other (its architecture is 'mips_24kc', and the tree takes all and x86_64)" in told.notes
        for name, reason in (("odd", "'1 2' is no version"), ("other", "its architecture is 'mips_24kc'")):
            with pytest.raises(PlanError) as error:
                plan_image(asking(f'[packages]\nadd = ["{name}"]\n'), told.log)
            assert f"feed openwrt_packages has it, and it cannot be used: {name} (" in error.value.message
            assert reason in error.value.message
            assert error.value.hint == "take it from another feed, or tell those who keep this one"


def test_an_index_older_than_one_already_seen(asking: Asking, mirror: Mirror) -> None:
    plan_image(asking(), Log())
    older = (mirror.feed / "Packages").read_bytes()
    packages = read_index(mirror.feed / "Packages")
    (mirror.feed / "Packages").write_text(format_index(packages[:-1]))
    mirror.sign_feed()
    newer = plan_image(asking(), Log())
    assert newer.install
    (mirror.feed / "Packages").write_bytes(older)
    mirror.sign_feed()
    with pytest.raises(OlderIndexError, match=f"index of {FEED}/Packages is older than one already seen"):
        build_image(asking(), Log())


def test_a_feed_that_is_other_than_the_locks(asking: Asking, mirror: Mirror) -> None:
    asked = asking()
    write_lock(asked.library, "mine", {BOARD: lock_image(asked, Log())})
    bound = replace(asked, locked=True)
    packages = read_index(mirror.feed / "Packages")
    (mirror.feed / "Packages").write_text(format_index(packages[:-1]))
    mirror.sign_feed()
    assert plan_image(bound, Log()).install  # nothing of the image changed
    others = [replace(each, version="9") if each.name == "python3-base" else each for each in packages]
    (mirror.feed / "Packages").write_text(format_index(others))
    mirror.sign_feed()
    with pytest.raises(LockError) as error:
        build_image(bound, Log())
    version = next(each.version for each in packages if each.name == "python3-base")
    other = "(the index of feed openwrt_packages is not the one that the lock names)"
    why = f"python3-base {version}: it has 9 {other}"
    assert why in error.value.message
    assert not list(asked.output.glob(f"mine/{BOARD}"))


def test_a_package_that_is_not_what_its_index_says(asking: Asking, mirror: Mirror, tmp_path: Path) -> None:
    (file,) = mirror.feed.glob("python3-base_*.ipk")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"python3-base_.*is not the file it should be"):
        build_image(asking(), Log())
    assert not list((tmp_path / "out").glob(f"mine/{BOARD}"))


# --- feeds of others


@pytest.fixture
def other_feed(server: Server) -> Path:
    folder = server.root / "theirs" / RELEASE / "x86_64"
    tree = FileTree({"/usr/bin/hello": file_of(b"#!/bin/sh\necho hello\n", 0o755)})
    package = Package("hello", "1.2", depends=((Dependency("busybox"),),), architecture="x86_64")
    written = write_ipk(folder, package, tree, epoch=1_700_000_000).package
    (folder / "Packages").write_text(format_index([written]))
    sign_folder(folder, Signer(3))
    return folder


def with_feed(url: object, key: str | None = "theirs.pub") -> str:
    named = f'key = "{key}"\n' if key else ""
    return f'[packages]\nadd = ["hello"]\n[[feed]]\nname = "theirs"\nurl = "{url}"\n{named}'


def test_a_feed_of_somebody_else(asking: Asking, mirror: Mirror, other_feed: Path, project: Path) -> None:
    (project / "theirs.pub").write_bytes(Signer(3).key_file())
    url = f"{mirror.server.url}/theirs/{{release}}/{{arch}}"
    _, result = build_image(asking(with_feed(url)), Log())
    assert ("hello", "1.2") in {(each.name, each.version) for each in result.packages}
    assert result.feeds["theirs"] == f"signed by the key {Signer(3).number}"
    (project / "theirs.pub").write_bytes(Signer(4).key_file())
    with pytest.raises(UnknownKeyError, match="not among the keys trusted here"):
        build_image(asking(with_feed(url)), Log())
    with pytest.raises(UserError, match=r"the url has '\{series\.x\}'"):
        build_image(asking(with_feed(f"{mirror.server.url}/{{series.x}}")), Log())
    with pytest.raises(UserError, match="is on a server: name the key file"):
        asking(with_feed(url, None))


def test_a_folder_is_a_feed_with_an_index_or_without(asking: Asking, other_feed: Path) -> None:
    for name in ("Packages.sig", "Packages.gz"):
        (other_feed / name).unlink()
    indexed = plan_image(asking(with_feed(other_feed, None)), Log())
    (other_feed / "Packages").unlink()
    bare = plan_image(asking(with_feed(other_feed, None)), Log())
    assert indexed.install == bare.install
    _, result = build_image(asking(with_feed(other_feed, None)), Log())
    assert result.feeds["theirs"] == "a folder of this machine, as given"
    assert "hello" in {each.name for each in result.packages}
    with pytest.raises(FeedUseError, match="there is no folder"):
        plan_image(asking(with_feed(other_feed / "nowhere", None)), Log())
