"""Host programs: found by PATH and version, and the packages that bring them, on any distribution."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.library import Library
from imagebuilder.errors import HostError
from imagebuilder.host import package_manager, tools
from imagebuilder.host.diagnosis import diagnose
from imagebuilder.host.package_manager import MANAGERS, find_manager, install_packages, system_ids
from imagebuilder.host.refusals import explain_refusal
from imagebuilder.host.tools import Tool, ToolPackages
from imagebuilder.log import CommandRun, Event, Log

PROJECT = Path(__file__).resolve().parents[2]
APT, DNF, PACMAN, ZYPPER, APK = MANAGERS
AddProgram = Callable[[str, str], Path]


@pytest.fixture
def add_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddProgram:
    """Puts a shell script on the only PATH that is looked at; /usr/bin stays for what scripts call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(tools, "CLEAN_PATH", str(folder))
    tools._version.cache_clear()

    def add(name: str, script: str) -> Path:
        place = folder / name
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        return place

    return add


def tool(name: str = "mksquashfs", **more: object) -> Tool:
    same = ToolPackages("p-apt", "p-dnf", "p-pacman", "", "p-apk", "build it")
    return Tool(name, same, "makes", ("kit",), **more)  # type: ignore[arg-type]


# --- programs


def test_every_row_names_a_package_or_says_what_to_do() -> None:
    assert len({each.name for each in tools.TOOLS}) == len(tools.TOOLS)
    for each in tools.TOOLS:
        for manager in MANAGERS:
            assert each.package(manager) or each.packages.elsewhere, each.name
        assert set(each.uses) <= set(tools.USES)
        assert each.package(None) == each.packages.apt


def test_the_kit_needs_neither_apt_nor_dpkg() -> None:
    names = {each.name for each in tools.TOOLS if "kit" in each.uses}
    assert names.isdisjoint({"apt-get", "dpkg-deb"})
    assert {"gpgv", "genimage", "mksquashfs"} <= names


def test_what_runs_the_programs_of_a_boards_image_is_looked_for() -> None:
    """Or images are handed over untried on a machine of which doctor says that it lacks nothing."""
    library = Library(PROJECT)
    boards = [library.board(name) for name in library.board_names()]
    wanted = {f"qemu-{board.emulation.user.binary}" for board in boards if board.emulation.user}
    assert wanted >= {"qemu-mips", "qemu-arm"}
    assert wanted <= {each.name for each in tools.TOOLS}
    assert wanted - {"qemu-x86_64"} == {each.name for each in tools.TOOLS if "trial" in each.uses}


