"""Operational events: each kind of notice is an event of a type that the broker knows, like any other."""

from __future__ import annotations

import pytest

from certes.v1.event_pb2 import Event
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.notices import (
    Batch,
    BreakerClosed,
    BreakerOpened,
    ConsentGranted,
    ConsentWithheld,
    DisableCause,
    Disabled,
    Exhausted,
    Fact,
    FilterFailed,
    Kind,
    Unread,
    kind_of,
)
from certes_broker.schemas.operational_events import OwnName, operational_event
from certes_broker.schemas.registry import Registry

NAME = SubscriptionName("org_1", "app")
TIME = Micros(1_800_000_000_000_001)
OWN = OwnName("events.example.com", lambda position: f"events/{position}")
FACTS: list[Fact] = [
    Disabled(DisableCause.GONE, "It is gone.", TIME),
    ConsentWithheld("It said no.", TIME),
    ConsentGranted(TIME),
    Exhausted(Position(3), "a.example/_/1/b", "e1", 2, "rejected", "No.", TIME),
    Unread(Position(1), Position(2), "retention", TIME),
    BreakerOpened(TIME, None, "8 of 10 failed."),
    BreakerClosed(TIME),
    FilterFailed("a.example/_/1/b", "e1", "error", "No such key.", TIME),
]


def test_every_kind_is_among_the_facts_below() -> None:
    assert {kind_of(fact) for fact in FACTS} == set(Kind)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: kind_of(fact).value)
def test_an_event_has_a_known_schema_and_is_selected_by_its_subscription(fact: Fact) -> None:
    registry = Registry()
    registry.add_operational_events(OWN.domain)
    told = operational_event(NAME, Batch("notice-1", (fact,)), OWN, TIME)
    schema = registry.lookup(told.type)
    data = Event.FromString(told.body).data
    assert data.type_url.endswith(f"/{schema.message_name}")
    assert schema.options == ("subscription",)
    assert told.options == (("subscription", NAME.text),)
