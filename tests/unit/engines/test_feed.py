"""Feeds hand on everything once, in order, and are bounded."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.engines.feed import Feeds


async def test_a_feed_has_what_is_published_after_it_was_opened() -> None:
    feeds: Feeds[int] = Feeds(10)
    feeds.publish(1)
    feed = feeds.open()
    feeds.publish(2)
    feeds.publish(3)
    assert [await anext(feed), await anext(feed)] == [2, 3]


async def test_a_feed_leaves_out_what_it_does_not_want() -> None:
    feeds: Feeds[int] = Feeds(10)
    feed = feeds.open(lambda number: number % 2 == 0)
    for number in range(5):
        feeds.publish(number)
    assert [await anext(feed) for _ in range(3)] == [0, 2, 4]


async def test_there_is_room_until_the_slowest_feed_is_full_and_again_once_it_reads() -> None:
    freed: list[bool] = []
    feeds: Feeds[str] = Feeds(3, lambda: freed.append(True))
    slow, quick = feeds.open(), feeds.open()
    feeds.publish("a", 2)
    await anext(quick)
    assert feeds.has_room
    feeds.publish("b", 2)
    assert not feeds.has_room
    freed.clear()
    await anext(quick)
    assert not freed
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(feeds.room())
        await anext(slow)
    assert waiting.done()
    assert freed


async def test_a_closed_feed_ends_and_holds_nothing_back() -> None:
    feeds: Feeds[int] = Feeds(1)
    feed = feeds.open()
    feeds.publish(1)
    assert not feeds.has_room
    await feed.aclose()
    assert feeds.has_room
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_a_feed_that_nobody_holds_any_more_holds_nothing_back() -> None:
    feeds: Feeds[int] = Feeds(1)
    feed = feeds.open()
    feeds.publish(1)
    del feed
    assert feeds.has_room


async def test_closing_all_lets_each_reader_have_what_waits_and_then_end() -> None:
    feeds: Feeds[int] = Feeds(1)
    feed = feeds.open()
    feeds.publish(1)
    feeds.close()
    assert feeds.has_room
    assert [item async for item in feed] == [1]
    assert [item async for item in feeds.open()] == []
