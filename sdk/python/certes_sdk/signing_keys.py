"""The keys that verify webhooks: those of the application's subscriptions, fetched from the broker, and those of its settings.

They are kept for 5 minutes. Where no key fits, they are fetched once more, for the secret may have been rotated; but not within 10 s
of the last time, so that strangers cannot make it ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from certes.v1.subscription_service_pb2 import GetSigningSecretsRequest, GetSigningSecretsResponse
from certes_sdk.clock import Clock
from certes_sdk.connection import Connection
from certes_sdk.errors import CertesError, unavailable
from certes_sdk.signatures import SigningKey, read_key

KEPT: Final = 300.0
PAUSE: Final = 10.0

_CALL_TIMEOUT: Final = 10.0

_log: Final = logging.getLogger("certes")


class SigningKeys:
    """The keys of one client in one loop. `subscriptions` says whose secrets are fetched."""

    def __init__(
        self,
        given: Sequence[SigningKey],
        subscriptions: Callable[[], Iterable[str]],
        connection: Connection,
        clock: Clock,
    ) -> None:
        self._given = tuple(given)
        self._subscriptions = subscriptions
        self._connection = connection
        self._clock = clock
        self._fetched: dict[str, tuple[SigningKey, ...]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> tuple[SigningKey, ...]:
        """Returns the keys; fetches them first where they are old. Raises `SECRETS_UNAVAILABLE` where there is none."""
        if not self._is_fresh():
            await self._fetch()
        keys = self._all()
        if not keys:
            # Whoever asks has proven nothing: why is for the log, where `_fetch` says it.
            raise unavailable(
                "SECRETS_UNAVAILABLE",
                "The webhook cannot be verified: there are no signing secrets for now.",
                hint="The broker sends it again.",
            )
        return keys

    async def newer(self) -> tuple[SigningKey, ...] | None:
        """Fetches the keys once more and returns them; None where that may not be yet, or brought nothing new."""
        before = self._all()
        await self._fetch()
        after = self._all()
        return after if after != before else None

    def _all(self) -> tuple[SigningKey, ...]:
        fetched = [key for keys in self._fetched.values() for key in keys]
        return (*dict.fromkeys(fetched), *self._given)

    def _is_fresh(self) -> bool:
        wanted = frozenset(self._subscriptions())
        if not wanted:
            return True
        return wanted == self._wanted and self._fetched_at is not None and self._clock.now() - self._fetched_at < KEPT

    async def _fetch(self) -> None:
        async with self._lock:
            now = self._clock.now()
            wanted = frozenset(self._subscriptions())
            if not wanted or (wanted == self._wanted and self._asked_at is not None and now - self._asked_at < PAUSE):
                return
            self._wanted, self._asked_at = wanted, now
            fetched: dict[str, tuple[SigningKey, ...]] = {}
            for subscription in sorted(wanted):
                try:
                    fetched[subscription] = await self._secrets_of(subscription)
                except CertesError as error:
                    _log.warning("The signing secrets of %s could not be fetched: %s", subscription, error)
                    # What was fetched before is better than nothing.
                    if error.retryable and subscription in self._fetched:
                        fetched[subscription] = self._fetched[subscription]
                else:
                    self._fetched_at = now
            self._fetched = fetched

    async def _secrets_of(self, subscription: str) -> tuple[SigningKey, ...]:
        request = GetSigningSecretsRequest(name=subscription)
        answer = await self._connection.call(
            "SubscriptionService/GetSigningSecrets", request, GetSigningSecretsResponse, _CALL_TIMEOUT
        )
        return tuple(key for one in answer.secrets if (key := read_key(one.secret)) is not None)
