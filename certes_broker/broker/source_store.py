"""The sources: those that the configuration declares, and those that are stored.

Rules
-----
* The configuration wins: a stored source whose name it declares too is not served until the configuration lets go of the
  name again. Reading the configuration once more replaces what it declared, all at once.
* A change of a stored source is first made durable and then takes effect, for every request that comes after it. Changes
  happen one after the other. A crash in between leaves a document that is loaded at the next start.
* All of them are in memory; finding one waits for nothing.
"""

from __future__ import annotations

import asyncio
import bisect
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog

from certes_broker.broker.paging import make_token, read_token
from certes_broker.broker.source_documents import PREFIX, key_of, read_document, write_document
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.sources import MAXIMUM_SOURCE_SECRETS, Source, SourceSecret
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Document, DocumentChange, Engine

T = TypeVar("T")

_ETAG_BYTES: Final = 8
_TRIES: Final = 20
"""How often a change that another broker's came before is made again: each time another has got on."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SourcePage:
    """Some sources, by name. `next_page_token` is empty if there is nothing more."""

    sources: Sequence[Source]
    next_page_token: str


class SourceStore:
    """Finds, creates and manages sources."""

    def __init__(self, engine: Engine, clock: Clock, undisturbed: Undisturbed) -> None:
        self._settings = engine.settings
        self._rejections = engine.rejections
        self._clock = clock
        self._undisturbed = undisturbed
        self._turn = asyncio.Lock()
        self._stored: dict[str, Source] = {}
        self._declared: dict[str, Source] = {}
        self._serving: dict[str, Source] = {}

    async def start(self) -> None:
        """Loads what is stored."""
        for document in await self._settings.list(PREFIX):
            source = read_document(document)
            self._stored[source.name] = source
        self._take_effect()

    async def follow(self, change: DocumentChange) -> None:
        """Takes over what another broker has stored."""
        name = change.key.removeprefix(PREFIX)
        async with self._turn:
            known = self._stored.get(name)
            if known is None or known.revision < change.revision:
                await self._adopt(name)

    def declare(self, sources: Iterable[Source]) -> None:
        """Serves these sources, and no others that the configuration declared before, from now on."""
        self._declared = {source.name: replace(source, configured=True) for source in sources}
        for name in sorted(self._declared.keys() & self._stored.keys()):
            log.warning("stored_source_hidden", source=name, by="the configuration, which declares one of this name")
        self._take_effect()

    # Reading.

    def find(self, name: str) -> Source | None:
        """Returns a source; None if there is none of this name."""
        return self._serving.get(name)

    def get(self, name: str) -> Source:
        """Returns a source. Raises `NotFound` (SOURCE_NOT_FOUND)."""
        source = self._serving.get(name)
        if source is None:
            raise source_not_found(name)
        return source

    def all(self) -> Sequence[Source]:
        """Returns the sources that are served."""
        return list(self._serving.values())

    def list(self, *, page_size: int, page_token: str) -> SourcePage:
        """Returns sources by name."""
        names = sorted(self._serving)
        names = names[bisect.bisect_right(names, read_token(page_token, PREFIX)) :]
        page = [self._serving[name] for name in names[:page_size]]
        return SourcePage(page, make_token(page[-1].name, PREFIX) if len(names) > page_size else "")

    def changeable(self, name: str, etag: str = "") -> Source:
        """Returns a source that can be changed, and has not been since `etag` was read if that is not empty.

        Raises `NotFound` (SOURCE_NOT_FOUND), `FailedPrecondition` (SOURCE_CONFIGURED) and `Aborted` (ETAG_MISMATCH).
        """
        source = self.get(name)
        if source.configured:
            raise FailedPrecondition(
                Reason.SOURCE_CONFIGURED,
                f"The broker's configuration declares the source {name!r}.",
                hint="Change it there, then send the broker SIGHUP or restart it.",
                metadata={"name": source.event_source},
            )
        if etag and etag != source.etag:
            raise Aborted(
                Reason.ETAG_MISMATCH,
                f"{source.event_source} has changed since etag {etag!r} was read; it is {source.etag!r} now.",
                hint="Read it again, decide again, and send the etag that you read.",
                metadata={"etag": source.etag},
            )
        return source

    # Changing.

    async def create(self, source: Source) -> Source:
        """Stores a new source, which takes webhooks from then on. Raises `AlreadyExists` (SOURCE_EXISTS)."""
        return await self._alone(source.name, lambda: self._create(source))

    async def _create(self, source: Source) -> Source:
        if source.name in self._serving:
            raise AlreadyExists(
                Reason.SOURCE_EXISTS,
                f"There is a source {source.name!r} already.",
                hint="Update it, or choose another name.",
                metadata={"name": source.event_source},
            )
        now = self._clock.now()
        # A crash while one of this name was deleted may have left some of what it refused.
        await self._rejections.forget(source.name, None)
        return await self._store(replace(source, configured=False, create_time=now, update_time=now), 0)

    async def update(self, name: str, change: Callable[[Source], Source], *, etag: str) -> Source:
        """Changes a source by `change`, which gets it as it is stored and must not do anything else.

        Secrets that have expired are dropped. Raises as `changeable` does.
        """
        return await self._alone(name, lambda: self._update(name, change, etag))

    async def _update(self, name: str, change: Callable[[Source], Source], etag: str) -> Source:
        stored = self.changeable(name, etag)
        now = self._clock.now()
        changed = change(stored)
        if changed == stored:
            return stored
        verifying = tuple(one for one in changed.secrets if one.expire_time is None or one.expire_time > now)
        return await self._store(replace(changed, secrets=verifying, update_time=now), stored.revision)

    async def rotate(self, name: str, secret: str, overlap: float) -> Source:
        """Puts a new secret before the others, which stop verifying after `overlap` seconds, or earlier as they had to.

        Of more than four the oldest stop at once. Raises as `update` does.
        """
        now = self._clock.now()
        end = Micros(now + int(overlap * 1_000_000))

        def rotated(source: Source) -> Source:
            ends = [(one.secret, min(end, one.expire_time or end)) for one in source.secrets]
            old = [SourceSecret(text, expires) for text, expires in ends if expires > now and text != secret]
            return replace(source, secrets=(SourceSecret(secret), *old[: MAXIMUM_SOURCE_SECRETS - 1]))

        return await self.update(name, rotated, etag="")

    async def delete(self, name: str, *, etag: str) -> None:
        """Deletes a source and what is kept of what it refused; webhooks for it are refused from then on.

        Raises as `update` does.
        """
        await self._alone(name, lambda: self._delete(name, etag))

    async def _delete(self, name: str, etag: str) -> None:
        stored = self.changeable(name, etag)
        await self._settings.delete(key_of(name), stored.revision)
        del self._stored[name]
        self._take_effect()
        await self._rejections.forget(name, None)

    # Below: how a change is made.

    async def _alone(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        return await self._undisturbed.do(self._in_turn(name, work))

    async def _in_turn(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Does work on a source, and again if its document turns out to be another than is known.

        That is so where another broker changed it, or where storage failed after it had written: nobody was told.
        """
        async with self._turn:
            for _ in range(_TRIES):
                try:
                    return await work()
                except Aborted as conflict:
                    if conflict.reason is not Reason.REVISION_CONFLICT:
                        raise
                await self._adopt(name)
            return await work()

    async def _adopt(self, name: str) -> None:
        document = await self._settings.get(key_of(name))
        if document is None:
            self._stored.pop(name, None)
        else:
            self._stored[name] = read_document(document)
        self._take_effect()

    async def _store(self, source: Source, expected: int) -> Source:
        # Random: made of the settings it would be made of the secrets too, and whoever sees it could try weak ones.
        etag = secrets.token_hex(_ETAG_BYTES)
        key, body = key_of(source.name), write_document(replace(source, etag=etag))
        stored = read_document(Document(key, body, await self._settings.put(key, body, expected)))
        self._stored[source.name] = stored
        self._take_effect()
        return stored

    def _take_effect(self) -> None:
        """Replaces what requests see: a request sees either the old or the new."""
        self._serving = self._stored | self._declared


def source_not_found(name: str) -> NotFound:
    """Returns the refusal of a name that no source has."""
    return NotFound(
        Reason.SOURCE_NOT_FOUND,
        f"There is no source {name[:100]!r}.",
        hint="`certes sources list` shows which there are, `certes sources create` makes one.",
        metadata={"name": f"sources/{name[:100]}"},
    )
