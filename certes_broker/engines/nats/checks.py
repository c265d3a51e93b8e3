"""What the servers can be relied on for: checked at the start and by `certes doctor`, and said in words.

The servers' `sync_interval` is not to be seen by a client of an ordinary account. It is read from the monitoring address of
each server, where the settings name one (`nats.monitoring`); otherwise it is not known, which is said, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from certes_broker.domain.errors import FailedPrecondition, Reason, Unavailable
from certes_broker.engines.nats.connection import Connection, Refusal

OLDEST: Final = (2, 12)
"""The oldest version that stores batches of messages atomically."""
SECONDS: Final = 3.0


@unique
class Weakness(Enum):
    """A guarantee that is weaker than it should be. The value is its stable word, for metrics and logs."""

    UNSYNCED = "unsynced"
    SYNC_UNKNOWN = "sync_unknown"
    SINGLE_COPY = "single_copy"
    SMALL_PAYLOAD = "small_payload"


@dataclass(frozen=True, slots=True)
class Finding:
    """A weakness, what was seen, and what to do."""

    weakness: Weakness
    fact: str
    advice: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What is asked of the servers: bytes of the largest message, and their monitoring addresses."""

    message_bytes: int = 0
    monitoring: Sequence[str] = ()


def check_version(connection: Connection) -> str:
    """Returns the server's version. Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) for one that is too old."""
    server = connection.client.connected_server_version
    version = f"{server.major}.{server.minor}.{server.patch}"
    if (server.major, server.minor) < OLDEST:
        raise FailedPrecondition(
            Reason.STORAGE_UNAVAILABLE,
            f"The NATS server is version {version}; what is stored together needs 2.12 or newer.",
            hint="Run a newer nats-server.",
            metadata={"version": version},
        )
    return version


async def check_jetstream(connection: Connection) -> None:
    """Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) where JetStream is off, or off for this account."""
    try:
        await connection.try_api("INFO")
    except (Refusal, Unavailable) as error:
        raise FailedPrecondition(
            Reason.STORAGE_UNAVAILABLE,
            f"JetStream cannot be used on the NATS servers ({connection.servers}): {error}",
            hint="Add a jetstream section to their configuration, and let the account use JetStream.",
        ) from error


async def look(connection: Connection, replicas: int, needs: Needs) -> Sequence[Finding]:
    """Returns which guarantees are weaker than they should be."""
    findings = [*_payload(connection.max_payload, needs.message_bytes)]
    findings += await _sync(needs.monitoring)
    if replicas == 1:
        findings.append(
            Finding(
                Weakness.SINGLE_COPY,
                "Everything is kept by one server: when it is lost with its disk, so is what was accepted.",
                "Run three servers as a cluster, and set nats.replicas to 3.",
            )
        )
    return findings


def _payload(limit: int, wanted: int) -> Sequence[Finding]:
    if limit >= wanted:
        return []
    return [
        Finding(
            Weakness.SMALL_PAYLOAD,
            f"The servers take messages of {limit} bytes, and the settings allow requests that need {wanted}: larger ones"
            " are refused.",
            "Set max_payload: 8MB in the configuration of the NATS servers.",
        )
    ]


async def _sync(monitoring: Sequence[str]) -> Sequence[Finding]:
    if not monitoring:
        return [
            Finding(
                Weakness.SYNC_UNKNOWN,
                "Whether the servers sync what they acknowledge is not known; without it, an accepted event can be lost with"
                " the power of a server, or of all of them at once.",
                "Set sync_interval: always in the jetstream section of the servers, and nats.monitoring to where they tell.",
            )
        ]
    found: list[Finding] = []
    for address in monitoring:
        finding = _judged(address, await asyncio.to_thread(_ask, address))
        found += [finding] if finding else []
    return found


def _judged(address: str, answer: dict[str, Any] | str) -> Finding | None:
    if isinstance(answer, str):
        return Finding(
            Weakness.SYNC_UNKNOWN,
            f"Whether the server at {address} syncs what it acknowledges is not known: {answer}.",
            "See that nats.monitoring names the addresses of http: in the configuration of the NATS servers.",
        )
    config = answer.get("config") or {}
    if config.get("sync_always"):
        return None
    seconds = config.get("sync_interval", 0) / 1e9
    return Finding(
        Weakness.UNSYNCED,
        f"The server at {address} syncs what it acknowledges every {seconds:g} s only: an accepted event can be lost with its"
        " power, or, where there are replicas, with that of all of them at once.",
        "Set sync_interval: always in the jetstream section of its configuration.",
    )


def _ask(address: str) -> dict[str, Any] | str:
    """Asks a server what it is set to; returns why not where that fails."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    connection = HTTPConnection(parts.hostname or "", parts.port or 8222, timeout=SECONDS)
    try:
        connection.request("GET", "/jsz")
        response = connection.getresponse()
        if response.status != HTTPStatus.OK:
            return f"it answers {response.status}"
        answer = json.loads(response.read(1 << 20))
    except (OSError, HTTPException, ValueError) as error:
        return str(error) or repr(error)
    else:
        return answer if isinstance(answer, dict) else "its answer is no object"
    finally:
        connection.close()
