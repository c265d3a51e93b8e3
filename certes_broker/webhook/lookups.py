"""Whose fault it is that a name could not be looked up.

Rules
-----
* A name that does not exist, or has no address, is its receiver's fault: the resolver has answered.
* Where the resolver has no answer (it cannot be reached, it is too slow, it says SERVFAIL), the fault is ours, unless it has one for
  another name at the same time: then it is this name's own servers that fail. Those other names are *witnesses*, names of receivers
  that were connected to before. Without them anybody could have a domain whose servers always fail, and be charged nothing.
* What an answer costs is bounded. Few names are looked up at once, what came of it is kept for some seconds, and who cannot be
  looked up now is charged nothing.

Theory of operation
-------------------
libcurl has one code for all of it, and resolves names itself, once for many requests. So a name is looked up a second time only where
libcurl failed to. The system's resolver blocks, and cannot be told to stop: it runs in a thread that nobody waits for longer than
`PATIENCE`, and whose end nobody needs.
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

PATIENCE: Final = 3.0
"""Seconds that the resolver may take."""
KEPT: Final = 5.0
"""Seconds for which an answer counts."""
AT_ONCE: Final = 8
"""How many names are looked up at once, witnesses not counted."""
WITNESSES: Final = 3
FOUND: Final = 0
"""The code of a look-up that succeeded; others are those of `getaddrinfo`."""

_MOST_THREADS: Final = 4 * AT_ONCE
_MOST_KEPT: Final = 1024
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

LookUp = Callable[[str], Awaitable[int]]
"""Looks a name up, and returns what came of it: `FOUND`, or a code of `getaddrinfo`."""


class Lookups:
    """Says of names that libcurl could not resolve whose fault that is. `patience` is seconds; `monotonic` tells the time."""

    def __init__(
        self, look_up: LookUp, *, patience: float = PATIENCE, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._patience = patience
        self._monotonic = monotonic
        self._witnesses: OrderedDict[str, None] = OrderedDict()
        self._kept: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._out_of_order_until = -math.inf
        self._asking = 0

    def found(self, host: str) -> None:
        """Hears of a name that has led to an address: it can witness that the resolver works."""
        self._witnesses[host] = None
        self._witnesses.move_to_end(host)
        if len(self._witnesses) > WITNESSES + 1:
            self._witnesses.popitem(last=False)

    async def is_ours(self, host: str) -> bool:
        """Whether it is the fault of this side that a name could not be looked up just now."""
        now = self._monotonic()
        if now < self._out_of_order_until:
            return True
        known = self._kept.get(host)
        if known is not None and now < known[0]:
            return known[1]
        if self._asking >= AT_ONCE:
            return True
        self._asking += 1
        try:
            ours = await self._ask(host)
        finally:
            self._asking -= 1
        self._kept[host] = (now + KEPT, ours)
        self._kept.move_to_end(host)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return ours

    async def _ask(self, host: str) -> bool:
        code = await self._patient(host)
        if code in _NO_SUCH_NAME:
            return False
        if code == FOUND:
            # It was out of order a moment ago, or the name's servers were: nobody knows any more.
            return True
        others = [one for one in reversed(self._witnesses) if one != host][:WITNESSES]
        for answer in await asyncio.gather(*map(self._patient, others)):
            if answer == FOUND or answer in _NO_SUCH_NAME:
                return False
        self._out_of_order_until = self._monotonic() + KEPT
        return True

    async def _patient(self, host: str) -> int:
        try:
            async with asyncio.timeout(self._patience):
                return await self._look_up(host)
        except TimeoutError:
            return socket.EAI_AGAIN


class SystemResolver:
    """Looks names up as libcurl does, by the system's resolver."""

    def __init__(self) -> None:
        self._threads = 0

    async def look_up(self, host: str) -> int:
        """Looks a name up. If the caller is cancelled the thread goes on, and its answer is lost; too many of these are `EAI_AGAIN`."""
        if self._threads >= _MOST_THREADS:
            return socket.EAI_AGAIN
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()

        def tell(code: int) -> None:
            self._threads -= 1
            if not answer.done():
                answer.set_result(code)

        def work() -> None:
            code = _code_of(host)
            # The loop may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, code)

        self._threads += 1
        try:
            threading.Thread(target=work, name="look-up", daemon=True).start()
        except RuntimeError:
            # This machine has no thread to give.
            self._threads -= 1
            return socket.EAI_MEMORY
        return await answer


def _code_of(host: str) -> int:
    try:
        # As bytes, or Python would encode the name in a way of its own first, and refuse some.
        socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error.errno or socket.EAI_FAIL
    except OSError:
        return socket.EAI_SYSTEM
    return FOUND
