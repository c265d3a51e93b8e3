"""What is to be told about subscriptions, as settings documents: one of each broker, for each kind and subscription."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.domain.notices import Batch, Fact, Kind
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
