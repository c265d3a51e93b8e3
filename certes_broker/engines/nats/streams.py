"""The streams and the bucket of one engine: what they are to be like, and making them so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.engines.nats.connection import STARTING, STREAM_NOT_FOUND, Connection, Refusal
from certes_broker.engines.nats.subjects import Names

REPLICAS_IN_A_CLUSTER: Final = 3
DUPLICATES_SECONDS: Final = 120
"""How long a stream knows a message that is sent again. No request is repeated for nearly so long."""
NOT_CLUSTERED: Final = 10074
NO_PEERS: Final = 10005
NAME_IN_USE: Final = 10058
STORE_FAILED: Final = 10049
PASSING: Final = frozenset({NO_PEERS, STORE_FAILED})
"""Refusals that may be over a moment later: to each other, servers that have just begun may seem to be away still; and while a
stream is being deleted, its server may find no place for the files of another.
"""
LOOKS: Final = 20
LOOKING: Final = 0.5
"""Seconds between tries to make a stream."""
KEPT: Final = "certes"
"""The key of streams' metadata under which the journal's secret is."""


def configurations(names: Names) -> Sequence[Mapping[str, Any]]:
    """Returns what is asked of each stream, but for replicas."""
    prefix = names.prefix
    return [
        _stream(names.journal, f"{prefix}.journal.>", "events, as blocks"),
        _stream(names.lanes, f"{prefix}.lanes.>", "cursors, leases, dead letters and gaps of subscriptions"),
        _stream(names.attempts, f"{prefix}.attempts.>", "attempts at webhooks"),
        _stream(names.rejected, f"{prefix}.rejected.>", "payloads that sources did not take"),
        # As a key-value bucket of one value a key has it.
        _stream(names.settings, f"$KV.{prefix}-settings.>", "settings documents")
        | {"max_msgs_per_subject": 1, "discard": "new", "deny_delete": True, "allow_atomic": False},
    ]


class Streams:
    """Makes streams and looks at them. `replicas` of 0 are three in a cluster, else one."""

    def __init__(self, connection: Connection, names: Names, replicas: int) -> None:
        self._connection = connection
        self._names = names
        self._replicas = replicas

    async def ensure(self, secret: str) -> tuple[int, str]:
        """Makes the streams that are missing; returns how many replicas the journal has, and its secret.

        `secret` is the journal's if it is made now. Replicas of streams that are there are changed if a number is asked for.
        Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) where the servers refuse.
        """
        present: dict[str, Any] = {}
        for wanted in configurations(self._names):
            config = dict(wanted)
            if config["name"] == self._names.journal:
                config["metadata"] = {KEPT: secret}
            try:
                present[config["name"]] = await self._ensure(config)
            except Refusal as refusal:
                raise _refused(config["name"], refusal) from refusal
        journal = present[self._names.journal]
        return journal["num_replicas"], journal.get("metadata", {}).get(KEPT, secret)

    async def possible_replicas(self, name: str) -> int:
        """Returns how many replicas the journal has, or a new stream would get; tries that with one of this name.

        Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) where the servers refuse.
        """
        stream = f"{self._names.prefix}-doctor-{name}"
        config = _stream(stream, f"{self._names.prefix}.doctor.{name}", "made and taken away by certes doctor")
        try:
            journal = await self._find(self._names.journal)
            if journal is not None and self._replicas in {0, journal["num_replicas"]}:
                return int(journal["num_replicas"])
            made = await self._create(config)
            await self._connection.try_api(f"STREAM.DELETE.{stream}")
        except Refusal as refusal:
            raise _refused(stream, refusal) from refusal
        return int(made["num_replicas"])

    async def _ensure(self, config: dict[str, Any]) -> Mapping[str, Any]:
        name = config["name"]
        found = await self._find(name)
        if found is None:
            try:
                await self._create(config)
            except Refusal as refusal:
                if refusal.error_code != NAME_IN_USE:
                    raise
            found = await self._made(name)
        config["num_replicas"] = self._replicas or found["num_replicas"]
        config["metadata"] = found.get("metadata", {})
        if any(found.get(key, False) != value for key, value in config.items() if key != "metadata"):
            answer = await self._connection.try_api(f"STREAM.UPDATE.{name}", found | config, STARTING)
            return dict(answer["config"])
        return found

    async def _made(self, name: str) -> dict[str, Any]:
        """Returns what a stream has become that was made just now, by this broker or another, the journal with its secret.

        That it is made may be answered before it can be found.
        """
        for _ in range(LOOKS):
            found = await self._find(name)
            if found is not None:
                return found
            await asyncio.sleep(LOOKING)
        raise self._connection.unavailable(f"the stream {name} was made and is not there")

    async def _find(self, name: str) -> dict[str, Any] | None:
        try:
            return dict((await self._connection.try_api(f"STREAM.INFO.{name}", within=STARTING))["config"])
        except Refusal as refusal:
            if refusal.error_code == STREAM_NOT_FOUND:
                return None
            raise

    async def _create(self, config: dict[str, Any]) -> Mapping[str, Any]:
        """Makes a stream. It may be there by now, where an earlier answer was lost: then it is as it was made."""
        subject = f"STREAM.CREATE.{config['name']}"
        wanted, left = config | {"num_replicas": self._replicas or REPLICAS_IN_A_CLUSTER}, LOOKS
        while True:
            try:
                return dict((await self._connection.try_api(subject, wanted, STARTING))["config"])
            except Refusal as refusal:
                left -= 1
                if refusal.error_code == NOT_CLUSTERED and not self._replicas and wanted["num_replicas"] != 1:
                    wanted["num_replicas"] = 1
                elif left and refusal.error_code in PASSING:
                    await asyncio.sleep(LOOKING)
                else:
                    raise


def _stream(name: str, subject: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Certes: {description}",
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "discard": "old",
        "duplicate_window": DUPLICATES_SECONDS * 1_000_000_000,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_atomic": True,
        "deny_delete": False,
        "deny_purge": False,
    }


def _refused(name: str, refusal: Refusal) -> FailedPrecondition:
    hint = "See that JetStream is on for this account, and that it may use $JS.API.> and the subjects of the prefix."
    if refusal.error_code in {NO_PEERS, NOT_CLUSTERED}:
        hint = "There are fewer servers than replicas: start them, or set nats.replicas to as many as there are."
    return FailedPrecondition(
        Reason.STORAGE_UNAVAILABLE,
        f"The stream {name} cannot be made or used: {refusal}.",
        hint=hint,
        metadata={"stream": name},
    )
