"""All shipped overlays in one image: each has its effect, and no value is ever executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.overlay import load_overlay, load_overlays
from imagebuilder.config.request import requests
from imagebuilder.errors import FaultsError
from imagebuilder.host.fs import user_cache
from imagebuilder.host.run import run
from imagebuilder.log import Log
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.overlay import overlay_tree
from imagebuilder.trial.guest import Guest
from imagebuilder.trial.machines import booted_image
from tests.host.test_ports import free_port

BOARD = "qemu-x86-64"
AddConfig = Callable[[str, str], str]
# reports how it was called, then ends, so that it is started again
SERVICE = """\
import json, os, sys
with open("/tmp/service-%d.json" % os.getpid(), "w") as report:
    json.dump({"argv": sys.argv[1:], "environment": dict(os.environ), "uid": os.getuid()}, report)
"""
NASTY = {
    "quotes": 'it\'s "quoted" `touch /tmp/executed` \\ and \\n',
    "command": "$(touch /tmp/executed); touch /tmp/executed #",
    "lines": "one\ntwo\n\nfour'\n",
    "utf-8": " Grüße → 日本 🙂 ",
    "long": "x'\"$" * 250,
}


@pytest.fixture
def service(project: Path) -> None:
    """An overlay with the program that python-service runs."""
    files = project / "overlays/program/files/usr/share"
    files.mkdir(parents=True)
    (files / "service.py").write_text(SERVICE)
    (project / "overlays/program/overlay.toml").write_text('name = "program"\n')


# a file of an overlay: the mode that its author gave, and the one that the device has
MODES = {
    "etc/wireguard/wg0.conf": (0o644, "600"),
    "etc/mine.key": (0o644, "600"),
    "etc/held.j2": (0o644, "600"),
    "etc/config/wireless": (0o644, "600"),
    "etc/banner": (0o664, "644"),
    "root/.ssh/authorized_keys": (0o644, "600"),
    "usr/share/mine": (0o600, "600"),
    "usr/share/tool": (0o775, "755"),
}


@pytest.fixture
def modes(project: Path) -> None:
    """An overlay with a file of each kind of mode, and a secret in one of them."""
    for name, (mode, _) in MODES.items():
        file = project / "overlays/modes/files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{{ pin }}\n" if name.endswith(".j2") else "")
        file.chmod(mode)
    text = 'name = "modes"\n[variables.pin]\nsecret = true\n'
    (project / "overlays/modes/overlay.toml").write_text(text)


def check_modes(guest: Guest) -> None:
    for name, (_, mode) in MODES.items():
        assert guest.check(f"stat -c %a /{name.removesuffix('.j2')}") == f"{mode}\n", name
    for folder, mode in {"etc": "755", "etc/wireguard": "700", "root/.ssh": "700"}.items():
        assert guest.check(f"stat -c %a /{folder}") == f"{mode}\n", folder
    assert guest.check("cat /etc/held") == "1234 5678\n"


def as_toml(value: object) -> str:
    """JSON's notation of texts and of lists of texts, which is TOML's too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def config_text(overlays: dict[str, dict[str, object]]) -> str:
    lines = [f'boards = ["{BOARD}"]', 'release = "embedded"', "[python]", 'variant = "light"']
    for name, variables in overlays.items():
        lines += ["[[overlay]]", f'name = "{name}"', "[overlay.variables]"]
        lines += [f"{key} = {as_toml(value)}" for key, value in variables.items()]
    return "\n".join(lines) + "\n"


