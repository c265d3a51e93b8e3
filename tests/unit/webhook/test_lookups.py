"""Whose fault it is that a name could not be looked up."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from certes_broker.webhook.lookups import AT_ONCE, FOUND, KEPT, WITNESSES, Lookups, SystemResolver

NEVER = 1000
"""What a resolver says that does not answer."""


class Resolver:
    """A resolver that says what a test wants of each name; `codes` has what is not `FOUND`."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.asked: Counter[str] = Counter()
        self.answers = asyncio.Event()
        self.answers.set()

    async def look_up(self, host: str) -> int:
        self.asked[host] += 1
        await self.answers.wait()
        code = self.codes.get(host, FOUND)
        if code == NEVER:
            raise TimeoutError
        return code


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_a_name_that_does_not_exist_is_its_receiver_s_fault(code: int) -> None:
    lookups = Lookups(Resolver(a=code).look_up)
    assert not await lookups.is_ours("a")


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM, socket.EAI_MEMORY, NEVER])
async def test_a_resolver_that_has_no_answer_is_our_fault(code: int) -> None:
    assert await Lookups(Resolver(a=code).look_up).is_ours("a")


async def test_a_name_that_can_be_looked_up_again_was_not_its_receiver_s_fault() -> None:
    assert await Lookups(Resolver().look_up).is_ours("a")


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_FAIL, NEVER])
async def test_a_name_whose_own_servers_fail_while_others_can_be_looked_up_is_its_receiver_s_fault(code: int) -> None:
    lookups = Lookups(Resolver(a=code).look_up)
    lookups.found("b")
    assert not await lookups.is_ours("a")


async def test_a_name_that_is_gone_since_witnesses_too_that_the_resolver_answers() -> None:
    lookups = Lookups(Resolver(a=socket.EAI_AGAIN, b=socket.EAI_NONAME).look_up)
    lookups.found("b")
    assert not await lookups.is_ours("a")


async def test_where_no_other_name_can_be_looked_up_either_it_is_our_fault() -> None:
    lookups = Lookups(Resolver(a=socket.EAI_AGAIN, b=socket.EAI_AGAIN, c=NEVER).look_up)
    lookups.found("b")
    lookups.found("c")
    assert await lookups.is_ours("a")


async def test_a_name_is_no_witness_for_itself() -> None:
    resolver = Resolver(a=socket.EAI_AGAIN)
    lookups = Lookups(resolver.look_up)
    lookups.found("a")
    assert await lookups.is_ours("a")
    assert resolver.asked == {"a": 1}


async def test_one_witness_of_a_few_is_enough() -> None:
    lookups = Lookups(Resolver(a=socket.EAI_AGAIN, c=socket.EAI_AGAIN, d=socket.EAI_AGAIN).look_up)
    for host in ("b", "c", "d"):
        lookups.found(host)
    assert not await lookups.is_ours("a")


async def test_only_the_newest_witnesses_are_asked() -> None:
    resolver = Resolver(a=socket.EAI_AGAIN)
    lookups = Lookups(resolver.look_up)
    for number in range(100):
        lookups.found(f"host{number}")
    await lookups.is_ours("a")
    assert set(resolver.asked) == {"a", *(f"host{99 - number}" for number in range(WITNESSES))}


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_while_the_resolver_is_out_of_order_no_other_name_is_looked_up_for_some_seconds() -> None:
    resolver, time = Resolver(a=socket.EAI_AGAIN, b=socket.EAI_NONAME), Time()
    lookups = Lookups(resolver.look_up, monotonic=time)
    assert await lookups.is_ours("a")
    for _ in range(100):
        assert await lookups.is_ours("b")
    assert resolver.asked == {"a": 1}
    time.now += KEPT
    assert not await lookups.is_ours("b")


async def test_what_came_of_a_name_counts_for_some_seconds() -> None:
    resolver, time = Resolver(a=socket.EAI_NONAME), Time()
    lookups = Lookups(resolver.look_up, monotonic=time)
    for _ in range(100):
        assert not await lookups.is_ours("a")
    assert resolver.asked == {"a": 1}
    time.now += KEPT
    del resolver.codes["a"]
    assert await lookups.is_ours("a")


async def test_a_resolver_that_hangs_is_waited_for_no_longer_than_patience() -> None:
    resolver = Resolver()
    resolver.answers.clear()
    assert await Lookups(resolver.look_up, patience=0.01).is_ours("a")


async def test_few_names_are_looked_up_at_once_and_who_cannot_be_is_charged_nothing() -> None:
    hosts = [f"host{number}" for number in range(10 * AT_ONCE)]
    resolver = Resolver(**dict.fromkeys(hosts, socket.EAI_NONAME))
    resolver.answers.clear()
    lookups = Lookups(resolver.look_up)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(lookups.is_ours(host)) for host in hosts]
        while sum(one.done() for one in asked) < len(hosts) - AT_ONCE:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
        resolver.answers.set()
    assert sum(resolver.asked.values()) == AT_ONCE
    assert [one.result() for one in asked] == [False] * AT_ONCE + [True] * (len(hosts) - AT_ONCE)


async def test_who_is_cancelled_leaves_room_for_the_next() -> None:
    resolver = Resolver(b=socket.EAI_NONAME)
    resolver.answers.clear()
    lookups = Lookups(resolver.look_up)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(lookups.is_ours(f"host{number}")) for number in range(AT_ONCE)]
        while len(resolver.asked) < AT_ONCE:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
        for one in asked:
            one.cancel()
    resolver.answers.set()
    assert not await lookups.is_ours("b")


async def test_the_system_knows_this_machine_and_no_name_that_cannot_be() -> None:
    resolver = SystemResolver()
    assert await resolver.look_up("127.0.0.1") == FOUND
    assert await resolver.look_up("no..name") == socket.EAI_NONAME
    assert await resolver.look_up("a" * 70 + ".example") == socket.EAI_NONAME
