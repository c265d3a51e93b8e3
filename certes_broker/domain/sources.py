"""Sources: configured ways in for foreign webhooks.

Rules
-----
* A source's audience is fixed in its settings: a foreign webhook cannot be trusted to say whom it is for, and must not
  guess. `PayloadSubscriber` is the one exception, and is said as explicitly.
* A source has a secret, unless its scheme needs none. The newest stands first; every one of them that has not expired
  verifies, so that a secret can be rotated.
* Secrets are hidden from `repr`, and so from logs and errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.names import SubscriberName, parse_subscriber_name
from certes_broker.domain.signature_schemes import SignatureScheme
from certes_broker.domain.webhook_mapping import Challenge, WebhookMapping

MAXIMUM_SOURCE_NAME_LENGTH: Final = 63
MAXIMUM_SOURCE_SECRETS: Final = 4
EVERYONE: Final = "everyone"
"""How settings spell the audience of all subscribers."""
SUBSCRIBER_IN_PAYLOAD: Final = "subscriber_in_payload"
"""How settings spell the audience that the webhook names."""
CUSTOM: Final = "custom"
"""The provider of a source that brings its own signature scheme and mapping."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What a `provider.toml` of the community catalogue says: who sends, how it is signed, and how it is mapped.

    Header names are lower-case. `kept_headers` and those that begin with one of `kept_prefixes` are kept with an event; a
    credential never is. `secret_is_ours` says whether the receiver chooses the secret (GitHub) or the provider does (Stripe);
    of those `secret_where` is a sentence that says where they show it.
    `retries_differ` says that what is sent again under the id of a delivery may differ from the first time, and is a duplicate
    nevertheless; from others it is refused.
    """

    name: str
    title: str
    signature: SignatureScheme
    mapping: WebhookMapping
    kept_headers: frozenset[str] = frozenset()
    kept_prefixes: tuple[str, ...] = ()
    challenge: Challenge | None = None
    secret_is_ours: bool = True
    secret_where: str = ""
    retries_differ: bool = False
    documentation: str = ""


@dataclass(frozen=True, slots=True)
class Everyone:
    """The audience of all subscribers."""

    @property
    def text(self) -> str:
        """The spelling in settings."""
        return EVERYONE

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class PayloadSubscriber:
    """The audience is the subscriber whose id stands in the webhook, at the mapping's `subscriber` place."""

    @property
    def text(self) -> str:
        """The spelling in settings."""
        return SUBSCRIBER_IN_PAYLOAD

    def __str__(self) -> str:
        return self.text


Audience = SubscriberName | Everyone | PayloadSubscriber
"""Whom the events of a source are for."""


@dataclass(frozen=True, slots=True)
class SourceSecret:
    """A secret that verifies, and when it stops to (None: no end yet)."""

    secret: str = field(repr=False)
    expire_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One way in. `secrets` are newest first.

    `signature` None means as the provider does; `mapping` None means the provider's. A `custom` source has both. A source
    that the configuration declares is `configured`, and has no times. `revision` and `etag` are those of its settings
    document, 0 and empty before it is stored.
    """

    name: str
    provider: str
    audience: Audience
    secrets: tuple[SourceSecret, ...] = ()
    signature: SignatureScheme | None = None
    mapping: WebhookMapping | None = None
    keep_rejected: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    configured: bool = False
    create_time: Micros | None = None
    update_time: Micros | None = None
    revision: int = 0
    etag: str = ""

    @property
    def event_source(self) -> str:
        """What `Event.source` says on the events that come in here; also the name of the resource."""
        return f"sources/{self.name}"

    @property
    def path(self) -> str:
        """The path at which the gateway takes its webhooks."""
        return f"/events/{self.name}"

    def secrets_at(self, now: Micros) -> tuple[str, ...]:
        """Returns the secrets that verify at a time, newest first."""
        return tuple(one.secret for one in self.secrets if one.expire_time is None or one.expire_time > now)


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
    """Reads `everyone`, `subscriber_in_payload` or `subscribers/{subscriber}`. Raises `Invalid` / `MALFORMED_NAME`."""
    if text == EVERYONE:
        return Everyone()
    if text == SUBSCRIBER_IN_PAYLOAD:
        return PayloadSubscriber()
    try:
        return parse_subscriber_name(text)
    except Invalid as error:
        raise Invalid(
            Reason.MALFORMED_NAME,
            "an audience is 'everyone', 'subscriber_in_payload' or 'subscribers/ID'"
            + (f"; {error.message}" if "/" in text else f", not {text[:100]!r}"),
            metadata=error.metadata,
        ) from None


_SOURCE_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAXIMUM_SOURCE_NAME_LENGTH - 1}}}")
