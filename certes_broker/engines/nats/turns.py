"""Taking turns: a writer whose block came second says so, and those who hear of it let another go first, once.

Without that, who has just been answered is always the first to know what the next block must follow, and a busy writer keeps
the others from writing at all. Nothing depends on it: what is said may be lost.
"""

from __future__ import annotations

from contextlib import suppress

from nats import errors
from nats.aio.msg import Msg

from certes_broker.engines.nats.connection import Connection
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.cluster import MemberId


class Turns:
    """Who wants to write."""

    def __init__(self, connection: Connection, names: Names, own: MemberId) -> None:
        self._connection = connection
        self._subject = names.turns
        self._own = own
        self._wanted = 0

    async def open(self) -> None:
        """Begins to listen."""
        await self._connection.client.subscribe(self._subject, cb=self._take)

    async def ask(self, after: int) -> None:
        """Says that this member wants to write a block after that with this sequence, which is another's."""
        with suppress(errors.Error):
            await self._connection.client.publish(self._subject, f"{after} {self._own}".encode())

    def is_wanted(self, newest: int) -> bool:
        """Says whether another waits that has not had its turn by its newest block."""
        return self._wanted > newest

    async def _take(self, message: Msg) -> None:
        after, _, member = message.data.decode().partition(" ")
        if member != self._own:
            self._wanted = max(self._wanted, int(after))
