"""Events of several keys, numbered within each, and what a receiver had of them."""

from __future__ import annotations

from collections import Counter

from certes.v1 import event_pb2
from tests.acceptance.client import event
from tests.acceptance.receiver import Receiver

KEYS = 4
EVENTS = 20
"""Of each key at a time."""


def events_of(first: int, last: int) -> list[event_pb2.Event]:
    return [event(f"k{key}:{number}", key=f"k{key}") for number in range(first, last + 1) for key in range(KEYS)]


def taken_by_key(receiver: Receiver) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {}
    for request in receiver.taken:
        key, _, number = request.event_id.partition(":")
        taken.setdefault(key, []).append(int(number))
    return taken


def refused_keys(receiver: Receiver) -> Counter[str]:
    return Counter(one.event_id.partition(":")[0] for one in receiver.requests if one.status == 503)
