"""A clock that a test sets."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from certes_broker.domain.events import Micros


class ManualAlarm:
    """A call that comes when the clock is advanced past its time."""

    def __init__(self, time: float, action: Callable[[], None]) -> None:
        self.time = time
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Tells the time that it was set to. Alarms go off while it is advanced, in order, each at its own time."""

    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        self._now = now
        self._monotonic = 0.0
        self._alarms: list[tuple[float, int, ManualAlarm]] = []
        """A heap."""
        self._numbers = count()

    def now(self) -> Micros:
        return Micros(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def alarm(self, seconds: float, action: Callable[[], None]) -> ManualAlarm:
        alarm = ManualAlarm(self._monotonic + seconds, action)
        heapq.heappush(self._alarms, (alarm.time, next(self._numbers), alarm))
        return alarm

    @property
    def alarms(self) -> int:
        """How many alarms are set."""
        return sum(not alarm.cancelled for _, _, alarm in self._alarms)

    def advance(self, seconds: float) -> None:
        """Lets time pass. An alarm that is set by one that goes off may go off, too."""
        end = self._monotonic + seconds
        while self._alarms and self._alarms[0][0] <= end:
            _, _, alarm = heapq.heappop(self._alarms)
            if not alarm.cancelled:
                self._pass(max(alarm.time - self._monotonic, 0.0))
                alarm.action()
        self._pass(end - self._monotonic)

    def set(self, now: int) -> None:
        """Sets the time of day, which may go back; the monotonic time stays."""
        self._now = now

    def _pass(self, seconds: float) -> None:
        self._now += round(seconds * 1_000_000)
        self._monotonic += seconds
