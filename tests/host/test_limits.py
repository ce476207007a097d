"""What a machine's processor and kernel do not allow, told before minutes are spent."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.build import build_image, run_demo
from imagebuilder.config.library import Library
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import HostError
from imagebuilder.host.architecture import require_host_programs, require_x86_64, runs_x86_64
from imagebuilder.host.sandbox import check_sandbox, sandbox_error
from imagebuilder.log import Log

X86_64, AARCH64 = 62, 183


def elf(machine: int) -> bytes:
    """The header of a 64-bit little-endian program for a processor."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(44)


@pytest.fixture
def add_tree(tmp_path: Path) -> Callable[[bytes], Path]:
    """An ImageBuilder whose host programs are a script and this."""

    def add(program: bytes) -> Path:
        folder = tmp_path / "tree/staging_dir/host/bin"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a-script").write_bytes(b"#!/bin/sh\n" + bytes(64))
        if not (folder / "dangling").is_symlink():
            (folder / "dangling").symlink_to("nowhere")
        (folder / "mkhash").write_bytes(program)
        return tmp_path / "tree"

    return add


# --- the processor


def test_only_x86_64_makes_firmware(tmp_path: Path) -> None:
    none = tmp_path / "none"
    require_x86_64("the kit", "x86_64", none)
    assert runs_x86_64("x86_64", none)
    assert not runs_x86_64("aarch64", none)
    with pytest.raises(HostError, match="the kit needs an x86-64 machine, and this one is armv7l") as failed:
        require_x86_64("the kit", "armv7l", none)
    assert failed.value.hint is not None
    for command in ("plan", "inspect", "verify", "ls", "cat", "extract", "diff", "boards"):
        assert command in failed.value.hint


QEMU = "interpreter /q\nflags: F\noffset 0\nmagic 7f454c4602010100000000000000000002003e00\nmask ff\n"


@pytest.mark.parametrize(
    ("entry", "runs"),
    [
        (f"enabled\n{QEMU}", True),
        (f"disabled\n{QEMU}", False),
        ("enabled\ninterpreter /q\nmagic 7f454c460201010000000000000000000200b700\n", False),
        ("enabled\ninterpreter /q\nextension .exe\n", False),
        ("enabled\nmagic\n", False),
        ("enabled\nmagic 7f454c46zz0101000000000000000000020zzzz0\n", False),
    ],
)
def test_an_emulator_in_the_kernel_makes_up_for_it(tmp_path: Path, entry: str, runs: bool) -> None:
    (tmp_path / "qemu").write_text(entry)
    (tmp_path / "register").write_text("")
    assert runs_x86_64("aarch64", tmp_path) is runs


def test_a_tree_says_itself_whose_programs_it_has(add_tree: Callable[[bytes], Path], tmp_path: Path) -> None:
    none = tmp_path / "none"
    require_host_programs(add_tree(elf(X86_64)), "x86_64", none)
    require_host_programs(add_tree(elf(AARCH64)), "aarch64", none)
    require_host_programs(add_tree(elf(9999)), "aarch64", none)
    require_host_programs(tmp_path, "aarch64", none)
    with pytest.raises(HostError, match="are for x86_64, and this machine is aarch64: .*/mkhash"):
        require_host_programs(add_tree(elf(X86_64)), "aarch64", none)
    with pytest.raises(HostError, match="are for aarch64, and this machine is x86_64"):
        require_host_programs(add_tree(elf(AARCH64)), "x86_64", none)


