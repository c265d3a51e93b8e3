"""The engine for a cluster: everything on NATS JetStream."""

from certes_broker.engines.nats.checks import Finding, Needs, Weakness
from certes_broker.engines.nats.connection import Access
from certes_broker.engines.nats.engine import Limits, NatsEngine
from certes_broker.engines.nats.examination import Examined, examine
from certes_broker.engines.nats.place import Place
from certes_broker.engines.nats.sightings import Pace

__all__ = ["Access", "Examined", "Finding", "Limits", "NatsEngine", "Needs", "Pace", "Place", "Weakness", "examine"]
