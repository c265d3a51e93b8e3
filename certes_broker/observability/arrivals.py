"""What comes in from outside, and what becomes of it: plain numbers, which whoever is asked for them reads.

They are told apart by source and by reason, never by who sent something: callers and addresses are without number. Of sources as many
have a number of their own as `SOURCES`, and the rest have one together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from certes_broker.domain.errors import CertesError

SOURCES: Final = 200
OTHER_SOURCES: Final = "(others)"
"""What sources beyond these count as; no source is called so."""


class Arrivals:
    """The counts of one broker, since it was started."""

    def __init__(self) -> None:
        self.webhooks: Counter[str] = Counter()
        """Webhooks that were accepted, by source, repeated ones included."""
        self.webhooks_rejected: Counter[str] = Counter()
        """Webhooks that were refused, by reason."""
        self.publishes_refused: Counter[str] = Counter()
        """Requests to publish, or the reading of their events, that were refused, by reason."""
        self.calls_refused: Counter[str] = Counter()
        """Calls that were not let in, by reason."""
        self.http_connections: Callable[[], int] = lambda: 0
        """How many connections are open at the port of HTTP."""
        self.grpc_calls: Callable[[], int] = lambda: 0
        """How many rpcs are under way at the port of gRPC."""

    def took_webhook(self, source: str) -> None:
        """Counts a webhook that was accepted."""
        known = source in self.webhooks or len(self.webhooks) < SOURCES
        self.webhooks[source if known else OTHER_SOURCES] += 1


@contextmanager
def refusals(counts: Counter[str]) -> Iterator[None]:
    """Counts what is refused within, by reason, and raises it."""
    try:
        yield
    except CertesError as error:
        counts[error.reason.value] += 1
        raise
