"""Asking: when the receiver of one webhook is asked for its consent, by whoever takes the webhook's deliveries.

One question is under way at a time. After its answer it rests, longer each time; where the webhook has another receiver by then, or
there is another reason to begin anew, the next question follows at once.
"""

from __future__ import annotations

from collections.abc import Callable

from certes_broker.ports.clock import Alarm, Clock


class Asking:
    """Says whether a receiver is to be asked now. `wake` hears when it may be again."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._rest: Alarm | None = None
        self._is_under_way = False
        self._is_outdated = False
        self.times = 0
        """How often it has answered since it was last asked anew."""

    @property
    def is_due(self) -> bool:
        """Whether it may be asked now."""
        return not self._is_under_way and self._rest is None

    def begin(self) -> None:
        """A question is on its way."""
        self._is_under_way, self._is_outdated = True, False

    def end(self, wait: float) -> None:
        """It has been answered, or will not be; the next one follows after a wait, in seconds."""
        self._is_under_way = False
        if not self._is_outdated:
            self._rest = self._clock.alarm(wait, self._rested)

    def restart(self) -> None:
        """Begins anew."""
        self.times = 0
        self._is_outdated = True
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _rested(self) -> None:
        self._rest = None
        self._wake()
