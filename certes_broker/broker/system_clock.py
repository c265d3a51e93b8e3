"""The real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from certes_broker.domain.events import Micros
from certes_broker.ports.clock import Alarm


class SystemClock:
    """Reads the system's clocks; alarms go off in the running event loop."""

    def now(self) -> Micros:
        return Micros(time.time_ns() // 1000)

    def monotonic(self) -> float:
        return time.monotonic()

    def alarm(self, seconds: float, action: Callable[[], None]) -> Alarm:
        return asyncio.get_running_loop().call_later(seconds, action)
