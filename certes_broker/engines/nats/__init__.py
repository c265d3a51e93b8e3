"""The engine for a cluster: everything on NATS JetStream."""

from certes_broker.engines.nats.checks import Finding, Needs, Weakness
from certes_broker.engines.nats.connection import Access
from certes_broker.engines.nats.engine import Limits, NatsEngine, Place

__all__ = ["Access", "Finding", "Limits", "NatsEngine", "Needs", "Place", "Weakness"]
