"""Who calls, and what they may do.

Rules
-----
* A caller has roles and bindings. A role says what kind of thing it may do; a binding says to whose things. No binding of
  a kind means all of that kind, and that is how an operator differs from a tenant.
* Every rpc declares what it needs (`Needs`, from the option `certes.v1.access`): a role, and whether it takes a caller who is
  bound to subscribers.
* A caller who is bound to subscribers gets one answer for what is another's and for what does not exist. Where the name
  itself says whose it is, that answer is `NOT_BOUND_TO`, decided before anybody looks whether it exists.
* Sources below `sources/` belong to the ingress of foreign webhooks, whoever asks.
* A caller gives away no more than it has (`exceeds`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from certes_broker.domain.errors import Invalid, PermissionDenied, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.uris import TypePattern, parse_event_type


@unique
class Role(StrEnum):
    """What a caller may do. The values are what keys, tokens and the contract spell."""

    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    EVENTS_PUBLISH_EVERYONE = "events:publish_everyone"
    SUBSCRIPTIONS_READ = "subscriptions:read"
    SUBSCRIPTIONS_WRITE = "subscriptions:write"
    SUBSCRIPTIONS_SECRETS = "subscriptions:secrets"
    SCHEMAS_READ = "schemas:read"
    SCHEMAS_WRITE = "schemas:write"
    SOURCES_READ = "sources:read"
    SOURCES_WRITE = "sources:write"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_WRITE = "deliveries:write"
    BACKOFFS_READ = "backoffs:read"
    BACKOFFS_WRITE = "backoffs:write"
    CONFIG_READ = "config:read"
    CONFIG_WRITE = "config:write"


ALL_ROLES: Final = frozenset(Role)

ROLE_SETS: Final[dict[str, frozenset[Role]]] = {
    "operator": ALL_ROLES,
    "publisher": frozenset({Role.EVENTS_WRITE, Role.SCHEMAS_READ}),
    "subscriber": frozenset(
        {
            Role.EVENTS_READ,
            Role.SUBSCRIPTIONS_READ,
            Role.SUBSCRIPTIONS_WRITE,
            Role.SUBSCRIPTIONS_SECRETS,
            Role.DELIVERIES_READ,
            Role.DELIVERIES_WRITE,
            Role.SCHEMAS_READ,
        }
    ),
}
"""Names that stand for several roles, for whoever writes a key or a token."""

ANY_ROLE: Final = "any"
"""What an rpc needs that serves everybody who is known at all."""

INGRESS_SOURCES: Final = "sources/"
LONGEST_SOURCE: Final = 2_048


@dataclass(frozen=True, slots=True)
class Needs:
    """What an rpc needs of its caller. `role` is None for one that takes anybody who is known."""

    role: Role | None
    unbound: bool = False

    @classmethod
    def declared(cls, role: str, *, unbound: bool) -> Needs:
        """Reads what an rpc declares. Raises `ValueError` if that is no role."""
        return cls(None if role == ANY_ROLE else Role(role), unbound)


@dataclass(frozen=True, slots=True)
class Bindings:
    """To what a caller is bound; None of a kind for all of it. An empty set leaves nothing of it.

    `sources` are names of sources, or beginnings of them that end in `*`. Who is bound to subscribers has no sources but these:
    under a source that others use, too, it could learn of the ids of their events, and take them.
    """

    subscribers: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    types: frozenset[TypePattern] | None = None


UNBOUND: Final = Bindings()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: what it is called in logs, what it may do, to what it is bound, and until when if not for good.

    `certificate` is the number of the one that it showed, by its issuer; empty where it is known by something else.
    """

    id: str
    roles: frozenset[Role] = frozenset()
    bindings: Bindings = UNBOUND
    until: Micros | None = None
    certificate: str = ""

    @property
    def is_bound(self) -> bool:
        """Whether it sees some subscribers only."""
        return self.bindings.subscribers is not None

    @property
    def sees_all_events(self) -> bool:
        """Whether there is no event that it may not see."""
        return self.bindings.subscribers is None and self.bindings.types is None

    @property
    def is_operator(self) -> bool:
        """Whether it may change the broker itself, and sees every subscriber."""
        return Role.CONFIG_WRITE in self.roles and not self.is_bound

    @property
    def publishes_all(self) -> bool:
        """Whether it may publish whatever anybody may."""
        return self.bindings == UNBOUND and Role.EVENTS_PUBLISH_EVERYONE in self.roles

    def sees(self, subscriber: str) -> bool:
        """Whether what belongs to a subscriber is this caller's to see."""
        bound = self.bindings.subscribers
        return bound is None or subscriber in bound

    def sees_event(self, subscriber: str | None, event_type: str) -> bool:
        """Whether it may see an event, which is for a subscriber or, if None, for everyone."""
        return (subscriber is None or self.sees(subscriber)) and self.has_type(event_type)

    def has_type(self, event_type: str) -> bool:
        """Whether events of a type are its to publish and to see."""
        types = self.bindings.types
        if types is None:
            return True
        parsed = parse_event_type(event_type)
        return any(pattern.matches(parsed) for pattern in types)

    def has_source(self, source: str) -> bool:
        """Whether it may publish under a source."""
        granted = self.bindings.sources
        return not self.is_bound if granted is None else any(_covers_source(one, source) for one in granted)


