"""A download server on loopback, with OpenWrt's layout, test keys, and faults that can be switched on."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imagebuilder.config.board import Board
from imagebuilder.host.transfer import Patience
from imagebuilder.log import Event, Log, Note, Progress, Warned
from imagebuilder.server.mirror import TargetPlace

TARGET = "ath79/tiny"
RELEASE = "24.10.4"


@dataclass
class Fault:
    """What the server does wrong with one request. status: answers with it. cut: ends after so many bytes of
    body. stall: seconds of silence before the answer. redirect: leads there. no_length: does not say how many
    bytes come. ranges: whether it knows ranges. headers: sent besides."""

    status: int | None = None
    cut: int | None = None
    stall: float = 0.0
    redirect: str | None = None
    no_length: bool = False
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """A request that the server has seen. path without the slash at its beginning."""

    path: str
    headers: dict[str, str]


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that go away are what some tests are about."""


class Server:
    """Serves `root`. faults: by the end of a path, those of its next requests; always: those of all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.asked: list[Asked] = []
        self._http = _Quiet(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def fault(self, path: str) -> Fault:
        for end, faults in self.faults.items():
            if path.endswith(end) and faults:
                return faults.pop(0)
        return next((fault for end, fault in self.always.items() if path.endswith(end)), Fault())

    def paths(self, end: str = "") -> list[str]:
        """The paths that were asked for, those with this end."""
        return [asked.path for asked in self.asked if asked.path.endswith(end)]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            path = unquote(self.path).lstrip("/")
            server.asked.append(Asked(path, dict(self.headers)))
            fault = server.fault(path)
            time.sleep(fault.stall)
            if fault.redirect is not None:
                self._empty(302, Location=fault.redirect)
            elif fault.status is not None:
                self._empty(fault.status, **fault.headers)
            elif not (server.root / path).is_file():
                self._empty(404)
            else:
                self._file((server.root / path).read_bytes(), fault)

        def _empty(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def _file(self, data: bytes, fault: Fault) -> None:
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            start = self._start(etag, fault, len(data))
            self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            headers = {"ETag": etag, "Content-Length": str(len(data) - start), **fault.headers}
            if fault.no_length:
                del headers["Content-Length"]
                headers["Connection"] = "close"
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[start:] if fault.cut is None else data[start : start + fault.cut])
            if fault.cut is not None or fault.no_length:
                self.close_connection = True

        def _start(self, etag: str, fault: Fault, size: int) -> int:
            wanted = self.headers.get("Range", "")
            if not wanted or not fault.ranges or self.headers.get("If-Range", etag) != etag:
                return 0
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            return start if start < size else 0

    return Handler


class Signer:
    """A usign key pair, and files in usign's format made with it."""

    def __init__(self, seed: int = 1, number: bytes | None = None) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self._private.public_key().public_bytes_raw()
        self.bare_number = number or hashlib.sha256(self.public).digest()[:8]
        self.number = self.bare_number.hex()

    def key_file(self) -> bytes:
        return usign_file("a test key", b"Ed" + self.bare_number + self.public)

    def sign(self, data: bytes) -> bytes:
        blob = b"Ed" + self.bare_number + self._private.sign(data)
        return usign_file(f"signed by key {self.number}", blob)


def usign_file(comment: str, blob: bytes) -> bytes:
    return b"untrusted comment: %s\n%s\n" % (comment.encode(), base64.b64encode(blob))


class GpgSigner:
    """GPG keys in a home of their own: `current`; `old`, which expired on 2020-02-01."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.current = self._make("Current Key", "never")
        old = self._make("Old Key", "never", at="20200101T000000")
        self.late_signature = self.sign(b"late", old, at="20200301T000000")
        self.run("--quick-set-expire", old, "20200201T000000", at="20200115T000000")
        self.old = old

    def sign(self, data: bytes, fingerprint: str = "", at: str | None = None, *more: str) -> bytes:
        who = ("--local-user", fingerprint or self.current)
        return self.run("--armor", *who, *more, "--detach-sign", stdin=data, at=at)

    def key_file(self, fingerprint: str = "") -> bytes:
        return self.run("--armor", "--export", fingerprint or self.current)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False)

    def _make(self, name: str, expires: str, at: str | None = None) -> str:
        self.run("--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", expires, at=at)
        listed = self.run("--with-colons", "--list-keys", name).decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def run(self, *arguments: str, stdin: bytes = b"", at: str | None = None) -> bytes:
        clock = ("--faked-system-time", f"{at}!") if at else ()
        argv = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
        ended = subprocess.run([*argv, *clock, *arguments], input=stdin, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout


def archive_of(files: dict[str, bytes], *, ending: str = ".tar.zst", top: str = "ib") -> bytes:
    """An archive with one folder that holds these files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:xz" if ending == ".tar.xz" else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return zstandard.ZstdCompressor().compress(raw.getvalue()) if ending == ".tar.zst" else raw.getvalue()


class Site:
    """OpenWrt's layout in a folder, filled and signed by the tests."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self.root, self.signer = root, signer

    def folder(self, release: str = RELEASE, target: str = TARGET) -> Path:
        return self.root / TargetPlace(release, target).folder

    def add_target(
        self, release: str = RELEASE, target: str = TARGET, *, noise: bytes = b"", **others: bytes
    ) -> tuple[str, str]:
        """An ImageBuilder and its signed checksums; noise: makes the archive larger and another. Its name and
        SHA-256."""
        name = TargetPlace(release, target).archive_names()[0]
        ending = ".tar.xz" if name.endswith(".xz") else ".tar.zst"
        files = {"Makefile": b"all:\n", "release": release.encode(), "noise": noise}
        archive = archive_of(files, ending=ending, top=name.removesuffix(ending))
        folder = self.folder(release, target)
        folder.mkdir(parents=True, exist_ok=True)
        for each, data in {name: archive, **others}.items():
            (folder / each).write_bytes(data)
        self.sign(release, target)
        return name, hashlib.sha256(archive).hexdigest()

    def sign(self, release: str = RELEASE, target: str = TARGET) -> None:
        """Write the checksums of what is in a target's folder, and sign them."""
        folder = self.folder(release, target)
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("sha256sums"))
        lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()} *{name}\n" for name in names]
        (folder / "sha256sums").write_text("".join(lines))
        (folder / "sha256sums.sig").write_bytes(self.signer.sign("".join(lines).encode()))


class Told:
    """What was told: warnings, notes, progress."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.log = Log([self.events.append])

    @property
    def warnings(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Warned))

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Note))

    @property
    def progress(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]


def no_waiting(**values: float) -> Patience:
    """Patience that does not really sleep between tries."""
    return Patience(connect=5.0, sleep=lambda _seconds: None, **values)  # type: ignore[arg-type]


def small_board(**profile: str) -> Board:
    """A board with one profile."""
    facts = {
        "releases": ">=17.01,<24.10.5",
        "target": TARGET,
        "name": "small",
        "arch": "mips_24kc",
        **profile,
    }
    return Board.model_validate(
        {
            "id": "small",
            "name": "Small",
            "soc": "none",
            "ram": 1 << 25,
            "flash": 1 << 22,
            "profile": [facts],
            "images": {"sysupgrade": {"format": "tplink-v1", "required": True}},
        }
    )


def left_in(folder: Path) -> list[str]:
    """The files of a cache that mean something: neither its mark, locks nor what is remembered of indexes."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_dir() and path.relative_to(folder).parts[0] not in ("CACHEDIR.TAG", "locks", "seen")
    )
