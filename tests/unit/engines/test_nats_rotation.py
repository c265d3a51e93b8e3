"""Which server is connected to next."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlparse

from nats.aio.client import Server

from certes_broker.engines.nats.connection import AWAY, Rotation


def servers(*names: str, reconnects: int = 0) -> Sequence[Server]:
    return [Server(urlparse(f"nats://{name}:4222"), reconnects) for name in names]


def chosen(rotation: Rotation, pool: Sequence[Server], times: int) -> list[str | None]:
    return [rotation.choose(pool, {})[0].uri.hostname for _ in range(times)]


def test_the_server_that_was_lost_is_tried_last() -> None:
    rotation = Rotation(iter([0.1, 0.2, 0.3] * 10).__next__)
    rotation.use("a:4222")
    assert chosen(rotation, servers("a", "b", "c"), 7) == ["b", "c", "a", "b", "c", "a", "b"]


def test_which_of_those_that_were_never_used_is_by_chance() -> None:
    rotation = Rotation(iter([0.3, 0.2, 0.1] * 10).__next__)
    rotation.use("a:4222")
    assert chosen(rotation, servers("a", "b", "c"), 2) == ["c", "b"]


def test_a_server_that_could_not_be_reached_is_given_a_moment() -> None:
    rotation = Rotation()
    assert rotation.choose(servers("a"), {})[1] == 0.0
    assert rotation.choose(servers("a", reconnects=1), {})[1] == AWAY


def test_a_server_that_became_known_later_is_tried_before_those_that_were_used() -> None:
    rotation = Rotation()
    assert chosen(rotation, servers("a"), 1) == ["a"]
    assert chosen(rotation, servers("a", "b"), 2) == ["b", "a"]
