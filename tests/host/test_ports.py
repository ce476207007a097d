"""Ports that lead into a guest: those that cannot be had are named before anything is built."""

from __future__ import annotations

import errno
import socket

import pytest

from imagebuilder.errors import HostError, UserError
from imagebuilder.host import ports
from imagebuilder.host.ports import forwarded_ports


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_pairs_of_ports_are_read() -> None:
    here = free_port()
    assert forwarded_ports([f"{here}:80"]) == {here: 80}
    assert forwarded_ports([]) == {}


@pytest.mark.parametrize(
    "given", ["8080", "8080:", ":80", "0:80", "8080:0", "65536:80", "8080:65536", "a:b", "-1:8"]
)
def test_what_is_no_pair_is_named(given: str) -> None:
    with pytest.raises(UserError, match=f"--forward {given} is no pair of ports"):
        forwarded_ports([given])


def test_a_port_is_not_led_to_two_places() -> None:
    here = free_port()
    with pytest.raises(UserError, match=f"port {here} of this machine twice"):
        forwarded_ports([f"{here}:80", f"{here}:81"])


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = server.getsockname()[1]
        with pytest.raises(HostError, match=rf"port {here} of 127\.0\.0\.1 is taken"):
            forwarded_ports([f"{here}:80"])


def test_a_port_of_roots_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ports.socket, "create_server", refuse)
    with pytest.raises(HostError, match="port 80 of this machine is for root alone"):
        forwarded_ports(["80:80"])
