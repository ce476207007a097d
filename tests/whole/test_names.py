"""Names of packages and services that nothing has: each is a fault before anything is fetched, with its line
and the name that is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.ask import plan_and_budgets
from imagebuilder.build import build_image
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import FaultsError
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.names import names_of_any_release, namesakes, offered_as
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.universe import Universe
from imagebuilder.rootfs.tree import FileTree, file_of, folder

BOARD = "tplink-tl-wr740n-v4"
Ask = Callable[[str], Request]


@pytest.fixture
def ask(project: Path, small_tree: Path, tmp_path: Path) -> Ask:
    """A request for a config with this text, on the small tree."""

    def make(text: str) -> Request:
        (project / "configs/mine.toml").write_text(f'extends = "router"\n{text}')
        places = {"output": tmp_path / "out", "cache": tmp_path / "cache"}
        (asked,) = requests(project, "mine", board=BOARD, imagebuilder=str(small_tree), **places)  # type: ignore[arg-type]
        return asked

    return make


def faults_of(asked: Request) -> list[tuple[int | None, str, str, str | None]]:
    with pytest.raises(FaultsError) as caught:
        plan_and_budgets(asked, Log())
    return [(each.line, each.key, each.message, each.hint) for each in caught.value.faults]


def warned(asked: Request) -> list[str]:
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    plan_and_budgets(asked, Log().also(watch))
    return told


def test_all_unknown_names_come_at_once(ask: Ask, project: Path) -> None:
    overlay = project / "overlays/mine"
    (overlay / "files").mkdir(parents=True)
    (overlay / "overlay.toml").write_text('name = "mine"\npackages = [\n  "dropbear",\n  "dropbaer",\n]\n')
    asked = ask(
        '[packages]\nadd = ["tcpdump-mini", "tcpdmp-mini",\n"nosuchthing"]\nremove = ["rsileds", "pppp"]\n'
        '[[overlay]]\nname = "mine"\n[board.tplink-tl-wr740n-v4]\npackages.add = ["pyton3"]\n'
        "services.disabled = []\n"
    )
    assert faults_of(asked) == [
        (3, "packages.add[1]", "no feed has 'tcpdmp-mini'", "did you mean 'tcpdump-mini'?"),
        (4, "packages.add[2]", "no feed has 'nosuchthing'", "is a feed missing, or the name wrong?"),
        (
            5,
            "packages.remove[0]",
            "nothing is called 'rsileds', which is to stay out",
            "did you mean 'rssileds'?",
        ),
        (5, "packages.remove[1]", "nothing is called 'pppp', which is to stay out", "did you mean 'ppp'?"),
        (
            9,
            "board.tplink-tl-wr740n-v4.packages.add[0]",
            "no feed has 'pyton3'",
            "did you mean 'python3'?",
        ),
        (4, "packages[1]", "no feed has 'dropbaer'", "did you mean 'dropbear'?"),
    ]


def test_what_other_releases_have_may_be_taken_out(ask: Ask) -> None:
    """A config for several of them names what one of them installs; drivers differ by target."""
    text = (
        '[packages]\nremove = ["ppp", "firewall4", "wpad-basic-mbedtls", "odhcpd", "kmod-xyzw",\n'
        '"rssileds", "kmod-usb-ledtrig-usbporte"]\n'
    )
    told = warned(ask(text))
    assert [each.partition("packages.")[2] for each in told] == [
        "remove[4]: no feed of this target has 'kmod-xyzw', which is to stay out",
        "remove[6]: no feed of this target has 'kmod-usb-ledtrig-usbporte', which is to stay out"
        " (did you mean 'kmod-usb-ledtrig-usbport'?)",
    ]
    assert {"ppp", "firewall", "firewall4", "opkg", "apk-mbedtls"} <= names_of_any_release()


def test_a_name_that_is_taken_back_is_not_looked_at(ask: Ask, project: Path) -> None:
    (project / "configs/parent.toml").write_text('[packages]\nadd = ["nosuch"]\n')
    request = ask('[packages]\nremove = ["nosuch"]\n')
    path = project / "configs/mine.toml"
    path.write_text(path.read_text().replace('extends = "router"', 'extends = ["router", "parent"]'))
    assert [key for _, key, _, _ in faults_of(request)] == ["packages.remove[0]"]


def _libubus(abi: str) -> Package:
    return Package(f"libubus{abi}", "1", provides=("libubus",), abi_version=abi)


@pytest.mark.parametrize(
    ("name", "feeds", "hint"),
    [
        ("libubus20191227", [_libubus("20230605")], "say 'libubus', here libubus20230605"),
        ("libubus20191227", [Package("libubus20230605", "1", abi_version="20230605")], "say 'libubus', here"),
        ("libubus20191227", [Package("libubus", "1")], "say 'libubus': the number"),
        ("libpcre2-8-0", [Package("libpcre2-8", "1")], "say 'libpcre2-8'"),
        (
            "wpad-mini",
            [Package("wpad-basic-mbedtls", "1"), Package("wpad-basic", "1")],
            "'wpad-basic-mbedtls'",
        ),
        ("firewall4", [Package("firewall", "1")], "'firewall'"),
        ("auc", [Package("owut", "1")], "'owut'"),
        ("opkg", [Package("apk-mbedtls", "1")], "'apk-mbedtls'"),
        ("luci-app-opkg", [Package("luci-app-package-manager", "1")], "'luci-app-package-manager'"),
        ("px5g-wolfssl", [Package("px5g-mbedtls", "1")], "'px5g-mbedtls'"),
        ("tcpdmp", [Package("tcpdump", "1")], "did you mean 'tcpdump'?"),
    ],
)
def test_a_hint_has_the_name_that_the_feeds_have(name: str, feeds: list[Package], hint: str) -> None:
    assert hint in (offered_as(name, Universe(feeds)) or "")


def test_no_hint_names_what_the_feeds_do_not_have() -> None:
    assert offered_as("auc", Universe([Package("busybox", "1")])) is None
    assert namesakes("auc") == ("owut",)


def add_service(tree: Path, package: str, service: str, *, needs: str = "") -> None:
    """A package of the small tree with an init script."""
    for file in (tree / "packages").glob(f"{package}_*.ipk"):
        file.unlink()
    files = FileTree(
        {
            "/etc": folder(),
            "/etc/init.d": folder(),
            f"/etc/init.d/{service}": file_of(b"#!/bin/sh /etc/rc.common\n").with_mode(0o755),
        }
    )
    depends = ((Dependency(needs),),) if needs else ()
    write_ipk(tree / "packages", Package(package, "4", depends=depends), files, epoch=1_700_000_000)


def test_services_that_nothing_brings(ask: Ask, small_tree: Path) -> None:
    """Known when all packages are on this machine; what a package or an overlay of the image brings, what has
    the name of a package, and what OpenWrt's own packages bring elsewhere, is none."""
    add_service(small_tree, "rssileds", "signal")
    text = '[services]\ndisabled = ["signal", "signl", "cron", "dnsmasq", "qqqq"]\nenabled = ["dropbaer"]\n'
    assert faults_of(ask(text)) == [
        (3, "services.disabled[1]", "there is no service 'signl'", "did you mean 'signal'?"),
        (3, "services.disabled[4]", "there is no service 'qqqq'", "the image has signal"),
        (4, "services.enabled[0]", "there is no service 'dropbaer'", "the image has signal"),
    ]


