"""Work in processes of their own, which may be killed at any time and take nothing with them.

They are copies (fork(2)) of a maker: a process that is this program started anew, with what the work needs
loaded, and without threads. To start the program for each piece of work would take half a second each; to
copy this process would be quicker too, but whoever has threads (a server, a live display) may hold a lock
then that nobody in the copy ever lets go. multiprocessing's own forkserver is not taken: its socket lies in a
folder that stays when this process is killed, and nobody ends its children then.

Each child has a process group of its own, so that a terminal's Ctrl-C is this process's alone to act on. None
outlives its maker (PR_SET_PDEATHSIG), nor the maker this process, whose end of their socket closes then; both
by SIGTERM, which lets the work stop its own programs and remove what it began.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from imagebuilder.called import OPTION, called
from imagebuilder.errors import HostError, TerminatedError

GRACE_SECONDS = (
    20.0  # for what SIGTERM ends: make has TERMINATE_SECONDS of host.run, then folders are removed
)
_START, _SIGNAL, _LOAD = b"S", b"K", b"L"
_MOST_BYTES = 64 << 10  # of what is asked of a maker at once
_KILL = struct.Struct("=ii")  # a child's number, a signal
_STATUS = struct.Struct("=cq")  # what is said of a child, and a number
_STARTED, _EXITED, _NOT_STARTED = b"P", b"X", b"N"
_PR_SET_PDEATHSIG = 1
_TRIES = 3
_NO_MEMORY = "is this machine short of memory?"
_SERVE = "import sys; sys.path[:] = sys.argv[2:]; from imagebuilder.host import children; children.serve()"

Entry = Callable[..., None]


class ChildError(HostError):
    """No process could be had for a piece of work."""


@dataclass
class Child:
    """A piece of work in a process of its own. connection: what it sends, pickled, until it closes its end.
    process: its number. status: a descriptor that can be read from once it has ended."""

    connection: Connection
    process: int
    status: int
    _maker: ChildMaker

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended; SIGKILL to all its group, and to what it started."""
        self._maker.signal(self.process, number)

    def wait(self) -> int | None:
        """Wait until it has ended: its exit code, or minus the signal that ended it; None where nobody knows,
        since its maker was killed. Then the kernel sent it SIGTERM, and it goes on for as long as its
        connection is open."""
        kind, number = _told(self.status)
        return os.waitstatus_to_exitcode(number) if kind == _EXITED else None

    def close(self) -> None:
        """To be called once at the end, after wait()."""
        self.connection.close()
        os.close(self.status)


class ChildMaker:
    """Starts children, for any thread. load: modules that the maker loads before the first is made."""

    def __init__(self, load: Sequence[str] = ()) -> None:
        self._load = tuple(load)
        self._control: socket.socket | None = None
        self._process = 0
        self._lock = threading.Lock()

    def ready(self) -> None:
        """Begin the maker, if it is not there: what it loads is loaded meanwhile. ChildError."""
        with self._lock:
            self._begun()

    def start(self, entry: Entry, *arguments: object) -> Child:
        """Call a function of a module in a child: with the connection to this process, then the arguments,
        which are pickled. HostError where there is no process to be had."""
        work = pickle.dumps((entry, arguments))
        for _ in range(_TRIES):
            ours, theirs = socket.socketpair()
            status, told = os.pipe()
            try:
                with suppress(OSError):  # the maker was killed: seen below
                    self._ask(_START, (theirs.fileno(), told))
            finally:
                theirs.close()
                os.close(told)
            kind, number = _told(status)
            if kind == _STARTED:
                connection = Connection(ours.detach())
                with suppress(OSError):  # it was killed already: wait() tells
                    connection.send_bytes(work)
                return Child(connection, number, status, self)
            ours.close()
            os.close(status)
            if kind == _NOT_STARTED:
                raise ChildError(f"no process can be started: {os.strerror(number)}", hint=_NO_MEMORY)
            self._drop()
        raise ChildError("the process that starts others is killed again and again", hint=_NO_MEMORY)

    def signal(self, process: int, number: int) -> None:
        """Send a child a signal, by its maker, who knows whether it has ended."""
        with self._lock:
            if self._control is not None:
                with suppress(OSError):  # it is dead, and they are told so by the kernel
                    self._control.send(_SIGNAL + _KILL.pack(process, number))

    def load(self, modules: Sequence[str]) -> None:
        """Have the maker load modules that a child had to load: those that follow have them."""
        self._load = tuple(dict.fromkeys((*self._load, *modules)))
        with self._lock:
            if self._control is not None:
                with suppress(OSError):  # it is dead; the next one loads them
                    self._control.send((_LOAD + ",".join(modules).encode())[:_MOST_BYTES])

    def close(self) -> None:
        """End the maker, and what of its children is left; waits for it."""
        self._drop()

    def _ask(self, what: bytes, handles: Sequence[int]) -> None:
        with self._lock:
            socket.send_fds(self._begun(), [what], handles)

    def _begun(self) -> socket.socket:
        """The way to the maker."""
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            flags = [word for word, on in (("-I", sys.flags.isolated), ("-E", _no_environment())) if on]
            argv = [sys.executable, *flags, "-P", "-X", f"{OPTION}={called()}", "-c", _SERVE]
            self._process = os.posix_spawn(
                sys.executable,
                [*argv, ",".join(self._load), *(str(Path(folder).absolute()) for folder in sys.path)],
                os.environ,
                # standard input is the way to us; nothing that is printed reaches our standard output
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, 2, 1),
                ],
                setpgroup=0,
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE],
            )
        except OSError as error:
            ours.close()
            raise ChildError(f"no process can be started: {error.strerror}") from error
        finally:
            theirs.close()
        self._control = ours
        return ours

    def _drop(self) -> None:
        with self._lock:
            control, process, self._control = self._control, self._process, None
        if control is not None:
            control.close()
            with suppress(ChildProcessError):
                os.waitpid(process, 0)

    def __enter__(self) -> ChildMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _no_environment() -> bool:
    return bool(sys.flags.ignore_environment) and not sys.flags.isolated


