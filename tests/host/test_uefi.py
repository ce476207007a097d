"""UEFI firmware, found as QEMU's descriptors say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.errors import HostError
from imagebuilder.host.uefi import DESCRIPTOR_BYTES, Uefi, descriptor_folders, find_uefi

Facts = dict[str, object]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """The distribution's, the administrator's and the user's; files of the firmware lie in `fd`."""
    places = [tmp_path / name for name in ("usr", "etc", "home", "fd")]
    for place in places:
        place.mkdir()
    for name in ("CODE.fd", "VARS.fd", "CODE,secure.fd", "other.fd"):
        (tmp_path / "fd" / name).touch()
    return places[:3]


def flash(folder: Path, code: str = "CODE.fd", **differences: object) -> Facts:
    """A descriptor as Debian's 60-edk2-x86_64.json is, with the differences."""
    fd = folder.parent / "fd"
    facts: Facts = {
        "description": "UEFI firmware for x86_64",
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": str(fd / code), "format": "raw"},
            "nvram-template": {"filename": str(fd / "VARS.fd"), "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
        "features": ["acpi-s3", "amd-sev", "verbose-dynamic"],
        "tags": [],
    }
    return {**facts, **differences}


def describe(folder: Path, name: str, facts: object) -> None:
    (folder / name).write_text(json.dumps(facts))


def program(found: Uefi) -> str:
    return found.program.path.name


def test_the_first_that_fits_by_file_name_whatever_its_folder(folders: list[Path]) -> None:
    usr, etc, home = folders
    describe(usr, "50-b.json", flash(usr))
    describe(home, "60-c.json", flash(usr, "other.fd"))
    found = find_uefi(folders, [])
    assert (program(found), found.origin, found.mode) == ("CODE.fd", str(usr / "50-b.json"), "split")
    describe(etc, "40-a.json", flash(usr, "other.fd"))
    assert program(find_uefi(folders, [])) == "other.fd"


def test_a_specific_folder_replaces_and_an_empty_file_hides(folders: list[Path]) -> None:
    usr, etc, home = folders
    describe(usr, "50-b.json", flash(usr))
    describe(etc, "50-b.json", flash(usr, "other.fd"))
    assert program(find_uefi(folders, [])) == "other.fd"
    (home / "50-b.json").touch()
    with pytest.raises(HostError, match="^there is no UEFI firmware for QEMU on this machine$"):
        find_uefi(folders, [])
    (home / "50-b.json").unlink()
    (home / "50-b.json").symlink_to("/dev/null")
    with pytest.raises(HostError, match="^there is no UEFI firmware for QEMU on this machine$"):
        find_uefi(folders, [])


@pytest.mark.parametrize(
    "differences",
    [
        {"interface-types": ["bios"]},
        {"features": ["requires-smm", "secure-boot"]},
        {"features": ["secure-boot", "enrolled-keys"]},
        {"targets": [{"architecture": "aarch64", "machines": ["virt-*", "pc-q35-*"]}]},
        {"targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*"]}]},
        {"targets": [{"architecture": "x86_64", "machines": ["microvm"]}]},
        {"mapping": {"device": "kernel", "filename": "/bin/sh"}},
    ],
)
def test_what_does_not_fit_is_passed_over(folders: list[Path], differences: Facts) -> None:
    describe(folders[0], "30-first.json", flash(folders[0], "other.fd", **differences))
    describe(folders[0], "50-second.json", flash(folders[0]))
    assert program(find_uefi(folders, [])) == "CODE.fd"


def test_secure_boot_without_keys_and_without_smm_starts_anything(folders: list[Path]) -> None:
    describe(folders[0], "30-first.json", flash(folders[0], features=["secure-boot"]))
    assert program(find_uefi(folders, [])) == "CODE.fd"


def test_the_options_of_each_mapping(folders: list[Path]) -> None:
    usr = folders[0]
    fd = usr.parent / "fd"
    code = {"filename": str(fd / "CODE,secure.fd"), "format": "qcow2"}
    split = {"device": "flash", "mode": "split", "executable": code}
    split["nvram-template"] = {"filename": str(fd / "VARS.fd"), "format": "raw"}
    shown = f"file={fd}/CODE,,secure.fd"
    describe(usr, "1.json", flash(usr, mapping=split))
    assert find_uefi(folders, []).arguments() == [
        *("-drive", f"if=pflash,format=qcow2,readonly=on,{shown}"),
        *("-drive", f"if=pflash,format=raw,snapshot=on,file={fd}/VARS.fd"),
    ]
    for mode, use in (("combined", "snapshot=on"), ("stateless", "readonly=on")):
        describe(usr, "1.json", flash(usr, mapping={"device": "flash", "mode": mode, "executable": code}))
        assert find_uefi(folders, []).arguments() == ["-drive", f"if=pflash,format=qcow2,{use},{shown}"]
    describe(usr, "1.json", flash(usr, mapping={"device": "memory", "filename": str(fd / "CODE.fd")}))
    assert find_uefi(folders, []).arguments() == ["-bios", str(fd / "CODE.fd")]


