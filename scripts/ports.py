"""Ports of loopback for processes that are killed and started again, and must be found where they were.

Rules
-----
* They are none of those that the system gives out by itself, so that no client's connection takes one while what listens there is down.
* Nor does anybody else who asks here get them while they are held: whoever holds a port has its number among UDP's, of which no process
  of ours uses any. That ends with the process that holds it, however it ends.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self
from weakref import finalize

LOCAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT: Final = 15_000
USUALLY_LOWEST: Final = 32_768
PORTS_TRIED: Final = 1_000


class NoFreePorts(Exception):
    """So many ports were tried, and each was somebody's."""


class HeldPorts:
    """Some ports that nobody listened on when they were chosen. They are held until `release`, or for as long as this object is."""

    def __init__(self, count: int) -> None:
        holders: list[socket.socket] = []
        self.release = finalize(self, _close, holders)
        found: list[int] = []
        for port in random.sample(range(LOWEST_PORT, _lowest_given_out()), PORTS_TRIED):
            if len(found) == count:
                break
            holder = hold(port)
            if holder is not None:
                holders.append(holder)
                found.append(port)
        if len(found) < count:
            self.release()
            raise NoFreePorts(
                f"Of {PORTS_TRIED} ports from {LOWEST_PORT} on {len(found)} were free, {count} are wanted."
            )
        self.numbers: Final = tuple(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_free(port: int) -> bool:
    """Says whether nobody listens on a port, be it held or not."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def hold(port: int) -> socket.socket | None:
    """Returns what holds a port until it is closed; None if it is somebody's."""
    holder = socket.socket(type=socket.SOCK_DGRAM)
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        pass
    else:
        if is_free(port):
            return holder
    holder.close()
    return None


def _close(holders: Iterable[socket.socket]) -> None:
    for holder in holders:
        holder.close()


def _lowest_given_out() -> int:
    try:
        lowest = int(LOCAL_PORTS.read_text().split()[0])
    except (OSError, ValueError):
        lowest = 0
    return lowest if lowest >= LOWEST_PORT + PORTS_TRIED else USUALLY_LOWEST
