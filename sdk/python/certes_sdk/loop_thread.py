"""An event loop in a thread, for callers that have none: `blocking`, and WSGI."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")


class LoopThread:
    """One event loop in one daemon thread, begun when it is first needed. A child process that was forked has its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine in the loop and returns what it does. If the caller is interrupted, it is cancelled."""
        if threading.current_thread().name == _NAME:
            raise RuntimeError(
                "A coroutine handler called the blocking form, which would wait for itself. Use certes_sdk in it, or make it a plain function."
            )
        future = asyncio.run_coroutine_threadsafe(work(), self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def post(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a coroutine in the loop, and does not wait for it."""
        asyncio.run_coroutine_threadsafe(work(), self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                self._process = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=_NAME, daemon=True).start()
            return self._loop


_NAME: Final = "certes loop"

LOOP_THREAD: Final = LoopThread()
"""That of this process."""