def test_packages_and_services_come_at_once(ask: Ask, small_tree: Path) -> None:
    """What packages of known names bring is known beside those that nothing has."""
    add_service(small_tree, "rssileds", "signal")
    packages = '[packages]\nadd = ["rssileds", "nosuchthing"]\n'
    text = f'{packages}[services]\ndisabled = ["signal", "signl", "odhcpdd"]\n'
    assert faults_of(ask(text)) == [
        (3, "packages.add[1]", "no feed has 'nosuchthing'", "is a feed missing, or the name wrong?"),
        (5, "services.disabled[1]", "there is no service 'signl'", "did you mean 'signal'?"),
        (5, "services.disabled[2]", "there is no service 'odhcpdd'", "the image has signal"),
    ]


def test_packages_that_cannot_be_chosen_yet(ask: Ask, small_tree: Path) -> None:
    """Then the services are told of when the packages are right."""
    broken = Package("broken", "4", depends=((Dependency("gone"),),))
    write_ipk(small_tree / "packages", broken, FileTree(), epoch=1_700_000_000)
    asked = ask('[packages]\nadd = ["broken", "nosuchthing"]\n[services]\ndisabled = ["odhcpdd"]\n')
    assert [fault[1] for fault in faults_of(asked)] == ["packages.add[1]"]


def test_an_overlay_that_another_conflicts_with_may_be_elsewhere(ask: Ask, project: Path) -> None:
    """An overlay can be used in several projects: what it stands beside in one need not be in the other."""
    overlay = project / "overlays/mine"
    overlay.mkdir()
    (overlay / "overlay.toml").write_text(
        'conflicts = [\n  "wifi-ap",\n  "wifi-clinet",\n  "their-vpn",\n]\n'
    )
    told = warned(ask('[[overlay]]\nname = "mine"\n'))
    place = f"{overlay}/overlay.toml"
    assert told == [
        f"{place}:3: conflicts[1]: there is no overlay 'wifi-clinet' here (did you mean 'wifi-client'?)",
        f"{place}:4: conflicts[2]: there is no overlay 'their-vpn' here",
    ]


def test_services_of_overlays_are_known(ask: Ask, project: Path) -> None:
    scripts = project / "overlays/mine/files/etc/init.d"
    scripts.mkdir(parents=True)
    (project / "overlays/mine/overlay.toml").write_text('name = "mine"\n')
    (scripts / "mine-own.j2").write_text("#!/bin/sh /etc/rc.common\n")
    text = '[services]\ndisabled = ["mine-own"]\n[[overlay]]\nname = "mine"\n'
    assert plan_and_budgets(ask(text), Log())[0].disabled_services == ("mine-own",)


def test_a_package_without_a_service_of_its_name(ask: Ask, tmp_path: Path) -> None:
    """Told when all is fetched, and before make is called."""
    with pytest.raises(FaultsError, match=r"services\.disabled\[0\]: there is no service 'rssileds'"):
        build_image(ask('[services]\ndisabled = ["rssileds"]\n'), Log())
    assert not [*(tmp_path / "out").glob("*/*")]
