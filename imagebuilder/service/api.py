"""The API that OpenWrt's own clients speak, as an ASGI application.

Routes, status codes and headers are those of asu (routers/api.py, main.py) as owut, LuCI's attended
sysupgrade and the firmware selector use them; the download server's layout comes along, so that a client
needs no other server.
What differs: `detail` is always one text, which is all that clients show.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagebuilder import __version__
from imagebuilder.log import Log
from imagebuilder.service import documents
from imagebuilder.service.asked import MOST_BODY, RefusedRequestError, parse_request
from imagebuilder.service.builds import BuildAnswer, Builds
from imagebuilder.service.records import NUMBER
from imagebuilder.service.served import Served, ServedBoards, folder_of

BODY_SECONDS = 30.0  # in which a client has to send its request
_METHODS = ["GET", "HEAD", "POST", "OPTIONS"]
_READ = ["GET", "HEAD"]
_SHOWN_OF_PATH = 200  # characters
_NUMBERS, _SHORT = re.compile("[0-9a-f]{64}"), 12


def make_api(builds: Builds, log: Log) -> FastAPI:
    """The application. log: gets a line for each request, without what clients send."""
    api = FastAPI(
        title="OpenWrt build server", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    catalogue = builds.catalogue
    _add_errors(api)
    _add_builds(api, builds)
    _add_lists(api, catalogue)
    _add_server_layout(api, catalogue)
    _add_page(api, catalogue)
    api.add_middleware(
        CORSMiddleware,
        allow_origins=list(catalogue.options.origins),
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=["X-Imagebuilder-Status", "X-Queue-Position"],
    )
    api.add_middleware(_Plain, log=log)
    return api


class _Plain:
    """Takes `//api` for `/api`, as of an address that ends in /, and says a line of each request."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = re.sub("/{2,}", "/", scope["path"])
        began, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, noted)
        finally:
            client = (scope.get("client") or ("-",))[0]
            took = f"{(time.monotonic() - began) * 1000:.0f} ms"
            # who knows a whole number can fetch what it stands for
            shown = _NUMBERS.sub(lambda found: found[0][:_SHORT], path)[:_SHOWN_OF_PATH]
            self._log.note(f"{client} {scope['method']} {shown!a} {status or '-'} {took}")


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(RefusedRequestError)
    async def refused(_: Request, error: RefusedRequestError) -> Response:
        title = {} if error.title is None else {"title": error.title}
        headers = {"Retry-After": "60"} if error.status >= 500 else {}
        return JSONResponse({"detail": error.message, "status": error.status, **title}, error.status, headers)

    @api.exception_handler(StarletteHTTPException)
    async def other(_: Request, error: StarletteHTTPException) -> Response:
        facts = {"detail": str(error.detail), "status": error.status_code}
        return JSONResponse(facts, error.status_code, error.headers)


def _add_builds(api: FastAPI, builds: Builds) -> None:
    @api.post("/api/v1/build")
    async def ask(request: Request) -> Response:
        body = await _body(request)
        return _response(await run_in_threadpool(lambda: builds.take(parse_request(body))))

    @api.api_route("/api/v1/build/{number}", methods=_READ)
    def status(number: str) -> Response:
        found = builds.answer(number) if NUMBER.fullmatch(number) else None
        if found is None:
            raise RefusedRequestError("could not find provided request hash", status=404, title="Not Found")
        return _response(found)

    @api.api_route("/store/{number}/{name}", methods=_READ)
    def store(number: str, name: str) -> Response:
        file = builds.file(number, name) if NUMBER.fullmatch(number) else None
        if file is None:
            raise HTTPException(404, "Not found")
        return FileResponse(
            file,
            media_type="application/octet-stream",
            filename=name,
            headers={"X-Content-Type-Options": "nosniff"},
        )

    @api.get("/api/v1/stats")
    def stats() -> dict[str, int]:
        return {"queue_length": builds.waiting()}


