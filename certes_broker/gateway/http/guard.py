"""Who may talk to the gateway: the names by which it may be called, and the web pages that may call it.

A gateway without authentication is protected by listening on loopback alone, and every web page that its owner visits
can send requests there. `Host` unmasks a page whose own name was made to resolve to loopback (DNS rebinding), `Origin`
every other. Neither can be set by a page. A third guard stands where bodies are read: they must be declared as JSON or
protobuf, which a page cannot do without asking first (CORS preflight), and that is never granted. Forms, which it can
send, are taken from signed sources alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from certes_broker.domain.errors import PermissionDenied, Reason


class Guard:
    """Checks `Host` and `Origin` of each request against the allowed names: `name` for every port, or `name:port`."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(name.lower() for name in allowed)
        self._known_hosts: set[bytes] = set()

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises `PermissionDenied`: HOST_NOT_ALLOWED, also without a `Host` or with two, or ORIGIN_NOT_ALLOWED."""
        host: bytes | None = None
        for name, value in headers:
            if name == b"host":
                if host is not None:
                    raise _host_refused("a request has one Host header; this one has several")
                host = value
            elif name == b"origin":
                self._check_origin(value)
        if host not in self._known_hosts:
            if host is None or not self._is_allowed(host.decode("latin-1")):
                raise _host_refused(f"this gateway is not called {(host or b'').decode('latin-1')[:100]!r}")
            # Clients of a gateway call it by a few names; whoever makes up thousands of spellings pays for the check.
            if len(self._known_hosts) < _MOST_KNOWN_HOSTS:
                self._known_hosts.add(host)

    def _check_origin(self, origin: bytes) -> None:
        text = origin.decode("latin-1")
        scheme, separator, host = text.partition("://")
        if not separator or scheme not in ("http", "https") or not self._is_allowed(host):
            raise PermissionDenied(
                Reason.ORIGIN_NOT_ALLOWED,
                f"web pages from {text[:100]!r} may not call this gateway.",
                hint="If they should, add their host to allowed_hosts in the configuration.",
            )

    def _is_allowed(self, host: str) -> bool:
        host = host.lower()
        if host in self._allowed:
            return True
        name, separator, port = host.rpartition(":")
        return bool(separator) and len(port) <= 5 and port.isascii() and port.isdigit() and name in self._allowed


_MOST_KNOWN_HOSTS: Final = 256


def _host_refused(problem: str) -> PermissionDenied:
    return PermissionDenied(
        Reason.HOST_NOT_ALLOWED,
        f"{problem}.",
        hint="If it should be, add the name to allowed_hosts in the configuration.",
    )
