"""`releases`, `boards search --release`, `boards add --release`: what a mirror says, and what is trusted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.device import ImageFacts
from imagebuilder.config.library import Library
from imagebuilder.config.releases import ReleaseError, shipped_releases
from imagebuilder.host.cache import Cache, OfflineError
from imagebuilder.host.transfer_part import DownloadError
from imagebuilder.model.tree import ProfileError
from imagebuilder.server.devices import parse_profiles
from imagebuilder.server.obtain_lists import Asking, list_releases, listed_facts, search_devices
from imagebuilder.server.obtain_sums import SwappedFileError
from imagebuilder.trust.signature import UnknownKeyError, WrongSignatureError
from tests.support.download_server import (
    RELEASE,
    TARGET,
    Fault,
    Server,
    Signer,
    Site,
    Told,
    left_in,
    no_waiting,
)

Ask = Callable[..., Asking]
Cli = Callable[..., subprocess.CompletedProcess[str]]

# one release more than the shipped list has
VERSIONS = {"versions_list": ["25.12.77", "26.03.0-rc1"], "stable_version": "25.12.77"}
VERSIONS["oldstable_version"] = "24.10.8"
DEVICES = {
    "acme_one": {
        "titles": [{"vendor": "Acme", "model": "One", "variant": "v1"}, {"title": "Emca One"}],
        "supported_devices": ["acme,one"],
        "device_packages": ["kmod-usb2"],
        "file_size_limits": {"image": 7 << 20, "kernel": 2 << 20},
        "images": [
            {"type": "sysupgrade", "filesystem": "squashfs", "name": "a-sysupgrade.bin"},
            {"type": "kernel", "filesystem": "initramfs", "name": "a-initramfs-kernel.bin"},
            {"type": "factory", "filesystem": "squashfs", "name": "a-factory.bin"},
            {"type": "factory", "filesystem": "ext4", "name": "a-ext4-factory.bin"},
            {"type": "preloader.bin", "name": "a-preloader.bin"},
        ],
    },
    "tplink_tl-wr740n-v4": {"titles": [{"title": "TP-Link TL-WR740N v4"}]},
}


@pytest.fixture
def ask(server: Server, cache: Cache, told: Told) -> Ask:
    """Whom to ask: the test's server as the one mirror that a user named, unless others are."""

    def make(*mirrors: str, offline: bool = False) -> Asking:
        return Asking(cache, mirrors or (server.url,), offline, told.log, no_waiting(attempts=2))

    return make


@pytest.fixture
def lists(site: Site) -> Site:
    """The site with the lists of a release: `acme_one` in two targets, one of them signed."""
    devices = [
        {"id": name, "target": target, "titles": facts["titles"]}
        for target in (TARGET, "ath79/generic")
        for name, facts in DEVICES.items()
        if target == TARGET or name == "acme_one"
    ]
    devices.append({"id": "acme_two", "target": "x86/64", "titles": [{"title": "Acme Two"}]})
    (site.root / f"releases/{RELEASE}").mkdir(parents=True)
    (site.root / f"releases/{RELEASE}/.overview.json").write_text(json.dumps({"profiles": devices}))
    site.add_target(**{"profiles.json": profiles_json()})
    site.add_target(target="x86/64", **{"profiles.json": profiles_json(target="x86/64")})
    return site


def profiles_json(**facts: object) -> bytes:
    made = {"target": TARGET, "version_number": RELEASE, "arch_packages": "mips_24kc", "profiles": DEVICES}
    return json.dumps({**made, **facts}).encode()


