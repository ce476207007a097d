"""What goes to the workers of a cluster and comes back, in pieces: nobody holds a whole image in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distributed import Client
from distributed.comm.core import CommClosedError

from imagebuilder.fleet.job import Ended, HandedOver
from imagebuilder.fleet.parcel import Parcel
from imagebuilder.fleet.worker import ParcelPiece, Ran, SentFile, give_piece, let_go, take_piece
from imagebuilder.host.handover import temporary_folder
from imagebuilder.log import Event, Progress
from imagebuilder.report.files import BUILD_LOG
from imagebuilder.workspace import open_workspace

_PIECE_BYTES = 4 << 20


class CarriageError(Exception):
    """A file that did not arrive as it left."""


class _LostError(Exception):
    """A worker that does not answer."""


GONE = (CommClosedError, CarriageError, _LostError)  # what a worker that is gone ends a conversation with


class Carrier:
    """Speaks with workers, past the queue of their jobs. session: of the client's command."""

    def __init__(self, client: Client, session: str) -> None:
        self._client, self._session = client, session
        self._sent: set[tuple[str, str]] = set()

    def _ask(self, worker: str, function: Callable[..., object], *arguments: object) -> object:
        """What a function gives on a worker. GONE where that is."""
        try:
            answers = self._client.run(function, *arguments, workers=[worker])
        except (OSError, ValueError) as error:  # ValueError: Dask knows it no more
            raise _LostError(f"{worker}: {error}") from error
        if worker not in answers:
            raise _LostError(worker)
        return answers[worker]

    def send(self, parcel: Parcel, worker: str, tell: Callable[[Event], None]) -> None:
        """Send a parcel to a worker, unless that has been done. GONE where the worker is."""
        if (parcel.key, worker) in self._sent:
            return
        with temporary_folder("scratch") as folder:
            file = folder / "parcel"
            parcel.write(file)
            size, offset, last = file.stat().st_size, 0, False
            with file.open("rb") as stream:
                while not last:
                    data = stream.read(_PIECE_BYTES)
                    last = offset + len(data) >= size
                    self._ask(worker, take_piece, ParcelPiece(parcel, self._session, offset, data, last))
                    offset += len(data)
                    tell(Progress(f"sending to {worker}", offset, size))
        self._sent.add((parcel.key, worker))

    def fetched(self, ran: Ran) -> Ended[HandedOver]:
        """The end of a job, with its result fetched and in its place, or the log of a build that failed. GONE
        where the worker is."""
        ended = ran.ended
        if ended.found is not None or ran.failure_log is not None:
            ended = self._placed(ran)
        self._ask(ran.worker, let_go, ran.number)
        return ended

    def _placed(self, ran: Ran) -> Ended[HandedOver]:
        ended, request = ran.ended, ran.ended.job.request
        with open_workspace(request.output, request.config_name(), request.board) as workspace:
            for file in ran.files:
                self._fetch(file, ran.worker, workspace.result)
            if ended.found is not None:
                workspace.hand_over()
                return replace(ended, found=replace(ended.found, folder=workspace.place))
            if ran.failure_log is not None:
                self._fetch(replace(ran.failure_log, name=BUILD_LOG), ran.worker, workspace.result)
                workspace.keep_failure_log()
        return ended

    def _fetch(self, file: SentFile, worker: str, folder: Path) -> None:
        place, found, left = folder / file.name, hashlib.sha256(), file.size
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as stream:
            while left > 0:
                data = self._ask(worker, give_piece, file.place, file.size - left, _PIECE_BYTES)
                if not isinstance(data, bytes) or not data:
                    raise CarriageError(f"{worker} has less of {file.name} than it said")
                stream.write(data)
                found.update(data)
                left -= len(data)
        if found.hexdigest() != file.sha256:
            raise CarriageError(f"{file.name} did not arrive from {worker} as it left")
        place.chmod(file.mode)
