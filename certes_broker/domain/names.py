"""Resource names: how subscribers and their subscriptions are spelled.

Rules
-----
* A resource name is a path of collections and ids: `subscribers/{subscriber}/subscriptions/{subscription}`.
* An id is 1 to 128 characters of letters, digits and `. _ ~ - : @`. That takes in what producers call their customers
  already: `org_123`, a UUID, an e-mail address, `tenant:7`. `/` would end the segment and `%` would be read as an
  escape by URLs, so neither is among them. Ids are case-sensitive; nothing is decoded or folded.
* `-`, `.` and `..` alone are no ids: the first stands for "any" in a collection's name (AIP-159), the others vanish
  when a URL is normalised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from certes_broker.domain.errors import Invalid, Reason

MAXIMUM_ID_LENGTH: Final = 128
DEFAULT_SUBSCRIBER: Final = "default"
"""Serves those who need only one subscriber."""


@dataclass(frozen=True, slots=True)
class SubscriberName:
    """Names a subscriber; `subscriber` is the producer's own id for it."""

    subscriber: str

    @property
    def text(self) -> str:
        """The resource name."""
        return f"subscribers/{self.subscriber}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class SubscriptionName:
    """Names a subscription: whose it is, and its id among that subscriber's."""

    subscriber: str
    id: str

    @property
    def text(self) -> str:
        """The resource name."""
        return f"subscribers/{self.subscriber}/subscriptions/{self.id}"

    @property
    def parent(self) -> SubscriberName:
        """The subscriber it belongs to."""
        return SubscriberName(self.subscriber)

    def __str__(self) -> str:
        return self.text


def parse_subscriber_name(text: str) -> SubscriberName:
    """Reads `subscribers/{subscriber}`. Raises `Invalid` / `MALFORMED_NAME`."""
    (subscriber,) = _ids(text, ("subscribers",))
    return SubscriberName(subscriber)


def parse_subscription_name(text: str) -> SubscriptionName:
    """Reads `subscribers/{subscriber}/subscriptions/{subscription}`. Raises `Invalid` / `MALFORMED_NAME`."""
    subscriber, subscription = _ids(text, ("subscribers", "subscriptions"))
    return SubscriptionName(subscriber, subscription)


def parse_id(text: str) -> str:
    """Reads a bare id, such as an event's `subscriber` or a request's `subscription_id`, and returns it unchanged.

    Raises `Invalid` / `MALFORMED_NAME`.
    """
    problem = _id_problem(text)
    if problem:
        raise Invalid(
            Reason.MALFORMED_NAME, f"id {_shown(text)!r} is malformed: it {problem}", metadata={"problem": problem}
        )
    return text


_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._~:@-]")
_RESERVED: Final = frozenset({"-", ".", ".."})
_SHOWN: Final = 120


def _ids(text: str, collections: tuple[str, ...]) -> list[str]:
    """Reads the ids out of a name whose collections are known."""
    segments = text.split("/")
    ids = segments[1::2]
    if len(segments) != 2 * len(collections) or tuple(segments[::2]) != collections:
        raise _refusal(text, collections, "it has another form")
    for collection, identifier in zip(collections, ids, strict=True):
        problem = _id_problem(identifier)
        if problem:
            raise _refusal(text, collections, f"the id after '{collection}/' {problem}")
    return ids


def _id_problem(text: str) -> str:
    """Says what keeps a text from being an id; empty if nothing does."""
    if not text:
        return "is empty"
    if len(text) > MAXIMUM_ID_LENGTH:
        return f"has more than {MAXIMUM_ID_LENGTH} characters"
    stranger = _NOT_IN_ID.search(text)
    if stranger is not None:
        return f"has {stranger[0]!r} at character {stranger.start()}; letters, digits and . _ ~ - : @ are allowed"
    if text in _RESERVED:
        return "is reserved"
    return ""


def _refusal(text: str, collections: tuple[str, ...], problem: str) -> Invalid:
    form = "/".join(f"{collection}/{{{collection.removesuffix('s')}}}" for collection in collections)
    return Invalid(
        Reason.MALFORMED_NAME,
        f"name {_shown(text)!r} is malformed: {problem}",
        metadata={"problem": problem, "form": form},
        hint=f"The form is {form}.",
    )


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
