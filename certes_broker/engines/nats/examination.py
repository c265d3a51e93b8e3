"""Looking at the servers without running on them: for `certes doctor`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from certes_broker.engines.nats.checks import Finding, check_jetstream, check_version, look
from certes_broker.engines.nats.connection import connected
from certes_broker.engines.nats.place import Place
from certes_broker.engines.nats.streams import Streams
from certes_broker.engines.nats.subjects import Names


@dataclass(frozen=True, slots=True)
class Examined:
    """What was seen: the server's version, how many replicas streams have or would have, and weaker guarantees."""

    servers: str
    version: str
    replicas: int
    findings: Sequence[Finding]


async def examine(place: Place) -> Examined:
    """Connects, to servers that are there now, tries with a stream of its own whether the replicas are possible, and takes it away.

    Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) for what a broker would not start with, and `Unavailable`.
    """
    async with connected(replace(place.access, waits=False), logged=False) as connection:
        version = check_version(connection)
        await check_jetstream(connection)
        streams = Streams(connection, Names(place.prefix), place.replicas)
        replicas = await streams.possible_replicas(secrets.token_hex(4))
        findings = await look(connection, replicas, place.needs)
        return Examined(connection.servers, version, replicas, findings)
