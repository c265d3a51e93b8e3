"""Making streams: refusals that may be over a moment later do not end it, wherever they come."""

from __future__ import annotations

from typing import Any, cast

import pytest

from certes_broker.domain.errors import FailedPrecondition
from certes_broker.engines.nats import streams
from certes_broker.engines.nats.connection import STREAM_NOT_FOUND, Connection, Refusal
from certes_broker.engines.nats.streams import LOOKS, NO_PEERS, NOT_CLUSTERED, STORE_FAILED, Streams
from certes_broker.engines.nats.subjects import Names


class Server:
    """One that has no streams, and refuses to make one for each of the codes in turn; without a cluster it makes no replicas."""

    def __init__(self, *codes: int, clustered: bool = False) -> None:
        self.codes = list(codes)
        self.clustered = clustered
        self.asked: list[int] = []

    async def try_api(
        self, subject: str, body: dict[str, Any] | None = None, *_: float, **_within: float
    ) -> dict[str, Any]:
        match subject.split(".")[1]:
            case "INFO":
                raise Refusal({"err_code": STREAM_NOT_FOUND})
            case "CREATE":
                assert body is not None
                self.asked.append(body["num_replicas"])
                if body["num_replicas"] > 1 and not self.clustered:
                    raise Refusal({"err_code": NOT_CLUSTERED, "description": "replicas > 1 not supported"})
                if self.codes:
                    raise Refusal({"err_code": self.codes.pop(0), "description": "error creating store for stream"})
                return {"config": body}
            case _:
                return {}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOKING", 0.0)


def made_on(server: Server, replicas: int = 0) -> Streams:
    return Streams(cast("Connection", server), Names("certes"), replicas)


@pytest.mark.parametrize("code", [STORE_FAILED, NO_PEERS])
@pytest.mark.parametrize(("clustered", "replicas"), [(False, 1), (True, 3)])
async def test_what_may_be_over_a_moment_later_is_tried_again(code: int, clustered: bool, replicas: int) -> None:
    server = Server(code, code, clustered=clustered)
    assert await made_on(server).possible_replicas("x") == replicas
    assert server.asked[-3:] == [replicas] * 3
    assert server.codes == []


async def test_what_is_not_over_in_time_is_told() -> None:
    server = Server(*[STORE_FAILED] * 2 * LOOKS)
    with pytest.raises(FailedPrecondition, match="error creating store for stream"):
        await made_on(server).possible_replicas("x")
    assert len(server.asked) == LOOKS


async def test_whoever_asks_for_replicas_does_not_get_one_instead() -> None:
    server = Server()
    with pytest.raises(FailedPrecondition, match="replicas > 1 not supported"):
        await made_on(server, 3).possible_replicas("x")
    assert server.asked == [3]
