"""Settings documents, sealed: what an engine keeps of them is encrypted, whichever engine it is.

Rules
-----
* A document's body is encrypted whole, with AES-256-GCM and a nonce of its own. Its key (its name) is bound to it, so that one
  body cannot be put in the place of another.
* The first key of the ring seals; all of them open. What is in clear, or sealed by a key that is not the first, is sealed anew when
  the engine is opened (`sealed`), so a key can be taken out of the ring after one start with a new one before it.
* Without a key, documents are written in clear; if some are sealed, opening fails and names the setting.
* A sealed body says by which key, by a name that is made of the key and tells nothing of it.

Theory of operation
-------------------
Whole documents rather than the secrets in them: what a secret is need then be known to nobody who writes one, and new
kinds are sealed from the first day. Documents are read at start and when they change, never for an event, so that it costs nothing
that anybody notices.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_bytes
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certes_broker.domain.errors import Aborted, FailedPrecondition, Reason
from certes_broker.ports.cluster import Members, Post
from certes_broker.ports.engine import (
    Attempts,
    Cursors,
    Document,
    DocumentChange,
    Engine,
    Journal,
    Leases,
    Rejections,
    Settings,
)
from certes_broker.ports.erasure import Erasure

KEY_BYTES: Final = 32
MAXIMUM_KEYS: Final = 8
SETTINGS: Final = "secrets.keys or secrets.keys_file"


@dataclass(frozen=True, slots=True)
class SealingKey:
    """One key, and the name by which what it sealed is told apart. Its repr shows nothing."""

    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SealingKey:
        """Reads a key: 32 bytes in base64. Raises `ValueError`, which says what is wrong and nothing of the text."""
        try:
            key = b64decode(text, validate=True)
        except (Base64Error, ValueError):
            raise ValueError("is not base64") from None
        if len(key) != KEY_BYTES:
            raise ValueError(f"has {len(key)} bytes; AES-256 wants {KEY_BYTES}")
        return cls(key)

    @property
    def name(self) -> bytes:
        """8 bytes that tell it apart from others."""
        return sha256(b"certes sealing key\0" + self.key).digest()[:_NAME_BYTES]


class SealedSettings:
    """Settings of which the bodies are sealed by the first key of a ring; by none if there is none."""

    def __init__(self, inner: Settings, keys: Sequence[SealingKey]) -> None:
        self._inner = inner
        self._ciphers = {key.name: AESGCM(key.key) for key in keys}
        self._first = keys[0].name if keys else None

    async def get(self, key: str) -> Document | None:
        found = await self._inner.get(key)
        return None if found is None else self._opened(found)

    async def list(self, prefix: str) -> Sequence[Document]:
        return [self._opened(document) for document in await self._inner.list(prefix)]

    async def put(self, key: str, body: bytes, expected: int | None = None) -> int:
        return await self._inner.put(key, self._seal(key, body), expected)

    async def delete(self, key: str, expected: int | None = None) -> None:
        await self._inner.delete(key, expected)

    async def refresh(self) -> None:
        await self._inner.refresh()

    def watch(self, prefix: str) -> AsyncIterator[DocumentChange]:
        return _OpenedChanges(self._inner.watch(prefix), self)

    async def renew(self) -> int:
        """Seals what the first key did not seal, and returns how many documents that were; none without a key.

        Raises `FailedPrecondition` (SEALED_BY_ANOTHER_KEY) if there is one that no key of the ring opens.
        """
        renewed = 0
        for document in await self._inner.list(""):
            body = self._open(document.key, document.body)
            if self._first is None or _key_of(document.body) == self._first:
                continue
            try:
                await self._inner.put(document.key, self._seal(document.key, body), document.revision)
            except Aborted:
                continue  # Another broker was a moment faster; it has this key too.
            renewed += 1
        return renewed

    def _opened(self, document: Document) -> Document:
        return document._replace(body=self._open(document.key, document.body))

    def opened_change(self, change: DocumentChange) -> DocumentChange:
        """Returns a change as it was before it was sealed."""
        return change if change.body is None else change._replace(body=self._open(change.key, change.body))

    def _seal(self, key: str, body: bytes) -> bytes:
        if self._first is None:
            return body
        nonce = token_bytes(_NONCE_BYTES)
        return _MARK + self._first + nonce + self._ciphers[self._first].encrypt(nonce, body, key.encode())

    def _open(self, key: str, body: bytes) -> bytes:
        name = _key_of(body)
        if name is None:
            return body
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise _unreadable(key, f"is sealed by a key ({name.hex()}) that {SETTINGS} does not have")
        sealed = body[len(_MARK) + _NAME_BYTES :]
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key.encode())
        except InvalidTag:
            raise _unreadable(key, "was changed since it was sealed") from None


class _OpenedChanges(AsyncIterator[DocumentChange]):
    """The changes of a watch, opened as they come."""

    def __init__(self, inner: AsyncIterator[DocumentChange], settings: SealedSettings) -> None:
        self._inner = inner
        self._settings = settings

    async def __anext__(self) -> DocumentChange:
        return self._settings.opened_change(await anext(self._inner))


@dataclass(frozen=True, slots=True)
class SealedEngine:
    """An engine with sealed settings, the same in all else."""

    inner: Engine
    sealed_settings: SealedSettings

    @property
    def journal(self) -> Journal:
        return self.inner.journal

    @property
    def cursors(self) -> Cursors:
        return self.inner.cursors

    @property
    def leases(self) -> Leases:
        return self.inner.leases

    @property
    def attempts(self) -> Attempts:
        return self.inner.attempts

    @property
    def rejections(self) -> Rejections:
        return self.inner.rejections

    @property
    def settings(self) -> Settings:
        return self.sealed_settings

    @property
    def members(self) -> Members:
        return self.inner.members

    @property
    def post(self) -> Post:
        return self.inner.post

    @property
    def erasure(self) -> Erasure:
        return self.inner.erasure

    @property
    def weaker(self) -> Sequence[str]:
        return self.inner.weaker

    @property
    def waiting(self) -> int:
        return self.inner.waiting


async def sealed(engine: Engine, keys: Sequence[SealingKey]) -> tuple[Engine, int]:
    """Returns an engine that seals its settings by the first of `keys`, and how many documents had to be sealed for that.

    Raises `FailedPrecondition` (SEALED_BY_ANOTHER_KEY) if it has documents that none of them opens.
    """
    settings = SealedSettings(engine.settings, keys)
    renewed = await settings.renew()
    return SealedEngine(engine, settings), renewed


_MARK: Final = b"\0certes-sealed\x01"
_NAME_BYTES: Final = 8
_NONCE_BYTES: Final = 12


def _key_of(body: bytes) -> bytes | None:
    """Returns the name of the key that sealed a body; None if none did."""
    if not body.startswith(_MARK):
        return None
    return body[len(_MARK) : len(_MARK) + _NAME_BYTES]


def _unreadable(key: str, problem: str) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.SEALED_BY_ANOTHER_KEY,
        f"The settings document {key!r} {problem}.",
        hint=f"Give the broker the key that sealed it, by {SETTINGS}: all keys that were in use, the newest first.",
        metadata={"key": key},
    )
