"""What this machine can do for the builder, and what would help: all that `doctor` says."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from imagebuilder.errors import HostError
from imagebuilder.host.architecture import require_x86_64
from imagebuilder.host.package_manager import HostPackageManager, find_manager
from imagebuilder.host.sandbox import check_sandbox
from imagebuilder.host.tools import TOOLS, USES, Tool, install_command, possible_uses


@dataclass(frozen=True)
class ToolState:
    """A tool. package: what brings it here, "" if none is known. lack: what is wrong with it, if anything."""

    name: str
    package: str
    purpose: str
    uses: tuple[str, ...]
    lack: str | None


@dataclass(frozen=True)
class Trouble:
    """What does not work on this machine, and what helps."""

    message: str
    hint: str


@dataclass(frozen=True)
class Diagnosis:
    """machine: its processor, as uname says. manager: the package manager, None if none is known. install:
    the command that installs what is missing, if anything is. sandbox, architecture: None if all is well."""

    machine: str
    manager: str | None
    tools: tuple[ToolState, ...]
    install: str | None
    sandbox: Trouble | None
    architecture: Trouble | None

    @property
    def healthy(self) -> bool:
        """Whether everything that this machine's kind allows works. The kind itself nobody can put right."""
        return self.install is None and self.sandbox is None


def diagnose(*, tests: bool = True) -> Diagnosis:
    """Look at the programs of this machine, at what its kernel allows, and at its processor. tests: as for
    possible_uses()."""
    manager = find_manager()
    uses = set(possible_uses(tests=tests))
    tools = [tool for tool in TOOLS if uses.intersection(tool.uses)]
    lacks = {tool.name: tool.lack() for tool in tools}
    missing = [tool for tool in tools if lacks[tool.name]]
    return Diagnosis(
        machine=platform.machine(),
        manager=manager.name if manager else None,
        tools=tuple(_state(tool, lacks[tool.name], manager) for tool in tools),
        install=install_command(missing, manager) if missing else None,
        # without the program there is nothing to try
        sandbox=None if lacks["bwrap"] or lacks["setpriv"] else _trouble(check_sandbox),
        architecture=_trouble(partial(require_x86_64, "building")),
    )


def _state(tool: Tool, lack: str | None, manager: HostPackageManager | None) -> ToolState:
    uses = tuple(USES[use] for use in tool.uses)
    return ToolState(tool.name, tool.package(manager), tool.purpose, uses, lack)


def _trouble(check: Callable[[], None]) -> Trouble | None:
    """What a check of this machine says is wrong; None if all is well."""
    try:
        check()
    except HostError as error:
        return Trouble(error.message, error.hint or "")
    return None
