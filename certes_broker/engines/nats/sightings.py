"""How long other members have been silent, by the looks of one.

Rules
-----
* Only what was seen counts. From one look to the next a member that was not renewed was silent for as long as lay between
  them, but for no longer than a renewal's time: a look that comes late tells that this member, or the servers, stood still,
  and then the others may have stood still too.
* When the servers do not answer, nobody can renew. So all have all of their time again.
* A member that has no connection to the servers cannot renew either, and they say so at once. One of whom that is heard for longer
  than its last renewal makes it current needs to be silent for two renewals only: the time in which one that is back would renew.
* What is counted is never more than what has passed. So a member that is not current before it is `ended` by the others'
  clocks is not current when they take it for gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from certes_broker.ports.cluster import MemberId


@dataclass(frozen=True, slots=True)
class Pace:
    """How members live, in seconds: the time between renewals, how long one makes current, after how long without one a
    member is taken for gone, and after how long without a connection, which is longer than one makes current.
    """

    renewal: float = 1.0
    current: float = 4.0
    ended: float = 6.0
    unconnected: float = 4.5


@dataclass(frozen=True, slots=True)
class _Seen:
    """A member's newest message, and for how many seconds, up to when, it was seen to be that."""

    sequence: int
    silent: float
    until: float


class Sightings:
    """The others, as one member sees them."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._seen: dict[MemberId, _Seen] = {}
        self._is_lost = False
        self._unconnected: dict[MemberId, float] = {}
        """Since when those have had no connection that have none."""
        self._asked = 0.0
        """When the servers were last asked about that."""

    @property
    def sequences(self) -> Mapping[MemberId, int]:
        """Those that were there at the last look, with the sequences of their newest messages."""
        return {member: seen.sequence for member, seen in self._seen.items()}

    @property
    def misses_any(self) -> bool:
        """Whether there are some that have no connection."""
        return bool(self._unconnected)

    def take(self, began: float, answered: float, sequences: Mapping[MemberId, int]) -> Sequence[MemberId]:
        """Takes what a look has found, and returns who is silent for too long."""
        known, self._seen = self._seen, {}
        before = {} if self._is_lost else known
        self._is_lost = False
        for member, sequence in sequences.items():
            if member not in known or known[member].sequence != sequence:
                self._unconnected.pop(member, None)
            seen = before.get(member)
            if seen is None or seen.sequence != sequence:
                self._seen[member] = _Seen(sequence, 0.0, answered)
            else:
                counts = min(max(began - seen.until, 0.0), self._pace.renewal)
                self._seen[member] = _Seen(sequence, seen.silent + counts, max(began, seen.until))
        return [member for member, seen in self._seen.items() if seen.silent >= self._patience(member)]

    def _patience(self, member: MemberId) -> float:
        """Returns for how many seconds a member may be silent."""
        since = self._unconnected.get(member, self._asked)
        is_gone = self._asked - since >= self._pace.unconnected
        return min(2 * self._pace.renewal, self._pace.ended) if is_gone else self._pace.ended

    def miss(self, began: float, answered: float, unconnected: Collection[MemberId]) -> None:
        """Takes which of the members have no connection, as the servers say when they are asked."""
        self._unconnected = {member: self._unconnected.get(member, answered) for member in unconnected}
        self._asked = began

    def lose(self) -> None:
        """Notes that the servers did not answer."""
        self._is_lost = True

    def remove(self, member: MemberId) -> None:
        """Forgets a member that has ended."""
        self._seen.pop(member, None)
