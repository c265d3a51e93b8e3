"""The registered schemas: what is stored of them, and how a registration takes effect.

Theory of operation
-------------------
A registration may change several versions, and is to be told to their subscribers; yet a settings document is written by
itself. So a registration is one document, the *registration under way*: once that is written, the registration has happened.
Then it is carried out: each version's own document is written, the registry takes the versions over, the events are
published, and the document is emptied. Each of these steps can be repeated, and a registration that was interrupted is carried
out again before anything else happens: by the next registration, and at the start of the broker. So all versions of a request
are registered or none, also across a crash, and every `_version` event is published once, since its id is decided with it.

The document stays when it is empty, because its revision says how many registrations there have been: a registration is written
over the very revision after which the versions were read that it was decided by, or not at all.

Rules
-----
* One registration after the other, each decided by what those before it came to, wherever several brokers share settings.
* What is the same as what is registered, byte for byte, is not registered again: no revision, no event. A comment is a
  difference: it is what people read. It makes a compatible revision without changes.
* Every revision is told to the subscribers of its version, the first one too: somebody may have waited for it. A new major
  version is told to those of every lower one, for whom it is not compatible; of several that are new at once, the highest.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from certes_broker.broker.publisher import Publisher
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import Aborted, CertesError, FailedPrecondition, FieldViolation, Internal, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import Comparison, Origin, SchemaChange, VersionName
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Document, DocumentChange, Settings
from certes_broker.schemas.compatibility.comparison import compare
from certes_broker.schemas.compiling.compiler import SchemaCompiler
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.stored_versions import (
    PREFIX,
    Registration,
    key_of,
    read_registration,
    read_version,
    write_registration,
    write_version,
)
from certes_broker.schemas.submissions import Submission, read_submission
from certes_broker.schemas.system_events import SystemEvent, VersionState, version_update
from certes_broker.schemas.version_files import VersionFiles

UNDER_WAY: Final = "schema-registration"
"""The key of the registration under way."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration came to: the versions as they are now, by name, and how each compares with what was before."""

    versions: tuple[SchemaVersion, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class SchemaSurroundings:
    """What the store acts upon. `domain` is the broker's own."""

    settings: Settings
    publisher: Publisher
    clock: Clock
    undisturbed: Undisturbed
    domain: str
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())


