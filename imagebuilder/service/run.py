"""The build server as a process: its address, and how it ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.called import typed
from imagebuilder.errors import HostError
from imagebuilder.fleet.job import HandedOver
from imagebuilder.fleet.scheduler import Scheduler
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone
from imagebuilder.log import Log
from imagebuilder.service.builds import Builds
from imagebuilder.service.served import ServedBoards

if TYPE_CHECKING:
    import uvicorn

_LOOPBACK = ("127.", "::1", "localhost")
_CLIENTS = 256  # connections at once; more are told to come back later
_ENDING = (signal.SIGTERM, signal.SIGINT)
_WAITS = "another build server works in"
_GRACE = 3  # seconds for answers that are being given when the server ends


def require_server() -> None:
    """HostError, with what to install, where the packages of the extra `server` are not there."""
    try:
        import fastapi  # noqa: F401, PLC0415 - an extra
        import uvicorn  # noqa: F401, PLC0415
    except ImportError as error:
        raise HostError(
            f"the build server needs the Python package {error.name}, which is not installed",
            hint="pip install 'openwrt-python-imagebuilder[server]', or: pip install fastapi uvicorn",
        ) from error


def serve(
    catalogue: ServedBoards,
    folder: Path,
    scheduler: Scheduler[HandedOver],
    log: Log,
    *,
    host: str,
    port: int,
    at_once: int,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT: then builds that run are ended, and the next server builds them again.

    folder: for what stays, of one server at a time. port: 0 for any; at_once: builds; ready: is given the
    address. HostError for an address that cannot be had, and as require_server(); UserError for a damaged
    record.
    """
    require_server()
    with ExitStack() as stack:
        with disk_errors_explained(folder):
            stack.enter_context(alone(folder, lambda: log.note(f"{_WAITS} {folder}: waiting for it")))
        listening = _listen(host, port)
        shown = _address(listening)
        if not host.startswith(_LOOPBACK):
            log.warn(
                f"everybody who reaches {shown} can have images built: nobody is asked who he is, and"
                " nothing is encrypted"
            )
        server: list[uvicorn.Server] = []

        def broken() -> None:
            for each in server:
                each.should_exit = True

        builds = Builds(catalogue, folder, scheduler, log, at_once=at_once, broken=broken)
        server.append(_server(builds, log))
        builds.start()
        try:
            listening.listen()  # from now on who comes waits for the server, and is not turned away
            ready(shown)
            server[0].run(sockets=[listening])
        finally:
            builds.stop()


def _server(builds: Builds, log: Log) -> uvicorn.Server:
    import uvicorn  # noqa: PLC0415 - an extra

    from imagebuilder.service.api import make_api  # noqa: PLC0415 - it wants the extra too

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """uvicorn raises signals again when it has ended: here they end it, and no more."""
            former = {each: signal.signal(each, self.handle_exit) for each in _ENDING}
            try:
                yield
            finally:
                for each, handler in former.items():
                    signal.signal(each, handler)

    return Server(
        uvicorn.Config(
            make_api(builds, log),
            log_config=None,
            access_log=False,
            limit_concurrency=_CLIENTS,
            timeout_graceful_shutdown=_GRACE,
            server_header=False,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise HostError(
            f"cannot listen at {host}, port {port}: {error.strerror}",
            hint=f"choose another one: {typed('serve --builder --port 8001')}",
        ) from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
