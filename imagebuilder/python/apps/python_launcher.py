"""Keeps one interpreter warm: each run of a program is a child forked off it, so that neither Python nor the
modules that it has imported start anew.

Never imported here: it is packed as the program python-launcher, and runs on the device, on Python 3.6 and
later, with modules of python3-light alone. Its arguments: a folder that only its user may enter, the folder
with the programs, and modules to import beforehand.

Who wants a run (warm.py has the shell script) makes a named pipe there, called by its process number, and
writes that number into `requests`. All else the kernel knows of it: arguments, environment, folder, streams.
Whoever removes the pipe first decides: the launcher, which answers with the child's number and later its exit
code; or who asked, and starts an interpreter of its own.
"""

import atexit
import gc
import os
import signal
import sys

__version__ = "1"

QUIET = (signal.SIGCHLD, signal.SIGTERM)  # while a child is not written down yet


def warm(modules: "list[str]") -> None:
    """Import modules for the children to come."""
    for module in modules:
        try:
            __import__(module)
        except Exception as error:  # noqa: BLE001 - its programs meet it too, and only they
            sys.stderr.write(f"{module}: {error!r}\n")
    gc.collect()
    if hasattr(gc, "freeze"):  # what is not looked through is not copied for a child
        gc.freeze()


def words(process: int, name: str) -> "list[str]":
    """The NUL-ended words that the kernel has of a process: `cmdline` or `environ`."""
    with open(f"/proc/{process}/{name}", "rb") as stream:
        return [os.fsdecode(word) for word in stream.read().split(b"\0")[:-1]]


def claim(place: str) -> "int | None":
    """Open a pipe for an answer and remove it; None where nobody waits for it any more."""
    try:
        answer = os.open(place, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        os.unlink(place)
    except OSError:
        os.close(answer)
        return None
    return answer


def tell(answer: int, text: str) -> None:
    """Write a line to who asked, who may be gone."""
    try:
        os.write(answer, text.encode() + b"\n")
    except OSError:
        pass


def close(*handles: int) -> None:
    """Close them all."""
    for handle in handles:
        os.close(handle)


def take(process: int, programs: str) -> "tuple[list[str], str, list[int]]":
    """The words of who asks, the program that it asks for, and its standard streams, opened again: it has
    them at 5, 6 and 7 as well. OSError where there is no such program, or that is denied: a pipe, terminal or
    folder of another user's."""
    asked = words(process, "cmdline")[1:]
    program = programs + "/" + os.path.basename(asked[0] if asked else "")
    if not os.path.isfile(program) or not os.access(f"/proc/{process}/cwd", os.X_OK):
        raise FileNotFoundError(program)
    opened = []  # type: list[int]
    try:
        for handle in (5, 6, 7):
            with open(f"/proc/{process}/fdinfo/{handle}") as stream:
                flags = next(int(line.split()[1], 8) for line in stream if line.startswith("flags:"))
            kept = flags & (os.O_ACCMODE | os.O_APPEND) | os.O_NOCTTY | os.O_NONBLOCK  # wait for nobody
            opened.append(os.open(f"/proc/{process}/fd/{handle}", kept))
            os.set_blocking(opened[-1], not flags & os.O_NONBLOCK)
    except OSError:
        close(*opened)
        raise
    return asked, program, opened


def forked() -> "int | None":
    """As os.fork(); None where no child can be had: memory is short, or there are too many processes."""
    try:
        return os.fork()
    except OSError:
        return None


def serve(folder: str, programs: str) -> "tuple[int, list[str], str, int, list[int]]":
    """Fork off a child for each request. Only children come back: with the number and the words of who asked,
    the program, the umask, and the streams."""
    asked_by = folder + "/requests"
    children = {}  # type: dict[int, int]

    def ended(*_: object, options: int = os.WNOHANG) -> None:
        for child in list(children):
            number, status = os.waitpid(child, options)
            if number:
                signalled = os.WIFSIGNALED(status)
                tell(children[child], str(128 + os.WTERMSIG(status) if signalled else os.WEXITSTATUS(status)))
                os.close(children.pop(child))

    def stop(number: int, _: object) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.unlink(asked_by)
        for child in children:
            os.kill(child, number)
        ended(options=0)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGCHLD, ended)
    for name in os.listdir(folder):  # of those that ended; whoever lives still waits beside their own
        if name == "requests" or not os.path.isdir("/proc/" + name):
            os.unlink(folder + "/" + name)
    os.mkfifo(asked_by, 0o600)
    signal.signal(signal.SIGTERM, stop)
    with open(os.open(asked_by, os.O_RDWR), "rb") as requests:
        for line in requests:
            if line.startswith(b"+"):
                warm(line[1:].decode("ascii", "replace").split())
                continue
            process = int(line) if line.strip().isdigit() else 0
            answer = claim(f"{folder}/{process}")
            if answer is None:
                continue
            try:
                asked, program, opened = take(process, programs)
            except OSError:
                tell(answer, "-")
                os.close(answer)
                continue
            # the pipe's mode is what the caller's umask left of 0666; who may not read may not enter either
            umask = 0o666 & ~os.fstat(answer).st_mode
            signal.pthread_sigmask(signal.SIG_BLOCK, QUIET)
            child = forked()
            if child == 0:
                close(answer, *children.values())
                return process, asked, program, umask | umask >> 2 & 0o111, opened
            close(*opened)
            if child is None:
                tell(answer, "-")
                os.close(answer)
            else:
                children[child] = answer
                tell(answer, str(child))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, QUIET)
    raise RuntimeError(folder + ": its pipe ended")


