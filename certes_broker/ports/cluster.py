"""The cluster port: which brokers share what an engine keeps, and how they speak to each other.

Rules
-----
* A broker is a **member** from the opening of its engine to its closing. Its id is random and never used again.
* A member that is gone has **ended**: that is a fact which the engine keeps, the same for everyone, and final. No two clocks
  are compared to find it. A lane whose holder has ended is free to be leased.
* A member that could not make sure for a while that it has not ended is **not current**. It must hand out nothing then,
  since another may hold its lanes. It is made not current well before others take it for ended.
* What is written is guarded by the engine, not by this: a settle of an older epoch is refused, whatever its sender believes.
* The **post** carries bytes between members and knows nothing of what they mean. A request is carried out at most once. A
  frame that is lost ends its stream, so that a stream is whole up to where it ends.

An engine that one process has for itself has one member, always current, and a post that reaches nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NewType, Protocol

MemberId = NewType("MemberId", str)
"""Letters and digits."""


class Members(Protocol):
    """The brokers that share what the engine keeps."""

    @property
    def own(self) -> MemberId:
        """The id of this broker."""

    @property
    def living(self) -> frozenset[MemberId]:
        """The members that have not ended, as far as this one knows; it is among them until it knows that it has."""

    @property
    def is_shared(self) -> bool:
        """Whether there can be others at all."""

    def is_current(self) -> bool:
        """Says whether this broker may hand out deliveries now."""

    async def has_ended(self, member: MemberId) -> bool:
        """Says whether a member has ended, also one that this broker has not seen yet or never heard of."""

    def watch(self) -> AsyncIterator[frozenset[MemberId]]:
        """Yields the living, first those of now, then whenever they have changed: what changed meanwhile together."""


class PostError(Exception):
    """The post did not bring an answer."""


class NoResponder(PostError):
    """The member does not serve: nothing was carried out."""


class Lost(PostError):
    """The answer did not come, or not wholly: whether something was carried out is not known."""


class Handler(Protocol):
    """What answers other members. A `CertesError` that it raises is raised where it was asked."""

    async def answer(self, name: str, body: bytes) -> bytes:
        """Answers one request."""

    def stream(self, name: str, body: bytes) -> AsyncGenerator[bytes]:
        """Answers with frames. It is closed when whoever asked goes away, and waits while that one is slow."""


class Post(Protocol):
    """Requests between members. `name` says what is asked, as between handlers is agreed."""

    def serve(self, handler: Handler) -> AbstractAsyncContextManager[None]:
        """Answers what other members ask while the block runs; what is under way when it ends is cancelled."""

    async def ask(self, member: MemberId, name: str, body: bytes, within: float) -> bytes:
        """Asks a member and returns its answer. Raises `NoResponder`, and `Lost` when none has come `within` seconds."""

    def stream(self, member: MemberId, name: str, body: bytes) -> AsyncGenerator[bytes]:
        """Asks a member for frames and yields them, in order, each once; close it when no more are wanted.

        Raises `NoResponder` if it did not begin, and `Lost` if it broke off.
        """
