"""How one format's module has what lies inside looked at, with bounds on depth and on what is unpacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.model.firmware import Check, Part

MOST_UNPACKED = 1 << 30
DEEPEST = 8


class Reading:
    """The reading of one image. unpack_left: bytes that may still be unpacked from it, all together."""

    def __init__(self, formats: Sequence[Format], *, most_unpacked: int = MOST_UNPACKED) -> None:
        self._formats = formats
        self._depth = 0
        self.unpack_left = most_unpacked

    @property
    def outermost(self) -> bool:
        """Whether what is read is the file itself, and lies in nothing else."""
        return self._depth <= 1

    def unpacked(self, data: bytes | memoryview, what: str) -> View:
        """A view of contents that were unpacked, counted against what may be."""
        self.count_unpacked(len(data))
        return View(data, what=what)

    def count_unpacked(self, size: int) -> None:
        """Count bytes that were unpacked against what may be."""
        self.unpack_left = max(0, self.unpack_left - size)

    def inside(self, view: View, name: str) -> Part:
        """What lies at the beginning of a view, under the name that its place gives it.

        A part that its format's module cannot read is a part with a failed check. Nothing is raised.
        """
        if self._depth >= DEEPEST:
            return damaged("too-deep", name, view, f"more than {DEEPEST} formats lie in one another")
        self._depth += 1
        try:
            for form in self._formats:
                if form.detect(view):
                    return self._parsed(form, view, name)
        finally:
            self._depth -= 1
        return Part("data", name, view.start, view.size, data=view.raw)

    def _parsed(self, form: Format, view: View, name: str) -> Part:
        try:
            return form.parse(view, self).renamed(name)
        except ImageFormatError as error:
            return damaged(form.kind, name, view, error.message)


@dataclass(frozen=True, slots=True)
class Format:
    """A line of the table of formats. detect: whether a view begins so; it never raises. parse: reads it, and
    may leave bytes behind it for its caller; raises ImageFormatError and nothing else. opened: whether what
    lies inside is read, or the format is only named."""

    kind: str
    about: str
    detect: Callable[[View], bool]
    parse: Callable[[View, Reading], Part]
    opened: bool = True


def damaged(kind: str, name: str, view: View, reason: str) -> Part:
    """A part that could not be read."""
    check = Check(f"{name} can be read", f"a whole {kind}", reason, False)
    return Part(kind, name, view.start, view.size, checks=(check,), data=view.raw)
