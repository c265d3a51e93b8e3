"""What is to be told about subscriptions, as settings documents: one of each broker, for each kind and subscription."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from certes_broker.domain.events import Position
from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.domain.notices import Batch, Exhausted, Fact, Kind
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import Document

PREFIX: Final = "notices/"

_converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
configure_tagged_union(Fact, _converter, tag_name="is")


def key_of(member: MemberId, name: SubscriptionName, kind: Kind) -> str:
    """Returns the key of a broker's document of a kind about a subscription."""
    return f"{PREFIX}{member}/{name.text}/{kind}"


def subject_of(key: str) -> tuple[MemberId, SubscriptionName, Kind]:
    """Returns whose document one is by its key, and what it is about."""
    member, _, rest = key.removeprefix(PREFIX).partition("/")
    name, _, kind = rest.rpartition("/")
    return MemberId(member), parse_subscription_name(name), Kind(kind)


def write_batches(batches: Sequence[Batch]) -> bytes:
    """Returns the body of a document, in which the batch that is told first stands first."""
    return _converter.dumps(list(batches)).encode()


def read_batches(document: Document) -> Sequence[Batch]:
    """Returns the batches of a document. Whoever wrote it may have ended before they came about."""
    return [replace(batch, unsure=True) for batch in _converter.loads(document.body.decode(), list[Batch])]


def move_batches(document: Document, place: Callable[[Position], Position | None]) -> bytes:
    """Returns the body of a document whose events have other places now; of one that has none, nothing is to be told."""
    moved: list[Batch] = []
    for batch in read_batches(document):
        facts = tuple([fact for told in batch.facts if (fact := _moved(told, place)) is not None])
        if facts:
            moved.append(replace(batch, facts=facts))
    return write_batches(moved)


def _moved(fact: Fact, place: Callable[[Position], Position | None]) -> Fact | None:
    if not isinstance(fact, Exhausted):
        return fact
    position = place(fact.position)
    return None if position is None else replace(fact, position=position)
