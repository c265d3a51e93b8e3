"""What a broker can say of itself at a moment.

Nothing here is told apart by subscriber: they are as many as there are customers, and a label for each would grow without end in
whatever collects these figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certes_broker.observability.arrivals import Arrivals
from certes_broker.observability.latencies import Latencies


@dataclass(frozen=True, slots=True)
class Stats:
    """One look at a broker. Counts are since its start, sizes bytes, times seconds.

    `attempts` at webhooks are counted by what came of them, `dead_letters` by reason, `subscriptions` by state, `breakers` by
    condition. `awaiting_consent` are active webhooks whose receivers have not consented. `arrivals` is what came in from outside. `oldest_unread` is about how old the oldest event is that an awake subscription has still to read, 0 if none has any.
    `journal_bytes` and `storage_left` are None where storage did not answer, the latter also where nothing bounds it. `weaker`
    says which guarantees the storage weakens.
    """

    accepted: int
    duplicates: int
    pushed_back: int
    arrivals: Arrivals
    latencies: Latencies
    attempts: Mapping[str, int]
    dead_letters: Mapping[str, int]
    gaps: int
    subscriptions: Mapping[str, int]
    awaiting_consent: int
    breakers: Mapping[str, int]
    streams: int
    awake: int
    in_flight_bytes: int
    delivery_bytes: int
    webhooks_in_flight: int
    waiting_writes: int
    oldest_unread: float
    journal_bytes: int | None
    storage_left: int | None
    unavailable: Sequence[str]
    weaker: Sequence[str]
