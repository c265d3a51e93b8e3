"""Dead letters: listed, filtered, paged, and forgotten."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.broker.dead_letters import DeadLetterFilter, Selection
from certes_broker.domain.errors import Invalid, NotFound
from certes_broker.domain.events import AcceptedEvent, Micros
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.uris import parse_pattern
from tests.fakes.broker_world import PATIENCE, PING, World, ping, pings, push

DAY = 86_400.0
ALL = DeadLetterFilter()


def everything(_: AcceptedEvent) -> bool:
    return True


def chosen(wanted: DeadLetterFilter = ALL, token: str = "") -> Selection:
    return Selection(wanted, everything, token)


async def rejected(world: World, count: int, reason: str = "no") -> None:
    """Lets deliveries p1, p2, … become dead letters."""
    await world.create()
    reader = await world.open()
    await world.publish(*pings(count))
    await reader.take(count)
    await reader.nack(Nack(1, count, NackAction.DEAD_LETTER, None, reason))
    await reader.close()


async def listed(world: World, wanted: DeadLetterFilter = ALL) -> list[str]:
    page = await world.broker.dead_letters.list(world.name(), chosen(wanted), 100)
    return [one.letter.event.id for one in page.letters]


async def gone(world: World) -> None:
    """Lets rounds of the janitor pass until there are none: one that is under way when time passes sets its alarm after that."""
    async with asyncio.timeout(PATIENCE):
        while await listed(world):
            await world.advance(60)


async def test_a_page_has_as_many_as_are_asked_for_and_says_where_to_go_on(either_world: World) -> None:
    await rejected(either_world, 5)
    letters, name = either_world.broker.dead_letters, either_world.name()
    found: list[str] = []
    token = ""
    sizes = []
    for _ in range(3):
        page = await letters.list(name, chosen(token=token), 2)
        found += [one.letter.event.id for one in page.letters]
        sizes.append(len(page.letters))
        token = page.next_page_token
        assert page.total == 5
    assert (found, sizes, token) == (["p1", "p2", "p3", "p4", "p5"], [2, 2, 1], "")


async def test_a_page_token_of_another_filter_is_refused(world: World) -> None:
    await rejected(world, 3)
    letters, name = world.broker.dead_letters, world.name()
    page = await letters.list(name, chosen(), 1)
    with pytest.raises(Invalid, match="page"):
        await letters.list(name, chosen(DeadLetterFilter(reason="rejected"), page.next_page_token), 1)


async def test_a_list_has_no_bodies_and_says_how_long_they_are(world: World) -> None:
    await rejected(world, 1)
    [stored] = await world.dead_letters(world.name())
    [one] = (await world.broker.dead_letters.list(world.name(), chosen(), 1)).letters
    assert (one.letter.event.body, one.event_bytes) == (b"", len(stored.event.body))


async def test_a_filter_chooses_by_type_by_reason_and_by_time(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("a"), push("b"))
    await reader.take(2)
    await reader.nack(Nack(1, 2, NackAction.DEAD_LETTER, None, "no"))
    noon = world.clock.now()
    await world.advance(60)
    await world.publish(ping("c"))
    await reader.take(1)
    await reader.nack(Nack(3, 3, NackAction.DEAD_LETTER, None, "no"))
    later = Micros(noon + 60_000_000)
    assert await listed(world) == ["a", "b", "c"]
    assert await listed(world, DeadLetterFilter(parse_pattern(PING))) == ["a", "c"]
    assert await listed(world, DeadLetterFilter(reason="rejected")) == ["a", "b", "c"]
    assert await listed(world, DeadLetterFilter(reason="attempts_exhausted")) == []
    assert await listed(world, DeadLetterFilter(start=later)) == ["c"]
    assert await listed(world, DeadLetterFilter(end=later)) == ["a", "b"]


async def test_what_whoever_asks_may_not_see_is_in_no_list_is_not_found_and_is_not_purged(world: World) -> None:
    await rejected(world, 2)
    [first, _] = await world.dead_letters(world.name())
    letters, name = world.broker.dead_letters, world.name()

    def sees(event: AcceptedEvent) -> bool:
        return event.id != "p1"

    page = await letters.list(name, Selection(ALL, sees), 10)
    assert [one.letter.event.id for one in page.letters] == ["p2"]
    with pytest.raises(NotFound, match="dead letter"):
        await letters.get(name, world.broker.names.name(first.position).removeprefix("events/"), sees)
    assert (await letters.purge(name, Selection(ALL, sees))).purged == 1
    assert await listed(world) == ["p1"]


async def test_a_purge_forgets_what_is_meant_and_says_how_much(either_world: World) -> None:
    world = either_world
    await rejected(world, 3)
    letters, name = world.broker.dead_letters, world.name()
    one = world.broker.names.name((await world.dead_letters(name))[1].position).removeprefix("events/")
    assert (await letters.purge_named(name, [one, one], everything)).purged == 1
    assert await listed(world) == ["p1", "p3"]
    assert (await letters.purge(name, chosen())).purged == 2
    assert await listed(world) == []
    assert (await letters.purge(name, chosen())).purged == 0


async def test_a_purge_of_names_of_which_one_is_none_forgets_nothing(world: World) -> None:
    await rejected(world, 2)
    name = world.name()
    one = world.broker.names.name((await world.dead_letters(name))[0].position).removeprefix("events/")
    with pytest.raises(NotFound, match="dead letter"):
        await world.broker.dead_letters.purge_named(name, [one, "f" * 32], everything)
    assert await listed(world) == ["p1", "p2"]


async def test_dead_letters_go_when_they_have_been_kept_for_thirty_days(either_world: World) -> None:
    world = either_world
    await rejected(world, 1)
    await world.days_pass(29)
    assert await listed(world) == ["p1"]
    await world.days_pass(1.1)
    await gone(world)


async def test_dead_letters_go_with_their_subscription_once_it_cannot_be_restored(world: World) -> None:
    await rejected(world, 1)
    await world.broker.subscriptions.delete(world.name(), etag="")
    assert await listed(world) == ["p1"]
    await world.advance(1.1 * DAY)
    await gone(world)


async def test_a_seek_leaves_dead_letters_alone(either_world: World) -> None:
    from certes_broker.domain.seeking import SeekBeginning

    world = either_world
    await rejected(world, 1)
    await world.broker.subscriptions.seek(world.name(), SeekBeginning())
    assert await listed(world) == ["p1"]