@pytest.fixture
def cli(project: Path, tmp_path: Path) -> Cli:
    def call(*argv: str | Path, project: Path = project) -> subprocess.CompletedProcess[str]:
        own = ["--project", str(project)] if argv[0] == "boards" else []
        return subprocess.run(
            [sys.executable, "-m", "imagebuilder", *map(str, argv), *own, "--cache", str(tmp_path / "cache")],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return call


# --- releases


def test_a_mirror_says_which_releases_there_are(ask: Ask, server: Server) -> None:
    (server.root / ".versions.json").write_text(json.dumps(VERSIONS))
    found = list_releases(ask())
    by_name = {each.release: each for each in found.releases}
    assert found.asked
    assert found.origin.startswith(f"{server.url}/.versions.json and the project's own list")
    assert [each.release for each in found.releases if each.latest] == ["25.12.77"]
    assert {name: by_name[name].state for name in ("26.03.0-rc1", "25.12.5", "24.10.8", "23.05.6")} == {
        "26.03.0-rc1": "not released yet",
        "25.12.5": "maintained",
        "24.10.8": "maintained",
        "23.05.6": "end of life",
    }
    server.close()
    kept = list_releases(ask(offline=True))
    assert kept.releases == found.releases
    assert (kept.asked, kept.origin.partition(" and ")[0]) == (
        False,
        "the .versions.json that was fetched before",
    )


def test_offline_the_shipped_list_is_shown_and_said_to_be_so(ask: Ask, server: Server) -> None:
    found = list_releases(ask(offline=True))
    assert [each.release for each in found.releases] == list(shipped_releases().versions)
    assert (found.asked, found.origin) == (False, shipped_releases().origin)
    assert server.asked == []


def test_a_named_mirror_that_does_not_answer_is_an_error(ask: Ask, server: Server, told: Told) -> None:
    server.always[".versions.json"] = Fault(status=500)
    with pytest.raises(DownloadError, match="HTTP 500"):
        list_releases(ask())
    (server.root / "empty").mkdir()
    with pytest.raises(DownloadError, match=r"no mirror gives \.versions\.json"):
        list_releases(ask(server.url, str(server.root / "empty")))
    (server.root / "empty/.versions.json").write_text("<html>")
    with pytest.raises(DownloadError, match="not JSON"):
        list_releases(ask(str(server.root / "empty"), offline=True))
    (server.root / "empty/.versions.json").write_text(json.dumps(VERSIONS))
    assert list_releases(ask(server.url, str(server.root / "empty"))).asked
    assert "HTTP 500" in told.warnings


def test_the_default_server_that_does_not_answer_is_a_warning(
    cache: Cache, told: Told, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagebuilder.server.mirror.DOWNLOAD_SERVER", server.url)
    found = list_releases(Asking(cache, (), log=told.log, patience=no_waiting(attempts=2)))
    assert (found.asked, found.origin) == (False, shipped_releases().origin)
    assert server.paths(".versions.json")
    assert f"{server.url}/.versions.json" in told.warnings


def test_releases_on_the_command_line(cli: Cli, server: Server) -> None:
    (server.root / ".versions.json").write_text(json.dumps(VERSIONS))
    shown = cli("releases", "--mirror", server.url)
    assert shown.returncode == 0, shown.stderr
    first, second, *_ = (line.split() for line in shown.stdout.splitlines()[1:])
    assert first == ["26.03.0-rc1", "26.03", "not", "released", "yet"]
    assert second == ["25.12.77", "25.12", "maintained", "latest"]
    assert shown.stdout.splitlines()[-1].startswith(f"from {server.url}/.versions.json")
    facts = json.loads(cli("releases", "--mirror", server.root, "--json").stdout)
    assert facts["asked"] is True
    assert facts["releases"][1] == {
        "release": "25.12.77",
        "series": "25.12",
        "state": "maintained",
        "latest": True,
    }
    last = cli("releases", "--offline").stdout.splitlines()[-1]
    assert last.startswith("no server gave a list; from the .versions.json that was fetched before and ")
    (server.root / ".versions.json").unlink()
    failed = cli("releases", "--mirror", server.url)
    assert failed.returncode == 2
    assert "error: " in failed.stderr
    assert failed.stdout == ""


# --- boards search


def test_a_search_among_what_a_release_builds_for(ask: Ask, lists: Site) -> None:
    found = search_devices("24.10.4", ["acme", "one"], ask())
    assert found.release == RELEASE
    assert [(each.id, each.target) for each in found.devices] == [
        ("acme_one", "ath79/generic"),
        ("acme_one", TARGET),
    ]
    assert search_devices(RELEASE, ["emca"], ask(offline=True)).devices == found.devices
    assert search_devices(RELEASE, ["nothing"], ask()).devices == ()
    with pytest.raises(OfflineError, match=r"releases/23\.05\.5/\.overview\.json"):
        search_devices("23.05.5", ["acme"], ask(offline=True))
    with pytest.raises(DownloadError, match=r"no mirror gives releases/23\.05\.5/\.overview\.json"):
        search_devices("23.05.5", ["acme"], ask())


def test_search_on_the_command_line(cli: Cli, lists: Site) -> None:
    mirror = ("--mirror", str(lists.root), "--release", RELEASE)
    shown = cli("boards", "search", "acme", *mirror)
    assert shown.returncode == 0, shown.stderr
    assert f"OpenWrt {RELEASE} builds for (the server's list, not signed)" in shown.stdout
    assert "Acme One v1 / Emca One" in shown.stdout
    assert f"boards add acme_one --release {RELEASE}" in shown.stdout
    facts = json.loads(cli("boards", "search", "acme two", *mirror, "--json").stdout)
    assert facts == {
        "release": RELEASE,
        "boards": [],
        "devices": [
            {
                "profile": "acme_two",
                "title": "Acme Two",
                "titles": ["Acme Two"],
                "target": "x86/64",
                "board": None,
            }
        ],
    }
    local = cli("boards", "search", "gl ar150")
    assert "boards search 'gl ar150' --release latest" in local.stdout
    assert "--release" not in cli("boards", "search", "gl ar150", "--json").stdout
    bounds = cli("boards", "search", "acme", *mirror, "--ram", ">=8M")
    assert bounds.returncode == 2
    assert "the server's list has no flash and RAM" in bounds.stderr


def test_what_has_a_board_file_already_is_shown_with_it(cli: Cli, lists: Site) -> None:
    (lists.root / "releases/23.05.5").mkdir(parents=True)
    overview = (lists.root / f"releases/{RELEASE}/.overview.json").read_bytes()
    (lists.root / "releases/23.05.5/.overview.json").write_bytes(overview)
    for release, board in (("23.05.5", "tplink-tl-wr740n-v4"), (RELEASE, None)):  # not built in 24.10.4
        mirror = ("--mirror", str(lists.root), "--release", release)
        facts = json.loads(cli("boards", "search", "740n", *mirror, "--json").stdout)
        assert [(each["profile"], each["board"]) for each in facts["devices"]] == [
            ("tplink_tl-wr740n-v4", board)
        ]
        assert "tplink-tl-wr740n-v4" in [each["id"] for each in facts["boards"]]


# --- boards add


def test_facts_of_a_device_are_trusted_by_signature(
    ask: Ask, lists: Site, own_keys: Path, server: Server
) -> None:
    facts = listed_facts("acme_one", RELEASE, ask(), target=TARGET, keys=own_keys)
    assert (facts.title, facts.target, facts.arch) == ("Acme One v1", TARGET, "mips_24kc")
    assert facts.images == dict.fromkeys(("sysupgrade", "factory"), ImageFacts(format="unknown"))
    assert facts.supported_devices == ("acme,one",)
    assert (facts.image_size, facts.kernel_size) == (7 << 20, 2 << 20)
    assert server.paths(".overview.json") == []  # the target was named
    assert listed_facts("acme_one", RELEASE, ask(offline=True), target=TARGET, keys=own_keys) == facts
    with pytest.raises(UnknownKeyError):
        listed_facts("acme_one", RELEASE, ask(), target=TARGET)


def test_facts_that_are_not_trusted_leave_nothing(
    ask: Ask, lists: Site, own_keys: Path, cache: Cache
) -> None:
    def facts(**options: str) -> None:
        listed_facts("acme_one", RELEASE, ask(), target=TARGET, keys=own_keys, **options)  # type: ignore[arg-type]

    profiles = lists.folder() / "profiles.json"
    good = profiles.read_bytes()
    profiles.write_bytes(good.replace(b"mips_24kc", b"mips_4kec"))
    with pytest.raises(SwappedFileError, match=r"profiles\.json is not the file that is vouched for"):
        facts()
    assert not [
        name for name in left_in(cache.folder) if hashlib.sha256(profiles.read_bytes()).hexdigest() in name
    ]
    cache.clean()
    Site(lists.root, Signer(seed=7, number=lists.signer.bare_number)).sign()
    with pytest.raises(WrongSignatureError):
        facts()
    assert left_in(cache.folder) == []
    pin = hashlib.sha256(profiles.read_bytes()).hexdigest()
    facts(trust=f"sha256:{pin}")
    with pytest.raises(SwappedFileError, match="not the file that is vouched for"):
        facts(trust=f"sha256:{'0' * 64}")


@pytest.mark.parametrize("others", [{"version_number": "24.10.3"}, {"target": "ath79/generic"}])
def test_another_releases_list_is_not_trusted(
    ask: Ask, lists: Site, own_keys: Path, others: dict[str, str]
) -> None:
    (lists.folder() / "profiles.json").write_bytes(profiles_json(**others))
    lists.sign()
    with pytest.raises(SwappedFileError, match=f"is that of .*{next(iter(others.values()))}"):
        listed_facts("acme_one", RELEASE, ask(), target=TARGET, keys=own_keys)


def test_a_profile_that_is_meant_is_named(ask: Ask, lists: Site, own_keys: Path) -> None:
    with pytest.raises(ProfileError, match="is in 2 targets: ath79/generic, ath79/tiny") as error:
        listed_facts("acme_one", RELEASE, ask(), keys=own_keys)
    assert error.value.hint == "say which one is meant: --target ath79/generic"
    for name in ("acme-two", "Acme Two"):
        with pytest.raises(ProfileError, match=rf"OpenWrt 24\.10\.4 has no profile '{name}'") as error:
            listed_facts(name, RELEASE, ask(), keys=own_keys)
        assert error.value.hint is not None
        assert error.value.hint.startswith("its nearest profiles: acme_two")
    with pytest.raises(ProfileError, match="for x86/64 has no profile 'acme_two'"):  # although listed
        listed_facts("acme_two", RELEASE, ask(), keys=own_keys)


def test_the_kit_is_on_no_server(ask: Ask) -> None:
    for release in ("embedded", "embedded-3.13"):
        with pytest.raises(ReleaseError, match=f"{release} is no release of a server's") as error:
            listed_facts("qemu-x86-64", release, ask())
        assert error.value.hint == "what it builds for has a board: owrt-python boards"
        with pytest.raises(ReleaseError, match="the kit is made here"):
            search_devices(release, ["qemu"], ask())


def test_add_on_the_command_line(cli: Cli, lists: Site, own_keys: Path, project: Path) -> None:
    more = ("--release", RELEASE, "--mirror", str(lists.root), "--keys", own_keys)
    ended = cli("boards", "add", "acme_one", *more, "--target", TARGET, "--ram", "64M")
    assert ended.returncode == 0, ended.stderr
    path = project / "boards/acme-one.toml"
    assert f"wrote {path}" in ended.stdout
    assert f'release = "{RELEASE}"' in ended.stdout
    board = Library(project).board("acme-one")
    assert (board.name, board.ram, board.flash, board.soc) == ("Acme One v1", 64 << 20, None, "unknown")
    (profile,) = board.profile
    assert (profile.releases, profile.target, profile.arch) == (f">={RELEASE}", TARGET, "mips_24kc")
    assert profile.supported_devices == ("acme,one",)
    assert board.layout.firmware == 7 << 20
    assert {name: (image.format, image.required) for name, image in board.images.items()} == {
        "sysupgrade": ("unknown", True),
        "factory": ("unknown", True),
    }
    text = path.read_text()
    assert "kmod-usb2" not in text
    marked = [number for number, line in enumerate(text.splitlines(), 1) if "FILL IN:" in line]
    assert all(f"{path}:{number}: " in ended.stdout for number in marked)
    assert len(marked) == 5  # soc, flash, compat_version, two formats
    again = cli("boards", "add", "acme_one", *more, "--target", TARGET)
    assert again.returncode == 2
    assert "there is a board 'acme-one' already" in again.stderr
    found = json.loads(cli("boards", "search", "acme", *more[:4], "--json").stdout)
    assert [each["board"] for each in found["devices"]] == [None, "acme-one", None]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--imagebuilder", "x", "--release", RELEASE), "are two places to look: give one of them"),
        (("--target", TARGET), "go with --release"),
        (("--mirror", "/", "--imagebuilder", "x"), "go with --release"),
        ((), "no ImageBuilder was given"),
        (("--release", "24.10.99x"), "is no release"),
        (("--release", RELEASE, "--mirror", "nowhere"), "there is no folder 'nowhere'"),
        (("--release", RELEASE, "--trust", "me"), "trust = 'me' is none"),
    ],
)
def test_mistakes(cli: Cli, project: Path, argv: tuple[str, ...], words: str) -> None:
    before = sorted(project.rglob("*"))
    ended = cli("boards", "add", "acme_one", *argv)
    assert ended.returncode == 2
    assert words in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert sorted(project.rglob("*")) == before


# --- profiles.json


@pytest.mark.parametrize(
    ("facts", "images", "sizes"),
    [
        ({"images": [{"type": "a b", "filesystem": "ext4"}, 1, {"type": 2}]}, (), (None, None)),
        ({"images": "x", "file_size_limits": {"image": True, "kernel": -1}}, (), (None, None)),
        ({"file_size_limits": {"image": "7m", "kernel": 1 << 60}}, (), (None, None)),
        ({"images": [{"type": "combined", "filesystem": "ext4"}] * 2}, ("combined",), (None, None)),
    ],
)
def test_what_a_list_says_of_images_may_be_anything(
    facts: dict[str, object], images: tuple[str, ...], sizes: tuple[int | None, int | None]
) -> None:
    (device,) = parse_profiles(profiles_json(profiles={"x": facts}), "here").devices
    assert (device.images, (device.image_size, device.kernel_size)) == (images, sizes)
