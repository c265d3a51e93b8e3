"""Who calls: how a transport lets a call in, and how a service learns whose it is.

Rules
-----
* A transport asks the `Door` before it does anything for a call, and serves the call within `acting_as` the caller it got. So
  no service can be reached without a caller, and none need know how callers prove who they are.
* A service whose answer depends on the caller asks `current_caller`. A task that it begins has the same one. Outside of a call
  there is none, and asking is a fault.
* Where nobody is asked who they are, everybody is `LOCAL_OPERATOR`: such a broker listens on loopback.
* A stream ends when its caller's credential does, be that by its time or because it was revoked: see `guard`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from certes_broker.domain.access import LOCAL_OPERATOR, Caller, Needs, check_needs
from certes_broker.gateway.open_streams import OpenStreams
from certes_broker.observability.arrivals import refusals


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows: the values of `authorization`, as many as there were, which are never logged.

    `certificate` is the one that TLS has verified, in PEM, if there was one. Transports may leave it out beside an
    `authorization`, which is what counts then.
    """

    authorization: tuple[str, ...] = ()
    certificate: bytes | None = None


class Authentication(Protocol):
    """Finds out who calls."""

    async def caller(self, credentials: Credentials) -> Caller:
        """Returns who shows these. Raises `Unauthenticated` (CREDENTIALS_MISSING, CREDENTIALS_INVALID)."""

    def is_good(self, caller: Caller) -> bool:
        """Says whether what a caller was let in by would let it in now."""


class Door:
    """Lets calls in."""

    def __init__(
        self,
        authentication: Authentication | None = None,
        streams: OpenStreams | None = None,
        refused: Counter[str] | None = None,
    ) -> None:
        """Without `authentication` nobody is asked who they are. `refused` counts whom it does not let in, by reason."""
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._authentication = authentication
        self.streams = OpenStreams() if streams is None else streams
        if authentication is not None:
            self.streams.is_good = authentication.is_good

    @property
    def asks(self) -> bool:
        """Whether callers must show who they are."""
        return self._authentication is not None

    async def admit(self, credentials: Credentials, needs: Needs, doing: str) -> Caller:
        """Returns who calls, once that is known and may do so. `doing` is what refusals call the method.

        Raises `Unauthenticated` (CREDENTIALS_MISSING, CREDENTIALS_INVALID) and `PermissionDenied` (ROLE_MISSING, NOT_BOUND_TO).
        """
        with refusals(self._refused):
            caller = LOCAL_OPERATOR if self._authentication is None else await self._authentication.caller(credentials)
            check_needs(caller, needs, doing)
        return caller


_CALLER: Final[ContextVar[Caller]] = ContextVar("caller")


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Serves what is within for a caller."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


def current_caller() -> Caller:
    """Returns for whom this runs. Raises `LookupError` outside of a call."""
    return _CALLER.get()
