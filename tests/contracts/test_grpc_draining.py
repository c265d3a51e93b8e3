"""A broker that shuts down says so. Alone in its file: it stops the broker that the tests of a file share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from certes.v1 import event_service_pb2 as pb
from tests.contracts.grpc_callers import TIMEOUT, Caller, refused
from tests.fakes.loop_thread_broker import LoopThreadBroker


def test_a_draining_broker_ends_streams_with_a_reason_once_it_has_answered(
    grpc_server: LoopThreadBroker, caller: Caller
) -> None:
    caller.create()
    stream = caller.open()
    sent = caller.event()
    ended = threading.Event()

    def requests() -> Iterator[pb.PublishStreamRequest]:
        yield pb.PublishStreamRequest(events=[sent])
        ended.wait(TIMEOUT)

    answers = caller.publish_stream(requests())
    assert next(answers).accepted.count == 1
    assert stream.take(1) == {1: sent.id}

    grpc_server.stop(None)

    assert stream.next().closing.reason == pb.SubscribeResponse.REASON_DRAINING
    refusal = refused(lambda: answers)
    ended.set()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert refusal.retry.retry_delay.seconds == 1
