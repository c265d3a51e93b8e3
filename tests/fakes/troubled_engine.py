"""An engine in front of an engine, which a test gives trouble: calls that fail, that are held up, or that come after the end.

Without trouble it is the engine behind it, call for call: it passes the engine contract. Trouble is of the kinds that the
port foresees: a call raises and has done nothing, a call takes its time, or the process ends.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from certes_broker.domain.errors import CertesError, Internal, Reason, Unavailable
from certes_broker.ports.cluster import Members, Post
from certes_broker.ports.engine import Engine

SWALLOWED = {"cursors.settle", "attempts.record"}
"""What a broker writes while it ends. After a crash it reaches nobody, and the broker need not know."""
NOTICES = "notices/"
"""The keys of what else it writes while it ends."""


WRITES = {
    "journal.append",
    "cursors.settle",
    "settings.put",
    "leases.lease",
    "attempts.record",
    "rejections.keep",
    "erasure.events",
    "erasure.dead_letters",
    "erasure.attempts",
    "settings.delete",
    "cursors.forget",
}


class _Part:
    """One part of the engine. Methods that are no coroutines are those of the part behind it."""

    def __init__(self, name: str, behind: object, troubled: TroubledEngine) -> None:
        self._name = name
        self._behind = behind
        self._troubled = troubled

    def __getattr__(self, method: str) -> Any:
        behind = getattr(self._behind, method)
        if not inspect.iscoroutinefunction(behind):
            return behind

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._troubled.carry_out(f"{self._name}.{method}", behind, args, kwargs)

        return call


class TroubledEngine:
    """Calls are named as in `cursors.settle`. `calls` counts them."""

    def __init__(self, behind: Engine) -> None:
        self.behind: Any = behind
        self.journal: Any = _Part("journal", behind.journal, self)
        self.cursors: Any = _Part("cursors", behind.cursors, self)
        self.leases: Any = _Part("leases", behind.leases, self)
        self.attempts: Any = _Part("attempts", behind.attempts, self)
        self.rejections: Any = _Part("rejections", behind.rejections, self)
        self.settings: Any = _Part("settings", behind.settings, self)
        self.erasure: Any = _Part("erasure", behind.erasure, self)
        self.calls: Counter[str] = Counter()
        self.settled: list[Any] = []
        """The changes of every settle that was carried out."""
        self.weaker: Sequence[str] = behind.weaker
        """Which guarantees storage weakens, where a test says so."""
        self.room: int | None = None
        """What is left of storage, where a test says so."""
        self._failures: Counter[str] = Counter()
        self._faults: dict[str, Callable[[], CertesError]] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._unanswered: set[str] = set()
        self._late: dict[str, asyncio.Event] = {}
        self._dead = False
        self._crash_at: tuple[int, bool] | None = None

    @property
    def waiting(self) -> int:
        return self.behind.waiting

    @property
    def members(self) -> Members:
        return self.behind.members

    @property
    def post(self) -> Post:
        return self.behind.post

    def fail(
        self, call: str, times: int, *, by_fault: bool = False, error: Callable[[], CertesError] | None = None
    ) -> None:
        """Lets the next calls raise `Unavailable`, or `Internal` if it is by a fault of the engine's own, or what `error` returns."""
        self._failures[call] = times
        self._faults.pop(call, None)
        if by_fault:
            self._faults[call] = lambda: Internal(Reason.INTERNAL, f"{call} has a fault, as ordered.")
        elif error is not None:
            self._faults[call] = error

    def lose_answer(self, call: str) -> None:
        """Lets the next call be carried out, and raise `Unavailable` all the same."""
        self._unanswered.add(call)

    def failures_left(self, call: str) -> int:
        """How many calls are still to fail."""
        return self._failures[call]

    def hold(self, call: str) -> asyncio.Event:
        """Holds calls up until the event that is returned is set."""
        gate = self._held[call] = asyncio.Event()
        return gate

    def hold_answer(self, call: str) -> asyncio.Event:
        """Lets calls be carried out, and holds up what they return until the event that is returned is set."""
        gate = self._late[call] = asyncio.Event()
        return gate

    def crash(self) -> None:
        """Ends it as `kill -9` would: nothing reaches the engine behind it any more."""
        self._dead = True

    def crash_at(self, write: int, *, done: bool) -> None:
        """Crashes at the so-manieth write from now, before it is done or after, when its answer is lost."""
        self._crash_at = (write, done)

    @property
    def has_crashed(self) -> bool:
        return self._dead

    async def carry_out(self, name: str, behind: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Makes one call, with what trouble was ordered for it."""
        self.calls[name] += 1
        if name in self._held:
            await self._held[name].wait()
        if name in WRITES and self._crash_at is not None and not self._dead:
            left, done = self._crash_at
            self._crash_at = (left - 1, done)
            if left == 1:
                if done:
                    await behind(*args, **kwargs)
                self.crash()
        if self._dead and (name in SWALLOWED or (name == "settings.put" and args[0].startswith(NOTICES))):
            return ()
        if self._dead or self._failures[name] > 0:
            self._failures[name] -= 1
            raise self._failure(name)
        result = await behind(*args, **kwargs)
        if name in self._late:
            await self._late[name].wait()
        if name == "journal.room" and self.room is not None:
            return self.room
        if name in self._unanswered:
            self._unanswered.remove(name)
            raise self._failure(name)
        if name == "cursors.settle":
            self.settled.extend(args[0])
        return result

    def _failure(self, name: str) -> CertesError:
        if name in self._faults and not self._dead:
            return self._faults[name]()
        return Unavailable(Reason.STORAGE_UNAVAILABLE, f"{name} fails, as ordered.", retry_after=1.0)
