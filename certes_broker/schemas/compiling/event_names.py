"""The names of event types that a schema does not say."""

from __future__ import annotations

import re
from typing import Final


def snake_case(name: str) -> str:
    """Returns a message's name as an event's: `MyEvent` is `my_event`, `HTTPPing` is `http_ping`, `V2Thing` `v2_thing`.

    `_` goes before a capital that follows a small letter or a digit, and before the last of several capitals where a small
    letter follows it.
    """
    return _BEGINS_A_WORD.sub("_", name).lower()


_BEGINS_A_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
