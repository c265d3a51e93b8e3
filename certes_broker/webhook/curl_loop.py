"""libcurl's transfers, moved by the running event loop: no thread, no polling.

libcurl says which sockets it waits on (`M_SOCKETFUNCTION`) and when it wants to be woken (`M_TIMERFUNCTION`); when either happens it is
told (`socket_action`) and moves its transfers a step on. Which of them ended is asked afterwards, never from within a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pycurl

from certes_broker.webhook.sockets import open_sockets

_OnDone = Callable[[pycurl.Curl, int, str], None]


class CurlLoop:
    """A libcurl multi handle bound to one event loop. `on_done(handle, code, message)` hears of each transfer that ended by itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_done: _OnDone, max_idle_connections: int) -> None:
        self._loop = loop
        self._on_done = on_done
        self._sockets = open_sockets()
        self._under_way = 0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._due: float | None = None
        loop.add_reader(self._sockets.fileno(), self._act_on_ready_sockets)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_idle_connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._wake_in)

    def add(self, curl: pycurl.Curl) -> None:
        """Starts a transfer; libcurl takes its first step in the event loop's next turn, together with all others that were added."""
        self._multi.add_handle(curl)
        self._under_way += 1

    def remove(self, curl: pycurl.Curl) -> None:
        """Ends a transfer at once, without a word to `on_done`."""
        self._under_way -= 1
        self._multi.remove_handle(curl)

    def close(self) -> None:
        """Closes all connections. Every transfer has to be removed before."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sockets.fileno())
        self._multi.close()
        self._sockets.close()

    def _watch(self, what: int, fd: int, *_: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._sockets.forget(fd)
        else:
            self._sockets.want(fd, what)

    def _act_on_ready_sockets(self) -> None:
        act = self._multi.socket_action
        running = self._under_way
        for fd, what in self._sockets.ready():
            _, running = act(fd, what)
        if running < self._under_way:
            self._collect()

    def _wake_in(self, milliseconds: int) -> None:
        """Notes when libcurl wants to be woken (-1: not at all).

        A timer that is set is left alone unless the new one comes before it: libcurl moves its deadline with every transfer, and
        a wake-up that comes too early does no harm.
        """
        if milliseconds < 0:
            self._due = None
            return
        if milliseconds == 0:
            self._due = 0.0
            if self._timer is None or self._timer_at > 0.0:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer, self._timer_at = self._loop.call_soon(self._wake), 0.0
            return
        self._due = self._loop.time() + milliseconds / 1000
        if self._timer is None or self._timer_at > self._due:
            self._set_timer(self._due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(due, self._wake), due

    def _wake(self) -> None:
        self._timer = None
        due = self._due
        if due is None:
            return
        if due > self._loop.time():
            self._set_timer(due)
            return
        self._due = None
        _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        if running < self._under_way:
            self._collect()

    def _collect(self) -> None:
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self.remove(curl)
                self._on_done(curl, pycurl.E_OK, "")
            for curl, code, message in failed:
                self.remove(curl)
                self._on_done(curl, code, message)