def _told(status: int) -> tuple[bytes, int]:
    """What the maker says of a child next; nothing where the maker is dead."""
    data = b""
    while len(data) < _STATUS.size:
        piece = os.read(status, _STATUS.size - len(data))
        if not piece:
            return b"", 0
        data += piece
    kind, number = _STATUS.unpack(data)
    return kind, number


# What follows runs in the maker.


def serve() -> None:
    """Be a maker: start what standard input asks for, until it closes; then end what is left."""
    gc.set_threshold(300_000)  # as in cli.run_and_leave(): a child does one thing, and ends
    for name in filter(None, sys.argv[1].split(",")):
        importlib.import_module(name)
    gc.freeze()
    control = socket.socket(fileno=os.dup(0))
    with Path("/dev/null").open() as nothing:
        os.dup2(nothing.fileno(), 0)
    control.set_inheritable(False)
    maker = _Maker(control)
    try:
        maker.serve()
    finally:
        maker.end_all()


class _Maker:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # the end of the pipe on which each is told of
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        with suppress(BlockingIOError):
                            self._woken.recv(4096)
                        self._reap()
                    elif not self._answer():
                        return

    def _answer(self) -> bool:
        """Do what was asked for; False where nobody asks any more."""
        data, handles, _, _ = socket.recv_fds(self._control, _MOST_BYTES, 2)
        for handle in handles:
            os.set_inheritable(handle, False)
        if data == _START:
            self._start(*handles)
        elif data.startswith(_SIGNAL):
            process, number = _KILL.unpack(data[1:])
            self._signal(process, number)
        elif data.startswith(_LOAD):
            for name in data[1:].decode().split(","):
                with suppress(ImportError):  # a child could load it under some other condition
                    importlib.import_module(name)
            gc.freeze()
        return bool(data)

    def _start(self, connection: int, status: int) -> None:
        maker = os.getpid()
        try:
            child = os.fork()
        except OSError as error:
            os.write(status, _STATUS.pack(_NOT_STARTED, error.errno or 0))
            os.close(status)
            os.close(connection)
            return
        if child == 0:
            self._be_child(connection, status, maker)
        with suppress(OSError):  # it has done so itself, and may have ended
            os.setpgid(child, child)
        os.close(connection)
        self._children[child] = status
        _tell(status, _STARTED, child)

    def _be_child(self, connection: int, status: int, maker: int) -> None:
        """The child: whatever happens, it ends here."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            for handle in (status, *self._children.values()):
                os.close(handle)
            for end in (self._control, self._woken, self._wake):
                end.close()
            if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) or os.getppid() != maker:
                os._exit(code)
            work_of(Connection(connection))
            code = 0
        except EOFError:
            pass  # who asked for it is gone
        except TerminatedError:
            code = 128 + signal.SIGTERM
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(code)

    def _signal(self, process: int, number: int) -> None:
        if process not in self._children:
            return
        with suppress(ProcessLookupError):
            if number != signal.SIGKILL:
                os.kill(process, number)
                return
            below = _descendants(process)
            os.killpg(process, number)
            for each in below:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(each, number)

    def _reap(self) -> None:
        while self._children:
            try:
                process, result = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            status = self._children.pop(process, None)
            if status is not None:
                _tell(status, _EXITED, result)
                os.close(status)

    def end_all(self) -> None:
        """End all children, gently first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in list(self._children):
                self._signal(process, number)
            until = time.monotonic() + GRACE_SECONDS
            while self._children and time.monotonic() < until:
                self._reap()
                time.sleep(0.01)


def work_of(connection: Connection) -> None:
    """Do what comes through the connection first."""
    entry, arguments = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the process that made us
    entry(connection, *arguments)


def _tell(status: int, kind: bytes, number: int) -> None:
    with suppress(BrokenPipeError):  # who asked is gone, and we shall be told
        os.write(status, _STATUS.pack(kind, number))


def _descendants(process: int) -> list[int]:
    """The processes below one, in whatever groups and sessions they are."""
    found, left = [], [process]
    while left:
        for place in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            with suppress(OSError):
                below = [int(word) for word in place.read_text().split()]
                found += below
                left += below
    return found


def peak_memory() -> int:
    """Bytes that this process had at most, and the largest of its programs with it."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024
