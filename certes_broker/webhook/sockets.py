"""Which sockets libcurl waits on, kept outside the event loop.

The event loop watches one file handle, that of the selector here, and asks for all sockets that are ready at once. Beside
`loop.add_reader` for every socket that saves most of what a POST costs outside libcurl: a callback, a context and up to six system
calls each time a connection goes from one request to the next.
"""

from __future__ import annotations

import select
import selectors
import sys
from contextlib import suppress
from typing import Protocol

import pycurl

Ready = tuple[int, int]
"""A socket and what it is ready for, as `socket_action` takes them."""


class Sockets(Protocol):
    """The sockets that are waited on."""

    def fileno(self) -> int:
        """Returns the file handle that is readable while a socket is ready."""

    def want(self, fd: int, what: int) -> None:
        """Waits on `fd` for `what`: `POLL_IN`, `POLL_OUT`, both, or `POLL_NONE`."""

    def forget(self, fd: int) -> None:
        """Waits no longer on `fd`, which may be closed at any time from now, or be wanted again."""

    def ready(self) -> list[Ready]:
        """Returns what is ready now, without waiting."""

    def close(self) -> None:
        """Frees the selector."""


def open_sockets() -> Sockets:
    """Opens the best kind there is on this system."""
    return EpollSockets() if sys.platform == "linux" else SelectorSockets()


class EpollSockets:
    """Sockets in an epoll of their own, where one that is forgotten stays registered.

    It is likely to be wanted again for the next request, at the price of one system call instead of two. A closed socket leaves an epoll
    by itself; that its number then belongs to another shows when that one is wanted (`ENOENT`). A forgotten socket that becomes ready,
    because the receiver closed it, is taken out then.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._registered: dict[
            int, bool
        ] = {}  # The value says whether the socket is wanted, or only not yet taken out.

    def fileno(self) -> int:
        return self._epoll.fileno()

    def want(self, fd: int, what: int) -> None:
        events = _EPOLL_EVENTS[what]
        if fd in self._registered:
            try:
                self._epoll.modify(fd, events)
            except FileNotFoundError:
                self._epoll.register(fd, events)
        else:
            self._epoll.register(fd, events)
        self._registered[fd] = True

    def forget(self, fd: int) -> None:
        if fd in self._registered:
            self._registered[fd] = False

    def ready(self) -> list[Ready]:
        ready = []
        for fd, events in self._epoll.poll(0):
            if self._registered.get(fd):
                # Errors and hang-ups are for libcurl to find out by reading or writing.
                what = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0
                ready.append((fd, what | pycurl.CSELECT_OUT if events & ~select.EPOLLIN else what))
            else:
                self._take_out(fd)
        return ready

    def close(self) -> None:
        self._epoll.close()

    def _take_out(self, fd: int) -> None:
        self._registered.pop(fd, None)
        # Its number may be another file's by now, if a child process kept the socket open across the close.
        with suppress(OSError):
            self._epoll.unregister(fd)


class SelectorSockets:
    """Sockets in the system's own selector: for systems without epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def want(self, fd: int, what: int) -> None:
        self.forget(fd)
        events = selectors.EVENT_READ if what & pycurl.POLL_IN else 0
        if what & pycurl.POLL_OUT:
            events |= selectors.EVENT_WRITE
        if events:
            self._selector.register(fd, events)

    def forget(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def ready(self) -> list[Ready]:
        return [
            (
                key.fd,
                (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0)
                | (pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0),
            )
            for key, events in self._selector.select(0)
        ]

    def close(self) -> None:
        self._selector.close()


_EPOLL_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
