"""Drift: producers that send what their schemas do not know.

An unknown field is kept and does no harm, but somebody should hear of it: a schema has fallen behind, or a name is misspelt.
So of each event type and field the first sighting is told, by a `_drift` event, and of all that one event brought by a log
line; all are counted. What was told is stored with the version, so that a restart does not tell it again.

Nothing waits for drift: a finding is put in a bounded queue. One that finds it full will be found again, a key of JSON by the
next start at the latest, because its reader remembers what it has met.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from certes_broker.broker.publisher import Publisher
from certes_broker.domain.errors import CertesError
from certes_broker.domain.schemas import VersionName
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Settings
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.system_events import DriftFinding, SeenIn, schema_drift
from certes_broker.schemas.unknown_fields import UnknownField
from certes_broker.schemas.unknown_keys import LONGEST_PATH, UnknownKey

PREFIX: Final = "drift/"
TOLD_OF_A_VERSION: Final = 1_000
"""How many fields of one version are told; one that has more is not behind, but another schema."""
WAITING: Final = 1_000
FIELDS_OF_A_MESSAGE: Final = 100
_AGAIN_AFTER: Final = 1.0
_AT_ONCE: Final = 64
_LOGGED: Final = 10
"""Fields of one event that are named in its log line."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DriftSurroundings:
    """What drift is told by. `domain` is the broker's own."""

    settings: Settings
    publisher: Publisher
    clock: Clock
    domain: str


class Drift:
    """Finds fields that schemas do not know, and tells of each once."""

    def __init__(self, around: DriftSurroundings) -> None:
        self._around = around
        self._told: dict[VersionName, set[tuple[str, str]]] = {}
        """Event name and field of what was told, or is about to be."""
        self._waiting: deque[DriftFinding] = deque()
        self._added = asyncio.Event()
        self.is_published: Callable[[SeenIn, str], bool] = lambda _event, _type: True
        """Says whether whoever calls may publish an event of a type. Events are read before that is asked of them."""
        self.counts: Final[Counter[str]] = Counter()
        """How many events of each type were found to have unknown fields, of the sample that is looked at of those that came
        as protobuf. `Conversion.unknown_keys` counts those that came as JSON."""

    @property
    def waiting(self) -> int:
        """How many findings wait to be told."""
        return len(self._waiting)

    async def start(self) -> None:
        """Loads what was told before."""
        for document in await self._around.settings.list(PREFIX):
            domain, rest = document.key.removeprefix(PREFIX).split("/", 1)
            namespace, version = rest.rsplit("/", 1)
            told = {(name, field) for name, field in json.loads(document.body)}
            self._told[VersionName(domain, namespace, int(version))] = told

    def noticed(self, schema: EventSchema, fields: Iterable[UnknownField], seen_in: SeenIn) -> None:
        """See `DriftWatch`. What whoever calls may not publish is nothing to tell anybody of."""
        if not self.is_published(seen_in, schema.type_text):
            return
        self.counts[schema.type_text] += 1
        self._note(schema, islice(fields, FIELDS_OF_A_MESSAGE), seen_in)

    def found(self, schema: EventSchema, keys: Sequence[UnknownKey], seen_in: SeenIn) -> None:
        """Takes note of unknown keys of a payload that came as JSON."""
        self._note(schema, keys, seen_in)

    async def run(self) -> None:
        """Tells what is found, for ever. What could not be published or stored is told again."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                findings = [self._waiting[index] for index in range(min(_AT_ONCE, len(self._waiting)))]
                try:
                    await self._tell(findings)
                except CertesError as error:
                    log.warning("drift_not_told", error=str(error), fields=len(findings))
                    again = asyncio.Event()
                    self._around.clock.alarm(_AGAIN_AFTER, again.set)
                    await again.wait()
                    continue
                for _ in findings:
                    self._waiting.popleft()

    async def _tell(self, findings: Sequence[DriftFinding]) -> None:
        now = self._around.clock.now()
        events = [schema_drift(finding, f"//{self._around.domain}", now) for finding in findings]
        await self._around.publisher.publish([event.accepted(now) for event in events])
        for name in dict.fromkeys(finding.version for finding in findings):
            body = json.dumps(sorted(self._told[name]), separators=(",", ":")).encode()
            await self._around.settings.put(PREFIX + name.text, body)

    def _has_room(self, schema: EventSchema) -> bool:
        told = self._told.get(_version_of(schema), ())
        return len(told) < TOLD_OF_A_VERSION and len(self._waiting) < WAITING

    def _note(self, schema: EventSchema, fields: Iterable[UnknownField | UnknownKey], seen_in: SeenIn) -> None:
        if not self._has_room(schema):
            return
        version = _version_of(schema)
        told = self._told.setdefault(version, set())
        found = []
        for field, message in fields:
            if not self._has_room(schema):
                break
            if (schema.type.name, field) in told or len(field) > LONGEST_PATH:
                continue
            told.add((schema.type.name, field))
            found.append(field)
            self._waiting.append(DriftFinding(version, schema.type_text, field, message, schema.revision, seen_in))
        if found:
            log.warning(
                "schema_drift", type=schema.type_text, fields=found[:_LOGGED], count=len(found), source=seen_in.source
            )
            self._added.set()


def _version_of(schema: EventSchema) -> VersionName:
    return VersionName(schema.type.domain, schema.type.namespace, schema.type.version)
