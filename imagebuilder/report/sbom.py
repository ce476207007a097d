"""What a build is made of, as a CycloneDX 1.6 document in JSON: `sbom.cdx.json`.

The same build gives the same bytes: its number is derived from the lock's digest, and its time is the one
that everything in the images is dated.

Package URLs: apk's packages are `pkg:apk/openwrt/NAME@VERSION` (purl-spec, types/apk, which names openwrt as
an example of its vendors). For opkg the specification has no type yet; `pkg:opkg/openwrt/NAME@VERSION` is
what scanners of OpenWrt images write (EMBA among them). OpenWrt's own documents (scripts/package-metadata.pl,
make-sbom.py) have none, and name packages, versions, licences and CPE as this one does. What is made here is
`pkg:generic/NAME@VERSION`, distributions of the Python package index are `pkg:pypi/NAME@VERSION`.
CPE names are those of the index (CPE-ID), in the form of CPE 2.3, with the version of what is packed.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_expression, is_supported_id
from packageurl import PackageURL

from imagebuilder.config.app import PinnedRequirement
from imagebuilder.model.package import LOCAL, Package, Selected
from imagebuilder.model.result import ImageFile

_NAMESPACE = uuid.UUID("5b2e9b4c-2f0e-5d0c-9a53-8f3f5d1f6a11")  # of the numbers of these documents
_FIRMWARE, _LINUX, _PYTHON = "firmware", "linux", "python"
_MOST_DESCRIPTION = 300
_RELEASE_OF_PACKAGE = re.compile(r"-r?[0-9]+(?:[+~].*)?$")
_KERNEL = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_SIGNS = r"(?:[A-Za-z0-9._~:/@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"  # of a path (RFC 3986, 3.3)
_WEB = re.compile(
    rf"https?://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?(?:/{_SIGNS})?(?:\?{_SIGNS})?(?:#{_SIGNS})?"
)
# by the section of a package, as OpenWrt's make-sbom.py has it
_TYPES = {
    "kernel": ComponentType.OPERATING_SYSTEM,
    "firmware": ComponentType.FIRMWARE,
    "libs": ComponentType.LIBRARY,
}


@dataclass(frozen=True)
class BillFacts:
    """What a document says besides the images. builder: the version of this program; distribution, version,
    arch, manager: of the tree; board: its name for people; digests: SHA-256 of packages' files of which the
    index states none, by the packages' names; pins: distributions of the Python package index, and packed,
    the package of each, by its name; digest: one over all that decides the image; epoch: seconds since 1970
    that the images are dated, 0 where the tree does not say."""

    config: str
    board: str
    builder: str
    distribution: str
    version: str
    arch: str
    manager: str
    packages: Sequence[Selected]
    digests: Mapping[str, str] = field(default_factory=dict)
    pins: Sequence[PinnedRequirement] = ()
    packed: Mapping[str, str] = field(default_factory=dict)
    overlays: Sequence[str] = ()
    digest: str = ""
    epoch: int = 0


def bill(facts: BillFacts) -> dict[str, Any]:
    """The whole document but for the images, which need not be there yet."""
    packages = {each.name: _package(each.package, facts) for each in facts.packages}
    pypi = {each.name: _distribution(each) for each in facts.pins}
    overlays = [
        Component(type=ComponentType.FILE, name=f"overlays/{name}", bom_ref=f"overlay:{name}")
        for name in facts.overlays
    ]
    below = dict(_below(facts))
    components = [*packages.values(), *pypi.values(), *overlays, *(part for part, _ in below.values())]
    metadata = BomMetaData(component=_firmware(facts, ()), tools=ToolRepository(components=[_builder(facts)]))
    metadata.timestamp = datetime.fromtimestamp(facts.epoch, UTC) if facts.epoch else None  # type: ignore[assignment]
    document = Bom(
        components=components,
        metadata=metadata,
        serial_number=uuid.uuid5(_NAMESPACE, facts.digest),
        dependencies=_dependencies(facts, packages, pypi, overlays, below),
    )
    written: dict[str, Any] = json.loads(JsonV1Dot6(document).output_as_string())
    return written


def bill_text(facts: BillFacts, document: Mapping[str, Any], images: Iterable[ImageFile]) -> bytes:
    """A document with the images, which are what it is about."""
    about = Bom(metadata=BomMetaData(component=_firmware(facts, images)))
    component = json.loads(JsonV1Dot6(about).output_as_string())["metadata"]["component"]
    whole = {**document, "metadata": {**document["metadata"], "component": component}}
    return (json.dumps(whole, indent=1, sort_keys=True) + "\n").encode()


def _firmware(facts: BillFacts, images: Iterable[ImageFile]) -> Component:
    files = [
        Component(
            type=ComponentType.FILE,
            name=image.file,
            bom_ref=f"image:{image.file}",
            hashes=[_sha256(image.sha256)],
            properties=[Property(name="openwrt:image-type", value=image.type)],
        )
        for image in images
    ]
    return Component(
        type=ComponentType.FIRMWARE,
        name=facts.config,
        version=facts.version,
        bom_ref=_FIRMWARE,
        description=f"{facts.distribution} {facts.version} for {facts.board}",
        components=files,
    )


def _builder(facts: BillFacts) -> Component:
    name = "openwrt-python-imagebuilder"
    return Component(type=ComponentType.APPLICATION, name=name, version=facts.builder, bom_ref="builder")


def _package(package: Package, facts: BillFacts) -> Component:
    name = package.name
    sha256 = (package.sha256 or facts.digests.get(name, "")).lower()
    cpe = package.extra.get("CPE-ID", "")
    web = package.extra.get("URL", "").split(" ")[0]
    told = {
        "openwrt:feed": package.feed or "the ImageBuilder",
        "openwrt:section": package.section,
        "openwrt:source": package.extra.get("Source", ""),
        "apk:identity": package.identity,
    }
    return Component(
        type=ComponentType.DEVICE_DRIVER if name.startswith("kmod-") else _type(package),
        name=name,
        version=package.version,
        bom_ref=f"package:{name}",
        description=_line(package.description) or None,
        licenses=_licenses(package.extra.get("License", "")),
        hashes=[_sha256(sha256)] if sha256 else [],
        purl=_purl(package, facts),
        cpe=cpe_name(cpe, upstream(package.version)),
        external_references=[_reference(ExternalReferenceType.WEBSITE, web)] if _WEB.fullmatch(web) else [],
        properties=[Property(name=key, value=value) for key, value in told.items() if value],
    )


def _type(package: Package) -> ComponentType:
    return _TYPES.get("kernel" if package.name == "kernel" else package.section, ComponentType.APPLICATION)


def _purl(package: Package, facts: BillFacts) -> PackageURL:
    if package.feed == LOCAL:
        return PackageURL("generic", name=package.name, version=package.version)
    vendor = re.sub(r"[^a-z0-9.-]+", "-", facts.distribution.lower()).strip("-") or "openwrt"
    told = {"arch": package.architecture or facts.arch, "distro": f"{vendor}-{facts.version}"}
    return PackageURL(facts.manager, vendor, package.name, package.version, told)


def _distribution(pin: PinnedRequirement) -> Component:
    told = {"pypi:file": pin.filename, "pypi:source": pin.source, "pypi:built": pin.built}
    return Component(
        type=ComponentType.LIBRARY,
        name=pin.name,
        version=pin.version,
        bom_ref=f"pypi:{pin.name}",
        hashes=[_sha256(pin.sha256)],
        purl=PackageURL("pypi", name=pin.name, version=pin.version),
        properties=[Property(name=key, value=value) for key, value in told.items() if value],
    )


def _below(facts: BillFacts) -> Iterator[tuple[str, tuple[Component, str]]]:
    """What packages hold and vulnerabilities are known of by another name: the kernel and the interpreter;
    with the package of each."""
    versions = {each.name: each.version for each in facts.packages}
    kernel = _KERNEL.match(versions.get("kernel", ""))
    if kernel is not None:
        cpe = f"cpe:2.3:o:linux:linux_kernel:{kernel[0]}:*:*:*:*:*:*:*"
        purl = PackageURL("generic", name=_LINUX, version=kernel[0])
        part = Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=_LINUX,
            version=kernel[0],
            bom_ref=_LINUX,
            cpe=cpe,
            purl=purl,
        )
        yield _LINUX, (part, "kernel")
    for name in sorted(versions):
        vendor = "micropython" if name.split("-")[0] == "micropython" else "python"
        if name in ("python3-base", "python-base") or vendor == "micropython":
            version = upstream(versions[name])
            product = "cpython" if vendor == "python" else vendor
            part = Component(
                type=ComponentType.PLATFORM,
                name=product,
                version=version,
                bom_ref=_PYTHON,
                cpe=cpe_name(f"cpe:/a:{vendor}:{vendor}", version),
                purl=PackageURL("generic", name=product, version=version),
            )
            yield _PYTHON, (part, name)
            return


def _dependencies(
    facts: BillFacts,
    packages: Mapping[str, Component],
    pypi: Mapping[str, Component],
    overlays: Iterable[Component],
    below: Mapping[str, tuple[Component, str]],
) -> list[Dependency]:
    """The graph: the firmware needs what was asked for and its overlays; packages need what their indexes
    say, as far as it is in the image."""
    provided = {name: each.package.name for each in facts.packages for name in each.package.provides}
    found: dict[str, set[str]] = {_FIRMWARE: {each.bom_ref.value or "" for each in overlays}}
    for each in facts.packages:
        ref = f"package:{each.name}"
        if each.by is None:
            found[_FIRMWARE].add(ref)
        needs = {term.name for group in each.package.depends for term in group}
        there = {name if name in packages else provided.get(name, "") for name in needs} - {"", each.name}
        found[ref] = {f"package:{name}" for name in there}
    for name, (_, package) in below.items():
        found[f"package:{package}"].add(name)
    for pin in facts.pins:
        found[f"pypi:{pin.name}"] = {f"pypi:{name}" for name in pin.requires if name in pypi}
        holder = found.get(f"package:{facts.packed.get(pin.name, '')}", found[_FIRMWARE])
        holder.add(f"pypi:{pin.name}")
    refs = {each.bom_ref.value: each.bom_ref for each in (*packages.values(), *pypi.values(), *overlays)}
    refs |= {name: part.bom_ref for name, (part, _) in below.items()}
    refs[_FIRMWARE] = _firmware(facts, ()).bom_ref
    return [
        Dependency(refs[name], [Dependency(refs[other]) for other in sorted(needs)])
        for name, needs in found.items()
    ]


def _sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)


def _reference(kind: ExternalReferenceType, url: str) -> ExternalReference:
    return ExternalReference(type=kind, url=XsUri(url))


def _line(text: str) -> str:
    """The first sentences of a description, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_DESCRIPTION else f"{line[: _MOST_DESCRIPTION - 1]}…"


