"""The sender port: hands one HTTP request to a receiver and reports what came of it.

A failed try is a value (`SendResult` with `failure`), never an exception: what to do about it is the retry policy's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, Protocol

ANSWER_KEPT: Final = 1024
"""Bytes of a receiver's answer that are kept."""


@unique
class Method(Enum):
    """What is asked of a receiver. The values are those of HTTP."""

    POST = "POST"
    OPTIONS = "OPTIONS"


@unique
class SendFailure(Enum):
    """Why no answer was obtained."""

    ADDRESS_REFUSED = "address_refused"
    """The address guard forbade the address the socket was to be opened to."""
    RESOLVE = "resolve"
    """The name does not exist, has no address, or its own servers do not answer."""
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    """The connection broke, or the answer was no HTTP."""
    OURS = "ours"
    """The fault is the broker's (no file handles, no memory, a resolver that does not answer); never charged to the receiver."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One request. `headers` are complete but for `Content-Length` and `Host`; `timeout` and `connect_timeout` are seconds.

    `answer_limit` is how many bytes of the answer's body are handed on. What a webhook's receiver says needs few; who asks
    a question wants the whole answer.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float
    connect_timeout: float
    answer_limit: int = ANSWER_KEPT
    method: Method = Method.POST


@dataclass(frozen=True, slots=True)
class SendResult:
    """What came of one request.

    `status` is the HTTP status, None when no answer was obtained, in which case `failure` says why and `error` says it
    for a person. `headers` have lower-case names. `answer` is at most the first `answer_limit` bytes of the body. `duration` is
    seconds.
    """

    status: int | None
    failure: SendFailure | None
    error: str
    headers: Mapping[str, str]
    answer: bytes
    duration: float

    @property
    def is_success(self) -> bool:
        """Whether the receiver took the request: it answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


class Sender(Protocol):
    """Sends requests. Implementations bound what they keep open and report it by `in_flight`."""

    async def send(self, request: SendRequest) -> SendResult:
        """Sends one request and returns what came of it. Raises nothing but `asyncio.CancelledError`, after which the try is ended."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""

    async def close(self) -> None:
        """Ends what is under way and frees the connections. Idempotent."""