@given(content=st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_program_in_a_tree_passes_or_is_named(add_tree: Callable[[bytes], Path], content: bytes) -> None:
    tree = add_tree(content)
    try:
        require_host_programs(tree, "x86_64", tree / "none")
    except HostError as error:
        assert content.startswith(b"\x7fELF")
        assert "mkhash" in error.message


@pytest.fixture
def on_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")


@pytest.mark.usefixtures("on_arm")
def test_building_ends_before_anything_is_fetched_or_made(project: Path, tmp_path: Path) -> None:
    (demo,) = requests(project, "demo", output=tmp_path / "out", cache=tmp_path / "cache")
    for work in (build_image, run_demo):
        with pytest.raises(HostError, match="needs an x86-64 machine, and this one is aarch64"):
            work(demo, Log())
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("on_arm")
@pytest.mark.parametrize("release", ['release = "24.10.4"', ""])
def test_released_imagebuilders_are_known_by_name(
    project: Path, tmp_path: Path, add_config: Callable[[str, str], str], release: str
) -> None:
    name = add_config("theirs", f'boards = ["tplink-tl-wr740n-v4"]\n{release}\n[python]\nvariant = "none"\n')
    given = (
        None if release else str(tmp_path / "openwrt-imagebuilder-24.10.4-ath79-tiny.Linux-x86_64.tar.zst")
    )
    request = Request(Library(project), name, "tplink-tl-wr740n-v4", tmp_path / "out", tmp_path / "c", given)
    with pytest.raises(HostError, match="needs an x86-64 machine"):
        build_image(request, Log())


# --- the sandbox


@pytest.fixture
def kernel(tmp_path: Path) -> Callable[..., Path]:
    """A kernel's settings, by name and value."""

    def make(**values: str) -> Path:
        for name, value in {"user.max_user_namespaces": "15000", **values}.items():
            place = tmp_path / "sys" / name.replace(".", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{value}\n")
        return tmp_path / "sys"

    return make


CASES = {
    "user.max_user_namespaces": (
        "0",
        "user.max_user_namespaces is 0",
        "sysctl user.max_user_namespaces=15000",
    ),
    "kernel.unprivileged_userns_clone": (
        "0",
        "only root may make user namespaces",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    "kernel.apparmor_restrict_unprivileged_userns": (
        "1",
        "AppArmor keeps bubblewrap from user namespaces, as Ubuntu does since 23.10",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_refusal_has_its_answer(kernel: Callable[..., Path], name: str) -> None:
    value, message, hint = CASES[name]
    error = sandbox_error("bwrap: setting up uid map: Permission denied", kernel(**{name: value}), 1000)
    assert message in error.message
    assert "bwrap: setting up uid map: Permission denied" in error.message
    assert hint in (error.hint or "")
    assert "--no-sandbox" in (error.hint or "")
    assert "build as root" in (error.hint or "")
    others = [each for key, (_, each, _) in CASES.items() if key != name]
    assert not any(other in error.message for other in others)


def test_apparmor_is_answered_with_a_profile_for_bubblewrap_alone(kernel: Callable[..., Path]) -> None:
    settings_of = kernel(**{"kernel.apparmor_restrict_unprivileged_userns": "1"})
    hint = sandbox_error("denied", settings_of, 1000).hint or ""
    profile = hint.split("printf '")[1].split("' > /etc/apparmor.d/bwrap")[0].replace("\\n", "\n")
    assert profile.splitlines()[2:] == ["profile bwrap /usr/bin/bwrap flags=(unconfined) {", "  userns,", "}"]
    assert "apparmor_parser -r /etc/apparmor.d/bwrap" in hint


def test_refusals_of_no_known_kind(kernel: Callable[..., Path], tmp_path: Path) -> None:
    assert "this kernel has no user namespaces (denied)" in sandbox_error("denied", tmp_path, 1000).message
    error = sandbox_error("denied", kernel(), 1000)
    assert error.message == "make cannot be shut into a sandbox here: denied"
    assert "a container" in (error.hint or "")
    root = sandbox_error("denied", kernel(**{"user.max_user_namespaces": "0"}), 0)
    assert "--privileged" in (root.hint or "")
    assert "build as root" not in (root.hint or "")


def test_the_sandbox_is_tried_with_the_real_program(monkeypatch: pytest.MonkeyPatch) -> None:
    check_sandbox()
    monkeypatch.setattr("imagebuilder.host.bubblewrap._NAMESPACES", ("--no-such-option",))
    with pytest.raises(HostError, match="make cannot be shut into a sandbox here: .*no-such-option"):
        check_sandbox()
