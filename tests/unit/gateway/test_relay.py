"""Calls reach the broker that has what they are about, whichever broker they were made at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from certes.v1 import event_pb2, subscription_pb2
from certes.v1 import event_service_pb2 as events
from certes.v1 import subscription_service_pb2 as subscriptions
from certes_broker.broker.erasure import LET_GO, SILENT
from certes_broker.domain.access import LOCAL_OPERATOR, Bindings, Caller, Role
from certes_broker.domain.errors import CertesError, NotFound, PermissionDenied, Reason, Unavailable
from certes_broker.domain.events import Micros
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.placement import owner_of
from certes_broker.domain.retry import RetryPolicy, Schedule
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import Scope
from certes_broker.domain.uris import parse_pattern
from certes_broker.gateway.callers import acting_as
from certes_broker.gateway.event_service import event_methods
from certes_broker.gateway.guard import guarded
from certes_broker.gateway.methods import Method, ServerStream, Unary
from certes_broker.gateway.open_streams import OpenStreams
from certes_broker.gateway.passed_calls import read_call, write_call
from certes_broker.gateway.relay import Relay
from certes_broker.gateway.subscription_service import subscription_methods
from certes_broker.ports.cluster import MemberId
from certes_broker.schemas.submissions import Sources
from tests.fakes.broker_world import ALL, ORG, PATIENCE, PING, URL, World, one_memory_engine, ping, pings
from tests.fakes.scripted_sender import Answers, Holds
from tests.unit.broker.test_schema_store import BOOKED, source
from tests.unit.broker.worlds import opened

APP = f"subscribers/{ORG}/subscriptions/app"
BOUND = Caller("apiKeys/one", frozenset(Role), Bindings(subscribers=frozenset({"org_2"})))
EVENTS = "/certes.v1.EventService/"
SUBSCRIPTIONS = "/certes.v1.SubscriptionService/"


class Gate:
    """A broker, and how it is called."""

    def __init__(self, world: World) -> None:
        self.world = world
        broker = world.broker
        self.relay = Relay(world.engine.members, world.engine.post, broker.look)
        self.relay.hears(LET_GO, broker.erasure.let_go)
        broker.erasure.tell_others = self.relay.tell_others
        methods = self.relay.relayed((*event_methods(broker), *subscription_methods(broker)))
        streams = OpenStreams(world.clock)
        self._methods: dict[str, Method] = {method.path: guarded(method, streams) for method in methods}

    async def ask(self, path: str, request: Message, caller: Caller = LOCAL_OPERATOR) -> bytes:
        call = self._methods[path].call
        assert isinstance(call, Unary)
        async with asyncio.timeout(PATIENCE):
            with acting_as(caller):
                return await call.call(request.SerializeToString())

    async def open(self, caller: Caller = LOCAL_OPERATOR) -> AsyncGenerator[bytes, None]:
        call = self._methods[EVENTS + "Subscribe"].call
        assert isinstance(call, ServerStream)
        with acting_as(caller):
            async for frame in call.call(events.SubscribeRequest(subscription=APP).SerializeToString()):
                yield frame

    async def create(self) -> None:
        wanted = subscription_pb2.Subscription(selectors=[{"pattern": ALL}], stream={})
        request = subscriptions.CreateSubscriptionRequest(
            parent=f"subscribers/{ORG}", subscription_id="app", subscription=wanted
        )
        await self.ask(SUBSCRIPTIONS + "CreateSubscription", request)


Two = tuple[Gate, Gate]


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[Gate]:
    gate = Gate(world)
    async with gate.relay.serve():
        yield gate


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    engine = one_memory_engine()
    async with opened(engine) as one, opened(engine) as other, serving(one) as first, serving(other) as second:
        yield first, second


async def read(answers: AsyncGenerator[bytes, None]) -> events.SubscribeResponse:
    async with asyncio.timeout(PATIENCE):
        return events.SubscribeResponse.FromString(await anext(answers))


async def test_streams_at_two_brokers_share_the_work_of_one_subscription(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as near, aclosing(other.open()) as far:
        names = [(await read(answers)).opened.stream for answers in (near, far)]
        await one.world.publish(*pings(1))
        batch = (await read(near)).batch
        assert batch.deliveries[0].event.id == "p1"
        await other.world.publish(*[ping(f"k{number}") for number in range(600)])
        counts = [len((await read(answers)).batch.deliveries) for answers in (near, far)]
        assert all(counts)
        assert len(set(names)) == 2


@pytest.mark.parametrize("at", [0, 1])
async def test_an_acknowledgement_finds_its_stream_from_either_broker(two: Two, at: int) -> None:
    await two[0].create()
    async with aclosing(two[0].open()) as answers:
        stream = (await read(answers)).opened.stream
        await two[0].world.publish(*pings(2))
        batch = (await read(answers)).batch
        request = events.AcknowledgeRequest(stream=stream, acked=[{"first": batch.first_ordinal, "last": 2}])
        await two[at].ask(EVENTS + "Acknowledge", request)
        with pytest.raises(CertesError) as refusal:
            await two[at].ask(EVENTS + "Acknowledge", request)
        assert refusal.value.reason is Reason.ORDINAL_NOT_OUTSTANDING


async def test_an_acknowledgement_for_a_broker_that_does_not_serve_is_for_a_stream_that_ended(two: Two) -> None:
    _, other = two
    absent = await one_more_member(other)
    with pytest.raises(CertesError) as refusal:
        await other.ask(
            EVENTS + "Acknowledge",
            events.AcknowledgeRequest(stream=f"{APP}/streams/{absent}-x", acked=[{"first": 1, "last": 1}]),
        )
    assert refusal.value.reason is Reason.STREAM_ENDED


async def one_more_member(gate: Gate) -> str:
    """A member that lives and answers nobody."""
    return gate.world.engine.behind.another().members.own


async def test_a_seek_is_made_where_the_lane_is(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as answers:
        await read(answers)
        await one.world.publish(*pings(2))
        await read(answers)
        wire = await other.ask(
            SUBSCRIPTIONS + "SeekSubscription", subscriptions.SeekSubscriptionRequest(name=APP, target={"end": True})
        )
        assert subscriptions.SeekSubscriptionResponse.FromString(wire).discarded_deliveries == 2
        assert (await read(answers)).closing.reason == events.SubscribeResponse.REASON_SOUGHT


async def test_selectors_are_changed_where_the_lane_is(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as answers:
        await read(answers)
        changed = subscription_pb2.Subscription(name=APP, selectors=[{"pattern": PING}])
        await other.ask(
            SUBSCRIPTIONS + "UpdateSubscription",
            subscriptions.UpdateSubscriptionRequest(subscription=changed, update_mask=FieldMask(paths=["selectors"])),
        )
        assert one.world.broker.subscriptions.get(one.world.name("app")).selectors[0].pattern.text == PING


async def test_what_was_made_at_one_broker_is_used_at_the_other_at_once(two: Two) -> None:
    one, other = two
    # Nothing lets the other one follow in between.
    await one.create()
    async with aclosing(other.open()) as answers:
        assert (await read(answers)).HasField("opened")


async def test_an_event_of_a_type_that_another_broker_registered_just_now_is_taken(two: Two) -> None:
    one, other = two
    await one.world.broker.schemas.register(Sources((source(),)))
    event = event_pb2.Event(id="b1", type=BOOKED, source="//test", everyone=True)
    event.data.type_url = "type.googleapis.com/meetly.v1.Booked"
    wire = await other.ask(EVENTS + "Publish", events.PublishRequest(events=[event]))
    [result] = events.PublishResponse.FromString(wire).results
    assert result.id == "b1"


async def test_an_event_of_a_type_that_no_broker_knows_is_refused(two: Two) -> None:
    event = event_pb2.Event(id="b1", type=BOOKED, source="//test", everyone=True)
    with pytest.raises(CertesError) as refusal:
        await two[0].ask(EVENTS + "Publish", events.PublishRequest(events=[event]))
    assert refusal.value.reason is Reason.UNKNOWN_EVENT_TYPE


async def test_what_no_broker_has_is_not_found(two: Two) -> None:
    with pytest.raises(NotFound):
        await two[0].ask(SUBSCRIPTIONS + "GetSubscription", subscriptions.GetSubscriptionRequest(name=APP))


async def test_whoever_is_bound_is_so_at_the_other_broker(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as answers:
        await read(answers)
        request = subscriptions.SeekSubscriptionRequest(name=APP, target={"end": True})
        with pytest.raises(PermissionDenied):
            await other.ask(SUBSCRIPTIONS + "SeekSubscription", request, BOUND)
        body = write_call(BOUND, request.SerializeToString())
        assert read_call(body) == (BOUND, request.SerializeToString())


@pytest.mark.parametrize(
    "caller",
    [
        LOCAL_OPERATOR,
        Caller("nobody"),
        Caller(
            "apiKeys/all",
            frozenset({Role.EVENTS_READ}),
            Bindings(frozenset({"a", "b"}), frozenset(), frozenset({parse_pattern(ALL)})),
            Micros(5),
        ),
    ],
)
def test_a_caller_is_passed_on_as_it_is(caller: Caller) -> None:
    assert read_call(write_call(caller, b"\0request")) == (caller, b"\0request")


async def test_a_call_is_passed_on_once(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as answers:
        await read(answers)
        body = write_call(
            LOCAL_OPERATOR, subscriptions.SeekSubscriptionRequest(name=APP, target={"end": True}).SerializeToString()
        )
        # As if a third broker thought that the other one has the lane.
        await other.world.quiet()
        with pytest.raises(Unavailable) as refusal:
            await other.relay.answer(SUBSCRIPTIONS + "SeekSubscription", body)
        assert type(refusal.value) is Unavailable
        assert refusal.value.reason is Reason.LEASE_LOST


async def test_a_stream_that_is_passed_on_ends_when_either_broker_drains(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as near, aclosing(other.open()) as far:
        for answers in (near, far):
            await read(answers)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(read(far))
            await other.world.quiet()
            other.relay.drain()
        assert waiting.result().closing.reason == events.SubscribeResponse.REASON_DRAINING
        assert [frame async for frame in far] == []
        await one.world.quiet()
        assert len(one.world.broker.streams) == 1


async def test_what_a_reader_that_goes_away_had_comes_again_at_the_other_broker(two: Two) -> None:
    one, other = two
    await one.create()
    async with aclosing(one.open()) as near:
        await read(near)
        async with aclosing(other.open()) as far:
            await read(far)
            await one.world.publish(*pings(300))
            await read(near)
            taken = (await read(far)).batch
            assert taken.deliveries
        again = (await read(near)).batch
        assert {one.event.id for one in again.deliveries} >= {one.event.id for one in taken.deliveries}
        assert {one.attempt for one in again.deliveries if one.event.id == taken.deliveries[0].event.id} == {2}


async def test_what_others_have_in_memory_of_an_erased_subscriber_they_let_go(two: Two) -> None:
    one, other = two[0].world, two[1].world
    await one.create("audit", subscriber="org_2", scope=Scope.ALL_SUBSCRIBERS)
    assert await other.broker.look()
    reader = await other.open("audit", subscriber="org_2", most=2)
    await one.publish(ping("a", subscriber=ORG), ping("b", subscriber=ORG), ping("c", subscriber=ORG), ping("d"))
    assert [got.id for got in await reader.take(2)] == ["a", "b"]
    report = await one.broker.erasure.erase(SubscriberName(ORG))
    assert report.events == 3
    assert SILENT not in report.remains
    await reader.nack(Nack(1, 2, NackAction.DEAD_LETTER, None, "no"))
    assert [got.id for got in await reader.take(1)] == ["d"]
    assert await one.dead_letters(one.name("audit", "org_2")) == []


async def test_what_another_is_answered_before_it_has_heard_of_an_erasure_is_erased_too(two: Two) -> None:
    worlds = {gate.world.engine.members.own: gate.world for gate in two}
    name = two[0].world.name("hook")
    other = worlds.pop(MemberId(owner_of(name.text, worlds)))
    [one] = worlds.values()
    held = Holds(then=Answers(500))
    other.sender.script(URL, Answers(500), held)
    await one.create_webhook(policy=RetryPolicy(Schedule((0.0, 7200.0)), jitter=0.0))
    await one.publish(ping("a", subscriber=ORG))
    await other.attempted(name, 1)
    other.clock.advance(7200)
    await other.sent(2)
    async with asyncio.TaskGroup() as tasks, other.broker.lanes.alone(name.text):
        # It hears nothing of the subscription until this ends.
        erasing = tasks.create_task(one.broker.erasure.erase(SubscriberName(ORG)))
        await one.eventually(lambda: one.engine.calls["erasure.events"] > 0)
        await one.quiet()
        held.until.set()
        await other.attempted(name, 2)
        await other.quiet()
        assert len(await other.engine.settings.list("failing/")) == 1
    assert erasing.result().attempts == 2
    assert SILENT not in erasing.result().remains
    assert await other.attempts(name) == await other.engine.settings.list("failing/") == []


async def test_an_erasure_says_if_a_broker_that_lives_did_not_answer() -> None:
    engine = one_memory_engine()
    async with opened(engine) as one, serving(one):
        async with opened(engine):
            assert SILENT in (await one.broker.erasure.erase(SubscriberName(ORG))).remains
        assert SILENT not in (await one.broker.erasure.erase(SubscriberName(ORG))).remains
