"""The relay: passes calls on to the broker that has what they are about.

Rules
-----
* A call that is refused as `Elsewhere` has done nothing. It goes to the member that has what it is about, as it came, and what
  that one answers or refuses is what the caller gets. That member passes it on no further: if it has no longer what was
  looked for there, the caller is told to try again.
* It is passed on after it was authorized (`guard` stands before this), and acts there as the same caller.
* A call that names what is not known here is made again once everything is in force that other brokers have stored: whoever
  made a subscription at one broker may use it at the next at once.
* While the relay drains, the streams that it passes on end as those of this broker do.
* With an engine that is not shared, methods are served as they are.
* What all members are to do (`tell_others`) is told to each, and whoever does not answer is counted, unless it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final, assert_never

from certes_broker.broker.elsewhere import Elsewhere
from certes_broker.concurrency import together
from certes_broker.domain.errors import CertesError, NotFound, Reason, Unavailable
from certes_broker.gateway.callers import acting_as, current_caller
from certes_broker.gateway.errors import refusal
from certes_broker.gateway.methods import BidiStream, Method, ServerStream, Unary
from certes_broker.gateway.passed_calls import read_call, write_call
from certes_broker.ports.cluster import Lost, MemberId, Members, NoResponder, Post, PostError
from certes_broker.schemas.wire import Closing, closing_frame

WITHIN: Final = 30.0
"""Seconds within which another broker must answer."""
_MAY_BE_NEW: Final = {
    Reason.SUBSCRIPTION_NOT_FOUND,
    Reason.SOURCE_NOT_FOUND,
    Reason.API_KEY_NOT_FOUND,
}

Call = Callable[[bytes], Awaitable[bytes]]
Hearing = Callable[[bytes], Awaitable[None]]
StreamCall = Callable[[bytes], AsyncGenerator[bytes, None]]


class Relay:
    """Passes calls on, and answers those that other members pass here. `look` is `Broker.look`."""

    def __init__(self, members: Members, post: Post, look: Callable[[], Awaitable[bool]]) -> None:
        self._members = members
        self._post = post
        self._look = look
        self._served: dict[str, Method] = {}
        self._told: dict[str, Hearing] = {}
        self._waiting: set[asyncio.Timeout] = set()
        self._draining = False

    def relayed(self, methods: Sequence[Method]) -> tuple[Method, ...]:
        """Returns methods that pass on what is elsewhere. Others reach them as they were."""
        self._served.update((method.path, method) for method in methods)
        return tuple(map(self._relayed, methods)) if self._members.is_shared else tuple(methods)

    def hears(self, name: str, hearing: Hearing) -> None:
        """Lets other members tell this one something."""
        self._told[name] = hearing

    async def tell_others(self, name: str, body: bytes) -> int:
        """Tells all other members, and returns how many have not answered. Raises what one of them raises."""
        others = sorted(self._members.living - {self._members.own})
        return sum(await together([self._is_silent(member, name, body) for member in others]))

    async def _is_silent(self, member: MemberId, name: str, body: bytes) -> bool:
        try:
            await self._post.ask(member, name, body, WITHIN)
        except PostError:
            return not await self._members.has_ended(member)
        return False

    def serve(self) -> AbstractAsyncContextManager[None]:
        """Answers what other members pass here while the block runs."""
        return self._post.serve(self)

    def drain(self) -> None:
        """Ends the streams that are passed on, and passes on no more."""
        self._draining = True
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time())

    # What others ask.

    async def answer(self, name: str, body: bytes) -> bytes:
        """Makes a call that another member passes here, or hears what it tells."""
        if name in self._told:
            await self._told[name](body)
            return b""
        match self._call(name):
            case Unary(call):
                caller, request = read_call(body)
                with acting_as(caller):
                    try:
                        return await self._informed(call, request)
                    except Exception as error:
                        raise _no_further(error, name) from error
            case _:
                raise _not_served(name)

    async def stream(self, name: str, body: bytes) -> AsyncGenerator[bytes]:
        """Makes a call with a stream of answers that another member passes here."""
        match self._call(name):
            case ServerStream(call):
                caller, request = read_call(body)
                # Each step is taken by whoever reads, in whose context the caller is not.
                async with aclosing(call(request)) as answers:
                    while True:
                        with acting_as(caller):
                            try:
                                answer = await anext(answers, None)
                            except Exception as error:
                                raise _no_further(error, name) from error
                        if answer is None:
                            return
                        yield answer
            case _:
                raise _not_served(name)

    def _call(self, name: str) -> Unary | ServerStream | BidiStream | None:
        method = self._served.get(name)
        return None if method is None else method.call

    # What callers ask.

    def _relayed(self, method: Method) -> Method:
        match method.call:
            case Unary() as inner:
                return replace(method, call=replace(inner, call=self._relayed_unary(method.path, inner.call)))
            case ServerStream() as inner:
                return replace(method, call=ServerStream(self._relayed_stream(method.path, inner.call)))
            case BidiStream():
                # Publishing is every broker's: nothing of it is elsewhere.
                return method
            case _:
                assert_never(method.call)

    def _relayed_unary(self, path: str, inner: Call) -> Call:
        async def call(wire: bytes) -> bytes:
            try:
                return await self._informed(inner, wire)
            except Elsewhere as error:
                elsewhere = error
            try:
                return await self._post.ask(elsewhere.member, path, write_call(current_caller(), wire), WITHIN)
            except NoResponder as error:
                raise _refused(elsewhere) from error
            except Lost as error:
                raise _lost(path) from error

        return call

    def _relayed_stream(self, path: str, inner: StreamCall) -> StreamCall:
        async def call(wire: bytes) -> AsyncGenerator[bytes, None]:
            try:
                async with aclosing(self._begun(inner, wire)) as answers:
                    async for answer in answers:
                        yield answer
                return
            except Elsewhere as error:
                elsewhere = error
            try:
                async with aclosing(self._passed_on(elsewhere, path, wire)) as answers:
                    async for answer in answers:
                        yield answer
            except NoResponder as error:
                raise _refused(elsewhere) from error
            except Lost as error:
                raise _lost(path) from error

        return call

    async def _passed_on(self, elsewhere: Elsewhere, path: str, wire: bytes) -> AsyncGenerator[bytes, None]:
        body = write_call(current_caller(), wire)
        async with aclosing(self._post.stream(elsewhere.member, path, body)) as answers:
            while True:
                try:
                    async with self._until_draining():
                        answer = await anext(answers, None)
                except TimeoutError:
                    if not self._draining:
                        raise
                    yield closing_frame(Closing.REASON_DRAINING, "The broker is shutting down; open the stream again.")
                    return
                if answer is None:
                    return
                yield answer

    @asynccontextmanager
    async def _until_draining(self) -> AsyncIterator[None]:
        if self._draining:
            raise TimeoutError
        async with asyncio.timeout(None) as timeout:
            self._waiting.add(timeout)
            try:
                yield
            finally:
                self._waiting.discard(timeout)

    async def _informed(self, inner: Call, wire: bytes) -> bytes:
        """Makes a call, and again with what is new if it named what is not known."""
        try:
            return await inner(wire)
        except NotFound as error:
            if error.reason not in _MAY_BE_NEW or not await self._look():
                raise
        return await inner(wire)

    async def _begun(self, inner: StreamCall, wire: bytes) -> AsyncGenerator[bytes, None]:
        """Does the same for a stream, which ends with its refusal before its first answer."""
        try:
            async with aclosing(inner(wire)) as answers:
                async for answer in answers:
                    yield answer
            return
        except NotFound as error:
            if error.reason not in _MAY_BE_NEW or not await self._look():
                raise
        async with aclosing(inner(wire)) as answers:
            async for answer in answers:
                yield answer


def _no_further(error: Exception, name: str) -> CertesError:
    """What a member answers of what it raised. What is elsewhere again is not passed on a second time."""
    if isinstance(error, Elsewhere):
        return Unavailable(error.reason, error.message, hint=error.hint, retry_after=error.retry_after)
    return refusal(error, name)


def _refused(elsewhere: Elsewhere) -> CertesError:
    """What a caller is told where the member that was asked serves no more."""
    return elsewhere if elsewhere.gone is None else elsewhere.gone


def _lost(path: str) -> Unavailable:
    return Unavailable(
        Reason.LEASE_LOST,
        f"The broker that serves {path} for this one stopped answering; it may have been done.",
        hint="Try again.",
        retry_after=1.0,
    )


def _not_served(name: str) -> NotFound:
    return NotFound(
        Reason.METHOD_NOT_FOUND,
        f"The broker that was asked does not serve {name[:200]!r}.",
        hint="Run one version of the broker everywhere.",
    )
