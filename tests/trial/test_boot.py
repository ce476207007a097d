"""The kit's images, booted: by their kernel with 128 MiB, and by themselves under UEFI with 256 MiB."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

from imagebuilder.host.fs import sha256_of
from imagebuilder.log import Log
from imagebuilder.model.edition import Edition
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.trial import machine
from imagebuilder.trial.guest import TrialError
from imagebuilder.trial.machine import VirtualMachine, started
from imagebuilder.trial.machines import booted_image
from tests.host.test_ports import free_port
from tests.support.kit_fixtures import EVERY_EDITION
from tests.support.kit_making import Made, call_make

pytestmark = [pytest.mark.kit, pytest.mark.boot]

SERVICE = """\
#!/bin/sh /etc/rc.common
START=95
STOP=05
USE_PROCD=1

start_service() {
	procd_open_instance
	procd_set_param command /usr/bin/mine "it's \\$HOME" "a  b"
	procd_set_param env MINE="x'y z"
	procd_set_param user nobody
	procd_set_param respawn 3600 1 5
	procd_close_instance
}
"""
PROGRAM = """\
#!/bin/sh
{ id -un; echo "$MINE"; for each; do echo "[$each]"; done; } >> /tmp/mine
sleep 1
"""


@pytest.fixture(scope="session")
def built(kit_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An image with python3-light, a service, and two uci-defaults scripts, one of which fails."""
    files = tmp_path_factory.mktemp("files")
    files.chmod(0o755)
    for name, text in {
        "etc/uci-defaults/50-good": "echo good >> /etc/applied\nexit 0\n",
        "etc/uci-defaults/60-bad": "echo bad >> /etc/applied\nfalse\n",
        "etc/init.d/mine": SERVICE,
        "usr/bin/mine": PROGRAM,
    }.items():
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    made = call_make(
        kit_copy, "image", tmp_path_factory.mktemp("bin"), PACKAGES="python3-light", FILES=str(files)
    )
    assert made.code == 0, made.stderr
    return made


@EVERY_EDITION
def test_the_image_boots_by_its_kernel_with_128_mib(built: Made, edition: Edition) -> None:
    before = sha256_of(built.image)
    with booted_image(built.image, Log(), way="kernel") as guest:
        assert "Not an OpenWrt release" in guest.console_text
        assert guest.boot_seconds > 0
        memory = int(guest.check("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"))
        assert memory < 128 << 10
        python = load_catalogue(edition.series).python
        assert guest.check("python3 -c 'import sys; print(sys.version)'").startswith(f"{python}.")
        assert guest.check("cat /proc/sys/kernel/hostname") == "OpenWrt\n"
        assert guest.check("cat /etc/applied; ls /etc/uci-defaults") == "good\nbad\n60-bad\n"
        assert guest.check("readlink /var; stat -f -c %T /tmp").splitlines() == ["tmp", "tmpfs"]
        assert f"DISTRIB_RELEASE='{edition.release}'" in guest.check("cat /etc/openwrt_release")
        guest.check("echo kept > /root/kept && sync")
        guest.reboot()
        assert guest.check("cat /root/kept /etc/applied") == "kept\ngood\nbad\nbad\n"
        guest.poweroff()
    assert sha256_of(built.image) == before


def test_the_image_boots_by_itself_under_uefi_with_256_mib(built: Made) -> None:
    with booted_image(built.image, Log(), way="UEFI", memory=256 << 20) as guest:
        assert guest.check("python3 -c 'print(6 * 7)'") == "42\n"
        guest.check("echo kept > /root/kept && sync")
        guest.reboot()
        assert guest.check("cat /root/kept") == "kept\n"
        guest.poweroff()


