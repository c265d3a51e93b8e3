"""The API keys that are stored.

Rules
-----
* All of them are in memory, so that to find one waits for nothing, and a call costs no read.
* A key that was made or deleted by this broker counts so as soon as that is durable; made or deleted by another one on the same
  engine, as soon as the engine tells.
* Somebody may use a new key at this broker before the engine has told. So a key that is not known, or not as it is shown, is
  looked for (`look`), by reading what is new. Anybody can make up keys: that is done once every `PATIENCE` at most, for all
  who wait for it together.
* What a deleted key had opened ends then: whoever asked (`on_gone`) is told.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from certes_broker.broker.key_documents import PREFIX, id_of, key_of, read_document, write_document
from certes_broker.broker.paging import make_token, read_token
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.api_keys import ApiKey, KeyId
from certes_broker.domain.errors import Aborted, AlreadyExists, NotFound, Reason, Unavailable
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Document, DocumentChange, Settings

PATIENCE: Final = 0.1
"""Seconds from one look to the next, which whoever shows a key that is not known may have to wait."""


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys, by id. `next_page_token` is empty if there is nothing more."""

    keys: Sequence[ApiKey]
    next_page_token: str


class KeyStore:
    """Finds, makes and deletes API keys."""

    def __init__(
        self, settings: Settings, clock: Clock, undisturbed: Undisturbed, is_alone: Callable[[], bool] = lambda: True
    ) -> None:
        """`is_alone` says whether no other broker stores keys on this engine."""
        self._settings = settings
        self._clock = clock
        self._undisturbed = undisturbed
        self._keys: dict[KeyId, ApiKey] = {}
        self._looking = asyncio.Lock()
        self._begun = self._done = 0
        """How many looks have begun, and which of them was the last that was done."""
        self._due = asyncio.Event()
        self._due.set()
        self._is_alone = is_alone
        self.on_gone: Callable[[str], None] = _nothing
        """Gets the name of each key that is no more."""

    def __len__(self) -> int:
        return len(self._keys)

    async def start(self) -> AsyncIterator[DocumentChange]:
        """Learns what is stored, and returns the changes that `run` is to follow."""
        changes = self._settings.watch(PREFIX)
        await self.catch_up()
        return changes

    async def run(self, changes: AsyncIterator[DocumentChange]) -> None:
        """Keeps up with what is stored, until it is cancelled."""
        async for change in changes:
            if change.body is None:
                self._forget(id_of(change.key), change.revision)
            else:
                self._learn(Document(change.key, change.body, change.revision))

    # Reading.

    def find(self, key_id: KeyId) -> ApiKey | None:
        """Returns a key; None if there is none of this id."""
        return self._keys.get(key_id)

    async def look(self) -> None:
        """Learns of keys that other brokers have made until now, if there are others, and if they can be read."""
        if self._is_alone():
            return
        asked = self._begun
        async with self._looking:
            if self._done > asked:
                # Somebody began after this call did, and is done.
                return
            await self._due.wait()
            self._due.clear()
            self._clock.alarm(PATIENCE, self._due.set)
            self._begun += 1
            with suppress(Unavailable):
                await self._settings.refresh()
                await self.catch_up()
            self._done = self._begun

    async def catch_up(self) -> None:
        """Learns of all keys that are stored. Raises `Unavailable`."""
        for document in await self._settings.list(PREFIX):
            self._learn(document)

    def get(self, key_id: KeyId) -> ApiKey:
        """Returns a key. Raises `NotFound` (API_KEY_NOT_FOUND)."""
        key = self._keys.get(key_id)
        if key is None:
            raise _not_found(key_id)
        return key

    def list(self, *, page_size: int, page_token: str) -> KeyPage:
        """Returns keys by id."""
        ids = sorted(self._keys)
        ids = ids[bisect.bisect_right(ids, read_token(page_token, PREFIX)) :]
        page = [self._keys[key_id] for key_id in ids[:page_size]]
        return KeyPage(page, make_token(page[-1].id, PREFIX) if len(ids) > page_size else "")

    # Changing.

    async def create(self, key: ApiKey) -> ApiKey:
        """Stores a key, which counts from then on. Raises `AlreadyExists` (API_KEY_EXISTS)."""
        return await self._undisturbed.do(self._create(replace(key, create_time=self._clock.now())))

    async def _create(self, key: ApiKey) -> ApiKey:
        body = write_document(key)
        try:
            revision = await self._settings.put(key_of(key.id), body, 0)
        except Aborted as error:
            raise AlreadyExists(
                Reason.API_KEY_EXISTS,
                f"There is a key {key.id!r} already.",
                hint="Choose another id. To replace it, make a second one, hand it out, and then delete this one.",
                metadata={"name": key.name},
            ) from error
        return self._learn(Document(key_of(key.id), body, revision))

    async def delete(self, key_id: KeyId) -> None:
        """Deletes a key: who calls with it is unknown from then on. Raises `NotFound` (API_KEY_NOT_FOUND)."""
        await self._undisturbed.do(self._delete(self.get(key_id)))

    async def _delete(self, key: ApiKey) -> None:
        await self._settings.delete(key_of(key.id))
        self._forget(key.id, key.revision)

    def _learn(self, document: Document) -> ApiKey:
        key = read_document(document)
        known = self._keys.get(key.id)
        if known is None or known.revision < key.revision:
            self._keys[key.id] = key
        if known is not None and known.revision < key.revision:
            # Deleted and made anew: what the old one had opened is not the new one's.
            self.on_gone(known.name)
        return key

    def _forget(self, key_id: KeyId, revision: int) -> None:
        known = self._keys.get(key_id)
        if known is not None and known.revision <= revision:
            del self._keys[key_id]
            self.on_gone(known.name)


def _nothing(_: str) -> None:
    pass


def _not_found(key_id: KeyId) -> NotFound:
    return NotFound(
        Reason.API_KEY_NOT_FOUND,
        f"There is no key {key_id!r}.",
        hint="`certes keys list` shows which there are.",
        metadata={"name": f"apiKeys/{key_id}"},
    )
