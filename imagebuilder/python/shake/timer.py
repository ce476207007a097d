"""Times a command. Never imported: commands.py hands its text to the root's own Python, whose arguments
are the number of runs and the command's argv. Writes seconds, or the exit code if the command fails.

It needs nothing but what is inside the interpreter, and nothing that is newer than Python 3.6.
"""

import posix
import sys
import time


def start(argv: "list[str]", actions: "list[tuple[int, int, str, int, int]]") -> int:
    """The number of a new process, which runs the command."""
    if hasattr(posix, "posix_spawn"):
        return posix.posix_spawn(argv[0], argv, posix.environ, file_actions=actions)
    number = posix.fork()
    if number:
        return number
    for _, handle, path, flags, mode in actions:
        posix.dup2(posix.open(path, flags, mode), handle)
    posix.execve(argv[0], argv, posix.environ)
    return 0


def main() -> None:
    """Run it so many times."""
    times, argv = int(sys.argv[1]), sys.argv[2:]
    quiet = [
        (getattr(posix, "POSIX_SPAWN_OPEN", 0), handle, "/dev/null", posix.O_RDWR, 0) for handle in (1, 2)
    ]
    for _ in range(times):
        began = time.perf_counter()
        _, status = posix.waitpid(start(argv, quiet), 0)
        took = time.perf_counter() - began
        if status:
            sys.stdout.write("failed {}\n".format(status))  # noqa: UP032
            return
        sys.stdout.write("{}\n".format(took))  # noqa: UP032


if __name__ == "__main__":
    main()
