"""One file from one place to the disk: over HTTP with resume, retries and limits, or from a folder.

Resume: RFC 9110, sections 14 (Range, Content-Range) and 13.1.5 (If-Range).
"""

from __future__ import annotations

import errno
import os
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import tenacity

from imagebuilder import __version__
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.fs import CHUNK_BYTES
from imagebuilder.host.refusals import PROXY_HINT, used_proxies
from imagebuilder.host.transfer_part import (
    DownloadError,
    InterruptedTransfersError,
    NotThereError,
    PartialFile,
    Source,
)

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_THERE = frozenset({404, 410})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_MAX_RETRY_AFTER = 60.0


class _TransientError(DownloadError):
    """Worth another try. after: seconds that the server asks to wait, or 0; reached: whether there was a
    connection."""

    def __init__(self, message: str, after: float = 0.0, *, reached: bool = True) -> None:
        super().__init__(message)
        self.after, self.reached = after, reached


@dataclass(frozen=True)
class Patience:
    """How long and how often.

    attempts: tries for each file and place. connect, read: seconds without an answer or a byte. slow_bytes in
    slow_seconds: the least that counts as going on. redirects: how many are followed. sleep, clock: what
    waits (seconds) and what measures (monotonic seconds).
    """

    attempts: int = 5
    connect: float = 15.0
    read: float = 30.0
    slow_bytes: int = 30 << 10
    slow_seconds: float = 60.0
    redirects: int = 5
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