def test_an_emulator_under_either_name_and_none_for_ones_own_programs(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (mips,) = (each for each in tools.TOOLS if each.name == "qemu-mips")
    (aarch64,) = (each for each in tools.TOOLS if each.name == "qemu-aarch64")
    assert (mips.lack(), aarch64.lack()) == ("not here", None)
    static = add_program("qemu-mips-static", "exit 0")
    assert (mips.lack(), tools.user_emulator("mips")) == (None, str(static))
    first = add_program("qemu-mips", "exit 0")
    assert tools.user_emulator("mips") == str(first)


@pytest.mark.parametrize(
    ("printed", "lack"),
    [
        ("mksquashfs version 4.5.1 (2022/03/17)", None),
        ("mksquashfs version 4.4", None),
        ("mksquashfs version 4.3-git.1", "version 4.3 is here, 4.4 is needed"),
        ("16", None),
        ("no number", None),
        ("9" * 5000, None),
    ],
)
def test_a_version_is_read_where_it_matters(add_program: AddProgram, printed: str, lack: str | None) -> None:
    add_program("mksquashfs", f"echo '{printed}'; test \"$1\" = -version || exit 9; exit 1")
    assert tool(at_least=(4, 4), version_option="-version").lack() == lack


def test_a_program_that_never_says_its_version_is_taken(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "VERSION_SECONDS", 0.2)
    add_program("mksquashfs", "exec /bin/sleep 100")
    assert tool(at_least=(4, 4)).lack() is None


def test_busybox_stands_in_for_simple_programs_only(add_program: AddProgram) -> None:
    place = add_program("busybox", "exit 0")
    (place.parent / "mksquashfs").symlink_to("busybox")
    assert tool().lack() == "only busybox's is here"
    assert tool(simple_will_do=True).lack() is None
    assert tool("no-such-program").lack() == "not here"


def test_a_program_without_all_that_belongs_to_it(add_program: AddProgram) -> None:
    """As perl of Debian's perl-base, without the modules that OpenWrt's scripts load."""
    place = add_program("perl", 'test "$*" != "-MFindBin -e 0" || test -e "$0.modules"')
    whole = tool("perl", trial=("-MFindBin", "-e", "0"))
    assert whole.lack() == "only a part of it is here"
    assert tool("perl", trial=("-MOther", "-e", "0")).lack() is None
    place.with_name("perl.modules").touch()
    assert whole.lack() is None


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_manager", lambda: DNF)
    lacking = (tool("no-such-1"), tool("no-such-2", found=lambda: False), tool("sh"))
    monkeypatch.setattr(tools, "TOOLS", lacking)
    assert [each.name for each in tools.missing_tools(["kit"])] == ["no-such-1", "no-such-2"]
    assert tools.missing_tools(["boot"]) == []
    with pytest.raises(HostError, match=r"no-such-1 \(makes; not here\), no-such-2") as error:
        tools.require(["kit"])
    command = "sudo dnf install --setopt=install_weak_deps=False p-dnf"
    assert error.value.hint == f"owrt-python doctor --fix, or: {command}"


def test_the_one_command_of_each_manager() -> None:
    wanted = [tool("a"), tool("b")]
    assert tools.install_command(wanted, APT) == "sudo apt-get install --no-install-recommends p-apt"
    assert tools.install_command(wanted, PACMAN) == "sudo pacman -S --needed p-pacman"
    assert tools.install_command(wanted, APK) == "sudo apk add p-apk"
    assert tools.install_command(wanted, ZYPPER) == "a: build it; and b: build it"
    zypper = "sudo zypper install --no-recommends bash; and a: build it"
    assert (
        tools.install_command([Tool("bash", tools._called("bash"), "", ("build",)), tool("a")], ZYPPER)
        == zypper
    )
    assert tools.install_command(wanted, None).endswith("what Debian calls: p-apt")


def test_what_was_installed_is_looked_at_anew(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it lacked before."""
    place = add_program("perl", 'test "$1" = --version && cat $0.installed || test -e $0.installed')
    Path(f"{place}.installed").write_text("5.1")
    old, part = tool("perl", at_least=(5, 2)), tool("perl", trial=("-e",))
    assert (old.lack(), part.lack()) == ("version 5.1 is here, 5.2 is needed", None)
    Path(f"{place}.installed").unlink()
    assert part.lack() == "only a part of it is here"
    manager = package_manager.HostPackageManager(
        "apt", str(add_program("fake", f"echo 5.3 > {place}.installed")), (), ("install",), (), ()
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tools.install([old, part], Log(), manager)
    assert (old.lack(), part.lack()) == (None, None)


# --- which package manager


@pytest.mark.parametrize(
    ("text", "programs", "name"),
    [
        ("ID=debian\n", ["apt-get", "dnf"], "apt"),
        ('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n', ["apt-get"], "apt"),
        ("ID=fedora\n", ["apt-get", "dnf"], "dnf"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', ["dnf"], "dnf"),
        ("ID=arch\n", ["pacman"], "pacman"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', ["zypper", "apt-get"], "zypper"),
        ("ID=alpine\n", ["apk"], "apk"),
        ("ID=debian\n", ["pacman"], "pacman"),
        ("ID=nixos\n", [], None),
        ("\0\udcff", ["zypper"], "zypper"),
    ],
)
def test_the_manager_is_the_systems(
    add_program: AddProgram, tmp_path: Path, text: str, programs: list[str], name: str | None
) -> None:
    for program in programs:
        add_program(program, "exit 0")
    (tmp_path / "os-release").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = find_manager([tmp_path / "none", tmp_path / "os-release"], str(tmp_path / "bin"))
    assert (found.name if found else None) == name


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert system_ids([tmp_path / "none"]) == ()


# --- installing


def fake_manager(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch, script: str
) -> package_manager.HostPackageManager:
    """apt by another name, so that no real one is ever called."""
    place = add_program("fake-apt", script)
    return package_manager.HostPackageManager("apt", str(place), (), APT.install, ("-q",), ("update",))


def test_installing_passes_the_proxies_on_and_nothing_else(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = fake_manager(add_program, monkeypatch, 'echo "$@"; /usr/bin/env; test "$2" != update')
    events: list[Event] = []
    environment = {"https_proxy": "http://p:1", "NO_PROXY": "here", "SECRET": "x", "HOME": "/h"}
    install_packages(manager, ["one", "two"], Log([events.append]), environment)
    commands = [event.argv[1:] for event in events if isinstance(event, CommandRun)]
    assert commands == [("-q", "update"), ("-q", "install", "--no-install-recommends", "one", "two")]
    said = str(events)
    assert "https_proxy=http://p:1" in said
    assert "NO_PROXY=here" in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("Temporary failure resolving 'deb.debian.org'", "the network cannot be reached: Temporary failure"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "no space left on the disk"),
        ("E: Unable to locate package one", "saying last"),
    ],
)
def test_why_it_was_not_installed(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    manager = fake_manager(add_program, monkeypatch, f'echo "{words}"; test "$2" = update || exit 100')
    with pytest.raises(Exception, match=message) as failed:
        install_packages(manager, ["one"], Log(), {})
    assert "fake-apt" in f"{failed.value} {failed.value.hint}"  # type: ignore[attr-defined]


def test_the_lists_of_apt_explain_a_package_that_is_not_found(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """apt-get update ends with 0 without a network."""
    script = 'test "$2" = update || exit 100; echo "W: Could not resolve deb.debian.org"'
    manager = fake_manager(add_program, monkeypatch, script)
    with pytest.raises(HostError, match="the network cannot be reached: Could not resolve"):
        install_packages(manager, ["one"], Log(), {})


def test_nothing_is_installed_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="by its administrator only") as error:
        tools.install([tool("no-such")], Log(), APT)
    assert "p-apt" in (error.value.hint or "")
    tools.install([], Log())


def test_what_has_no_package_is_said_before_anything_is_installed(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = package_manager.HostPackageManager(
        "zypper", str(add_program("fake", "echo $@ >> $0.log")), (), ("install",), (), ()
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    other = Tool("no-such-2", tools._called("other"), "", ("build",))
    with pytest.raises(HostError, match="zypper has no package that brings: no-such-1") as error:
        tools.install([tool("no-such-1"), other], Log(), manager)
    assert "build it" in (error.value.hint or "")
    assert not Path(f"{manager.program}.log").exists()
    with pytest.raises(HostError, match="installed other, and still missing: no-such-1") as error:
        tools.install([tool("no-such-1"), other], Log(), manager, partly=True)
    assert Path(f"{manager.program}.log").read_text() == "install other\n"
    assert "build it" in (error.value.hint or "")


# --- what pip and managers say

REFUSALS = {
    "pip without a network": (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by"
        " 'NewConnectionError(\"<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to"
        ""
        " establish a new connection: [Errno -3] Temporary failure in name resolution\")':"
        " /simple/httpx/\nERROR: No matching distribution found for httpx",
        {},
        "the network cannot be reached: Failed to establish a new connection",
    ),
    "a proxy that is not there": (
        "E: Failed to fetch http://deb.debian.org/  Could not connect to 127.0.0.1:9 - connect (111:"
        " Connection refused)",
        {"HTTP_PROXY": "http://me:secret@127.0.0.1:9"},
        "through http_proxy=http://127.0.0.1:9: Could not connect",
    ),
    "a proxy that wants a password": (
        "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication"
        " Required'))",
        {"https_proxy": "proxy:3128"},
        "through https_proxy=proxy:3128: Tunnel connection failed: 407",
    ),
    "a proxy in a program's settings": (
        "curl: (5) Could not resolve proxy: x",
        {},
        "the network cannot be reached",
    ),
    "no compiler": (
        "ERROR: Failed building wheel for zstandard",
        {},
        "'zstandard' has no ready-made package",
    ),
    "no version": (
        "ERROR: No matching distribution found for httpx<1",
        {},
        "no version for this Python of httpx<1",
    ),
    "no room": ("OSError: [Errno 28] No space left on device", {}, "no space left"),
    "no trust": ("SSLError: CERTIFICATE_VERIFY_FAILED", {}, "certificate is not trusted"),
    "no right": ("error: Read-only file system: '/x'", {}, "Read-only file system: '/x'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_told_apart(case: str) -> None:
    output, environment, message = REFUSALS[case]
    found = explain_refusal(output, environment)
    assert found is not None
    assert message in found.message
    assert found.hint
    assert "secret" not in f"{found.message}{found.hint}"


def test_what_is_not_known_is_not_explained() -> None:
    assert explain_refusal("E: Unable to locate package x", {}) is None


@pytest.mark.parametrize(
    "address", ["http://[", "http://h:port", "\0", "://", "user:secret@h", "http://h:99999"]
)
def test_an_odd_proxy_is_shown_without_its_password(address: str) -> None:
    found = explain_refusal("Connection refused", {"https_proxy": address})
    assert found is not None
    assert "secret" not in found.message


# --- doctor


def test_a_diagnosis_has_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = (*tools.TOOLS, tool("no-such-program"))
    monkeypatch.setattr("imagebuilder.host.diagnosis.TOOLS", lacking)
    found = diagnose()
    states = {each.name: each for each in found.tools}
    assert states["bash"].lack is None
    assert states["no-such-program"].lack == "not here"
    assert not found.healthy
    assert "p-" in (found.install or "")
    assert json.dumps(found.manager)


def test_programs_of_the_tests_are_asked_for_where_tests_are() -> None:
    """A wheel brings none."""
    mine = {each.name for each in tools.TOOLS if each.uses == ("tests",)}
    assert mine < {each.name for each in diagnose().tools}
    assert {each.name for each in diagnose(tests=False).tools} == {each.name for each in tools.TOOLS} - mine


def test_an_arm_machine_is_not_asked_for_the_kits_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found = diagnose()
    names = {each.name for each in found.tools}
    assert "genimage" not in names
    assert "qemu-system-x86_64" in names
    assert found.architecture is not None
    assert "aarch64" in found.architecture.message
    assert "inspect" in found.architecture.hint
