"""The report as text: what it says, that others' words cannot become part of it, and how large it may get."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from imagebuilder.model.package import LOCAL, Package, Selected
from imagebuilder.model.result import ImageFile
from imagebuilder.model.trial import TrialReport
from imagebuilder.report.changes import changes
from imagebuilder.report.flashing import ways
from imagebuilder.report.page import report_page
from tests.support.report_making import IMAGE, KIB, PACKAGES, package, page_facts, result_of, root_of

NASTY = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;'</style>"


class Seen(HTMLParser):
    """The elements of a page, its text, and what it points to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_it_says_what_it_is_and_why_each_package_is_there() -> None:
    seen = Seen(report_page(page_facts()))
    words = " ".join(seen.text.split())
    assert "router for TP-Link TL-WR740N/ND v4" in words
    assert "OpenWrt 23.05.5 · ath79/tiny · dated 2023-11-14" in words
    assert "python.variant → python3-light → python3-base" in words
    assert "packages.add in configs/router.toml → tcpdump-mini" in words, "without the project's folder"
    assert "348 files of bytecode were loaded by Python 3.11, and 3 modules were imported too." in words
    assert "on the machine that built it, by qemu-mips -cpu 24Kc." in words
    assert "every module can be importedwarned300 moduleswarning: " in "".join(seen.text.split("\n"))
    assert "warning: /usr/lib/python3.11/site-packages/fast.pyc (python3-fast): fast: <no> module" in words
    assert "of the release" not in words
    assert "scripts parsenot runthe image has no /bin/sh" in "".join(seen.text.split("\n"))
    assert "python3 /.hello.py0.4003319" in "".join(seen.text.split("\n"))
    assert "3.6 MiB of 8.0 MiB free" in words
    assert f"{'ab' * 32}" in words
    links = {each.get("href") for each in seen.all("a")}
    assert {IMAGE, "sbom.cdx.json", "lock.toml", "sha256sums"} <= links
    ids = {each["id"] for _, each in seen.elements if "id" in each}
    assert {link[1:] for link in links if link and link.startswith("#")} <= ids, "every link leads somewhere"


def test_the_same_build_gives_the_same_page() -> None:
    assert report_page(page_facts()) == report_page(page_facts())
    assert "<time" not in report_page(page_facts(epoch=0))


def test_the_page_forbids_whatever_is_not_part_of_it() -> None:
    page = report_page(page_facts())
    (policy,) = (each["content"] for each in Seen(page).all("meta") if "http-equiv" in each)
    assert policy is not None
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not [
        name for _, each in Seen(page).elements for name in each if name.startswith("on") or name == "style"
    ]


def nasty_page(text: str) -> str:
    """A page in which everything that others choose the words of is this text."""
    odd = Selected(
        Package(text, text, description=text, extra={"License": text}), (text, f"needs {text}", text)
    )
    # a type that is known has a way of flashing, which is told
    image = ImageFile(file=text, type=f"of type {text}", size=1, sha256="ab" * 32, required=True)
    root = root_of({f"/{text}": (text, 900 * KIB), f"/etc/{text}": ("", 400 * KIB)})
    now = result_of([odd], root, images=(image,), warnings=(text,), feeds={text: text}, overlays=(text,))
    before = result_of([odd], root, profile=text)
    return report_page(
        page_facts(
            result=now,
            packages=(odd,),
            root=root,
            board=text,
            note=text,
            checks={},
            compared=changes(before, now, (text,)),
            earlier=text,
        )
    )


def test_others_words_are_words() -> None:
    seen, plain = Seen(nasty_page(NASTY)), Seen(nasty_page("plain"))
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(each) for _, each in seen.elements] == [sorted(each) for _, each in plain.elements]
    assert seen.text.count(NASTY) > 8
    assert all(not (each.get("href") or "").startswith("javascript") for each in seen.all("a"))


@settings(max_examples=40)
@given(some.text(min_size=1, max_size=60))
def test_whatever_a_package_is_called_the_page_has_the_same_shape(text: str) -> None:
    shape = [tag for tag, _ in Seen(nasty_page(text)).elements]
    assert [tag for tag in shape if tag != "div"] == [
        tag for tag, _ in Seen(nasty_page("plain")).elements if tag != "div"
    ]


def test_an_address_in_a_files_name_leads_nowhere() -> None:
    image = ImageFile(file="javascript:alert(1)", type="factory", size=1, sha256="ab" * 32, required=True)
    page = report_page(page_facts(result=result_of(images=(image,))))
    assert 'href="javascript%3Aalert%281%29"' in page


