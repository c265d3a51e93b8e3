"""A broker that shuts down while callers call. Alone in its file: it stops the broker that the tests of a file share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import grpc

from tests.contracts.grpc_callers import Caller, Refusal
from tests.fakes.loop_thread_broker import LoopThreadBroker

CALLERS = 8


def test_whoever_calls_while_the_broker_drains_is_told_to_try_again(
    grpc_server: LoopThreadBroker, caller: Caller
) -> None:
    accepted = Semaphore(0)

    def publish_until_refused() -> Refusal:
        while True:
            try:
                caller.publish(caller.event())
            except grpc.RpcError as error:
                return Refusal(error)
            accepted.release()

    with ThreadPoolExecutor(CALLERS) as callers:
        waiting = [callers.submit(publish_until_refused) for _ in range(CALLERS)]
        for _ in range(4 * CALLERS):
            accepted.acquire()
        grpc_server.stop(None)
        refusals = [each.result() for each in waiting]
    assert {(refusal.code, refusal.reason) for refusal in refusals} == {(grpc.StatusCode.UNAVAILABLE, "DRAINING")}
