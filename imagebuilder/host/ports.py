"""TCP ports of this host that lead into a guest: `HOST:GUEST`, always on 127.0.0.1."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Mapping

from imagebuilder.errors import HostError, UserError

HOST = "127.0.0.1"
_FORWARD = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_LAST = 65535


def forwarded_ports(given: Iterable[str]) -> Mapping[int, int]:
    """The guest's ports by this host's, each of which can be had now. UserError for what is no pair of ports
    or names a port of this host twice; HostError for one that cannot be had, and why."""
    found: dict[int, int] = {}
    for text in given:
        match = _FORWARD.fullmatch(text)
        here, there = (int(match[1]), int(match[2])) if match is not None else (0, 0)
        if not (0 < here <= _LAST and 0 < there <= _LAST):
            raise UserError(
                f"--forward {text} is no pair of ports",
                hint="8080:80 leads from port 8080 of 127.0.0.1 here to port 80 of the guest",
            )
        if here in found:
            raise UserError(f"--forward names port {here} of this machine twice")
        found[here] = there
    for here in found:
        _can_be_had(here)
    return found


def _can_be_had(port: int) -> None:
    """HostError where nobody can listen on a port."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text, hint = f"port {port} of {HOST} is taken by another program", "choose another one"
        elif error.errno == errno.EACCES:
            text = f"port {port} of this machine is for root alone"
            hint = "choose one from 1024 on"
        else:
            text, hint = f"port {port} of {HOST} cannot be had: {error.strerror}", ""
        raise HostError(text, hint=hint) from error
