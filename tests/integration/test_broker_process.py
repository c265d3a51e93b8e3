"""A broker as a child process is found where it was, and finds ports that nobody has."""

from __future__ import annotations

import socket
from pathlib import Path

from scripts.broker_process import BrokerProcess
from scripts.ports import hold


def test_a_port_that_somebody_took_before_the_first_start_is_left_to_them_and_the_next_is_kept(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        http, grpc = broker.http, broker.grpc
        with socket.create_server(("127.0.0.1", port_of(http))), socket.create_server(("127.0.0.1", port_of(grpc))):
            broker.start()
            assert {broker.http, broker.grpc}.isdisjoint({http, grpc})
        chosen = (broker.http, broker.grpc)
        broker.kill9()
        assert hold(port_of(broker.http)) is None, "it is the broker's also while that is down"
        broker.start()
        assert (broker.http, broker.grpc) == chosen


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
