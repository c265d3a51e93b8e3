"""Which handlers run for an event.

Of the patterns that match its type the most specific decides, and all handlers of that pattern run in the order of their
registration; where two patterns are equally specific, those of both.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from certes_sdk.raw_event import RawEvent
from certes_sdk.uris import Pattern, parse_pattern

Handler = Callable[[RawEvent], Awaitable[object]] | Callable[[RawEvent], object]
"""What is called with an event: a coroutine function, or a function, which runs in a thread."""

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Registered:
    """A handler. `is_async` says that calling it makes a coroutine and does nothing else."""

    call: Callable[[RawEvent], object]
    is_async: bool


class Handlers:
    """The handlers of one client."""

    def __init__(self) -> None:
        self._registered: list[tuple[Pattern, Registered]] = []
        self._found: dict[str, tuple[Registered, ...]] = {}

    def add(self, pattern: str, handler: Handler) -> None:
        """Registers a handler. Raises `MALFORMED_PATTERN` or `UNMATCHABLE_PATTERN`."""
        registered = Registered(handler, _is_async(handler))
        self._registered.append((parse_pattern(pattern), registered))
        self._found.clear()

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._registered

    def of(self, event_type: str) -> tuple[Registered, ...]:
        """Returns the handlers of an event type, in the order in which they run; none where nobody handles it."""
        found = self._found.get(event_type)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[event_type] = self._find(event_type)
        return found

    def _find(self, event_type: str) -> tuple[Registered, ...]:
        matching = [(pattern.specificity, one) for pattern, one in self._registered if pattern.matches(event_type)]
        most = max((specificity for specificity, _ in matching), default=None)
        return tuple(one for specificity, one in matching if specificity == most)


def _is_async(handler: Callable[..., object]) -> bool:
    """Says whether a handler is a coroutine function, also as a method, as a partial, or as an object that is called."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
