"""Who runs jobs: in this process one after the other (in_turn.py), in processes of this machine
(processes.py), or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from imagebuilder.fleet.job import Begun, BoardJob, Ended, Waits
from imagebuilder.log import Event

T = TypeVar("T")


JobEvent = Event | Begun | Waits
Tell = Callable[[BoardJob, JobEvent], None]


class Scheduler(Protocol[T]):
    """Runs jobs. What is done for each is given to it when it is made, as a function of a module
    (`Callable[[BoardJob, Log], T]`, see work.py), which processes elsewhere find by its name."""

    def run(self, jobs: Sequence[BoardJob], tell: Tell) -> Generator[Ended[T], None, None]:
        """Run the jobs, started in their order as there is room for them, and give each as it ends, once;
        what was not run at all is given last, as `not run`.

        One that fails, or whose process dies, costs no other. tell: is called in the thread that asks for the
        next one, with the events of each job in their order, Begun first. An exception, KeyboardInterrupt for
        one, from `tell` or in that thread ends all that runs before it is raised on, and so does closing the
        iterator: nothing of a job is left running or half-written. Where it is an interruption, how these
        ended is given before. Several threads may run jobs at once; they
        share the places and the room that this scheduler has. What concerns no single job is raised:
        HostError.
        """
        ...

    def stop_starting(self) -> None:
        """From now on nothing is started; what runs goes on to its end. May be called from any thread."""
        ...

    def cancel(self, job: BoardJob | None = None) -> None:
        """End a job, or all: it ends as `interrupted`, or as `not run` where it has not begun. One that has
        ended stays as it is. May be called from any thread."""
        ...