class SchemaStore:
    """Registers schemas."""

    def __init__(self, registry: Registry, around: SchemaSurroundings, compiler: SchemaCompiler) -> None:
        self._registry = registry
        self._around = around
        self._compiler = compiler
        self._turn = asyncio.Lock()
        self._stored: dict[VersionName, SchemaVersion] = {}
        self._under_way = _UnderWay(_NOTHING, 0)

    async def start(self) -> None:
        """Loads what is stored, and carries out a registration that was interrupted.

        A version that cannot be read or linked is logged and left out: its event types are unknown, the others serve, and
        who registers it again begins with revision 1.
        """
        await self._recall()
        await self._carry_out()

    async def follow(self, change: DocumentChange) -> None:
        """Takes over a version that another broker has registered."""
        if change.body is None:
            return
        try:
            version = await asyncio.to_thread(_read, change.body)
        except CertesError as error:
            log.error("stored_schemas_unusable", key=change.key, error=str(error))
            return
        async with self._turn:
            self._learn(version)

    def _learn(self, version: SchemaVersion) -> None:
        known = self._stored.get(version.name)
        if known is None or known.revision < version.revision:
            self._stored[version.name] = version
            self._registry.put(version)

    async def check(self, submission: Submission) -> tuple[Comparison, ...]:
        """Says how schemas compare with those that are registered. Stores nothing.

        Raises what `register` does, but for SCHEMA_INCOMPATIBLE.
        """
        plans = await self._plan(await self._read(submission))
        return tuple(plan.comparison for plan in plans)

    async def register(self, submission: Submission, *, dry_run: bool = False) -> Registered:
        """Registers schemas, which can be used when it returns. Idempotent.

        With `dry_run` it does everything but storing and telling. Raises `Invalid` (SCHEMA_MALFORMED, SCHEMA_TOO_LARGE),
        `PermissionDenied` (SCHEMA_NOT_YOURS), `FailedPrecondition` (SCHEMA_INCOMPATIBLE), and `Exhausted` and `Unavailable`,
        after which the registration may have happened: repeating it completes it.
        """
        files = await self._read(submission)
        if dry_run:
            return self._outcome(await self._compatible(files))
        return await self._around.undisturbed.do(self._in_turn(files))

    async def _in_turn(self, files: Sequence[VersionFiles]) -> Registered:
        async with self._turn:
            await self._carry_out()
            for _ in range(_TRIES):
                try:
                    return await self._register(files)
                except Aborted as conflict:
                    if conflict.reason is not Reason.REVISION_CONFLICT:
                        raise
                # Storage had failed after it wrote a registration, of which nobody was told; or another broker registers,
                # or ended in the midst of it.
                await self._recall()
                await self._carry_out()
            return await self._register(files)

    async def _register(self, files: Sequence[VersionFiles]) -> Registered:
        plans = await self._compatible(files)
        changed = [plan for plan in plans if plan.is_change]
        if changed:
            registration = self._decide(changed)
            # Megabytes are compressed here and below: not in the loop, which has others to serve.
            body = await asyncio.to_thread(write_registration, registration)
            revision = await self._around.settings.put(UNDER_WAY, body, self._under_way.revision)
            self._under_way = _UnderWay(registration, revision)
            await self._carry_out()
        return self._outcome(plans)

    # What a registration is.

    async def _read(self, submission: Submission) -> Sequence[VersionFiles]:
        return await read_submission(self._compiler, submission, self._around.domain)

    async def _plan(self, submitted: Sequence[VersionFiles]) -> Sequence[_Plan]:
        plans = []
        for new in submitted:
            before = self._stored.get(new.name)
            old = None if before is None else before.files
            files = await self._compiler.merge(old, new)
            comparison = await asyncio.to_thread(compare, old, files, 0 if before is None else before.revision)
            plans.append(_Plan(before, files, comparison))
        return plans

    async def _compatible(self, submitted: Sequence[VersionFiles]) -> Sequence[_Plan]:
        plans = await self._plan(submitted)
        breaking = [plan.comparison for plan in plans if not plan.comparison.is_compatible]
        if breaking:
            raise self._incompatible(breaking)
        return plans

    def _decide(self, plans: Sequence[_Plan]) -> Registration:
        now = self._around.clock.now()
        versions = tuple(plan.version(now) for plan in plans)
        updates = [
            self._update(VersionState(plan.files.name, plan.revision), plan.version(now), plan.comparison.changes, now)
            for plan in plans
        ]
        return Registration(versions, (*updates, *self._updates_of_lower(plans, now)))

    def _updates_of_lower(self, plans: Sequence[_Plan], now: Micros) -> Sequence[SystemEvent]:
        """Tells every registered version of the highest new one above it in the same namespace."""
        updates = []
        for name, stored in self._stored.items():
            above = [plan for plan in plans if plan.before is None and _is_above(plan.files.name, name)]
            if above:
                highest = max(above, key=lambda plan: plan.files.name)
                updates.append(self._update(VersionState(name, stored.revision), highest.version(now), (), now))
        return updates

    def _update(
        self, old: VersionState, version: SchemaVersion, changes: Sequence[SchemaChange], now: Micros
    ) -> SystemEvent:
        names = [event_type.name for event_type in version.event_types]
        new = VersionState(version.name, version.revision, names)
        return version_update(old, new, changes, (f"//{self._around.domain}", self._around.new_id(), now))

    def _outcome(self, plans: Sequence[_Plan]) -> Registered:
        versions = []
        for plan in plans:
            stored = self._stored.get(plan.files.name)
            versions.append(stored if stored is not None and stored.files == plan.files else plan.version(None))
        return Registered(tuple(versions), tuple(plan.comparison for plan in plans))

    # What makes it happen.

    async def _recall(self) -> None:
        """Finds the registration under way, then all that is registered: at least what came of those before it.

        One that cannot be read is logged and counts as carried out: others must be possible.
        """
        document = await self._around.settings.get(UNDER_WAY)
        self._under_way = _UnderWay(_NOTHING, 0) if document is None else _read_under_way(document)
        for stored in await self._around.settings.list(PREFIX):
            try:
                self._learn(_read(stored.body))
            except CertesError as error:
                log.error("stored_schemas_unusable", key=stored.key, error=str(error))

    async def _carry_out(self) -> None:
        """Carries out the registration under way, if there is one, from its beginning."""
        while (registration := self._under_way.registration) != _NOTHING:
            for version in registration.versions:
                await self._store(version)
            for version in registration.versions:
                self._learn(version)
                log.info("schemas_registered", version=version.name.text, revision=version.revision)
            now = self._around.clock.now()
            for first in range(0, len(registration.events), _EVENTS_AT_ONCE):
                events = registration.events[first : first + _EVENTS_AT_ONCE]
                await self._around.publisher.publish([event.accepted(now) for event in events])
            await self._empty()

    async def _empty(self) -> None:
        """Says that the registration under way is carried out."""
        try:
            revision = await self._around.settings.put(UNDER_WAY, _EMPTY, self._under_way.revision)
        except Aborted as conflict:
            if conflict.reason is not Reason.REVISION_CONFLICT:
                raise
            # Another broker has carried it out too, and was faster; and there may have been others since.
            await self._recall()
        else:
            self._under_way = _UnderWay(_NOTHING, revision)

    async def _store(self, version: SchemaVersion) -> None:
        """Writes a version's document, unless another broker has written it, or a later one, already."""
        key, body = key_of(version.name), await asyncio.to_thread(write_version, version)
        for _ in range(_TRIES):
            present = await self._around.settings.get(key)
            if present is not None and await asyncio.to_thread(_revision, present.body) >= version.revision:
                return
            try:
                await self._around.settings.put(key, body, 0 if present is None else present.revision)
            except Aborted as conflict:
                if conflict.reason is not Reason.REVISION_CONFLICT:
                    raise
            else:
                return

    def _incompatible(self, comparisons: Sequence[Comparison]) -> FailedPrecondition:
        first = comparisons[0]
        domain, namespace, _ = first.version
        following = 1 + max(name.version for name in self._stored if name[:2] == first.version[:2])
        changes = [change for comparison in comparisons for change in comparison.breaking]
        return FailedPrecondition(
            Reason.SCHEMA_INCOMPATIBLE,
            f"{len(changes)} of the changes would break those who use {first.version}, revision {first.registered_revision}.",
            violations=[FieldViolation(change.element, _told(change)) for change in changes],
            metadata={
                "version": first.version.text,
                "registered_revision": str(first.registered_revision),
                "breaking_changes": str(len(changes)),
                "next_version": VersionName(domain, namespace, following).text,
            },
            hint=(
                f"Undo them, or register the schemas as the next major version, {following}: say `version: {following}` in "
                f"(certes.v1.schema), or where the package has the version, let it end in `v{following}`."
            ),
        )


