"""The headers of a foreign webhook: how they are found, and which of them are kept.

Rules
-----
* Names are lower-case, values are what the bytes of the request say as Latin-1, in which every byte is a character.
* A header that is a credential is never kept, neither with an event nor with a payload that was refused, whatever a
  provider's definition or a source's mapping says. This file decides what is one, for all of them.
* What is kept is bounded: with a payload that was refused because anybody can send it, and with an event because whoever
  gets it delivered as it came has to take it. What only the connection was told, such as `host`, is not kept with an event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from certes_broker.domain.errors import Invalid, Reason

HeaderPairs: TypeAlias = Sequence[tuple[str, str]]
"""Names and values, in the order in which they came."""

MAXIMUM_KEPT_BYTES: Final = 8 * 1024
"""Names and values of the headers that are kept with an event, or with a payload that was refused, together."""
MAXIMUM_KEPT_HEADERS: Final = 64
"""How many headers are kept with an event. Servers refuse requests with more than a hundred, some of them."""


class WebhookHeaders:
    """Finds the headers of one request."""

    __slots__ = ("_values", "pairs")

    def __init__(self, pairs: HeaderPairs) -> None:
        self.pairs: Final = pairs
        self._values = dict(pairs)

    def get(self, name: str) -> str | None:
        """Returns the value of a header, the last one if it came more than once; None if it did not come."""
        return self._values.get(name)

    def is_repeated(self, name: str) -> bool:
        """Says whether a header came more than once."""
        return len(self._values) != len(self.pairs) and sum(1 for found, _ in self.pairs if found == name) > 1


def parse_header_name(text: str) -> str:
    """Reads the name of a header and returns it in lower case.

    Raises `Invalid` / `FIELD_INVALID` for `header` if it is no name: 1 to 100 of the characters that RFC 9110 (5.6.2) allows.
    """
    if _HEADER_NAME.fullmatch(text) is None:
        raise Invalid.field(Reason.FIELD_INVALID, "header", f"{text[:100]!r} is no name of a header")
    return text.lower()


def is_credential(name: str, credential: str | None = None) -> bool:
    """Says whether a header, by its lower-case name, must not be kept.

    `credential` is the header that is one by a source's scheme, None for schemes without. Beside it and those that HTTP
    knows, whatever is called a token, a secret, a password or a key counts: it is not for the broker to find out. Keys by
    which things are told apart, such as `idempotency-key`, are none.
    """
    if name == credential or _CREDENTIAL.search(name) is not None:
        return True
    return _KEY.search(name) is not None and _PLAIN_KEY.search(name) is None


def is_of_connection(name: str) -> bool:
    """Says whether a header, by its lower-case name, speaks of the connection that a request came by, and of nothing else."""
    return name in _OF_CONNECTION


def kept_with_event(wanted: HeaderPairs) -> tuple[tuple[str, str], ...]:
    """Returns the headers to keep with an event, of those that are wanted: the first 64, in at most 8 KiB."""
    if len(wanted) <= MAXIMUM_KEPT_HEADERS and _size(wanted) <= MAXIMUM_KEPT_BYTES:
        return tuple(wanted)
    return _with_room(wanted[:MAXIMUM_KEPT_HEADERS])


def kept_with_rejected(
    pairs: HeaderPairs, needed: Iterable[str], credential: str | None
) -> tuple[tuple[str, str], ...]:
    """Returns the headers to keep with a payload that was refused: all that are no credentials, in at most 8 KiB.

    `needed` are those by which it would be verified and mapped again. They come first where there is not room for all.
    """
    sound = [pair for pair in pairs if not is_credential(pair[0], credential)]
    if _size(sound) <= MAXIMUM_KEPT_BYTES:
        return tuple(sound)
    first = frozenset(needed)
    return _with_room(sorted(sound, key=lambda pair: pair[0] not in first))


_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_CREDENTIAL: Final = re.compile(
    r"authori[sz]ation|authenti|(?:^|[-_])auth$|bearer|cookie|credential|jwt|passcode|passw(?:or)?d|secret|session|token"
    r"|(?:api|auth|access)[-_]?key"
)
_KEY: Final = re.compile(r"(?:^|[-_])key$")
_PLAIN_KEY: Final = re.compile(
    r"(?:cache|dedup(?:e|lication)?|event|idempotency|message|object|order(?:ing)?|partition|routing|surrogate)[-_]key$"
)
_OF_CONNECTION: Final = frozenset(
    {"connection", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
)


def _with_room(pairs: HeaderPairs) -> tuple[tuple[str, str], ...]:
    """Returns those that there is room for, the first ones first."""
    kept, room = [], MAXIMUM_KEPT_BYTES
    for pair in pairs:
        size = _size((pair,))
        if size <= room:
            kept.append(pair)
            room -= size
    return tuple(kept)


def _size(pairs: Iterable[tuple[str, str]]) -> int:
    return sum(len(name) + len(value) for name, value in pairs)
