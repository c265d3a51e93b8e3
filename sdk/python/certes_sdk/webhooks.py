"""Webhooks: verifies a request, hands its event to the handlers, and says what to answer.

The answers are those of docs/reference/sdks.md. Which server the request came by is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from certes_sdk.clock import Clock
from certes_sdk.cloudevents import read_event
from certes_sdk.errors import CertesError, invalid
from certes_sdk.handling import Handling
from certes_sdk.raw_event import MessageTypes
from certes_sdk.signatures import verify
from certes_sdk.signing_keys import SigningKeys

MAXIMUM_BODY_BYTES: Final = 16 << 20

_TEST_NAME: Final = "/_test"
_STATUSES: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "UNAVAILABLE": 503,
    "FAILED_PRECONDITION": 503,
}

Headers = Sequence[tuple[str, str]]
"""Names and values of a request's headers; a character of a value stands for a byte."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer a webhook."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """The headers to send, with those that describe the body."""
        described = [("content-type", "application/json"), ("content-length", str(len(self.body)))] if self.body else []
        return [*described, *self.headers]


NOT_A_POST: Final = Answer(
    405, b'{"reason":"METHOD_NOT_ALLOWED","message":"Webhooks are POSTed."}', (("allow", "POST"),)
)
_ORIGIN: Final = "webhook-request-origin"


def may_be_taken(method: str, headers: Headers) -> bool:
    """Says whether a request is a webhook, or the question for consent that may come before."""
    return method == "POST" or (method == "OPTIONS" and bool(_origin(headers)))


class Webhooks:
    """The webhooks of one client in one loop."""

    def __init__(self, keys: SigningKeys, handling: Handling, types: MessageTypes, clock: Clock) -> None:
        self._keys = keys
        self._handling = handling
        self._types = types
        self._clock = clock

    async def take(self, headers: Headers, body: bytes) -> Answer:
        """Takes the body of a POST, and returns when it was handled."""
        try:
            await self._verify(headers, body)
            raw = read_event({name.lower(): value for name, value in headers}, body, self._types)
            if not (raw.type.endswith(_TEST_NAME) and not self._handling.handles(raw.type)):
                await self._handling.run(raw)
        except CertesError as error:
            return refusal(error)
        return Answer(204)

    async def consent(self, headers: Headers, body: bytes) -> Answer:
        """Answers the question whether webhooks may be sent here: yes, to whoever signs as they are signed."""
        try:
            await self._verify(headers, body)
        except CertesError as error:
            return refusal(error)
        allowed = (("webhook-allowed-origin", _origin(headers)), ("webhook-allowed-rate", "*"), ("allow", "POST"))
        return Answer(204, headers=allowed)

    async def _verify(self, headers: Headers, body: bytes) -> None:
        keys = await self._keys.current()
        try:
            verify(keys, headers, body, self._clock.wall())
        except CertesError as error:
            if error.metadata.get("problem") != "NO_MATCH":
                raise
            newer = await self._keys.newer()
            if newer is None:
                raise
            verify(newer, headers, body, self._clock.wall())


def _origin(headers: Headers) -> str:
    return next((value for name, value in headers if name.lower() == _ORIGIN), "")


def too_large() -> CertesError:
    """Makes the error of a body that is larger than is read."""
    return invalid("PAYLOAD_TOO_LARGE", f"The body of a webhook has at most {MAXIMUM_BODY_BYTES} bytes.")


def refusal(error: CertesError) -> Answer:
    """Returns what is answered to a webhook that was not accepted or not handled."""
    body = json.dumps({"reason": error.reason, "message": error.message}, ensure_ascii=False).encode(errors="replace")
    return Answer(_STATUSES.get(error.code, 500), body)
