from __future__ import annotations

import socket
from concurrent import futures

import grpc
import pytest

from certes_broker.cli.connect import Broker
from certes_broker.cli.failures import BrokerUnreachable, CallRefused
from certes_broker.domain.uris import GatewayUri
from tests.unit.cli.fake_gateway import connect_error


def stream(broker):
    return broker.stream("certes.v1.EventService", "Subscribe", {"x": 1}, doing="Tailing")


def test_a_stream_yields_its_frames_and_ends(gateway):
    gateway.stream("Subscribe", {"n": 1}, {"n": 2}, end={})
    assert list(stream(gateway.broker)) == [{"n": 1}, {"n": 2}]
    assert gateway.calls == [("Subscribe", {"x": 1})]


def test_a_stream_that_fails_is_a_refusal_after_its_frames(gateway):
    gateway.stream("Subscribe", {"n": 1}, end={"error": connect_error("not_found", "There is none.")})
    frames = stream(gateway.broker)
    assert next(frames) == {"n": 1}
    with pytest.raises(CallRefused) as caught:
        next(frames)
    assert caught.value.refusal.code == "not_found"


def test_a_stream_that_breaks_off_is_a_broker_that_went_away(gateway):
    gateway.stream("Subscribe", {"n": 1}, end=None)
    frames = stream(gateway.broker)
    next(frames)
    with pytest.raises(BrokerUnreachable, match="went away"):
        next(frames)


def test_a_stream_can_be_refused_before_it_begins(gateway):
    gateway.refuse("Subscribe", connect_error("invalid_argument", "No."))
    with pytest.raises(CallRefused, match="No"):
        next(stream(gateway.broker))


def test_an_answer_that_is_no_json_is_not_a_gateways(gateway):
    gateway.answer("Publish", b"hello")
    with pytest.raises(BrokerUnreachable, match="does not speak"):
        gateway.broker.call("certes.v1.EventService", "Publish", {}, doing="Publishing")


def test_a_port_on_which_nobody_listens_is_told_with_what_to_do():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it meanwhile
        broker = Broker(GatewayUri("127.0.0.1", bound.getsockname()[1]))
        with pytest.raises(BrokerUnreachable, match="certes serve"):
            broker.call("certes.v1.EventService", "Publish", {}, doing="Publishing")


def test_the_port_of_grpc_is_taken_for_no_gateway():
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(BrokerUnreachable, match="not that of gRPC"):
        Broker(GatewayUri("127.0.0.1", port)).call("certes.v1.EventService", "Publish", {}, doing="Publishing")
    server.stop(None).wait()
