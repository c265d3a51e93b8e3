"""Subscriptions as settings documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from certes_broker.domain.consent import Consent
from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.domain.retry import Backoff
from certes_broker.domain.subscriptions import Delivery, Subscription
from certes_broker.domain.uris import TypePattern, parse_pattern
from certes_broker.ports.engine import Document

PREFIX: Final = "subscriptions/"

_converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
configure_tagged_union(Backoff, _converter, tag_name="kind")
configure_tagged_union(Consent, _converter, tag_name="is")
configure_tagged_union(Delivery, _converter, tag_name="kind")
_converter.register_unstructure_hook(SubscriptionName, str)
_converter.register_structure_hook(SubscriptionName, lambda text, _: parse_subscription_name(text))
_converter.register_unstructure_hook(TypePattern, str)
_converter.register_structure_hook(TypePattern, lambda text, _: parse_pattern(text))


def key_of(name: SubscriptionName) -> str:
    """Returns the key of a subscription's document."""
    return PREFIX + name.text


def write_document(subscription: Subscription) -> bytes:
    """Returns the body of a subscription's document."""
    return _converter.dumps(replace(subscription, revision=0)).encode()


def read_document(document: Document) -> Subscription:
    """Returns the subscription of a document, with the document's revision."""
    return replace(_converter.loads(document.body.decode(), Subscription), revision=document.revision)
