"""From result folders to a site: what is shown, kept, refused and left alone."""

from __future__ import annotations

import json
import os
import shutil
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import alone
from imagebuilder.log import Log, Note
from imagebuilder.model.result import DeviceTitle
from imagebuilder.report.sums import write_sums
from imagebuilder.site import publish as publishing
from imagebuilder.site import results as reading
from imagebuilder.site.facts import History, SiteState
from imagebuilder.site.place import SiteError
from imagebuilder.site.publish import Published, PublishOptions, publish
from imagebuilder.site.results import ResultsError
from tests.support.result_maker import BOARD, PACKAGES, MadeResult
from tests.support.site_check import ATOM, links_of, site_faults

DAY = 24 * 3600
FIRST = 1_795_000_000  # 18 November 2026
ONE = MadeResult()
OTHER = MadeResult(
    board="linksys-wrt1200ac",
    profile="linksys_wrt1200ac",
    target="mvebu/cortexa9",
    version="24.10.4",
    title=DeviceTitle(vendor="Linksys", model="WRT1200AC"),
)
Publish = Callable[..., Published]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "www"


@pytest.fixture
def night(out: Path, site: Path) -> Publish:
    """Publishes what is in `out`, some nights after the first one."""

    def make(after: int = 0, log: Log | None = None, **options: Any) -> Published:
        return publish(out, site, PublishOptions(**options), FIRST + after * DAY, log or Log())

    return make


def state(site: Path) -> SiteState:
    return SiteState.model_validate_json((site / "boards.json").read_text())


def history(site: Path, board: str = BOARD, config: str = "home") -> History:
    return History.model_validate_json((site / f"boards/{board}/{config}/history.json").read_text())


def everything(site: Path) -> dict[str, str]:
    """All that a site's visitors can see, by path."""
    return {
        str(path.relative_to(site)): sha256_of(path)
        for top in sorted(site.iterdir())
        if top.name != ".site"
        for path in ([top] if top.is_file() else sorted(Path(top).rglob("*")))
        if path.is_file()
    }