_EVENTS_AT_ONCE: Final = 16
_TRIES: Final = 20
"""How often a write that another broker's came before is decided again: each time another has got on."""


_NOTHING: Final = Registration((), ())
_EMPTY: Final = write_registration(_NOTHING)


class _UnderWay(NamedTuple):
    """The registration under way, and the revision of its document; 0 if there has never been one."""

    registration: Registration
    revision: int


def _read_under_way(document: Document) -> _UnderWay:
    try:
        return _UnderWay(read_registration(document.body), document.revision)
    except Internal as error:
        log.error("stored_schemas_unusable", key=UNDER_WAY, error=str(error))
        return _UnderWay(_NOTHING, document.revision)


def _revision(body: bytes) -> int:
    """Returns the revision of a stored version; 0 for one that cannot be used."""
    try:
        return _read(body).revision
    except CertesError:
        return 0


def _read(body: bytes) -> SchemaVersion:
    version = read_version(body)
    version.check_links()
    return version


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to become of one version: its files after the registration, and how they compare with those before."""

    before: SchemaVersion | None
    files: VersionFiles
    comparison: Comparison

    @property
    def revision(self) -> int:
        """The revision before; 0 if there was none."""
        return 0 if self.before is None else self.before.revision

    @property
    def is_change(self) -> bool:
        return self.before is None or self.before.files != self.files

    def version(self, time: Micros | None) -> SchemaVersion:
        """Returns the version after the registration, as one that is registered at a time."""
        revision = self.revision + 1 if self.is_change else self.revision
        return SchemaVersion(self.files, revision=revision, origin=Origin.REGISTERED, register_time=time)


def _is_above(one: VersionName, other: VersionName) -> bool:
    return one[:2] == other[:2] and one.version > other.version


def _told(change: SchemaChange) -> str:
    before, after = (f"`{side}`" if side else "nothing" for side in (change.before, change.after))
    return f"{change.rule}: {before} -> {after}. {change.description}"
