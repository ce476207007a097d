"""A Debian archive of the tests' own making: packages, signed lists, and the folders that a mirror has."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.download_server import GpgSigner

INDEX = "main/binary-amd64/Packages"


def tar_of(files: dict[str, bytes | str], mtime: int = 1_700_000_000) -> bytes:
    """A tar of files (bytes) and links (text), dated."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mtime, member.mode = mtime, 0o644
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def ar_of(members: dict[str, bytes]) -> bytes:
    """An ar archive, as deb(5) has it."""
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def deb_of(files: dict[str, bytes | str]) -> bytes:
    """A Debian package with these files."""
    return ar_of(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": lzma.compress(tar_of({"./control": b"Package: x\n"})),
            "data.tar.xz": lzma.compress(tar_of(files)),
        }
    )


@dataclass
class DebianArchive:
    """A mirror's folder: `root`/debian and `root`/debian-security, signed by one key."""

    root: Path
    signer: GpgSigner

    def publish(
        self, archive: str, suite: str, packages: dict[str, tuple[str, bytes]], *, more: str = ""
    ) -> None:
        """Write a suite. packages: names to versions and files; `linux-image-cloud-amd64` depends on the
        first that is called linux-image-6.*. more: further lines of the Release."""
        place = self.root / archive
        kernel = next((name for name in packages if name.startswith("linux-image-6")), "nothing")
        paragraphs = []
        for name, (version, data) in packages.items():
            file = f"pool/main/{name[0]}/{name}/{name}_{version.rpartition(':')[2]}_amd64.deb"
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(data)
            depends = f"Depends: {kernel} (= {version})\n" if name == "linux-image-cloud-amd64" else ""
            paragraphs.append(
                f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: N <n@example.org>\n"
                f"{depends}Description: a package\nFilename: {file}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        index = "\n".join(paragraphs).encode()
        self._lists(place / "dists" / suite, suite, index, more)

    def _lists(self, dists: Path, suite: str, index: bytes, more: str) -> None:
        files = {INDEX: index, f"{INDEX}.xz": lzma.compress(index)}
        lines = []
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f" {digest} {len(data):>16} {path}\n")
            by_hash = (dists / path).parent / "by-hash/SHA256" / digest
            by_hash.parent.mkdir(parents=True, exist_ok=True)
            by_hash.write_bytes(data)
            (dists / path).write_bytes(data)
        release = (
            f"Origin: Debian\nLabel: Debian\nSuite: test\nCodename: {suite}\n"
            f"Date: Thu, 26 Nov 2026 00:00:00 UTC\nAcquire-By-Hash: yes\nArchitectures: amd64\n"
            f"Components: main\n{more}SHA256:\n{''.join(lines)}"
        )
        signed = self.signer.run("--local-user", self.signer.current, "--clearsign", stdin=release.encode())
        (dists / "InRelease").write_bytes(signed)
