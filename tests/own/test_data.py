"""Data files that the standard library looks for: added by `auto`, told by every plan that lacks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from imagebuilder.config.request import Request, requests
from imagebuilder.log import Log, Warned
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.plan import Plan
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_wheel, only_index

BOARD = "tplink-tl-wr740n-v4"
PYTHON = ("light", "codecs", "openssl", "urllib", "email", "logging", "decimal")
BERLIN = 'import zoneinfo\n\nzone = zoneinfo.ZoneInfo("Europe/Berlin")\n'
FETCH = "from urllib.request import urlopen\n\nURL = 'https://example.org/'\nprint(urlopen(URL).read())\n"
Told = Callable[..., tuple[Plan, list[str]]]


@pytest.fixture
def told(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    add_config: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Told:
    """Plans an image with an app; the plan, and what it warns of."""
    wheel = make_wheel(tmp_path / "files", "tzdata", "2025.2", files={"tzdata/__init__.py": b""})
    only_index(monkeypatch, tmp_path / "index", [wheel])

    def plan(
        app: str, *, packages: Iterable[str] = (), variant: str = "auto", python: str = "", text: str = ""
    ) -> tuple[Plan, list[str]]:
        (project / "apps").mkdir(exist_ok=True)
        (project / "apps/clock.py").write_text(app)
        for name in (*(f"python3-{each}" for each in PYTHON), *packages):
            write_ipk(small_tree / "packages", Package(name, "3.11.7-1", "mips_24kc"), EMPTY, epoch=1)
        head = f'extends = "router"\n[python]\nvariant = "{variant}"\napps = ["apps/clock.py"]\n'
        add_config("mine", head + python + text)
        request: Request
        (request,) = requests(
            project, "mine", board=BOARD, imagebuilder=str(small_tree), cache=tmp_path / "cache"
        )
        warned: list[str] = []
        log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
        found = plan_image(request, log)
        return found, [line for line in warned if "clock.py" in line]

    return plan


def names(plan: Plan) -> set[str]:
    return {each.name for each in plan.install}


def test_auto_adds_the_package_of_the_zone(told: Told) -> None:
    plan, warned = told(BERLIN, packages=["zoneinfo-europe", "zoneinfo-asia"])
    why = "apps/clock.py:3 calls zoneinfo.ZoneInfo('Europe/Berlin'), which looks for time zones"
    assert plan.wanted.add["zoneinfo-europe"] == why
    assert "zoneinfo-asia" not in names(plan)
    assert warned == []


@pytest.mark.parametrize(
    ("app", "variant", "packages", "cure"),
    [
        (
            BERLIN,
            "light",
            ["zoneinfo-europe"],
            "and the image has no time zones: say"
            ' add = ["zoneinfo-europe"] in [packages], or requirements = ["tzdata"] in [python]',
        ),
        (BERLIN, "auto", [], 'and the image has no time zones: say requirements = ["tzdata"] in [python]'),
        (
            "import sys\n\nfrom zoneinfo import ZoneInfo\nZoneInfo(sys.argv[1])\n",
            "auto",
            ["zoneinfo-europe"],  # which one nobody knows
            'and the image has no time zones: say requirements = ["tzdata"] in [python]',
        ),
        (
            "\n\nimport locale\nlocale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\n",
            "auto",
            [],
            "and the image has no locales: musl takes any name",
        ),
        (
            "\n\nimport ssl; ssl.create_default_context()\n",
            "light",
            ["ca-bundle"],
            'and the image has no certificates: say add = ["ca-bundle"] in [packages]',
        ),
    ],
)
def test_what_is_lacking_is_told_with_file_line_and_cure(
    told: Told, app: str, variant: str, packages: list[str], cure: str
) -> None:
    _, (line,) = told(app, variant=variant, packages=packages)
    assert line.startswith(("apps/clock.py:3 calls ", "apps/clock.py:4 calls "))
    assert cure in line


@pytest.mark.parametrize(
    ("python", "text"),
    [
        ('requirements = ["tzdata"]\n', ""),
        ("", '[packages]\nadd = ["zoneinfo-europe"]\n'),
        ("", '[[overlay]]\nname = "zones"\n'),
        (
            '[[python.package]]\nname = "zones"\nversion = "1"\nbuild = false\n'
            'files = { "/usr/share/zoneinfo/Europe/Berlin" = "apps/clock.py" }\n',
            "",
        ),
    ],
)
def test_whatever_brings_the_data_counts(told: Told, project: Path, python: str, text: str) -> None:
    overlay = project / "overlays/zones"
    (overlay / "files/usr/share/zoneinfo/Europe").mkdir(parents=True)
    (overlay / "overlay.toml").write_text('name = "zones"\ndescription = "Zones."\n')
    (overlay / "files/usr/share/zoneinfo/Europe/Berlin").write_bytes(b"TZif")
    _, warned = told(BERLIN, variant="light", packages=["zoneinfo-europe"], python=python, text=text)
    assert warned == []


def test_tzdata_is_read_by_a_module_that_nobody_imports(told: Told) -> None:
    plan, _ = told(BERLIN, python='requirements = ["tzdata"]\n')
    assert plan.wanted.add["python3-urllib"].startswith(
        "apps/clock.py:3 calls zoneinfo.ZoneInfo('Europe/Berlin'), which imports importlib.resources"
    )


def test_https_brings_ssl_and_certificates(told: Told) -> None:
    plan, warned = told(FETCH, packages=["ca-bundle", "ca-certificates"])
    assert plan.wanted.add["python3-openssl"].startswith(
        "apps/clock.py:4 calls urllib.request.urlopen(), which imports ssl"
    )
    assert (
        plan.wanted.add["ca-bundle"]
        == "apps/clock.py:4 calls urllib.request.urlopen(), which looks for certificates"
    )
    assert "ca-certificates" not in names(plan)
    assert warned == []


@pytest.mark.parametrize(
    "app",
    [
        "import urllib.request\nurllib.request.urlopen('http://192.168.1.1/')\n",
        "import ssl, sys\nssl.create_default_context(cafile=sys.argv[1])\n",
        "import ssl\ncontext = ssl.create_default_context()\ncontext.load_verify_locations('/etc/own.pem')\n",
        "import ssl\nssl.create_default_context(ssl.Purpose.CLIENT_AUTH)\n",
        "import locale\nlocale.setlocale(locale.LC_ALL, '')\n",
    ],
)
def test_what_needs_no_data_gets_none(told: Told, app: str) -> None:
    plan, warned = told(app, packages=["ca-bundle"])
    assert "ca-bundle" not in names(plan)
    assert warned == []


def test_who_wants_other_certificates_or_none_gets_no_bundle(told: Told) -> None:
    plan, warned = told(
        FETCH, packages=["ca-bundle", "ca-certificates"], text='[packages]\nadd = ["ca-certificates"]\n'
    )
    assert "ca-bundle" not in names(plan)
    assert warned == []
    plan, warned = told(FETCH, packages=["ca-bundle"], text='[packages]\nremove = ["ca-bundle"]\n')
    assert not {"ca-bundle", "ca-certificates"} & names(plan)
    assert 'add = ["ca-bundle"]' in warned[0]


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (
            "import socket\nsocket.create_connection(('example.org', 80))\n",
            "apps/clock.py:2 calls socket.create_connection(), which imports encodings.idna,"
            " which imports unicodedata",
        ),
        (
            "print('x'.encode('gb2312'))\n",
            "apps/clock.py:1 uses the codec gb2312, which imports encodings.gb2312, which imports _codecs_cn",
        ),
        ("open('x', encoding='Shift-JIS')\n", "apps/clock.py:1 uses the codec Shift-JIS, which imports"),
    ],
)
def test_codecs_bring_their_tables(told: Told, app: str, words: str) -> None:
    plan, _ = told(app)
    assert plan.wanted.add["python3-codecs"].startswith(words)


@pytest.mark.parametrize(
    "app",
    ["open('x', encoding='utf-8')\n", "b''.decode('cp1252')\n", "'x'.encode('no-such')\n", "f().encode()\n"],
)
def test_codecs_of_the_interpreter_bring_nothing(told: Told, app: str) -> None:
    plan, warned = told(app)
    assert not {"python3-light", "python3-codecs"} & set(plan.wanted.add)
    assert warned == []
