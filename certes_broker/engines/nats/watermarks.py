"""The members' watermarks: one message each, which stays when its member has ended, since level cursors may refer to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from certes_broker.concurrency import together
from certes_broker.domain.events import BEGINNING, Position
from certes_broker.engines.nats.connection import WRONG_LAST_SEQUENCE, Connection, Refusal
from certes_broker.engines.nats.publishing import EXPECTED, ROLLUP, Message, Publisher
from certes_broker.engines.nats.reading import Kept, Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.cluster import MemberId

AT_ONCE: Final = 64


class Watermarks:
    """All watermarks, of which this member writes its own."""

    def __init__(
        self, connection: Connection, publisher: Publisher, reader: Reader, names: Names, own: MemberId
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._own = own
        self._sequence = 0
        self._position = BEGINNING

    async def raise_to(self, position: Position) -> None:
        """Writes this member's watermark, unless it is as high."""
        if position <= self._position:
            return
        headers = {**ROLLUP, EXPECTED: str(self._sequence)}
        try:
            stored = await self._publisher.store(Message(self._names.watermark(self._own), b"%d" % position, headers))
            self._sequence, self._position = stored.sequence, position
        except Refusal as refusal:
            if refusal.error_code != WRONG_LAST_SEQUENCE:
                raise self._connection.unavailable(refusal) from refusal
            # Nobody else writes it: an earlier answer was lost.
            kept = await self._reader.last(self._names.watermark(self._own))
            self._sequence, self._position = 0 if kept is None else kept.sequence, _position(kept)
            if position > self._position:
                raise self._connection.unavailable(refusal) from refusal

    async def of(self, members: Iterable[str]) -> Mapping[str, Position]:
        """Returns the watermarks of members, 0 for those that wrote none."""
        others = sorted(set(members) - {self._own})
        found: dict[str, Position] = {self._own: self._position}
        for start in range(0, len(others), AT_ONCE):
            part = others[start : start + AT_ONCE]
            kept = await together(self._reader.last(self._names.watermark(member)) for member in part)
            found |= zip(part, map(_position, kept), strict=True)
        return found

    async def highest(self) -> Position:
        """Returns the highest of all."""
        subjects = await self._reader.subjects(self._names.watermark("*"))
        return max((await self.of(map(self._names.member_of, subjects))).values())


def _position(kept: Kept | None) -> Position:
    return BEGINNING if kept is None else Position(int(kept.payload))
