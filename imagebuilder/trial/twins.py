"""Which board is built and booted where somebody wants to see a config run: the board itself where QEMU has
it, else the emulated board that its file calls its twin, with the board's own RAM.

QEMU has no machine that is a router of ath79, ramips or the like. A twin has packages of the same
architecture, or of the nearest that there is; packages for the router's hardware (its switch, radio, LEDs)
find nothing to drive there, and neither are its flash and its boot loader tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from imagebuilder.called import typed
from imagebuilder.config.board import Board, Profile, SystemEmulation
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config
from imagebuilder.config.releases import resolve_release, shipped_releases
from imagebuilder.config.request import Request
from imagebuilder.log import Log
from imagebuilder.trial.machines import NoMachineError


@dataclass(frozen=True)
class BootedBoard:
    """What is booted for a board. board: what is built. system: QEMU's machine. memory: bytes. twin_of: the
    board in whose place it is, None for the board itself."""

    board: Board
    system: SystemEmulation
    memory: int
    twin_of: Board | None = None

    @property
    def told(self) -> str:
        """For people: `qemu-malta-be, the twin of tplink-tl-wr740n-v4, with its 32 MiB`."""
        if self.twin_of is None:
            return self.board.id
        own = "with its" if self.twin_of.ram == self.memory else "with"
        return f"{self.board.id}, the twin of {self.twin_of.id}, {own} {self.memory >> 20} MiB of RAM"


def booted_board(library: Library, name: str, release: str | None) -> BootedBoard:
    """What is booted for a board. release: whose ImageBuilder builds it, None where nobody says.

    NoMachineError where neither the board nor a twin is a machine of QEMU in that release; UserError for a
    board that there is not.
    """
    board = library.board(name)
    profile = _profile(board, release)
    emulation = (board if profile is None else board.for_profile(profile)).emulation
    if emulation.system is not None:
        return BootedBoard(board, emulation.system, emulation.system.memory)
    if emulation.twin is None:
        raise NoMachineError(
            f"QEMU has no machine that is {board.name}, and boards/{name}.toml names no twin",
            hint=f"{typed('trial CONFIG')} tries its programs without one; [emulation] twin in the board's"
            " file names the emulated board with the nearest packages",
        )
    twin = library.board(emulation.twin)
    own = _profile(twin, release)
    if own is None:
        spans = " or ".join(profile.releases for profile in twin.profile)
        raise NoMachineError(
            f"{name} is booted as its twin {twin.id}, which release {release} does not build",
            hint=f"it is there in {spans}: --release says another one",
        )
    system = twin.for_profile(own).emulation.system
    if system is None:
        raise NoMachineError(f"{twin.id}, the twin of {name}, is no machine of QEMU")
    memory = board.ram if isinstance(board.ram, int) else system.memory
    return BootedBoard(twin, system, memory, board)


def _profile(board: Board, release: str | None) -> Profile | None:
    if release is None:
        return board.profile[0]
    return next(iter(board.profiles_for(release)), None)


def booted_request(request: Request, config: Config, log: Log) -> tuple[Request, BootedBoard]:
    """A request as it is built to be booted, and what is booted then. config: the request's, for its board.

    An ImageBuilder that the request names has to be the twin's; the one that the config names is the board's,
    and gives way to that of the same release. Errors as of booted_board(); ReleaseError; NoMachineError where
    nothing says which ImageBuilder builds the twin.
    """
    wanted = request.release or config.release
    release = None if wanted is None else resolve_release(wanted, shipped_releases(), log)
    booted = booted_board(request.library, request.board, release)
    if booted.twin_of is None:
        return request, booted
    if request.imagebuilder is None and release is None:
        target = booted.board.profile[0].target
        raise NoMachineError(
            f"{request.board} is booted as its twin {booted.board.id}, and nothing says of which release",
            hint=f"--release says it, or --imagebuilder names a tree for {target}",
        )
    log.note(f"booted is {booted.told}: its flash, its boot loader and its own hardware are not tried")
    return replace(request, board=booted.board.id, release=request.release or release), booted