async def _body(request: Request) -> bytes:
    """The body of a request. RefusedRequestError for a large one, and for one that does not come."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > MOST_BODY:
                    raise RefusedRequestError(f"the request has more than {MOST_BODY} bytes", status=413)
    except TimeoutError:
        raise RefusedRequestError("the request does not come", status=408) from None
    return bytes(data)


def _response(answer: BuildAnswer) -> Response:
    return JSONResponse(answer.document, answer.status, dict(answer.headers))


def _add_lists(api: FastAPI, catalogue: ServedBoards) -> None:
    """asu's lists. What stands in the middle of a path is a release's folder, with a `/` in it."""

    @api.get("/json/v1/overview.json")
    def overview(request: Request) -> dict[str, Any]:
        return documents.overview(catalogue, _address(request))

    @api.get("/json/v1/latest.json")
    def latest() -> dict[str, Any]:
        return documents.latest(catalogue)

    @api.get("/json/v1/branches.json")
    def branches() -> list[dict[str, Any]]:
        return list(documents.branches(catalogue).values())

    for path in ("/api/v1/overview", "/api/overview", "/overview"):
        api.add_api_route(path, _leads_to("/json/v1/overview.json"), methods=_READ)
    api.add_api_route("/api/v1/latest", _leads_to("/json/v1/latest.json"), methods=_READ)

    @api.get("/api/v1/revision/{version}/{target}/{subtarget}")
    def revision(version: str, target: str, subtarget: str) -> dict[str, str]:
        served = catalogue.of_target(folder_of(version), f"{target}/{subtarget}")
        if not served:
            raise RefusedRequestError(f"Unsupported version or target: {version} {target}/{subtarget}")
        return {"revision": served[0].facts.revision}

    @api.get("/json/v1/{folder:path}/targets/{target}/{subtarget}/index.json")
    def target_index(folder: str, target: str, subtarget: str) -> dict[str, Any]:
        return documents.target_index(_of_target(catalogue, folder, target, subtarget)[0])

    @api.get("/json/v1/{folder:path}/packages/{arch}-index.json")
    def feeds_index(folder: str, arch: str) -> dict[str, Any]:
        served = [each for each in catalogue.served if (each.folder, each.tree.arch) == (folder, arch)]
        return documents.feeds_index(_some(served))

    @api.get("/json/v1/{folder:path}/targets/{target}/{subtarget}/{profile}.json")
    def profile(folder: str, target: str, subtarget: str, profile: str) -> dict[str, Any]:
        of_target = _of_target(catalogue, folder, target, subtarget)
        named = [each for each in of_target if each.profile.name == profile]
        return documents.profile_facts(named[0]) if named else {}


def _leads_to(place: str) -> Callable[[], Response]:
    def leads() -> Response:
        return RedirectResponse(place, status_code=301)

    return leads


def _add_server_layout(api: FastAPI, catalogue: ServedBoards) -> None:
    """The lists of OpenWrt's download server, for owut and the firmware selector."""

    @api.get("/.versions.json")
    def versions() -> dict[str, Any]:
        return documents.versions(catalogue)

    @api.get("/{folder:path}/.overview.json")
    def release(folder: str) -> dict[str, Any]:
        (version,) = {each.version for each in _some(_of_folder(catalogue, folder))}
        return documents.release_overview(catalogue, version)

    @api.get("/{folder:path}/.targets.json")
    def targets(folder: str) -> dict[str, str]:
        return {each.tree.target: each.tree.arch for each in _some(_of_folder(catalogue, folder))}

    @api.get("/{folder:path}/targets/{target}/{subtarget}/profiles.json")
    def profiles(folder: str, target: str, subtarget: str) -> dict[str, Any]:
        return documents.target_facts(_of_target(catalogue, folder, target, subtarget))


def _of_folder(catalogue: ServedBoards, folder: str) -> list[Served]:
    return [each for each in catalogue.served if each.folder == folder]


def _of_target(catalogue: ServedBoards, folder: str, target: str, subtarget: str) -> list[Served]:
    return _some(list(catalogue.of_target(folder, f"{target}/{subtarget}")))


def _some(served: list[Served]) -> list[Served]:
    if not served:
        raise HTTPException(404, "Not found: this server does not build it")
    return served


def _address(request: Request) -> str:
    """Where the client found this server."""
    return str(request.base_url).rstrip("/")


def _add_page(api: FastAPI, catalogue: ServedBoards) -> None:
    page = "".join(_page(catalogue))

    @api.get("/", response_class=HTMLResponse)
    def start() -> str:
        return page


def _page(catalogue: ServedBoards) -> Iterator[str]:
    """For who opens the server's address in a browser."""
    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>OpenWrt build server</title>'
        "<style>:root{color-scheme:light dark;font-family:sans-serif}body{max-width:60em;margin:2em auto;"
        "padding:0 1em}td{padding:.2em 1em .2em 0}</style><h1>OpenWrt build server</h1>"
        "<p>It builds for owut, LuCI's attended sysupgrade and the firmware selector, which are given this"
        " page's address.</p><table>"
    )
    for each in catalogue.served:
        cells = (each.version, each.tree.target, each.profile.name, each.board.name)
        yield f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
    yield "</table></html>"
