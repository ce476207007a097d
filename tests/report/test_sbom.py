"""The bill of materials: valid against CycloneDX's own schema, the same for the same build, and what it says
of packages, licences and vulnerabilities' names."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import example, given, settings
from hypothesis import strategies as some

from imagebuilder.config.app import PinnedRequirement
from imagebuilder.model.package import LOCAL, Dependency, Package, Selected
from imagebuilder.model.result import ImageFile
from imagebuilder.report.sbom import BillFacts, bill, bill_text, cpe_name, upstream

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


def selected(name: str, version: str = "1.0-r1", *way: str, **facts: Any) -> Selected:
    return Selected(Package(name, version, **facts), ("packages.add", *way, name))


PACKAGES = (
    selected("kernel", "6.6.73~abc-r1", section="sys", extra={"License": "GPL-2.0"}),
    selected("kmod-wifi", "6.6.73.1-r1", section="kernel", depends=((Dependency("kernel"),),)),
    selected(
        "haproxy",
        "2.8.1-r2",
        architecture="mips_24kc",
        sha256="AB" * 32,
        section="net",
        description="A proxy\n of two lines",
        depends=((Dependency("libfoo", ">=", "1"),), (Dependency("absent"), Dependency("kernel"))),
        extra={"License": "GPL-2.0+ LGPL-2.1", "CPE-ID": "cpe:/a:haproxy:haproxy", "URL": "https://x.org/"},
        feed="packages",
    ),
    selected(
        "libfoo12", "1", "haproxy", provides=("libfoo",), section="libs", extra={"License": "Public Domain"}
    ),
    selected("python3-base", "3.11.7-1", extra={"License": "MIT OR GPL-2.0-only", "URL": "no address"}),
    selected("python3-bottle", "0.13-1", feed=LOCAL),
)
PINS = (
    PinnedRequirement(name="bottle", version="0.13", filename="bottle-0.13.tar.gz", sha256="cd" * 32),
    PinnedRequirement(
        name="late",
        version="1",
        filename="late",
        sha256="ef" * 32,
        requires=("bottle", "none"),
        source="libs/late",
    ),
)
FACTS = BillFacts(
    config="demo",
    board="TP-Link TL-WR740N v4",
    builder="0.1",
    distribution="OpenWrt",
    version="23.05.5",
    arch="mips_24kc",
    manager="opkg",
    packages=PACKAGES,
    digests={"kernel": "01" * 32},
    pins=PINS,
    packed={"bottle": "python3-bottle"},
    overlays=("base",),
    digest="12" * 32,
    epoch=1_700_000_000,
)
IMAGES = (ImageFile(file="a-sysupgrade.bin", type="sysupgrade", size=1, sha256="34" * 32, required=True),)


def made(facts: BillFacts = FACTS) -> dict[str, Any]:
    text = bill_text(facts, bill(facts), IMAGES).decode()
    assert VALIDATOR.validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def components(facts: BillFacts = FACTS) -> dict[str, dict[str, Any]]:
    return {each["bom-ref"]: each for each in made(facts)["components"]}


def needs(document: dict[str, Any]) -> dict[str, list[str]]:
    return {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}


def test_the_firmware_is_what_it_is_about() -> None:
    document = made()
    assert document["specVersion"] == "1.6"
    about = document["metadata"]["component"]
    assert (about["type"], about["name"], about["version"]) == ("firmware", "demo", "23.05.5")
    (image,) = about["components"]
    assert image["name"] == "a-sysupgrade.bin"
    assert image["hashes"] == [{"alg": "SHA-256", "content": "34" * 32}]
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"


def test_the_same_build_gives_the_same_bytes() -> None:
    first = bill_text(FACTS, bill(FACTS), IMAGES)
    assert bill_text(FACTS, bill(replace(FACTS, packages=PACKAGES[::-1])), IMAGES) == first
    other = json.loads(bill_text(FACTS, bill(replace(FACTS, digest="56" * 32)), IMAGES))
    assert other["serialNumber"] != json.loads(first)["serialNumber"]
    undated = replace(FACTS, epoch=0)
    assert "timestamp" not in made(undated)["metadata"], "a tree that does not say when has no time"


def test_a_package_has_its_purl_hash_licence_and_cpe() -> None:
    found = components()
    proxy = found["package:haproxy"]
    assert proxy["purl"] == "pkg:opkg/openwrt/haproxy@2.8.1-r2?arch=mips_24kc&distro=openwrt-23.05.5"
    assert proxy["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert proxy["cpe"] == "cpe:2.3:a:haproxy:haproxy:2.8.1:*:*:*:*:*:*:*"
    assert [each["license"]["id"] for each in proxy["licenses"]] == ["GPL-2.0+", "LGPL-2.1"]
    assert proxy["description"] == "A proxy of two lines"
    assert proxy["externalReferences"] == [{"type": "website", "url": "https://x.org/"}]
    assert {"name": "openwrt:feed", "value": "packages"} in proxy["properties"]
    assert found["package:libfoo12"]["licenses"] == [{"license": {"name": "Public Domain"}}]
    assert found["package:python3-base"]["licenses"] == [{"expression": "MIT OR GPL-2.0-only"}]
    assert "externalReferences" not in found["package:python3-base"]
    assert found["package:kernel"]["hashes"] == [{"alg": "SHA-256", "content": "01" * 32}], "of the file"
    assert found["package:python3-bottle"]["purl"] == "pkg:generic/python3-bottle@0.13-1", "made here"
    types = {ref: found[ref]["type"] for ref in ("package:kernel", "package:kmod-wifi", "package:libfoo12")}
    assert list(types.values()) == ["operating-system", "device-driver", "library"]


def test_apks_packages_have_the_purl_of_the_specification() -> None:
    apk = replace(FACTS, manager="apk", packages=(replace(PACKAGES[2], package=PACKAGES[2].package),))
    assert components(apk)["package:haproxy"]["purl"].startswith("pkg:apk/openwrt/haproxy@2.8.1-r2?")


def test_kernel_interpreter_and_distributions_have_their_own_names() -> None:
    found = components()
    assert found["linux"]["cpe"] == "cpe:2.3:o:linux:linux_kernel:6.6.73:*:*:*:*:*:*:*"
    assert found["python"]["cpe"] == "cpe:2.3:a:python:python:3.11.7:*:*:*:*:*:*:*"
    assert found["pypi:bottle"]["purl"] == "pkg:pypi/bottle@0.13"
    assert found["overlay:base"]["name"] == "overlays/base"
    micro = replace(FACTS, packages=(selected("micropython-mbedtls", "1.20-1"),), pins=())
    assert components(micro)["python"]["cpe"] == "cpe:2.3:a:micropython:micropython:1.20:*:*:*:*:*:*:*"


def test_the_graph_follows_what_packages_need() -> None:
    graph = needs(made())
    assert graph["package:haproxy"] == ["package:kernel", "package:libfoo12"], "by what provides it"
    assert graph["package:kernel"] == ["linux"]
    assert graph["package:python3-bottle"] == ["pypi:bottle"]
    assert graph["pypi:late"] == ["pypi:bottle"]
    assert "package:libfoo12" not in graph["firmware"], "nobody asked for it"
    assert {"package:haproxy", "overlay:base", "pypi:late"} <= set(graph["firmware"])


@pytest.mark.parametrize(
    ("cpe", "version", "name"),
    [
        ("cpe:/a:busybox:busybox", "1.36.1", "cpe:2.3:a:busybox:busybox:1.36.1:*:*:*:*:*:*:*"),
        ("cpe:/a:linux-atm:linux-atm", "2.5.2", "cpe:2.3:a:linux-atm:linux-atm:2.5.2:*:*:*:*:*:*:*"),
        ("cpe:/a:gnu:libstdc%2b%2b", "1+2", r"cpe:2.3:a:gnu:libstdc\+\+:1\+2:*:*:*:*:*:*:*"),
        ("cpe:2.3:a:gnu:gcc", "1", "cpe:2.3:a:gnu:gcc:1:*:*:*:*:*:*:*"),
        ("cpe:/x:gnu:gcc", "1", None),
        ("cpe:/a:gnu", "1", None),
        ("gcc", "1", None),
    ],
)
def test_cpe_names_take_the_newer_form(cpe: str, version: str, name: str | None) -> None:
    assert cpe_name(cpe, version) == name


@pytest.mark.parametrize(
    ("version", "bare"),
    [
        ("1.36.1-r2", "1.36.1"),
        ("2.5.2-8", "2.5.2"),
        ("1:3.11.2-6+deb12u9", "3.11.2"),
        ("4", "4"),
        ("-1", "-1"),
    ],
)
def test_the_version_of_what_is_packed(version: str, bare: str) -> None:
    assert upstream(version) == bare


@settings(max_examples=60)
@example("", "1", "", "|")
@example("", "1", "", "a:b/")
@given(
    some.text(max_size=40),
    some.text(max_size=20),
    some.text(max_size=30),
    some.text("abc.:/?#[]@%|\\^{} 09-", max_size=20) | some.text(max_size=20),
)
def test_whatever_an_index_says_the_document_is_valid(cpe: str, version: str, license: str, url: str) -> None:
    extra = {"CPE-ID": f"cpe:/a:{cpe}", "License": license, "URL": f"https://{url}", "Source": cpe}
    package = selected("odd", version or "1", description=license, extra=extra)
    made(replace(FACTS, packages=(package,), pins=()))
