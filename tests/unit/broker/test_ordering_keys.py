"""Ordering keys: at most one delivery of a key is out, over retries, streams and restarts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certes_broker.broker.lane import PARKED_LIMIT
from certes_broker.domain.limits import LIMITS
from certes_broker.domain.retry import Exponential, RetryPolicy, Schedule
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import StreamDelivery
from tests.fakes.broker_world import Reader, World, ids, ping, pings
from tests.unit.broker.worlds import in_a_world


async def test_the_next_delivery_of_a_key_waits_until_the_one_before_is_settled(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(3, ordering_key="k"), ping("free"))
    assert ids(await reader.take(2)) == ["p1", "free"]
    await reader.nothing_more()
    for ordinal, following in ((1, "p2"), (3, "p3")):
        await reader.ack(ordinal)
        assert ids(await reader.take(1)) == [following]


async def test_keys_do_not_wait_for_each_other(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*[ping(f"{key}{number}", ordering_key=key) for number in (1, 2) for key in "abc"])
    assert ids(await reader.take(3)) == ["a1", "b1", "c1"]
    await reader.ack(2)
    assert ids(await reader.take(1)) == ["b2"]
    await reader.nothing_more()


async def test_a_retry_keeps_its_key(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2, ordering_key="k"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 60.0, ""))
    await world.advance(30)
    await reader.nothing_more()
    await world.advance(30)
    assert ids(await reader.take(1)) == ["p1"]
    await reader.nothing_more()
    await reader.ack(2)
    assert ids(await reader.take(1)) == ["p2"]


async def test_a_key_is_kept_over_several_streams(world: World) -> None:
    await world.create()
    first, second = await world.open(most=1), await world.open(most=5)
    await world.publish(*pings(3, ordering_key="k"))
    await world.quiet()
    holder, other = (first, second) if first.got else (second, first)
    await holder.take(1)
    await other.nothing_more()
    await holder.close()
    assert ids(await other.take(1)) == ["p1"]
    await other.nothing_more()
    await other.ack(1)
    assert ids(await other.take(1)) == ["p2"]


async def test_a_dead_letter_releases_its_key(world: World) -> None:
    await world.create(retry_policy=RetryPolicy(Schedule((0.0,))))
    reader = await world.open()
    await world.publish(*pings(2, ordering_key="k"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, None, ""))
    assert ids(await reader.take(1)) == ["p2"]
    assert [one.event.id for one in await world.dead_letters(world.name())] == ["p1"]


async def test_order_holds_when_the_lane_fell_behind_and_came_back(world: World) -> None:
    await world.create()
    reader = await world.open(most=100)
    numbers = range(1, LIMITS.loaded.deliveries + 1000)
    events = [ping(f"{number % 300}-{number}", ordering_key=f"k{number % 300}") for number in numbers]
    for start in range(0, len(events), 1000):
        await world.publish(*events[start : start + 1000])
    last: dict[str, int] = {}
    for _ in numbers:
        [one] = await reader.take(1)
        key, number = one.id.split("-")
        assert last.get(key, 0) < int(number)
        last[key] = int(number)
        await reader.ack(one.ordinal)
    await reader.nothing_more()


async def test_a_backlog_of_a_few_keys_is_read_as_they_go_on_and_not_written_as_rows(world: World) -> None:
    await world.create()
    events = [
        ping(f"{number % 50}-{number}", ordering_key=f"k{number % 50}") for number in range(2 * PARKED_LIMIT + 3000)
    ]
    for start in range(0, len(events), 1000):
        await world.publish(*events[start : start + 1000])
    reader = await world.open(most=100)
    last: dict[str, int] = {}
    for _ in events:
        [one] = await reader.take(1)
        key, number = one.id.split("-")
        assert last.get(key, -1) < int(number)
        last[key] = int(number)
        await reader.ack(one.ordinal)
        assert (await world.cursor(world.name())).owed == ()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "ack", "ack", "retry", "reject", "close", "restart", "wait", "stop"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


@given(steps=STEPS)
def test_whatever_happens_every_event_comes_in_the_order_of_its_key_and_none_is_lost(
    steps: list[tuple[str, int]],
) -> None:
    """Over two streams, with retries, rejections, endings of streams, crashes and clean stops between."""

    async def play(world: World) -> None:
        patient = RetryPolicy(Exponential(initial=1.0), max_attempts=100)
        await world.create(delivery=StreamDelivery(ack_deadline=3600.0), retry_policy=patient)
        history = History()
        readers = [await world.open(most=3), await world.open(most=3)]
        for action, number in steps:
            reader = readers[number % 2]
            match action:
                case "publish":
                    keys = ["a", "b", ""]
                    events = [history.event(keys[(number + index) % 3]) for index in range(number + 1)]
                    await world.publish(*[ping(one, ordering_key=key) for one, key in events])
                case "ack" | "retry" | "reject":
                    await history.settle(reader, action)
                case "close":
                    await reader.close()
                    readers[number % 2] = await world.open(most=3)
                case "restart" | "stop":
                    await world.quiet()
                    history.look(readers)
                    await (world.restart() if action == "restart" else stopped(world))
                    readers = [await world.open(most=3), await world.open(most=3)]
                case _:
                    await world.advance(number)
            await world.quiet()
            history.look(readers)
        for _ in range(200):
            if history.all_settled():
                break
            for reader in readers:
                await history.settle(reader, "ack")
            await world.advance(5)
            history.look(readers)
        assert history.unsettled() == set()

    in_a_world(play)


async def stopped(world: World) -> None:
    await world.stop()
    await world.start()


class History:
    """What was published, what was settled, and what is out, as somebody sees it who only reads the streams."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.settled: set[str] = set()
        self._seen: dict[int, int] = {}
        self._out: dict[int, dict[int, str]] = {}
        self._readers: list[Reader] = []

    def event(self, key: str) -> tuple[str, str]:
        name = f"e{len(self.keys)}"
        self.keys[name] = key
        return name, key

    def look(self, readers: list[Reader]) -> None:
        """Notes what came, and holds it against the promise: of a key, the earliest unsettled one alone is out."""
        self._readers = readers
        for reader in readers:
            for one in reader.got[self._seen.get(id(reader), 0) :]:
                assert one.id not in self.settled, f"{one.id} came again after it was settled"
                key = self.keys[one.id]
                if key:
                    earliest = next(name for name in self.keys if self.keys[name] == key and name not in self.settled)
                    assert one.id == earliest
            self._seen[id(reader)] = len(reader.got)

    async def settle(self, reader: Reader, action: str) -> None:
        """Settles the oldest delivery that is out on a stream, if there is one."""
        await reader.world.quiet()
        self.look(self._readers if reader in self._readers else [reader])
        out = reader.out
        if not out:
            return
        one = out[0]
        if action == "ack":
            self.settled.add(one.id)
            await reader.ack(one.ordinal)
        elif action == "reject":
            self.settled.add(one.id)
            await reader.nack(Nack(one.ordinal, one.ordinal, NackAction.DEAD_LETTER, None, ""))
        else:
            await reader.nack(Nack(one.ordinal, one.ordinal, NackAction.RETRY, 2.0, ""))

    def unsettled(self) -> set[str]:
        return set(self.keys) - self.settled

    def all_settled(self) -> bool:
        return not self.unsettled()
