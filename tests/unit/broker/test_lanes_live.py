"""Lanes: live from memory, behind from the journal, and back."""

from __future__ import annotations

from tests.fakes.broker_world import World, ids, pings


async def test_an_event_reaches_a_live_stream_from_memory(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.quiet()
    world.engine.calls.clear()
    await world.publish(*pings(3))
    assert ids(await reader.take(3)) == ["p1", "p2", "p3"]
    assert world.engine.calls["journal.read"] == 0
