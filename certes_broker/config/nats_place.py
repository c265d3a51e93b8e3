"""What the settings say of the NATS servers, as their engine has it."""

from __future__ import annotations

from typing import Final

from certes_broker.config.settings import Config
from certes_broker.engines.nats import Access, Needs, Place

AROUND: Final = 64 * 1024
"""Bytes that an event needs beside its own, with all that routing must know of it; as an upper bound for a request."""


def nats_place(config: Config) -> Place:
    """Returns where the engine on NATS keeps things, and what is asked of the servers there."""
    nats, limits = config.nats, config.limits
    access = Access(config.engine.urls, nats.credentials, nats.token.text or None, nats.ca, nats.certificate, nats.key)
    # An event that was made of a webhook is stored together with it.
    largest = max(limits.request_bytes, limits.event_bytes + limits.ingress_body_bytes) + AROUND
    return Place(access, nats.prefix, nats.replicas, Needs(largest, nats.monitoring))