class Transfers:
    """Fetches files; one for many transfers, also at the same time. Use it as a context manager.

    given_up: servers (host and port) that could not be reached in all attempts at some file, which is known
    beyond these transfers: for each further file they get one attempt, until one succeeds.
    """

    def __init__(self, patience: Patience | None = None, given_up: set[str] | None = None) -> None:
        self._patience = patience or Patience()
        self._silent = given_up
        self._client: httpx.Client | None = None
        self._making = threading.Lock()
        self._given_up = threading.Event()

    def __enter__(self) -> Transfers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def give_up(self) -> None:
        """Let the transfers that are going on end with InterruptedTransfersError, and any later one."""
        self._given_up.set()

    def save(
        self,
        source: Source,
        part: PartialFile,
        *,
        checked: bool = False,
        tell: Callable[[str], None] = lambda _text: None,
    ) -> bool:
        """Bring a file to a part's place, going on with what is there of it; whether it did go on with some.

        checked: the caller compares the content afterwards, so that any part may be continued, also one of a
        place that cannot say whether its file is still the same. tell: called with a sentence before each new
        try. NotThereError, DownloadError; HostError and OSError for a disk that is too small. What has come
        so far stays, unless the disk was full.
        """
        try:
            if source.remote:
                return self._fetch(source, part, checked=checked, tell=tell)
            self._copy(source, part)
            return False
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                part.forget()
            raise

    def client(self) -> httpx.Client:
        """The HTTP client; made when it is first needed, because certificates take a while to load."""
        with self._making:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> httpx.Client:
        try:
            return httpx.Client(
                follow_redirects=True,
                max_redirects=self._patience.redirects,
                timeout=httpx.Timeout(self._patience.read, connect=self._patience.connect),
                headers={
                    "User-Agent": f"openwrt-python-imagebuilder/{__version__}",
                    "Accept-Encoding": "identity",
                },
            )
        except (ValueError, httpx.InvalidURL) as error:  # a proxy of a kind that httpx does not know
            named = " and ".join(used_proxies(os.environ))
            raise HostError(f"the proxy {named} cannot be used", hint=PROXY_HINT) from error

    def watched(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks, as long as they come fast enough and nobody gives up."""
        since, came = self._patience.clock(), 0
        for chunk in chunks:
            if self._given_up.is_set():
                raise InterruptedTransfersError("given up: the work was interrupted")
            yield chunk
            came += len(chunk)
            now = self._patience.clock()
            if now - since >= self._patience.slow_seconds:
                if came < self._patience.slow_bytes:
                    raise _TransientError(f"only {came} bytes came in {now - since:.0f} s")
                since, came = now, 0

    def _fetch(
        self, source: Source, part: PartialFile, *, checked: bool, tell: Callable[[str], None]
    ) -> bool:
        attempt = _Attempt(self, source, part, checked)
        server = source.address.split("/")[2]
        silent = self._silent is not None and server in self._silent
        attempts = 1 if silent else self._patience.attempts
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            stop=tenacity.stop_after_attempt(attempts),
            wait=_wait,
            sleep=self._patience.sleep,
            before_sleep=lambda state: tell(_again(source, state)),
            reraise=True,
        )
        try:
            tries(attempt.run)
        except _TransientError as error:
            if self._silent is not None and not error.reached:
                self._silent.add(server)
            times = f"{attempts} times" if attempts > 1 else "once"
            times += ", as it could not be reached before" if silent else ""
            raise DownloadError(
                f"{source.address}: {error.message} (tried {times})",
                hint="try again later (what has come so far is kept), or give another mirror",
            ) from error
        if self._silent is not None:
            self._silent.discard(server)
        return attempt.continued

    def _copy(self, source: Source, part: PartialFile) -> None:
        part.forget()
        path = Path(source.address)
        if not path.is_file():
            raise NotThereError(f"{source.address}: there is no such file")
        total = path.stat().st_size
        part.check_room(source, total)
        with path.open("rb") as stream:
            part.append(self.watched(iter(lambda: stream.read(CHUNK_BYTES), b"")), source, total)


@dataclass
class _Attempt:
    """The tries at one file from one place."""

    transfers: Transfers
    source: Source
    part: PartialFile
    checked: bool
    continued: bool = False

    def run(self) -> None:
        """One try. _TransientError where another is worthwhile."""
        client = self.transfers.client()
        headers = self._range()
        try:
            auth = None if self.source.auth is None else httpx.BasicAuth(*self.source.auth)
            with client.stream("GET", self.source.address, headers=headers, auth=auth) as response:
                self._receive(response)
        except httpx.TooManyRedirects as error:
            raise DownloadError(f"{self.source.address}: redirects without end") from error
        except httpx.TimeoutException as error:
            said = f"no answer within its time{_through(self.source.address)}"
            raise _TransientError(said, reached=not isinstance(error, httpx.ConnectTimeout)) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise DownloadError(
                f"{self.source.address}: leads to an address that is no web address"
            ) from error
        except httpx.ProxyError as error:
            raise _proxy_refuses(self.source, str(error)) from error
        except httpx.TransportError as error:
            if _certificate_refused(error):
                raise DownloadError(
                    f"{self.source.address}: its certificate is not trusted: {error}",
                    hint="is this machine's clock right? SSL_CERT_FILE names other certificates to trust",
                ) from error
            said = str(error) or type(error).__name__
            raise _TransientError(
                f"{said}{_through(self.source.address)}", reached=not isinstance(error, httpx.ConnectError)
            ) from error

    def _range(self) -> dict[str, str]:
        """The headers that ask for the rest of what is there. A part of unknown origin is begun anew."""
        have = self.part.size()
        if not have:
            return {}
        known = self.part.validator(self.source)
        if known is None and not self.checked:
            self.part.forget()
            return {}
        return {"Range": f"bytes={have}-", **({"If-Range": known} if known else {})}

    def _receive(self, response: httpx.Response) -> None:
        hops = [*response.history, response]
        if self.source.address.startswith("https://") and any(hop.url.scheme != "https" for hop in hops):
            raise DownloadError(f"{self.source.address}: redirects to an address that is not https")
        have = self._begin(response)
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        if response.headers.get("Content-Encoding", "identity") not in ("identity", ""):
            raise DownloadError(f"{self.source.address}: came encoded, although that was not asked for")
        if total is not None:
            self.part.check_room(self.source, total)
        chunks = self.transfers.watched(response.iter_raw())
        self.part.append(chunks, self.source, total)

    def _begin(self, response: httpx.Response) -> int:
        """How many bytes the answer continues at; 0 for a whole file. Errors for all other answers."""
        status, have = response.status_code, self.part.size()
        if status == httpx.codes.OK:
            self.part.forget()
            self.part.note_origin(self.source, response.headers)
            return 0
        if status == httpx.codes.PARTIAL_CONTENT:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if have and match is not None and int(match[1]) == have:
                self.continued = True
                return have
            self.part.forget()
            raise _TransientError("it sent another part of the file than was asked for")
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            self.part.forget()
            raise _TransientError("it has no such part of the file")
        if status in _NOT_THERE:
            raise NotThereError(f"{self.source.address}: there is no such file (HTTP {status})")
        if status == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise _proxy_refuses(self.source, f"{status} {response.reason_phrase}")
        if status in _TRANSIENT_STATUS:
            raise _TransientError(f"HTTP {status}", _retry_after(response.headers))
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise DownloadError(f"{self.source.address}: access is refused (HTTP {status})")
        raise DownloadError(f"{self.source.address}: HTTP {status}")


def _through(address: str) -> str:
    """The proxies that a request may have gone through, for an error, as the environment says."""
    proxies = used_proxies(os.environ)
    host = httpx.URL(address).host
    if not proxies or urllib.request.proxy_bypass(host):
        return ""
    return f", through {' or '.join(proxies)}"


def _proxy_refuses(source: Source, said: str) -> DownloadError:
    return DownloadError(
        f"{source.address}: the proxy refuses: {said}{_through(source.address)}", hint=PROXY_HINT
    )


def _retry_after(headers: httpx.Headers) -> float:
    given = headers.get("Retry-After", "")
    return min(float(given), _MAX_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,9}", given) else 0.0


_backoff = tenacity.wait_exponential_jitter(initial=1.0, max=30.0)


def _wait(state: tenacity.RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome is not None else None
    asked = failed.after if isinstance(failed, _TransientError) else 0.0
    return max(_backoff(state), asked)


def _again(source: Source, state: tenacity.RetryCallState) -> str:
    failed = state.outcome.exception() if state.outcome is not None else None
    why = failed.message if isinstance(failed, UserError) else ""
    return f"{source.address}: {why}; trying again in {state.upcoming_sleep:.0f} s"


def _certificate_refused(error: BaseException) -> bool:
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, ssl.SSLCertVerificationError):
            return True
        at = at.__cause__ or at.__context__
    return False
