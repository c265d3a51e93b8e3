"""Default retry policies: what holds for deliveries whose subscription says nothing.

Rules
-----
* A policy is looked for in this order, and the first that is found holds: the subscription's own; the default of the event's type;
  the default of the event's source; the global default; the one built in.
* A policy holds as a whole; nothing of one is mixed into another.
* It is looked for when an attempt has failed, so what is changed counts for every delivery that fails from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import CONTROL_CHARACTERS, Micros
from certes_broker.domain.retry import DEFAULT_RETRY_POLICY, RetryPolicy
from certes_broker.domain.uris import parse_event_type

COLLECTION: Final = "backoffs/"
SOURCE_BYTES: Final = 512
MAXIMUM_DEFAULTS: Final = 1_000
"""How many default policies there can be."""


@unique
class Origin(Enum):
    """Where a policy comes from, first in rank first."""

    SUBSCRIPTION = "subscription"
    EVENT_TYPE = "event_type"
    SOURCE = "source"
    GLOBAL = "global"
    BUILT_IN = "built_in"


class Target(NamedTuple):
    """What a default is for: events of one type, events of one source, or all (`value` is empty)."""

    origin: Origin
    value: str = ""

    @property
    def name(self) -> str:
        """The name of the resource, such as `backoffs/types/community.certes.dev/github/1/push`."""
        return COLLECTION + "".join((_SEGMENTS[self.origin], self.value))


EVERYTHING: Final = Target(Origin.GLOBAL)


@dataclass(frozen=True, slots=True)
class BackoffDefault:
    """A default as it is stored. `revision` is that of its document; `etag` says nothing but whether it has changed."""

    target: Target
    policy: RetryPolicy
    update_time: Micros
    revision: int = 0

    @property
    def etag(self) -> str:
        return f"{self.revision:x}"


@dataclass(frozen=True, slots=True)
class Effective:
    """A policy that holds for events of a type and of a source; for any where these are empty."""

    policy: RetryPolicy
    origin: Origin
    event_type: str = ""
    source: str = ""


def parse_target(name: str) -> Target:
    """Reads the name of a default.

    Raises `Invalid`: FIELD_INVALID for `name`, or MALFORMED_EVENT_TYPE where the type in it is none.
    """
    if name == EVERYTHING.name:
        return EVERYTHING
    types, sources = (COLLECTION + _SEGMENTS[origin] for origin in (Origin.EVENT_TYPE, Origin.SOURCE))
    if name.startswith(types):
        return Target(Origin.EVENT_TYPE, str(parse_event_type(name.removeprefix(types))))
    source = name.removeprefix(sources)
    if not name.startswith(sources) or not source:
        raise _refusal(f"{name[:100]!r} is none of backoffs/global, backoffs/types/TYPE and backoffs/sources/SOURCE")
    if len(source.encode()) > SOURCE_BYTES or CONTROL_CHARACTERS.search(source):
        raise _refusal(f"the source in it is longer than {SOURCE_BYTES} bytes, or has control characters")
    return Target(Origin.SOURCE, source)


def effective(
    own: RetryPolicy | None, defaults: Mapping[Target, BackoffDefault], event_type: str, source: str
) -> Effective:
    """Returns the policy that holds for events of a type and a source."""
    if own is not None:
        return Effective(own, Origin.SUBSCRIPTION)
    for target in (Target(Origin.EVENT_TYPE, event_type), Target(Origin.SOURCE, source), EVERYTHING):
        found = defaults.get(target)
        if found is not None:
            return _of(found)
    return _BUILT_IN


def ranked(own: RetryPolicy | None, defaults: Iterable[BackoffDefault]) -> list[Effective]:
    """Returns the policies of which one holds for each event: the first whose type and source, where it has one, are the event's."""
    if own is not None:
        return [Effective(own, Origin.SUBSCRIPTION)]
    found = sorted(defaults, key=lambda one: (_RANKS[one.target.origin], one.target.value))
    last = [] if any(one.target == EVERYTHING for one in found) else [_BUILT_IN]
    return [*map(_of, found), *last]


def _of(default: BackoffDefault) -> Effective:
    origin, value = default.target
    return Effective(
        default.policy,
        origin,
        event_type=value if origin is Origin.EVENT_TYPE else "",
        source=value if origin is Origin.SOURCE else "",
    )


def _refusal(problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, "name", problem)


_BUILT_IN: Final = Effective(DEFAULT_RETRY_POLICY, Origin.BUILT_IN)
_RANKS: Final = {origin: rank for rank, origin in enumerate(Origin)}
_SEGMENTS: Final = {Origin.EVENT_TYPE: "types/", Origin.SOURCE: "sources/", Origin.GLOBAL: "global"}
