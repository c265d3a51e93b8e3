"""What a soak saw: when each event was published and arrived, what the broker held, how long the disk took; and its judgement.

Times are seconds of the monotonic clock, memory is MiB, waits are milliseconds.

A disk that stands still makes every event wait, whoever receives it, and says nothing of what one receiver does to others. So
the halves are compared by the events of their calm seconds, in which a small write beside the broker's data was never slow, nor
in the second before. Each half is made of several turns, since what a shared machine has to give changes with the minutes.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from benchmarks.measures import percentile
from benchmarks.soak.receivers import Receiver

Second = tuple[int, int]
"""A turn of a half, and a second of it; both count from 0."""

AIM: Final = 2.0
"""Times the p99 of healthy receivers without misbehaving ones that it may be with them."""
CALM: Final = 20.0
"""Milliseconds that a small write may take to be on the disk in a calm second."""
GROWTH: Final = 96
"""MiB that the broker may hold at the end of the last turn beyond what it held at the end of the first. What waits for a
receiver waits in storage; this is for windows of 50 lanes, and for what the allocator keeps."""


class Turn(NamedTuple):
    """A while in which events were published."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a soak: the events that were published in its turns."""

    title: str
    turns: list[Turn] = field(default_factory=list)

    def second_of(self, at: float) -> Second | None:
        """Names the second of a turn that a time is in; None if it is in none."""
        for number, turn in enumerate(self.turns):
            if turn.began <= at < turn.ended:
                return number, int(at - turn.began)
        return None

    @property
    def seconds(self) -> float:
        """How long it was."""
        return sum(turn.ended - turn.began for turn in self.turns)


@dataclass
class Account:
    """What was published and what came of it."""

    receivers: dict[str, Receiver]
    published: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The path of its receiver and the time, by the id of an event."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    syncs: list[tuple[float, float]] = field(default_factory=list)
    """When a write of 4 KiB beside the broker's data began, and how many milliseconds it took to be on the disk."""

    @property
    def missing(self) -> int:
        """How many events have not arrived."""
        return len(self.published) - sum(len(receiver.arrived) for receiver in self.receivers.values())

    def waits(self, half: Half) -> dict[Second, list[float]]:
        """How long healthy receivers waited for the events that were published in each second of a half."""
        seconds: dict[Second, list[float]] = defaultdict(list)
        for event_id, (path, at) in self.published.items():
            receiver = self.receivers[path]
            if receiver.misbehaviour or event_id not in receiver.arrived:
                continue
            second = half.second_of(at)
            if second is not None:
                seconds[second].append((receiver.arrived[event_id] - at) * 1000)
        return seconds

    def calm(self, half: Half) -> dict[Second, list[float]]:
        """What `waits` says of the calm seconds of a half."""
        slow = {half.second_of(at) for when, took in self.syncs if took > CALM for at in (when, when + 1)}
        return {second: waits for second, waits in self.waits(half).items() if second not in slow}

    def held(self, at: float) -> float:
        """The median of what the broker held in the ten seconds before a time."""
        return statistics.median(held for when, held in self.memory if at - 10 <= when <= at)


def report(account: Account, well: Half, bad: Half, caught_up: float) -> str:
    """Returns what a user reads. `caught_up` is the longest that a last event took once all were well again."""
    rows = []
    for half in (well, bad):
        waits, calm = account.waits(half), account.calm(half)
        count = sum(half.second_of(at) is not None for _, at in account.published.values())
        pause = max(took for when, took in account.syncs if half.second_of(when) is not None)
        held = " to ".join(f"{account.held(turn.ended):.0f}" for turn in (half.turns[0], half.turns[-1]))
        rows.append(
            f"| {half.title:<17} | {count / half.seconds:>7,.0f}/s | {_percentile(waits, 0.5):>11.1f} ms"
            f" | {_percentile(waits, 0.99):>8.1f} ms | {_percentile(calm, 0.99):>9.1f} ms ({len(calm):>3} s)"
            f" | {pause:>10.1f} ms | {held:>10} MiB |"
        )
    bad_receivers = [receiver for receiver in account.receivers.values() if receiver.misbehaviour]
    lines = [
        "",
        "| receivers         | published | healthy median |         p99 | p99, calm seconds   |  slowest sync | broker holds   |",
        "|-------------------|-----------|----------------|-------------|---------------------|---------------|----------------|",
        *rows,
        "",
        f"p99 of healthy receivers in calm seconds: {_ratio(account, well, bad):.2f} of that without (at most {AIM:g})",
        f"{len(account.published):,} events, {account.missing} missing; the last at most {caught_up:.1f} s after all were well again",
        *(f"  {it.misbehaviour}: {len(it.arrived):,} events in {it.requests:,} requests" for it in bad_receivers),
    ]
    return "\n".join(lines)


def lost_or_grown(account: Account, well: Half, bad: Half) -> list[str]:
    """Returns what is wrong with what arrived and with what the broker held."""
    faults = [f"{account.missing} events had not arrived in time"] if account.missing else []
    grown = account.held(bad.turns[-1].ended) - account.held(well.turns[0].ended)
    if grown > GROWTH:
        faults.append(f"the broker held {grown:.0f} MiB more in the end; {GROWTH} are allowed")
    return faults


def slowed_down(account: Account, well: Half, bad: Half) -> list[str]:
    """Returns what is wrong with how long healthy receivers waited. Without a calm second in each half it cannot be told."""
    ratio = _ratio(account, well, bad)
    return [f"healthy receivers waited {ratio:.2f} times as long; {AIM:g} are allowed"] if ratio > AIM else []


def _ratio(account: Account, well: Half, bad: Half) -> float:
    return _percentile(account.calm(bad), 0.99) / _percentile(account.calm(well), 0.99)


def _percentile(waits: dict[Second, list[float]], share: float) -> float:
    """That of all seconds together; not a number if there is none."""
    pooled = sorted(chain.from_iterable(waits.values()))
    return percentile(pooled, share) if pooled else float("nan")
