"""The names of events: `events/` and a position that says nothing.

Positions count everybody's events. A name must not, or a subscriber could read from two names how much the others have
received. So a name holds the position enciphered: one AES block, which is a permutation of all positions under a key that
the broker makes once and keeps in its settings. It is short, stable over restarts, cheap to make by the thousand, and a
name that was guessed deciphers to no position.

Page tokens say where a page begins, and hold positions enciphered, too, but marked: were they names, then whoever has heard a
name of another's event could ask by a token of its own making whether there is such an event, and which of its own come after it.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from certes_broker.broker.paging import not_of_this_list
from certes_broker.domain.errors import NotFound, Reason
from certes_broker.domain.events import Position

PREFIX: Final = "events/"
NAME_KEY: Final = "broker/event-name-key"
"""The document that has the key."""
KEY_BYTES: Final = 16
_TOKEN: Final = 32
_HEX: Final = frozenset(string.digits + "abcdef")
_CHECK: Final = bytes(8)
_PLACE: Final = b"\1" + bytes(7)


class EventNames:
    """Makes names of positions, and finds positions by name."""

    def __init__(self, key: bytes) -> None:
        # ECB hides no structure where every block is different, and each position is enciphered alone so that it is.
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        self._encipher = cipher.encryptor()
        self._decipher = cipher.decryptor()

    def name(self, position: Position) -> str:
        """Returns the name of the event at `position`."""
        return self.names((position,))[0]

    def names(self, positions: Sequence[Position]) -> list[str]:
        """Returns the names of many events, in order."""
        blocks = b"".join([position.to_bytes(16, "big") for position in positions])
        tokens = self._encipher.update(blocks).hex()
        return [PREFIX + tokens[start : start + _TOKEN] for start in range(0, len(tokens), _TOKEN)]

    def position(self, name: str) -> Position:
        """Returns the position that `name` hides. Raises `NotFound` (EVENT_NOT_FOUND) if it hides none."""
        position = self._hidden(name.removeprefix(PREFIX), _CHECK) if name.startswith(PREFIX) else None
        if position is None:
            raise event_not_found(name)
        return position

    def place(self, position: Position) -> str:
        """Returns what stands for a position in a page token."""
        return self._encipher.update(_PLACE + position.to_bytes(8, "big")).hex()

    def position_of_place(self, text: str) -> Position:
        """Returns the position that `place` has hidden. Raises `Invalid` (PAGE_TOKEN_INVALID) for anything else, a name included."""
        position = self._hidden(text, _PLACE)
        if position is None:
            raise not_of_this_list()
        return position

    def _hidden(self, token: str, mark: bytes) -> Position | None:
        if len(token) == _TOKEN and _HEX.issuperset(token):
            block = self._decipher.update(bytes.fromhex(token))
            if block.startswith(mark):
                return Position(int.from_bytes(block[len(mark) :], "big"))
        return None


def event_not_found(name: str) -> NotFound:
    """Returns the refusal of a name that names no kept event."""
    return NotFound(
        Reason.EVENT_NOT_FOUND,
        f"No event {name!r} is kept.",
        hint="Names are given by Publish and in deliveries; events are trimmed when retention says so.",
        metadata={"name": name},
    )
