"""Sources: configured ways in for foreign webhooks.

Rules
-----
* A source's audience is fixed in its settings: a foreign webhook cannot say whom it is for, and must not guess.
* A source always has a secret. The newest stands first; every one of them verifies, so that a secret can be rotated.
* Secrets are hidden from `repr`, and so from logs and errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import SubscriberName, parse_subscriber_name

MAXIMUM_SOURCE_NAME_LENGTH: Final = 63
EVERYONE: Final = "everyone"
"""How settings spell the audience of all subscribers."""


@unique
class Provider(StrEnum):
    """Who sends the webhooks of a source, and so how they are signed and mapped."""

    GITHUB = "github"


@dataclass(frozen=True, slots=True)
class Everyone:
    """The audience of all subscribers."""

    @property
    def text(self) -> str:
        """The spelling in settings."""
        return EVERYONE

    def __str__(self) -> str:
        return self.text


Audience = SubscriberName | Everyone
"""Whom the events of a source are for."""


@dataclass(frozen=True, slots=True)
class Source:
    """One way in. `secrets` are the shared secrets as bytes, newest first, at least one."""

    name: str
    provider: Provider
    secrets: tuple[bytes, ...] = field(repr=False)
    audience: Audience

    @property
    def event_source(self) -> str:
        """What `Event.source` says on the events that come in here."""
        return f"sources/{self.name}"

    @property
    def path(self) -> str:
        """The path at which the gateway takes its webhooks."""
        return f"/events/{self.name}"


def parse_source_name(text: str) -> str:
    """Reads the name of a source: 1 to 63 of `a-z 0-9 - _`, the first of them a letter or digit.

    Raises `Invalid` / `MALFORMED_NAME`.
    """
    if _SOURCE_NAME.fullmatch(text) is None:
        raise Invalid(
            Reason.MALFORMED_NAME,
            f"{text[:80]!r} is no name for a source: 1 to {MAXIMUM_SOURCE_NAME_LENGTH} of a-z, 0-9, '-' and '_' are "
            "allowed, and the first must be a letter or a digit",
            metadata={"text": text[:80]},
        )
    return text


def parse_audience(text: str) -> Audience:
    """Reads `everyone` or `subscribers/{subscriber}`. Raises `Invalid` / `MALFORMED_NAME`."""
    if text == EVERYONE:
        return Everyone()
    try:
        return parse_subscriber_name(text)
    except Invalid as error:
        raise Invalid(
            Reason.MALFORMED_NAME,
            f"an audience is 'everyone' or 'subscribers/ID'; {error.message}",
            metadata=error.metadata,
        ) from None


_SOURCE_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAXIMUM_SOURCE_NAME_LENGTH - 1}}}")
