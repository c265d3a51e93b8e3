"""Killed at any moment, the broker loses nothing that it answered for, and keeps the order of every key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from scripts.broker_process import BrokerProcess
from tests.acceptance.client import connected
from tests.acceptance.consumer import Consumer
from tests.acceptance.load import Backlog, Publisher

KILLS = 20
SEED = 20_240_229
MOMENTS = ("accepted", "delivered", "acknowledged")
EVENTS_BETWEEN_KILLS = 700
"""At most. A kill also comes after the first event, in the middle of what a restart delivers again."""
PUBLISHERS = 3
KEYS = 16
"""Of each publisher."""


class Killer:
    """Kills the broker when something has happened so often: within the step in which it happens."""

    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        self.struck = asyncio.Event()
        self.moments: list[str] = []
        self._broker = broker
        self._chance = chance
        self._armed = ""
        self._left = 0

    def arm(self) -> None:
        """Chooses the next moment."""
        self.struck.clear()
        self._armed = self._chance.choice(MOMENTS)
        self._left = self._chance.randint(1, EVENTS_BETWEEN_KILLS)
        self.moments.append(f"{self._armed}+{self._left}")

    def count(self, what: str) -> None:
        """Hears what happened."""
        if what == self._armed:
            self._left -= 1
            if self._left == 0:
                self._armed = ""
                self._broker.kill9()
                self.struck.set()


async def test_killed_at_twenty_moments_under_load_it_delivers_all_that_it_accepted_in_each_keys_order(
    broker: BrokerProcess, report: Callable[[str], None]
) -> None:
    chance = random.Random(SEED)
    killer = Killer(broker, chance)
    async with connected(broker) as publishing, connected(broker) as consuming:
        name = await consuming.create_stream("all")
        backlog = Backlog()
        # One key of each publisher is none: such events have no order, and are not to be lost either.
        publishers = [
            Publisher(
                publishing,
                [f"-p{number}", *(f"p{number}k{key}" for key in range(KEYS))],
                random.Random(number),
                killer.count,
                backlog,
            )
            for number in range(PUBLISHERS)
        ]
        consumer = Consumer(consuming, name, random.Random(SEED), killer.count, backlog)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(consumer.run())
            writing = [tasks.create_task(publisher.run()) for publisher in publishers]
            for _ in range(KILLS):
                killer.arm()
                await killer.struck.wait()
                await asyncio.to_thread(broker.start)
            for publisher in publishers:
                publisher.stopping = True
            await asyncio.gather(*writing)
            accepted = set[str]().union(*(publisher.accepted for publisher in publishers))
            await consumer.has(accepted)
            reading.cancel()
    again = consumer.delivered.total() - len(consumer.delivered)
    report(
        f"{len(accepted)} events accepted over {KILLS} kills, {len(consumer.delivered)} delivered, {again} of them again; "
        f"{sum(publisher.duplicates for publisher in publishers)} found stored when their answer was lost"
    )
    assert consumer.delivered.keys() == accepted
    assert consumer.came_again == set(), "the broker had answered that these were settled"
    check_order(consumer)


def check_order(consumer: Consumer) -> None:
    """Every key's first deliveries are 1, 2, 3…; on one stream a key goes on without repeating or skipping."""
    reached: dict[str, int] = {}
    for session in consumer.sessions:
        here: dict[str, int] = {}
        for key, number in session.delivered:
            if key.startswith("-"):
                continue
            if key in here:
                assert number == here[key] + 1, f"{key} went from {here[key]} to {number} on one stream"
            assert number <= reached.get(key, 0) + 1, f"{key} skipped from {reached.get(key, 0)} to {number}"
            here[key] = number
            reached[key] = max(reached.get(key, 0), number)
    assert reached, "without a single key nothing would be proven"
