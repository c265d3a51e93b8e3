"""Ports that stay whose they are."""

from __future__ import annotations

import socket

from scripts import ports
from scripts.ports import HeldPorts


def test_they_are_free_distinct_and_none_that_the_system_gives_out() -> None:
    with HeldPorts(3) as held, socket.create_server(("127.0.0.1", 0)) as given_out:
        assert len(set(held.numbers)) == 3
        for port in held.numbers:
            assert ports.LOWEST_PORT <= port < given_out.getsockname()[1]
            with socket.create_server(("127.0.0.1", port)):
                pass


def test_nobody_else_gets_what_is_held_although_nobody_listens() -> None:
    with HeldPorts(1) as held:
        assert ports.hold(held.numbers[0]) is None
    again = ports.hold(held.numbers[0])
    assert again is not None
    again.close()


def test_what_somebody_listens_on_is_not_held() -> None:
    with HeldPorts(1) as held:
        port = held.numbers[0]
    with socket.create_server(("127.0.0.1", port)):
        assert ports.hold(port) is None