def booted(project: Path, name: str, folder: Path) -> Path:
    (asked,) = requests(project, name, board=BOARD, output=folder, cache=user_cache())
    place, result = build_image(asked, Log())
    return place / result.images[0].file


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Two key pairs: the private file and the public line of each."""
    pairs = {}
    for name in ("known", "stranger"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)])
        pairs[name] = (tmp_path / name, (tmp_path / f"{name}.pub").read_text().strip())
    return pairs


def ssh(key: Path, port: int, command: str) -> tuple[int, str]:
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=20",
    ]
    argv = ["ssh", "-F", "none", "-i", str(key), "-p", str(port)]
    argv += [word for option in options for word in ("-o", option)]
    ended = run([*argv, "-o", "IdentitiesOnly=yes", "root@127.0.0.1", command], check=False, timeout=60)
    return ended.code, ended.stdout + ended.stderr


def reports(guest: Guest) -> list[dict[str, object]]:
    guest.check(
        "for i in $(seq 60); do [ $(ls /tmp/service-*.json | wc -l) -ge 2 ] && break; sleep 0.5; done"
    )
    return [
        json.loads(line) for line in guest.check("cat /tmp/service-*.json | sed 's/}{/}\\n{/g'").splitlines()
    ]


@pytest.mark.kit
@pytest.mark.boot
@pytest.mark.usefixtures("modes")
def test_a_device_has_the_modes_that_were_meant(
    project: Path, add_config: AddConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIN", "1234 5678")
    text = config_text({"modes": {}}).replace('variant = "light"', 'variant = "none"')
    add_config("modes", f'{text}pin = {{ secret = "PIN" }}\n')
    with booted_image(booted(project, "modes", tmp_path / "out"), Log(), way="kernel") as guest:
        check_modes(guest)


@pytest.mark.kit
@pytest.mark.boot
@pytest.mark.usefixtures("service")
def test_every_overlay_has_its_effect(
    project: Path,
    add_config: AddConfig,
    keys: dict[str, tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLIENT_KEY", "client secret")
    (project / "secrets.toml").write_text('AP_KEY = "access point secret"\n')
    text = config_text(
        {
            "base": {
                "hostname": "every-overlay",
                "zonename": "Europe/Lisbon",
                "banner": "Welcome\nhome",
            },
            "ssh-keys": {"keys": [keys["known"][1]]},
            "static-ip": {"address": "192.168.1.1", "gateway": "192.168.1.2", "dns": ["192.168.1.3"]},
            "wifi-client": {"ssid": "their network"},
            "wifi-ap": {"ssid": "our network", "channel": "6", "country": "PT"},
            "program": {},
            "python-service": {
                "program": "/usr/share/service.py",
                "arguments": ["a b", "c"],
                "user": "nobody",
                "environment": ["GREETING=hello there"],
                "respawn_seconds": 1,
            },
            "sensor": {},
            "demo": {},
        }
    )
    text = text.replace('ssid = "their network"', 'ssid = "their network"\nkey = { secret = "CLIENT_KEY" }')
    text = text.replace('ssid = "our network"', 'ssid = "our network"\nkey = { secret = "AP_KEY" }')
    add_config("every", text)
    assert set(Library(project).overlay_names()) == {
        use.name for use in load_config(Library(project), "every").config.overlay
    }
    image = booted(project, "every", tmp_path / "out")
    port = free_port()
    with booted_image(image, Log(), way="kernel", forwards={port: 22}) as guest:
        assert guest.check("cat /proc/sys/kernel/hostname") == "every-overlay\n"
        assert guest.check("uci get system.@system[0].zonename") == "Europe/Lisbon\n"
        assert guest.check("uci get system.@system[0].timezone") == "WET0WEST,M3.5.0/1,M10.5.0\n"
        assert guest.check(". /etc/profile > /dev/null; TZ=$TZ date -d @1750000000 +%Z") == "WEST\n"
        assert guest.check("cat /etc/banner") == "Welcome\nhome\n"
        assert "inet 192.168.1.1/24" in guest.check("ip addr show eth0")
        assert "via 192.168.1.2" in guest.check("ip route show default")
        assert guest.check("cat /tmp/resolv.conf") == "nameserver 192.168.1.3\n"
        assert guest.check("ls /etc/uci-defaults") == ""
        assert guest.check("stat -c '%a %U %n' /etc/dropbear/authorized_keys /etc/dropbear").split("\n")[
            :2
        ] == [
            "600 root /etc/dropbear/authorized_keys",
            "700 root /etc/dropbear",
        ]
        wireless = {
            "radio0.disabled": "0",
            "radio0.channel": "6",
            "radio0.country": "PT",
            "client.ssid": "their network",
            "client.key": "client secret",
            "client.network": "wwan",
            "access_point.ssid": "our network",
            "access_point.key": "access point secret",
            "access_point.encryption": "psk2",
        }
        for option, value in wireless.items():
            assert guest.check(f"uci get wireless.{option}") == f"{value}\n"
        assert guest.check("uci get network.wwan.proto") == "dhcp\n"
        first, second = reports(guest)[:2]
        assert first["argv"] == second["argv"] == ["a b", "c"]
        assert first["uid"] == 65534
        assert isinstance(first["environment"], dict)
        assert first["environment"]["GREETING"] == "hello there"
        code, printed = ssh(keys["known"][0], port, "echo in; id -u")
        assert (code, printed.split()[:2]) == (0, ["in", "0"]), printed
        code, printed = ssh(keys["stranger"][0], port, "echo in")
        assert code != 0
        assert "Permission denied (publickey)" in printed  # and no password is asked for
        guest.check("/etc/init.d/python-service stop")
        assert guest.run("/etc/init.d/python-service running").code != 0


@pytest.mark.kit
@pytest.mark.boot
@pytest.mark.usefixtures("service")
def test_the_guest_holds_exactly_what_was_written_whatever_it_is(
    project: Path, add_config: AddConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = list(NASTY.values())
    name = values[4][:32]  # what the standard has room for
    monkeypatch.setenv("CLIENT_KEY", values[1])
    text = config_text(
        {
            "base": {"banner": values[0] + values[2]},
            "wifi-client": {"ssid": name},
            "wifi-ap": {"ssid": values[2], "key": values[0]},
            "program": {},
            "python-service": {
                "program": "/usr/share/service.py",
                "arguments": values,
                "environment": [f"NASTY_{number}={value}" for number, value in enumerate(values)],
            },
            "demo": {"greeting": values[4] + values[3] + values[2]},
        }
    )
    ssid = f"ssid = {as_toml(name)}"
    assert ssid in text
    add_config("nasty", text.replace(ssid, f'{ssid}\nkey = {{ secret = "CLIENT_KEY" }}', 1))
    image = booted(project, "nasty", tmp_path / "out")
    with booted_image(image, Log(), way="kernel") as guest:
        held = {
            "wireless.client.ssid": name,
            "wireless.client.key": values[1],
            "wireless.access_point.ssid": values[2],
            "wireless.access_point.key": values[0],
        }
        for option, value in held.items():
            assert guest.check(f"uci get {option}") == f"{value}\n", option
        assert guest.check("cat /etc/banner") == f"{values[0]}{values[2]}\n"
        greeting = json.loads(guest.check("python3 /usr/share/demo/demo.py"))["greeting"]
        assert greeting == values[4] + values[3] + values[2]
        report = reports(guest)[0]
        assert report["argv"] == values
        assert isinstance(report["environment"], dict)
        for number, value in enumerate(values):
            assert report["environment"][f"NASTY_{number}"] == value
        assert guest.run("ls /tmp/executed").code != 0


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
def test_where_free_text_makes_no_sense_it_is_refused(
    library: Library, add_config: AddConfig, value: str
) -> None:
    refusing = 0
    for name in library.overlay_names():
        overlay, _ = load_overlay(library, name)
        for variable, declared in overlay.variables.items():
            free = variable in ("ssid", "key")  # any text of the right length is one
            if free or (declared.pattern is None and declared.type != "zone"):
                continue
            given = [value] if declared.type == "list" else value
            add_config("bad", config_text({name: {variable: given}}))
            with pytest.raises(
                FaultsError, match=f"overlay.0..variables.{variable}: .*(does not match|is no time zone)"
            ):
                load_config(library, "bad")
            refusing += 1
    assert refusing >= 14


@pytest.mark.genuine
@pytest.mark.usefixtures("service")
def test_the_same_overlays_land_unchanged_in_a_genuine_image(
    genuine_tree: Path, project: Path, add_config: AddConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIFI_KEY", NASTY["quotes"])
    board = "tplink-tl-wr740n-v4"
    text = config_text(
        {
            "base": {"hostname": "genuine", "banner": NASTY["lines"]},
            "ssh-keys": {"keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk5 me@here"]},
            "static-ip": {"address": "192.168.1.2"},
            "wifi-client": {"ssid": NASTY["utf-8"]},
            "program": {},
            "python-service": {"program": "/usr/share/service.py", "arguments": [NASTY["command"]]},
        }
    )
    ssid = f"ssid = {as_toml(NASTY['utf-8'])}"
    text = text.replace(ssid, f'{ssid}\nkey = {{ secret = "WIFI_KEY" }}').replace('variant = "light"', "")
    add_config("genuine", text.replace('release = "embedded"\n', ""))
    (asked,) = requests(
        project,
        "genuine",
        board=board,
        imagebuilder=str(genuine_tree),
        output=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    place, result = build_image(asked, Log())
    assert result.secrets == ("wifi-client.key",)
    (factory,) = (place / image.file for image in result.images if image.type == "factory")
    offset = factory.read_bytes().index(b"hsqs")
    unpacked = tmp_path / "rootfs"
    run(["unsquashfs", "-q", "-n", "-o", str(offset), "-d", str(unpacked), str(factory)])
    library = Library(project)
    checked = 0
    for each in load_overlays(library, load_config(library, "genuine", board).config):
        values, hidden = each.values(project), each.hidden()
        for path, entry in overlay_tree(each.overlay, each.folder, values, secret=hidden).tree.items():
            place_there = unpacked / path[1:]
            if entry.kind == "symlink":
                assert str(place_there.readlink()) == entry.target
            elif entry.kind == "file":
                assert place_there.read_bytes() == content(entry), path
            if entry.kind != "symlink" and path.count("/") > 1:
                assert place_there.stat().st_mode & 0o7777 == entry.mode, path
            checked += 1
    assert checked > 15
