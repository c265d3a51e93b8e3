"""Where an engine keeps things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from certes_broker.engines.nats.checks import Needs
from certes_broker.engines.nats.connection import Access

NO_NEEDS: Final = Needs()


@dataclass(frozen=True, slots=True)
class Place:
    """Servers, prefix, replicas (0: three in a cluster, else one), and what is asked of the servers."""

    access: Access
    prefix: str = "certes"
    replicas: int = 0
    needs: Needs = NO_NEEDS