def become(process: int, umask: int, opened: "list[int]") -> None:
    """Take over from who asked: signals, folder, umask, environment, and the standard streams."""
    os.setsid()  # so that a signal can be sent to it with all that it starts
    for number in (*QUIET, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, QUIET)
    own = f"/proc/{process}/"
    os.chdir(own + "cwd")
    os.umask(umask)
    os.environ.clear()
    for entry in words(process, "environ"):
        name, equals, value = entry.partition("=")
        if name and equals:
            os.environ[name] = value
    for handle, stream in enumerate(opened):
        os.dup2(stream, handle)
        os.close(stream)
    for handle, stream_name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        old = getattr(sys, stream_name)
        lines = 1 if handle == 2 or (handle == 1 and os.isatty(handle)) else -1
        new = open(handle, mode, lines, encoding=old.encoding, errors=old.errors, closefd=False)
        setattr(sys, stream_name, new)
        setattr(sys, f"__{stream_name}__", new)
    if "random" in sys.modules and not hasattr(os, "register_at_fork"):  # Python 3.7 sees to that itself
        sys.modules["random"].seed()


def run(path: str) -> int:
    """Run a program as the main module; its exit code."""
    main = type(sys)("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    try:
        with open(path, "rb") as source:
            text = source.read()
        exec(compile(text, path, "exec"), main.__dict__)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - what the interpreter does with what nobody catches
        below = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(below), below)
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def teach(modules: "list[str]", folder: str) -> None:
    """Tell the launcher what of the library a program imported, so that the next one has it at once."""
    library = os.path.dirname(os.__file__) + "/"
    files = [(name, getattr(sys.modules[name], "__file__", None) or "") for name in modules]
    named = [name for name, file in files if file.startswith(library) and "-packages/" not in file]
    line = ("+" + " ".join(named) + "\n").encode()
    if named and len(line) <= 4096:  # what a pipe takes as a whole, whoever else writes
        try:
            requests = os.open(folder + "/requests", os.O_WRONLY | os.O_NONBLOCK)
            os.write(requests, line)
            os.close(requests)
        except OSError:  # it ended, or has enough to do
            pass


def finish(code: int, modules: "list[str]", folder: str) -> None:
    """End as an interpreter does, without taking the warm one apart, whose memory would be copied for that:
    threads, exit functions, what the program and its own modules hold, streams."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    teach(modules, folder)
    for name in ("__main__", *modules):
        if name in sys.modules and hasattr(sys.modules[name], "__dict__"):
            sys.modules[name].__dict__.clear()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as the interpreter says it
    os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        helped = sys.argv[1:] == ["--help"]
        (sys.stdout if helped else sys.stderr).write("usage: python-launcher FOLDER PROGRAMS [MODULE...]\n")
        raise SystemExit(0 if helped else 2)
    warm(sys.argv[3:])
    own_folder = sys.argv[1]
    caller, sys.argv, path, mask, handles = serve(*sys.argv[1:3])
    become(caller, mask, handles)
    before = set(sys.modules)
    finish(run(path), sorted(set(sys.modules) - before), own_folder)
