"""The attempt log: attempts are written together, and none is lost while storage fails."""

from __future__ import annotations

import asyncio

from certes_broker.broker.attempt_log import LIMIT, AttemptLog
from certes_broker.domain.events import Micros, Position
from certes_broker.engines.memory import MemoryEngine
from certes_broker.ports.engine import Attempt
from tests.fakes.broker_world import World, ping, pings
from tests.fakes.manual_clock import ManualClock
from tests.fakes.troubled_engine import TroubledEngine


async def stop(world: World) -> None:
    """Stops the broker while time passes."""
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(world.stop())
        while not stopping.done():
            world.clock.advance(0.1)
            await asyncio.sleep(0)


def attempt(number: int) -> Attempt:
    return Attempt("app", Position(number), 1, Micros(number), 0.1, 200, "", "", b"", None)


async def test_attempts_made_while_a_write_is_under_way_share_the_next(world: World) -> None:
    await world.create_webhook()
    gate = world.engine.hold("attempts.record")
    await world.publish(*pings(20))
    await world.sent(20)
    await world.quiet()
    gate.set()
    await world.attempted(world.name("hook"), 20)
    assert world.engine.calls["attempts.record"] <= 2


async def test_attempts_that_could_not_be_recorded_are_recorded_later_and_once(world: World) -> None:
    await world.create_webhook()
    world.engine.fail("attempts.record", 2)
    await world.publish(ping("p1"))
    await world.sent(1)
    for _ in range(3):
        await world.advance(0.5)
    assert len(await world.attempts(world.name("hook"))) == 1


async def test_attempts_that_wait_for_storage_when_the_broker_stops_are_in_its_last_write(world: World) -> None:
    await world.create_webhook()
    world.engine.fail("attempts.record", 1)
    await world.publish(ping("p1"))
    await world.eventually(lambda: world.engine.failures_left("attempts.record") == 0)
    await stop(world)
    await world.start()
    assert len(await world.attempts(world.name("hook"))) == 1


async def test_attempts_that_are_being_recorded_when_the_broker_stops_are_recorded(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    gate = world.engine.hold("attempts.record")
    await world.publish(ping("p1"))
    await world.eventually(lambda: world.engine.calls["attempts.record"] == 1)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.stop())
        for _ in range(50):
            await asyncio.sleep(0)
        gate.set()
    await world.start()
    assert len(await world.attempts(world.name("hook"))) == 1


async def test_whoever_adds_to_a_full_log_waits() -> None:
    engine = TroubledEngine(MemoryEngine(ManualClock()))
    log = AttemptLog(engine.attempts, ManualClock())
    for number in range(LIMIT):
        await log.add(attempt(number))
    assert log.waiting == LIMIT
    async with asyncio.TaskGroup() as group:
        adding = group.create_task(log.add(attempt(LIMIT)))
        await asyncio.sleep(0)
        assert not adding.done()
        await log.flush()
    await log.flush()
    assert len(await engine.attempts.list("app", None, 2 * LIMIT)) == LIMIT + 1
