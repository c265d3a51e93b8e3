"""Page tokens: where the next page begins, and which list it is of."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from certes_broker.domain.errors import Invalid, Reason

_SEPARATORS: Final = (",", ":")


def make_token(after: str, *of: object) -> str:
    """Returns the token of the page that begins after `after` in the list that `of` describes."""
    document = json.dumps([after, *map(str, of)], separators=_SEPARATORS)
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def read_token(token: str, *of: object) -> str:
    """Returns what a token says; empty for no token. Raises `Invalid` (PAGE_TOKEN_INVALID) if it is of another list."""
    if not token:
        return ""
    try:
        document = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        document = None
    match document:
        case [str() as after, *rest] if rest == list(map(str, of)):
            return after
        case _:
            raise not_of_this_list()


def not_of_this_list() -> Invalid:
    """Returns the refusal of a token that says nothing to the list it was sent to."""
    return Invalid.field(
        Reason.PAGE_TOKEN_INVALID,
        "page_token",
        "is not of this list",
        hint="Send a next_page_token back unchanged, with the same other fields.",
    )
