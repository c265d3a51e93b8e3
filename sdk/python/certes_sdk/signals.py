"""Stopping by SIGINT and SIGTERM, where nobody else has taken them."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Generator[None]:
    """Calls `stop` in the running loop when the process is asked to stop.

    A server such as uvicorn takes the signals itself, and stops its applications; those are left alone, and so is a loop that is not
    the main thread's.
    """
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if _is_free(number):
                try:
                    loop.add_signal_handler(number, stop)
                except (NotImplementedError, RuntimeError, ValueError):
                    # A loop that cannot; Windows has none that can.
                    continue
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _is_free(number: signal.Signals) -> bool:
    """Says whether a signal does what it does by default, or what `asyncio.run` lets it do."""
    handler = signal.getsignal(number)
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    owner = getattr(handler.func, "__self__", None) if isinstance(handler, functools.partial) else None
    return isinstance(owner, asyncio.Runner)
