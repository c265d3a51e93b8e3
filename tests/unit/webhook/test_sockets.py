"""The sockets that libcurl waits on, in both kinds of selector."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pycurl
import pytest

from certes_broker.webhook.sockets import EpollSockets, SelectorSockets, Sockets

KINDS = [EpollSockets, SelectorSockets]


@pytest.fixture(params=KINDS)
def sockets(request: pytest.FixtureRequest) -> Iterator[Sockets]:
    opened: Sockets = request.param()
    yield opened
    opened.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def test_a_socket_is_ready_for_what_is_wanted_of_it(sockets: Sockets, pair: Pair) -> None:
    near, far = pair
    sockets.want(near.fileno(), pycurl.POLL_IN)
    assert sockets.ready() == []
    far.send(b"x")
    assert sockets.ready() == [(near.fileno(), pycurl.CSELECT_IN)]
    sockets.want(near.fileno(), pycurl.POLL_OUT)
    assert sockets.ready() == [(near.fileno(), pycurl.CSELECT_OUT)]
    sockets.want(near.fileno(), pycurl.POLL_INOUT)
    assert sockets.ready() == [(near.fileno(), pycurl.CSELECT_IN | pycurl.CSELECT_OUT)]
    sockets.want(near.fileno(), pycurl.POLL_NONE)
    assert sockets.ready() == []


def test_what_is_ready_stays_ready_until_it_is_dealt_with(sockets: Sockets, pair: Pair) -> None:
    near, far = pair
    sockets.want(near.fileno(), pycurl.POLL_IN)
    far.send(b"x")
    assert sockets.ready() == sockets.ready() != []


def test_a_socket_whose_peer_hung_up_is_ready_to_be_read(sockets: Sockets, pair: Pair) -> None:
    near, far = pair
    sockets.want(near.fileno(), pycurl.POLL_IN)
    far.close()
    [(fd, what)] = sockets.ready()
    assert fd == near.fileno()
    assert what & pycurl.CSELECT_IN


def test_a_forgotten_socket_is_not_heard_of(sockets: Sockets, pair: Pair) -> None:
    near, far = pair
    sockets.want(near.fileno(), pycurl.POLL_IN)
    sockets.forget(near.fileno())
    far.send(b"x")
    assert sockets.ready() == []


def test_a_forgotten_socket_can_be_wanted_again(sockets: Sockets, pair: Pair) -> None:
    near, far = pair
    for _ in range(2):
        sockets.want(near.fileno(), pycurl.POLL_IN)
        sockets.forget(near.fileno())
        far.send(b"x")
        sockets.ready()
    sockets.want(near.fileno(), pycurl.POLL_IN)
    assert sockets.ready() == [(near.fileno(), pycurl.CSELECT_IN)]


def test_the_number_of_a_closed_socket_can_belong_to_another(sockets: Sockets, pair: Pair) -> None:
    first, its_peer = socket.socketpair()
    number = first.fileno()
    sockets.want(number, pycurl.POLL_IN)
    sockets.forget(number)
    first.close()
    its_peer.close()
    near, far = pair
    with socket.socket(fileno=os.dup2(near.fileno(), number)):
        sockets.want(number, pycurl.POLL_IN)
        far.send(b"x")
        assert sockets.ready() == [(number, pycurl.CSELECT_IN)]


def test_its_own_handle_is_readable_while_a_socket_is_ready_and_no_longer(sockets: Sockets, pair: Pair) -> None:
    near, far = pair
    outer = EpollSockets()
    outer.want(sockets.fileno(), pycurl.POLL_IN)
    sockets.want(near.fileno(), pycurl.POLL_IN)
    assert outer.ready() == []
    far.send(b"x")
    assert outer.ready() != []
    sockets.forget(near.fileno())
    sockets.ready()
    assert outer.ready() == [], "or the event loop would spin"
    outer.close()


def test_forgetting_what_was_never_wanted_is_no_error(sockets: Sockets, pair: Pair) -> None:
    sockets.forget(pair[0].fileno())
    assert sockets.ready() == []