def upstream(version: str) -> str:
    """The version of what is packed: without opkg's epoch, and without the release that OpenWrt or Debian
    counts behind it."""
    return _RELEASE_OF_PACKAGE.sub("", version.split(":", 1)[-1]) or version


@lru_cache(maxsize=4096)
def _licenses(text: str) -> tuple[DisjunctiveLicense | LicenseExpression, ...]:
    """What an index calls a licence. OpenWrt's PKG_LICENSE lists SPDX's ids with blanks between; where all
    words are such, they are ids; where it is an expression of SPDX's (`MIT OR GPL-2.0-only`), it is one; any
    other text stays as it is."""
    words = text.split()
    if not words:
        return ()
    if all(map(is_supported_id, words)):
        return tuple(DisjunctiveLicense(id=word) for word in dict.fromkeys(words))
    if {"AND", "OR", "WITH"} & set(words) and is_expression(text):
        return (LicenseExpression(" ".join(words)),)
    return (DisjunctiveLicense(name=" ".join(words)),)


def cpe_name(cpe: str, version: str) -> str | None:
    """A CPE 2.3 name of an index's CPE-ID, `cpe:/a:vendor:product` (CPE 2.2) or of the newer form, for a
    version; None where it is neither. Source: NISTIR 7695, 6.2."""
    if cpe.startswith("cpe:2.3:"):
        parts = re.split(r"(?<!\\):", cpe.removeprefix("cpe:2.3:"))[:3]
    elif cpe.startswith("cpe:/"):
        parts = [_quoted(unquote(part)) for part in cpe.removeprefix("cpe:/").split(":")[:3]]
    else:
        return None
    if len(parts) != 3 or parts[0] not in ("a", "o", "h") or not all(parts):
        return None
    name = ":".join((*parts, _quoted(version) or "*"))
    return f"cpe:2.3:{name}:*:*:*:*:*:*:*"


def _quoted(text: str) -> str:
    return "".join(sign if _PLAIN.fullmatch(sign) else f"\\{sign}" for sign in text if sign.isprintable())
