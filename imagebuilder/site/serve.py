"""`serve`: a site, for a look, to programs on this machine.

`Files` finds what a path of an address leads to, and nothing outside the site; who serves the site together
with something else takes it too.
"""

from __future__ import annotations

import mimetypes
import os
import shutil
import stat
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from imagebuilder.site.place import INDEX, SiteError

# what browsers may want to know; the rest is a file to be kept
_TYPES = {
    **{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8"},
    **{".js": "text/javascript; charset=utf-8", ".json": "application/json", ".xml": "application/atom+xml"},
    **{".toml": "text/plain; charset=utf-8", ".svg": "image/svg+xml", ".ico": "image/x-icon"},
}
_PLAIN_NAMES = ("manifest", "sha256sums")
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class ServedFile:
    """A file that an address leads to, open. size: bytes; kind: its media type."""

    stream: BufferedReader
    size: int
    kind: str


@dataclass(frozen=True)
class Moved:
    """An address that lacks the / of a folder."""

    path: str


@dataclass(frozen=True)
class Files:
    """What lies in a folder, its links followed as long as they stay in it."""

    root: Path

    def find(self, address: str) -> ServedFile | Moved | None:
        """What the path of an address leads to, a folder by its index.html; None for nothing, for what is no
        plain file, cannot be read or lies elsewhere. address: as in a request, with % and perhaps a query."""
        try:
            path = urlsplit(address).path if address.startswith("/") and address[1:2] != "/" else ""
            if not path:
                return None
            names = os.fsdecode(unquote_to_bytes(path)).split("/")[1:]
            place = self._place(names)
            if place is None:
                return None
            if place.is_dir():
                if names and names[-1]:
                    return Moved(f"{path}/")
                place = self._place([*names[:-1], INDEX])
            return None if place is None else _opened(place)
        except (OSError, ValueError):
            return None

    def _place(self, names: list[str]) -> Path | None:
        if any(name in ("..", ".") or "\0" in name or "/" in name for name in names):
            return None
        root = os.path.realpath(self.root)
        place = os.path.realpath(os.path.join(root, *names))  # noqa: PTH118 - names are texts
        return Path(place) if place == root or place.startswith(f"{root}{os.sep}") else None


def _opened(place: Path) -> ServedFile | None:
    handle = os.open(place, _OPEN)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return None
    return ServedFile(os.fdopen(handle, "rb"), status.st_size, media_type(place.name))


def media_type(name: str) -> str:
    """By the end of a file's name."""
    if name in _PLAIN_NAMES:
        return "text/plain; charset=utf-8"
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - `.versions.json` has one
    return _TYPES.get(ending) or mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"


def site_server(site: Path, port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 for a site, which does not run yet. port: 0 for any that is free. SiteError for a
    folder that is no site, and for a port that cannot be had."""
    if not (site / INDEX).is_file():
        raise SiteError(f"{site} is no site: it has no {INDEX}", hint="publish OUT SITE makes one")
    files = Files(site)

    class Handler(_Handler):
        found_in = files

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise SiteError(
            f"port {port} of 127.0.0.1 cannot be had: {reason}", hint="--port names another"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD, nothing else."""

    found_in: Files
    server_version = "owrt-python"
    sys_version = ""
    timeout = 60  # seconds without a byte

    def do_GET(self) -> None:
        self._answer(whole=True)

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def _answer(self, *, whole: bool) -> None:
        found = self.found_in.find(self.path)
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if isinstance(found, Moved):
            self.send_response(HTTPStatus.MOVED_PERMANENTLY)
            self.send_header("Location", found.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with found.stream:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(found.size))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if whole:
                shutil.copyfileobj(found.stream, self.wfile)

    def log_message(self, _format: str, *_values: object) -> None:
        """Nothing: who looks at a site wants to see it."""