def test_a_large_image_has_a_page_of_bounded_size() -> None:
    """5,000 files of 300 packages, 30 MB."""
    packages = [
        package(f"package-with-a-long-name-{n}", "packages.add", *(f"needs-{m}" for m in range(8)))
        for n in range(300)
    ]
    files = {
        f"/usr/lib/python3.11/site-packages/some/folder/file-number-{n}.pyc": (packages[n % 300].name, 6000)
        for n in range(5000)
    }
    root = root_of(files)
    page = report_page(page_facts(packages=packages, root=root, result=result_of(packages, root)))
    assert len(page.encode()) < 700_000
    assert page.count("file-number-") > 1000, "files are shown as long as there is room"


def test_what_is_not_known_is_not_shown() -> None:
    bare = result_of(
        trial=None, root=None, flash=None, ram=None, starts=(), bytecode=None, warnings=(), overlays=()
    )
    seen = Seen(report_page(page_facts(result=bare, root=None, checks={})))
    assert "what fills it is not known" in seen.text
    ids = {each["id"] for tag, each in seen.elements if tag == "h2"}
    assert ids == {"images", "flashing", "space", "packages", "checks", "origin"}


def test_secrets_are_named_and_warned_of() -> None:
    words = Seen(report_page(page_facts(result=result_of(secrets=("WIFI_KEY",))))).text
    assert "These images hold secrets (WIFI_KEY): do not give them away." in words


def test_changes_are_told_by_what_they_are() -> None:
    before = result_of(PACKAGES[:-1], root_of({"/bin/busybox": ("busybox", 100 * KIB)}), profile="other")
    now = result_of()
    found = changes(before, now, ("overlay 'base' is new",))
    assert not found.same or not found.nothing
    assert [(each.name, each.before, each.after) for each in found.facts] == [
        ("profile", "other", "tplink_tl-wr740n-v4")
    ]
    assert [(each.name, each.before, each.after) for each in found.packages] == [("kernel", None, "1.0-r1")]
    assert found.sizes[0].name == "python3-base"
    assert {(each.name, each.before, each.after) for each in found.sizes} >= {
        ("busybox", 100 * KIB, 300 * KIB)
    }
    words = " ".join(Seen(report_page(page_facts(compared=found, earlier="/out/before"))).text.split())
    assert "Compared with /out/before" in words
    assert "overlay 'base' is new" in words
    same = changes(now, now)
    assert same.same
    assert same.nothing


def image(kind: str, file: str = "image.bin") -> ImageFile:
    return ImageFile(file=file, type=kind, size=1, sha256="ab" * 32, required=False)


@pytest.mark.parametrize(
    ("kind", "form", "title", "command"),
    [
        ("sysupgrade", "tplink-v1", "From a running OpenWrt", "sysupgrade -v /tmp/firmware.bin"),
        ("sysupgrade", "sd-card", "Onto a card or a disk", "dd if=image.bin of=/dev/sdX"),
        ("factory", "tplink-v1", "From the vendor's firmware", "ssh root@192.168.1.1"),
        ("web-flash", "safeloader", "From the vendor's firmware", "ssh root@192.168.1.1"),
        ("combined-efi", "efi-disk", "Onto a card or a disk", "dd if=image.bin of=/dev/sdX"),
        ("tftp", "unknown", "Over TFTP, by the boot loader", ""),
        ("kernel", "kernel", "For the boot loader", ""),
        ("odd", "unknown", "Other images", ""),
    ],
)
def test_how_an_image_is_flashed_follows_from_its_board(
    kind: str, form: str, title: str, command: str
) -> None:
    (way,) = ways([image(kind)], {kind: form})
    assert way.title == title
    assert way.files == ("image.bin",)
    assert command in "\n".join(step.command for step in way.steps)


def test_a_packed_disk_image_is_unpacked_on_the_way_and_odd_names_are_quoted() -> None:
    (way,) = ways([image("combined", "my image.img.gz")], {"combined": "bios-disk"})
    assert "gzip -dc 'my image.img.gz' | sudo dd of=/dev/sdX" in [step.command for step in way.steps][1]


def test_what_is_made_here_has_its_own_colour() -> None:
    mine = Selected(Package("app-hello", "1", feed=LOCAL), ("python.apps", "app-hello"))
    root = root_of({"/usr/bin/hello": ("app-hello", 900 * KIB), "/bin/x": ("busybox", 800 * KIB)})
    page = report_page(page_facts(packages=(mine, PACKAGES[1]), root=root, result=result_of([mine], root)))
    kinds = {
        each.get("aria-label", ""): each["data-kind"] for each in Seen(page).all("a") if "data-kind" in each
    }
    assert {str(name).split(":")[0]: kind for name, kind in kinds.items()} == {
        "the kernel": "kernel",
        "app-hello": "yours",
        "busybox": "system",
        "tables of the file system": "rest",
    }


def test_it_says_why_nothing_of_the_image_was_run() -> None:
    trial = TrialReport(by="", why="the program 'qemu-mips' is not on this machine", checks=())
    words = " ".join(Seen(report_page(page_facts(result=result_of(trial=trial)))).text.split())
    assert "No program of the image was run, because the program 'qemu-mips' is not on this machine." in words