LOCAL_OPERATOR: Final = Caller("local", ALL_ROLES)
"""Who calls a broker that asks nobody who they are: it listens on loopback, and its owner may do everything."""


def check_needs(caller: Caller, needs: Needs, method: str) -> None:
    """Raises `PermissionDenied` (ROLE_MISSING, NOT_BOUND_TO) if a caller may not call a method, whatever the request."""
    if needs.role is not None and needs.role not in caller.roles:
        raise role_missing(caller, needs.role, method)
    if needs.unbound and caller.is_bound:
        raise PermissionDenied(
            Reason.NOT_BOUND_TO,
            f"{method} is about what belongs to no subscriber, and {caller.id} is bound to some.",
            hint="Call it with a credential that is bound to none.",
            metadata={"method": method},
        )


def check_subscriber(caller: Caller, subscriber: str) -> None:
    """Raises `PermissionDenied` (NOT_BOUND_TO) if a subscriber is not the caller's. `-` stands for all of them."""
    if caller.sees(subscriber):
        return
    which = "all subscribers" if subscriber == "-" else f"the subscriber {subscriber[:128]!r}"
    raise PermissionDenied(
        Reason.NOT_BOUND_TO,
        f"{caller.id} is not bound to {which}.",
        hint="Name a subscriber that it is bound to, or use another credential.",
        metadata={"subscriber": subscriber[:128]},
    )


def check_publish(caller: Caller, source: str, subscriber: str | None, event_type: str) -> None:
    """Raises `PermissionDenied` if a caller may not publish an event.

    SOURCE_NOT_GRANTED for its source, NOT_BOUND_TO for its subscriber, ROLE_MISSING for an event for everyone, TYPE_NOT_GRANTED
    for its type.
    """
    if source.startswith(INGRESS_SOURCES):
        raise PermissionDenied(
            Reason.SOURCE_NOT_GRANTED,
            f"the source {source[:128]!r} belongs to the webhooks that the broker takes in; nobody publishes under it.",
            hint=f"Choose a source that does not begin with {INGRESS_SOURCES!r}.",
            metadata={"source": source[:128]},
        )
    if not caller.has_source(source):
        raise PermissionDenied(
            Reason.SOURCE_NOT_GRANTED,
            f"the source {source[:128]!r} is not granted to {caller.id}.",
            hint="Publish under one that is, or have it granted.",
            metadata={"source": source[:128]},
        )
    if subscriber is not None:
        check_subscriber(caller, subscriber)
    elif Role.EVENTS_PUBLISH_EVERYONE not in caller.roles:
        raise role_missing(caller, Role.EVENTS_PUBLISH_EVERYONE, "an event for everyone")
    check_type(caller, event_type)


def check_type(caller: Caller, event_type: str) -> None:
    """Raises `PermissionDenied` (TYPE_NOT_GRANTED) if an event type is not the caller's."""
    if not caller.has_type(event_type):
        raise _type_not_granted(caller, event_type)