def test_variables_of_its_own_go_before_none(folders: list[Path]) -> None:
    """Fedora's amdsev build has no variables, and starts only what is built into it."""
    usr = folders[0]
    code = {"filename": str(usr.parent / "fd/other.fd"), "format": "raw"}
    describe(usr, "1.json", flash(usr, mapping={"device": "flash", "mode": "stateless", "executable": code}))
    known = [(str(usr.parent / "fd/CODE.fd"), str(usr.parent / "fd/VARS.fd"))]
    assert program(find_uefi(folders, known)) == "CODE.fd"
    describe(usr, "2.json", flash(usr, "CODE,secure.fd"))
    assert program(find_uefi(folders, known)) == "CODE,secure.fd"


def test_known_files_serve_where_nothing_is_described(folders: list[Path]) -> None:
    fd = folders[0].parent / "fd"
    (fd / "C.qcow2").touch()
    (fd / "V.qcow2").touch()
    known = [(str(fd / "CODE.fd"), str(fd / "not there")), (str(fd / "C.qcow2"), str(fd / "V.qcow2"))]
    found = find_uefi([*folders, fd / "no such folder"], known)
    assert (found.program.format, found.origin) == ("qcow2", "")
    assert found.variables is not None
    assert found.variables.path == fd / "V.qcow2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "it is no JSON object"),
        (" " * (DESCRIPTOR_BYTES + 1), "it is no file of up to 1048576 bytes"),
        ('{"targets": {}}', "targets is no list"),
    ],
)
def test_a_broken_descriptor_is_named_if_nothing_else_serves(
    folders: list[Path], text: str, reason: str
) -> None:
    (folders[1] / "10-broken.json").write_text(text)
    with pytest.raises(HostError) as failed:
        find_uefi(folders, [])
    assert f"\n{folders[1]}/10-broken.json: {reason}" in failed.value.message
    describe(folders[0], "50-b.json", flash(folders[0]))
    assert program(find_uefi(folders, [])) == "CODE.fd"


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        ("flash", "mapping is no object"),
        ({"device": "flash"}, "executable is no object"),
        (
            {"device": "flash", "executable": {"filename": "/bin/sh", "format": "raw,if=none"}},
            "no format's name",
        ),
        ({"device": "flash", "executable": {"filename": "bin/sh", "format": "raw"}}, "no absolute path"),
        ({"device": "flash", "executable": {"filename": "/no/file", "format": "raw"}}, "no file '/no/file'"),
        ({"device": "memory", "filename": "/" + "x" * 5000}, "there is no file"),
        ({"device": "flash", "mode": "new", "executable": {"filename": "/bin/sh", "format": "raw"}}, "'new'"),
    ],
)
def test_a_mapping_that_is_no_good_is_named(folders: list[Path], mapping: object, reason: str) -> None:
    describe(folders[0], "1.json", flash(folders[0], mapping=mapping))
    with pytest.raises(HostError, match=reason):
        find_uefi(folders, [])


def test_a_pipe_among_the_descriptors_is_not_waited_for(folders: list[Path]) -> None:
    os.mkfifo(folders[0] / "1.json")
    describe(folders[0], "2.json", flash(folders[0]))
    assert program(find_uefi(folders, [])) == "CODE.fd"


def test_the_folders_are_qemus() -> None:
    usual = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))
    assert descriptor_folders({}) == usual
    assert descriptor_folders({"HOME": "/h"}) == (*usual, Path("/h/.config/qemu/firmware"))
    assert descriptor_folders({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == (*usual, Path("/x/qemu/firmware"))


leaves = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["/bin/sh", "uefi", "flash"])
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(content=st.binary() | st.builds(json.dumps, values).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_passed_over_or_named(folders: list[Path], content: bytes) -> None:
    describe(folders[0], "2.json", flash(folders[0]))
    (folders[0] / "1.json").write_bytes(content)
    assert program(find_uefi(folders, [])) == "CODE.fd"


@given(key=st.sampled_from([*flash(Path("/x"))]), value=values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_a_descriptor_gives_firmware_or_an_error(
    folders: list[Path], key: str, value: object
) -> None:
    describe(folders[0], "1.json", flash(folders[0], **{key: value}))
    try:
        found = find_uefi(folders, [])
    except HostError as error:
        assert error.message.startswith("there is no UEFI firmware")
    else:
        assert found.program.path.is_file()