def test_commands_come_back_as_they_were_sent(built: Made) -> None:
    with booted_image(built.image, Log(), way="kernel") as guest:
        odd = 'ä "q" $x `y` \\ %s @1<'
        result = guest.run(f"echo '{odd}'; echo err >&2; exit 3")
        assert (result.code, result.output) == (3, f"{odd}\nerr\n")
        assert guest.run("printf 'no end'").output == "no end"
        assert guest.run("").code == 0
        assert guest.run("cat; echo done").output == "done\n"
        long = "x" * 20_000
        assert guest.check(f"printf %s {long} | wc -c").strip() == "20000"
        assert guest.check("seq 1 5000") == "".join(f"{number}\n" for number in range(1, 5001))
        with pytest.raises(TrialError, match="exited with 7 in the guest"):
            guest.check("echo why; exit 7")
        with pytest.raises(TrialError, match=r"the end of `sleep 9` did not come within 0\.5 s"):
            guest.run("sleep 9", seconds=0.5)


def test_services_run_supervised(built: Made) -> None:
    with booted_image(built.image, Log(), way="kernel") as guest:
        once = "nobody\nx'y z\n[it's $HOME]\n[a  b]\n"
        said = guest.check('while [ "$(grep -c nobody /tmp/mine)" -lt 2 ]; do sleep 1; done; cat /tmp/mine')
        assert said.startswith(once * 2)
        assert guest.run("/etc/init.d/mine running").code == 0
        guest.check("/etc/init.d/mine stop; sleep 1")
        assert "usr/bin/mine" not in guest.check("ps")
        assert guest.check("/etc/init.d/mine disable; ls /etc/rc.d").find("mine") == -1
        guest.check("/etc/init.d/mine enable; /etc/init.d/mine enabled")


def test_a_guest_can_be_reached_through_a_port(built: Made) -> None:
    port = free_port()
    with booted_image(built.image, Log(), way="kernel", forwards={port: 8080}) as guest:
        guest.check("mkdir /tmp/web; echo hello > /tmp/web/index.html; httpd -p 8080 -h /tmp/web")
        guest.check(
            "for i in 1 2 3 4 5 6 7 8 9 10; do ip addr | grep -q 192.168.1.1 && exit; sleep 1; done; exit 1"
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"hello\n"


def test_a_guest_reaches_nothing_of_this_machine(built: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """And, so that this says something, what it would reach without QEMU's `restrict=on`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = ("192.168.1.2", server.getsockname()[1])  # this machine, as QEMU shows it to guests
        call = f'python3 -c "import socket; socket.create_connection({there}, 5)"'
        address = (
            "for i in 1 2 3 4 5 6 7 8 9 10; do ip addr | grep -q 192.168.1.1 && exit; sleep 1; done; exit 1"
        )
        server.settimeout(1)
        with booted_image(built.image, Log(), way="kernel", forwards={free_port(): 8080}) as guest:
            guest.check(address)
            assert guest.run(call).code != 0
            with pytest.raises(TimeoutError):
                server.accept()
        card = "user,model=virtio-net-pci,net=192.168.1.0/24,host=192.168.1.2,dhcpstart=192.168.1.1"
        monkeypatch.setattr(machine, "_network", lambda *_: ["-nic", card])
        with booted_image(built.image, Log(), way="kernel", forwards={}) as guest:
            guest.check(address)
            guest.check(call)
            server.accept()[0].close()


def test_a_guest_without_a_root_is_an_error_with_its_last_words(built: Made, tmp_path: Path) -> None:
    image = tmp_path / "a,disk.img"
    data = bytearray(built.image.read_bytes())
    at = data.index(b"hsqs", 1 << 20)  # the squashfs' magic
    data[at : at + 4] = b"gone"
    image.write_bytes(data)
    with pytest.raises(TrialError, match="Kernel panic") as caught, booted_image(image, Log(), way="kernel"):
        pass
    assert "holds no squashfs" in caught.value.tail


def test_qemus_own_complaint_is_passed_on() -> None:
    impossible = VirtualMachine("qemu-system-x86_64", ("-machine", "q35"), 1 << 60, ())
    with pytest.raises(TrialError, match="memory"), started(impossible, log=Log()):
        pass