def check_scope(caller: Caller, *, all_subscribers: bool) -> None:
    """Raises `PermissionDenied` (NOT_OPERATOR) if a caller may not have a subscription of this scope."""
    if all_subscribers and not caller.is_operator:
        raise PermissionDenied(
            Reason.NOT_OPERATOR,
            f"a subscription to the events of all subscribers is an operator's, and {caller.id} is none.",
            hint=f"An operator has the role {Role.CONFIG_WRITE.value} and is bound to no subscriber.",
            metadata={"role": Role.CONFIG_WRITE.value},
        )


def check_patterns(caller: Caller, patterns: Iterable[TypePattern | None]) -> None:
    """Raises `PermissionDenied` (TYPE_NOT_GRANTED) if one selects a type that is not the caller's. None selects all types."""
    granted = caller.bindings.types
    if granted is None:
        return
    for pattern in patterns:
        if pattern is None or not any(covers(one, pattern) for one in granted):
            raise _type_not_granted(caller, "**" if pattern is None else pattern.text)


def role_missing(caller: Caller, role: Role, doing: str) -> PermissionDenied:
    """Returns the refusal of a caller who has not the role for what it is `doing`."""
    return PermissionDenied(
        Reason.ROLE_MISSING,
        f"{doing} needs the role {role.value}, which {caller.id} does not have.",
        hint="Use a credential that has it.",
        metadata={"role": role.value},
    )


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Reads roles and sets of them. Raises `Invalid` (FIELD_INVALID) for what is neither."""
    roles: set[Role] = set()
    for name in names:
        if name in ROLE_SETS:
            roles |= ROLE_SETS[name]
        elif name in ALL_ROLES:
            roles.add(Role(name))
        else:
            known = ", ".join([*ROLE_SETS, *(role.value for role in Role)])
            raise Invalid(Reason.FIELD_INVALID, f"{name[:64]!r} is no role; there are {known}")
    return frozenset(roles)


def read_source(text: str) -> str:
    """Reads a source to be granted: its name, or the beginning of names with a * at its end. Raises `Invalid` (FIELD_INVALID)."""
    if not text or len(text) > LONGEST_SOURCE or "*" in text[:-1]:
        raise Invalid(Reason.FIELD_INVALID, f"{text[:80]!r} is no source, nor the beginning of one with a * at its end")
    return text


def exceeds(wanted: Caller, giver: Caller) -> str:
    """Says what of a new caller its giver has not itself, such as `the role config:write`; empty if nothing."""
    missing = sorted(role.value for role in wanted.roles - giver.roles)
    if missing:
        return f"the role {missing[0]}"
    mine, theirs = giver.bindings, wanted.bindings
    if mine.subscribers is not None and (theirs.subscribers is None or theirs.subscribers - mine.subscribers):
        return "subscribers that the giver is not bound to"
    if mine.sources is not None and (
        theirs.sources is None or any(not any(_covers_source(g, w) for g in mine.sources) for w in theirs.sources)
    ):
        return "sources that the giver has not"
    if mine.types is not None and (
        theirs.types is None or any(not any(covers(g, w) for g in mine.types) for w in theirs.types)
    ):
        return "event types that the giver has not"
    return ""


def covers(granted: TypePattern, wanted: TypePattern) -> bool:
    """Says whether one pattern selects, at each place and by the same kinds of segments, all that another one selects.

    It may deny it where only the lengths of what exists would make it so; it never says so wrongly.
    """
    if wanted.is_literal:
        return granted.matches(parse_event_type(wanted.text))
    mine, theirs = granted.text.split("/"), wanted.text.split("/")
    if mine[-1] in ("*", "**") and theirs[-1].startswith("_"):
        return False
    if mine[-1] == "**":
        mine.pop()
        if len(theirs) <= len(mine):
            return False
        del theirs[len(mine) :]
    return len(mine) == len(theirs) and all(
        want == have or (want == "*" and have != "**") for want, have in zip(mine, theirs, strict=True)
    )


def _covers_source(granted: str, source: str) -> bool:
    return source.startswith(granted[:-1]) if granted.endswith("*") else source == granted


def _type_not_granted(caller: Caller, text: str) -> PermissionDenied:
    return PermissionDenied(
        Reason.TYPE_NOT_GRANTED,
        f"the event type {text[:256]!r} is not granted to {caller.id}.",
        hint="Use one that is, or have it granted.",
        metadata={"type": text[:256]},
    )