def test_a_first_site_shows_what_was_built(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    OTHER.write(out)
    done = night()
    assert [(config, board) for _, config, board in done.new] == [
        ("home", "linksys-wrt1200ac"),
        ("home", BOARD),
    ]
    assert (done.unchanged, done.boards, done.removed) == (0, 2, 0)
    assert site_faults(site) == []
    page = (site / "index.html").read_text()
    assert page.index("Linksys") < page.index("TP-Link")
    build = site / "builds" / BOARD / "home" / done.new[1][0]
    name, data = ONE.image("sysupgrade")
    assert (build / name).read_bytes() == data
    assert (build / "sha256sums").read_text().count(name) == 1
    assert "first build" in (site / f"boards/{BOARD}/home/index.html").read_text()


def test_of_a_result_only_what_is_known_to_be_for_everybody_is_shown(
    out: Path, site: Path, night: Publish
) -> None:
    place = ONE.write(out)
    (place / "inputs.json").write_text("secret inputs")
    night(url="https://firmware.example.org")
    shown = [path for path in site.rglob("*") if path.is_file()]
    assert not [path for path in shown if path.name in ("build.log", "inputs.json")]
    assert not [path for path in shown if b"secret" in path.read_bytes() and path.name != "result.json"]


def test_a_night_says_what_changed(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    night()
    packages = {**PACKAGES, "busybox": "1.37", "tcpdump-mini": "4.99", "kernel": "5.15.140"}
    del packages["libc"]
    ONE.but(content="two", packages=packages, size=5).write(out)
    done = night(1)
    assert site_faults(site) == []
    first, second = history(site).builds
    assert first.night is None
    assert second.night is not None
    assert second.night.before == first.number
    assert [(each.name, each.before, each.after) for each in second.night.packages] == [
        ("busybox", "1.36", "1.37"),
        ("kernel", "5.15.137", "5.15.140"),
        ("libc", "1.2.4", None),
        ("tcpdump-mini", None, "4.99"),
    ]
    assert {each.name: each.after - each.before for each in second.night.sizes} == {
        "libc": -405,
        "tcpdump-mini": 1204,
    }
    assert second.night.kernel is not None
    assert second.night.kernel.after == "5.15.140"
    assert second.size - first.size == 1024
    (number, *_), page = done.new[0], (site / f"boards/{BOARD}/home/index.html").read_text()
    assert "1.37" in page
    assert "2 changed, 1 added, 1 removed" in page
    assert f"{number}/index.html" in page
    assert page.count("<svg") == 3  # two images and the root file system
    assert "+799 in all" in page


def test_an_unchanged_night_adds_nothing(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    OTHER.write(out)
    night()
    before = everything(site)
    OTHER.but(content="two").write(out)
    done = night(1)
    assert [board for _, _, board in done.new] == ["linksys-wrt1200ac"]
    assert done.unchanged == 1
    after = everything(site)
    same = [path for path in before if path.startswith((f"boards/{BOARD}", f"builds/{BOARD}"))]
    assert len(same) > 5
    assert [path for path in same if before[path] != after[path]] == []
    listing = next(each for each in state(site).listings if each.board == BOARD)
    assert (listing.seen, listing.newest.published) == (FIRST + DAY, FIRST)


def test_of_old_builds_the_facts_stay(out: Path, site: Path, night: Publish) -> None:
    for number in range(6):
        ONE.but(content=f"night {number}", size=4 + number).write(out)
        night(number, keep=3)
        assert site_faults(site) == []
    builds = history(site).builds
    assert [build.size // 1024 for build in builds] == [4, 5, 6, 7, 8, 9]
    (listing,) = state(site).listings
    assert listing.kept == tuple(build.number for build in builds[3:])
    there = {path.name for path in (site / f"builds/{BOARD}/home").iterdir()}
    # those that the generation before leads to stay with it
    assert there == {build.number for build in builds[2:]}
    page = (site / f"boards/{BOARD}/home/index.html").read_text()
    assert page.count("facts only") == 3
    assert "6 builds; the images of the last 3 are here" in page
    assert len(ET.parse(site / "feed.xml").findall(f"{ATOM}entry")) == 3
    done = night(6, keep=1)  # nothing new, and fewer are to stay
    assert (done.new, done.removed) == ((), 1)
    assert {path.name for path in (site / f"builds/{BOARD}/home").iterdir()} == set(listing.kept)
    assert night(7, keep=1).removed == 2
    assert site_faults(site) == []


def test_the_same_images_again_on_one_day_are_builds_of_their_own(
    out: Path, site: Path, night: Publish
) -> None:
    for content in ("one", "two", "one", "one", "two"):
        ONE.but(content=content).write(out)
        night()
    numbers = [build.number for build in history(site).builds]
    assert len(set(numbers)) == 4
    assert numbers[2] == f"{numbers[0]}-2"
    assert site_faults(site) == []


def test_secrets_are_refused_all_at_once_and_nothing_is_published(
    out: Path, site: Path, night: Publish
) -> None:
    ONE.write(out)
    night()
    before = everything(site)
    ONE.but(content="two", secrets=("wifi-client.key", "root-password.hash")).write(out)
    OTHER.but(secrets=("wifi-client.key",)).write(out)
    ONE.but(config="office").write(out)
    with pytest.raises(FaultsError) as caught:
        night(1)
    text = str(caught.value)
    assert f"home for {BOARD} hold secrets: wifi-client.key, root-password.hash" in text
    assert "home for linksys-wrt1200ac hold secrets: wifi-client.key" in text
    assert len(caught.value.faults) == 2
    assert everything(site) == before
    assert not (site / f"builds/{BOARD}/office").exists()


def test_damage_is_refused_all_at_once(out: Path, site: Path, night: Publish) -> None:
    damaged = ONE.write(out)
    (damaged / ONE.image("factory")[0]).write_bytes(b"x" * 4096)
    short = ONE.but(config="short").write(out)
    (short / ONE.image("sysupgrade")[0]).write_bytes(b"short")
    gone = ONE.but(config="gone").write(out)
    (gone / ONE.image("factory")[0]).unlink()
    sums = ONE.but(config="sums").write(out)
    (sums / "sha256sums").write_text(f"{'0' * 64} *{ONE.image('factory')[0]}\n")
    (ONE.but(config="json").write(out) / "result.json").write_text("{")
    pipe = ONE.but(config="pipe").write(out)
    (pipe / "manifest").unlink()
    os.mkfifo(pipe / "manifest")
    with pytest.raises(FaultsError) as caught:
        night()
    faults = {Path(fault.file).parent.parent.name: str(fault) for fault in caught.value.faults}
    assert "factory.bin: is damaged: its SHA-256" in faults["home"]
    assert "is damaged: it has 5 of 4096 bytes" in faults["short"]
    assert "factory.bin is missing" in faults["gone"]
    assert "has another SHA-256 than result.json" in faults["sums"]
    assert "JSON" in faults["json"]
    assert "is a pipe" in faults["pipe"]
    assert len(faults) == 6
    assert not (site / "index.html").exists()
    assert not list((site / ".site").glob("*/*"))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"config": "../x"}, "no name of a file"),
        ({"board": ".hidden"}, "no name of a file"),
        ({"board": "a\nb"}, "no name of a file"),
        ({"images": []}, "at least 1 item"),
        ({"images": [{"file": "../../x", "type": "a", "size": 1, "sha256": "0" * 64}]}, "no name of a file"),
        ({"images": [{"file": "index.html", "type": "a", "size": 1, "sha256": "0" * 64}]}, "something else"),
        ({"tree": {"distribution": "", "version": "1", "target": "../..", "arch": ""}}, "tree.target"),
        ({"secrets": None}, "secrets"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(
    out: Path, night: Publish, more: dict[str, Any], problem: str
) -> None:
    ONE.but(more=more).write(out)
    with pytest.raises(FaultsError, match=problem):
        night()


def test_results_of_other_versions_are_read_as_far_as_they_go(out: Path, site: Path, night: Publish) -> None:
    """Before `device` was known, and with what nobody knows yet."""
    ONE.but(more={"device": None, "flash": None, "novel": {"x": 1}}).write(out)
    said = json.loads((out / f"home/{BOARD}/result.json").read_text())
    del said["device"]
    (out / f"home/{BOARD}/result.json").write_text(json.dumps(said))
    write_sums(out / f"home/{BOARD}", {}, None)
    night()
    assert site_faults(site) == []
    (listing,) = state(site).listings
    assert (listing.names, listing.vendor) == ((BOARD,), "tplink")
    profiles = json.loads((site / "releases/23.05.5/targets/ath79/tiny/profiles.json").read_text())
    assert profiles["profiles"][ONE.profile]["titles"] == [{"title": BOARD}]


def test_one_result_or_one_configs_folder_will_do(
    out: Path, site: Path, night: Publish, tmp_path: Path
) -> None:
    place = ONE.write(out)
    for given in (place, place.parent, out):
        shutil.rmtree(site, ignore_errors=True)
        publish(given, site, PublishOptions(), FIRST, Log())
        assert len(state(site).listings) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="no results"):
        publish(tmp_path / "empty", site, PublishOptions(), FIRST, Log())
    shutil.copytree(place, out / "copy" / BOARD)
    with pytest.raises(FaultsError, match=f"a second result of home for {BOARD}"):
        night()


def test_what_was_not_built_tonight_stays(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    OTHER.write(out)
    night()
    shutil.rmtree(out / "home" / BOARD)
    assert night(1).boards == 2
    assert site_faults(site) == []
    assert "TL-WR740N" in (site / "index.html").read_text()


def test_files_of_others_are_left_alone(out: Path, site: Path, night: Publish) -> None:
    site.mkdir()
    (site / "robots.txt").write_text("mine")
    (site / "selector").mkdir()
    (site / "selector/index.html").write_text("mine too")
    (site / "shortcut").symlink_to("selector/index.html")
    (site / ".draft.new-abcdefgh").write_text("not a publisher's")
    ONE.write(out)
    for after in range(3):
        ONE.but(content=f"{after}").write(out)
        night(after, keep=1)
    assert (site / "robots.txt").read_text() == "mine"
    assert (site / "shortcut").read_text() == "mine too"
    assert (site / ".draft.new-abcdefgh").exists()


@pytest.mark.parametrize("name", ["index.html", "boards", "releases", ".site", "feed.xml", "builds"])
def test_a_file_of_somebody_elses_in_the_way_is_told(
    out: Path, site: Path, night: Publish, name: str
) -> None:
    (site / name).mkdir(parents=True)
    (site / name / "file").write_text("mine")
    ONE.write(out)
    with pytest.raises(SiteError, match="not of this program's making") as caught:
        night()
    assert name in caught.value.message
    assert [path.name for path in site.iterdir()] == [name]


def test_a_file_is_no_site(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    site.write_text("mine")
    with pytest.raises(UserError, match="is no folder"):
        night()


@pytest.mark.parametrize("text", ["{", '{"schema_version": 99}', ""])
def test_a_site_that_somebody_changed_is_told(out: Path, site: Path, night: Publish, text: str) -> None:
    ONE.write(out)
    night()
    (site / "boards.json").resolve().write_text(text)
    with pytest.raises(SiteError, match="damaged, or another version's"):
        night(1)


def test_a_build_whose_packages_are_gone_is_told(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    number = night().new[0][0]
    (site / f"builds/{BOARD}/home/{number}/packages.json").unlink()
    ONE.but(content="two").write(out)
    told: list[object] = []
    night(1, log=Log([told.append]))
    assert any("what changed since that build cannot be told" in str(event) for event in told)
    assert history(site).builds[1].night is None


def test_what_others_wrote_is_escaped(out: Path, site: Path, night: Publish) -> None:
    evil = "<script>alert('x')</script>&\"\x01"
    wild = ONE.but(
        config="a b#c?%&d",
        title=DeviceTitle(vendor=evil, model='"><img src=x onerror=y>'),
        packages={**PACKAGES, "evil": evil},
    )
    wild.write(out)
    night(title=evil)
    wild.but(content="two", packages={**PACKAGES, "evil": "2", "<b>": evil}).write(out)
    night(1, title=evil, url="https://firmware.example.org")
    assert site_faults(site) == []
    pages = [path.read_text() for path in site.rglob("*.html") if not path.is_symlink()]
    assert len(pages) >= 5
    assert not [page for page in pages if "<script>" in page or "<img" in page or "<b>" in page]
    assert evil.replace("\x01", "\ufffd") in (ET.parse(site / "feed.xml").findtext(f"{ATOM}title") or "")


def test_all_pages_change_with_their_look(
    out: Path, site: Path, night: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    ONE.write(out)
    number = night().new[0][0]
    page = site / f"builds/{BOARD}/home/{number}/index.html"
    monkeypatch.setattr(publishing, "__version__", "99")
    night(1, title="Another")
    assert site_faults(site) == []
    assert "owrt-python 99" in page.read_text()
    assert "Another" in (site / f"boards/{BOARD}/home/index.html").read_text()


def test_the_feed_keeps_its_name(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    night()
    name = state(site).name
    ONE.but(content="two").write(out)
    night(1, url="https://firmware.example.org")
    assert state(site).name == name
    feed = ET.parse(site / "feed.xml")
    assert feed.findtext(f"{ATOM}id") == f"urn:uuid:{name}"
    link = feed.find(f"{ATOM}entry/{ATOM}link")
    assert link is not None
    assert str(link.get("href")).startswith(f"https://firmware.example.org/builds/{BOARD}/home/")
    titles = [entry.findtext(f"{ATOM}title") for entry in feed.findall(f"{ATOM}entry")]
    assert titles[0] == "TP-Link TL-WR740N v4, home: the same packages, other contents"


def test_two_publishers_take_turns(out: Path, site: Path, night: Publish) -> None:
    ONE.write(out)
    night()
    ONE.but(content="two").write(out)
    told: list[object] = []
    waited = threading.Event()

    def tell(event: object) -> None:
        told.append(event)
        if isinstance(event, Note):
            waited.set()

    with alone(site / ".site"):
        thread = threading.Thread(target=night, args=(1, Log([tell])))
        thread.start()
        assert waited.wait(30)
        assert len(history(site).builds) == 1
    thread.join(30)
    assert len(history(site).builds) == 2
    assert any("another publish is at work" in str(event) for event in told)
    assert site_faults(site) == []


def test_who_is_downloading_gets_what_was_begun(out: Path, site: Path, night: Publish) -> None:
    """Open files go on; and by what the page of the night before says, its files are still there."""
    ONE.write(out)
    number = night(keep=1).new[0][0]
    name, data = ONE.image("sysupgrade")
    folder = site / "releases/23.05.5/targets/ath79/tiny"
    profiles = json.loads((folder / "profiles.json").read_text())
    (listed,) = [each for each in profiles["profiles"][ONE.profile]["images"] if each["type"] == "sysupgrade"]
    page = site / f"builds/{BOARD}/home/{number}"
    with (page / name).open("rb") as first, (folder / listed["name"]).open("rb") as second:
        begun = first.read(100), second.read(100)
        ONE.but(content="two").write(out)
        night(1, keep=2)
        assert (page / name).read_bytes() == data  # the night after it is still there
        assert sha256_of(folder / listed["name"]) == listed["sha256"]
        for after in (2, 3, 4):
            ONE.but(content=f"{after}").write(out)
            night(after, keep=1)
        assert not (page / name).exists()
        assert begun[0] + first.read() == data
        assert begun[1] + second.read() == data


def test_a_result_that_is_replaced_meanwhile_is_taken_whole(
    out: Path, site: Path, night: Publish, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A build hands over its result while the old one is being copied."""
    place = ONE.write(out)
    newer = ONE.but(content="two").write(tmp_path / "other")
    real, done = publishing.opened_plain, []

    def opened(file: Path, *, follow: bool) -> AbstractContextManager[BufferedReader]:
        if not done:
            done.append(file)
            place.rename(tmp_path / "old")
            newer.rename(place)
        return real(file, follow=follow)

    monkeypatch.setattr(publishing, "opened_plain", opened)
    number = night().new[0][0]
    name, data = ONE.but(content="two").image("sysupgrade")
    assert (site / f"builds/{BOARD}/home/{number}" / name).read_bytes() == data
    assert site_faults(site) == []


def test_a_result_that_is_replaced_while_it_is_read_is_read_anew(
    out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = ONE.write(out)
    newer = ONE.but(content="two").write(tmp_path / "other")
    real, done = reading.read_plain, []

    def read(path: Path, limit: int, *, follow: bool) -> bytes:
        data = real(path, limit, follow=follow)
        if not done:
            done.append(path)
            place.rename(tmp_path / "old")
            newer.rename(place)
        return data

    monkeypatch.setattr(reading, "read_plain", read)
    (found,), faults = reading.read_results(out)
    assert faults == []
    assert found.said.images[0].sha256 == sha256_of(place / ONE.image("sysupgrade")[0])


def test_a_file_system_without_hard_links_gets_copies(
    out: Path, site: Path, night: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    ONE.write(out)
    night()
    night(1)
    assert site_faults(site) == []


def test_what_stands_beside_the_images_is_checked_and_linked(out: Path, site: Path, night: Publish) -> None:
    place = ONE.write(out)
    beside = {"report.html": "<p>report", "sbom.cdx.json": "{}", "lock.toml": "", "sha256sums.sig": "sig"}
    for name, text in beside.items():
        (place / name).write_text(text)
    write_sums(place, {}, None)
    number = night().new[0][0]
    folder = site / f"builds/{BOARD}/home/{number}"
    links = links_of(folder / "index.html")
    assert [name for name in beside if name not in links or not (folder / name).is_file()] == []
    ONE.but(content="two").write(out)
    (place / "report.html").write_text("<p>report")
    write_sums(place, {}, None)
    (place / "report.html").write_text("another")
    with pytest.raises(FaultsError, match=r"report.html: is damaged"):
        night(1)
    assert number in state(site).listings[0].kept


def test_what_no_sum_covers_is_not_published(out: Path, site: Path, night: Publish) -> None:
    place = ONE.write(out)
    (place / "report.html").write_text("somebody's")
    with pytest.raises(FaultsError, match=r"sha256sums does not list report.html"):
        night()
    (place / "report.html").unlink()
    (place / "sha256sums").unlink()
    with pytest.raises(FaultsError, match="there is no sha256sums beside it") as caught:
        night()
    assert "build it anew" in str(caught.value.faults[0].hint)
    (place / "sha256sums").write_text("")
    with pytest.raises(FaultsError, match=r"has another SHA-256 than result.json"):
        night()
    assert not (site / "index.html").exists()


@pytest.mark.parametrize(
    "name",
    ["report.html", "manifest", "sha256sums", "sha256sums.sig", "result.json", ONE.image("factory")[0]],
)
def test_links_in_results_are_never_followed(
    out: Path, site: Path, night: Publish, tmp_path: Path, name: str
) -> None:
    """Not even where what they lead to is what was summed."""
    place = ONE.write(out)
    (place / "report.html").write_text("<p>report")
    write_sums(place, {}, None)
    (place / "sha256sums.sig").write_text("sig")
    (place / name).rename(tmp_path / "elsewhere")
    (place / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FaultsError, match="is a link, where a file is expected"):
        night()
    assert not (site / "index.html").exists()


def test_a_vendor_is_one_however_it_is_spelt(out: Path, site: Path, night: Publish) -> None:
    """17.01 says `TP-LINK TL-WR740N/ND v4`, later releases say who makes it apart."""
    ONE.but(config="a-old", title=DeviceTitle(title="TP-LINK TL-WR740N/ND v4")).write(out)
    ONE.but(config="b-new").write(out)
    night()
    page = (site / "index.html").read_text()
    assert page.count("<h2") == 1
    assert ">TP-Link</h2>" in page


def test_the_kernel_is_told_once(out: Path, site: Path, night: Publish) -> None:
    """As a package, where there is one; else by itself."""
    bare = {name: version for name, version in PACKAGES.items() if name != "kernel"}
    device = json.loads((ONE.write(out) / "result.json").read_text())["device"]
    for after, (packages, kernel) in enumerate(
        [
            (PACKAGES, "5.15.137"),
            ({**PACKAGES, "kernel": "5.15.140"}, "5.15.140"),
            (bare, "5.15.141"),
            (bare, "5.15.142"),
            (bare, ""),
        ]
    ):
        more = {"device": {**device, "kernel": kernel}}
        ONE.but(content=f"{after}", packages=packages, more=more).write(out)
        number = night(after).new[0][0]
        page = (site / f"builds/{BOARD}/home/{number}/index.html").read_text().partition("All packages")[0]
        rows = page.partition("What changed")[2].count("<td>kernel")
        assert rows == (0, 1, 2, 1, 0)[after], after  # the package, gone with its bytes, by itself
    nights = [build.night.kernel for build in history(site).builds if build.night]
    assert [each and each.after for each in nights] == ["5.15.140", "5.15.141", "5.15.142", None]
